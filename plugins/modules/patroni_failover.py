#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_failover
short_description: Promote a member of a Patroni cluster whose leader is dead
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Patroni replaces a dead leader by itself where that is safe. This is for when it does not, because nobody left is
    synchronous or near enough. It overrides what protects data, so it states first what is lost.
  - Nothing is lost when the candidate is synchronous by Patroni's store. Otherwise the loss is measured against
    O(last_leader_lsn), or against what anybody has received and the leader reported last, and is at least that.
    What is not known is called unknown.
  - Where something is lost, the run is refused with a sentence that has the numbers in it. It is accepted by giving
    just this sentence in O(accept_loss).
  - Never acts while a leader lives, while a lease has not run out, or while a member says that it is a primary. Patroni
    is given time to elect by itself first; when it does, that is the result and nothing was changed.
  - Afterwards looks until the store and the new leader's own word agree, and until the others stream from it.
  - In check mode it waits and plans the same, and orders nothing.
extends_documentation_fragment:
  - dedicated.odoo.patroni
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: full
    description: Shows the leader before and after.
  idempotent:
    support: partial
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
    details:
      - Without O(candidate) and O(dead_leader) the second run is refused, because a leader lives then.
options:
  timeout:
    description: Seconds to wait until the lease has run out and Patroni has not elected, and again for the end.
    type: float
    default: 120.0
  urls:
    description: Addresses of further members, asked when O(url) does not answer.
    type: list
    elements: str
    default: []
  members:
    description: Names of all members of the cluster, the dead one among them.
    type: list
    elements: str
    required: true
  candidate:
    description:
      - Name of the member that is to lead. When it leads already, nothing is done.
      - Without it the one that loses least is chosen.
    type: str
  dead_leader:
    description: Name of the dead member. When another one leads, nothing is done; while it leads, it is refused.
    type: str
  accept_loss:
    description: The sentence with which a run without it was refused. Not needed when nothing is lost.
    type: str
    default: ""
  last_leader_lsn:
    description:
      - Last position in the log of the dead leader, for example V(0/5000060), when its disk can still be read
        (C(pg_waldump)).
      - Makes the stated loss an upper limit instead of a lower one.
    type: str
  election_wait:
    description:
      - Seconds for which nobody must have been seen to lead before somebody is promoted. By default one C(loop_wait) of
        Patroni.
      - Not waited for while Patroni is paused, because then it elects nobody.
    type: float
  wait_for:
    description:
      - With V(leader) the module ends as soon as the candidate leads and runs.
      - With V(healthy) it ends when all others whose PostgreSQL ran stream from it.
    type: str
    choices: [leader, healthy]
    default: healthy
  max_age:
    description: Seconds that what was seen may be old.
    type: float
    default: 5.0
  system_identifier:
    description: PostgreSQL's identifier of the cluster. Another one is a reason to refuse.
    type: str
notes:
  - What clients wrote with C(synchronous_commit) turned off was never promised, and is not counted.
seealso:
  - module: dedicated.odoo.patroni_cluster_info
  - module: dedicated.odoo.patroni_switchover
    description: For a leader that lives.
"""

EXAMPLES = r"""
- name: Ask what the promotion of node2 would lose
  dedicated.odoo.patroni_failover:
    url: https://192.0.2.12:8008
    urls: [https://192.0.2.13:8008]
    username: patroni
    password: "{{ postgres_rest_password }}"
    members: [node1, node2, node3]
    dead_leader: node1
    candidate: node2
  check_mode: true

- name: Promote it, knowing what is lost
  dedicated.odoo.patroni_failover:
    url: https://192.0.2.12:8008
    urls: [https://192.0.2.13:8008]
    username: patroni
    password: "{{ postgres_rest_password }}"
    members: [node1, node2, node3]
    dead_leader: node1
    candidate: node2
    last_leader_lsn: 0/5003099
    accept_loss: node2 loses up to 12345 bytes after 0/5000060
"""

RETURN = r"""
msg:
  description: What was done, or why nothing was.
  returned: always
  type: str
leader_before:
  description: Who led, as given or as seen to hold the lease, or null.
  returned: when it was not refused before the order
  type: str
leader_after:
  description: Who leads, by the store and its own word, or null. In check mode who would.
  returned: when it was not refused before the order
  type: str
candidate:
  description: Who was to lead, or null when nothing was to be done and nobody was named.
  returned: when it was not refused before the order
  type: str
as_planned:
  description: Whether the candidate leads, or nothing had to be done.
  returned: when it was not refused before the order
  type: bool
plan:
  description: The steps of the promotion.
  returned: when it was not refused before the order
  type: list
  elements: str
loss:
  description: What the promotion loses. Null when nothing was to be done.
  returned: when it was not refused before the order, or was because of it
  type: dict
  contains:
    kind:
      description: V(nothing), V(up_to), V(at_least) or V(unknown).
      type: str
    bytes:
      description: Bytes of the log, or null when not known.
      type: int
    after:
      description: Position after which something is missing, or null when not known.
      type: str
      sample: 0/5000060
    why:
      description: From what this follows.
      type: str
    text:
      description: What has to be given in O(accept_loss), empty when nothing is lost.
      type: str
      sample: node2 loses up to 12345 bytes after 0/5000060
answer:
  description: What Patroni replied, with its status. Null when the module ended before that, or the reply was lost.
  returned: when it was not refused before the order
  type: str
orders:
  description: How often the order was given.
  returned: when it was not refused before the order
  type: int
seconds_to_leader:
  description: Seconds from the order until the new leader was seen to run, or null.
  returned: when it was not refused before the order
  type: float
seconds_to_healthy:
  description: Seconds from the order until the others were seen to stream from it, or null.
  returned: when it was not refused before the order
  type: float
last_seen:
  description: What was seen last.
  returned: when the time was over
  type: str
code:
  description:
    - Stable name of the reason for a refusal or an error.
    - 'Refusals before anything was done: V(no_answer), V(other_cluster), V(stale), V(leader_alive), V(in_progress),
      V(lease_alive), V(lease_renewed), V(primary_alive), V(electing), V(bad_target), V(bad_lsn), V(not_a_member),
      V(candidate_silent), V(nofailover), V(watchdog), V(candidate_stale), V(candidate_not_running), V(timeline),
      V(no_good_candidate), V(loss_not_accepted).'
    - 'Errors after the order: V(order_refused), V(not_heard) and V(given_up) left everything as it was.
      V(wrong_leader), V(no_leader) and V(not_healthy) tell how it was when the module ended.'
  returned: failure
  type: str
  sample: loss_not_accepted
refusal:
  description: The refusal in parts. What was refused, why with the numbers, and what to do.
  returned: when it was refused
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.waiting import (
    SystemClock,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.arguments import (
    patroni_arguments,
    patroni_rules,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.failover_plan import (
    Wish,
    parse_lsn,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.switchover_service import (
    FailoverService,
    Pace,
    lookout_of,
)

ARGUMENTS: dict[str, t.Any] = {
    **patroni_arguments(),
    "timeout": {"type": "float", "default": 120.0},
    "urls": {"type": "list", "elements": "str", "default": []},
    "members": {"type": "list", "elements": "str", "required": True},
    "candidate": {"type": "str"},
    "dead_leader": {"type": "str"},
    "accept_loss": {"type": "str", "default": ""},
    "last_leader_lsn": {"type": "str"},
    "election_wait": {"type": "float"},
    "wait_for": {"type": "str", "choices": ["leader", "healthy"], "default": "healthy"},
    "max_age": {"type": "float", "default": 5.0},
    "system_identifier": {"type": "str"},
}


def wish_of(params: t.Mapping[str, t.Any]) -> Wish:
    """What is wanted. An empty name is what a template makes of a value that is not there."""
    text = params["last_leader_lsn"] or None
    position = None if text is None else parse_lsn(text)
    if text is not None and position is None:
        raise DedicatedError(f"last_leader_lsn: {text} is no position. Give one like 0/5000060.", code="bad_lsn")
    return Wish(
        members=tuple(params["members"]),
        candidate=params["candidate"] or None,
        dead_leader=params["dead_leader"] or None,
        accept_loss=params["accept_loss"].strip(),
        last_leader_lsn=position,
        election_wait=params["election_wait"],
        max_age=params["max_age"],
        system_identifier=params["system_identifier"] or None,
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, **patroni_rules())
    params = module.params
    clock = SystemClock()
    pace = Pace(params["timeout"], params["poll_interval"])
    try:
        service = FailoverService(lookout_of(params, clock, history=True), clock, pace, wish_of(params))
        result = service.promote(module.check_mode, params["wait_for"]).as_result()
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    del result["scheduled_at"]
    if module._diff:
        result["diff"] = {"before": {"leader": result["leader_before"]}, "after": {"leader": result["leader_after"]}}
    module.exit_json(**result)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: operation_lock
short_description: One run at a time works on a host
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Holds a lock on each host for one run of C(ansible-playbook), so that a second operator is refused and told who is
    at work, since when and why. It lies in C(/var/lib/dedicated/lock/operation.json), needs no cluster to be up, and
    survives a reboot of the host.
  - The holder is the process of C(ansible-playbook) on the controller. All its tasks and plays are one holder, with no
    variable handed on, and every further task with O(state=held) renews the lock. It must run on Linux.
  - A lock is taken over without asking when it has expired, or when its holder's process on this same controller is
    known to be gone, so that a run that was cut off is simply run again. A process on another controller, or in another
    container, cannot be looked at. It counts as alive until its lock expires.
  - Times are written and judged by the clock of the host that carries the lock.
  - "Refusals: C(operation_running), C(break_lock_mismatch), C(other_cluster), C(bad_lock) (what lies there cannot be
    read, and is never replaced), C(bad_argument). Further failures: C(lock_busy) and C(not_taken) (somebody else
    changes it at this moment), C(io), C(no_identity), C(run_is_over)."
notes:
  - Needs C(become), except with O(state=look).
  - A run that was killed may leave its last task working on a host for as long as that task takes.
  - Take it on one host first and then on all, as in the example. Of two runs that begin at once, one is then refused
    before it holds anything. A run that is refused on some hosts keeps the others until it ends, or releases them.
attributes:
  check_mode:
    support: full
    description: Refuses as a run would, and writes nothing.
  diff_mode:
    support: none
    description: The lock belongs to the run, not to the state of the host.
  idempotent:
    support: full
    description: Never reports a change, so that a run that changes nothing reports none. RV(acquired) and RV(released)
      tell what was done.
options:
  state:
    description:
      - V(held) takes the lock or renews it.
      - V(released) removes it if it is this run's own, and otherwise leaves it and says so.
      - V(look) refuses where V(held) would, and writes nothing.
    type: str
    choices: [held, released, look]
    default: held
  cluster:
    description: Name of the cluster. A host that is locked for another one is refused, also when that lock has expired.
    type: str
    required: true
  operation:
    description: What is done, for example V(site) or V(switchover). Required with O(state=held).
    type: str
    default: ""
  reason:
    description: Why it is done, shown to whoever is refused.
    type: str
    default: ""
  operator:
    description: Who does it. Empty means the controller's environment variable E(DEDICATED_OPERATOR), or without it the
      user that runs C(ansible-playbook), before C(sudo).
    type: str
    default: ""
  ttl:
    description: Seconds after which the lock expires unless it is renewed, 60 to 604800. Renewing never shortens it.
    type: int
    default: 7200
  break_lock:
    description:
      - RV(lock.id) of a holder that the operator knows to be over. Its lock is taken over. Several are separated by
        commas, for hosts with different holders.
      - Where none of them is found and another run holds the host, it is refused (V(break_lock_mismatch)). On a host
        that is free or this run's own it has no effect.
    type: list
    elements: str
    default: []
  request:
    description: Set by the action itself.
    type: dict
"""

EXAMPLES = r"""
# In a play with any_errors_fatal: true and become: true
- name: Nobody else is at work on any host
  dedicated.odoo.operation_lock:
    state: look
    cluster: "{{ dedicated_cluster }}"
    break_lock: "{{ operation_break_lock | default([]) }}"

- name: Work on the cluster, first come first served
  dedicated.odoo.operation_lock: &lock
    cluster: "{{ dedicated_cluster }}"
    operation: patch
    reason: "{{ operation_reason | default('') }}"
    break_lock: "{{ operation_break_lock | default([]) }}"
  when: inventory_hostname == ansible_play_hosts | sort | first

- name: Work on the cluster, all hosts
  dedicated.odoo.operation_lock: *lock

- name: Done
  dedicated.odoo.operation_lock:
    state: released
    cluster: "{{ dedicated_cluster }}"
"""

RETURN = r"""
msg:
  description: What was found and done; of a refusal who, since when, why, and the next command.
  returned: always
  type: str
held:
  description: Whether the host is this run's when the task ends.
  returned: success
  type: bool
acquired:
  description: Whether this task took the host, or would have in check mode. False when it was renewed.
  returned: success
  type: bool
released:
  description: Whether this task released the host, or would have in check mode.
  returned: success
  type: bool
taken_over_from:
  description: The lock that was taken over, or would be, as RV(lock). Empty when there was none.
  returned: success
  type: dict
  contains:
    why:
      description: One of V(expired), V(dead) (its process on this controller is gone), V(broken) (O(break_lock)).
      type: str
lock:
  description: The lock that lies on the host now. Empty when there is none, or none that can be read.
  returned: success, and refusals by the host
  type: dict
  contains:
    id:
      description: Name of the run that holds it, as O(break_lock) takes it. The same on all hosts.
      type: str
      sample: 5f0c2a9be1d47733
    operation:
      description: What is done.
      type: str
    operator:
      description: Who does it.
      type: str
    controller:
      description: Host name of the controller.
      type: str
    cluster:
      description: Name of the cluster.
      type: str
    reason:
      description: Why it is done.
      type: str
    since:
      description: When it was taken, in seconds since the epoch by the host's clock.
      type: int
    expires:
      description: When it expires, likewise.
      type: int
    age:
      description: Seconds since it was taken.
      type: int
    expires_in:
      description: Seconds until it expires, 0 when it has.
      type: int
    run:
      description: The process of C(ansible-playbook) that holds it, by which controllers know it.
      type: dict
code:
  description: Stable code of the failure.
  returned: failure
  type: str
  sample: operation_running
refusal:
  description: The refusal in parts, C(code), C(what), C(why) and C(do).
  returned: refusal
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._operation import io, plan, service

ARGUMENTS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["held", "released", "look"], "default": "held"},
    "cluster": {"type": "str", "required": True},
    "operation": {"type": "str", "default": ""},
    "reason": {"type": "str", "default": ""},
    "operator": {"type": "str", "default": ""},
    "ttl": {"type": "int", "default": plan.TTL},
    "break_lock": {"type": "list", "elements": "str", "default": []},
    "request": {"type": "dict"},
}


def visit(place: io.Place, params: t.Mapping[str, t.Any], check_mode: bool) -> service.Outcome:
    """The host's half: ``request`` brings the run, and the runs that the controller knows to be dead."""
    request = params["request"]
    try:
        run = plan.read_run(request.get("run"))
        dead = [str(one) for one in request.get("dead") or ()]
    except ValueError as exc:
        raise Refused(plan.bad_argument(f"the request is not the action's: {exc}")) from exc
    if params["state"] == "released":
        return service.release(place, run, check_mode)
    texts = {name: params[name] for name in ("cluster", "operation", "operator", "reason")}
    me = plan.Wish(run, ttl=params["ttl"], break_lock=tuple(filter(None, params["break_lock"])), **texts)
    looks = params["state"] == "look"
    refusal = plan.why_not(me, looks)
    if refusal is not None:
        raise Refused(refusal)
    if looks or check_mode:
        return service.look(place, me, dead, acquires=not looks)
    return service.hold(place, me, dead)


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if not module.params["request"]:
        module.fail_json(msg="This module is the host's half of the action dedicated.odoo.operation_lock; use that.")
    try:
        done = visit(io.Place(), module.params, module.check_mode)
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=None if isinstance(exc, Refused) else exc, **exc.details)
    module.exit_json(**done.as_result())


if __name__ == "__main__":
    main()

#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_restore
short_description: Restore a moment into a place beside the database
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Fetches a backup into a directory of its own, replays WAL up to the target, promotes, and starts the copy without
    any network. What runs on the host otherwise is not touched.
  - Before anything is fetched it is told which backup and which WAL will be used, and the target is refused when it
    cannot be reached, with what can.
  - The steps are fetch, recover and open. Where a run was interrupted, the next one with the same options goes on. A
    container that fetches or recovers lives on when Ansible dies.
  - The copy never archives WAL, so that it cannot write into the archive of the original.
attributes:
  check_mode:
    support: full
    description: Tells the plan, and refuses what would be refused.
  diff_mode:
    support: none
    description: A database is no text.
  idempotent:
    support: full
    description: A place that has reached O(until) stays as it is.
options:
  name:
    description:
      - Name of the place. Lower-case letters, digits and hyphens, at most 40.
    type: str
    required: true
  state:
    description:
      - V(absent) stops what runs in the place and removes it with its data.
    type: str
    choices: [present, absent]
    default: present
  target_type:
    description:
      - What O(target) is. V(latest) is all that was archived.
    type: str
    choices: [time, lsn, name, xid, latest]
    default: latest
  target:
    description:
      - A time with a zone in the form of ISO 8601, a position in the WAL, the name of a restore point, or a
        transaction.
    type: str
    default: ''
  exclusive:
    description:
      - Stop just before the target instead of just after it.
    type: bool
    default: false
  backup:
    description:
      - Label of the backup to begin with. Without it the newest good one that ended before the target.
    type: str
    default: ''
  timeline:
    description:
      - The timeline to follow. Without it the newest that had begun by the target, on which the site lived then.
    type: int
  repository:
    description:
      - Number of the repository. V(0) is the first in the configuration from which the target can be reached.
    type: int
    default: 0
  repository_time:
    description:
      - Read the repository as it was at this time with a zone. For a repository that was deleted or spoilt since; its
        object store has to keep versions.
    type: str
    default: ''
  until:
    description:
      - How far to go. V(fetched) leaves the files as the backup has them, V(recovered) a promoted database that was
        shut down, V(ready) one that runs.
    type: str
    choices: [fetched, recovered, ready]
    default: ready
  stanza:
    description:
      - The stanza.
    type: str
    required: true
  image:
    description:
      - Image of PostgreSQL with pgBackRest, which has to be on the host.
    type: str
    required: true
  config_dir:
    description:
      - Directory on the host with pgBackRest's configuration.
    type: path
    default: /opt/dedicated/pgbackrest/conf
  mounts:
    description:
      - Repositories that are paths. Where the configuration has each, and its path on the host, which is mounted there
        without the right to write.
    type: dict
    default: {}
  root:
    description:
      - Directory on the host that holds the places.
    type: path
    default: /var/lib/dedicated/restore
  processes:
    description:
      - How many processes fetch.
    type: int
    default: 2
  timeout:
    description:
      - Seconds that each step may take.
    type: int
    default: 21600
  ask_timeout:
    description:
      - Seconds within which the repository has to answer a question.
    type: int
    default: 120
seealso:
  - module: dedicated.odoo.pgbackrest_info
  - module: dedicated.odoo.odoo_reconcile
"""

EXAMPLES = r"""
- name: What would be restored?
  dedicated.odoo.pgbackrest_restore:
    name: one-wrong-posting
    target_type: time
    target: "2026-11-30 17:59:59+01:00"
    stanza: acme
    image: "{{ postgres_image }}"
  check_mode: true
  register: restore_plan

- name: The books as they were before
  dedicated.odoo.pgbackrest_restore:
    name: one-wrong-posting
    target_type: time
    target: "2026-11-30 17:59:59+01:00"
    stanza: acme
    image: "{{ postgres_image }}"

- name: Away with it
  dedicated.odoo.pgbackrest_restore:
    name: one-wrong-posting
    state: absent
    stanza: acme
    image: "{{ postgres_image }}"
"""

RETURN = r"""
stage:
  description: V(fetched), V(recovered) or V(ready); empty when only the plan was told, or the place is removed.
  returned: success
  type: str
plan:
  description: What is restored, from what.
  returned: O(state=present)
  type: dict
  contains:
    repository:
      description: Number of the repository.
      type: int
    backup:
      description: Label of the backup.
      type: str
    backup_type:
      description: V(full), V(diff) or V(incr).
      type: str
    backup_ended:
      description: When it ended, in seconds since the epoch.
      type: int
    timeline:
      description: The timeline that is followed.
      type: int
    first_wal:
      description: The first WAL segment that is needed.
      type: str
    last_wal:
      description: The last segment that is there without a gap before it.
      type: str
    earliest:
      description: The earliest moment that can be restored, in seconds since the epoch.
      type: int
    latest:
      description: The latest, by when the store took the last segment.
      type: int
    need_bytes:
      description: The room that is needed.
      type: int
seconds:
  description: What each step that is over took.
  returned: O(state=present)
  type: dict
  sample: {fetch: 41.2, recover: 8.1, open: 1.4}
recovered:
  description: Where recovery ended. Empty before it did.
  returned: O(state=present)
  type: dict
  contains:
    timeline:
      description: The new timeline.
      type: int
    lsn:
      description: Position in the WAL after the promotion.
      type: str
    system_id:
      description: Identifier of the cluster.
      type: str
    last_transaction_at:
      description: When the last transaction was committed that is in the copy, in seconds since the epoch.
      type: float
    stopped:
      description: PostgreSQL's own words about where it stopped; empty when it replayed all there was.
      type: str
socket_dir:
  description: Directory of the copy's Unix socket on the host.
  returned: O(state=present)
  type: str
code:
  description: Stable name of the reason for an error.
  returned: failure
  type: str
  sample: target_outside
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
    Refuse,
    Refused,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import (
    SubprocessRunner,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.waiting import (
    SystemClock,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest.restore_io import (
    Directory,
    Docker,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest.restore_plan import (
    asked,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest.restore_service import (
    RestoreService,
    Wish,
)

ARGUMENTS: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "target_type": {"type": "str", "choices": ["time", "lsn", "name", "xid", "latest"], "default": "latest"},
    "target": {"type": "str", "default": ""},
    "exclusive": {"type": "bool", "default": False},
    "backup": {"type": "str", "default": ""},
    "timeline": {"type": "int"},
    "repository": {"type": "int", "default": 0},
    "repository_time": {"type": "str", "default": ""},
    "until": {"type": "str", "choices": ["fetched", "recovered", "ready"], "default": "ready"},
    "stanza": {"type": "str", "required": True},
    "image": {"type": "str", "required": True},
    "config_dir": {"type": "path", "default": "/opt/dedicated/pgbackrest/conf"},
    "mounts": {"type": "dict", "default": {}},
    "root": {"type": "path", "default": "/var/lib/dedicated/restore"},
    "processes": {"type": "int", "default": 2},
    "timeout": {"type": "int", "default": 21600},
    "ask_timeout": {"type": "int", "default": 120},
}


def restore(params: t.Mapping[str, t.Any], check: bool) -> dict[str, t.Any]:
    request = asked(
        params["name"],
        params["target_type"],
        params["target"],
        label=params["backup"],
        timeline=params["timeline"],
        repository=params["repository"],
        repository_time=params["repository_time"],
        exclusive=params["exclusive"],
    )
    if isinstance(request, Refuse):
        raise Refused(request)
    docker = Docker(
        SubprocessRunner(),
        params["image"],
        params["config_dir"],
        params["stanza"],
        params["name"],
        params["mounts"],
    )
    directory = Directory(params["root"], params["name"])
    service = RestoreService(docker, directory, SystemClock(), params["processes"])
    if params["state"] == "absent":
        return {"changed": service.remove(params["name"], check), "stage": ""}
    result = service.run(Wish(request, params["until"], check, params["timeout"], params["ask_timeout"]))
    return {**result, "socket_dir": str(directory.path / "run")}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = restore(module.params, module.check_mode)
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

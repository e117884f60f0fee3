#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_info
short_description: Look at backups, WAL and what can be recovered
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns what the repositories hold of one stanza, which WAL is missing, and from when until when a moment can be
    recovered.
  - A missing stanza is an answer. Repositories of which none can be asked are an error. One that cannot be asked beside
    another one that can has an RV(repositories[].error).
  - On a standby nobody knows the newest recoverable moment. Ask the leader.
extends_documentation_fragment:
  - dedicated.odoo.pgbackrest
attributes:
  check_mode:
    support: full
    description: This module does not modify state.
  diff_mode:
    support: N/A
    description: This module does not modify state.
  idempotent:
    support: full
    description: This module does not modify state.
options:
  wal:
    description:
      - Whether to list the archives and look for gaps.
      - Without it RV(recoverable) rests on the server's word alone.
    type: bool
    default: true
  server:
    description:
      - Whether to ask the member's own PostgreSQL too.
      - Without it the timelines' ends are not known, nor is the newest recoverable moment.
    type: bool
    default: true
seealso:
  - module: dedicated.odoo.pgbackrest_verify
"""

EXAMPLES = r"""
- name: What can be recovered?
  dedicated.odoo.pgbackrest_info:
    stanza: lab
  register: backups_seen

- name: Not more than a minute would be lost
  ansible.builtin.assert:
    that:
      - backups_seen.recoverable.latest is not none
      - backups_seen.recoverable.at_risk_seconds <= 60
      - backups_seen.wal | selectattr('missing_count', 'gt', 0) | length == 0
"""

RETURN = r"""
status:
  description: The stanza's state, as pgBackRest calls it. V(0) is good, V(1) and V(3) mean that there is no stanza,
    V(2) that there is no backup, V(4) that the repositories differ.
  returned: success
  type: dict
  contains:
    code:
      description: Its number.
      type: int
    message:
      description: In words.
      type: str
running:
  description: Whether a backup is running on this host, that is, holds the lock.
  returned: success
  type: bool
repositories:
  description: The repositories.
  returned: success
  type: list
  elements: dict
  contains:
    key:
      description: Its number.
      type: int
    cipher:
      description: How it is encrypted.
      type: str
    code:
      description: As in RV(status.code). V(99) means that it could not be asked.
      type: int
    message:
      description: In words.
      type: str
    error:
      description: Stable name of the reason why it could not be asked, as in RV(code), or null.
      type: str
    backups:
      description: Labels of its backups, the oldest first.
      type: list
      elements: str
    recoverable:
      description: As RV(recoverable), from this repository alone. Its C(why) is V(repository_not_asked) where it could
        not be asked.
      type: dict
backups:
  description: The backups, the oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    label:
      description: Name of the backup.
      type: str
    type:
      description: V(full), V(diff) or V(incr).
      type: str
    prior:
      description: Label of the backup on which it builds, or null.
      type: str
    repository:
      description: Number of its repository.
      type: int
    begun:
      description: When it began, in epoch seconds.
      type: int
    ended:
      description: When it ended, in epoch seconds.
      type: int
    lsn_start:
      description: Position in the WAL at which it began.
      type: str
    lsn_stop:
      description: Position in the WAL from which on it is consistent.
      type: str
    wal_start:
      description: First segment of WAL that it needs.
      type: str
    wal_stop:
      description: Last segment of WAL that it needs to be consistent.
      type: str
    timeline:
      description: Timeline on which it was taken.
      type: int
    database_bytes:
      description: Size of the database cluster.
      type: int
    delta_bytes:
      description: How much of it was copied.
      type: int
    repository_bytes:
      description: What it takes in the repository; with block incremental backups, what it added.
      type: int
    damaged:
      description: Whether pages in it had a wrong checksum.
      type: bool
    annotation:
      description: What was noted with it.
      type: dict
    system_id:
      description: System identifier of the database cluster.
      type: str
    version:
      description: Major version of PostgreSQL.
      type: str
wal:
  description: The segments in the archives, by timeline. Empty without O(wal).
  returned: success
  type: list
  elements: dict
  contains:
    repository:
      description: Number of the repository.
      type: int
    archive_id:
      description: Name of the archive.
      type: str
    timeline:
      description: The timeline.
      type: int
    first:
      description: First segment that is there, or null.
      type: str
    last:
      description: Last segment that is there, or null.
      type: str
    segments:
      description: How many are there.
      type: int
    missing:
      description: The first twenty that should be there, counted from the oldest backup on.
      type: list
      elements: str
    missing_count:
      description: How many should be there and are not.
      type: int
archiver:
  description: What the server says of archiving, or null without O(server).
  returned: success
  type: dict
  contains:
    in_recovery:
      description: Whether it is a standby.
      type: bool
    archived_count:
      description: Files archived by this server.
      type: int
    failed_count:
      description: Attempts that failed.
      type: int
    last_archived:
      description: Last file that was archived, or null.
      type: str
    last_archived_at:
      description: When, in epoch seconds.
      type: float
    last_failed:
      description: Last file that failed, or null.
      type: str
    last_failed_at:
      description: When, in epoch seconds.
      type: float
    waiting:
      description: Files that wait to be archived.
      type: int
    oldest_waiting_at:
      description: Since when the first of them waits, in epoch seconds.
      type: float
recoverable:
  description: Which moments can be recovered from the best repository, the one that reaches furthest.
  returned: success
  type: dict
  contains:
    earliest:
      description: End of the oldest good backup, in epoch seconds, or null.
      type: int
    latest:
      description: The newest recoverable moment, in epoch seconds, or null.
      type: float
    lag_seconds:
      description: How long ago that was by the server's clock, or null. While nothing is written nothing is archived,
        and it grows.
      type: float
    at_risk_seconds:
      description: How long ago the oldest commit can have been that is not in the repository, or null. It is
        RV(recoverable.lag_seconds), but no more than C(archive_timeout) while no segment waits to be archived, since
        PostgreSQL closes a segment in which something was committed that long after. To be compared with an RPO.
      type: float
    why:
      description:
        - On what RV(recoverable.latest) rests.
        - V(closed_at), the moment when the newest archived segment was closed. V(archived_at), when it arrived, for its
          closing is not known. V(gap), as before, but the next segment is missing though later ones are there.
        - Where it is null V(standby), V(no_backup), V(server_not_asked) or V(nothing_archived).
      type: str
code:
  description: Stable name of the reason for an error. V(store_unreachable), V(bad_certificate), V(bad_credentials),
    V(no_bucket), V(wrong_key), V(timed_out), V(no_container), V(no_server), V(not_understood) or V(pgbackrest_failed).
  returned: failure
  type: str
  sample: store_unreachable
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import (
    SubprocessRunner,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest import service
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest.arguments import (
    pgbackrest_arguments,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest.io import (
    PgBackRest,
)

ARGUMENTS: dict[str, t.Any] = {
    **pgbackrest_arguments(),
    "wal": {"type": "bool", "default": True},
    "server": {"type": "bool", "default": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        pgbackrest = PgBackRest(SubprocessRunner(), params["container"], params["stanza"], params["timeout"])
        result = service.show(pgbackrest, params["wal"], params["server"])
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()

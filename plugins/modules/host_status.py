#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: host_status
short_description: What a host tells of itself
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - "Reads in one look, all parts at the same time: containers of our stacks, units of systemd, certificates, free disk
    space, addresses, whether Odoo, HAProxy and Traefik answer on this host, to whom HAProxy sends, what PgBouncer has
    paused, what PostgreSQL says of archiving, what pgBackRest's repository holds, and the failure detector."
  - A part that cannot be read has RV(ignore:error) in its place; the module does not fail for it.
  - P(dedicated.odoo.status_report#filter) judges what all hosts told.
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
  layers:
    description: The layers of this host. Without V(postgres), for example, neither database nor backups are asked.
    type: list
    elements: str
    choices: [etcd, postgres, redis, odoo, edge]
    default: []
  stanza:
    description: pgBackRest's stanza. Empty means that the repository is not asked.
    type: str
    default: ""
  backup_container:
    description: Container in which pgBackRest runs.
    type: str
    default: postgres
  repositories:
    description: Numbers of the repositories. With two or more each is asked by itself, and RV(backups.repositories) is
      there.
    type: list
    elements: int
    default: []
  disks:
    description: Paths whose file systems are looked at.
    type: list
    elements: path
    default: [/opt, /var/lib]
  root:
    description: Directory that holds the stacks.
    type: path
    default: /opt/dedicated
  pki:
    description: Directory that holds the certificates.
    type: path
    default: /etc/dedicated/pki
  endpoints:
    description: Ports of this host, and object stores, whose certificates are looked at as they are served.
    type: list
    elements: dict
    default: []
    suboptions:
      certificate:
        description: Name of the certificate that it should serve, a directory below O(pki).
        type: str
        required: true
      protocol:
        description: What is spoken there. All but V(postgresql) begin with TLS, as V(tls) does.
        type: str
        choices: [https, postgresql, redis, etcd, patroni, s3, tls]
        required: true
      host:
        description: Address or name to connect to.
        type: str
        required: true
      port:
        description: Port to connect to.
        type: int
        required: true
      server_name:
        description: Name that is asked for. Empty means O(endpoints[].host).
        type: str
        default: ""
      client_cert:
        description: File with a certificate to present when the server wants one, with its chain.
        type: path
        default: ""
      client_key:
        description: Key of O(endpoints[].client_cert).
        type: path
        default: ""
      ca:
        description: File with the authorities that it is verified against. Empty means that it is not verified.
        type: path
        default: ""
  handshake_timeout:
    description: Seconds that a port of O(endpoints) may take. All are asked at the same time.
    type: float
    default: 5.0
  timeout:
    description: Seconds for each command. All parts are asked at the same time.
    type: float
    default: 20.0
notes:
  - Needs root, for the sockets of Docker and HAProxy.
seealso:
  - plugin: dedicated.odoo.status_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: What does this host tell of itself?
  dedicated.odoo.host_status:
    layers: [postgres]
    stanza: "{{ dedicated_cluster }}"
  become: true
  register: told

- name: Every container of ours runs
  ansible.builtin.assert:
    that: told.engine.containers | rejectattr('state', 'equalto', 'running') | list | length == 0
"""

RETURN = r"""
now:
  description: The host's clock, after all answers (s since the epoch).
  returned: success
  type: int
cluster:
  description: The cluster that the host belongs to, from C(/etc/dedicated/cluster); empty when it belongs to none.
  returned: success
  type: str
addresses:
  description: The host's IPv4 addresses.
  returned: success
  type: list
  elements: str
engine:
  description: The Docker engine and the containers of our stacks, without one-time steps.
  returned: success
  type: dict
  contains:
    state:
      description: What systemd calls the engine, V(active) for example.
      type: str
    containers:
      description: Each with C(name), C(stack), C(service), C(state), C(health) and C(status).
      type: list
      elements: dict
units:
  description: Units of ours, and all that have failed; each with C(name), C(load), C(active) and C(sub).
  returned: success
  type: list
  elements: dict
certificates:
  description: Those that lie on the disk, each with C(name), C(path), C(authority), C(serial), C(not_before) and
    C(not_after) (s since the epoch).
  returned: success
  type: list
  elements: dict
served:
  description: One for each of O(endpoints), in their order, with C(certificate), C(name) (the port), C(protocol),
    C(code) and C(why), and what is served with C(serial), C(issuer), C(not_before), C(not_after), C(verified) and
    C(unverified_because).
  returned: success
  type: list
  elements: dict
disks:
  description: Each with C(path), C(free_mb) and C(total_mb).
  returned: success
  type: list
  elements: dict
probes:
  description: By name (C(odoo), C(websocket), C(haproxy), C(traefik)) whether it answers 200 on this host, with C(ok),
    C(status) and C(reason).
  returned: success
  type: dict
router:
  description: HAProxy's servers, each with C(proxy), C(name), C(status) and C(check).
  returned: when V(odoo) is among O(layers)
  type: list
  elements: dict
pools:
  description: PgBouncer's C(databases) with C(name), C(paused) and C(disabled), and its C(pools) with C(database),
    C(user), C(waiting) and C(max_wait_seconds).
  returned: when V(odoo) is among O(layers)
  type: dict
database:
  description: What PostgreSQL on this host says of itself.
  returned: when V(postgres) is among O(layers)
  type: dict
  contains:
    in_recovery:
      description: Whether it is a standby.
      type: bool
    archive_failing:
      description: Whether the last attempt to archive WAL failed.
      type: bool
    archived_seconds_ago:
      description: Age of the last success (s), or null.
      type: int
    failed_seconds_ago:
      description: Age of the last failure (s), or null.
      type: int
    waiting_wal:
      description: Segments of WAL that wait to be archived.
      type: int
    connections:
      description: Connections of clients.
      type: int
    max_connections:
      description: What the server accepts.
      type: int
    lost_slots:
      description: Replication slots whose WAL is gone, or about to go.
      type: list
      elements: str
backups:
  description: What the repository holds.
  returned: when V(postgres) is among O(layers) and O(stanza) is given
  type: dict
  contains:
    code:
      description: pgBackRest's status, 0 when all is well.
      type: int
    message:
      description: The status in words.
      type: str
    running:
      description: Whether a backup is being taken.
      type: bool
    backups:
      description: Each with C(label), C(type), C(start), C(stop) (s since the epoch), C(damaged) and C(bytes), and with
        two or more O(repositories) with C(repository).
      type: list
      elements: dict
    repositories:
      description: Each with C(number), C(code), C(message), C(reached) and C(newest_wal).
      returned: with two or more O(repositories)
      type: list
      elements: dict
rehearsal:
  description: What the last rehearsal of a restore that passed has measured, as C(rehearse_restore) notes it; empty
    when there was none.
  returned: when V(postgres) is among O(layers)
  type: dict
rehearsal_begun:
  description: When the last rehearsal of a restore began, whatever became of it; empty when there was none.
  returned: when V(postgres) is among O(layers)
  type: dict
verification:
  description: What the last verification of the backups that passed has found, as C(verify_backup) notes it; empty
    when there was none.
  returned: when V(postgres) is among O(layers)
  type: dict
verification_begun:
  description: When the last verification of the backups began, whatever became of it; empty when there was none.
  returned: when V(postgres) is among O(layers)
  type: dict
closed:
  description: Which operation has closed the site, with C(operation), C(place) and C(reason); empty when it is open.
  returned: always
  type: dict
maintenance:
  description: Why users see the maintenance page, with C(reason) and C(since); empty when they do not.
  returned: always
  type: dict
detector:
  description: The failure detector, with C(up), C(suspects), C(removals), C(etcd_errors) and C(decision); where there
    is none, with C(absent).
  returned: when V(postgres) is among O(layers)
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.arguments import target_arguments, targets
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import SubprocessRunner
from ansible_collections.dedicated.odoo.plugins.module_utils._preflight.io import Engine
from ansible_collections.dedicated.odoo.plugins.module_utils._status.io import Host, Wish

ARGUMENTS: dict[str, t.Any] = {
    "layers": {
        "type": "list",
        "elements": "str",
        "choices": ["etcd", "postgres", "redis", "odoo", "edge"],
        "default": [],
    },
    "stanza": {"type": "str", "default": ""},
    "backup_container": {"type": "str", "default": "postgres"},
    "repositories": {"type": "list", "elements": "int", "default": []},
    "disks": {"type": "list", "elements": "path", "default": ["/opt", "/var/lib"]},
    "root": {"type": "path", "default": "/opt/dedicated"},
    "pki": {"type": "path", "default": "/etc/dedicated/pki"},
    "endpoints": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"certificate": {"type": "str", "required": True}, **target_arguments()},
    },
    "handshake_timeout": {"type": "float", "default": 5.0},
    "timeout": {"type": "float", "default": 20.0},
}


def wish(params: t.Mapping[str, t.Any]) -> Wish:
    """The options as what is asked."""
    return Wish(
        layers=tuple(params["layers"]),
        stanza=params["stanza"],
        backup_container=params["backup_container"],
        repositories=tuple(params["repositories"]),
        disks=tuple(params["disks"]),
        root=params["root"],
        pki=params["pki"],
        timeout=params["timeout"],
        endpoints=tuple(
            (one["certificate"], target)
            for one in params["endpoints"]
            for target in targets([{name: value for name, value in one.items() if name != "certificate"}])
        ),
        handshake_timeout=params["handshake_timeout"],
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    module.exit_json(changed=False, **Host(wish(module.params), SubprocessRunner(), Engine).look())


if __name__ == "__main__":
    main()

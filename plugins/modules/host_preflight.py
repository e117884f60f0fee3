#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge a host before anything is changed on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_preflight
short_description: Judge a host before anything is changed on it
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Reads the operating system, processors, memory, disks, listening ports, the Docker engine, the pinned CA, the
    cluster that the host belongs to and whose data it carries, and asks the registry for the images; then reports every
    reason to refuse the host in one failure. Changes nothing.
  - "Every reason has a stable code: C(other-cluster), C(other-ca), C(address-not-here), C(other-system-identifier),
    C(os-unsupported), C(host-too-small), C(disk-full), C(docker-down), C(port-taken), C(image-missing),
    C(registry-unauthorized), C(registry-unreachable)."
  - The identifier of O(postgres_data) is compared with O(system_identifier), or without it with what the file
    C(/etc/dedicated/postgres-system-identifier) of the host records.
  - How far the host's clock is from the controller's is measured by an action of the same name, and judged together
    with what the other hosts said by M(dedicated.odoo.hosts_compare).
  - A port that a container of a stack below O(root) listens on is not taken. An image that the host holds already is
    not asked for.
options:
  cluster:
    description: Name of the cluster that the host is to belong to, compared with C(/etc/dedicated/cluster).
    type: str
    default: ""
  ca_fingerprint:
    description: SHA-256 fingerprint of the internal CA, compared with C(/etc/dedicated/pki/ca.fingerprint). Empty means
      not compared; V(none) means that the controller has no CA yet, so that a host with one is refused.
    type: str
    default: ""
  ca_others:
    description: Further fingerprints that are right, while one CA takes the place of another.
    type: list
    elements: str
    default: []
  address:
    description: Private address that the host must have on an interface. Empty means not asked.
    type: str
    default: ""
  system_identifier:
    description: System identifier that the PostgreSQL cluster must have.
    type: str
    default: ""
  postgres_data:
    description: PostgreSQL's data directory on the host. Empty means that it is none of this host's business.
    type: path
    default: ""
  etcd_data:
    description: etcd's data directory on the host. Empty means that it is none of this host's business.
    type: path
    default: ""
  patroni_members:
    description:
      - Name and address of each member of the PostgreSQL cluster; who answers there as Patroni is returned.
      - The certificate is not verified, and a member that does not answer within 2 seconds is no reason to refuse.
    type: dict
    default: {}
  root:
    description: Directory that holds the stacks.
    type: path
    default: /opt/dedicated
  docker_source:
    description: Where the Docker engine comes from. V(docker) supports more operating systems.
    type: str
    choices: [debian, docker]
    default: debian
  supported_os:
    description: Supported operating systems, ID and version of C(/etc/os-release).
    type: list
    elements: str
    default: [debian-13]
  min_cpus:
    description: Processors that the host must have.
    type: int
    default: 2
  min_memory_mb:
    description: Memory in MiB that the host must have.
    type: int
    default: 3500
  min_free_mb:
    description: Free disk space in MiB by path.
    type: dict
    default: {}
  ports:
    description: TCP ports that the stacks of this host want.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The port.
        type: int
        required: true
      address:
        description: The address. Without it any listener on the port is in the way.
        type: str
        default: ""
      stack:
        description: The stack that wants it.
        type: str
        default: ""
  images:
    description: Images that the host will pull, C(registry/name@sha256:digest).
    type: list
    elements: str
    default: []
  registry_ca:
    description: Certificate of the CA that signs the registry's certificate, PEM. Empty means those that the system
      trusts.
    type: str
    default: ""
  registry_username:
    description: User of the registry.
    type: str
    default: ""
  registry_password:
    description: Password of the registry.
    type: str
    default: ""
  timeout:
    description: Seconds to wait for the registry.
    type: float
    default: 5
attributes:
  check_mode:
    description: Can run in check mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
    details: Changes nothing.
"""

EXAMPLES = r"""
- name: Judge the host
  dedicated.odoo.host_preflight:
    cluster: acme
    min_cpus: 4
    min_memory_mb: 15000
    min_free_mb:
      /opt: 2048
      /var/lib: 20000
    ports:
      - port: 443
        stack: edge
"""

RETURN = r"""
findings:
  description: Reasons to refuse the host.
  returned: always
  type: list
  elements: dict
  contains:
    code:
      description: Stable code of the reason.
      type: str
    message:
      description: What is wrong, why, and what to do.
      type: str
host:
  description: What was read.
  returned: always
  type: dict
clock:
  description: The host's clock beside the controller's; empty when it could not be read.
  returned: always
  type: dict
  contains:
    offset:
      description: Seconds that the host's clock is ahead.
      type: float
    uncertainty:
      description: Seconds by which that may be wrong, half of the time that the answer took.
      type: float
"""

import dataclasses
import platform
import ssl
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._preflight import identity, io, plan

ARGUMENTS: dict[str, t.Any] = {
    "cluster": {"type": "str", "default": ""},
    "ca_fingerprint": {"type": "str", "default": ""},
    "ca_others": {"type": "list", "elements": "str", "default": []},
    "address": {"type": "str", "default": ""},
    "system_identifier": {"type": "str", "default": ""},
    "postgres_data": {"type": "path", "default": ""},
    "etcd_data": {"type": "path", "default": ""},
    "patroni_members": {"type": "dict", "default": {}},
    "root": {"type": "path", "default": "/opt/dedicated"},
    "docker_source": {"type": "str", "choices": ["debian", "docker"], "default": "debian"},
    "supported_os": {"type": "list", "elements": "str", "default": ["debian-13"]},
    "min_cpus": {"type": "int", "default": 2},
    "min_memory_mb": {"type": "int", "default": 3500},
    "min_free_mb": {"type": "dict", "default": {}},
    "ports": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "port": {"type": "int", "required": True},
            "address": {"type": "str", "default": ""},
            "stack": {"type": "str", "default": ""},
        },
    },
    "images": {"type": "list", "elements": "str", "default": []},
    "registry_ca": {"type": "str", "default": ""},
    "registry_username": {"type": "str", "default": ""},
    "registry_password": {"type": "str", "default": "", "no_log": True},
    "timeout": {"type": "float", "default": 5},
}


def limits(params: t.Mapping[str, t.Any]) -> plan.Limits:
    """What the caller asks, as the planner takes it."""
    pinned = params["system_identifier"].strip()
    if pinned and not identity.parse_recorded(pinned):
        raise ValueError(f"'{pinned}' is no system identifier")
    return plan.Limits(
        cluster=params["cluster"],
        ca_fingerprint=params["ca_fingerprint"],
        ca_others=tuple(params["ca_others"]),
        root=params["root"],
        docker_source=params["docker_source"],
        supported_os=tuple(params["supported_os"]),
        min_cpus=params["min_cpus"],
        min_memory_mb=params["min_memory_mb"],
        min_free_mb={str(path): int(least) for path, least in params["min_free_mb"].items()},
        ports=tuple(plan.Port(**port) for port in params["ports"]),
        address=params["address"],
        system_identifier=pinned,
        postgres_data=params["postgres_data"],
        etcd_data=params["etcd_data"],
        patroni_members={str(name): str(address) for name, address in params["patroni_members"].items()},
    )


def as_host(facts: plan.Facts) -> dict[str, t.Any]:
    """What was read, as plain data."""
    return {
        "os": facts.os,
        "os_id": facts.os_id,
        "os_version": facts.os_version,
        "arch": facts.arch,
        "cpus": facts.cpus,
        "memory_mb": facts.memory_mb,
        "free_mb": {disk.path: disk.free_mb for disk in facts.disks},
        "docker": facts.docker.state(),
        "cluster": facts.cluster,
        "ca_fingerprint": facts.ca_fingerprint,
        "stacks": list(facts.stacks),
        "listeners": [dataclasses.asdict(listener) for listener in facts.listeners],
        "asked_images": [probe.image for probe in facts.probes],
        "addresses": list(facts.addresses),
        "postgres_data": facts.postgres_data,
        "system_identifier": facts.system_identifier,
        "recorded_identifier": facts.recorded_identifier,
        "etcd_cluster_id": facts.etcd_cluster_id,
        "members": [dataclasses.asdict(member) for member in facts.members],
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def run(argv: list[str]) -> tuple[int, str]:
        code, out, __ = module.run_command(argv, environ_update={"LC_ALL": "C.UTF-8"})
        return code, out

    try:
        wanted = limits(params)
        registries = io.Registries(
            params["registry_ca"], params["timeout"], params["registry_username"], params["registry_password"]
        )
    except (ssl.SSLError, ValueError) as exc:
        module.fail_json(msg=f"bad-input: registry_ca, min_free_mb or system_identifier: {exc}")
    facts = io.facts(wanted, params["images"], registries, run)
    findings = plan.judge(facts, wanted)
    result: dict[str, t.Any] = {
        "changed": False,
        "findings": [finding.as_result() for finding in findings],
        "host": as_host(facts),
    }
    if findings:
        module.fail_json(msg=plan.message(platform.node(), findings), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

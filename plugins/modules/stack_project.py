#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_project
short_description: Lay one Compose project and all its files down in one step
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Brings the directory of one stack to the declared state with its C(compose.yaml), configuration, secrets and
    units, in one call.
  - Everything is planned, checked by native checkers and staged before the first file lands. Files land by atomic
    rename, C(compose.yaml) last. An interrupted run leaves each file either old or new, and the next run converges.
  - Each service carries the label C(dedicated.odoo.config-hash), a keyed hash over the files that concern it, so that
    C(docker compose up) recreates what differs and nothing else, even after an aborted run. The key is made once per
    host and never leaves it.
  - Files that a service can read again while it runs belong to a reload group. A group whose content may differ from
    what the service has read is returned in RV(pending_reloads) by every run until it is marked with
    O(mark_reloaded).
  - The module starts and stops nothing.
notes:
  - A file lands by rename. A container that has the single file bind-mounted goes on seeing the old one, so files
    that are reloaded must be mounted through their directory.
  - Contents given in O(secrets) never appear in the result, in a diff or in a log. The task needs no C(no_log).
attributes:
  check_mode:
    support: full
    description: Can run in check mode and return changed status prediction without modifying the target.
  diff_mode:
    support: full
    description: Returns details on what has changed, with secret contents withheld.
  idempotent:
    support: full
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates
      no change.
options:
  name:
    description: Name of the stack, which is also the name of the Compose project.
    type: str
    required: true
  directory:
    description: Directory of the stack. The default is C(/opt/dedicated/) followed by O(name).
    type: path
  definition:
    description:
      - The Compose project as a mapping. Without it no C(compose.yaml) is written, for a stack of files and units only.
      - The name of the project and the hash labels are added.
    type: dict
  secrets:
    description: Secret contents by name, for O(files[].content_from). None of them is ever shown.
    type: dict
    default: {}
  files:
    description: Files of the stack.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description:
          - Path relative to O(directory), or absolute below C(/etc/dedicated), C(/run), C(/var/lib/dedicated), or a
            directory of the host's own configuration that takes drop-ins (Docker, systemd, SSH, sysctl, apt, chrony).
        type: str
        required: true
      content:
        description: Content of a file that may be shown in a diff.
        type: str
      content_from:
        description: Name of the entry in O(secrets) that holds the content.
        type: str
      secret:
        description: Whether to withhold the difference of O(files[].content). Real secrets belong into O(secrets).
        type: bool
        default: false
      mode:
        description: Mode as four octal digits, quoted.
        type: str
        default: "0440"
      owner:
        description: Name or number of the owner.
        type: str
        default: root
      group:
        description: Name or number of the group.
        type: str
        default: root
      on_change:
        description:
          - V(recreate) makes C(docker compose up) recreate the services concerned when the content differs.
          - V(none) means that nobody needs to be told.
          - Any other lower-case word is the name of a reload group.
        type: str
        default: recreate
      services:
        description: Services of the definition that are recreated. The default is all of them.
        type: list
        elements: str
        default: []
      once:
        description: Whether the file is only a seed, laid down when nothing is there and never compared again.
        type: bool
        default: false
  directories:
    description: Directories outside or inside of O(directory) that the stack needs. Missing parents are made with
      mode 0755.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path, by the same rules as O(files[].path).
        type: str
        required: true
      mode:
        description: Mode as four octal digits, quoted.
        type: str
        default: "0750"
      owner:
        description: Name or number of the owner.
        type: str
        default: root
      group:
        description: Name or number of the group.
        type: str
        default: root
  watch:
    description: Files that somebody else lays down and that services of this stack read, for example certificates.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path of the file.
        type: str
        required: true
      on_change:
        description: As O(files[].on_change).
        type: str
        default: recreate
      services:
        description: As O(files[].services).
        type: list
        elements: str
        default: []
  validate:
    description:
      - Native checkers that are run on a staged copy of a changed file before anything lands.
      - C(compose.yaml) is always checked by C(docker compose config) when the host has Docker.
    type: list
    elements: dict
    default: []
    suboptions:
      file:
        description: Path of one of O(files), written as it is there.
        type: str
        required: true
      argv:
        description: The command. V(%s) stands for the staged copy, V(%d) for the directory that holds staged copies
          of all files.
        type: list
        elements: str
        required: true
  prune:
    description: Whether to remove files that an earlier call laid down and that are no longer declared.
    type: bool
    default: true
  mark_reloaded:
    description: Reload groups whose services have been reloaded since the last landing. Nothing else is done then.
    type: list
    elements: str
  rewatch:
    description:
      - Make hashes and labels again from what the files contain now, as the next landing would, and lay nothing else
        down. For whoever has replaced files of O(watch) and reloads or restarts their services himself.
      - With O(mark_reloaded), of these groups the services count as having read it.
    type: bool
    default: false
  rewatch_as:
    description:
      - "With O(rewatch): for each path of a watched file, another one whose content counts instead of its own. So
        labels can be made for a file before it lands."
    type: dict
    default: {}
  state:
    description: Whether the stack's files shall be there. V(absent) leaves files that the module did not lay down,
      and all data.
    type: str
    choices: [present, absent]
    default: present
  purge_data:
    description: With O(state=absent), whether to remove O(directories) below C(/var/lib/dedicated) and
      C(/run/dedicated) as well.
    type: bool
    default: false
  confirm:
    description: Must equal O(name) for O(purge_data) to be obeyed.
    type: str
"""

EXAMPLES = r"""
- name: Lay the stack down
  dedicated.odoo.stack_project:
    name: redis
    definition:
      services:
        redis:
          image: registry.example.com/redis@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
          network_mode: host
          volumes:
            - ./conf:/etc/redis:ro
    secrets:
      users_acl: "{{ lookup('ansible.builtin.template', 'users.acl.j2') }}"
    files:
      - path: conf/redis.conf
        content: "{{ lookup('ansible.builtin.template', 'redis.conf.j2') }}"
        mode: "0444"
      - path: conf/users.acl
        content_from: users_acl
        owner: "10030"
        mode: "0400"
        on_change: acl
    directories:
      - path: /var/lib/dedicated/redis
        owner: "10030"
        group: "10030"
        mode: "0700"
    watch:
      - path: /etc/dedicated/pki/redis/cert.pem
  register: result

- name: Tell the module that the reload has happened
  dedicated.odoo.stack_project:
    name: redis
    mark_reloaded: "{{ result.pending_reloads }}"

- name: Take the stack and its data away
  dedicated.odoo.stack_project:
    name: redis
    state: absent
    purge_data: true
    confirm: redis
"""

RETURN = r"""
msg:
  description: What was done, in a few words.
  returned: always
  type: str
plan:
  description: The steps that were taken, or would be in check mode.
  returned: success
  type: list
  elements: dict
  sample: [{"action": "land", "path": "/opt/dedicated/redis/compose.yaml"}]
changed_files:
  description: Paths of files whose content, owner or mode was changed.
  returned: success
  type: list
  elements: str
removed_files:
  description: Paths that were removed.
  returned: success
  type: list
  elements: str
pending_reloads:
  description: Reload groups whose services may not have read the present content.
  returned: success
  type: list
  elements: str
first_deploy:
  description: Whether no landing had ever been completed before this call.
  returned: success
  type: bool
compose_file:
  description: Path of the Compose file, if there is one.
  returned: success
  type: str
left_files:
  description: With O(state=absent), files in O(directory) that the module did not lay down and therefore left.
  returned: success
  type: list
  elements: str
code:
  description: Stable name of the reason for a refusal.
  returned: failure
  type: str
  sample: bad_path
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
from ansible_collections.dedicated.odoo.plugins.module_utils._stack import model
from ansible_collections.dedicated.odoo.plugins.module_utils._stack.io import RealHost
from ansible_collections.dedicated.odoo.plugins.module_utils._stack.service import (
    Outcome,
    StackService,
)

OWNERSHIP: dict[str, t.Any] = {
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}
TRIGGER: dict[str, t.Any] = {
    "on_change": {"type": "str", "default": "recreate"},
    "services": {"type": "list", "elements": "str", "default": []},
}
ARGUMENTS: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "directory": {"type": "path"},
    "definition": {"type": "dict"},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "str", "required": True},
            "content": {"type": "str"},
            "content_from": {"type": "str"},
            "secret": {"type": "bool", "default": False, "no_log": False},
            "mode": {"type": "str", "default": "0440"},
            "once": {"type": "bool", "default": False},
            **OWNERSHIP,
            **TRIGGER,
        },
        "mutually_exclusive": [("content", "content_from")],
        "required_one_of": [("content", "content_from")],
    },
    "directories": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "str", "required": True},
            "mode": {"type": "str", "default": "0750"},
            **OWNERSHIP,
        },
    },
    "watch": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"path": {"type": "str", "required": True}, **TRIGGER},
    },
    "validate": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "file": {"type": "str", "required": True},
            "argv": {"type": "list", "elements": "str", "required": True},
        },
    },
    "prune": {"type": "bool", "default": True},
    "mark_reloaded": {"type": "list", "elements": "str"},
    "rewatch": {"type": "bool", "default": False},
    "rewatch_as": {"type": "dict", "default": {}},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "purge_data": {"type": "bool", "default": False},
    "confirm": {"type": "str"},
}


def run(params: dict[str, t.Any], service: StackService, with_diff: bool) -> Outcome:
    """Choose among the four things that a call can mean."""
    if params["rewatch"]:
        instead = {str(path): str(other) for path, other in params["rewatch_as"].items()}
        return service.rewatch(params["name"], params["directory"], instead, params["mark_reloaded"] or [], with_diff)
    if params["mark_reloaded"] is not None:
        return service.mark(params["name"], params["directory"], params["mark_reloaded"])
    request = model.parse(params)
    if isinstance(request, Refuse):
        raise Refused(request)
    if params["state"] == "absent":
        return service.remove(request, params["purge_data"], params["confirm"])
    return service.lay_down(request, with_diff)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    service = StackService(RealHost(module.params["name"]), SubprocessRunner(), module.check_mode)
    try:
        outcome = run(module.params, service, module._diff)
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    for warning in outcome.warnings:
        module.warn(warning)
    result = outcome.as_result()
    if module._diff:
        result["diff"] = list(outcome.diff)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

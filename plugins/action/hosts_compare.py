# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges hosts together on the controller. Documentation: plugins/modules/hosts_compare.py."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.dedicated.odoo.plugins.module_utils._hosts import plan
from ansible_collections.dedicated.odoo.plugins.module_utils._preflight.identity import parse_recorded

ARGUMENTS: dict[str, t.Any] = {
    "answers": {"type": "dict", "required": True},
    "tier": {"type": "str", "choices": ["single", "ha"], "required": True},
    "postgres_group": {"type": "str", "default": "postgres"},
    "etcd_group": {"type": "str", "default": "etcd"},
    "postgres_scope": {"type": "str", "default": ""},
    "system_identifier": {"type": "str", "default": ""},
    "max_clock_difference": {"type": "float", "default": 1.0},
}


class ActionModule(ActionBase):
    """Entry point. Never opens a connection."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Take the answers, judge them, report everything at once."""
        super().run(tmp, task_vars)
        __, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        pinned = arguments["system_identifier"].strip()
        if pinned and not parse_recorded(pinned):
            return {"failed": True, "msg": f"bad-input: '{pinned}' is no system identifier"}
        groups = (task_vars or {}).get("groups", {})
        answers = (plan.parse_answer(str(name), result) for name, result in arguments["answers"].items())
        snapshot = plan.Snapshot(
            answers=tuple(answer for answer in answers if answer is not None),
            tier=arguments["tier"],
            postgres=tuple(map(str, groups.get(arguments["postgres_group"], ()))),
            etcd=tuple(map(str, groups.get(arguments["etcd_group"], ()))),
            scope=arguments["postgres_scope"],
            system_identifier=pinned,
            max_clock_difference=arguments["max_clock_difference"],
        )
        findings = plan.judge(snapshot)
        result: dict[str, t.Any] = {
            "changed": False,
            "findings": [finding.as_result() for finding in findings],
            "warnings": [f"{finding.code}: {finding.message}" for finding in plan.warn(snapshot)],
        }
        if findings:
            return {**result, "failed": True, "msg": plan.message(findings)}
        return {**result, "msg": "The hosts fit together."}

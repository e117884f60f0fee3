# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges the controller's copy here, all others where they lie. Documentation: plugins/modules/verify_evidence.py.

Signatures are checked here for all of them: hosts have no library for it.
"""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.dedicated.odoo.plugins.action.evidence_record import own_path
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence import plan, service, signing
from ansible_collections.dedicated.odoo.plugins.modules.verify_evidence import ARGUMENTS, RULES, anchors_of

MODULE = "dedicated.odoo.verify_evidence"


class ActionModule(ActionBase):
    """Entry point."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        __, given = self.validate_argument_spec(argument_spec=ARGUMENTS, **RULES)
        if given["signatures"]:
            return {**result, "failed": True, "msg": "'signatures' is set by this action itself. Leave it out."}
        try:
            check = signing.checker(given["public_keys"]) if given["public_keys"] else None
            found = self._here(given, task_vars, check) if given["controller"] else self._there(task_vars, check)
            if check and "copies" in found:
                found = service.authenticate(found, check)
        except DedicatedError as exc:
            return {**result, "failed": True, "msg": exc.msg, **exc.details}
        return {**result, **found}

    def _here(
        self, given: dict[str, t.Any], task_vars: dict[str, t.Any] | None, check: plan.Check | None
    ) -> dict[str, t.Any]:
        path = own_path(self._templar.template((task_vars or {}).get("dedicated_cluster"))) or ""
        anchors, require = anchors_of(given["anchors"]), given["require_signature"]
        found = service.verify(path, anchors, True, given["where"], require, marks=check is not None)
        return {"changed": False, **found}

    def _there(self, task_vars: dict[str, t.Any] | None, check: plan.Check | None) -> dict[str, t.Any]:
        arguments = {**self._task.args, "signatures": check is not None}
        found: dict[str, t.Any] = self._execute_module(
            module_name=MODULE, module_args=arguments, task_vars=task_vars or {}
        )
        # All that was given, keys and anchors, once more.
        found.pop("invocation", None)
        return found

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges the controller's copy here, all others where they lie. Documentation: plugins/modules/verify_evidence.py."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.dedicated.odoo.plugins.action.evidence_record import own_path
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence import service
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
        if not given["controller"]:
            return {**result, **self._execute_module(module_name=MODULE, task_vars=task_vars)}
        path = own_path(self._templar.template((task_vars or {}).get("dedicated_cluster")))
        try:
            found = service.verify(path or "", anchors_of(given["anchors"]), True, given["where"])
        except DedicatedError as exc:
            return {**result, "failed": True, "msg": exc.msg, **exc.details}
        return {**result, "changed": False, **found}

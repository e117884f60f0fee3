# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says which run this is, and whether a holder on this controller is alive. Documentation:
plugins/modules/operation_lock.py.
"""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._operation import plan
from ansible_collections.dedicated.odoo.plugins.module_utils._operation.io import Machine
from ansible_collections.dedicated.odoo.plugins.modules.operation_lock import ARGUMENTS

MODULE = "dedicated.odoo.operation_lock"
# What the death of the holder would change.
MAY_END = ("operation_running", "break_lock_mismatch")


class ActionModule(ActionBase):
    """Entry point."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    machine: t.ClassVar[Machine] = Machine()

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The host's answer; a second visit only if the holder turns out to be dead."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        try:
            result.update(self._ask(task_vars or {}))
        except DedicatedError as exc:
            result.update(failed=True, msg=exc.msg, **exc.details)
        return {"changed": False, **result}

    def _ask(self, variables: dict[str, t.Any]) -> dict[str, t.Any]:
        __, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        if arguments.get("request") is not None:
            raise Refused(plan.bad_argument("'request' is set by the action itself"))
        arguments["operator"] = arguments["operator"] or self.machine.operator()
        run = self.machine.run()
        answer = self._visit(arguments, run, [], variables)
        if answer.get("code") in MAY_END:
            dead = self._dead(answer.get("lock"), run)
            if dead:
                # Dead stays dead, so the host need not compare anything but the name.
                answer = self._visit(arguments, run, [dead], variables)
        return answer

    def _dead(self, lock: t.Any, me: plan.Run) -> str:
        """Name of the holder if it is known to be dead."""
        try:
            holder = plan.read_run((lock or {}).get("run"))
        except ValueError:
            return ""
        known = plan.kin(holder, me)
        gone = known == plan.BEFORE or (known == plan.HERE and self.machine.alive(holder.pid, holder.start) is False)
        return holder.id if gone else ""

    def _visit(
        self, arguments: dict[str, t.Any], run: plan.Run, dead: list[str], variables: dict[str, t.Any]
    ) -> dict[str, t.Any]:
        request = {"run": plan.as_data(run), "dead": dead}
        answer: dict[str, t.Any] = self._execute_module(
            module_name=MODULE, module_args={**arguments, "request": request}, task_vars=variables
        )
        return answer

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends a host what it lacks of the record. Documentation: plugins/modules/evidence_record.py."""

from __future__ import annotations

import typing as t

from ansible import constants as C
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import callback_loader

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError, Refuse, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence import plan, service
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence.io import FileStore

NAME = "dedicated.odoo.evidence"
MODULE = "dedicated.odoo.evidence_record"
# An argument of a module is sent, and held in memory, as a whole.
AT_ONCE = 500


class HostFailed(Exception):
    """The module failed on the host; its own result says why."""

    def __init__(self, result: dict[str, t.Any]) -> None:
        super().__init__(result.get("msg", ""))
        self.result = result


def directory() -> str:
    """Where the callback writes, by its own configuration."""
    plugin = callback_loader.get(NAME, class_only=True)  # its options are known once it is loaded
    return str(C.config.get_config_value("directory", plugin_type="callback", plugin_name=plugin._load_name))


def own_path(cluster: object) -> str | None:
    """The controller's record of a cluster; None for what is no cluster of ours."""
    if cluster is None or plan.why_not_cluster({str(cluster)}):
        return None
    return service.controller_path(directory(), str(cluster))


class ActionModule(ActionBase):
    """Entry point."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        self._vars = task_vars or {}
        for name in ("chain", "cluster", "records"):
            if self._task.args.get(name) is not None:
                return {**result, "failed": True, "msg": f"'{name}' is set by this action itself. Leave it out."}
        given = self._task.args.get("facts")
        try:
            return {**result, "changed": False, **(self._keep() if given is None else self._facts(given))}
        except DedicatedError as exc:
            return {**result, "failed": True, "msg": exc.msg, **exc.details}
        except HostFailed as exc:
            return {**result, **exc.result, "failed": True}

    @staticmethod
    def _facts(given: object) -> dict[str, t.Any]:
        """What the callback will take; that it would not is said here, where it can fail the task."""
        facts = plan.facts(given)
        if isinstance(facts, Refuse):
            raise Refused(facts)
        return {"evidence": facts}

    def _keep(self) -> dict[str, t.Any]:
        own = self._own()
        nothing: dict[str, t.Any] = {"chain": "", "added": 0, "head": {}}
        if own is None:
            return {**nothing, "msg": "This host belongs to no cluster of ours."}
        broken = plan.why_not_whole(own, "the controller's record")
        if broken:
            raise Refused(broken)
        if not own.chain:
            how = f"add {NAME} to callbacks_enabled in ansible.cfg"
            return {**nothing, "msg": "No record.", "warnings": [f"Nothing is recorded on this controller: {how}."]}
        answer = self._visit(own.chain, ())
        if answer.get("stranger"):
            return answer
        lines = plan.missing(own, self._head(answer), str(self._vars.get("inventory_hostname", "this host")))
        if isinstance(lines, Refuse):
            raise Refused(lines)
        if self._task.check_mode:
            return {**answer, "added": len(lines)}
        for at in range(0, len(lines), AT_ONCE):
            answer = self._visit(own.chain, lines[at : at + AT_ONCE])
        return {**answer, "added": len(lines)}

    def _own(self) -> plan.Verdict | None:
        """The controller's copy; without a chain when there is none yet. None for a host of no cluster."""
        path = own_path(self._templar.template(self._vars.get("dedicated_cluster")))
        return plan.inspect(FileStore(path).read()) if path else None

    @staticmethod
    def _head(answer: dict[str, t.Any]) -> plan.Head | None:
        head = answer.get("head") or {}
        return plan.Head(str(head["chain"]), int(head["seq"]), str(head["hash"])) if head else None

    def _visit(self, chain: str, lines: t.Sequence[str]) -> dict[str, t.Any]:
        cluster = str(self._templar.template(self._vars.get("dedicated_cluster")))
        arguments: dict[str, t.Any] = {"chain": chain, "cluster": cluster, "records": list(lines)}
        for name in ("directory", "cluster_file"):
            if self._task.args.get(name) is not None:
                arguments[name] = self._task.args[name]
        answer: dict[str, t.Any] = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=self._vars)
        answer.pop("invocation", None)
        if answer.get("failed") or answer.get("unreachable"):
            raise HostFailed(answer)
        return answer

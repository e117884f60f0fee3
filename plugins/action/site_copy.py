# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seals the controller's half of a site for its backups. Documentation: plugins/modules/site_copy.py."""

from __future__ import annotations

import base64
import os
import typing as t

from ansible.parsing.vault import VaultLib, VaultSecret, VaultSecretsContext, match_encrypt_secret
from ansible.plugins.action import ActionBase

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._site_copy import bundle, plan
from ansible_collections.dedicated.odoo.plugins.modules.site_copy import ARGUMENTS

MODULE = "dedicated.odoo.site_copy"


def secret_of(passphrase: str) -> VaultSecret | None:
    """What seals: the passphrase, or what this run would encrypt with."""
    if passphrase:
        return VaultSecret(passphrase.encode())
    context = VaultSecretsContext.current(optional=True)
    if context is None or not context.secrets:
        return None
    found: VaultSecret = match_encrypt_secret(context.secrets)[1]
    return found


class ActionModule(ActionBase):
    """Entry point."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        self._vars = task_vars or {}
        try:
            return {**result, **self._keep()}
        except Refused as exc:
            return {**result, "failed": True, "msg": exc.msg, **exc.details}

    def _keep(self) -> dict[str, t.Any]:
        for name in ("digest", "sealed"):
            if self._task.args.get(name) is not None:
                raise Refused(Refuse("bad-input", f"'{name}' is given", "this action sets it itself", "Leave it out."))
        _validation, args = self.validate_argument_spec(ARGUMENTS)
        entries: list[bundle.Entry] = []
        counts: dict[str, int] = {}
        for tree in args["trees"]:
            found = bundle.gather(tree["name"], os.path.realpath(tree["path"]), tree["folders"])
            counts[tree["name"]] = len(found)
            entries += found
        secret = secret_of(str(args["passphrase"] or ""))
        # Before the first run the authority is still to be made.
        needed = {} if args["survey"] else counts
        refusal = plan.why_not(needed, sum(len(one.content) for one in entries), secret is not None)
        if refusal is not None or secret is None:
            raise Refused(t.cast("Refuse", refusal))
        if args["survey"]:
            return {"changed": False, "files": counts}
        packed = bundle.pack(entries)
        digest = bundle.digest(packed, secret.bytes)
        given = {name: args[name] for name in ("data", "trees", "owner", "about")}
        answer = self._visit({**given, "digest": digest})
        if answer.get("changed") and not answer.get("failed") and not self._task.check_mode:
            sealed = VaultLib().encrypt(packed, secret=secret)
            answer = self._visit({**given, "digest": digest, "sealed": base64.b64encode(sealed).decode()})
        return {**answer, "files": counts}

    def _visit(self, arguments: dict[str, t.Any]) -> dict[str, t.Any]:
        answer: dict[str, t.Any] = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=self._vars)
        answer.pop("invocation", None)
        return answer

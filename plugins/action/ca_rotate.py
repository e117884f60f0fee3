# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a host, or takes the controller's next step. Documentation: plugins/modules/ca_rotate.py."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._pki import crypto, succession
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.authority import Store
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.plan import (
    bad_input,
    normalise_domains,
    why_not_names,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.succession import Follower, Step, Succession
from ansible_collections.dedicated.odoo.plugins.modules.ca_rotate import ARGUMENTS

MODULE = "dedicated.odoo.ca_rotate"
UNKNOWN = "unknown"
WORDS = {
    succession.TRUST: "do not trust the successor yet",
    succession.ISSUE: "show certificates of the former authority",
    succession.DROP: "trust more than the one that signs",
}


def follower(name: str, answer: t.Any) -> Follower:
    """A host by its own answer; without one it trusts nobody, which no step is taken past."""
    answer = answer if isinstance(answer, dict) else {}
    return Follower(name, frozenset(answer.get("trusts") or ()), frozenset(answer.get("signers") or ()))


class ActionModule(ActionBase):
    """Entry point."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validation, self._args = self.validate_argument_spec(ARGUMENTS)
        self._store = Store(str(self._args["ca_dir"]))
        try:
            self._settled(self._store.why_not_directory())
            if self._args["hosts"] is None:
                return {**result, **self._look(task_vars or {})}
            return {**result, **self._step()}
        except Refused as exc:
            return {**result, "failed": True, "msg": exc.msg, **exc.details}

    @staticmethod
    def _settled(value: t.Any) -> t.Any:
        if isinstance(value, Refuse):
            raise Refused(value)
        return value

    def _look(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        if not self._args["names"]:
            raise Refused(bad_input("No name of a certificate is given", "Give names, or hosts."))
        given = {name: self._args[name] for name in ("ca_dir", "directory", "names")}
        answer: dict[str, t.Any] = self._execute_module(module_name=MODULE, module_args=given, task_vars=task_vars)
        answer.pop("invocation", None)
        if answer.get("failed") or answer.get("unreachable"):
            return answer
        known = crypto.pem_certificates(self._store.certificate() + self._store.trust())
        found = answer.pop("found")
        trusts = [set(crypto.pem_fingerprints(one["ca"])) for one in found]
        signers = {self._signer(one["cert"], known) for one in found if one["cert"]}
        leaves = [crypto.read_leaf(one["cert"], "") for one in found if one["cert"]]
        sans = {san for leaf in leaves if leaf is not None for san in leaf.sans}
        return {
            **answer,
            "trusts": sorted(set.intersection(*trusts)),
            "signers": sorted(signers),
            "sans": sorted(sans),
        }

    @staticmethod
    def _signer(cert: str, known: t.Sequence[str]) -> str:
        for pem in known:
            leaf = crypto.read_leaf(cert, pem)
            if leaf is not None and leaf.trusted:
                return crypto.pem_fingerprint(pem)
        return UNKNOWN

    def _step(self) -> dict[str, t.Any]:
        passphrase = str(self._args["passphrase"] or "")
        if not passphrase or not self._args["ca_name"]:
            raise Refused(bad_input("ca_name or passphrase is empty", "Set pki_ca_passphrase and pki_ca_name."))
        if not self._store.certificate():
            raise Refused(bad_input(f"There is no CA in {self._store.directory}", "Run site.yml first."))
        # A step that was cut off between two files is finished first: until then key and certificate do not fit.
        if not self._task.check_mode:
            self._store.finish()
        self._settled(self._store.read())
        self._settled(self._store.open(passphrase))
        hosts = tuple(follower(str(name), answer) for name, answer in sorted(self._args["hosts"].items()))
        signs, *others = self._authorities()
        world = Succession(self._store.phase(), signs, next(iter(others), ""), hosts)
        step: Step | None = self._settled(succession.next_step(world, self._args["begin"]))
        if step is not None and step.action == succession.PROMOTE and not self._args["sign"]:
            step = None
        if step is not None and step.hosts:
            raise Refused(
                Refuse(
                    "host-left-behind",
                    f"{', '.join(step.hosts)} {WORDS[step.action]}",
                    "the next step would cut them off, so nothing was touched",
                    "Run site.yml on all hosts until it succeeds, then this again.",
                )
            )
        action = "" if step is None else step.action
        domains = self._settled(normalise_domains(self._args["ca_domains"]))
        if action == succession.PREPARE:
            # Before there is one that could not sign for a service.
            shown = {str(san) for answer in self._args["hosts"].values() for san in answer.get("sans") or ()}
            self._settled(why_not_names(shown, domains, self._store.directory))
        if action and not self._task.check_mode:
            self._take(action, passphrase, domains)
        authorities = self._authorities()
        return {"changed": bool(action), "step": action, "phase": self._store.phase(), "authorities": authorities}

    def _take(self, action: str, passphrase: str, domains: t.Sequence[str]) -> None:
        if action == succession.PREPARE:
            self._settled(self._store.prepare(str(self._args["ca_name"]), passphrase, domains))
        elif action == succession.PROMOTE:
            self._store.promote()
        else:
            self._store.settle()

    def _authorities(self) -> list[str]:
        signs = crypto.pem_fingerprint(self._store.certificate())
        return [signs, *(one for one in crypto.pem_fingerprints(self._store.trust()) if one != signs)]

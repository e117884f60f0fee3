# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the host, decide, sign on the controller, install: one task, one visit to a host where all is well."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._pki import crypto
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.authority import Pair, Store
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.plan import (
    DAY,
    Authority,
    Found,
    Host,
    Issue,
    Leaf,
    Plan,
    Policy,
    Snapshot,
    Staging,
    Wanted,
    bad_input,
    iso,
    normalise,
    normalise_domains,
    normalise_pin,
    plan,
    plan_staging,
    sans_of,
    why_not_authority,
    why_not_create,
    why_not_names,
    why_not_policy,
    why_not_since,
)
from ansible_collections.dedicated.odoo.plugins.modules.pki_certificates import ARGUMENT_SPEC

try:  # ansible-core >= 2.22 masks registered secrets everywhere
    from ansible.module_utils.secrets import register_secret  # type: ignore[import-not-found,unused-ignore]
except ImportError:

    def register_secret(value: str, /) -> str:
        return value


MODULE = "dedicated.odoo.pki_certificates"


class HostFailed(Exception):
    """The module failed on the host; its own result says why."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(result.get("msg", ""))
        self.result = result


def _settled(value: Any) -> Any:
    """Hand a value through, unless it is a refusal."""
    if isinstance(value, Refuse):
        raise Refused(value)
    return value


def _public(leaf: Leaf | None, wanted: Wanted) -> dict[str, Any]:
    """One certificate as results show it; a leaf that does not exist yet leaves its fields empty."""
    return {
        "name": wanted.name,
        "common_name": wanted.common_name if leaf is None else leaf.common_name,
        "sans": list(wanted.sans if leaf is None else leaf.sans),
        "usages": list(wanted.usages if leaf is None else leaf.usages),
        "serial": "" if leaf is None else leaf.serial,
        "not_before": "" if leaf is None else iso(leaf.not_before),
        "not_after": "" if leaf is None else iso(leaf.not_after),
        "fingerprint": "" if leaf is None else leaf.fingerprint,
    }


def _host(facts: dict[str, Any], ca_pem: str) -> Host:
    found = tuple(
        Found(
            name=str(one["name"]),
            leaf=crypto.read_leaf(str(one["cert"]), ca_pem),
            key=str(one["key"]),
            drift=tuple(str(part) for part in one["drift"]),
            leftovers=bool(one["leftovers"]),
        )
        for one in facts["certificates"]
    )
    trusts = tuple(str(one) for one in facts["trusts"])
    return Host(str(facts["pin"]), trusts, found, bool(facts["authority_drift"]))


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        self._vars = task_vars or {}
        try:
            result.update(self._converge())
        except Refused as exc:
            result.update(failed=True, msg=exc.msg, **exc.details)
        except HostFailed as exc:
            result.update(exc.result)
            result["failed"] = True
        return result

    def _converge(self) -> dict[str, Any]:
        self._read_arguments()
        authority = _settled(self._store.read())
        created = False
        if authority is None:
            # Before there is one that could not be used.
            _settled(why_not_names(sans_of(self._wanted), self._domains, self._store.directory))
        if self._args["stage"] and authority is None:
            raise Refused(bad_input(f"There is no CA in {self._store.directory}", "Run site.yml, then this again."))
        if self._args["survey"] or authority is None:
            facts = self._visit("inspect")
            snapshot = self._snapshot(authority, _host(facts, ""))
            if self._args["survey"]:
                _settled(why_not_authority(snapshot, self._store.directory))
                return {"changed": False, "msg": "This host carries no other CA.", "issued": [], "certificates": []}
            _settled(why_not_create(snapshot, self._store.directory, self._limit()))
            if self._task.check_mode:
                return self._result(snapshot, self._decide(snapshot), created=True)
            authority, created = _settled(self._store.create(self._args["ca_name"], self._passphrase, self._domains))
        # Before the host is asked, so that a wrong passphrase shows today and not on the day of the renewal.
        _settled(why_not_authority(self._snapshot(authority, Host()), self._store.directory))
        _settled(self._store.open(self._passphrase))
        self._ca_pem, self._trust_pem = self._store.certificate(), self._store.trust()
        if self._args["stage"]:
            return self._stage(authority)
        facts = self._visit("inspect")
        pairs = self._pairs()
        snapshot = self._snapshot(authority, _host(facts, self._ca_pem), pairs)
        decision = self._decide(snapshot)
        if self._task.check_mode or not decision.changed:
            return self._result(snapshot, decision, created)
        due = [one for one in decision.issue if one.wanted.shared]
        made: tuple[Issue, ...] = ()
        if due:
            made = self._store.share(self._passphrase, due, self._now, self._policy)
            pairs = self._pairs()
            snapshot = self._snapshot(authority, snapshot.host, pairs)
            decision = self._decide(snapshot)
        signed = self._sign(decision.issue, facts["certificates"])
        copied = {one.wanted.name: pairs[one.wanted.name] for one in decision.copy}
        signed.update({name: pair.cert for name, pair in copied.items()})
        self._visit("install", signed, {name: pair.key for name, pair in copied.items()})
        return self._result(snapshot, replace(decision, issue=(*made, *decision.issue)), created, signed)

    def _stage(self, authority: Authority) -> dict[str, Any]:
        """Lay new pairs beside the live ones."""
        facts = self._visit("inspect")
        host = _host(facts, self._ca_pem)
        waiting = {str(one["name"]): str(one["cert"]) for one in facts["staged"]}
        staged = [
            Found(str(one["name"]), crypto.read_leaf(str(one["cert"]), self._ca_pem), str(one["key"]))
            for one in facts["staged"]
        ]

        def decide(pairs: dict[str, Pair]) -> Staging:
            snapshot = self._snapshot(authority, host, pairs)
            return _settled(plan_staging(snapshot, staged, self._since, self._store.directory))

        pairs = self._pairs()
        decision = decide(pairs)
        if self._task.check_mode or not decision.changed:
            return self._staged(host, decision, waiting)
        due = [one for one in decision.issue if one.wanted.shared]
        made: tuple[Issue, ...] = ()
        if due:
            made = self._store.share(self._passphrase, due, self._now, self._policy, self._since)
            pairs = self._pairs()
            decision = decide(pairs)
        signed = self._sign(decision.issue, facts["staged"])
        copied = {one.wanted.name: pairs[one.wanted.name] for one in decision.copy}
        signed.update({name: pair.cert for name, pair in copied.items()})
        keys = {name: pair.key for name, pair in copied.items()}
        self._visit("install", signed, keys, list(decision.drop))
        return self._staged(host, replace(decision, issue=(*made, *decision.issue)), {**waiting, **signed})

    def _staged(self, host: Host, decision: Staging, waiting: dict[str, str]) -> dict[str, Any]:
        """The result; what check mode cannot know is empty."""
        live = {one.name: one.leaf for one in host.found}
        fresh = [one.wanted.name for one in decision.issue] + [one.wanted.name for one in decision.copy]
        unknown = fresh if self._task.check_mode else []
        rows = []
        for wanted in self._wanted:
            leaf = None if wanted.name in unknown else crypto.read_leaf(waiting.get(wanted.name, ""), self._ca_pem)
            before = live.get(wanted.name)
            if wanted.name in (*decision.keep, *fresh):
                new = _public(leaf, wanted)
                old = "" if before is None else before.serial
                rows.append({"name": wanted.name, "serial": new["serial"], "not_after": new["not_after"], "live": old})
        result: dict[str, Any] = {
            "changed": decision.changed,
            "issued": [{"name": one.wanted.name, "reason": one.reason} for one in decision.issue],
            "copied": [{"name": one.wanted.name, "reason": one.reason} for one in decision.copy],
            "staged": rows,
        }
        if self._task.diff:
            result["diff"] = {
                "before": {one["name"]: {"serial": one["live"]} for one in rows if one["name"] in fresh},
                "after": {
                    one["name"]: {"serial": one["serial"], "not_after": one["not_after"]}
                    for one in rows
                    if one["name"] in fresh
                },
            }
        return result

    def _pairs(self) -> dict[str, Pair]:
        """The shared certificates that the controller keeps."""
        names = [one.name for one in self._wanted if one.shared]
        pairs = {name: self._store.pair(name, self._passphrase) for name in names}
        for pair in pairs.values():
            register_secret(pair.key)
        return pairs

    def _read_arguments(self) -> None:
        _validation, self._args = self.validate_argument_spec(ARGUMENT_SPEC)
        for name in ("request", "shared_keys"):
            if self._task.args.get(name) is not None:
                raise Refused(bad_input(f"'{name}' is set by this action itself", "Leave it out."))
        self._passphrase = register_secret(str(self._args["passphrase"] or ""))
        if not self._passphrase and not self._args["survey"]:
            raise Refused(bad_input("The CA's passphrase is empty", "Set pki_ca_passphrase to a long random secret."))
        self._store = Store(str(self._args["ca_dir"]))
        _settled(self._store.why_not_directory())
        self._pin = _settled(normalise_pin(str(self._args["pin"])))
        self._policy = Policy(int(self._args["valid_days"]), float(self._args["renew_before_fraction"]))
        _settled(why_not_policy(self._policy))
        self._wanted = _settled(normalise(self._args["certificates"]))
        self._domains = _settled(normalise_domains(self._args["ca_domains"]))
        self._now = int(time.time())
        self._since = int(self._args["since"])
        if self._args["stage"]:
            _settled(why_not_since(self._since, self._now))
        self._ca_pem = self._trust_pem = ""

    def _limit(self) -> str:
        limit = str(self._vars.get("ansible_limit") or "")
        return "" if limit in ("all", "*") else limit

    def _snapshot(self, authority: Authority | None, host: Host, pairs: dict[str, Pair] | None = None) -> Snapshot:
        shared = tuple(pair.found for pair in (pairs or {}).values())
        return Snapshot(authority, host, self._wanted, self._now, self._pin, self._policy, shared)

    def _decide(self, snapshot: Snapshot) -> Plan:
        return _settled(plan(snapshot, self._store.directory))

    def _visit(
        self,
        phase: str,
        issued: dict[str, str] | None = None,
        keys: dict[str, str] | None = None,
        drop: list[str] | None = None,
    ) -> dict[str, Any]:
        """Run the host's half. The passphrase stays here."""
        public = (
            "certificates",
            "ca_dir",
            "valid_days",
            "renew_before_fraction",
            "directory",
            "survey",
            "stage",
            "since",
        )
        arguments = {name: self._args[name] for name in public}
        arguments["pin"] = self._pin
        arguments["request"] = {
            "phase": phase,
            "now": self._now,
            "ca_pem": self._ca_pem,
            "trust_pem": self._trust_pem,
            "issued": issued or {},
        }
        if drop:
            arguments["request"]["drop"] = drop
        if keys:
            arguments["shared_keys"] = keys
        answer: dict[str, Any] = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=self._vars)
        if answer.get("failed") or answer.get("unreachable") or (phase == "inspect" and "host" not in answer):
            answer.pop("invocation", None)
            raise HostFailed(answer)
        return dict(answer.get("host") or {})

    def _sign(self, issue: tuple[Issue, ...], asked: list[dict[str, Any]]) -> dict[str, str]:
        requests = {str(one["name"]): str(one["csr"]) for one in asked}
        try:
            own = [one for one in issue if not one.wanted.shared]
            return self._store.sign(self._passphrase, own, requests)
        except ValueError as exc:
            raise Refused(
                Refuse(
                    "host-disagrees",
                    f"The host's signing request cannot be used: {exc}",
                    "no certificate was issued",
                    "Run it again; if it stays, remove key.pem.new from the directory of that certificate.",
                )
            ) from exc

    def _result(
        self, snapshot: Snapshot, decision: Plan, created: bool, signed: dict[str, str] | None = None
    ) -> dict[str, Any]:
        before = {one.name: one.leaf for one in snapshot.host.found}
        after: dict[str, Leaf | None] = dict(before)
        after.update({one.wanted.name: None for one in decision.issue})
        kept = {one.name: one.leaf for one in snapshot.shared}
        after.update({one.wanted.name: kept[one.wanted.name] for one in decision.copy})
        after.update({name: crypto.read_leaf(pem, self._ca_pem) for name, pem in (signed or {}).items()})
        ca = self._store.read() if not isinstance(snapshot.authority, Authority) else snapshot.authority
        result: dict[str, Any] = {
            "changed": decision.changed or created,
            "issued": [
                {
                    "name": one.wanted.name,
                    "reason": one.reason,
                    "serial": _public(after.get(one.wanted.name), one.wanted)["serial"],
                    "not_after": iso(one.not_after),
                }
                for one in decision.issue
            ],
            "copied": [{"name": one.wanted.name, "reason": one.reason} for one in decision.copy],
            "repaired": [{"name": one.name, "reason": one.reason} for one in decision.repair],
            "certificates": [_public(after.get(one.name), one) for one in self._wanted],
            "ca": {
                "fingerprint": ca.fingerprint if isinstance(ca, Authority) else "",
                "not_after": iso(ca.not_after) if isinstance(ca, Authority) else "",
                "created": created,
            },
        }
        if isinstance(ca, Authority) and ca.not_after - self._now < 365 * DAY:
            result["warnings"] = [f"The CA in {self._store.directory} ends on {iso(ca.not_after)}: plan its successor."]
        if self._task.diff:
            result["diff"] = self._diff(decision, before, after)
        return result

    def _diff(self, decision: Plan, before: dict[str, Leaf | None], after: dict[str, Leaf | None]) -> dict[str, Any]:
        planned = {one.wanted.name: iso(one.not_after) for one in decision.issue}
        for one in decision.copy:
            leaf = after.get(one.wanted.name)
            planned.setdefault(one.wanted.name, "" if leaf is None else iso(leaf.not_after))
        repaired = {one.name: one.reason for one in decision.repair}
        shown: dict[str, dict[str, Any]] = {"before": {}, "after": {}}
        for wanted in self._wanted:
            old, new = before.get(wanted.name), after.get(wanted.name)
            if wanted.name in planned:
                if old is not None:
                    shown["before"][wanted.name] = _shown(_public(old, wanted))
                shown["after"][wanted.name] = _shown(_public(new, wanted)) | {"not_after": planned[wanted.name]}
            elif wanted.name in repaired:
                shown["before"][wanted.name] = {"files": repaired[wanted.name]}
                shown["after"][wanted.name] = {"files": "set right"}
        return shown


def _shown(public: dict[str, Any]) -> dict[str, Any]:
    keep = ("common_name", "sans", "usages", "not_after", "serial")
    return {name: public[name] for name in keep if public[name]}

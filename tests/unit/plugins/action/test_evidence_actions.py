# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The actions from their arguments to their results; the host's half runs for real in a directory of its own."""

from __future__ import annotations

import json
import pathlib
import types
import typing as t

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ansible_collections.dedicated.odoo.plugins.action import evidence_record, verify_evidence
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence import io, plan, service, signing


class Record(evidence_record.ActionModule):
    """The action with a host that is a directory; `visits` counts the lines of each visit."""

    visits: list[int]

    def _execute_module(self, **given: t.Any) -> dict[str, t.Any]:
        arguments = given["module_args"]
        self.visits.append(len(arguments["records"]))
        path = service.host_path(arguments["directory"], arguments["chain"])
        try:
            head, added = service.keep(io.FileStore(path), arguments["records"], "n1", self._task.check_mode)
        except DedicatedError as exc:
            return {"failed": True, "msg": exc.msg, **exc.details}
        return {"changed": False, "chain": arguments["chain"], "added": added, "head": head.as_result() if head else {}}


class Verify(verify_evidence.ActionModule):
    """The action with a host that is a directory, where the module itself runs, but no library for signatures."""

    visits: list[int]

    def _execute_module(self, **given: t.Any) -> dict[str, t.Any]:
        told = given["module_args"]
        self.visits.append(bool(told["signatures"]))
        require = told.get("require_signature", False)
        found = service.verify(told["path"], (), False, "n1", require, told["signatures"])
        return {"changed": False, "invocation": {"module_args": told}, **json.loads(json.dumps(found))}


def public(private: Ed25519PrivateKey) -> str:
    key = private.public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


class Site:
    """A controller with a record and a host."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.own = root / "state" / "acme" / "evidence.jsonl"
        self.visits: list[int] = []

    def write(self, count: int) -> None:
        chain = service.Chain(io.FileStore(str(self.own)), "a" * 32)
        for __ in range(count):
            chain.add(plan.body("changed", "r", "t", {}, ()))

    def copy(self) -> pathlib.Path:
        return self.root / "host" / f"{'a' * 32}.jsonl"

    def __call__(self, kind: type = Record, check: bool = False, cluster: t.Any = "acme", **args: t.Any) -> t.Any:
        task = types.SimpleNamespace(args=args, check_mode=check, diff=False, async_val=0, action="evidence_record")
        connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir=None))
        loader = DataLoader()
        action = kind(task, connection, None, loader, Templar(loader=loader), None)
        action.visits = []
        variables = {"inventory_hostname": "n1"} | ({} if cluster is None else {"dedicated_cluster": cluster})
        result = action.run(None, variables)
        self.visits = action.visits
        assert not result.get("changed")
        return json.loads(json.dumps(result))

    def sign(self, count: int, private: Ed25519PrivateKey) -> None:
        chain = service.Chain(io.FileStore(str(self.own)), "a" * 32, signer=signing.Ed25519(private))
        for __ in range(count):
            chain.add(plan.body("changed", "r", "t", {}, ()))

    def keep(self, **given: t.Any) -> t.Any:
        return self(directory=str(self.root / "host"), **given)


@pytest.fixture
def site(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(evidence_record, "directory", lambda: str(tmp_path / "state"))
    return Site(tmp_path)


def test_facts_open_no_connection(site: Site) -> None:
    result = site(facts={"measured": {"seconds": 1.5}, "token": "x"})
    assert result["evidence"] == {"measured": {"seconds": 1.5}, "token": plan.LEFT_OUT}
    assert site.visits == []


def test_facts_that_would_not_be_recorded_fail_the_task(site: Site) -> None:
    for facts, code in (("text", "bad_facts"), ({"a": ["x" * 1000] * 40}, "too_large")):
        result = site(facts=facts)
        assert (result["failed"], result["code"]) == (True, code)


def test_a_host_gets_what_it_lacks(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_record, "AT_ONCE", 2)
    site.write(5)
    assert site.keep(check=True)["added"] == 5
    assert not site.copy().exists()
    assert site.keep()["added"] == 5
    assert site.visits == [0, 2, 2, 1]
    assert site.copy().read_bytes() == site.own.read_bytes()
    assert (site.keep()["added"], site.visits) == (0, [0])
    site.write(1)
    result = site.keep()
    assert (result["added"], result["head"]["seq"], site.visits) == (1, 6, [0, 1])


def test_a_host_of_no_cluster_and_a_controller_without_a_record(site: Site) -> None:
    for cluster in (None, "../acme"):
        assert site.keep(cluster=cluster)["chain"] == ""
    result = site.keep()
    assert (result["chain"], site.visits) == ("", [])
    assert "callbacks_enabled" in result["warnings"][0]


def test_contradictions_are_refused_on_whichever_side_they_show(site: Site) -> None:
    site.write(3)
    site.keep()
    whole = site.own.read_text()
    site.own.write_text("".join(whole.splitlines(keepends=True)[:2]))
    assert site.keep()["code"] == "chain_ahead"
    site.own.unlink()
    forged = service.Chain(io.FileStore(str(site.own)), "a" * 32)
    for __ in range(4):
        forged.add(plan.body("changed", "forged", "t", {}, ()))
    assert site.keep()["code"] == "chain_fork"
    site.own.write_text(whole.replace('"kind":"changed"', '"kind":"chanted"'))
    assert site.keep()["code"] == "chain_broken"
    site.own.write_text(whole)
    site.copy().write_text(site.copy().read_text().replace("changed", "chanted"))
    assert site.keep()["code"] == "chain_broken"


def test_what_the_action_sets_itself_is_not_taken(site: Site) -> None:
    for given in ({"chain": "x"}, {"records": []}):
        assert site(**given)["failed"]


def test_the_controllers_copy_is_judged_here(site: Site) -> None:
    site.write(3)
    judged = site(verify_evidence.ActionModule, controller=True, where="controller")
    assert judged["ok"]
    assert judged["heads"][0]["seq"] == 3
    ahead = {"chain": "a" * 32, "seq": 4, "hash": "x", "where": "n1"}
    judged = site(verify_evidence.ActionModule, controller=True, anchors=[ahead])
    assert [one["code"] for one in judged["copies"][0]["problems"]] == ["truncated"]
    for cluster in (None, "other"):
        assert site(verify_evidence.ActionModule, cluster=cluster, controller=True, anchors=[ahead])["copies"] == []


@pytest.mark.parametrize("controller", [True, False])
def test_signatures_are_checked_on_the_controller_for_every_place(site: Site, controller: bool) -> None:
    ours, older, other = (Ed25519PrivateKey.generate() for __ in range(3))
    site.write(1)
    site.sign(2, older)
    site.sign(2, ours)
    where = {"controller": True} if controller else {"path": str(site.own)}
    keys = [public(ours), public(older)]

    def judged(**given: t.Any) -> tuple[bool, list[tuple[str, int]], t.Any]:
        result = site(Verify, **where, **given)
        assert "invocation" not in result
        (copy,) = result["copies"]
        assert "signatures" not in copy
        return result["ok"], [(one["code"], one["line"]) for one in copy["problems"]], (copy, result["summary"][0])

    ok, problems, (copy, line) = judged(public_keys=keys, require_signature=True)
    assert (ok, problems, copy["checked"], copy["signed"], copy["signed_from"]) == (True, [], True, 4, 2)
    assert "signed from record 2 on with" in line
    ok, problems, (copy, line) = judged()
    assert (ok, problems, copy["checked"]) == (True, [], False)
    assert "not checked" in line
    assert judged(public_keys=keys[:1])[:2] == (False, [("unknown_key", 2)])
    whole = site.own.read_text().splitlines(keepends=True)
    # Somebody without the key: a record of his own with the name of ours, or with a key of his, or without any.
    for signer, told in (
        (signing.Ed25519(other), [("unknown_key", 6)]),
        (
            types.SimpleNamespace(key=signing.Ed25519(ours).key, sign=signing.Ed25519(other).sign),
            [("bad_signature", 6)],
        ),
        (None, [("missing_signature", 6)]),
    ):
        last = json.loads(whole[-1])
        head = plan.Head(last["chain"], last["seq"], last["hash"])
        forged, __ = plan.seal(plan.body("changed", "r", "t", {}, ()), head, "", t.cast("plan.Signer | None", signer))
        site.own.write_text("".join([*whole, f"{forged}\n"]))
        assert judged(public_keys=keys)[:2] == (False, told)


@pytest.mark.parametrize("controller", [True, False])
def test_a_chain_that_nobody_signed_is_a_problem_only_where_that_is_demanded(site: Site, controller: bool) -> None:
    site.write(2)
    where = {"controller": True} if controller else {"path": str(site.own)}
    keys = [public(Ed25519PrivateKey.generate())]
    told = site(Verify, **where, public_keys=keys)
    assert told["ok"]
    assert "unsigned" in told["summary"][0]
    told = site(Verify, **where, public_keys=keys, require_signature=True)
    assert [one["code"] for one in told["copies"][0]["problems"]] == ["unsigned"]
    assert not told["ok"]


def test_keys_that_are_none_are_refused(site: Site) -> None:
    site.write(1)
    private = "-----BEGIN PRIVATE" + " KEY-----\nMC4CAQ\n"
    for text, code in (("x", "public_key_bad"), (private, "public_key_private")):
        told = site(Verify, controller=True, public_keys=[text])
        assert (told["failed"], told["code"]) == (True, code)
        assert "MC4CAQ" not in json.dumps(told)
    assert site(Verify, path="x", signatures=True)["failed"]


def test_a_host_that_keeps_signatures_back_was_not_checked() -> None:
    copy = {
        "file": "x", "chain": "c", "records": 2, "runs": 1, "head": {}, "behind": 0, "ok": True, "signed": 2,
        "signed_from": 1, "signers": ["k"], "checked": False, "problems": [], "unfinished": [], "signatures": [],
    }  # fmt: skip
    found = service.authenticate({"ok": True, "copies": [copy], "absent": []}, lambda *__: True)
    assert not found["ok"]
    assert "not checked" in found["summary"][0]

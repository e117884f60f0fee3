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

from ansible_collections.dedicated.odoo.plugins.action import evidence_record, verify_evidence
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence import io, plan, service


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

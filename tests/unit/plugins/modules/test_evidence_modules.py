# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's halves from their arguments to their output."""

from __future__ import annotations

import json
import pathlib
import types
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.dedicated.odoo.plugins.module_utils._evidence import plan
from ansible_collections.dedicated.odoo.plugins.modules import evidence_record, verify_evidence

CHAIN = "a" * 32


def lines(count: int) -> list[str]:
    made: list[str] = []
    head = None
    for number in range(count):
        line, head = plan.seal(plan.body("started", f"r{number}", "t", {"operator": "ann"}, ()), head, CHAIN)
        made.append(line)
    return made


def call(
    capsys: pytest.CaptureFixture[str], module: types.ModuleType, check: bool = False, **arguments: t.Any
) -> dict[str, t.Any]:
    given = {"_ansible_check_mode": check, "_ansible_syslog_facility": "", **arguments}
    with patch_module_args(given), pytest.raises(SystemExit):
        module.main()
    return t.cast("dict[str, t.Any]", json.loads(capsys.readouterr().out))


def test_records_are_added_once_and_never_a_change(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    given: dict[str, t.Any] = {"directory": str(tmp_path / "e"), "chain": CHAIN}
    announced = call(capsys, evidence_record, check=True, records=lines(2), **given)
    assert (announced["added"], announced["head"], (tmp_path / "e").exists()) == (2, {}, False)
    for records, added in ((lines(2), 2), (lines(3), 1), (lines(3), 0), ([], 0)):
        done = call(capsys, evidence_record, records=records, **given)
        assert (done["changed"], done["added"]) == (False, added)
    assert done["head"] == {"chain": CHAIN, "seq": 3, "hash": json.loads(lines(3)[2])["hash"]}
    assert (tmp_path / "e" / f"{CHAIN}.jsonl").read_text().splitlines() == lines(3)


@pytest.mark.parametrize(("marker", "said"), [("globex\n", "cluster globex"), (None, "no cluster yet")])
def test_a_host_of_another_cluster_keeps_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, marker: str | None, said: str
) -> None:
    if marker:
        (tmp_path / "cluster").write_text(marker)
    given: dict[str, t.Any] = {"directory": str(tmp_path / "e"), "chain": CHAIN, "records": lines(2)}
    done = call(capsys, evidence_record, cluster="acme", cluster_file=str(tmp_path / "cluster"), **given)
    assert (done["stranger"], done["added"], (tmp_path / "e").exists()) == (True, 0, False)
    assert said in done["msg"]
    (tmp_path / "cluster").write_text("acme\n")
    done = call(capsys, evidence_record, cluster="acme", cluster_file=str(tmp_path / "cluster"), **given)
    assert done["added"] == 2


def test_refusals_carry_a_code(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    given: dict[str, t.Any] = {"directory": str(tmp_path)}
    gap = call(capsys, evidence_record, records=lines(3)[2:], chain=CHAIN, **given)
    assert (gap["failed"], gap["code"], gap["refusal"]["code"]) == (True, "chain_gap", "chain_gap")
    assert call(capsys, evidence_record, records=[], chain="../x", **given)["code"] == "bad_record"
    assert call(capsys, evidence_record, facts={"a": 1})["failed"]
    (tmp_path / "file").write_text("")
    blocked = call(capsys, evidence_record, records=lines(1), chain=CHAIN, directory=str(tmp_path / "file"))
    assert blocked["code"] == "evidence_file"


def test_a_copy_is_judged_without_failing(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    path = tmp_path / f"{CHAIN}.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines(3)))
    found = call(capsys, verify_evidence, path=str(tmp_path), where="n1")
    assert (found["ok"], found["changed"]) == (True, False)
    assert found["heads"] == [{**found["copies"][0]["head"], "where": "n1"}]
    assert [one["run"] for one in found["copies"][0]["unfinished"]] == ["r0", "r1", "r2"]
    longer = {"chain": CHAIN, "seq": 9, "hash": "x"}
    assert call(capsys, verify_evidence, path=str(path), anchors=[longer])["ok"]
    assert not call(capsys, verify_evidence, path=str(path), anchors=[longer], complete=True)["ok"]
    path.write_text(path.read_text().replace("ann", "eve"))
    found = call(capsys, verify_evidence, path=str(path))
    assert not found.get("failed")
    assert {one["code"] for one in found["copies"][0]["problems"]} == {"bad_hash"}


def test_signatures_are_returned_to_the_controller_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f"{line}\n" for line in lines(2)))
    copy = call(capsys, verify_evidence, path=str(tmp_path), signatures=True)["copies"][0]
    assert (copy["signed"], copy["signatures"], copy["ok"]) == (0, [], True)
    demanded = call(capsys, verify_evidence, path=str(tmp_path), require_signature=True, public_keys=["x"])
    assert [one["code"] for one in demanded["copies"][0]["problems"]] == ["unsigned"]
    assert "signatures" not in demanded["copies"][0]
    assert call(capsys, verify_evidence, path=str(tmp_path), require_signature=True)["failed"]


def test_exactly_one_place_is_judged(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    assert call(capsys, verify_evidence, path=str(tmp_path / "nothing"))["copies"] == []
    for given in ({}, {"path": str(tmp_path), "controller": True}, {"controller": True}):
        assert call(capsys, verify_evidence, **given)["failed"]

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The readiness gate: a platform that is ready, and everything that makes it not, each for itself and all together."""

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from status_scene import DAY, HOUR, NOW, Scene, backup, certificate

from ansible_collections.dedicated.odoo.plugins.filter.readiness_report import FilterModule
from ansible_collections.dedicated.odoo.plugins.module_utils._status import ready, report

DEMANDS = [
    "status-well", "backup-recent", "backups-verified", "restore-rehearsed", "restore-targets", "repository-elsewhere",
    "retention-kept", "certificates-valid", "evidence-whole", "evidence-signed",
]  # fmt: skip
KEY = "0123456789abcdef"


def place(**changes: t.Any) -> dict[str, t.Any]:
    one = {"records": 40, "signed": 40, "signers": [KEY], "checked": True, **changes}
    return {"ok": True, "copies": [one]}


def found(scene: Scene | None = None, **changes: t.Any) -> dict[str, t.Any]:
    """What the playbook gathers where all is well."""
    return {
        "report": report.report((scene or Scene()).look()),
        "rpo_seconds": 60,
        "rto_seconds": "3600",
        "repositories": [{"number": 1, "type": "s3", "at": "object-store.example.com", "shared": False}],
        "site": ["n1", "n2", "n3", "10.20.0.11", "10.20.0.12", "10.20.0.13"],
        "retention": {
            "policy_met": True, "policy_days": 30, "in_effect": [{"repository": 1, "kind": "time", "number": 30}],
        },
        "evidence": {name: place() for name in ("the controller", "n1", "n2", "n3")},
        "signatures": True,
        "limits": {},
        **changes,
    }  # fmt: skip


def judge(**given: t.Any) -> dict[str, t.Any]:
    return ready.report(ready.parse_found(found(**given)))


def missing(**given: t.Any) -> list[str]:
    return t.cast("list[str]", judge(**given)["missing"])


def what(told: dict[str, t.Any], code: str) -> str:
    return next(str(one["what"]) for one in told["demands"] if one["code"] == code)


def noted(part: str, **changes: t.Any) -> Scene:
    """A platform whose note of a proof says something else, on every member."""
    scene = Scene()
    for status in scene.status.values():
        status[part] = {**status[part], **changes}
    return scene


# Ready


def test_a_platform_that_is_ready() -> None:
    told = judge()
    assert told["ok"], told["lines"]
    assert [one["code"] for one in told["demands"]] == DEMANDS
    assert (told["missing"], told["message"]) == ([], "READY: 10 demands are met")
    assert told["lines"][0] == "example  READY: 10 demands are met"
    assert all(one["what"] and one["why"] and one["do"] for one in told["demands"])
    assert "8 h ago (diff-8), limit 26 h" in what(told, "backup-recent")
    assert "3 of 3 backups usable" in what(told, "backups-verified")
    assert what(told, "restore-targets") == (
        "recovery point 12 s (target 60 s)  back at work after 61.5 s (target 3600 s)"
    )
    assert "postgres of n" in what(told, "certificates-valid") or "etcd of n" in what(told, "certificates-valid")


def test_signatures_are_a_demand_only_where_they_are_demanded() -> None:
    told = judge(signatures=False, evidence={"the controller": place(signed=0, signers=[])})
    assert told["ok"]
    assert [one["code"] for one in told["demands"]] == DEMANDS[:-1]


def test_what_is_not_met_tells_why_and_what_to_do() -> None:
    told = judge(retention={"policy_met": False, "policy_days": 30, "in_effect": []})
    at = next(number for number, line in enumerate(told["lines"]) if line.startswith("NOT MET"))
    assert told["lines"][at].split()[2] == "retention-kept"
    assert told["lines"][at + 1].split()[0] == "why"
    assert told["lines"][at + 2].split()[0] == "do"
    assert told["message"] == "NOT READY: 1 of 10 demands are not met: retention-kept"
    assert told["ok"] is False


def test_nothing_found_meets_no_demand() -> None:
    told = ready.report(ready.parse_found({"report": {"findings": []}, "rpo_seconds": 60, "rto_seconds": 60}))
    assert told["missing"] == DEMANDS[:-1]
    told = ready.report(
        ready.parse_found({"report": {"findings": []}, "rpo_seconds": 60, "rto_seconds": 60, "signatures": True})
    )
    assert told["missing"] == DEMANDS


# Each demand for itself


def test_a_replica_is_no_backup() -> None:
    scene = Scene()
    for status in scene.status.values():
        status["backups"] = {"code": 2, "message": "no valid backups", "running": False, "backups": []}
    told = judge(scene=scene)
    assert len(told["demands"]) == 10
    assert told["missing"] == ["status-well", "backup-recent"]
    assert "no valid backups" in what(told, "backup-recent")
    # All three members are there and well, and that changes nothing.
    assert len(found(scene)["report"]["clusters"]["postgres"]["members"]) == 3


@pytest.mark.parametrize(
    ("hours", "codes"),
    [(25.9, []), (26, []), (26.1, ["status-well", "backup-recent"]), (400, ["status-well", "backup-recent"])],
)
def test_the_age_of_the_last_backup(hours: float, codes: list[str]) -> None:
    scene = Scene()
    for status in scene.status.values():
        status["backups"]["backups"] = [backup("full", hours)]
    told = judge(scene=scene)
    assert told["missing"] == codes
    if codes:
        assert "more than 26 h" in what(told, "backup-recent")


def test_nobody_could_ask_the_repository() -> None:
    scene = Scene()
    for status in scene.status.values():
        status["backups"] = {"error": "timed out"}
    assert "backup-recent" in missing(scene=scene)


def test_a_limit_of_ones_own() -> None:
    assert missing(limits={"backup_seconds": "7200"}) == ["backup-recent"]
    assert missing(limits={"verification_seconds": DAY - 1}) == ["backups-verified"]
    assert missing(limits={"rehearsal_seconds": 4 * DAY}) == ["restore-rehearsed"]
    assert missing(limits={"certificate_seconds": 61 * DAY}) == ["certificates-valid"]


@pytest.mark.parametrize(
    ("part", "code", "limit"), [("verification", "backups-verified", 8), ("rehearsal", "restore-rehearsed", 35)]
)
@pytest.mark.parametrize(("seconds", "met", "said"), [(0, True, ", limit"), (1, False, "more than")])
def test_the_age_of_a_proof(part: str, code: str, limit: int, seconds: int, met: bool, said: str) -> None:
    scene = noted(part, at=NOW - limit * DAY - seconds)
    for status in scene.status.values():
        status[f"{part}_begun"] = {}
    told = judge(scene=scene)
    # What is too old here is a warning of status, too.
    assert told["missing"] == ([] if met else ["status-well", code])
    assert said in what(told, code)


@pytest.mark.parametrize(("part", "code"), [("verification", "backups-verified"), ("rehearsal", "restore-rehearsed")])
def test_a_proof_without_a_time(part: str, code: str) -> None:
    given = found()
    given["report"]["clusters"]["backups"][part]["passed"]["at"] = 0
    told = ready.report(ready.parse_found(given))
    assert told["missing"] == [code]
    assert "nobody knows when" in what(told, code)


@pytest.mark.parametrize(("part", "code"), [("verification", "backups-verified"), ("rehearsal", "restore-rehearsed")])
def test_a_proof_that_was_never_there(part: str, code: str) -> None:
    scene = Scene()
    for status in scene.status.values():
        status[part] = status[f"{part}_begun"] = {}
    told = judge(scene=scene)
    # For status that is a note, since a new platform has none yet.
    assert told["missing"] == [code] + (["restore-targets"] if part == "rehearsal" else [])
    assert "there was no" in what(told, code)


@pytest.mark.parametrize(("part", "code"), [("verification", "backups-verified"), ("rehearsal", "restore-rehearsed")])
@pytest.mark.parametrize(("ago", "old"), [(600, False), (8000, True)])
def test_a_proof_that_failed_or_is_going_on(part: str, code: str, ago: int, old: bool) -> None:
    scene = Scene()
    scene.status["n3"][f"{part}_begun"] = {"at": NOW - ago}
    told = judge(scene=scene)
    assert told["missing"] == [*(["status-well"] if old else []), code]
    assert "has not passed" in what(told, code)


@pytest.mark.parametrize(("ahead", "met"), [(0, True), (300, True), (301, False), (9 * DAY, False)])
@pytest.mark.parametrize(("part", "code"), [("verification", "backups-verified"), ("rehearsal", "restore-rehearsed")])
def test_a_proof_of_the_future(part: str, code: str, ahead: int, met: bool) -> None:
    told = judge(scene=noted(part, at=NOW + ahead))
    assert told["missing"] == ([] if met else [code])
    assert ("in the future" in what(told, code)) is not met


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backups_usable": 2}, "2 of 3 backups usable"),
        ({"backups_usable": 0, "backups_checked": 0}, "0 of 0"),
        ({"backups_usable": None}, "? of 3"),
        ({"repositories": [2]}, "repository 1 was not among them"),
        ({"repositories": None}, "repository 1 was not among them"),
    ],
)
def test_a_verification_that_did_not_see_all(changes: dict[str, t.Any], said: str) -> None:
    told = judge(scene=noted("verification", **changes))
    assert told["missing"] == ["backups-verified"]
    assert said in what(told, "backups-verified")


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"reconciled": False}, "restore-rehearsed", "not reconciled"),
        ({"reconciled": "yes"}, "restore-rehearsed", "not reconciled"),
        ({"neutralized": False}, "restore-rehearsed", "not neutralized"),
        ({"rpo_seconds": 60.5}, "restore-targets", "recovery point 60.5 s (target 60 s)"),
        ({"rpo_seconds": None}, "restore-targets", "not measured"),
        ({"rpo_seconds": -1}, "restore-targets", "recovery point -1 s"),
        ({"rto_seconds": 3601}, "restore-targets", "back at work after 3601 s"),
        # It had passed, by a target that was given for that run alone.
        ({"rto_seconds": 5000, "rto_target_seconds": 9000}, "restore-targets", "5000 s (target 3600 s)"),
    ],
)
def test_a_rehearsal_that_did_not_prove_enough(changes: dict[str, t.Any], code: str, said: str) -> None:
    told = judge(scene=noted("rehearsal", **changes))
    assert told["missing"] == [code]
    assert said in what(told, code)


def test_targets_are_the_tiers() -> None:
    assert missing(rpo_seconds=12, rto_seconds=61.5) == []
    assert missing(rpo_seconds=11.9) == missing(rto_seconds=61) == ["restore-targets"]


@pytest.mark.parametrize(
    ("repositories", "met"),
    [
        ([], False),
        ([{"type": "s3", "at": "object-store.example.com"}], True),
        ([{"type": "s3", "at": "n2"}], False),
        ([{"type": "s3", "at": "N2"}], False),
        ([{"type": "sftp", "at": "10.20.0.13"}], False),
        ([{"type": "sftp", "at": "192.0.2.7"}], True),
        ([{"type": "s3", "at": "localhost"}], False),
        ([{"type": "s3", "at": "127.0.0.1"}], False),
        ([{"type": "posix", "at": ""}], False),
        ([{"type": "posix", "at": "", "shared": "yes"}], False),
        ([{"type": "posix", "at": "", "shared": True}], True),
        # One elsewhere is enough.
        ([{"number": 1, "type": "posix"}, {"number": 1, "type": "s3", "at": "far.example.com"}], True),
    ],
)
def test_a_repository_elsewhere(repositories: list[dict[str, t.Any]], met: bool) -> None:
    assert missing(repositories=repositories) == ([] if met else ["repository-elsewhere"])


@pytest.mark.parametrize(
    ("retention", "said"),
    [
        ({}, "nobody leads"),
        ({"skipped": True}, "nobody leads"),
        ({"failed": True, "code": "below_policy", "msg": "it keeps 7 days"}, "it keeps 7 days"),
        (
            {
                "policy_met": False,
                "policy_days": 30,
                "in_effect": [{"repository": 1, "kind": "time", "number": 7}, {"repository": 2, "number": 2}],
            },
            "repository 1: 7 days, repository 2: 2 full backups kept, 30 days promised",
        ),
        ({"policy_met": "yes", "policy_days": 30}, "nothing kept"),
    ],
)
def test_retention(retention: dict[str, t.Any], said: str) -> None:
    told = judge(retention=retention)
    assert told["missing"] == ["retention-kept"]
    assert said in what(told, "retention-kept")


@pytest.mark.parametrize(("name", "wrong"), [("etcd-client", 14), ("ca", 14), ("etcd-client", -1)])
def test_certificates(name: str, wrong: float) -> None:
    scene = Scene()
    scene.status["n2"]["certificates"] = [certificate(name, wrong * DAY)]
    assert "certificates-valid" in missing(scene=scene)
    scene.status["n2"]["certificates"] = [certificate(name, 14 * DAY + 60)]
    assert "certificates-valid" not in missing(scene=scene)


def test_no_certificate_was_seen() -> None:
    given = found()
    given["report"]["clusters"]["certificates"] = {"count": 0, "first": None, "authority": None}
    assert ready.report(ready.parse_found(given))["missing"] == ["certificates-valid"]


@pytest.mark.parametrize(
    ("evidence", "codes"),
    [
        ({}, ["evidence-whole", "evidence-signed"]),
        ({"the controller": {"ok": True, "copies": []}}, ["evidence-signed"]),
        ({"the controller": place(), "n1": {"skipped": True}}, ["evidence-whole"]),
        ({"the controller": place(), "n1": {"failed": True, "msg": "no"}}, ["evidence-whole"]),
        ({"the controller": place(), "n1": {**place(), "ok": False}}, ["evidence-whole"]),
        ({"the controller": place(), "n1": place(signed=0)}, ["evidence-signed"]),
        ({"the controller": place(checked=False)}, ["evidence-signed"]),
    ],
)
def test_the_record_of_operations(evidence: dict[str, t.Any], codes: list[str]) -> None:
    assert missing(evidence=evidence) == codes


def test_what_status_finds() -> None:
    scene = Scene()
    scene.member("n2")["lag"] = 5_000_000
    told = judge(scene=scene)
    assert told["missing"] == ["status-well"]
    assert "status finds 1: postgres-lag n2" in what(told, "status-well")


def test_a_host_that_was_left_out_is_not_known_to_be_well() -> None:
    scene = Scene()
    scene.left_out = {"n3"}
    told = judge(scene=scene)
    assert "status-well" in told["missing"]
    given = found(scene)
    given["report"]["findings"] = []
    assert "1 of 3 hosts told nothing: n3" in what(ready.report(ready.parse_found(given)), "status-well")


def test_a_clock_that_nobody_told() -> None:
    given = found()
    given["report"]["time"] = None
    told = ready.report(ready.parse_found(given))
    assert told["missing"] == ["backup-recent", "backups-verified", "restore-rehearsed"]


# The border


def test_the_filter() -> None:
    judged = FilterModule().filters()["readiness_report"]
    given = found()
    before = copy.deepcopy(given)
    assert judged(given)["ok"]
    assert given == before


@pytest.mark.parametrize(
    "changes",
    [
        {"report": None},
        {"report": {}},
        {"rpo_seconds": None},
        {"rto_seconds": "soon"},
        {"rto_seconds": 0},
        {"rpo_seconds": float("nan")},
        {"limits": {"backup": 1}},
        {"limits": {"backup_seconds": "x"}},
        {"limits": {"backup_seconds": -HOUR}},
    ],
)
def test_what_is_no_look_is_refused(changes: dict[str, t.Any]) -> None:
    with pytest.raises(AnsibleFilterError, match="bad-input: readiness_report"):
        FilterModule().filters()["readiness_report"](found(**changes))


def test_what_is_odd_is_a_demand_that_is_not_met() -> None:
    odd = found(repositories="x", site=None, retention=7, evidence=["x"])
    assert FilterModule().filters()["readiness_report"](odd)["missing"] == [
        "repository-elsewhere", "retention-kept", "evidence-whole", "evidence-signed",
    ]  # fmt: skip

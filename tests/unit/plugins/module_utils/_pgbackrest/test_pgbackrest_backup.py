# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup is taken where it belongs and when it is worth something, and then it is there."""

from __future__ import annotations

import typing as t

import pytest
from pgbackrest_lab import NOW, Lab, code_of, entry, pgbackrest, server, standby

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest import plan, service

FULL = "20261122-180000F"


def new(lab: Lab, kind: str, **changes: t.Any) -> None:
    """What a backup leaves behind."""
    label = FULL if kind == "full" else f"20261122-175358F_20261122-180000{kind[0].upper()}"
    lab.stanza["backup"].append(
        {
            **entry()["backup"][0],
            "annotation": {},
            "label": label,
            "type": kind,
            "prior": None if kind == "full" else "20261122-175358F",
            "reference": None if kind == "full" else ["20261122-175358F"],
            "timestamp": {"start": int(NOW), "stop": int(NOW) + 7},
            **changes,
        }
    )


def lab_that_takes(kind: str, **changes: t.Any) -> Lab:
    return Lab(acts={"backup": lambda lab, _argv: new(lab, kind, **changes)})


def take(lab: Lab, kind: str = "full", check_mode: bool = False, **wish: t.Any) -> dict[str, t.Any]:
    asked = service.wish_of(
        kind, wish.get("repository", 1), wish.get("annotation", {}), wish.get("expect_leader", True)
    )
    return service.take(pgbackrest(lab), asked, 600, check_mode)


@pytest.mark.parametrize("kind", plan.KINDS)
def test_a_backup_is_taken_and_looked_for(kind: str) -> None:
    lab = lab_that_takes(kind)
    result = take(lab, kind)
    assert (result["changed"], result["type"], result["wanted"]) == (True, kind, kind)
    assert (result["seconds"], result["begun"], result["ended"]) == (7, int(NOW), int(NOW) + 7)
    assert result["prior"] == (None if kind == "full" else "20261122-175358F")
    assert result["database_bytes"] == 23422067
    (argv,) = [one for one in lab.ran if lab.verb(one) == "backup"]
    assert {f"--type={kind}", "--repo=1", "--stanza=lab"} <= set(argv)
    assert 600.0 in lab.timeouts


def test_the_annotation_goes_with_it() -> None:
    lab = lab_that_takes("full", annotation={"reason": "release = 19", "build": "7"})
    result = take(lab, annotation={"reason": "release = 19", "build": 7})
    (argv,) = [one for one in lab.ran if lab.verb(one) == "backup"]
    assert [one for one in argv if one.startswith("--ann")] == [
        "--annotation=build=7",
        "--annotation=reason=release = 19",
    ]
    assert result["annotation"] == {"reason": "release = 19", "build": "7"}


@pytest.mark.parametrize("kind", ["diff", "incr"])
def test_without_a_full_backup_every_type_becomes_one(kind: str) -> None:
    lab = lab_that_takes("full")
    lab.stanza["backup"] = []
    result = take(lab, kind)
    assert (result["type"], result["wanted"], result["label"]) == ("full", kind, FULL)
    assert "no " in result["why"]


def test_backups_of_an_earlier_database_are_nothing_to_build_on() -> None:
    lab = lab_that_takes("full")
    lab.stanza["db"].append({**lab.stanza["db"][0], "id": 2})
    assert take(lab, "diff", check_mode=True)["type"] == "full"


@pytest.mark.parametrize(("kind", "made"), [("full", "full"), ("diff", "diff")])
def test_check_mode_tells_and_takes_none(kind: str, made: str) -> None:
    lab = lab_that_takes(made)
    result = take(lab, kind, check_mode=True)
    assert (result["changed"], result["type"], result["label"]) == (True, made, None)
    assert result["plan"] == [f"take a {made} backup in repository 1"]
    assert lab.verbs == []


def refused(lab: Lab, **wish: t.Any) -> str:
    with pytest.raises(Refused) as caught:
        take(lab, **wish)
    assert all(caught.value.details["refusal"].values())
    return code_of(caught.value)


def test_a_standby_is_refused_or_left_alone() -> None:
    assert refused(Lab(postgres=standby())) == "not_leader"
    lab = Lab(postgres=standby())
    result = take(lab, expect_leader=False)
    assert (result["changed"], result["type"], result["plan"]) == (False, None, [])
    assert "standby" in result["msg"]
    assert lab.verbs == []


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    ("answer", "postgres", "code"),
    [
        ("info_running.json", {}, "backup_running"),
        ("info_missing.json", {}, "no_stanza"),
        ("info_three.json", {"system_id": "7"}, "other_system"),
        ("info_three.json", {"last_failed_at": NOW - 5, "last_failed": "0" * 24}, "archiving_broken"),
        ("info_three.json", {"last_failed_at": NOW - 5, "last_archived_at": None}, "archiving_broken"),
    ],
)
def test_refusals(answer: str, postgres: dict[str, t.Any], code: str, check_mode: bool) -> None:
    lab = Lab(entry(answer), server(**postgres))
    assert refused(lab, check_mode=check_mode) == code
    assert lab.verbs == []


def test_a_failure_that_is_over_is_none() -> None:
    lab = lab_that_takes("full")
    lab.postgres = server(last_failed_at=NOW - 500, last_failed="0" * 24)
    assert take(lab)["label"] == FULL


def test_repositories_that_are_not_there() -> None:
    assert refused(Lab(), repository=3) == "no_repository"
    assert refused(Lab(entry("info_repo2_empty.json")), repository=2) == "no_stanza"
    with pytest.raises(DedicatedError) as caught:
        take(Lab(entry("info_repo2_dead.json")), repository=2)
    assert code_of(caught.value) == "store_unreachable"


def test_beside_one_that_is_away_the_other_gets_its_backup() -> None:
    """PostgreSQL calls a segment failed that the dead one lacks; pgBackRest waits for its WAL in the one that lives."""
    lab = lab_that_takes("full")
    lab.stanza = entry("info_repo2_dead.json")
    lab.postgres = server(last_failed_at=NOW - 3, last_failed="0" * 24)
    assert take(lab)["label"] == FULL


def test_somebody_was_faster() -> None:
    lab = Lab(
        fails={"backup": (50, "ERROR: [050]: unable to acquire lock on file '/tmp/pgbackrest/lab-backup-1.lock'")}
    )
    assert refused(lab) == "backup_running"


@pytest.mark.parametrize(
    ("failing", "code"),
    [
        ((56, "ERROR: [056]: unable to find primary cluster - cannot proceed"), "not_leader"),
        (
            (82, "ERROR: [082]: WAL segment 000000010000000000000009 was not archived before the 60000ms"),
            "archiving_broken",
        ),
        ((124, ""), "timed_out"),
        ((49, "ERROR: [049]: unable to connect to 's3.test:443': timeout"), "store_unreachable"),
        ((32, "ERROR: [032]: '9' is out of range"), "pgbackrest_failed"),
    ],
)
def test_a_backup_that_failed(failing: tuple[int, str], code: str) -> None:
    with pytest.raises(DedicatedError) as caught:
        take(Lab(fails={"backup": failing}))
    assert code_of(caught.value) == code


def test_a_good_ending_is_no_proof() -> None:
    with pytest.raises(DedicatedError) as caught:
        take(Lab())
    assert code_of(caught.value) == "no_new_backup"


def test_the_backup_of_another_host_is_not_taken_for_ours() -> None:
    lab = lab_that_takes("full", annotation={"reason": "other"})
    with pytest.raises(DedicatedError) as caught:
        take(lab, annotation={"reason": "ours"})
    assert code_of(caught.value) == "no_new_backup"
    with pytest.raises(DedicatedError):
        take(lab_that_takes("incr"), "full")


def test_a_backup_of_damaged_pages_is_an_error() -> None:
    with pytest.raises(DedicatedError) as caught:
        take(lab_that_takes("full", error=True))
    assert (code_of(caught.value), caught.value.details["label"]) == ("backup_damaged", FULL)


@pytest.mark.parametrize(
    "annotation",
    [
        {"a=b": "x"},
        {"Reason": "x"},
        {"": "x"},
        {"a" * 64: "x"},
        {"reason": ""},
        {"reason": " x"},
        {"reason": "a\nb"},
        {"reason": "x" * 201},
        {"reason": None},
        {"reason": True},
        {"reason": ["x"]},
        {"db_password": "x"},
        {"token": "x"},
        {"s3.secret": "x"},
        {"cipher_passphrase": "x"},
        {"reason": "https://user:pw@host/"},
        {"reason": "-----BEGIN something"},
        {f"k{number}": "x" for number in range(21)},
    ],
)
def test_annotations_that_are_refused_before_anybody_is_asked(annotation: dict[str, t.Any]) -> None:
    lab = Lab()
    assert refused(lab, annotation=annotation) == "bad_annotation"
    assert lab.ran == []


def test_a_secret_is_not_repeated_in_the_refusal() -> None:
    with pytest.raises(Refused) as caught:
        take(Lab(), annotation={"Xhunter2": "hunter3", "reason": "https://u:hunter4@h"})
    assert "hunter" not in caught.value.msg


def test_words_that_only_contain_such_a_word_are_fine() -> None:
    given = {"monkey": "1", "reason": "https://host:8069/x", "keyring": "2"}
    assert plan.noted(given) == given

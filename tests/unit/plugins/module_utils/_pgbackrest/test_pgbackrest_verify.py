# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage is found, whatever pgBackRest's exit code says, and also where it does not look."""

from __future__ import annotations

import json
import typing as t

import pytest
from pgbackrest_lab import Lab, captured, code_of, entry, listing, pgbackrest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest import service

FULL, INCR, DIFF = (one["label"] for one in entry()["backup"])


def verify(lab: Lab, *repositories: int, server: bool = True) -> dict[str, t.Any]:
    return service.verify(pgbackrest(lab), 3600, repositories, server)


def codes(result: t.Mapping[str, t.Any]) -> list[tuple[str, str]]:
    return [(one["code"], one["name"]) for one in result["problems"]]


def test_all_is_whole() -> None:
    lab = Lab()
    result = verify(lab)
    assert (result["ok"], result["problems"], result["repositories"]) == (True, [], [1])
    assert (result["backups_checked"], result["backups_usable"]) == (3, 3)
    assert (result["files_checked"], result["wal_checked"], result["wal_valid"]) == (2899, 8, 8)
    (argv,) = [one for one in lab.ran if lab.verb(one) == "verify"]
    assert {"--repo=1", "--output=text", "--verbose"} <= set(argv)
    assert 3600.0 in lab.timeouts
    service.must_be_whole(result)


def test_damaged_files() -> None:
    result = verify(Lab(verify={1: captured("verify_bad.txt")}))
    assert codes(result) == [
        ("wal_invalid", "17-1"),
        ("backup_invalid", FULL),
        ("backup_depends", INCR),
        ("backup_depends", DIFF),
    ]
    assert result["problems"][1]["what"] == "invalid: 1 of 966 files are not valid (1 checksum invalid)"
    assert result["backups_usable"] == 0


def test_what_builds_on_a_lost_backup_is_lost_though_it_is_called_valid() -> None:
    result = verify(Lab(verify={1: captured("verify_lost.txt")}))
    assert [(one["label"], one["status"], one["usable"]) for one in result["backups"]] == [
        (FULL, "invalid", False),
        (INCR, "valid", False),
        (DIFF, "valid", False),
    ]


def test_a_missing_segment_of_which_verify_says_nothing() -> None:
    said = captured("verify_gap.txt")
    assert "status: ok" in said
    lab = Lab(verify={1: said}, archives={(1, "17-1"): json.loads(captured("ls_gap.json"))})
    result = verify(lab)
    assert codes(result) == [("wal_missing", "17-1")]
    assert "000000010000000000000006" in result["problems"][0]["what"]
    assert codes(verify(lab, server=False)) == codes(result)


def test_the_newest_segments_are_missing_which_only_the_server_knows() -> None:
    lab = Lab(archives={(1, "17-1"): listing(*range(1, 7))})
    assert codes(verify(lab)) == [("wal_missing", "17-1")]
    assert codes(verify(lab, server=False)) == []


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (captured("verify_unusable.txt"), "repository_unusable"),
        ("", "backup_not_checked"),
        ("stanza: lab\nstatus: error\n", "backup_not_checked"),
        (captured("verify_ok.txt").replace("status: ok", "status: error"), "not_understood"),
        (captured("verify_ok.txt").replace("status: ok\n", ""), "not_understood"),
        (captured("verify_ok.txt") + "  something new\n", "repository_unusable"),
        (captured("verify_ok.txt").replace("total valid WAL: 8", "total valid WAL: 7"), "wal_invalid"),
        (
            captured("verify_ok.txt").replace(
                "status: valid, total files checked: 966", "status: manifest missing, total files checked: 966", 1
            ),
            "backup_invalid",
        ),
    ],
)
def test_whatever_is_not_plainly_good_is_a_problem(said: str, code: str) -> None:
    result = verify(Lab(verify={1: said}))
    assert result["ok"] is False
    assert code in [one for one, _name in codes(result)]


def test_a_backup_that_runs_meanwhile_is_no_problem() -> None:
    running = "  backup: 20261122-180000F, status: in-progress, total files checked: 0, total valid files: 0\n"
    result = verify(Lab(verify={1: captured("verify_ok.txt") + running}))
    assert result["ok"] is True
    assert (result["backups_checked"], result["backups_usable"]) == (4, 3)


def test_a_backup_that_expires_meanwhile_is_not_judged() -> None:
    lab = Lab()
    said = lab.verify[1].splitlines(keepends=True)
    lab.verify[1] = "".join(said[:-2])
    lab.acts["verify"] = lambda lab, _argv: lab.stanza["backup"].pop()
    assert verify(lab)["ok"] is True


def test_a_repository_without_a_backup_does_not_pass() -> None:
    lab = Lab(verify={1: "stanza: lab\nstatus: ok\n"})
    lab.stanza["backup"] = []
    assert codes(verify(lab)) == [("no_backup", "")]


def test_damaged_pages_of_the_database() -> None:
    lab = Lab()
    lab.stanza["backup"][2]["error"] = True
    result = verify(lab)
    assert codes(result) == [("backup_damaged", DIFF)]
    assert result["backups_usable"] == 2


def test_each_repository_is_verified_and_a_dead_one_is_a_problem() -> None:
    lab = Lab(entry("info_repo2_dead.json"))
    lab.stanza["backup"] = lab.stanza["backup"][:3]
    result = verify(lab)
    assert [(one["repository"], one["code"]) for one in result["problems"]] == [(2, "store_unreachable")]
    assert [one for one in lab.ran if lab.verb(one) == "verify" and "--repo=2" in one] == []
    assert verify(lab, 1)["ok"] is True
    assert [(one["repository"], one["code"]) for one in verify(lab, 7)["problems"]] == [(7, "no_repository")]


def test_no_repository_at_all_is_an_error() -> None:
    with pytest.raises(DedicatedError) as caught:
        verify(Lab(entry("info_unreachable.json")))
    assert code_of(caught.value) == "store_unreachable"


def test_the_failure_tells_the_first_and_holds_all() -> None:
    result = verify(Lab(verify={1: captured("verify_bad.txt")}))
    with pytest.raises(DedicatedError) as caught:
        service.must_be_whole(result)
    assert code_of(caught.value) == "repository_damaged"
    assert caught.value.details["problems"] == result["problems"]
    assert caught.value.msg.startswith("repository 1: 17-1 wal_invalid: 1 of 7 segments are not valid (1 other), and 3")

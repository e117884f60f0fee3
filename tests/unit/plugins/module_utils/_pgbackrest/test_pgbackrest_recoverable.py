# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gaps in the archive, and from when until when a moment can be recovered."""

from __future__ import annotations

import json
import typing as t

import pytest
from pgbackrest_lab import NOW, Lab, captured, entry, listing, pgbackrest, server, standby

from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest import parse, plan, service

HISTORY = "1\t0/6000060\tno recovery target specified\n"


def show(lab: Lab, **options: bool) -> dict[str, t.Any]:
    return service.show(pgbackrest(lab), **options)


def seg(number: int, timeline: int = 1) -> str:
    return plan.name_of(timeline, number, 16 << 20)


def two_timelines(first: t.Iterable[int], second: t.Iterable[int], **changes: t.Any) -> Lab:
    """A leader that was promoted in segment 6, and has closed 6, 7 and 8 since."""
    done = {f"{seg(number, 2)}.done": NOW - (8 - number) * 60 - 10 for number in (6, 7, 8)}
    return Lab(
        postgres=server(
            wal=seg(9, 2), lsn="0/9000060", history=HISTORY, last_archived=seg(8, 2), files=done, **changes
        ),
        archives={(1, "17-1"): {**listing(*first), **listing(*second, timeline=2)}},
    )


def test_names_and_numbers_of_segments() -> None:
    assert plan.number_of("0000000100000002000000FF", 16 << 20) == 2 * 256 + 255
    assert plan.name_of(1, 2 * 256 + 255, 16 << 20) == "0000000100000002000000FF"
    assert plan.number_of("000000010000000200000003", 1 << 30) == 11
    assert plan.name_of(1, 11, 1 << 30) == "000000010000000200000003"


def test_nothing_is_missing() -> None:
    seen = show(Lab())
    assert seen["wal"] == [
        {
            "repository": 1,
            "archive_id": "17-1",
            "timeline": 1,
            "first": seg(1),
            "last": seg(8),
            "segments": 8,
            "missing": [],
            "missing_count": 0,
        }
    ]
    assert seen["recoverable"] == {
        "earliest": 1795370041,
        "latest": NOW - 10,
        "lag_seconds": 10.0,
        "why": "closed_at",
        "at_risk_seconds": 10.0,
    }


def test_the_real_gap_which_pgbackrest_does_not_see() -> None:
    lab = Lab(archives={(1, "17-1"): json.loads(captured("ls_gap.json"))})
    (wal,) = show(lab)["wal"]
    assert (wal["missing"], wal["missing_count"]) == ([seg(6)], 1)


def test_five_real_timelines_are_whole() -> None:
    told = entry("info_timelines.json")
    lab = Lab(
        told, json.loads(captured("server_leader.json")), {(1, "17-1"): json.loads(captured("ls_timelines.json"))}
    )
    seen = show(lab)
    assert [(one["timeline"], one["missing_count"]) for one in seen["wal"]] == [(number, 0) for number in range(1, 6)]
    assert seen["recoverable"]["why"] == "closed_at"
    assert seen["recoverable"]["latest"] == 1795370595


def test_wal_before_the_oldest_backup_may_be_missing() -> None:
    lab = Lab(archives={(1, "17-1"): listing(*range(2, 9))})
    assert show(lab)["wal"][0]["missing_count"] == 0


@pytest.mark.parametrize(
    ("there", "missing", "latest", "earliest", "why"),
    [
        # The oldest backup (2, 3) cannot be made consistent; the incremental one (4, 5) reaches the end.
        ((1, 3, 4, 5, 6, 7, 8), [2], NOW - 10, 1795370046, "closed_at"),
        # Beyond a gap only a newer backup (7, 8) leads.
        ((2, 3, 4, 5, 7, 8), [6], NOW - 10, 1795370041, "closed_at"),
        # The server calls 7 and 8 archived, and they are not there.
        ((2, 3, 4, 5, 6), [7, 8], NOW - 100, 1795370041, "gap"),
        ((2, 3, 4, 5, 6, 8), [7], NOW - 100, 1795370041, "gap"),
    ],
)
def test_gaps(there: tuple[int, ...], missing: list[int], latest: float, earliest: int, why: str) -> None:
    lab = Lab(archives={(1, "17-1"): listing(*there, at=NOW - 100 if 8 not in there or 7 not in there else NOW - 9)})
    seen = show(lab)
    assert seen["wal"][0]["missing"] == [seg(number) for number in missing]
    assert seen["recoverable"]["latest"] == latest
    assert seen["recoverable"]["earliest"] == earliest
    assert seen["recoverable"]["why"] == why


def test_twenty_are_named_and_all_are_counted() -> None:
    files = {f"{seg(60)}.done": NOW - 10}
    lab = Lab(postgres=server(wal=seg(61), files=files), archives={(1, "17-1"): listing(*range(1, 9), 60)})
    (wal,) = show(lab)["wal"]
    assert (len(wal["missing"]), wal["missing_count"]) == (20, 51)
    assert wal["missing"][0] == seg(9)


def test_what_waits_is_not_missing() -> None:
    files = {f"{seg(8)}.done": NOW - 10, f"{seg(9)}.ready": NOW - 5, f"{seg(10)}.done": NOW - 1}
    lab = Lab(postgres=server(wal=seg(11), files=files))
    seen = show(lab)
    assert seen["wal"][0]["missing_count"] == 0
    assert seen["recoverable"]["latest"] == NOW - 10
    assert (seen["archiver"]["waiting"], seen["archiver"]["oldest_waiting_at"]) == (1, NOW - 5)


def test_a_new_timeline_begins_in_the_segment_in_which_the_old_one_was_left() -> None:
    seen = show(two_timelines(range(1, 6), (6, 7, 8)))
    assert [(one["timeline"], one["missing_count"]) for one in seen["wal"]] == [(1, 0), (2, 0)]
    assert (seen["recoverable"]["latest"], seen["recoverable"]["why"]) == (NOW - 10, "closed_at")


def test_what_the_old_leader_did_not_send_any_more_is_missing() -> None:
    """The new leader holds the segment, marked as done when it was a standby, and never sends it."""
    lab = two_timelines(range(1, 5), (6, 7, 8))
    # No backup is newer than the gap.
    lab.stanza["backup"] = lab.stanza["backup"][:1]
    lab.postgres["files"][f"{seg(5)}.done"] = NOW - 200
    seen = show(lab)
    assert [one["missing"] for one in seen["wal"]] == [[seg(5)], []]
    assert (seen["recoverable"]["why"], seen["recoverable"]["latest"]) == ("gap", NOW - 9)


def test_a_timeline_of_which_nothing_came_is_missing_as_a_whole() -> None:
    lab = two_timelines(range(1, 6), ())
    (_one, two) = show(lab)["wal"]
    assert (two["timeline"], two["first"], two["segments"]) == (2, None, 0)
    assert two["missing"] == [seg(6, 2), seg(7, 2), seg(8, 2)]


def test_an_abandoned_timeline_is_not_the_way() -> None:
    """Segments that were written on it after the new one had left it."""
    lab = two_timelines(range(1, 9), (6, 7))
    seen = show(lab)
    assert seen["wal"][0]["missing_count"] == 0
    assert seen["wal"][1]["missing"] == [seg(8, 2)]
    # The last backup (7, 8 on timeline 1) is not on the way either.
    assert seen["recoverable"]["earliest"] == 1795370041
    assert seen["recoverable"]["why"] == "gap"


def test_a_mark_that_was_copied_with_the_server_is_not_the_moment_of_closing() -> None:
    """After pg_rewind all marks are as old as the copy; when the segment came says more."""
    lab = Lab(postgres=server(files={f"{seg(8)}.done": NOW - 1}), archives={(1, "17-1"): listing(*range(1, 9))})
    assert show(lab)["recoverable"] == {
        "earliest": 1795370041,
        "latest": NOW - 9,
        "lag_seconds": 9.0,
        "why": "archived_at",
        "at_risk_seconds": 9.0,
    }


def test_without_a_mark_the_arrival_counts() -> None:
    lab = Lab(postgres=server(files={}))
    assert (show(lab)["recoverable"]["latest"], show(lab)["recoverable"]["why"]) == (NOW - 9, "archived_at")


@pytest.mark.parametrize(
    ("changes", "gap", "at_risk"),
    [
        # Idle for long: what was committed before archive_timeout would have been closed, and is in the repository.
        ({"archive_timeout": 30}, False, 30.0),
        ({"archive_timeout": 3600}, False, 600.0),
        ({"archive_timeout": 0}, False, 600.0),
        # Something waits: all of it is at risk.
        ({"archive_timeout": 30, "files": {f"{seg(8)}.done": NOW - 600, f"{seg(9)}.ready": NOW - 5}}, False, 600.0),
        ({"archive_timeout": 30}, True, 600.0),
    ],
)
def test_what_is_at_risk_while_nothing_is_written(changes: dict[str, t.Any], gap: bool, at_risk: float) -> None:
    there = listing(*(number for number in range(1, 9) if not gap or number != 7), at=NOW - 600)
    files = {f"{seg(8)}.done": NOW - 600}
    lab = Lab(postgres=server(**{"files": files, **changes}), archives={(1, "17-1"): there})
    assert show(lab)["recoverable"]["at_risk_seconds"] == at_risk


def test_on_a_standby_nobody_knows() -> None:
    seen = show(Lab(postgres=standby()))
    assert seen["recoverable"] == {
        "earliest": 1795370041,
        "latest": None,
        "lag_seconds": None,
        "at_risk_seconds": None,
        "why": "standby",
    }
    assert seen["archiver"]["in_recovery"] is True
    assert seen["wal"][0]["missing_count"] == 0


def test_without_asking_the_server() -> None:
    lab = Lab()
    seen = show(lab, server=False)
    assert seen["archiver"] is None
    assert seen["recoverable"]["why"] == "server_not_asked"
    assert not any(one[0] == "psql" for one in lab.ran)


@pytest.mark.parametrize(
    ("changes", "latest", "why"),
    [
        ({}, NOW - 10, "closed_at"),
        ({"files": {}}, NOW - 9, "archived_at"),
        ({"files": {}, "last_archived": "00000002.history"}, None, "nothing_archived"),
        ({"files": {}, "last_archived": None, "last_archived_at": None}, None, "nothing_archived"),
        # A mark of an earlier timeline is one of a standby.
        ({"files": {f"{seg(8)}.done": NOW - 10}, "wal": seg(9, 2), "last_archived": None}, None, "nothing_archived"),
    ],
)
def test_without_listing_the_servers_word_counts(changes: dict[str, t.Any], latest: float | None, why: str) -> None:
    lab = Lab(postgres=server(**changes))
    seen = show(lab, wal=False)
    assert (seen["recoverable"]["latest"], seen["recoverable"]["why"]) == (latest, why)
    assert seen["wal"] == []
    assert "repo-ls" not in [lab.verb(one) for one in lab.ran]


def test_a_damaged_backup_and_what_builds_on_it_are_not_good() -> None:
    lab = Lab()
    lab.stanza["backup"][0]["error"] = True
    assert show(lab)["recoverable"]["why"] == "no_backup"
    lab = Lab()
    lab.stanza["backup"][1]["error"] = True
    good = plan.good_backups(parse.info(json.dumps([lab.stanza]), "lab"))
    assert [one.type for one in good] == ["full", "diff"]


def test_a_backup_whose_full_one_is_gone_is_not_good() -> None:
    lab = Lab()
    del lab.stanza["backup"][0]
    assert show(lab)["recoverable"] == {
        "earliest": None,
        "latest": None,
        "lag_seconds": None,
        "at_risk_seconds": None,
        "why": "no_backup",
    }


def test_a_foreign_server_says_nothing_about_these_archives() -> None:
    seen = show(Lab(postgres=server(system_id="1")))
    assert seen["recoverable"]["why"] == "no_backup"


def test_the_server_is_asked_before_the_lists_are_made() -> None:
    lab = Lab()
    show(lab)
    assert [lab.verb(one) for one in lab.ran] == ["psql", "info", "repo-ls"]


def test_of_two_repositories_the_better_one_counts() -> None:
    lab = Lab(entry("info_repo2_empty.json"))
    lab.stanza["archive"].append({"database": {"id": 1, "repo-key": 2}, "id": "17-1"})
    lab.stanza["db"].append({**lab.stanza["db"][0], "repo-key": 2})
    second = [{**one, "database": {"id": 1, "repo-key": 2}} for one in lab.stanza["backup"][:1]]
    lab.stanza["backup"] = [*lab.stanza["backup"][:1], *second]
    lab.archives = {(1, "17-1"): listing(*range(1, 5)), (2, "17-1"): listing(*range(1, 9))}
    seen = show(lab)
    assert (seen["recoverable"]["latest"], seen["recoverable"]["why"]) == (NOW - 10, "closed_at")
    assert [(one["repository"], one["missing_count"]) for one in seen["wal"]] == [(1, 4), (2, 0)]
    assert [one["recoverable"]["why"] for one in seen["repositories"]] == ["gap", "closed_at"]
    assert [one["backups"] for one in seen["repositories"]] == [[lab.stanza["backup"][0]["label"]]] * 2


def test_a_repository_that_is_away_promises_nothing_and_the_other_keeps_its_promise() -> None:
    """Its segments wait for the one that is away; what the other one has is not at risk."""
    files = {"000000010000000000000007.done": NOW - 70, "000000010000000000000008.ready": NOW - 500}
    lab = Lab(
        entry("info_repo2_dead.json"),
        server(files=files, archive_timeout=30, last_archived="000000010000000000000007", last_failed_at=NOW - 3),
    )
    lab.archives = {(1, "17-1"): listing(*range(1, 9), at=NOW - 490)}
    seen = show(lab)
    assert [one["recoverable"]["why"] for one in seen["repositories"]][1] == "repository_not_asked"
    assert seen["recoverable"] == seen["repositories"][0]["recoverable"]
    assert (seen["recoverable"]["lag_seconds"], seen["recoverable"]["at_risk_seconds"]) == (490, 30)
    lab.archives = {(1, "17-1"): listing(*range(1, 8), at=NOW - 490)}
    assert show(lab)["recoverable"]["at_risk_seconds"] == 490

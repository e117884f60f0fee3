# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From which backup and which WAL a moment is restored, and when it is refused."""

from __future__ import annotations

import itertools
import json
import pathlib
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest import parse
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest.restore_plan import (
    STAGES,
    Archive,
    Backup,
    History,
    Place,
    Plan,
    Request,
    Segment,
    asked,
    backups_of,
    decide,
    files_of,
    moment_of,
    next_step,
    told,
)

ROOM = 1 << 40
MIB = 1 << 20


def wal(timeline: int, number: int) -> str:
    return f"{timeline:08X}{number // 256:08X}{number % 256:08X}"


def backup(label: str, ended: int, number: int, timeline: int = 1, **more: t.Any) -> Backup:
    return Backup(label, "full", ended, number * 16 * MIB + 100, wal(timeline, number), 100 * MIB, **more)


def segments(timeline: int, first: int, last: int, at: int, every: int = 60) -> tuple[Segment, ...]:
    return tuple(
        Segment(timeline, number, at + every * index, wal(timeline, number))
        for index, number in enumerate(range(first, last + 1))
    )


# Two backups, at 1000 and 2000; WAL closed every minute from 940 to 3100.
ARCHIVE = Archive((backup("A", 1000, 10), backup("B", 2000, 27)), segments(1, 10, 46, 940))


def request(kind: str, value: str = "", **more: t.Any) -> Request:
    found = asked("copy", kind, value, **more)
    assert isinstance(found, Request)
    return found


def at(moment: float, **more: t.Any) -> Request:
    return request("time", told(moment), **more)


def planned(wish: Request, archive: Archive = ARCHIVE, free: int = ROOM) -> Plan:
    found = decide(wish, archive, free)
    assert isinstance(found, Plan), found
    return found


def refused(wish: Request, archive: Archive = ARCHIVE, free: int = ROOM) -> Refuse:
    found = decide(wish, archive, free)
    assert isinstance(found, Refuse), found
    return found


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-30 17:59:59+01:00",
        "2026-11-30T17:59:59+01",
        "2026-11-30 17:59:59 +0100",
        "2026-11-30T16:59:59Z",
        "2026-11-30 16:59:59.000+00",
    ],
)
def test_one_moment_in_the_forms_of_iso_8601(text: str) -> None:
    assert moment_of(text) == moment_of("2026-11-30 16:59:59+00:00")


@pytest.mark.parametrize(
    ("text", "why"), [("2026-11-30 17:59:59", "no zone"), ("2026-11-30", "no zone"), ("yesterday", "ISO 8601")]
)
def test_a_time_without_a_zone_is_refused(text: str, why: str) -> None:
    found = asked("copy", "time", text)
    assert isinstance(found, Refuse)
    assert found.code == "bad_time"
    assert why in found.why


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("lsn", "12"),
        ("xid", "12a"),
        ("name", "a b"),
        ("name", "x" * 64),
        ("latest", "now"),
        ("time", ""),
        ("moment", "x"),
    ],
)
def test_targets_that_are_none(kind: str, value: str) -> None:
    found = asked("copy", kind, value)
    assert isinstance(found, Refuse)
    assert found.code == "bad_target"


@pytest.mark.parametrize("place", ["", "A", "../x", "a/b", "-a", "x" * 41])
def test_a_place_that_is_no_name(place: str) -> None:
    found = asked(place, "latest", "")
    assert isinstance(found, Refuse)
    assert found.code == "bad_place"


@pytest.mark.parametrize(("moment", "label"), [(1001, "A"), (2000, "A"), (2001, "B"), (3099, "B")])
def test_the_newest_backup_that_ended_before_the_target(moment: int, label: str) -> None:
    assert planned(at(moment)).backup.label == label


def test_a_damaged_backup_is_none() -> None:
    archive = Archive((backup("A", 1000, 10), backup("B", 2000, 27, damaged=True)), ARCHIVE.segments)
    assert planned(at(3000), archive).backup.label == "A"
    assert refused(at(3000), Archive((backup("B", 2000, 27, damaged=True),), ARCHIVE.segments)).code == "no_backup"


@pytest.mark.parametrize("moment", [999, 1000, 3101, 9999])
def test_outside_of_what_can_be_reached_the_range_is_told(moment: int) -> None:
    refusal = refused(at(moment))
    assert refusal.code == "target_outside"
    assert told(1000) in refusal.why
    assert told(3100) in refusal.why


def test_a_position_in_the_wal() -> None:
    assert planned(request("lsn", "0/B000000")).backup.label == "A"
    assert planned(request("lsn", "0/2EFFFFFF")).backup.label == "B"
    assert refused(request("lsn", "0/2F000000")).code == "target_outside"
    assert refused(request("lsn", "0/1000")).code == "target_outside"


@pytest.mark.parametrize("wish", [request("latest"), request("name", "before"), request("xid", "777")])
def test_of_what_nobody_knows_when_it_was_the_newest_backup(wish: Request) -> None:
    assert planned(wish).backup.label == "B"


def test_a_backup_that_is_asked_for() -> None:
    assert planned(request("latest", label="A")).backup.label == "A"
    assert refused(request("latest", label="C")).code == "no_such_backup"
    # It ended after the target.
    assert refused(at(1500, label="B")).code == "target_outside"


@pytest.mark.parametrize("missing", range(27, 46))
def test_a_missing_segment_ends_what_can_be_reached(missing: int) -> None:
    archive = Archive(ARCHIVE.backups, tuple(one for one in ARCHIVE.segments if one.number != missing))
    end = 940 + (missing - 1 - 10) * 60
    if missing == 27:
        assert refused(at(2500), archive).code == "wal_missing"
        return
    assert planned(at(end), archive).last_wal == wal(1, missing - 1)
    refusal = refused(at(end + 1), archive)
    assert refusal.code == "wal_missing"
    assert told(end) in refusal.why
    for wish in (request("latest"), request("name", "x")):
        assert refused(wish, archive).code == "wal_missing"
    # An older backup does not help over the gap, and is not needed before it.
    assert planned(at(1500), archive).backup.label == "A"


def test_the_archive_may_end_early_and_that_is_no_gap() -> None:
    archive = Archive(ARCHIVE.backups, ARCHIVE.segments[:-5])
    assert planned(request("latest"), archive).latest == 2800
    assert refused(at(2801), archive).code == "target_outside"


# Timeline 2 from a failover at 2500; 3 from a restore at 4000 to the moment 2200, on timeline 1.
BRANCHED = Archive(
    (backup("A", 1000, 10), backup("B", 2000, 27)),
    (
        *segments(1, 10, 35, 940),
        *segments(2, 36, 50, 2530),
        *segments(3, 31, 40, 4060),
    ),
    {2: History(2500, ((1, 36 * 16 * MIB + 5000),)), 3: History(4000, ((1, 31 * 16 * MIB + 99),))},
)


# 2440 is when the last whole segment of timeline 1 was closed; what came after it is in the first one of timeline 2.
@pytest.mark.parametrize(
    ("moment", "timeline"), [(2200, 1), (2440, 1), (2441, 2), (2499, 2), (2500, 2), (3300, 2), (4000, 3), (4500, 3)]
)
def test_the_timeline_on_which_the_site_lived_then(moment: int, timeline: int) -> None:
    assert planned(at(moment), BRANCHED).timeline == timeline


def test_another_timeline_is_named() -> None:
    assert planned(at(3300, timeline=2), BRANCHED).timeline == 2
    assert refused(at(4500, timeline=7), BRANCHED).code == "no_timeline"
    assert planned(request("latest"), BRANCHED).timeline == 3


def test_room_is_seen_to_beforehand() -> None:
    assert planned(at(1500), free=120 * MIB).need_bytes == 120 * MIB
    refusal = refused(at(1500), free=120 * MIB - 1)
    assert refusal.code == "no_room"
    assert "120 MiB" in refusal.what


def test_nothing_there() -> None:
    assert refused(request("latest"), Archive()).code == "no_backup"


# -- what comes next -------------------------------------------------------------------------------------------------

STEPS = {"planned": "fetch", "fetched": "recover", "recovered": "open"}


@pytest.mark.parametrize(("stage", "until"), [*itertools.product(STAGES, STAGES[1:])])
def test_every_stage_goes_on_to_the_next(stage: str, until: str) -> None:
    wish = at(1500)
    step = next_step(wish, Place(wish.as_state(), stage), until)
    assert step == ("nothing" if STAGES.index(stage) >= STAGES.index(until) else STEPS[stage])


def test_an_empty_place_is_planned() -> None:
    assert next_step(at(1500), Place(), "ready") == "plan"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("other", [at(1501), request("latest"), at(1500, timeline=2), at(1500, exclusive=True)])
def test_the_place_of_another_request(other: Request, stage: str) -> None:
    found = next_step(at(1500), Place(other.as_state(), stage), "ready")
    assert isinstance(found, Refuse)
    assert found.code == "place_taken"


def test_a_place_of_nobody() -> None:
    found = next_step(at(1500), Place(foreign=True), "ready")
    assert isinstance(found, Refuse)
    assert found.code == "place_foreign"


# -- what pgBackRest says --------------------------------------------------------------------------------------------


def test_files_of_a_listing() -> None:
    name = wal(2, 300)
    listing = {
        ".": {"type": "path"},
        "0000000200000001": {"type": "path"},
        f"{name[:16]}/{name}-{'a' * 40}.zst": {"type": "file", "size": 7, "time": 77},
        f"{name[:16]}/{name}.partial-{'a' * 40}.zst": {"type": "file", "size": 7, "time": 78},
        f"{name[:16]}/{name}.00000028.backup": {"type": "file", "size": 7, "time": 78},
        "00000002.history": {"type": "file", "size": 7, "time": 70},
        "archive.info": {"type": "file", "size": 7, "time": 70},
    }
    assert files_of(listing) == ([Segment(2, 300, 77, name)], {2: 70})


def test_backups_of_one_repository() -> None:
    fixture = pathlib.Path(__file__).parent / "fixtures" / "info_timelines.json"
    stanza = json.loads(fixture.read_text())[0]["name"]
    info = parse.info(fixture.read_text(), stanza)
    found = backups_of(info.backups, 1)
    assert [one.label for one in found] == [one.label for one in info.backups if one.repository == 1]
    assert found
    assert all(one.lsn_stop > 0 and len(one.wal_start) == 24 and one.database_bytes > 0 for one in found)
    assert backups_of(info.backups, 9) == []

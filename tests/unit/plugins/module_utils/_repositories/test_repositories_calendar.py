# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When backups begin, and whether that is in a peak."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._repositories.calendar import (
    begins_in,
    parse_calendar,
    parse_peak,
)

WORK = {"days": ["mon..fri"], "from": "08:00", "to": "18:00"}
NIGHT = {"days": ["sat"], "from": "22:00", "to": "02:00"}


@pytest.mark.parametrize(
    ("text", "weekdays", "days", "minutes"),
    [
        ("Sun *-*-* 01:30:00", {6}, 31, {90}),
        ("Mon..Sat *-*-* 01:30:00", {0, 1, 2, 3, 4, 5}, 31, {90}),
        ("Sat..Mon,Wed 1:05", {5, 6, 0, 2}, 31, {65}),
        ("monday 00:00", {0}, 31, {0}),
        ("2026-*-1,15 12:00", set(range(7)), 2, {720}),
        ("*-01,04,07,10-01..03 03:00", set(range(7)), 3, {180}),
        ("*-*~01 23:55", set(range(7)), 4, {1435}),
        ("*-*-1/10 05:00", set(range(7)), 4, {300}),
        ("*:0/30", set(range(7)), 31, {60 * hour + minute for hour in range(24) for minute in (0, 30)}),
        ("8..10:00", set(range(7)), 31, {480, 540, 600}),
        ("*-*-05", set(range(7)), 1, {0}),
        ("hourly", set(range(7)), 31, {60 * hour for hour in range(24)}),
        ("Weekly", {0}, 31, {0}),
        ("monthly", set(range(7)), 1, {0}),
        ("Fri *-*-13 00:00:00.5 Europe/Berlin", {4}, 1, {0}),
    ],
)
def test_what_is_understood(text: str, weekdays: set[int], days: int, minutes: set[int]) -> None:
    found = parse_calendar(text)
    assert (found.weekdays, len(found.days), found.minutes) == (weekdays, days, minutes)
    assert found.zone == ("Europe/Berlin" if "Berlin" in text else "")


@pytest.mark.parametrize(
    "text", ["", "at night", "Sun 25:00", "*-13-01 01:00", "*-*-32", "Mon..Fro 01:00", "01:30 Sun", "9-5:00", "*:0/0"]
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_calendar(text)


@pytest.mark.parametrize(
    ("calendar", "peak", "minute"),
    [
        ("Mon..Sat 01:30", WORK, None),
        ("Mon..Sat 08:00", WORK, 480),
        ("Sun 09:00", WORK, None),
        # Ten minutes of random delay reach into it, nine do not.
        ("Mon 07:49", WORK, None),
        ("Mon 07:50", WORK, 470),
        ("Mon 17:59", WORK, 1079),
        ("Mon 18:00", WORK, None),
        ("Sun 01:30", NIGHT, 90),
        ("Sun 02:00", NIGHT, None),
        ("Sat 01:30", NIGHT, None),
        ("Fri 23:55", {"days": ["sat"], "from": "00:00", "to": "06:00"}, 1435),
        ("*-*-01 12:00", {"days": [1], "from": "08:00", "to": "18:00"}, 720),
        ("*-*-02 12:00", {"days": [1], "from": "08:00", "to": "18:00"}, None),
        # The last day of a month is one of four.
        ("*-*-28 12:00", {"days": [-1], "from": "08:00", "to": "18:00"}, 720),
        ("*-*-27 12:00", {"days": [-1], "from": "08:00", "to": "18:00"}, None),
        ("*-*-01 00:30", {"days": ["-1"], "from": "20:00", "to": "02:00"}, 30),
        ("Sun 12:00", {"days": ["mon..fri", 1], "from": "08:00", "to": "18:00"}, 720),
        ("Sun 12:00", {"from": "00:00", "to": "24:00"}, 720),
        ("*:0/15", WORK, 480),
    ],
)
def test_whether_it_begins_in_a_peak(calendar: str, peak: dict[str, t.Any], minute: int | None) -> None:
    assert begins_in(parse_calendar(calendar), parse_peak(peak)) == minute


@pytest.mark.parametrize(
    ("peak", "words"),
    [
        ("mon", "mapping"),
        ({**WORK, "till": "19:00"}, "till is none of"),
        ({**WORK, "from": 480}, "in quotes"),
        ({**WORK, "to": "24:30"}, "in quotes"),
        ({**WORK, "to": "08:00"}, "no time between"),
        ({**WORK, "days": []}, "days is a list"),
        ({**WORK, "days": [0]}, "no day of a month"),
        ({**WORK, "days": ["someday"]}, "no day of the week"),
        ({**WORK, "days": [True]}, "no day of the week"),
    ],
)
def test_a_peak_that_is_none(peak: t.Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_peak(peak)

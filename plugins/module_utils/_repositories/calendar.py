# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""When backups begin, and whether that is while the books are worked on hardest.

The law.

* What of systemd's calendar is not understood is refused: it is never taken for a time outside the peaks.
* Months, years and seconds are not looked at: a calendar that could begin on such a day, at such a minute, does. A day
  counted from a month's end is each of the days that it can be.
* A timer may begin late by its random delay; all of that time has to be outside the peaks.
* Two zones are not converted into each other. Peaks and calendars are written in the same one.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONG = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
DAY = 24 * 60
# RandomizedDelaySec of roles/pgbackrest, in minutes.
DELAY = 10
# systemd.time(7).
SHORT = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
    "semiannually": "*-01,07-01 00:00:00",
    "yearly": "*-01-01 00:00:00",
    "annually": "*-01-01 00:00:00",
}
_WEEKDAYS = re.compile(r"[A-Za-z]{3,9}(?:(?:\.\.|,|-)[A-Za-z]{3,9})*,?")
_DATE = re.compile(r"(?:(?P<year>[^-~]+)-)?(?P<month>[^-~]+)(?P<sign>[-~])(?P<day>[^-~]+)")
_TIME = re.compile(r"(?P<hour>[^:]+):(?P<minute>[^:]+)(?::(?P<second>[^:]+))?")
_ZONE = re.compile(r"UTC|[A-Za-z]+(?:/[A-Za-z0-9_+-]+)+")
_PART = re.compile(r"(?:(\*)|(\d+)(?:\.\.(\d+))?)(?:/(\d+))?")
_CLOCK = re.compile(r"([01]?\d|2[0-4]):([0-5]\d)")


@dataclasses.dataclass(frozen=True)
class Calendar:
    """When something begins: days of the week (0 is Monday), days of the month, minutes of the day."""

    weekdays: frozenset[int]
    days: frozenset[int]
    minutes: frozenset[int]
    zone: str = ""


@dataclasses.dataclass(frozen=True)
class Peak:
    """A window on days of the week or of the month; ``to`` at or before ``since`` is on the next day."""

    weekdays: frozenset[int]
    days: frozenset[int]
    since: int
    to: int
    zone: str
    text: str


def _numbers(text: str, low: int, high: int, what: str) -> frozenset[int]:
    """One component of a date or a time."""
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"the {what} {text!r} is not understood")
        star, first, last, step = match.groups()
        begin = low if star else int(first)
        # A value with a repetition goes on to the end; one without is itself alone.
        end = int(last) if last else high if star or step else begin
        if not low <= begin <= end <= high or (step is not None and int(step) < 1):
            raise ValueError(f"the {what} {text!r} is not from {low} to {high}")
        found.update(range(begin, end + 1, int(step or 1)))
    return frozenset(found)


def _weekday(word: str) -> int:
    low = word.lower()
    if low in WEEKDAYS:
        return WEEKDAYS.index(low)
    if low in LONG:
        return LONG.index(low)
    raise ValueError(f"{word!r} is no day of the week")


def _weekdays(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.rstrip(",").split(","):
        first, _dots, last = part.replace("..", "-").partition("-")
        begin, end = _weekday(first), _weekday(last or first)
        found.update((begin + count) % 7 for count in range((end - begin) % 7 + 1))
    return frozenset(found)


def _from_end(numbers: t.Iterable[int]) -> frozenset[int]:
    """Which days of a month the last, the last but one and so on can be."""
    return frozenset(day for number in numbers for day in range(29 - number, 33 - number) if 1 <= day <= 31)


def _days(match: re.Match[str]) -> frozenset[int]:
    _numbers(match["year"] or "*", 1970, 2199, "year")
    _numbers(match["month"], 1, 12, "month")
    if match["sign"] == "~":
        return _from_end(_numbers(match["day"], 1, 28, "day"))
    return _numbers(match["day"], 1, 31, "day")


def parse_calendar(text: str) -> Calendar:
    """What of systemd's OnCalendar is understood: days of the week, a date, a time, a zone. Raises ValueError."""
    words = text.split()
    if len(words) in (1, 2) and words[0].lower() in SHORT:
        words[0:1] = SHORT[words[0].lower()].split()
    weekdays, days = frozenset(range(7)), frozenset(range(1, 32))
    hours = minutes = frozenset((0,))
    zone = ""
    if not words:
        raise ValueError("it is empty")
    if words[1:] and _ZONE.fullmatch(words[-1]):
        zone = words.pop()
    if words and _WEEKDAYS.fullmatch(words[0]):
        weekdays = _weekdays(words.pop(0))
    date = _DATE.fullmatch(words[0]) if words else None
    if date is not None:
        days = _days(date)
        del words[0]
    time = _TIME.fullmatch(words[0]) if words else None
    if time is not None:
        hours, minutes = _numbers(time["hour"], 0, 23, "hour"), _numbers(time["minute"], 0, 59, "minute")
        _numbers((time["second"] or "0").partition(".")[0], 0, 59, "second")
        del words[0]
    if words:
        raise ValueError(f"{' '.join(words)!r} is not understood")
    return Calendar(weekdays, days, frozenset(60 * hour + minute for hour in hours for minute in minutes), zone)


def _clock(value: t.Any, what: str) -> int:
    # YAML reads 08:00 without quotes as a number of minutes, to the base of 60.
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    minutes = 60 * int(match[1]) + int(match[2]) if match else -1
    if not 0 <= minutes <= DAY:
        raise ValueError(f'{what} is {value!r}: write it as "08:00", in quotes')
    return minutes


def parse_peak(value: t.Any) -> Peak:
    """One of ``pgbackrest_finance_peaks``. Raises ValueError."""
    if not isinstance(value, t.Mapping):
        raise ValueError("a peak is a mapping with days, from and to")
    unknown = sorted({str(key) for key in value} - {"days", "from", "to", "zone"})
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is none of days, from, to and zone")
    given = value.get("days", ["mon..sun"])
    if not isinstance(given, (list, tuple)) or not given:
        raise ValueError("days is a list like [mon..fri], or of days of the month like [1, 2, -1]")
    weekdays: set[int] = set()
    days: set[int] = set()
    for one in given:
        number = str(one).strip()
        if re.fullmatch(r"-?\d+", number) and not isinstance(one, bool):
            if not (1 <= int(number) <= 31 or -28 <= int(number) <= -1):
                raise ValueError(f"{number} is no day of a month: 1 to 31, or -1 for the last one and so on")
            days |= {int(number)} if int(number) > 0 else _from_end([-int(number)])
        else:
            weekdays |= _weekdays(number)
    since, to = _clock(value.get("from"), "from"), _clock(value.get("to"), "to")
    if since in (to, DAY):
        raise ValueError("from and to leave no time between them")
    text = f"{', '.join(str(one) for one in given)} {value['from']} to {value['to']}"
    return Peak(frozenset(weekdays), frozenset(days), since, to, str(value.get("zone") or ""), text)


def _next_weekdays(days: frozenset[int]) -> frozenset[int]:
    return frozenset((day + 1) % 7 for day in days)


def _next_days(days: frozenset[int]) -> frozenset[int]:
    return frozenset((*(day + 1 for day in days if day < 31), *(1 for day in days if day >= 28)))


# Days of the week, days of the month, first minute, and the first that is not in it any more.
_Span = tuple[frozenset[int], frozenset[int], int, int]


def _spans(weekdays: frozenset[int], days: frozenset[int], since: int, to: int) -> t.Iterator[_Span]:
    """A span of time that may go over midnight, each day by itself."""
    yield weekdays, days, since, min(to, DAY)
    if to > DAY:
        yield _next_weekdays(weekdays), _next_days(days), 0, to - DAY


def begins_in(calendar: Calendar, peak: Peak, delay: int = DELAY) -> int | None:
    """The first minute of the day at which it would begin inside the peak."""
    to = peak.to if peak.to > peak.since else peak.to + DAY
    windows = list(_spans(peak.weekdays, peak.days, peak.since, to))
    for minute in sorted(calendar.minutes):
        for weekdays, days, since, until in _spans(calendar.weekdays, calendar.days, minute, minute + delay + 1):
            for on, of, first, last in windows:
                if (weekdays & on or days & of) and since < last and first < until:
                    return minute
    return None

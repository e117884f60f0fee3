# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is promised of backups: when they are taken, when they are not, and how much may be lost."""

from __future__ import annotations

import dataclasses
import typing as t

from .calendar import DELAY, begins_in, parse_calendar, parse_peak

KINDS = ("full", "diff", "incr")
RPO_SECONDS = 60
# The same for both tiers: what a loss of a host costs differs between them, what an error in the books costs does not.
CALENDARS = {"full": "Sun *-*-* 01:30:00", "diff": "Mon..Sat *-*-* 01:30:00", "incr": ""}


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that cannot be taken, with a stable code. Never holds a secret."""

    code: str
    subject: str
    message: str


@dataclasses.dataclass(frozen=True)
class Policy:
    """An empty calendar: no backups of that kind by themselves."""

    full: str
    diff: str
    incr: str
    rpo_seconds: float

    @property
    def calendars(self) -> dict[str, str]:
        """Those that are taken by timers."""
        return {kind: text for kind in KINDS if (text := str(getattr(self, kind)))}

    def as_result(self) -> dict[str, t.Any]:
        return {**dataclasses.asdict(self), "calendars": self.calendars}


def _number(value: t.Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _wrong(message: str) -> Problem:
    return Problem("invalid-policy", "pgbackrest_policy", f"pgbackrest_policy: {message}")


def _calendar_problem(kind: str, given: t.Any) -> Problem | None:
    """Why a calendar cannot be taken."""
    if not isinstance(given, str) or not given.isprintable():
        return _wrong(f"{kind} is no calendar of systemd; write it like {CALENDARS['full']!r}")
    if not given.strip():
        empty = "full is empty, and without a full backup there is none; give a calendar"
        return _wrong(empty) if kind == "full" else None
    try:
        parse_calendar(given)
    except ValueError as exc:
        how = f"write days of the week, a date and a time, like {CALENDARS['diff']!r}"
        return _wrong(f"{kind} is {given!r}: {exc}; {how}")
    return None


def _rpo_problem(given: t.Any, elsewhere: t.Any) -> Problem | None:
    rpo = _number(given)
    if rpo is None or not 0 < rpo <= 86400:
        return _wrong(f"rpo_seconds is {given!r}; give the seconds of commits that may be lost, 60 for example")
    if elsewhere is not None and _number(elsewhere) != rpo:
        both = f"rpo_seconds is {rpo:g}, and dedicated_rpo_seconds promises {elsewhere}"
        return _wrong(f"{both}; there is one promise: remove one of them")
    return None


def read_policy(value: t.Any, rpo_seconds: t.Any = None) -> tuple[Policy | None, list[Problem]]:
    """``pgbackrest_policy`` over the defaults; ``rpo_seconds`` is what is promised elsewhere, if it is."""
    if not isinstance(value, t.Mapping):
        return None, [_wrong("it is a mapping with full, diff, incr and rpo_seconds")]
    given = {kind: value.get(kind, CALENDARS[kind]) for kind in KINDS}
    rpo = value.get("rpo_seconds", RPO_SECONDS if rpo_seconds is None else rpo_seconds)
    unknown = sorted({str(key) for key in value} - {*KINDS, "rpo_seconds"})
    problems = [
        _wrong(f"{', '.join(unknown)} is none of {', '.join(KINDS)} and rpo_seconds") if unknown else None,
        *(_calendar_problem(kind, given[kind]) for kind in KINDS),
        _rpo_problem(rpo, rpo_seconds),
    ]
    if any(problems):
        return None, [one for one in problems if one is not None]
    full, diff, incr = (str(given[kind]).strip() for kind in KINDS)
    return Policy(full, diff, incr, _number(rpo) or 0), []


def judge_policy(
    policy: t.Any, peaks: t.Any = (), archive_timeout: t.Any = None, rpo_seconds: t.Any = None
) -> list[Problem]:
    """All that is wrong with what is promised."""
    read, problems = read_policy(policy, rpo_seconds)
    if read is None:
        return problems
    timeout = _number(archive_timeout)
    if timeout is not None and (timeout > read.rpo_seconds or timeout <= 0):
        does = (
            f"closes a segment of WAL every {timeout:g} s" if timeout > 0 else "never closes a segment of WAL by itself"
        )
        problems.append(
            Problem(
                "rpo-not-kept",
                "postgres_archive_timeout",
                f"at most {read.rpo_seconds:g} s of commits may be lost (rpo_seconds), and PostgreSQL {does}, so that"
                " more than that is on its way; set postgres_archive_timeout to half of it, or promise less",
            )
        )
    if not isinstance(peaks, (list, tuple)):
        return [*problems, _no_peak("it is a list of mappings with days, from and to")]
    for one in peaks:
        problems += _in_peak(read, one)
    return problems


def _no_peak(message: str) -> Problem:
    return Problem("invalid-policy", "pgbackrest_finance_peaks", f"pgbackrest_finance_peaks: {message}")


def _in_peak(policy: Policy, value: t.Any) -> t.Iterator[Problem]:
    try:
        peak = parse_peak(value)
    except ValueError as exc:
        yield _no_peak(str(exc))
        return
    for kind, text in policy.calendars.items():
        calendar = parse_calendar(text)
        if calendar.zone != peak.zone:
            yield _no_peak(
                f"the peak {peak.text} is in the zone {peak.zone or 'of the host'}, and {kind} ({text!r}) in"
                f" {calendar.zone or 'that of the host'}; write both in the same one (a calendar ends with its zone)"
            )
            continue
        minute = begins_in(calendar, peak)
        if minute is not None:
            yield Problem(
                "backup-in-peak",
                f"pgbackrest_policy.{kind}",
                f"pgbackrest_policy.{kind} ({text!r}) would begin a backup at {minute // 60:02}:{minute % 60:02}, or up"
                f" to {DELAY} minutes later, in the peak {peak.text} (pgbackrest_finance_peaks); give it another time",
            )

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an experiment showed: pure functions from what the clients noted to figures and a verdict.

All times are seconds of CLOCK_MONOTONIC, which the hosts of a lab share with the machine that they run on.

The law of the ledger. A write is *acknowledged* when its COMMIT came back without a warning, *failed* when it ended
before COMMIT was sent, *indeterminate* otherwise. After healing, an acknowledged write is there exactly once; a failed
or never attempted one is not there; an indeterminate one may be.

The law of one leader. Every acknowledged write of the poller carries the timeline it was written on. Once a timeline
was acknowledged, no write that was sent later is acknowledged on an older one, and no timeline is acknowledged by two
members.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import typing as t
from collections.abc import Iterable, Mapping, Sequence

ACKNOWLEDGED = "acknowledged"
FAILED = "failed"
INDETERMINATE = "indeterminate"

Row = tuple[str, int]


# --- the ledger ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Write:
    client: str
    number: int
    sent: float
    fate: str
    ended: float | None = None
    error: str = ""

    @property
    def row(self) -> Row:
        return self.client, self.number


def parse_ledger(client: str, text: str) -> list[Write]:
    """The writes of one client from its file: T(ried), then A(cknowledged), F(ailed) or I(ndeterminate).

    A try without an end (its host died) is indeterminate. A last line that was cut short says nothing.
    """
    writes: dict[int, Write] = {}
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        kind, number, at, *rest = line.rstrip("\n").split(" ", 3)
        key, when = int(number), float(at)
        if kind == "T":
            if key in writes:
                raise ValueError(f"{client} tried {key} twice")
            writes[key] = Write(client, key, when, INDETERMINATE)
        else:
            fate = {"A": ACKNOWLEDGED, "F": FAILED, "I": INDETERMINATE}[kind]
            writes[key] = dataclasses.replace(writes[key], fate=fate, ended=when, error=" ".join(rest))
    return list(writes.values())


@dataclasses.dataclass(frozen=True)
class Books:
    """What the ledger says against what the database holds."""

    acknowledged: int
    failed: int
    indeterminate: int
    lost: tuple[Row, ...]
    phantom: tuple[Row, ...]
    duplicates: tuple[Row, ...]

    @property
    def whole(self) -> bool:
        return self.acknowledged > 0 and not (self.lost or self.phantom or self.duplicates)


def audit(writes: Iterable[Write], rows: Iterable[Row]) -> Books:
    fates = {write.row: write.fate for write in writes}
    there = collections.Counter(rows)
    count = collections.Counter(fates.values())
    may_be_there = {row for row, fate in fates.items() if fate != FAILED}
    return Books(
        count[ACKNOWLEDGED],
        count[FAILED],
        count[INDETERMINATE],
        lost=tuple(sorted(row for row, fate in fates.items() if fate == ACKNOWLEDGED and row not in there)),
        phantom=tuple(sorted(row for row in there if row not in may_be_there)),
        duplicates=tuple(sorted(row for row, times in there.items() if times > 1)),
    )


def longest_gap(moments: Iterable[float], begin: float, end: float) -> float:
    """The longest time within [begin, end] without any of the moments; the whole time if there is none."""
    inside = sorted(moment for moment in moments if begin <= moment <= end)
    edges = [begin, *inside, end]
    return max(later - earlier for earlier, later in itertools.pairwise(edges))


def gaps(acks: Mapping[str, Sequence[float]], begin: float, end: float) -> dict[str, float]:
    """For each client, and for all of them together under ``all``."""
    found = {client: longest_gap(moments, begin, end) for client, moments in acks.items()}
    found["all"] = longest_gap([moment for moments in acks.values() for moment in moments], begin, end)
    return found


# --- one leader at a time -----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Accepted:
    """A write that a member acknowledged to the poller on its own host."""

    member: str
    timeline: int
    sent: float
    ended: float


def split_brain(accepted: Iterable[Accepted]) -> list[str]:
    """Every breach of the law of one leader, in words; nothing when it held."""
    breaches = []
    owner: dict[int, str] = {}
    newest: Accepted | None = None
    # By the moment of acknowledgement: what was acknowledged before a later write was even sent is in front of it.
    known = sorted(accepted, key=lambda one: one.ended)
    for one in known:
        other = owner.setdefault(one.timeline, one.member)
        if other != one.member:
            breaches.append(f"{other} and {one.member} both acknowledged on timeline {one.timeline}")
        if newest is not None and one.timeline < newest.timeline and one.sent > newest.ended:
            breaches.append(
                f"{one.member} acknowledged on timeline {one.timeline} what was sent {one.sent - newest.ended:.2f} s "
                f"after {newest.member} had acknowledged on {newest.timeline}"
            )
        if newest is None or one.timeline > newest.timeline:
            newest = one
    return list(dict.fromkeys(breaches))


def leaders(accepted: Iterable[Accepted]) -> list[tuple[str, int, float, float]]:
    """Who acknowledged, in order: member, timeline, first and last acknowledgement."""
    found: list[tuple[str, int, float, float]] = []
    for one in sorted(accepted, key=lambda each: each.ended):
        if found and found[-1][:2] == (one.member, one.timeline):
            found[-1] = (*found[-1][:3], one.ended)
        else:
            found.append((one.member, one.timeline, one.ended, one.ended))
    return found


# --- requests -----------------------------------------------------------------------------------------------------

OK = "ok"
TURNED_AWAY = "turned away"  # 503 with Retry-After: an answer that says what to do
BROKEN = "broken"  # any other 5xx, an error of Odoo, or no answer at all
LOGGED_OUT = "logged out"


@dataclasses.dataclass(frozen=True)
class Request:
    target: str
    kind: str
    started: float
    took: float
    fate: str
    detail: str = ""


def fate_of(kind: str, status: int | None, headers: Mapping[str, str], body: str) -> tuple[str, str]:
    """The fate of a request, and what is to be said of it. No status: there was no answer."""
    if status is None:
        return BROKEN, body[:200]
    if status == 503 and headers.get("retry-after"):
        return TURNED_AWAY, ""
    if kind == "call" and "SessionExpired" in body:
        return LOGGED_OUT, body[:200]
    if kind == "page" and status in (302, 303) and "/web/login" in headers.get("location", ""):
        return LOGGED_OUT, headers["location"]
    if status != 200:
        return BROKEN, f"{status} {body[:160]}"
    if kind == "call" and '"result"' not in body:
        return BROKEN, body[:200]
    return OK, ""


@dataclasses.dataclass(frozen=True)
class Served:
    """The requests of a target in a stretch of time."""

    asked: int
    fates: dict[str, int]
    longest: float
    outage: float
    examples: tuple[str, ...]

    def count(self, fate: str) -> int:
        return self.fates.get(fate, 0)


def serve(requests: Iterable[Request], begin: float, end: float) -> Served:
    """What was under way between begin and end. ``outage``: from the first that did not end well to the last."""
    chosen = [one for one in requests if one.started + one.took >= begin and one.started <= end]
    bad = [one for one in chosen if one.fate != OK]
    outage = max((one.started + one.took for one in bad), default=0.0) - min((one.started for one in bad), default=0.0)
    return Served(
        len(chosen),
        dict(collections.Counter(one.fate for one in chosen)),
        max((one.took for one in chosen), default=0.0),
        outage,
        tuple(dict.fromkeys(f"{one.kind} {one.fate}: {one.detail}" for one in bad))[:5],
    )


# --- the verdict --------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Promise:
    """What must hold. None: nothing is promised of this figure. That the ledger is whole is always promised."""

    write_gap: float | None = None
    write_gap_p95: float | None = None
    redis_gap: float | None = None
    # Requests through edges that the fault did not hit: how many may fail or be turned away, and the longest wait.
    # "workers": as many as can be in flight at once.
    broken: int | str | None = "workers"
    turned_away: int | str | None = None
    wait: float | None = None
    outage: float | None = None
    sessions: bool = True
    leader: str = "any"  # any, stays, moves
    recovery: float = 300.0


@dataclasses.dataclass(frozen=True)
class Figures:
    """What was measured in one run."""

    books: Books
    breaches: tuple[str, ...]
    write_gap: float
    redis_gap: float | None
    served: Served
    logged_out: int
    session_kept: bool
    moved: bool
    recovery: float | None
    members_agree: bool
    workers: int
    # The longest gaps that there were before the fault: what this machine does to the clients by itself.
    quiet_gap: float = 0.0
    quiet_redis_gap: float = 0.0
    postings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    said: str


def at_most(name: str, figure: float | None, bound: float | None, unit: str = " s", quiet: float = 0.0) -> list[Check]:
    """A figure against its bound; what was there without the fault is not the fault's."""
    if bound is None:
        return []
    said = f"at most {bound:g}{unit}" + (f", {quiet:.2f}{unit} without a fault" if quiet else "")
    if figure is None:
        return [Check(name, False, f"not measured ({said})")]
    return [Check(name, figure <= bound + quiet, f"{round(figure, 2):g}{unit} ({said})")]


def judge(promise: Promise, seen: Figures) -> list[Check]:
    """Every promise with what became of it."""

    def allowed(bound: int | str | None) -> float | None:
        return seen.workers if bound == "workers" else t.cast("int | None", bound)

    books = seen.books
    checks = [
        Check(
            "ledger whole",
            books.whole,
            f"{books.acknowledged} acknowledged, lost {len(books.lost)}, phantom {len(books.phantom)}, "
            f"duplicates {len(books.duplicates)}",
        ),
        Check("one leader", not seen.breaches, "; ".join(seen.breaches) or "never two"),
        Check("members agree", seen.members_agree, "same rows on all" if seen.members_agree else "rows differ"),
        Check("postings", not seen.postings, "; ".join(seen.postings) or "balance, no gap, none twice"),
        *at_most("write gap", seen.write_gap, promise.write_gap, quiet=seen.quiet_gap),
        *at_most("redis gap", seen.redis_gap, promise.redis_gap, quiet=seen.quiet_redis_gap),
        *at_most("requests broken", seen.served.count(BROKEN), allowed(promise.broken), ""),
        *at_most("requests turned away", seen.served.count(TURNED_AWAY), allowed(promise.turned_away), ""),
        *at_most("longest wait", seen.served.longest, promise.wait),
        *at_most("outage of requests", seen.served.outage, promise.outage),
        *at_most("full redundancy", seen.recovery, promise.recovery),
    ]
    if promise.sessions:
        kept = seen.session_kept and not seen.logged_out
        checks.append(Check("sessions kept", kept, f"{seen.logged_out} answers said logged out"))
    if promise.leader != "any":
        said = "the leader moved" if seen.moved else "the leader stayed"
        checks.append(Check("leader", seen.moved == (promise.leader == "moves"), said))
    return checks


# --- over many runs -----------------------------------------------------------------------------------------------


def percentile(values: Sequence[float], part: float) -> float:
    """Nearest rank: a value that was really seen, never one between two."""
    if not values:
        raise ValueError("a percentile of nothing")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part / 100 * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "n": len(values),
        "p50": round(percentile(values, 50), 3),
        "p95": round(percentile(values, 95), 3),
        "max": round(max(values), 3),
    }


FIGURES = ("write_gap", "redis_gap", "http_wait", "http_broken", "http_turned_away", "outage", "recovery")


def summarise(results: Sequence[Mapping[str, t.Any]]) -> dict[str, dict[str, t.Any]]:
    """Per experiment: how many runs held, and the spread of every figure."""
    found: dict[str, dict[str, t.Any]] = {}
    for name in dict.fromkeys(str(one["name"]) for one in results):
        runs = [one for one in results if one["name"] == name]
        done = [one for one in runs if one["verdict"] in ("held", "broken")]
        figures = {}
        for key in FIGURES:
            values = [one["figures"][key] for one in done if one["figures"].get(key) is not None]
            if values:
                figures[key] = spread(values)
        found[name] = {
            "fault": runs[0]["fault"],
            "runs": len(done),
            "held": sum(1 for one in done if one["verdict"] == "held"),
            "lost": sum(one["figures"]["lost"] for one in done),
            "skipped": next((one["why"] for one in runs if one["verdict"] == "skipped"), None),
            "figures": figures,
            "broken": sorted({check["name"] for one in done for check in one["checks"] if not check["ok"]}),
        }
        bound = runs[0]["promise"].get("write_gap_p95")
        # A percentile of a handful of runs would be their maximum by another name.
        if bound is not None and len(done) >= 20:
            found[name]["p95_held"] = figures["write_gap"]["p95"] <= bound
    return found


def table(summary: Mapping[str, Mapping[str, t.Any]]) -> str:
    """One line per experiment, for a person."""

    def cell(row: Mapping[str, t.Any], key: str) -> str:
        values = row["figures"].get(key)
        if values is None:
            return "-"
        if values["n"] == 1:
            return f"{values['max']:.1f}"
        return f"{values['p50']:.1f}/{values['p95']:.1f}/{values['max']:.1f}"

    head = ["experiment", "row", "held", "lost", "write gap", "redis gap", "wait", "broken", "503", "redundant", ""]
    lines = [head]
    for name, row in summary.items():
        keys = ("write_gap", "redis_gap", "http_wait", "http_broken", "http_turned_away", "recovery")
        remark = f"skipped: {row['skipped']}" if row["skipped"] else ", ".join(row["broken"])
        held = f"{row['held']}/{row['runs']}"
        lines.append([name, str(row["fault"]), held, str(row["lost"]), *(cell(row, key) for key in keys), remark])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines)

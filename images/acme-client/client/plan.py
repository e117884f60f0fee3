# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an edge does now about the public certificate. Pure.

The law:

1. What serves goes on serving: no act but Install and Give touches it. Install never takes a certificate that is not of
   the settings, is not valid now, or ends before one of the settings that is installed. Give gives Traefik back what is
   kept here and it has lost.
2. What was issued is not ordered again: a certificate that one edge has and the store has not is published, whichever
   edge orders next; and sealed anew for an edge that cannot read it. What is pending is dropped only when it is of
   other settings, over, or overtaken by one that we have or read; while it is not valid yet, it is waited for. Who
   cannot read what is published waits ``PATIENCE`` for another edge to seal it anew, and then goes on as if it were
   not there.
3. One orders at a time: only the holder of the lease does. An edge that finds no holder, and something to do, first
   becomes it. Nobody leads in order to wait.
4. Nothing is ordered before it is due: when a third of the life is left (``renew_left``), and up to ``jitter`` of the
   life earlier, by a number that each edge draws from its name and the certificate.
5. Staging before production: with a staging directory, the newest attempt with these settings must have succeeded. So
   the first order, and each after a failure, is rehearsed.
6. An attempt is written down before it is made. One that was never closed was cut off by its host's death, and is a
   failure: orders are bounded although nobody lives to count them.
7. After the nth failure in a row it is waited 1 h, 2 h, 4 h, … up to a day (rehearsals: a quarter of an hour up to
   6 h), and for as long as the server asked. Production is asked at most ``weekly`` times in seven days, whatever the
   settings are: new settings free from waiting, not from this. A certificate that is no better than what there is was
   a failed order. An attempt from the future is of a clock that was wrong, and counts for nothing.
8. Without the store nothing is ordered, and nothing but Give is done.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing as t

HOUR = 3600.0
DAY = 24 * HOUR
WEEK = 7 * DAY
# For another edge to look once or twice: each does every quarter of an hour.
PATIENCE = HOUR
# Clocks of a site that are further apart are wrong.
APART = 300.0
REHEARSAL = "rehearsal"
ORDER = "order"
OPEN = "open"
DONE = "done"
FAILED = "failed"
# Of production and of staging: the first wait, and the longest.
WAITS = {ORDER: (HOUR, DAY), REHEARSAL: (HOUR / 4, 6 * HOUR)}


@dataclasses.dataclass(frozen=True)
class Settings:
    """``weekly``: below the five equal certificates a week that Let's Encrypt grants."""

    domains: tuple[str, ...]
    directory: str
    staging: str = ""
    key_type: str = "ec256"
    challenge: str = "http-01"
    renew_left: float = 1 / 3
    jitter: float = 0.05
    weekly: int = 4

    def __post_init__(self) -> None:
        if not self.domains or not self.directory:
            raise ValueError("domains and directory are needed")
        if not 0 < self.renew_left < 1 or not 0 <= self.jitter < 1 - self.renew_left or self.weekly < 1:
            raise ValueError("0 < renew_left < 1, 0 <= jitter < 1 - renew_left, weekly >= 1")

    @property
    def mark(self) -> str:
        """Of what makes one order unlike another."""
        told = [sorted(self.domains), self.directory, self.key_type, self.challenge]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Certificate:
    """``mark``: of the settings under which it was ordered."""

    serial: str
    mark: str
    not_before: float
    not_after: float

    def serves(self, mark: str, now: float) -> bool:
        return self.mark == mark and self.not_before <= now < self.not_after


@dataclasses.dataclass(frozen=True)
class Attempt:
    """``hold_until``: before then the server wants to hear nothing of us."""

    at: float
    kind: str
    mark: str
    result: str = OPEN
    hold_until: float = 0.0


@dataclasses.dataclass(frozen=True)
class Store:
    """As of one revision. ``readers``: edges for whom the published one was sealed; ``edges``: all that there are."""

    published: Certificate | None = None
    holder: str = ""
    attempts: tuple[Attempt, ...] = ()
    readers: frozenset[str] = frozenset()
    edges: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Here:
    """``installed``: what Traefik has; ``kept``: what it should have. ``pending``: issued here, and not known to be
    published. ``reads``: what is published was sealed for us too; else ``unread_since`` is when we first saw that."""

    name: str
    installed: Certificate | None = None
    pending: Certificate | None = None
    reads: bool = True
    unread_since: float = 0.0
    kept: Certificate | None = None


@dataclasses.dataclass(frozen=True)
class Nothing:
    """The certificate is there, on all edges."""

    until: float


@dataclasses.dataclass(frozen=True)
class Wait:
    """There is something to do, and not now. ``until`` 0: until the next look."""

    code: str
    until: float = 0.0


@dataclasses.dataclass(frozen=True)
class Install:
    """Take what is published, and let Traefik serve it."""

    serial: str


@dataclasses.dataclass(frozen=True)
class Give:
    """Let Traefik serve again what is kept here."""

    serial: str


@dataclasses.dataclass(frozen=True)
class Lead:
    """Take the lease that nobody has, and look again."""


@dataclasses.dataclass(frozen=True)
class Publish:
    """Seal for all edges what is here, and publish it."""

    serial: str


@dataclasses.dataclass(frozen=True)
class Drop:
    """What is pending has been overtaken."""

    serial: str


@dataclasses.dataclass(frozen=True)
class Ask:
    """Write the attempt down, then ask a directory for a certificate. A rehearsal's is thrown away."""

    kind: str
    directory: str


type Action = Nothing | Wait | Install | Give | Lead | Publish | Drop | Ask


def due_at(settings: Settings, certificate: Certificate, name: str) -> float:
    life = certificate.not_after - certificate.not_before
    drawn = int.from_bytes(hashlib.sha256(f"{name} {certificate.serial}".encode()).digest()[:4], "big") / 2**32
    return certificate.not_after - life * (settings.renew_left + settings.jitter * drawn)


def _newer(one: Certificate, other: Certificate | None, mark: str, now: float) -> bool:
    """It ends later than another that would serve as well, or there is no such other."""
    if not one.serves(mark, now):
        return False
    return other is None or not other.serves(mark, now) or one.not_after > other.not_after


def useful(settings: Settings, made: Certificate, others: t.Iterable[Certificate | None], now: float) -> bool:
    """Whether an order was worth it: what it brought outlives whatever else would serve."""
    there = [one.not_after for one in others if one is not None and one.serves(settings.mark, now)]
    return made.mark == settings.mark and made.not_after > max(there, default=now)


def _failures(attempts: t.Sequence[Attempt], kind: str, mark: str) -> list[Attempt]:
    """In a row, up to the newest of this kind."""
    row: list[Attempt] = []
    for one in reversed(attempts):
        if (one.kind, one.mark) != (kind, mark):
            continue
        if one.result == DONE:
            break
        row.append(one)
    return row


def _waits_until(row: t.Sequence[Attempt], kind: str) -> float:
    if not row:
        return 0.0
    first, longest = WAITS[kind]
    wait: float = min(first * 2.0 ** min(len(row) - 1, 16), longest)
    return max(row[0].at + wait, min(row[0].hold_until, row[0].at + longest))


def asked(settings: Settings, attempts: t.Sequence[Attempt], now: float) -> Ask | Wait:
    """What is asked next, or how long nothing is."""
    mark = settings.mark
    past = sorted((one for one in attempts if one.at <= now + APART), key=lambda one: one.at)
    own = [one for one in past if one.mark == mark]
    rehearse = bool(settings.staging) and not (own and own[-1].result == DONE)
    kind = REHEARSAL if rehearse else ORDER
    # Production's waits hold rehearsals up as well: one that went well early would prove nothing when the time comes.
    until = max(_waits_until(_failures(past, each, mark), each) for each in (kind, ORDER))
    if now < until:
        return Wait("after-failure", until)
    week = [one.at for one in past if one.kind == ORDER and one.at > now - WEEK]
    if len(week) >= settings.weekly:
        return Wait("weekly-limit", week[-settings.weekly] + WEEK)
    return Ask(kind, settings.staging if rehearse else settings.directory)


def _as_holder(here: Here, store: Store, action: Action) -> Action:
    if store.holder == here.name:
        return action
    return Wait("other-leads") if store.holder else Lead()


def within_reach(here: Here, store: Store, now: float) -> Certificate | None:
    """What is published, unless nobody seems to be there who could make it readable for us."""
    if here.reads or store.published in (here.installed, here.pending):
        return store.published
    alone = len(store.edges) <= 1
    return None if alone or now - here.unread_since >= PATIENCE else store.published


def _from_store(
    settings: Settings, here: Here, store: Store, published: Certificate | None, now: float
) -> Action | None:
    """What is published takes the place of what serves."""
    if published is None or not _newer(published, here.installed, settings.mark, now):
        return None
    if here.reads:
        return Install(published.serial)
    # Issued here, and the certificate that it was sealed for has been renewed since.
    own = here.pending == published
    return _as_holder(here, store, Publish(published.serial)) if own else Wait("sealed-for-others")


def _to_store(settings: Settings, here: Here, store: Store, published: Certificate | None, now: float) -> Action | None:
    """What others have not got is published."""
    mark, best, pending = settings.mark, here.installed, here.pending
    if pending is not None:
        if pending.mark == mark and pending.not_before > now:
            return Wait("not-yet-valid", pending.not_before)
        if not _newer(pending, published, mark, now):
            return Drop(pending.serial)
        return _as_holder(here, store, Publish(pending.serial))
    if best is None or not best.serves(mark, now):
        return None
    # The store came back from an older backup, or is new; or an edge is there that cannot read it yet.
    lacks = best == published and not store.edges <= store.readers
    return _as_holder(here, store, Publish(best.serial)) if lacks or _newer(best, published, mark, now) else None


def decide(settings: Settings, here: Here, store: Store | None, now: float) -> Action:
    mark, best = settings.mark, here.installed
    if best is None and here.kept is not None and here.kept.serves(mark, now):
        return Give(here.kept.serial)
    if store is None:
        return Wait("no-store")
    published = within_reach(here, store, now)
    for step in (_from_store, _to_store):
        action = step(settings, here, store, published, now)
        if action is not None:
            return action
    if best is not None and best.serves(mark, now) and now < (due := due_at(settings, best, here.name)):
        return Nothing(due)
    following = asked(settings, store.attempts, now)
    return _as_holder(here, store, following) if isinstance(following, Ask) or store.holder else following

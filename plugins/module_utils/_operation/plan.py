# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may work on a host: one run of ansible-playbook at a time.

A run is known by the kernel that it runs on (boot and PID namespace), its process and that process's start: all its
tasks are one holder with nothing handed on, and no other run ever is the same. Its lock lies in a file on each host.

The law (driven in tests through every state, interleaving and interruption):

* From the moment in which a run is told that it holds a host until that lock ends, no other run is told so. It ends
  when it is released, at ``expires``, when its process is known to be dead, or when an operator names it to be broken.
  Only the run itself renews it; renewing never shortens it.
* A lock is taken over without asking only when it has expired, or when its holder is known to be dead. Dead is what
  the caller learned about that very process, which never comes back; "not known" counts as alive. Whether a holder can
  be known at all is ``kin``: a process of this kernel and PID namespace can be looked at; one of an earlier boot of
  this machine is dead, unless either runs in a container, where machine and name are no proof; any other is not known.
* A lock of another cluster is a sign of a wrong inventory, however old: it ends only when it is named.
* To break a lock is to name its holder. A name that does not fit what is found breaks nothing; one that is not needed
  (the host is free, or this run's own) changes nothing, because it is given for all hosts of a run at once.
* What cannot be read as a lock is never replaced and never removed.
* A run releases its own lock only.
* ``since`` and ``expires`` are written and judged by the clock of the host that carries the lock, so the clocks of two
  controllers, or of controller and host, never meet. A host's clock that jumps forward ends a lock early, one that is
  set back ends it late.

What it cannot promise: a run that was killed may leave its last task working on a host for as long as that task takes.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
import typing as t

from .._common.errors import Refuse

FORMAT = 1
MINUTE, HOUR, DAY = 60, 3600, 86400
# The longest runs are those that reboot every host in turn or copy a database, an hour at worst; every play renews.
TTL = 2 * HOUR
TTL_MIN, TTL_MAX = MINUTE, 7 * DAY
LATEST = 253402300799  # the last second that a date can show
PID_MAX = 4194304  # Linux has no larger ones
# What the kernel calls the PID namespace of the machine itself; containers have others.
MACHINE_NAMESPACE = "pid:[4026531836]"

HERE, BEFORE, ELSEWHERE = "here", "before", "elsewhere"
EXPIRED, DEAD, BROKEN = "expired", "dead", "broken"
# Longest value of each text. `reason` may be empty.
LENGTHS = {"operation": 64, "operator": 128, "cluster": 128, "reason": 500}


@dataclasses.dataclass(frozen=True)
class Run:
    """One process of ansible-playbook. ``machine`` is a hash, empty where the controller has no machine id."""

    controller: str
    machine: str
    boot: str
    namespace: str
    pid: int
    start: int

    @property
    def id(self) -> str:
        """Name of the run. Without the controller's name, which may change while it runs."""
        parts = (self.machine, self.boot, self.namespace, str(self.pid), str(self.start))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Lock:
    """A host's lock as its file has it."""

    run: Run
    operation: str
    operator: str
    reason: str
    cluster: str
    since: int
    expires: int


@dataclasses.dataclass(frozen=True)
class Free:
    """There is no lock."""


@dataclasses.dataclass(frozen=True)
class Bad:
    """Something is in its place that is no lock."""

    path: str
    why: str


Found = t.Union[Free, Lock, Bad]


@dataclasses.dataclass(frozen=True)
class Wish:
    """What a run asks for. ``break_lock`` holds the names of the holders that the operator gave up."""

    run: Run
    cluster: str
    operation: str = ""
    operator: str = ""
    reason: str = ""
    ttl: int = TTL
    break_lock: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Take:
    """The host is free."""

    lock: Lock


@dataclasses.dataclass(frozen=True)
class Renew:
    """The host is this run's."""

    lock: Lock


@dataclasses.dataclass(frozen=True)
class TakeOver:
    """The host was another's, whose lock has ended."""

    lock: Lock
    before: Lock
    why: str


@dataclasses.dataclass(frozen=True)
class Drop:
    """The lock is this run's own."""

    lock: Lock


@dataclasses.dataclass(frozen=True)
class Keep:
    """There is nothing of this run's to release."""

    why: str


Decision = t.Union[Take, Renew, TakeOver, Refuse]


# Judging


def decide(found: Found, me: Wish, now: int, alive: bool | None) -> Decision:
    """May this run have the host? ``alive`` is what is known of the process that holds it, None for nothing."""
    if isinstance(found, Bad):
        return bad_lock(found)
    if isinstance(found, Free):
        return Take(_new(me, now))
    named = found.run.id in me.break_lock
    if found.cluster != me.cluster and not named:
        return _other_cluster(found, me, now)
    if found.run.id == me.run.id:
        fresh = _new(me, now)
        return Renew(
            dataclasses.replace(
                fresh,
                since=found.since,
                expires=max(fresh.expires, found.expires),
                operation=me.operation or found.operation,
                reason=me.reason or found.reason,
            )
        )
    if now >= found.expires and found.cluster == me.cluster:
        return TakeOver(_new(me, now), found, EXPIRED)
    if alive is False and found.cluster == me.cluster:
        return TakeOver(_new(me, now), found, DEAD)
    if named:
        return TakeOver(_new(me, now), found, BROKEN)
    return _mismatch(found, me, now) if me.break_lock else _running(found, now)


def release(found: Found, me: Run) -> Drop | Keep:
    """Is there anything of this run's own?"""
    if isinstance(found, Lock):
        if found.run.id == me.id:
            return Drop(found)
        return Keep(f"The lock is not this run's: {shown(found)}. It stays.")
    if isinstance(found, Bad):
        return Keep(f"Nothing was released. {bad_lock(found).message}")
    return Keep("There was no lock.")


def kin(holder: Run, me: Run) -> str:
    """What can be known here of the process that holds a host."""
    if (holder.boot, holder.namespace) == (me.boot, me.namespace):
        return HERE
    machines = holder.namespace == me.namespace == MACHINE_NAMESPACE
    same = (holder.machine, holder.controller) == (me.machine, me.controller) and me.machine != ""
    return BEFORE if machines and same and holder.boot != me.boot else ELSEWHERE


def why_not(me: Wish, looks: bool = False) -> Refuse | None:
    """Is this a wish that can be written down? Who only looks need not say what for."""
    wrong = [
        _why_not_text(name, getattr(me, name), empty=name == "reason" or (looks and name == "operation"))
        for name in ("operation", "operator", "cluster", "reason")
    ]
    if not TTL_MIN <= me.ttl <= TTL_MAX:
        wrong.append(f"ttl is {me.ttl}, and must be {TTL_MIN} to {TTL_MAX} seconds")
    reasons = "; ".join(filter(None, wrong)) or why_not_names(me.break_lock)
    return bad_argument(reasons) if reasons else None


def why_not_names(names: t.Sequence[str]) -> str:
    """Are these names of holders?"""
    strange = [name for name in names if not re.fullmatch("[0-9a-f]{16}", name)]
    return f"break_lock names {strange[0]!r}; a holder's name has 16 hexadecimal digits" if strange else ""


def bad_argument(why: str) -> Refuse:
    """The task itself is wrong."""
    return Refuse("bad_argument", "The lock cannot be asked for like this", why, "Correct the task or the variable.")


def _new(me: Wish, now: int) -> Lock:
    return Lock(me.run, me.operation, me.operator, me.reason, me.cluster, now, min(now + me.ttl, LATEST))


def _why_not_text(name: str, value: str, empty: bool = False) -> str:
    if not value.strip() and not (empty and not value):
        return f"{name} is empty"
    if len(value) > LENGTHS[name]:
        return f"{name} is longer than {LENGTHS[name]} characters"
    return "" if value.isprintable() else f"{name} has characters that cannot be printed"


# Refusing


def _running(found: Lock, now: int) -> Refuse:
    return Refuse(
        "operation_running",
        "Somebody else is working on this host",
        _story(found, now),
        "Wait until it is over. Only if you know that it does not run any more, give it up: run this again with "
        f"-e operation_break_lock={found.run.id}",
    )


def _mismatch(found: Lock, me: Wish, now: int) -> Refuse:
    return Refuse(
        "break_lock_mismatch",
        "The lock that was given up is not the one that is here",
        f"{', '.join(me.break_lock)} was named, and {found.run.id} is here: {_story(found, now)}",
        "Wait until it is over. Only if you know that this one does not run any more either: "
        f"-e operation_break_lock={','.join((*me.break_lock, found.run.id))}",
    )


def _other_cluster(found: Lock, me: Wish, now: int) -> Refuse:
    return Refuse(
        "other_cluster",
        f"This host is locked for the cluster {found.cluster}, and this run is for {me.cluster}",
        _story(found, now),
        "See whether it is the right inventory. Only if the host has left that cluster and nobody works there: run "
        f"this again with -e operation_break_lock={found.run.id}",
    )


def bad_lock(found: Bad) -> Refuse:
    """Nobody can tell who holds the host."""
    return Refuse(
        "bad_lock",
        "The host's lock cannot be read, so nobody can tell whether somebody works on it",
        f"{found.path} {found.why}",
        "Look at it and ask the other operators. When nobody works on this cluster, run on that host: "
        f"rm -r {found.path}",
    )


def _story(found: Lock, now: int) -> str:
    left = found.expires - now
    end = f"ends in {spell(left)} unless it is renewed" if left > 0 else "has expired"
    return f"{shown(found)}, {spell(now - found.since)} ago; its lock {end}"


def shown(lock: Lock) -> str:
    """Who, since when, why."""
    reason = f" (reason: {lock.reason})" if lock.reason else ""
    return f"{lock.operation} by {lock.operator} on {lock.run.controller}{reason}, since {iso(lock.since)}"


def iso(seconds: int) -> str:
    """A time as people read it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def spell(seconds: int) -> str:
    """A duration as people say it. Before its begin, by a clock that was set back, it is none."""
    seconds = max(0, seconds)
    if seconds < 2 * MINUTE:
        return f"{seconds} s"
    if seconds < 2 * HOUR:
        return f"{seconds // MINUTE} min"
    if seconds < 2 * DAY:
        return f"{seconds // HOUR} h {seconds % HOUR // MINUTE} min"
    return f"{seconds // DAY} d {seconds % DAY // HOUR} h"


# The file


def text(lock: Lock) -> str:
    """The content of the file."""
    content = {"format": FORMAT, "id": lock.run.id, **dataclasses.asdict(lock)}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def parse(path: str, content: str) -> Lock | Bad:
    """The lock in the file."""
    try:
        return read_lock(json.loads(content))
    except RecursionError:
        return Bad(path, "is nested too deeply")
    except ValueError as exc:
        return Bad(path, f"is no lock: {exc}")


def read_lock(given: t.Any) -> Lock:
    """A lock from plain data. Raises ValueError."""
    if not isinstance(given, dict):
        raise ValueError("no mapping")
    if given.get("format") != FORMAT or isinstance(given.get("format"), bool):
        raise ValueError(f"format {FORMAT} is known, which is not what its field 'format' says")
    texts = {name: _text(given, name) for name in LENGTHS}
    for name, value in texts.items():
        problem = _why_not_text(name, value, empty=name == "reason")
        if problem:
            raise ValueError(problem)
    lock = Lock(
        run=read_run(given.get("run")), **texts, since=_number(given, "since"), expires=_number(given, "expires")
    )
    if lock.expires < lock.since:
        raise ValueError("it ends before it begins")
    # A lock is taken over on the word of these fields, so one that was edited is no lock.
    if given.get("id") != lock.run.id:
        raise ValueError("its id is not that of its run")
    return lock


def read_run(given: t.Any) -> Run:
    """A run from plain data. Raises ValueError."""
    if not isinstance(given, dict):
        raise ValueError("its run is no mapping")
    texts = {name: _text(given, name) for name in ("controller", "machine", "boot", "namespace")}
    for name, value in texts.items():
        if len(value) > 255 or not value.isprintable() or (not value and name != "machine"):
            raise ValueError(f"{name} is empty, too long or cannot be printed")
    pid = _number(given, "pid")
    if not 1 <= pid <= PID_MAX:
        raise ValueError("no process has its pid")
    return Run(**texts, pid=pid, start=_number(given, "start"))


def _text(given: t.Mapping[str, t.Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise ValueError(f"its field '{name}' is missing or no text")
    return value


def _number(given: t.Mapping[str, t.Any], name: str) -> int:
    value = given.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LATEST:
        raise ValueError(f"its field '{name}' is missing or no number that can be right")
    return value


# The border


def public(lock: Lock, now: int) -> dict[str, t.Any]:
    """A lock as results show it."""
    return {
        "id": lock.run.id,
        "operation": lock.operation,
        "operator": lock.operator,
        "controller": lock.run.controller,
        "cluster": lock.cluster,
        "reason": lock.reason,
        "since": lock.since,
        "expires": lock.expires,
        "age": max(0, now - lock.since),
        "expires_in": max(0, lock.expires - now),
        "run": as_data(lock.run),
    }


def as_data(run: Run) -> dict[str, t.Any]:
    """A run as plain data; ``read_run`` is its reverse."""
    return dataclasses.asdict(run)

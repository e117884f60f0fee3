# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether hosts that are each sound alone are sound together, judged before anything is changed on any of them.

Invariants (checked by the tests):

* data of two clusters in one group, and a cluster whose data is nowhere, are refused in every tier: nothing later may
  overwrite the one or initialise over the other;
* clocks are called apart only if they are apart however long the answers took;
* what only a tier with a promise needs (clocks, sizes) is refused in tier ``ha`` and a warning in tier ``single``;
* a host that was not asked, or whose answer says nothing, is never a reason to refuse.
"""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

from .._preflight.identity import shown
from .._preflight.plan import ABSENT, how_to_move

HA = "ha"
MEMORY_SHARE = 0.9  # machines of one size differ by what firmware and kernel keep
CONTROLLER_APART = 60.0
POSTGRES_DATA = "/var/lib/dedicated/postgres/data/17"
ETCD_DATA = "/var/lib/dedicated/etcd/data"
RECORD = "/etc/dedicated/postgres-system-identifier"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One reason: stable code, the hosts concerned, and a message with what, why and what to do."""

    code: str
    hosts: tuple[str, ...]
    message: str

    def as_result(self) -> dict[str, t.Any]:
        """Plain data for the border."""
        return {"code": self.code, "hosts": list(self.hosts), "message": self.message}


@dataclasses.dataclass(frozen=True)
class Clock:
    """Seconds that a host's clock is ahead of the controller's, and by how much that may be wrong."""

    offset: float
    uncertainty: float


@dataclasses.dataclass(frozen=True)
class Claim:
    """Who said to be the Patroni member at the address of another."""

    expected: str
    address: str
    name: str
    scope: str
    system_identifier: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the preflight of a host returned."""

    name: str
    cpus: int = 0
    memory_mb: int = 0
    os_id: str = ""
    os_version: str = ""
    clock: Clock | None = None
    postgres_data: str = ""  # whether there is any; empty when that was not asked
    system_identifier: str = ""
    recorded_identifier: str = ""
    etcd_cluster_id: str = ""
    claims: tuple[Claim, ...] = ()


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All answers, and what the inventory says of their hosts."""

    answers: tuple[Answer, ...]
    tier: str
    postgres: tuple[str, ...] = ()
    etcd: tuple[str, ...] = ()
    scope: str = ""
    system_identifier: str = ""
    max_clock_difference: float = 1.0

    def of(self, group: t.Container[str]) -> tuple[Answer, ...]:
        """The answers of a group's hosts."""
        return tuple(answer for answer in self.answers if answer.name in group)


def parse_answer(name: str, result: t.Any) -> Answer | None:
    """The registered result of a host's preflight; None when it holds no answer."""
    host = result.get("host") if isinstance(result, t.Mapping) else None
    if not isinstance(host, t.Mapping):
        return None
    clock = result.get("clock") or {}
    return Answer(
        name=name,
        cpus=int(host.get("cpus") or 0),
        memory_mb=int(host.get("memory_mb") or 0),
        os_id=str(host.get("os_id") or ""),
        os_version=str(host.get("os_version") or ""),
        clock=Clock(float(clock["offset"]), float(clock["uncertainty"])) if clock else None,
        postgres_data=str(host.get("postgres_data") or ""),
        system_identifier=str(host.get("system_identifier") or ""),
        recorded_identifier=str(host.get("recorded_identifier") or ""),
        etcd_cluster_id=str(host.get("etcd_cluster_id") or ""),
        claims=tuple(
            Claim(*(str(member.get(field.name) or "") for field in dataclasses.fields(Claim)))
            for member in host.get("members") or ()
            if not member.get("reason")
        ),
    )


def judge(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Every reason to refuse."""
    findings = [*_claims(snapshot), *_postgres_data(snapshot), *_lost(snapshot), *_etcd_data(snapshot)]
    if snapshot.tier == HA:
        findings += [*_clocks(snapshot), *_sizes(snapshot)]
    return tuple(findings)


def warn(snapshot: Snapshot) -> tuple[Finding, ...]:
    """What is allowed and worth a thought."""
    findings = [*_systems(snapshot), *_controller(snapshot)]
    findings += _unread(snapshot) if snapshot.tier == HA else [*_clocks(snapshot), *_sizes(snapshot)]
    return tuple(findings)


def message(findings: t.Sequence[Finding]) -> str:
    """All reasons as one text."""
    lines = [f"The hosts do not fit together for {len(findings)} reason(s); nothing was changed."]
    return "\n".join(lines + [f"- {finding.code}: {finding.message}" for finding in findings])


def _claims(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Addresses at which somebody else answers. What several hosts saw is told once."""
    for claim in _seen(snapshot):
        reason = _why_wrong(claim, snapshot)
        if reason:
            yield Finding(
                "wrong-cluster",
                (claim.expected,),
                f"at {claim.address}, the address of {claim.expected}, {reason}; correct dedicated_address of"
                f" {claim.expected}, or find out which machine has its address: ip neigh show {claim.address}",
            )


def _seen(snapshot: Snapshot) -> tuple[Claim, ...]:
    """Every claim once."""
    return tuple(dict.fromkeys(claim for answer in snapshot.answers for claim in answer.claims))


def _why_wrong(claim: Claim, snapshot: Snapshot) -> str | None:
    """The reason why this is not the member that belongs there, or None."""
    own = next((answer.system_identifier for answer in snapshot.answers if answer.name == claim.expected), "")
    if claim.scope and snapshot.scope and claim.scope != snapshot.scope:
        return f"a member of the PostgreSQL cluster '{claim.scope}' answers and not one of '{snapshot.scope}'"
    if claim.name and claim.name != claim.expected:
        return f"the PostgreSQL member '{claim.name}' answers"
    if not claim.system_identifier:
        return None
    if snapshot.system_identifier and claim.system_identifier != snapshot.system_identifier:
        return (
            f"the PostgreSQL cluster {shown(claim.system_identifier)} answers, and the inventory pins"
            f" {shown(snapshot.system_identifier)} (postgres_system_identifier)"
        )
    if own and claim.system_identifier != own:
        return (
            f"the PostgreSQL cluster {shown(claim.system_identifier)} answers, and the data of"
            f" {claim.expected} is of {shown(own)}"
        )
    return None


def _by_value(pairs: t.Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Value to the hosts that have it."""
    found: dict[str, list[str]] = {}
    for host, value in pairs:
        if value:
            found.setdefault(value, []).append(host)
    return found


def _right_identifier(snapshot: Snapshot) -> tuple[str, str]:
    """The identifier that the cluster must have and how that is known; empty where nothing tells."""
    if snapshot.system_identifier:
        return snapshot.system_identifier, "postgres_system_identifier pins it"
    answers = snapshot.of(snapshot.postgres)
    recorded = {answer.recorded_identifier for answer in answers} - {""}
    if len(recorded) == 1:
        return recorded.pop(), f"{RECORD} says it"
    running = {claim.system_identifier for claim in _seen(snapshot) if _why_wrong(claim, snapshot) is None} - {""}
    if not recorded and len(running) == 1:
        return running.pop(), "the members that run have it"
    return "", ""


def _listed(found: t.Mapping[str, t.Sequence[str]], word: t.Callable[[str], str]) -> str:
    """Values with the hosts that have them."""
    return "; ".join(f"{', '.join(hosts)}: {word(value)}" for value, hosts in found.items())


def _postgres_data(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Data, or records, of more than one PostgreSQL cluster in the group."""
    answers = snapshot.of(snapshot.postgres)
    data = _by_value((answer.name, answer.system_identifier) for answer in answers)
    recorded = _by_value((answer.name, answer.recorded_identifier) for answer in answers)
    right, how = _right_identifier(snapshot)
    wrong = tuple(host for value, hosts in data.items() if value != right for host in hosts)
    if right and wrong:
        yield Finding(
            "leftover-data",
            wrong,
            f"{POSTGRES_DATA} is data of another PostgreSQL cluster than {shown(right)} ({how}) on"
            f" {_listed({value: hosts for value, hosts in data.items() if value != right}, shown)}; it is never"
            f" overwritten: move it aside on that host: {how_to_move(POSTGRES_DATA, 'postgres')}",
        )
    elif len(data) > 1:
        yield Finding(
            "leftover-data",
            tuple(host for hosts in data.values() for host in hosts),
            f"the members carry data of {len(data)} PostgreSQL clusters ({_listed(data, shown)}) and nothing tells"
            " which is right; none is overwritten: pin the right one with postgres_system_identifier, and move the"
            f" other aside on its host: {how_to_move(POSTGRES_DATA, 'postgres')}",
        )
    if len(recorded) > 1:
        yield Finding(
            "other-system-identifier",
            tuple(host for hosts in recorded.values() for host in hosts),
            f"the members were made members of {len(recorded)} PostgreSQL clusters ({RECORD}: "
            f"{_listed(recorded, shown)}); find out which is right, and remove the file on a host that is to join it"
            " anew",
        )


def _lost(snapshot: Snapshot) -> t.Iterator[Finding]:
    """A cluster that must exist, and whose data no member has: the next step would initialise an empty one."""
    answers = snapshot.of(snapshot.postgres)
    recorded = [answer.recorded_identifier for answer in answers if answer.recorded_identifier]
    known = snapshot.system_identifier or next(iter(recorded), "")
    everybody = {answer.name for answer in answers} == set(snapshot.postgres)
    if known and everybody and all(answer.postgres_data == ABSENT for answer in answers):
        yield Finding(
            "data-lost",
            snapshot.postgres,
            f"this inventory's PostgreSQL cluster is {shown(known)}, and no host of group postgres has its data in"
            f" {POSTGRES_DATA}; a run would initialise an empty database: see whether a disk is not mounted, or restore"
            f" a backup; to begin anew on purpose, remove {RECORD} on the hosts and postgres_system_identifier from the"
            " inventory",
        )


def _etcd_data(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Data of more than one etcd cluster in the group."""
    data = _by_value((answer.name, answer.etcd_cluster_id) for answer in snapshot.of(snapshot.etcd))
    if len(data) < 2:
        return
    most = max(data, key=lambda value: len(data[value]))
    certain = len(data[most]) > len(snapshot.etcd) // 2
    hosts = tuple(host for value, named in data.items() if not certain or value != most for host in named)
    who = f"that of {' and '.join(hosts)} is left over" if certain else "find out which is left over"
    yield Finding(
        "leftover-etcd-data",
        hosts,
        f"{ETCD_DATA} holds data of {len(data)} etcd clusters ({_listed(data, str)}), which never become one;"
        f" {who}: move it aside on that host: {how_to_move(ETCD_DATA, 'etcd')}",
    )


def _clocks(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Clocks that are apart by more than their readings may be wrong."""
    known = [(answer.name, answer.clock) for answer in snapshot.answers if answer.clock is not None]
    worst, pair = 0.0, ("", "")
    for (left, one), (right, other) in itertools.combinations(known, 2):
        apart = abs(one.offset - other.offset) - one.uncertainty - other.uncertainty
        if apart > worst:
            worst, pair = apart, (left, right)
    if worst > snapshot.max_clock_difference:
        each = ", ".join(f"{name} {clock.offset:+.2f} s" for name, clock in known)
        yield Finding(
            "clocks-apart",
            pair,
            f"the clocks of {pair[0]} and {pair[1]} are at least {worst:.2f} s apart, allowed are"
            f" {snapshot.max_clock_difference:g} s (seen from the controller: {each}); logs, certificates and points in"
            " time to restore to would not agree: on the host that is off see chronyc tracking and host_ntp_servers,"
            " then: chronyc makestep",
        )


def _unread(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Hosts whose clock nobody could read."""
    hosts = tuple(answer.name for answer in snapshot.answers if answer.clock is None)
    if hosts:
        yield Finding(
            "clock-unknown",
            hosts,
            f"the clock of {', '.join(hosts)} could not be read and was not compared: run date there",
        )


def _sizes(snapshot: Snapshot) -> t.Iterator[Finding]:
    """PostgreSQL members that could not carry the load of the largest."""
    answers = [answer for answer in snapshot.of(snapshot.postgres) if answer.cpus and answer.memory_mb]
    if len(answers) < 2:
        return
    memory = max(answers, key=lambda answer: answer.memory_mb)
    cpus = max(answers, key=lambda answer: answer.cpus)
    for answer in answers:
        if answer.memory_mb < memory.memory_mb * MEMORY_SHARE:
            yield _smaller(answer, f"{answer.memory_mb} MiB of memory", memory, f"{memory.memory_mb} MiB")
        if answer.cpus < cpus.cpus:
            yield _smaller(answer, f"{answer.cpus} processor(s)", cpus, str(cpus.cpus))


def _smaller(small: Answer, has: str, large: Answer, more: str) -> Finding:
    """A member that is smaller than another."""
    return Finding(
        "replica-too-small",
        (small.name,),
        f"{small.name} has {has}, {large.name} of the same group postgres has {more}; any member may be promoted and"
        f" must then carry what {large.name} carries: give the machines the same size",
    )


def _systems(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Hosts with different operating systems."""
    found = _by_value(
        (answer.name, f"{answer.os_id}-{answer.os_version.split('.')[0]}")
        for answer in snapshot.answers
        if answer.os_id
    )
    if len(found) > 1:
        yield Finding(
            "systems-differ",
            tuple(host for hosts in found.values() for host in hosts),
            f"the hosts run different operating systems ({_listed(found, str)}); it works, and a fault of one kernel or"
            " engine shows on some hosts only: bring them to the same",
        )


def _controller(snapshot: Snapshot) -> t.Iterator[Finding]:
    """A controller whose clock is far from that of every host."""
    known = [answer.clock for answer in snapshot.answers if answer.clock is not None]
    apart = min((abs(clock.offset) - clock.uncertainty for clock in known), default=0.0)
    if apart > CONTROLLER_APART:
        yield Finding(
            "controller-clock",
            (),
            f"the controller's clock is at least {apart:.0f} s away from that of every host; certificates that it signs"
            " carry its time: set the controller's clock",
        )

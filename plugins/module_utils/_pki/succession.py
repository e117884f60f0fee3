# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One authority takes the place of another while everybody goes on believing everybody.

Law: at every moment every host trusts the signer of every certificate that any host shows. So the successor signs only
when all hosts trust both (and have been told), and the former one is trusted no more only when no certificate of it is
shown. What lies on the controller and on the hosts tells how far it is; nothing else is kept, and a run that was cut
off goes on with what it finds.

Pure: standard library and our own error type only, no clock, no files.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._common.errors import Refuse
from .plan import SETTLED, TRUSTING

# In this order. TRUST, ISSUE and DROP are of the hosts, the others of the controller.
PREPARE, TRUST, PROMOTE, ISSUE, SETTLE, DROP = "prepare", "trust", "promote", "issue", "settle", "drop"


@dataclass(frozen=True)
class Follower:
    """A host. `trusts`: fingerprints of those whom its services believe, which means that they were told; `signers`:
    those of the certificates that they show, empty where nobody could tell."""

    name: str
    trusts: frozenset[str] = frozenset()
    signers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Succession:
    """Where it stands. `signs`: who signs now; `other`: who is trusted beside, empty when it is settled."""

    phase: str
    signs: str
    other: str
    hosts: tuple[Follower, ...]


@dataclass(frozen=True)
class Step:
    """What is next, and on which hosts."""

    action: str
    hosts: tuple[str, ...] = ()


def next_step(world: Succession, begin: bool) -> Step | Refuse | None:
    """The one thing to do now; None when there is nothing left. `begin`: whether a settled one is to be succeeded."""
    refusal = why_not(world)
    if refusal is not None:
        return refusal
    if world.phase == SETTLED:
        left = _those(world, lambda host: host.trusts != {world.signs})
        if left:
            return Step(DROP, left)
        return Step(PREPARE) if begin else None
    both = {world.signs, world.other}
    if world.phase == TRUSTING:
        return _first(Step(TRUST, _those(world, lambda host: not both <= host.trusts)), Step(PROMOTE))
    return _first(Step(ISSUE, _those(world, lambda host: host.signers != {world.signs})), Step(SETTLE))


def why_not(world: Succession) -> Refuse | None:
    """What would break the law whatever is done next."""
    known = {world.signs, world.other} - {""}
    for host in world.hosts:
        strange = sorted(host.signers - known)
        if strange:
            return Refuse(
                "other-ca",
                f"{host.name} shows a certificate of {strange[0]}",
                "that is neither the authority that signs nor its successor, so nothing was touched",
                "Point pki_dir to the CA of this cluster, or run site.yml, which replaces that certificate.",
            )
    return None


def _those(world: Succession, lacks: t.Callable[[Follower], bool]) -> tuple[str, ...]:
    return tuple(host.name for host in world.hosts if lacks(host))


def _first(hosts: Step, then: Step) -> Step:
    return hosts if hosts.hosts else then


def check_invariants(hosts: t.Iterable[Follower]) -> None:
    """The law."""
    found = list(hosts)
    for shows in found:
        for believes in found:
            missing = shows.signers - believes.trusts
            if missing:
                raise AssertionError(f"{believes.name} does not believe {shows.name}: {sorted(missing)}")

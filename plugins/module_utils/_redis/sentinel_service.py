# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at Sentinels and nodes, wait for them, move the master, clear stale entries."""

from __future__ import annotations

import dataclasses
import typing as t

from .._common.errors import DeadlineError, DedicatedError, Refuse, Refused
from .._common.waiting import Clock, Seen, wait_until
from . import failover_plan, sentinel_plan
from .io import Answer, RedisUnreachable
from .resp import Network
from .sentinel_plan import Node, Sentinel, View

SETTINGS = ("replica-announce-ip", "replica-announce-port", "tls-port", "port", "min-replicas-to-write")
NODE_COMMANDS = (("ROLE",), ("INFO", "persistence"), ("CONFIG", "GET", *SETTINGS))
T = t.TypeVar("T")
Got = t.Union["list[Answer]", RedisUnreachable]


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Whom to ask, and how many there should be."""

    master_name: str
    sentinels: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    expected_sentinels: int | None = None
    expected_nodes: int | None = None


@dataclasses.dataclass(frozen=True)
class Pace:
    """How long to wait for what is waited for, and how often to look."""

    timeout: float = 60
    poll_interval: float = 0.5


def accept(answer: t.Any) -> t.Any:
    """The answer of a planner, or its refusal as an error."""
    if isinstance(answer, Refuse):
        raise Refused(answer)
    return answer


def cluster_of(params: t.Mapping[str, t.Any]) -> Cluster:
    """A module's options as what the service understands."""
    return Cluster(
        params["master_name"],
        accept(sentinel_plan.addresses(params["sentinels"], "sentinels")),
        accept(sentinel_plan.addresses(params["nodes"], "nodes")),
        params["expected_sentinels"],
        params["expected_nodes"],
    )


def node_of(cluster: Cluster, text: str | None) -> str | None:
    """The node that an option names, in the form in which addresses are compared."""
    if text is None:
        return None
    (address,) = accept(sentinel_plan.addresses([text], "away_from"))
    if address not in cluster.nodes:
        nodes = ", ".join(cluster.nodes)
        raise Refused(Refuse("unknown_node", f"{address} is no node", f"the nodes are {nodes}", "Correct away_from."))
    return str(address)


def sentinel_from(address: str, master_name: str, got: Got) -> Sentinel:
    """One Sentinel out of its answers; what cannot be understood is as good as silence."""
    if isinstance(got, RedisUnreachable):
        return Sentinel(address, error=got.msg)
    master, replicas, sentinels, quorum, about = got
    if master.error is not None:
        return Sentinel(address, reachable=True, error=master.error)
    said = (quorum.error is None, str(quorum.value if quorum.error is None else quorum.error))
    try:
        return sentinel_plan.parse_sentinel(
            address, master.value, replicas.value, sentinels.value, said, about.error or about.value
        )
    except (ValueError, IndexError, TypeError) as exc:
        return Sentinel(address, error=f"{address}: the answer cannot be understood: {exc}")


def node_from(address: str, got: Got) -> Node:
    """One node out of its answers."""
    if isinstance(got, RedisUnreachable):
        return Node(address, error=got.msg)
    role, persistence, settings = got
    refused = role.error or persistence.error
    if refused is not None:
        return Node(address, error=f"{address}: {refused}")
    try:
        shown = None if settings.error is not None else sentinel_plan.pairs(settings.value, "CONFIG GET")
        return sentinel_plan.parse_node(address, role.value, persistence.value, shown)
    except (ValueError, IndexError, TypeError) as exc:
        return Node(address, error=f"{address}: the answer cannot be understood: {exc}")


@dataclasses.dataclass(frozen=True)
class Observation:
    """A view with the judgement on it."""

    view: View
    reasons: tuple[str, ...]

    def as_result(self) -> dict[str, t.Any]:
        view = self.view
        return {
            "changed": False,
            "reachable": any(one.reachable for one in view.sentinels),
            "master": view.master,
            "sentinels": [one.as_result() for one in view.sentinels],
            "nodes": [one.as_result(view.lag(one)) for one in view.nodes],
            "quorum": view.quorum,
            "healthy": not self.reasons,
            "reasons": list(self.reasons),
        }


class SentinelService:
    """A cluster of nodes and Sentinels, all asked at once."""

    def __init__(self, network: Network, clock: Clock, cluster: Cluster, pace: Pace) -> None:
        self._network = network
        self._clock = clock
        self._cluster = cluster
        self._pace = pace

    def look(self) -> View:
        """One look at everybody."""
        cluster = self._cluster
        name = cluster.master_name
        commands = (
            *(("SENTINEL", what, name) for what in ("MASTER", "REPLICAS", "SENTINELS", "CKQUORUM")),
            ("INFO", "sentinel"),
        )
        requests: dict[str, t.Sequence[t.Sequence[str]]] = dict.fromkeys(cluster.sentinels, commands)
        requests.update(dict.fromkeys(cluster.nodes, NODE_COMMANDS))
        got = self._network.ask(requests)
        return View(
            name,
            tuple(sentinel_from(address, name, got[address]) for address in cluster.sentinels),
            tuple(node_from(address, got[address]) for address in cluster.nodes),
            cluster.expected_sentinels,
            cluster.expected_nodes,
        )

    def wait(self, goal: str, except_hosts: t.Sequence[str] = (), max_lag: int = 1024**2) -> Observation:
        """Look until the goal (``master`` or ``healthy``) is reached; ``none`` looks once."""

        def probe() -> Seen[Observation]:
            view = self.look()
            seen = Observation(view, tuple(sentinel_plan.why_not_healthy(view, except_hosts, max_lag)))
            if goal == "master":
                return Seen(seen, sentinel_plan.why_no_master(view))
            return Seen(seen, "; ".join(seen.reasons) or None)

        if goal == "none":
            return probe().value
        what = "a master" if goal == "master" else "healthy Sentinels and nodes"
        return self._wait(probe, what)

    def _wait(self, probe: t.Callable[[], Seen[T]], what: str) -> T:
        return wait_until(probe, self._clock, self._pace.timeout, self._pace.poll_interval, what)

    def _one(self, address: str, *words: str) -> Answer:
        """One command to one server. Raises RedisUnreachable."""
        got = self._network.ask({address: [words]})[address]
        if isinstance(got, RedisUnreachable):
            raise got
        return got[0]


@dataclasses.dataclass
class MoveOutcome:
    """What became of a move. ``seconds`` is None when nothing was moved."""

    changed: bool
    msg: str
    master_before: str
    master_after: str | None
    plan: list[str] = dataclasses.field(default_factory=list)
    candidates: list[str] = dataclasses.field(default_factory=list)
    old_master: str | None = None
    seconds_to_switch: float | None = None
    seconds: float | None = None

    def as_result(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass
class _Watch:
    """What is remembered between two looks at a move."""

    started: float
    switched: float | None = None
    demoted: bool = False
    silent: int = 0
    idle: int = 0


class FailoverService(SentinelService):
    """Planned moves of the master."""

    def move(
        self,
        away_from: str | None,
        force: bool = False,
        max_lag: int = 1024**2,
        pause_writes: bool = True,
        check_mode: bool = False,
    ) -> MoveOutcome:
        """Move the master, and see it moved."""
        planned = self._plan(away_from, force, max_lag, pause_writes, wait=not check_mode and away_from is not None)
        if isinstance(planned, failover_plan.Nothing):
            return MoveOutcome(False, planned.why, planned.master, planned.master)
        outcome = MoveOutcome(True, f"the master would leave {planned.master}", planned.master, None)
        outcome.plan, outcome.candidates = planned.steps(), list(planned.candidates)
        if check_mode:
            return outcome
        self._order(planned)
        return self._watch(planned, outcome)

    def _plan(
        self, away_from: str | None, force: bool, max_lag: int, pause_writes: bool, wait: bool
    ) -> failover_plan.Move | failover_plan.Nothing:
        """A failover that is going on may be this one, interrupted; what it leads to decides."""
        last: list[failover_plan.Move | failover_plan.Nothing | Refuse] = []

        def probe() -> Seen[t.Any]:
            planned = failover_plan.plan_failover(self.look(), away_from, force, max_lag, pause_writes)
            last[:] = [planned]
            passing = isinstance(planned, Refuse) and planned.code in failover_plan.TRANSIENT
            return Seen(planned, planned.message if isinstance(planned, Refuse) and passing else None)

        try:
            planned = self._wait(probe, "the end of a failover") if wait else probe().value
        except DeadlineError:
            planned = last[0]
        return t.cast("failover_plan.Move | failover_plan.Nothing", accept(planned))

    # -- the order ---------------------------------------------------------------------------------------------------

    def _order(self, move: failover_plan.Move) -> None:
        if move.pause_ms:
            self._pause(move)
        try:
            self._still_master(move)
        except DedicatedError:
            self._resume(move)
            raise
        try:
            answer = self._one(move.sentinel, "SENTINEL", "FAILOVER", self._cluster.master_name)
        except RedisUnreachable:
            # It may have been heard: the cluster will show it.
            return
        if answer.error is not None:
            self._resume(move)
            raise _not_ordered(move, answer.error)

    def _still_master(self, move: failover_plan.Move) -> None:
        """A Sentinel moves whoever is master when it hears the order."""
        said = self._one(move.sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._cluster.master_name)
        if not isinstance(said.value, list) or sentinel_plan.join_address(*said.value[:2]) != move.master:
            raise Refused(
                Refuse(
                    "master_changed",
                    f"{move.master} is not moved",
                    f"meanwhile {move.sentinel} names {said.error or said.value}",
                    "Run again.",
                )
            )

    def _pause(self, move: failover_plan.Move) -> None:
        """Writes wait, and nothing that was acknowledged is missing on the next master."""
        try:
            answer = self._one(move.master, "CLIENT", "PAUSE", str(move.pause_ms), "WRITE")
        except RedisUnreachable as exc:
            self._resume(move)
            # pylint does not follow the import of the class that this one stands on.
            raise DedicatedError(  # pylint: disable=bad-exception-cause
                f"writes could not be paused, nothing was moved: {exc.msg}", code="not_paused"
            ) from exc
        if answer.error is not None:
            raise DedicatedError(
                f"{move.master}: CLIENT PAUSE was refused: {answer.error}. Nothing was moved. "
                "Let the user do it, or give pause_writes: false and lose what is written last.",
                code="not_paused",
            )

        def probe() -> Seen[None]:
            return Seen(None, failover_plan.caught_up(self.look(), move))

        try:
            # The rest of the pause belongs to the failover itself.
            wait_until(probe, self._clock, move.pause_ms / 4000, 0.02, "a replica with all data")
        except DeadlineError as exc:
            self._resume(move)
            raise DedicatedError(f"{exc.msg}; nothing was moved. Run again.", code="not_caught_up") from exc

    def _resume(self, move: failover_plan.Move) -> None:
        """A pause that cannot be taken back ends by itself."""
        if move.pause_ms:
            self._network.ask({move.master: [("CLIENT", "UNPAUSE")]})

    # -- the way there -----------------------------------------------------------------------------------------------

    def _watch(self, move: failover_plan.Move, outcome: MoveOutcome) -> MoveOutcome:
        watch = _Watch(self._clock.monotonic())
        view = self._wait(lambda: self._progress(move, watch), "the end of the move")
        node = view.node(move.master)
        outcome.master_after = view.master
        outcome.seconds_to_switch = watch.switched
        outcome.seconds = round(self._clock.monotonic() - watch.started, 3)
        outcome.old_master = "replica" if node is not None and node.reachable else "unreachable"
        outcome.msg = f"the master moved from {move.master} to {view.master} in {watch.switched} s"
        if outcome.old_master == "unreachable":
            outcome.msg += f"; {move.master} does not answer since: look why, and whether it comes back as a replica"
        return outcome

    def _progress(self, move: failover_plan.Move, watch: _Watch) -> Seen[View]:
        view = self.look()
        self._not_given_up(view, move, watch)
        if watch.switched is None and failover_plan.switched(view, move.master):
            watch.switched = round(self._clock.monotonic() - watch.started, 3)
        new = failover_plan.must_demote(view, move.master)
        if new is not None and not watch.demoted:
            # Sentinels would do it too, some eight seconds later; till then two nodes say that they are master.
            watch.demoted = True
            self._demote(move.master, new)
        reason = failover_plan.why_not_moved(view, move)
        node = view.node(move.master)
        watch.silent = watch.silent + 1 if node is not None and not node.reachable else 0
        if reason is None and 0 < watch.silent < failover_plan.PATIENCE:
            reason = f"the old master {move.master} does not answer"
        return Seen(view, reason)

    def _not_given_up(self, view: View, move: failover_plan.Move, watch: _Watch) -> None:
        watch.idle = watch.idle + 1 if failover_plan.given_up(view, move) else 0
        if watch.idle >= failover_plan.PATIENCE:
            self._resume(move)
            raise DedicatedError(
                f"the Sentinels gave the move up: {move.master} is still the master. "
                f"Look into the log of the Sentinel {move.sentinel}, and run again.",
                code="given_up",
                master=move.master,
            )

    def _demote(self, old: str, new: str) -> None:
        """What a Sentinel says to a former master; clients come back and find the new one."""
        host, port = sentinel_plan.split_address(new)
        self._network.ask(
            {
                old: [
                    ("MULTI",),
                    ("SLAVEOF", host, str(port)),
                    ("CONFIG", "REWRITE"),
                    ("CLIENT", "KILL", "TYPE", "normal"),
                    ("CLIENT", "KILL", "TYPE", "pubsub"),
                    ("CLIENT", "UNPAUSE"),
                    ("EXEC",),
                ]
            }
        )


def _not_ordered(move: failover_plan.Move, said: str) -> DedicatedError:
    known = {
        "INPROG": ("in_progress", "Wait until redis_sentinel_info says healthy, and run again."),
        "NOGOODSLAVE": ("no_good_replica", "Look with redis_sentinel_info what is wrong with the replicas."),
    }
    code, do = known.get(said.split(" ")[0], ("order_refused", "Look into the Sentinel's log and at its ACL."))
    return Refused(Refuse(code, f"{move.master} is not moved", f"{move.sentinel} says {said}", do))


@dataclasses.dataclass(frozen=True)
class ResetOutcome:
    """Which Sentinels forgot which entries, or would."""

    resets: tuple[failover_plan.Reset, ...]

    def as_result(self) -> dict[str, t.Any]:
        steps = [f"reset {one.sentinel}, which knows {', '.join(one.stale)}" for one in self.resets]
        return {
            "changed": bool(steps),
            "msg": "; ".join(steps) or "no Sentinel has a stale entry",
            "plan": steps,
            "stale": sorted({address for one in self.resets for address in one.stale}),
        }


class ResetService(SentinelService):
    """Stale entries of retired hosts."""

    def reset(self, check_mode: bool = False) -> ResetOutcome:
        """One Sentinel after the other; each look decides anew who is next."""
        done: list[failover_plan.Reset] = []
        while True:
            steps: tuple[failover_plan.Reset, ...] = accept(failover_plan.plan_reset(self.look()))
            if check_mode:
                return ResetOutcome(steps)
            again = [one.sentinel for one in steps if one.sentinel in {past.sentinel for past in done}]
            if again:
                raise DedicatedError(
                    f"{', '.join(again)} has learned stale entries again: {steps[0].stale}. Stop what announces them.",
                    code="not_retired",
                )
            if not steps:
                return ResetOutcome(tuple(done))
            self._forget(steps[0])
            done.append(steps[0])

    def _forget(self, step: failover_plan.Reset) -> None:
        answer = self._one(step.sentinel, "SENTINEL", "RESET", self._cluster.master_name)
        if answer.error is not None:
            raise DedicatedError(f"{step.sentinel}: SENTINEL RESET was refused: {answer.error}", code="order_refused")

        def probe() -> Seen[None]:
            return Seen(None, failover_plan.why_not_learned(self.look(), step.sentinel))

        self._wait(probe, f"the knowledge of {step.sentinel}")

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restarting everybody and making one anew, against a cluster that keeps state and goes on by its own clock."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DeadlineError,
    DedicatedError,
    Refused,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni import member_plan as mp
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.io import PatroniUnreachable, Reply
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.member_service import (
    ReinitService,
    Rolling,
    RollingService,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.service import ClusterService

NAMES = ("a", "b", "c")
BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class Killed(Exception):
    """The module's process ends here."""


@dataclasses.dataclass
class Node:
    """One member. ``copy_until``: when the copy that is being made is done."""

    name: str
    started: float | None = 0.0
    state: str = "streaming"
    timeline: int = 3
    lag: int | str = 0
    known: bool = True
    silent: bool = False
    busy: str = ""
    tags: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    copy_until: float | None = None
    breaks: bool = False


@dataclasses.dataclass
class Cluster:
    """Members, a clock, and what was asked of them. ``lose_answers``: orders are heard and not answered."""

    leader: str | None = "a"
    sync: tuple[str, ...] = ("b",)
    version: str = "4.0.7"
    nodes: dict[str, Node] = dataclasses.field(default_factory=lambda: {name: Node(name) for name in NAMES})
    now: float = 0.0
    orders: list[tuple[str, str, t.Any]] = dataclasses.field(default_factory=list)
    copy_seconds: float = 20.0
    lose_answers: bool = False
    paused: bool = False
    lie: bool = False
    refuse: int = 0
    kill_at: float | None = None
    on_order: t.Callable[[str], None] = lambda name: None
    down_together: list[int] = dataclasses.field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.kill_at is not None and self.now >= self.kill_at:
            self.kill_at = None
            raise Killed
        for node in self.nodes.values():
            if node.copy_until is not None and self.now >= node.copy_until:
                node.copy_until, node.state, node.timeline, node.lag = None, "streaming", 3, 0
                node.started = self.now

    def start(self, name: str) -> str | None:
        started = self.nodes[name].started
        # As psycopg's datetime becomes text.
        return None if started is None else str(BEGIN + datetime.timedelta(seconds=started))

    def members(self) -> list[dict[str, t.Any]]:
        found = []
        for node in self.nodes.values():
            if not node.known:
                continue
            leads = node.name == self.leader
            role = "leader" if leads else "sync_standby" if node.name in self.sync else "replica"
            one = {
                "name": node.name,
                "role": role,
                "state": ("running" if node.state == "streaming" else node.state) if leads else node.state,
                "timeline": node.timeline,
                "tags": node.tags,
                "api_url": f"https://{node.name}:8008/patroni",
            }
            found.append(one if leads else {**one, "lag": node.lag})
        return found

    def request(self, method: str, path: str, data: t.Any = None) -> Reply:
        if path == "/cluster":
            return Reply(200, json.dumps({"members": self.members(), "pause": self.paused}).encode())
        return Reply(200, json.dumps({"synchronous_mode": bool(self.sync)}).encode())

    def connect(self, url: str) -> Api:
        return Api(self, url.removeprefix("https://").removesuffix(":8008"))

    def posts(self) -> list[str]:
        return [name for name, _path, _data in self.orders]


@dataclasses.dataclass
class Api:
    """One member's REST API, as Patroni 4 answers."""

    cluster: Cluster
    name: str

    def request(self, method: str, path: str, data: t.Any = None) -> Reply:
        cluster, node = self.cluster, self.cluster.nodes[self.name]
        if node.silent:
            raise PatroniUnreachable(f"{self.name}: no answer")
        if method == "GET":
            state = "running" if node.state == "streaming" else node.state
            said = {"state": state, "patroni": {"version": cluster.version}}
            started = cluster.start(self.name) if state == "running" else None
            return Reply(200, json.dumps({**said, **({"postmaster_start_time": started} if started else {})}).encode())
        cluster.orders.append((self.name, path, dict(data)))
        cluster.on_order(self.name)
        if cluster.refuse:
            return Reply(cluster.refuse, b"no")
        reply = self._reinitialize(node, data) if path == "/reinitialize" else self._restart(node, data)
        if cluster.lose_answers:
            raise PatroniUnreachable(f"{self.name}: the answer is lost")
        return reply

    def _reinitialize(self, node: Node, data: t.Any) -> Reply:
        cluster = self.cluster
        if cluster.leader is None:
            return Reply(503, b"Cluster has no leader, can not reinitialize")
        if cluster.leader == self.name:
            return Reply(503, b"I am the leader, can not reinitialize")
        if node.busy and data.get("force"):
            node.busy = ""
        if node.copy_until is not None or node.busy:
            return Reply(503, f"{node.busy or 'reinitialize'} already in progress".encode())
        if not cluster.lie:
            node.state, node.copy_until, node.started = "creating replica", cluster.now + cluster.copy_seconds, None
        return Reply(200, b"reinitialize started")

    def _restart(self, node: Node, data: t.Any) -> Reply:
        cluster = self.cluster
        if data.get("role") == "replica" and cluster.leader == self.name:
            return Reply(503, b"restart conditions are not satisfied")
        cluster.down_together.append(sum(one.state != "streaming" for one in cluster.nodes.values()) + 1)
        if not cluster.lie:
            node.started = cluster.now + 0.5
        node.state = "start failed" if node.breaks else node.state
        return Reply(200, b"restarted")


# -- restarting everybody ----------------------------------------------------------------------------------------------


def roll(cluster: Cluster, check_mode: bool = False, **more: t.Any) -> dict[str, t.Any]:
    service = RollingService(ClusterService([cluster], cluster), cluster.connect, cluster.connect, cluster, 60, 1)
    wish = Rolling(NAMES, **{"everybody": True, "skip_leader": False, "max_lag": 0, **more})
    return service.restart(wish, check_mode).as_result()


@pytest.mark.parametrize(("leader", "order"), [("a", ["b", "c", "a"]), ("b", ["a", "c", "b"]), ("c", ["a", "b", "c"])])
@pytest.mark.parametrize("check_mode", [True, False])
def test_everybody_is_restarted_once_and_the_leader_last(leader: str, order: list[str], check_mode: bool) -> None:
    cluster = Cluster(leader, sync=())
    result = roll(cluster, check_mode)
    assert (result["restarted"], result["left"], result["changed"]) == (order, [], True)
    assert cluster.posts() == ([] if check_mode else order)
    assert set(cluster.down_together) <= {1}


@pytest.mark.parametrize("check_mode", [True, False])
def test_the_leader_is_left_for_a_switchover_and_then_restarted_as_a_standby(check_mode: bool) -> None:
    cluster = Cluster()
    cluster.now = 100
    since = (BEGIN + datetime.timedelta(seconds=50)).isoformat()
    result = roll(cluster, check_mode, skip_leader=True, before=since)
    assert (result["restarted"], result["left"]) == (["b", "c"], ["a"])
    if check_mode:
        return
    cluster.leader, cluster.sync = "b", ("a",)
    assert roll(cluster, skip_leader=True, before=since)["restarted"] == ["a"]
    assert roll(cluster, skip_leader=True, before=since) == {
        "changed": False, "msg": "nobody is to be restarted", "restarted": [], "left": [],
    }  # fmt: skip
    assert [(name, data) for name, _path, data in cluster.orders] == [(n, {"role": "replica"}) for n in "bca"]


def test_a_lead_that_moves_at_the_moment_of_the_order_restarts_no_leader() -> None:
    cluster = Cluster()

    def move(name: str) -> None:
        cluster.leader, cluster.sync, cluster.on_order = "b", ("a",), lambda name: None

    cluster.on_order = move
    with pytest.raises(DeadlineError, match=r"b still runs since .*restart conditions are not satisfied"):
        roll(cluster, skip_leader=True)
    assert cluster.nodes["b"].started == 0.0
    assert roll(cluster, skip_leader=True)["restarted"] == ["a", "c"]


def test_a_lead_that_moves_between_two_restarts_is_followed() -> None:
    cluster = Cluster()

    def move(name: str) -> None:
        if name == "c":
            cluster.leader, cluster.sync = "b", ("a",)

    cluster.on_order = move
    assert roll(cluster)["restarted"] == ["b", "c", "a"]


def test_a_member_that_somebody_else_restarted_meanwhile_is_not_restarted_again() -> None:
    cluster = Cluster()
    cluster.on_order = lambda name: setattr(cluster.nodes["c"], "started", 0.25)
    assert roll(cluster)["restarted"] == ["b", "a"]


@pytest.mark.parametrize("cut", range(1, 4))
def test_a_run_that_was_cut_off_goes_on_by_the_time_when_it_began(cut: int) -> None:
    cluster = Cluster()
    cluster.now = 100
    since = "2026-01-01T00:01:40Z"
    seen: list[str] = []

    def kill(name: str) -> None:
        seen.append(name)
        if len(seen) > cut:
            raise Killed

    cluster.on_order = kill
    if cut < 3:
        with pytest.raises(Killed):
            roll(cluster, before=since)
    else:
        roll(cluster, before=since)
    cluster.on_order = lambda name: None
    again = roll(cluster, before=since)["restarted"]
    assert seen[:cut] + again == ["b", "c", "a"]
    assert not roll(cluster, before=since)["changed"]


@pytest.mark.parametrize("ill", NAMES)
@pytest.mark.parametrize("check_mode", [True, False])
def test_while_one_is_ill_no_other_is_touched(ill: str, check_mode: bool) -> None:
    cluster = Cluster()
    cluster.nodes[ill].state = "start failed"
    # An ill member's own restart takes nobody further down; who does not come back ends it.
    with pytest.raises(DedicatedError) as caught:
        roll(cluster, check_mode)
    assert set(cluster.posts()) <= {ill}
    assert caught.value.details["code"] in ("not_healthy", "deadline")


def test_it_stops_at_the_first_that_does_not_come_back() -> None:
    cluster = Cluster()
    cluster.nodes["b"].breaks = True
    with pytest.raises(DeadlineError, match="b after its restart"):
        roll(cluster)
    assert cluster.posts() == ["b"]


def test_an_answer_that_is_lost_is_replaced_by_a_look() -> None:
    cluster = Cluster(lose_answers=True)
    assert roll(cluster)["restarted"] == ["b", "c", "a"]


def test_a_restart_that_was_only_said_is_noticed() -> None:
    with pytest.raises(DeadlineError, match="b still runs since 2026-01-01"):
        roll(Cluster(lie=True))


def test_a_refused_restart_says_why() -> None:
    with pytest.raises(DedicatedError, match=r"401.*username") as caught:
        roll(Cluster(refuse=401))
    assert caught.value.details["code"] == "request_refused"


@pytest.mark.parametrize("why", ["c is not a member", "paused"])
@pytest.mark.parametrize("check_mode", [True, False])
def test_a_cluster_that_is_paused_or_not_whole_is_refused(why: str, check_mode: bool) -> None:
    cluster = Cluster(paused=why == "paused")
    cluster.nodes["c"].known = why == "paused"
    with pytest.raises(Refused) as caught:
        roll(cluster, check_mode)
    assert (caught.value.refusal.code, cluster.orders) == ("not_healthy", [])
    assert why in caught.value.refusal.why


@pytest.mark.parametrize("time", ["yesterday", "2026-01-01T00:00:00", ""])
def test_a_time_without_zone_is_refused(time: str) -> None:
    with pytest.raises(Refused) as caught:
        roll(Cluster(), before=time)
    assert caught.value.refusal.code == "bad_time"


def test_those_that_wait_are_restarted_but_for_the_leader() -> None:
    cluster = Cluster()
    waiting = {"a", "c"}
    plain = cluster.members

    def members() -> list[dict[str, t.Any]]:
        return [{**one, "pending_restart": one["name"] in waiting} for one in plain()]

    cluster.members = members  # type: ignore[method-assign]
    cluster.on_order = waiting.discard
    assert roll(cluster, everybody=False, skip_leader=True) == {
        "changed": True, "msg": "c restarted; left: a", "restarted": ["c"], "left": ["a"],
    }  # fmt: skip
    assert cluster.orders == [("c", "/restart", {"restart_pending": True, "role": "replica"})]


def test_one_that_waits_for_ever_ends_it() -> None:
    cluster = Cluster()
    plain = cluster.members
    cluster.members = lambda: [{**one, "pending_restart": True} for one in plain()]  # type: ignore[method-assign]
    with pytest.raises(DedicatedError) as caught:
        roll(cluster, everybody=False, skip_leader=True)
    assert caught.value.details["code"] == "still_pending"


# -- making one anew ---------------------------------------------------------------------------------------------------


def reinit(
    cluster: Cluster, name: str = "c", check_mode: bool = False, timeout: float = 60, poll: float = 1, **more: t.Any
) -> dict[str, t.Any]:
    service = ReinitService(ClusterService([cluster], cluster), cluster.connect, cluster, timeout, poll)
    return service.reinitialise(mp.Wish(name, NAMES, max_lag=0, **more), check_mode).as_result()


def refused(cluster: Cluster, name: str = "c", **more: t.Any) -> Refused:
    """The refusal, which check mode knows as well."""
    posts = cluster.posts()
    with pytest.raises(Refused) as dry:
        reinit(cluster, name, check_mode=True, **more)
    assert cluster.posts() == posts
    with pytest.raises(Refused) as caught:
        reinit(cluster, name, **more)
    assert caught.value.refusal == dry.value.refusal
    assert cluster.posts() == posts, "nothing was asked for"
    return caught.value


def broken(**more: t.Any) -> Cluster:
    """c does not stream, the others are well."""
    cluster = Cluster(**more)
    cluster.nodes["c"] = Node("c", None, "start failed", 2, "unknown")
    return cluster


def test_an_ill_member_is_copied_and_seen_streaming() -> None:
    cluster = broken()
    result = reinit(cluster)
    assert cluster.orders == [("c", "/reinitialize", {})]
    assert (result["changed"], result["joined"], result["leader"]) == (True, False, "a")
    assert result["before"] == {"role": "replica", "state": "start failed", "timeline": 2, "lag": None}
    assert result["after"] == {"role": "replica", "state": "streaming", "timeline": 3, "lag": 0}
    assert result["seconds"] >= cluster.copy_seconds
    assert "whatever the leader a has not (c is start failed instead of streaming)" in result["discards"]


def test_check_mode_says_what_would_be_lost_and_asks_for_nothing() -> None:
    cluster = broken()
    result = reinit(cluster, check_mode=True)
    assert (cluster.orders, result["changed"], result["after"]) == ([], True, None)
    assert result["msg"] == "c would be made anew from a"


@pytest.mark.parametrize(("name", "code"), [("", "unknown_member"), ("d", "unknown_member"), ("a", "is_leader")])
@pytest.mark.parametrize("force", [True, False])
def test_a_member_that_cannot_be_meant_is_refused(name: str, code: str, force: bool) -> None:
    refusal = refused(Cluster(), name, force=force, allow_alone=force).refusal
    assert refusal.code == code
    assert code != "unknown_member" or "there are a, b, c" in refusal.why


@pytest.mark.parametrize("force", [True, False])
def test_without_a_leader_there_is_nothing_to_copy(force: bool) -> None:
    assert refused(broken(leader=None), force=force).refusal.code == "no_leader"
    cluster = broken()
    cluster.nodes["a"].state = "starting"
    assert "a is starting" in refused(cluster, force=force).refusal.why


def test_a_member_whose_patroni_is_away_is_refused() -> None:
    cluster = broken()
    cluster.nodes["c"].silent = True
    assert refused(cluster).refusal.code == "member_silent"
    cluster.nodes["c"].known = False
    assert refused(cluster).refusal.code == "member_away"


def test_a_healthy_member_needs_force_and_is_then_copied_each_time() -> None:
    cluster = Cluster()
    refusal = refused(cluster, "b").refusal
    assert refusal.code == "healthy"
    assert "a good synchronous copy of the database (timeline 3, 0 bytes behind)" in refusal.why
    result = reinit(cluster, "b", force=True)
    # Patroni's own force would end a copy.
    assert cluster.orders == [("b", "/reinitialize", {})]
    assert result["discards"].startswith("a good synchronous copy")
    assert cluster.nodes["b"].started == cluster.copy_seconds


def test_a_member_with_a_newer_history_needs_force() -> None:
    cluster = broken()
    cluster.nodes["c"].timeline = 4
    refusal = refused(cluster).refusal
    assert refusal.code == "newer_history"
    assert "timeline 4, the leader a on 3" in refusal.why
    assert reinit(cluster, force=True)["changed"]


@pytest.mark.parametrize("away", ["ill", "unknown", "alone"])
@pytest.mark.parametrize("sync", [(), ("b",)])
def test_the_last_standby_is_kept(away: str, sync: tuple[str, ...]) -> None:
    cluster = Cluster(sync=sync)
    if away == "ill":
        cluster.nodes["c"].state = "stopped"
    elif away == "unknown":
        cluster.nodes["c"].known = False
    else:
        del cluster.nodes["c"]
    refusal = refused(cluster, "b", force=True).refusal
    assert refusal.code == "last_standby"
    assert ("synchronous" in refusal.why) is bool(sync)
    assert ("c is stopped" if away == "ill" else "c is not a member") in refusal.why
    assert reinit(cluster, "b", force=True, allow_alone=True)["changed"]


def test_an_ill_synchronous_standby_counts_when_the_others_are_away_too() -> None:
    cluster = broken()
    cluster.nodes["b"].state = "stopped"
    assert refused(cluster, "b").refusal.code == "last_standby"
    # The one that is neither well nor synchronous is nobody's last copy.
    assert reinit(cluster, "c")["changed"]


def test_a_copy_that_is_being_made_is_waited_for_also_with_force() -> None:
    for force in (True, False):
        cluster = broken()
        with pytest.raises(DeadlineError, match="goes on without this module; run again") as caught:
            reinit(cluster, timeout=5, force=force)
        assert caught.value.details["code"] == "deadline"
        result = reinit(cluster, force=force)
        assert (result["joined"], result["discards"]) == (True, None)
        assert len(cluster.orders) == 1


@pytest.mark.parametrize("moment", range(1, 25))
def test_killed_at_any_moment_and_run_again_it_is_copied_once(moment: int) -> None:
    cluster = broken(kill_at=float(moment))
    try:
        reinit(cluster)
        pytest.fail("not killed") if moment <= cluster.copy_seconds else None
    except Killed:
        # What Patroni does goes on meanwhile.
        if moment < cluster.copy_seconds:
            assert reinit(cluster)["joined"]
        else:
            cluster.sleep(0)
            assert refused(cluster).refusal.code == "healthy"
    assert len(cluster.orders) == 1
    assert cluster.nodes["c"].state == "streaming"


def test_a_copy_that_began_between_look_and_order_is_joined() -> None:
    cluster = broken()

    def begin(name: str) -> None:
        node = cluster.nodes[name]
        node.state, node.copy_until, node.started = "creating replica", 9.0, None

    cluster.on_order = begin
    assert reinit(cluster)["joined"]


def test_an_answer_that_is_lost_is_replaced_by_looking() -> None:
    cluster = broken(lose_answers=True)
    assert reinit(cluster)["after"]["state"] == "streaming"


def test_a_200_after_which_nothing_happens_is_noticed() -> None:
    with pytest.raises(DeadlineError, match="b still runs since 2026-01-01"):
        reinit(Cluster(lie=True), "b", force=True)
    with pytest.raises(DeadlineError, match="c is start failed"):
        reinit(broken(lie=True))


def test_a_member_that_comes_back_on_an_old_timeline_is_not_done() -> None:
    cluster = broken()
    cluster.copy_seconds = 1000

    def half(name: str) -> None:
        node = cluster.nodes[name]
        node.state, node.started, node.lag = "streaming", 1.0, 0
        cluster.lie = True

    cluster.on_order = half
    with pytest.raises(DeadlineError, match="c is on timeline 2, the leader on 3"):
        reinit(cluster)


@pytest.mark.parametrize(("leader", "code"), [("c", "is_leader"), (None, "no_leader")])
def test_a_lead_that_moves_before_the_order_is_patronis_own_refusal(leader: str | None, code: str) -> None:
    cluster = broken()
    cluster.on_order = lambda name: setattr(cluster, "leader", leader)
    with pytest.raises(Refused) as caught:
        reinit(cluster)
    assert caught.value.refusal.code == code


def test_a_busy_member_is_left_alone_without_force() -> None:
    cluster = broken()
    cluster.nodes["c"].busy = "running pg_rewind from a"
    with pytest.raises(Refused, match="running pg_rewind from a already in progress") as caught:
        reinit(cluster)
    assert caught.value.refusal.code == "busy"
    assert reinit(cluster, force=True)["changed"]
    assert [data for _name, _path, data in cluster.orders] == [{}, {}, {"force": True}]


@pytest.mark.parametrize(("status", "hint"), [(401, "username"), (403, "allowlist"), (500, "log")])
def test_a_refused_request_says_what_to_look_at(status: int, hint: str) -> None:
    with pytest.raises(DedicatedError, match=hint):
        reinit(broken(refuse=status))


def test_an_unknown_503_is_reported_in_its_own_words() -> None:
    with pytest.raises(Refused, match="Patroni says: no") as caught:
        reinit(broken(refuse=503))
    assert caught.value.refusal.code == "reinit_refused"


@pytest.mark.parametrize("tagged", [(), ("a",), ("b",), ("a", "b"), ("c",)])
@pytest.mark.parametrize("version", ["4.0.7", "4.1.0", "5.0", ""])
def test_from_leader_is_kept_or_refused(tagged: tuple[str, ...], version: str) -> None:
    cluster = broken(version=version)
    for name in tagged:
        cluster.nodes[name].tags = {"clonefrom": True}
    if version >= "4.1":
        reinit(cluster, from_leader=True)
        assert cluster.orders == [("c", "/reinitialize", {"from_leader": True})]
    elif "b" in tagged:
        assert refused(cluster, from_leader=True).refusal.code == "from_leader_unknown"
    else:
        assert reinit(cluster, from_leader=True)["changed"]


def test_a_silent_cluster_is_reported() -> None:
    class Silent:
        def request(self, method: str, path: str, data: t.Any = None) -> Reply:
            raise PatroniUnreachable("no answer")

    cluster = Cluster()
    with pytest.raises(DedicatedError) as caught:
        ReinitService(ClusterService([Silent()], cluster), cluster.connect, cluster, 9, 1).reinitialise(
            mp.Wish("c", NAMES)
        )
    assert caught.value.details["code"] == "unreachable"


STATES = ("streaming", "start failed", "creating replica")


@pytest.mark.parametrize("leader", [None, *NAMES])
@pytest.mark.parametrize("name", NAMES)
def test_in_no_state_the_leader_or_the_last_good_copy_is_thrown_away(leader: str | None, name: str) -> None:
    began = 0
    for states, sync, force in itertools.product(
        itertools.product(STATES, repeat=3), ((), ("a",), ("b",), ("a", "b")), (True, False)
    ):
        cluster = Cluster(leader, sync)
        for node, state in zip(cluster.nodes.values(), states):
            node.state = state
            node.copy_until = 5.0 if state == "creating replica" and node.name != leader else None
        try:
            reinit(cluster, name, timeout=30, poll=10, force=force)
        except Refused:
            assert cluster.posts() == []
        if cluster.posts():
            began += 1
            good = [one for one, state in zip(NAMES, states) if state == "streaming" and one not in (leader, name)]
            before = states[NAMES.index(name)]
            assert leader not in (None, name)
            assert good or (before != "streaming" and name not in sync)
            assert force or before != "streaming"
            assert before != "creating replica"
    assert (began > 0) is (leader not in (None, name))


@pytest.mark.parametrize("answer", [None, [], {}, {"state": 1}])
def test_an_answer_of_another_shape_names_its_place(answer: t.Any) -> None:
    with pytest.raises(ValueError, match="/patroni: state"):
        mp.parse_own(answer)

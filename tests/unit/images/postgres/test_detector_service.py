# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The failure detector at work: three of them around an etcd of our own, with leases, revisions and transactions."""

from __future__ import annotations

import base64
import dataclasses
import errno
import functools
import json
import socket
import ssl
import sys
import threading
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "images" / "postgres"))

from detector import config as configuration
from detector import metrics as shown
from detector import plan, probes, service
from detector.__main__ import main
from detector.etcd import PENALTY_SECONDS, Etcd, EtcdError, LeaseGone, NotSent, Unsure

MEMBERS = ("a", "b", "c")
KEYS = plan.Keys.of("/dedicated/", "shop")
CONFIG: dict[str, t.Any] = {
    "name": "b",
    "scope": "shop",
    "namespace": "/dedicated/",
    "members": list(MEMBERS),
    "address": "10.0.0.2",
    "etcd": {"endpoints": [f"https://10.0.0.{number}:2379" for number in (1, 2, 3)]},
    "ca": "/pki/ca.pem",
    "cert": "/pki/cert.pem",
    "key": "/pki/key.pem",
    "interval": 0.5,
    "probe_timeout": 1.0,
    "suspect_seconds": 2.0,
    "hold_off_seconds": 300,
    "metrics_port": 8010,
    "socket_dir": "/run/postgresql",
}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeEtcd:
    """What the JSON gateway does with the few calls that the detector makes."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.revision = 50
        self.keys: dict[str, dict[str, t.Any]] = {}
        self.leases: dict[str, tuple[float, int]] = {}
        self.calls: list[tuple[str, str]] = []
        self.password: str | None = None
        self.tokens: set[str] = set()
        # Endpoint -> how it fails; "*": all of them.
        self.down: dict[str, Exception] = {}
        # Path -> an answer instead of the real one, taken once.
        self.instead: dict[str, list[tuple[int, t.Any]]] = {}
        # Called before a transaction that compares something.
        self.before_act: t.Callable[[], None] = lambda: None
        # The act is carried out, but nobody hears of it.
        self.lose_answer = False

    # --- for tests ---

    def set(self, key: str, value: t.Any, lease: str = "0") -> int:
        self.revision += 1
        old = self.keys.get(key)
        self.keys[key] = {
            "value": value if isinstance(value, str) else json.dumps(value),
            "create": old["create"] if old else self.revision,
            "mod": self.revision,
            "lease": lease,
        }
        return self.revision

    def drop(self, key: str) -> None:
        self.revision += 1
        self.keys.pop(key, None)

    def value(self, key: str) -> t.Any:
        return json.loads(self.keys[key]["value"])

    def expire(self) -> None:
        gone = [lease for lease, (until, _ttl) in self.leases.items() if until <= self.clock.now]
        for lease in gone:
            self.end_lease(lease)

    def end_lease(self, lease: str) -> None:
        del self.leases[lease]
        for key in [key for key, entry in self.keys.items() if entry["lease"] == lease]:
            self.drop(key)

    # --- the gateway ---

    def post(
        self, endpoint: str, path: str, body: bytes, headers: t.Mapping[str, str], timeout: float
    ) -> tuple[int, bytes]:
        self.calls.append((endpoint, path))
        problem = self.down.get(endpoint) or self.down.get("*")
        if problem is not None:
            raise problem
        self.expire()
        if self.instead.get(path):
            status, answer = self.instead[path].pop(0)
        else:
            status, answer = self.answer(path, json.loads(body), headers.get("Authorization"))
        return status, answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def close(self) -> None:
        self.calls.append(("", "close"))

    def answer(self, path: str, data: dict[str, t.Any], token: str | None) -> tuple[int, t.Any]:
        if path == "/v3/auth/authenticate":
            if self.password is None:
                return 400, {"code": 9, "message": "etcdserver: authentication is not enabled"}
            if data["password"] != self.password:
                return 400, {"code": 3, "message": "etcdserver: authentication failed, invalid user ID or password"}
            self.tokens.add(f"token-{len(self.calls)}")
            return 200, {"header": {}, "token": f"token-{len(self.calls)}"}
        if self.password is not None and token not in self.tokens:
            if token is None:
                return 400, {"code": 3, "message": "etcdserver: user name is empty"}
            return 401, {"code": 16, "message": "etcdserver: invalid auth token"}
        return getattr(self, "_" + path.rsplit("/", 1)[1])(data)

    def _header(self) -> dict[str, str]:
        return {"cluster_id": "1", "revision": str(self.revision)}

    def _grant(self, data: dict[str, t.Any]) -> tuple[int, t.Any]:
        lease = str(7000 + len(self.calls))
        self.leases[lease] = (self.clock.now + int(data["TTL"]), int(data["TTL"]))
        return 200, {"header": self._header(), "ID": lease, "TTL": data["TTL"]}

    def _keepalive(self, data: dict[str, t.Any]) -> tuple[int, t.Any]:
        if data["ID"] not in self.leases:
            return 200, {"result": {"header": self._header(), "ID": data["ID"]}}
        ttl = self.leases[data["ID"]][1]
        self.leases[data["ID"]] = (self.clock.now + ttl, ttl)
        return 200, {"result": {"header": self._header(), "ID": data["ID"], "TTL": str(ttl)}}

    def _revoke(self, data: dict[str, t.Any]) -> tuple[int, t.Any]:
        if data["ID"] not in self.leases:
            return 404, {"code": 5, "message": "etcdserver: requested lease not found"}
        self.end_lease(data["ID"])
        return 200, {"header": self._header()}

    def _put(self, data: dict[str, t.Any]) -> tuple[int, t.Any]:
        if data.get("lease", "0") != "0" and data["lease"] not in self.leases:
            return 404, {"code": 5, "message": "etcdserver: requested lease not found"}
        self.set(text(data["key"]), text(data["value"]), data.get("lease", "0"))
        return 200, {"header": self._header()}

    def _range(self, data: dict[str, t.Any]) -> dict[str, t.Any]:
        first, end = text(data["key"]), text(data["range_end"]) if "range_end" in data else None
        names = sorted(name for name in self.keys if (first <= name < end if end else name == first))
        kvs = [
            {
                "key": b64(name),
                "value": b64(self.keys[name]["value"]),
                "mod_revision": str(self.keys[name]["mod"]),
                "create_revision": str(self.keys[name]["create"]),
                # As the gateway does, nothing is said of what is zero.
                **({"lease": self.keys[name]["lease"]} if self.keys[name]["lease"] != "0" else {}),
            }
            for name in names
        ]
        # Nor of an empty list.
        return {"response_range": {"header": self._header(), **({"kvs": kvs, "count": str(len(kvs))} if kvs else {})}}

    def _holds(self, compare: dict[str, t.Any]) -> bool:
        found = self.keys.get(text(compare["key"]))
        assert compare["result"] == "EQUAL"
        if compare["target"] == "CREATE":
            return (found["create"] if found else 0) == int(compare["create_revision"])
        if compare["target"] == "MOD":
            return (found["mod"] if found else 0) == int(compare["mod_revision"])
        if compare["target"] == "LEASE":
            return (found["lease"] if found else "0") == compare["lease"]
        assert compare["target"] == "VALUE"
        return found is not None and found["value"] == text(compare["value"])

    def _txn(self, data: dict[str, t.Any]) -> tuple[int, t.Any]:
        if data["compare"]:
            self.before_act()
            self.expire()
        succeeded = all(self._holds(compare) for compare in data["compare"])
        puts = [step["request_put"] for step in data["success"] if "request_put" in step]
        if succeeded and any(put["lease"] not in {"0", *self.leases} for put in puts):
            return 404, {"code": 5, "message": "etcdserver: requested lease not found"}
        responses = []
        for step in data["success"] if succeeded else data.get("failure", []):
            if "request_range" in step:
                responses.append(self._range(step["request_range"]))
            elif "request_delete_range" in step:
                self.drop(text(step["request_delete_range"]["key"]))
                responses.append({"response_delete_range": {"deleted": "1"}})
            else:
                self._put(step["request_put"])
                responses.append({"response_put": {}})
        if data["compare"] and self.lose_answer:
            raise TimeoutError("timed out")
        answer = {"header": self._header(), "responses": responses}
        return 200, {**answer, "succeeded": True} if succeeded else answer


class FakeSenses:
    """Every kind of probe, asked at once, of a leader whose life the test decides."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.target: plan.Target | None = None

    def aim(self, target: plan.Target | None) -> None:
        self.target = target

    def collect(self) -> list[plan.Observation]:
        if self.target is None:
            return []
        now = self.world.clock.now
        alive = self.target.leader not in self.world.dead and self.name not in self.world.blind
        return [
            plan.Observation(
                kind,
                self.target,
                now - 0.1,
                now,
                alive,
                "answered" if alive else "timed out",
                kind == plan.STREAM and self.name not in self.world.not_streaming,
            )
            for kind in plan.KINDS
        ]


STANDBY = {"state": "running", "role": "replica"}


class World:
    """Patroni's keys as they stand, and a detector per member."""

    def __init__(self, **settings: t.Any) -> None:
        self.clock = Clock()
        self.etcd = FakeEtcd(self.clock)
        self.dead: set[str] = set()
        self.blind: set[str] = set()
        self.not_streaming: set[str] = set()
        self.logs: dict[str, list[dict[str, t.Any]]] = {name: [] for name in MEMBERS}
        self.metrics: dict[str, shown.Metrics] = {}
        self.detectors: dict[str, service.Detector] = {}
        for number, name in enumerate(MEMBERS, 1):
            address = {
                "api_url": f"https://10.0.0.{number}:8008/patroni",
                "conn_url": f"postgres://10.0.0.{number}:5432/x",
            }
            self.etcd.leases[self.session(name)] = (float("inf"), 20)
            self.etcd.set(KEYS.member(name), {**address, **STANDBY}, self.session(name))
        self.etcd.set(KEYS.config, {"synchronous_mode": True})
        self.etcd.set(KEYS.sync, {"leader": "a", "sync_standby": "b", "quorum": 0})
        self.take("a")
        for name in MEMBERS:
            self.start(name, **settings)

    @staticmethod
    def session(name: str) -> str:
        """The lease of a member's Patroni."""
        return str(7_000_000_000_000_000_000 + ord(name))

    def take(self, name: str) -> None:
        """A member's Patroni takes the free key."""
        self.etcd.set(KEYS.leader, name, self.session(name))

    def start(self, name: str, **settings: t.Any) -> None:
        config = configuration.parse(json.dumps({**CONFIG, **settings, "name": name}))
        etcd = Etcd(self.etcd, config.endpoints, config.address, config.username, config.password, self.clock)
        self.metrics[name] = shown.Metrics(self.clock)
        self.detectors[name] = service.Detector(
            config,
            etcd,
            FakeSenses(self, name),
            self.metrics[name],
            functools.partial(self.note, name),
            self.clock,
            lambda: f"{name}-{len(self.logs[name])}",
        )

    def note(self, name: str, event: t.Mapping[str, t.Any]) -> None:
        self.logs[name].append(dict(event))

    def run(self, seconds: float, order: t.Sequence[str] = MEMBERS) -> None:
        """Time passes; a dead member's detector is dead too."""
        for _ in range(round(seconds / 0.5)):
            self.clock.now += 0.5
            for name in order:
                if name in self.detectors and name not in self.dead:
                    self.detectors[name].tick()

    def removals(self) -> list[dict[str, t.Any]]:
        return self.told("removal")

    def told(self, event: str) -> list[dict[str, t.Any]]:
        return [told for name in MEMBERS for told in self.logs[name] if told["event"] == event]

    def counts(self, name: str) -> tuple[int, int]:
        """Removals and handings over, as the metrics say."""
        lines = dict(line.rsplit(" ", 1) for line in self.metrics[name].text().splitlines() if line[0] != "#")
        first, second = (lines[f"dedicated_detector_{kind}_total"] for kind in ("removals", "handovers"))
        return int(first), int(second)

    def code(self, name: str) -> str | None:
        decision = self.detectors[name].decision
        return decision.code if decision is not None else None


@pytest.fixture
def world() -> World:
    made = World()
    made.run(3)
    return made


# --- the whole --------------------------------------------------------------------------------------------------------


def test_while_all_is_well_nothing_is_written_but_leases_are_renewed(world: World) -> None:
    revision = world.etcd.revision
    world.run(60)
    assert world.etcd.revision == revision
    assert {world.code("b"), world.code("c")} == {plan.QUIET}
    assert world.code("a") == plan.OWN_LEADER
    assert {name for name in world.etcd.keys if name.startswith(KEYS.votes)} == {KEYS.vote(name) for name in MEMBERS}
    assert all(len(world.logs[name]) <= 2 for name in MEMBERS)


@pytest.mark.parametrize("order", [("b", "c"), ("c", "b")])
def test_a_dead_leader_is_removed_once_by_its_synchronous_standby(world: World, order: tuple[str, str]) -> None:
    world.dead.add("a")
    died = world.clock.now
    while KEYS.leader in world.etcd.keys:
        world.run(0.5, order)
        assert world.clock.now - died < 4.0
    assert world.clock.now - died >= 2.0
    (removal,) = world.removals()
    assert (removal["removed"], removal["by"]) == ("a", "b")
    assert set(removal["votes"]) == {"b", "c"}
    assert all(vote["silence_seconds"] >= 2.0 for vote in removal["votes"].values())
    assert world.etcd.value(KEYS.hold)["removed"] == "a"
    assert "dedicated_detector_removals_total 1" in world.metrics["b"].text()
    assert "dedicated_detector_removals_total 0" in world.metrics["c"].text()


def test_the_hold_stands_for_its_time_and_nothing_is_removed_meanwhile(world: World) -> None:
    world.dead.add("a")
    world.run(4)
    assert len(world.removals()) == 1
    # Its successor dies too.
    world.dead.clear()
    world.take("b")
    world.etcd.set(KEYS.sync, {"leader": "b", "sync_standby": "c", "quorum": 0})
    world.run(2)
    world.dead.add("b")
    world.run(290)
    assert KEYS.leader in world.etcd.keys
    assert world.code("c") == plan.HOLD_OFF
    assert f'dedicated_detector_refusals_total{{code="{plan.HOLD_OFF}"}} 1' in world.metrics["c"].text()
    world.run(20)
    assert len(world.removals()) == 2


def test_another_member_removes_when_the_standby_agrees_but_does_not_act(world: World) -> None:
    world.dead.add("a")
    world.detectors["b"]._carry_out = lambda *_: None  # type: ignore[method-assign]
    world.run(5)
    assert [removal["by"] for removal in world.removals()] == ["c"]


@pytest.mark.parametrize("lost", ["b", "c"])
def test_one_member_alone_removes_nothing(world: World, lost: str) -> None:
    world.dead.update(("a", lost))
    world.run(60)
    assert KEYS.leader in world.etcd.keys


def test_a_frozen_detectors_vote_ends_with_its_lease(world: World) -> None:
    """c suspects, and then its detector stands still: its word must not outlive it."""
    world.blind.add("c")
    world.run(4)
    assert world.etcd.value(KEYS.vote("c"))["suspects"] == "a"
    del world.detectors["c"]
    world.run(4)
    assert KEYS.vote("c") not in world.etcd.keys
    world.dead.add("a")
    world.run(30)
    assert KEYS.leader in world.etcd.keys


def test_a_member_whose_view_is_cut_is_outvoted(world: World) -> None:
    world.blind.add("b")
    world.run(60)
    assert KEYS.leader in world.etcd.keys
    assert world.code("b") == plan.MINORITY
    assert f'dedicated_detector_refusals_total{{code="{plan.MINORITY}"}} 1' in world.metrics["b"].text()
    world.blind.clear()
    world.run(1)
    assert world.etcd.value(KEYS.vote("b"))["suspects"] is None


def test_a_liar_is_outvoted(world: World) -> None:
    revision = world.etcd.keys[KEYS.leader]["mod"]
    lie = plan.Vote("a", revision, 99.0, True).as_text()
    del world.detectors["c"]
    for _ in range(20):
        world.etcd.set(KEYS.vote("c"), lie)
        world.etcd.set(KEYS.vote("a"), lie)
        world.run(0.5)
    assert KEYS.leader in world.etcd.keys


def test_without_a_streaming_standby_the_lease_must_run_out(world: World) -> None:
    world.not_streaming.add("b")
    world.run(5)
    world.dead.add("a")
    world.run(20)
    assert KEYS.leader in world.etcd.keys
    assert world.code("b") == plan.NO_SYNC_WITNESS


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        (KEYS.operation, {"by": "x"}, plan.OPERATION),
        (KEYS.failover, {"leader": "a"}, plan.FAILOVER_ASKED),
        (KEYS.config, {"synchronous_mode": True, "pause": True}, plan.PAUSED),
        (KEYS.config, {"synchronous_mode": "quorum"}, plan.QUORUM_MODE),
        (KEYS.config, {}, plan.NOT_SYNCHRONOUS),
        (KEYS.sync, {"leader": "a", "sync_standby": None}, plan.NO_SYNC_STANDBY),
        (KEYS.sync, "?", plan.BAD_SYNC),
    ],
)
def test_what_forbids_it_before_and_at_the_last_moment(key: str, value: t.Any, code: str) -> None:
    before = World()
    before.run(3)
    before.etcd.set(key, value)
    before.dead.add("a")
    before.run(20)
    assert KEYS.leader in before.etcd.keys
    assert before.code("b") == code

    late = World()
    late.run(3)

    def at_the_last_moment() -> None:
        if late.code("b") == plan.REMOVE:
            late.etcd.set(key, value)

    late.etcd.before_act = at_the_last_moment
    late.dead.add("a")
    late.run(20)
    assert KEYS.leader in late.etcd.keys
    assert KEYS.hold not in late.etcd.keys
    assert not late.removals()
    problems = [event["problem"] for event in late.logs["b"] if event.get("about") == "removal"]
    assert problems
    assert key in problems[0]


@pytest.mark.parametrize("who", ["b", "c"])
def test_a_vote_that_changes_at_the_last_moment_stops_it(world: World, who: str) -> None:
    world.etcd.before_act = lambda: world.etcd.drop(KEYS.vote(who))
    world.dead.add("a")
    world.run(3)
    assert KEYS.leader in world.etcd.keys
    assert not [lease for lease, (_until, ttl) in world.etcd.leases.items() if ttl == 300]


def test_a_leader_that_takes_its_key_anew_at_the_last_moment_keeps_it(world: World) -> None:
    def take_it_anew() -> None:
        world.etcd.set(KEYS.leader, "a")

    world.etcd.before_act = take_it_anew
    world.dead.add("a")
    world.run(20)
    assert KEYS.leader in world.etcd.keys


def test_a_new_leader_is_watched_from_zero(world: World) -> None:
    world.dead.add("a")
    world.run(4)
    world.etcd.set(KEYS.leader, "b")
    world.etcd.set(KEYS.sync, {"leader": "b", "sync_standby": "c"})
    world.run(2)
    assert (world.code("b"), world.code("c")) == (plan.OWN_LEADER, plan.HOLD_OFF)
    assert world.etcd.value(KEYS.vote("c"))["suspects"] is None
    assert 'suspects{leader="b"} 0' in world.metrics["c"].text()


def test_a_detector_started_beside_a_dead_leader_is_no_witness() -> None:
    """It never saw its own receiver stream from that leader."""
    world = World()
    world.dead.add("a")
    world.not_streaming.update("bc")
    world.run(30)
    assert world.code("b") == plan.NO_SYNC_WITNESS
    assert KEYS.leader in world.etcd.keys


def test_it_looks_more_often_while_a_decision_is_near(world: World) -> None:
    detector = world.detectors["b"]
    assert detector.pause() == 0.5
    world.blind.add("b")
    world.run(1.5)
    assert detector.pause() == service.QUICK_SECONDS
    world.run(3)
    assert detector.pause() == service.QUICK_SECONDS
    world.run(3)
    assert detector.pause() == 0.5
    assert world.detectors["a"].pause() == 0.5


def test_leaders_without_addresses_are_not_suspected_and_said_so() -> None:
    world = World()
    world.etcd.drop(KEYS.members + "a")
    world.dead.add("a")
    world.run(20)
    assert KEYS.leader in world.etcd.keys
    assert [event for event in world.logs["b"] if event.get("about") == "leader's addresses"]


def test_known_addresses_serve_when_the_members_key_is_gone(world: World) -> None:
    world.etcd.drop(KEYS.members + "a")
    world.dead.add("a")
    world.run(4)
    assert len(world.removals()) == 1


# --- the second step --------------------------------------------------------------------------------------------------


@pytest.fixture
def retaken() -> World:
    """The standbys hear nothing of a healthy leader, and it has just taken its key back."""
    made = World()
    made.run(3)
    made.blind.update("bc")
    take_back(made)
    return made


def take_back(world: World, name: str = "a") -> None:
    for _ in range(10):
        if KEYS.leader not in world.etcd.keys:
            break
        world.run(0.5)
    (removal,) = world.removals()
    assert (removal["step"], removal["removed"]) == (1, "a")
    # A moment without a leader, in which the detectors look.
    world.run(0.5)
    assert world.code("b") == plan.NO_LEADER
    world.take(name)


def until_handed(world: World, seconds: float = 4.0) -> float:
    began = world.clock.now
    while not world.told("handing_over"):
        world.run(0.5)
        assert world.clock.now - began <= seconds
    return world.clock.now - began


def untouched(world: World) -> bool:
    """The key is a's, and nothing was left of an attempt."""
    holds = [lease for lease, (_until, ttl) in world.etcd.leases.items() if ttl == 300]
    return world.etcd.keys[KEYS.leader]["value"] == "a" and not world.told("handing_over") and len(holds) <= 1


@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "b", "a")])
def test_removed_retaken_silent_on_handed_over_and_nothing_more(order: tuple[str, ...]) -> None:
    world = World()
    world.run(3)
    world.blind.update("bc")
    take_back(world)
    sync = dict(world.etcd.keys[KEYS.sync])
    first_hold = world.etcd.keys[KEYS.hold]["lease"]
    took = world.clock.now
    while world.etcd.keys[KEYS.leader]["value"] == "a":
        world.run(0.5, order)
        assert world.clock.now - took <= 4.0
    assert world.clock.now - took >= 2.0
    (story,) = world.told("handing_over")
    assert (story["step"], story["taken_from"], story["handed_to"], story["by"]) == (2, "a", "b", "b")
    assert set(story["votes"]) == {"b", "c"}
    assert all(vote["silence_seconds"] >= 2.0 for vote in story["votes"].values())
    assert any("took its key back" in reason for reason in story["why"])
    assert world.etcd.keys[KEYS.leader]["lease"] == world.session("b") == world.etcd.keys[KEYS.member("b")]["lease"]
    # What the old leader has read of /sync is no longer the last word.
    assert world.etcd.keys[KEYS.sync]["value"] == sync["value"]
    assert world.etcd.keys[KEYS.sync]["mod"] > sync["mod"]
    hold = world.etcd.keys[KEYS.hold]
    assert {key: story[key] for key in world.etcd.value(KEYS.hold)} == world.etcd.value(KEYS.hold)
    assert hold["lease"] != first_hold
    until, ttl = world.etcd.leases[hold["lease"]]
    assert (ttl, until - world.clock.now) == (300, 300)
    assert (world.counts("b"), world.counts("c")) == ((1, 1), (0, 0))
    # b leads, and within the hold its own standbys may hear nothing of it either: nothing more happens.
    world.etcd.set(KEYS.sync, {"leader": "b", "sync_standby": "c", "quorum": 0})
    world.blind.clear()
    world.run(2)
    world.blind.update("ac")
    world.run(293)
    assert world.etcd.keys[KEYS.leader]["value"] == "b"
    assert world.code("c") == plan.HOLD_OFF
    assert len(world.told("handing_over")) == 1
    world.run(10)
    assert KEYS.leader not in world.etcd.keys
    assert [removal["removed"] for removal in world.removals()] == ["a", "b"]


def test_a_leader_that_takes_it_back_a_second_time_keeps_it_for_the_hold(retaken: World) -> None:
    """Whatever it was that let it: within the hold there is no third step."""
    until_handed(retaken)
    retaken.etcd.drop(KEYS.leader)
    retaken.run(1)
    retaken.take("a")
    retaken.run(60)
    assert retaken.etcd.keys[KEYS.leader]["value"] == "a"
    assert retaken.code("b") == plan.HOLD_OFF
    assert len(retaken.told("handing_over")) == 1


def test_taken_back_between_two_looks_is_the_same() -> None:
    world = World()
    world.run(3)
    world.blind.update("bc")
    while KEYS.leader in world.etcd.keys:
        world.run(0.5, ("c", "b", "a"))
    world.take("a")
    until_handed(world)


def test_taken_back_and_silence_over_nothing_more_happens(retaken: World) -> None:
    retaken.run(1)
    retaken.blind.clear()
    retaken.run(60)
    assert untouched(retaken)
    assert retaken.code("b") == plan.HOLD_OFF
    # It dies only then, and within the hold: that is the second step's all the same.
    retaken.dead.add("a")
    until_handed(retaken)


def test_a_standby_that_streams_no_more_when_the_second_silence_begins_takes_nothing(retaken: World) -> None:
    retaken.blind.clear()
    retaken.not_streaming.add("b")
    retaken.run(5)
    retaken.blind.update("bc")
    retaken.run(60)
    assert untouched(retaken)


def test_taken_by_another_nothing_more_happens() -> None:
    world = World()
    world.run(3)
    world.blind.update("bc")
    take_back(world, "c")
    world.etcd.set(KEYS.sync, {"leader": "c", "sync_standby": "b", "quorum": 0})
    world.blind = {"a", "b"}
    world.run(290)
    assert world.etcd.keys[KEYS.leader]["value"] == "c"
    assert world.code("b") == plan.HOLD_OFF
    assert not world.told("handing_over")


def test_what_was_seen_before_another_led_is_not_carried_over(retaken: World) -> None:
    """a again, but b was the leader in between: whether it streams from a now, nobody has seen."""
    until_handed(retaken)
    retaken.run(5)
    retaken.etcd.drop(KEYS.hold)
    retaken.take("a")
    retaken.run(60)
    assert retaken.etcd.keys[KEYS.leader]["value"] == "a"
    assert retaken.code("b") == plan.NO_SYNC_WITNESS


@pytest.mark.parametrize("hold", ["garbage", {"step": 1}, {"removed": "c"}, {"step": 2, "removed": "a"}, ["a"]])
def test_a_hold_that_tells_something_else(retaken: World, hold: t.Any) -> None:
    retaken.etcd.keys[KEYS.hold]["value"] = hold if isinstance(hold, str) else json.dumps(hold)
    retaken.run(60)
    assert untouched(retaken)
    assert retaken.code("b") == plan.HOLD_OFF


def test_a_hold_of_an_older_detector_is_a_removal(retaken: World) -> None:
    retaken.etcd.keys[KEYS.hold]["value"] = json.dumps({"removed": "a", "by": "c", "id": "x"})
    until_handed(retaken)


def test_a_hold_that_is_younger_than_the_key_tells_of_something_else(retaken: World) -> None:
    retaken.etcd.set(KEYS.hold, retaken.etcd.value(KEYS.hold))
    retaken.run(60)
    assert untouched(retaken)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda etcd: etcd.set(KEYS.operation, {"by": "x"}), KEYS.operation),
        (lambda etcd: etcd.set(KEYS.failover, {"leader": "a", "member": "c"}), KEYS.failover),
        (lambda etcd: etcd.set(KEYS.config, {"synchronous_mode": True, "pause": True}), KEYS.config),
        # The old leader goes on alone.
        (lambda etcd: etcd.set(KEYS.sync, {"leader": "a", "sync_standby": None}), KEYS.sync),
        (lambda etcd: etcd.drop(KEYS.sync), KEYS.sync),
        (lambda etcd: etcd.set(KEYS.leader, "a"), KEYS.leader),
        (lambda etcd: etcd.set(KEYS.leader, "c"), KEYS.leader),
        (lambda etcd: etcd.drop(KEYS.leader), KEYS.leader),
        (lambda etcd: etcd.set(KEYS.hold, "{}"), KEYS.hold),
        (lambda etcd: etcd.drop(KEYS.hold), KEYS.hold),
        (lambda etcd: etcd.set(KEYS.vote("b"), plan.Vote().as_text()), KEYS.vote("b")),
        (lambda etcd: etcd.drop(KEYS.vote("c")), KEYS.vote("c")),
        # Another Patroni of b, or none.
        (lambda etcd: etcd.set(KEYS.member("b"), STANDBY, World.session("c")), KEYS.member("b")),
        (lambda etcd: etcd.set(KEYS.member("b"), STANDBY), KEYS.member("b")),
        (lambda etcd: etcd.drop(KEYS.member("b")), KEYS.member("b")),
        (lambda etcd: etcd.end_lease(World.session("b")), KEYS.member("b")),
        # The key stands, but its lease is gone.
        (lambda etcd: etcd.leases.pop(World.session("b")), "requested lease not found"),
    ],
)
def test_what_comes_between_the_look_and_the_second_step(
    retaken: World, change: t.Callable[[FakeEtcd], object], told: str
) -> None:
    tries: list[tuple[dict[str, t.Any], int]] = []

    def at_the_last_moment() -> None:
        if not tries:
            change(retaken.etcd)
        tries.append((dict(retaken.etcd.keys), len(retaken.etcd.leases)))

    retaken.etcd.before_act = at_the_last_moment
    for _ in range(8):
        if not tries:
            retaken.run(0.5, ("a", "c", "b"))
    assert len(tries) == 1
    # Nothing was written, and the lease of the hold that was not put is gone.
    assert (retaken.etcd.keys, len(retaken.etcd.leases)) == (tries[0][0], tries[0][1] - 1)
    assert not retaken.told("handing_over")
    assert retaken.counts("b") == (1, 0)
    problems = [event["problem"] for event in retaken.logs["b"] if event.get("about") == "handing_over"]
    assert len(problems) == 1
    assert told in problems[0]


def test_patroni_writing_its_member_key_meanwhile_is_no_hindrance(retaken: World) -> None:
    retaken.etcd.before_act = lambda: (
        retaken.etcd.set(KEYS.member("b"), {**STANDBY, "xlog_location": 7}, World.session("b")),
        None,
    )[1]
    until_handed(retaken)


def test_of_two_synchronous_standbys_one_takes_it(retaken: World) -> None:
    retaken.etcd.set(KEYS.sync, {"leader": "a", "sync_standby": "b,c", "quorum": 0})
    until_handed(retaken)
    retaken.run(5)
    assert len(retaken.told("handing_over")) == 1


def test_a_handing_over_whose_answer_is_lost_is_not_repeated_and_found_later(retaken: World) -> None:
    retaken.etcd.lose_answer = True
    while retaken.etcd.keys[KEYS.leader]["value"] == "a":
        retaken.run(0.5)
    assert len(retaken.told("handing_over_unsure")) == 1
    assert not retaken.told("handing_over")
    retaken.etcd.lose_answer = False
    retaken.run(1)
    (story,) = retaken.told("handing_over")
    assert (story["handed_to"], story["revision"]) == ("b", retaken.etcd.keys[KEYS.hold]["mod"])
    assert retaken.counts("b") == (1, 1)
    # The hold stands: its lease was not revoked.
    assert retaken.etcd.value(KEYS.hold)["step"] == 2


def test_a_handing_over_whose_fate_is_unknown_is_tried_again_after_a_while(retaken: World) -> None:
    attempts: list[float] = []

    def vanish() -> None:
        attempts.append(retaken.clock.now)
        if len(attempts) == 1:
            raise TimeoutError("timed out")

    retaken.etcd.before_act = vanish
    until_handed(retaken, 12.0)
    assert len(attempts) == 2
    assert attempts[1] - attempts[0] >= service.UNSURE_SECONDS
    assert retaken.etcd.keys[KEYS.leader]["value"] == "b"


# --- trouble with etcd ------------------------------------------------------------------------------------------------


def test_an_outage_of_etcd_neither_ends_it_nor_lets_it_act(world: World) -> None:
    world.etcd.down["*"] = NotSent("refused")
    world.dead.add("a")
    world.run(30)
    for lease, (_until, ttl) in world.etcd.leases.items():
        if ttl == service.VOTE_SECONDS:
            world.etcd.leases[lease] = (0.0, ttl)
    assert KEYS.leader in world.etcd.keys
    assert world.metrics["b"].healthy()
    assert "dedicated_detector_etcd_errors_total 60" in world.metrics["b"].text()
    assert len([event for event in world.logs["b"] if event.get("about") == "etcd"]) <= 2
    world.etcd.down.clear()
    world.run(2)
    assert len(world.removals()) == 1
    assert [event["over"] for event in world.logs["b"] if event.get("about") == "etcd"][-1] is True


def test_a_removal_whose_answer_is_lost_is_not_repeated_and_found_later(world: World) -> None:
    world.etcd.lose_answer = True
    world.dead.add("a")
    world.run(2.5)
    assert KEYS.leader not in world.etcd.keys
    assert KEYS.hold in world.etcd.keys
    removals_sent = [call for call in world.etcd.calls if call[1] == "/v3/kv/txn"]
    world.etcd.lose_answer = False
    world.run(1)
    assert [removal["by"] for removal in world.removals()] == ["b"]
    assert KEYS.hold in world.etcd.keys
    assert removals_sent


def test_a_removal_whose_fate_is_unknown_is_tried_again_after_a_while(world: World) -> None:
    attempts: list[float] = []

    def vanish() -> None:
        attempts.append(world.clock.now)
        if len(attempts) <= 1:
            raise TimeoutError("timed out")

    world.etcd.before_act = vanish
    del world.detectors["c"]
    revision = world.etcd.keys[KEYS.leader]["mod"]
    world.etcd.set(KEYS.vote("c"), plan.Vote("a", revision, 9.0, False).as_text())
    world.dead.add("a")
    world.run(12)
    assert attempts[1] - attempts[0] >= service.UNSURE_SECONDS
    assert len(world.removals()) == 1


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b"<html>"),
        (200, []),
        (200, {}),
        (200, {"header": {"revision": "5"}, "responses": []}),
        (200, {"header": {"revision": "x"}, "responses": [{}] * 8}),
        (200, {"header": {"revision": "5"}, "responses": [{"response_range": {"kvs": [{"key": "%"}]}}] * 8}),
        (500, b""),
        (503, {"code": 14, "message": "etcdserver: request timed out"}),
        (403, {"code": 7, "message": "etcdserver: permission denied"}),
        (200, {"error": {"grpc_code": 14, "message": "etcdserver: no leader"}}),
    ],
)
def test_nonsense_from_etcd_is_an_error_and_no_more(world: World, status: int, answer: t.Any) -> None:
    world.etcd.instead["/v3/kv/txn"] = [(status, answer)] * 3
    world.detectors["b"].tick()
    world.etcd.instead.clear()
    world.run(1)
    assert world.code("b") == plan.QUIET


def test_a_lost_vote_is_written_again(world: World) -> None:
    world.etcd.drop(KEYS.vote("b"))
    world.run(1)
    assert KEYS.vote("b") in world.etcd.keys
    world.clock.now += 10
    world.etcd.expire()
    assert KEYS.vote("b") not in world.etcd.keys
    world.run(0.5)
    assert KEYS.vote("b") in world.etcd.keys


def test_the_end_withdraws_the_vote(world: World) -> None:
    world.detectors["b"].stop()
    assert KEYS.vote("b") not in world.etcd.keys
    assert KEYS.vote("c") in world.etcd.keys
    world.etcd.down["*"] = TimeoutError("timed out")
    world.detectors["c"].stop()
    assert world.logs["c"][-1]["event"] == "stop"


# --- the client -------------------------------------------------------------------------------------------------------

ENDPOINTS = ("https://10.0.0.1:2379", "https://10.0.0.2:2379", "https://10.0.0.3:2379")


def client(username: str | None = None, password: str | None = None) -> tuple[Etcd, FakeEtcd]:
    clock = Clock()
    fake = FakeEtcd(clock)
    return Etcd(fake, ENDPOINTS, "10.0.0.2", username, password, clock), fake


def asked(fake: FakeEtcd) -> list[str]:
    return [endpoint for endpoint, _path in fake.calls]


def test_its_own_host_is_asked_first_and_the_suspects_last() -> None:
    etcd, fake = client()
    etcd.snapshot(KEYS)
    assert asked(fake) == [ENDPOINTS[1]]
    etcd.avoid = "10.0.0.1"
    fake.calls.clear()
    fake.down[ENDPOINTS[1]] = NotSent("refused")
    etcd.snapshot(KEYS)
    etcd.snapshot(KEYS)
    assert asked(fake) == [ENDPOINTS[1], ENDPOINTS[2], ENDPOINTS[2]]
    fake.clock.now += PENALTY_SECONDS
    fake.down.clear()
    fake.calls.clear()
    etcd.snapshot(KEYS)
    assert asked(fake) == [ENDPOINTS[1]]


def test_when_no_endpoint_answers_all_are_named() -> None:
    etcd, fake = client()
    fake.down["*"] = TimeoutError("timed out")
    with pytest.raises(EtcdError) as caught:
        etcd.snapshot(KEYS)
    assert all(endpoint in str(caught.value) for endpoint in ENDPOINTS)


GUARD = plan.Guard(KEYS.leader, plan.REVISION, revision=51)
REMOVAL = plan.Act(plan.REMOVE, "a", 51, {}, (GUARD,), KEYS.hold, delete=KEYS.leader)


def test_a_removal_goes_to_another_endpoint_only_when_it_was_surely_not_sent() -> None:
    etcd, fake = client()
    assert fake.set(KEYS.leader, "a") == 51
    fake.down[ENDPOINTS[1]] = TimeoutError("timed out")
    with pytest.raises(Unsure):
        etcd.carry_out(REMOVAL, "{}", "0")
    assert KEYS.leader in fake.keys
    fake.clock.now += PENALTY_SECONDS
    fake.down[ENDPOINTS[1]] = NotSent("refused")
    assert etcd.carry_out(REMOVAL, "{}", "0").done
    assert KEYS.leader not in fake.keys
    assert not etcd.carry_out(REMOVAL, "{}", "0").done


def test_a_guard_that_guards_nothing_is_never_sent() -> None:
    etcd, fake = client()
    nothing = [plan.Guard(KEYS.leader, kind) for kind in (plan.REVISION, plan.LEASE)]
    for guard in (*nothing, plan.Guard(KEYS.leader, "?", revision=3, lease=3)):
        with pytest.raises(ValueError, match="guards nothing"):
            etcd.carry_out(dataclasses.replace(REMOVAL, guards=(guard,)), "{}", "0")
    assert not fake.calls


def test_a_handing_over_is_one_transaction_in_its_order_or_nothing() -> None:
    etcd, fake = client()
    mine, hold = etcd.grant(20), etcd.grant(300)
    fake.set(KEYS.member("b"), "{}", mine)
    fake.set(KEYS.leader, "a")
    fake.set(KEYS.sync, "s")
    act = plan.Act(
        plan.HAND_OVER,
        "a",
        52,
        {},
        (plan.Guard(KEYS.member("b"), plan.LEASE, lease=int(mine)),),
        KEYS.hold,
        puts=(plan.Put(KEYS.leader, "b", int(mine)), plan.Put(KEYS.sync, "s")),
    )
    assert not etcd.carry_out(dataclasses.replace(act, guards=(GUARD,)), "{}", hold).done
    other = etcd.carry_out(dataclasses.replace(act, guards=(plan.Guard(KEYS.sync, plan.LEASE, lease=8),)), "{}", hold)
    assert other.why == (f"{KEYS.sync} hangs on another lease",)
    # The lease of the member key is compared, but it is etcd that knows whether it lives.
    with pytest.raises(LeaseGone):
        etcd.carry_out(dataclasses.replace(act, puts=(act.puts[1], plan.Put(KEYS.leader, "b", 9))), "{}", hold)
    assert (fake.keys[KEYS.leader]["value"], fake.keys[KEYS.sync]["mod"], KEYS.hold in fake.keys) == ("a", 53, False)
    assert etcd.carry_out(act, "{}", hold).done
    written = [(fake.keys[key]["value"], fake.keys[key]["lease"]) for key in (KEYS.leader, KEYS.sync, KEYS.hold)]
    assert written == [("b", mine), ("s", "0"), ("{}", hold)]
    assert 53 < fake.keys[KEYS.leader]["mod"] < fake.keys[KEYS.sync]["mod"]
    assert etcd.snapshot(KEYS).leader == plan.Entry("b", fake.keys[KEYS.leader]["mod"], 52, int(mine))


def test_without_authentication_it_goes_on_without() -> None:
    etcd, fake = client("detector", "secret")
    etcd.snapshot(KEYS)
    etcd.snapshot(KEYS)
    assert [path for _endpoint, path in fake.calls].count("/v3/auth/authenticate") == 1


def test_a_token_is_fetched_and_renewed() -> None:
    etcd, fake = client("detector", "secret")
    fake.password = "secret"
    etcd.snapshot(KEYS)
    fake.tokens.clear()
    etcd.snapshot(KEYS)
    assert len(fake.tokens) == 1
    # Authentication is switched off and on again.
    fake.password = None
    etcd.snapshot(KEYS)
    fake.password = "secret"
    fake.tokens.clear()
    etcd.snapshot(KEYS)


def test_a_token_is_fetched_when_authentication_is_switched_on_later() -> None:
    etcd, fake = client("detector", "secret")
    etcd.snapshot(KEYS)
    fake.password = "secret"
    # What etcd 3.5 says to a client certificate without a token.
    fake.instead["/v3/kv/txn"] = [(403, {"code": 7, "message": "etcdserver: permission denied"})]
    etcd.snapshot(KEYS)
    assert len(fake.tokens) == 1
    fake.instead["/v3/kv/txn"] = [(403, {"code": 7, "message": "etcdserver: permission denied"})]
    with pytest.raises(EtcdError, match="permission denied"):
        etcd.snapshot(KEYS)


def test_a_wrong_password_is_an_error_without_the_password() -> None:
    etcd, fake = client("detector", "guessed")
    fake.password = "secret"
    with pytest.raises(EtcdError, match="authentication failed") as caught:
        etcd.snapshot(KEYS)
    assert "guessed" not in str(caught.value)
    nobody, other = client()
    other.password = "secret"
    with pytest.raises(EtcdError, match="user name is empty"):
        nobody.snapshot(KEYS)


def test_a_lease_that_ran_out_is_told_apart() -> None:
    etcd, _fake = client()
    lease = etcd.grant(3)
    etcd.keep_alive(lease)
    etcd.revoke(lease)
    with pytest.raises(LeaseGone):
        etcd.keep_alive(lease)
    with pytest.raises(LeaseGone):
        etcd.put("/x", "1", lease)
    with pytest.raises(LeaseGone):
        etcd.revoke(lease)


# --- probes -----------------------------------------------------------------------------------------------------------

TARGET = plan.Target("a", 51, ("10.0.0.1", 8008), ("10.0.0.1", 5432))


@pytest.mark.parametrize(
    ("problem", "alive"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), False),
        (ConnectionResetError(errno.ECONNRESET, "reset"), False),
        (TimeoutError("timed out"), False),
        (OSError(errno.EHOSTUNREACH, "no route to host"), False),
        (ssl.SSLEOFError(8, "EOF in violation of protocol"), False),
        (ssl.SSLCertVerificationError(1, "certificate has expired"), True),
        (ssl.SSLError(1, "unknown ca"), True),
        (OSError(errno.EMFILE, "too many open files"), None),
        (OSError(errno.ENETUNREACH, "network is unreachable"), None),
        (FileNotFoundError(errno.ENOENT, "cert.pem"), None),
        (ValueError("a mistake of ours"), None),
    ],
)
def test_what_an_error_says_about_the_other_side(problem: Exception, alive: bool | None) -> None:
    def ask(_target: plan.Target) -> probes.Finding:
        raise problem

    seen = probes.observe(plan.REST, ask, TARGET, Clock())
    assert seen.alive is alive
    assert seen.target is TARGET


class Server:
    """Accepts one connection and does as told; a frozen server's connections are accepted by the kernel alone."""

    def __init__(self, reply: bytes | None, accept: bool = True) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.reply, self.got = reply, b""
        self.thread = threading.Thread(target=self._serve, daemon=True)
        if accept:
            self.thread.start()

    @property
    def address(self) -> plan.Address:
        host, port = self.listener.getsockname()[:2]
        return host, port

    def _serve(self) -> None:
        connection, _peer = self.listener.accept()
        with connection:
            self.got = connection.recv(1024)
            if self.reply is not None:
                connection.sendall(self.reply)

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()


@pytest.mark.parametrize(
    ("reply", "alive"), [(b"N", True), (b"S", True), (b"E", True), (b"", False)], ids=["no TLS", "TLS", "error", "EOF"]
)
def test_postgres_answers_a_request_for_tls(reply: bytes, alive: bool) -> None:
    with Server(reply) as server:
        found = probes.ask_postgres(server.address, ssl.create_default_context(), 5.0)
        server.thread.join(5)
    assert found.alive is alive
    assert server.got == probes.SSL_REQUEST


@pytest.mark.parametrize("ask", [probes.ask_postgres, probes.ask_rest])
def test_a_frozen_process_is_silent_though_its_kernel_accepts(ask: t.Any) -> None:
    with Server(None, accept=False) as server:
        context = ssl.create_default_context()
        seen = probes.observe("x", lambda _target: ask(server.address, context, 0.2), TARGET, Clock())
    assert seen.alive is False
    assert "Timeout" in seen.detail


@pytest.mark.parametrize("ask", [probes.ask_postgres, probes.ask_rest])
def test_a_closed_port_is_silent(ask: t.Any) -> None:
    with Server(None, accept=False) as server:
        address = server.address
    context = ssl.create_default_context()
    assert probes.observe("x", lambda _target: ask(address, context, 5.0), TARGET, Clock()).alive is False


def test_what_speaks_no_tls_on_the_rest_port_still_lives() -> None:
    with Server(b"HTTP/1.0 400 Bad Request\r\n\r\n") as server:
        context = ssl.create_default_context()
        seen = probes.observe("x", lambda _target: probes.ask_rest(server.address, context, 5.0), TARGET, Clock())
    assert seen.alive is True


class FakeDatabase:
    def __init__(self) -> None:
        self.row: tuple[t.Any, ...] | None = (54, "streaming", "10.0.0.1", 5432, "0/10", "12:00:00")
        self.problem: Exception | None = None

    def rows(self, query: str, seconds: float) -> list[probes.Row]:
        assert "pg_stat_wal_receiver" in query
        if self.problem is not None:
            raise self.problem
        return [self.row] if self.row is not None else []


def test_only_a_message_since_the_last_look_is_a_sign_of_life() -> None:
    database = FakeDatabase()
    stream = probes.Stream(database)
    looks = []
    for row in (
        (54, "streaming", "10.0.0.1", 5432, "0/10", "12:00:00"),  # first look: nothing to compare with
        (54, "streaming", "10.0.0.1", 5432, "0/10", "12:00:00"),  # nothing new
        (54, "streaming", "10.0.0.1", 5432, "0/20", "12:00:01"),  # WAL came
        (54, "streaming", "10.0.0.1", 5432, "0/20", "11:00:00"),  # a keepalive came, and our clock was set back
        (54, "waiting", "10.0.0.1", 5432, "0/20", "12:00:09"),  # no streaming
        (54, "streaming", "10.0.0.3", 5432, "0/30", "12:00:10"),  # from somebody else
        (54, "streaming", "10.0.0.1", 5432, "0/40", "12:00:11"),  # again a first look
    ):
        database.row = row
        found = stream.ask(TARGET, 1.0)
        looks.append((found.alive, found.streaming))
    assert looks == [
        (False, True),
        (False, True),
        (True, True),
        (True, True),
        (False, False),
        (False, False),
        (False, True),
    ]


def test_another_target_or_a_gap_begins_anew() -> None:
    database = FakeDatabase()
    stream = probes.Stream(database)
    stream.ask(TARGET, 1.0)
    database.row = (54, "streaming", "10.0.0.1", 5432, "0/99", "12:00:05")
    assert stream.ask(dataclasses.replace(TARGET, revision=60), 1.0).alive is False
    for problem in (ConnectionError("down"), TimeoutError("frozen")):
        database.problem = problem
        assert stream.ask(TARGET, 1.0) == probes.Finding(False, f"own PostgreSQL: {problem}")
    database.problem, database.row = None, None
    assert stream.ask(TARGET, 1.0) == probes.Finding(False, "no WAL receiver")


def test_the_probes_ask_whom_they_are_aimed_at() -> None:
    answered = threading.Event()

    def ask(target: plan.Target) -> probes.Finding:
        answered.set()
        return probes.Finding(True, target.leader)

    senses = probes.Senses({plan.REST: ask}, 0.01)
    assert senses.collect() == []
    senses.aim(TARGET)
    senses.start()
    assert answered.wait(5)
    senses.stop()
    senses._threads[0].join(5)
    first = senses.collect()[0]
    assert (first.kind, first.target, first.alive, first.detail) == (plan.REST, TARGET, True, "a")


# --- configuration and what is shown ----------------------------------------------------------------------------------


def changed(**values: t.Any) -> str:
    return json.dumps({**CONFIG, **values})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("{", "no JSON"),
        ("[]", "an object"),
        (json.dumps({key: value for key, value in CONFIG.items() if key != "scope"}), "missing: scope"),
        (changed(suspect_secs=2), "unknown: suspect_secs"),
        (changed(name="z"), "members: z is not among them"),
        (changed(name="b/x"), "name"),
        (changed(members=["a", "b", "b"]), "twice"),
        (changed(members="abc"), "members"),
        (changed(namespace="dedicated"), "namespace"),
        (changed(namespace="/"), "namespace"),
        (changed(etcd={"endpoints": []}), "etcd/endpoints"),
        (changed(etcd={"endpoints": ["http://10.0.0.1:2379"]}), "https://host:port"),
        (changed(etcd={"endpoints": ["https://10.0.0.1"]}), "https://host:port"),
        (changed(etcd={**CONFIG["etcd"], "username": "x"}), "belong together"),
        (changed(etcd={**CONFIG["etcd"], "token": "x"}), "unknown: token"),
        (changed(interval=0), "interval"),
        (changed(interval=True), "interval"),
        (changed(suspect_seconds=0.6), "suspect_seconds"),
        (changed(hold_off_seconds=1.5), "hold_off_seconds"),
        (changed(hold_off_seconds=0), "hold_off_seconds"),
        (changed(metrics_port=0), "metrics_port"),
        (changed(ca=""), "ca"),
    ],
)
def test_a_wrong_configuration_is_refused(
    wrong: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "detector.json"
    file.write_text(wrong)
    assert main(["detector", str(file)]) == 2
    assert told in capsys.readouterr().err


def test_the_password_is_in_no_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "detector.json"
    file.write_text(changed(etcd={**CONFIG["etcd"], "username": "u", "password": "hunter2"}, interval=99))
    assert main(["detector", str(file)]) == 2
    seen = capsys.readouterr()
    assert "hunter2" not in seen.out + seen.err
    config = configuration.parse(changed(etcd={**CONFIG["etcd"], "username": "u", "password": "hunter2"}))
    assert config.password == "hunter2"
    assert "hunter2" not in repr(config)


def test_without_certificates_it_does_not_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "detector.json"
    file.write_text(changed(ca=str(tmp_path / "no.pem")))
    assert main(["detector", str(file)]) == 2
    assert "cannot start" in capsys.readouterr().err
    assert main(["detector"]) == 2
    assert main(["detector", str(tmp_path / "none.json")]) == 2


def test_health_follows_the_loop(world: World) -> None:
    metrics = world.metrics["b"]
    assert shown.answer(metrics, "/health")[0] == 200
    world.clock.now += 9.9
    assert shown.answer(metrics, "/health")[0] == 200
    world.clock.now += 0.1
    assert shown.answer(metrics, "/health")[0] == 503
    assert "dedicated_detector_up 0" in metrics.text()
    assert shown.answer(metrics, "/")[0] == 404
    assert shown.answer(shown.Metrics(world.clock), "/health")[0] == 503


def test_the_metrics_tell_the_state(world: World) -> None:
    world.blind.add("b")
    world.run(5)
    lines = shown.answer(world.metrics["b"], "/metrics?x=1")[1].splitlines()
    for line in (
        "dedicated_detector_up 1",
        'dedicated_detector_suspects{leader="a"} 1',
        "dedicated_detector_votes 1",
        f'dedicated_detector_decision{{code="{plan.MINORITY}"}} 1',
        f'dedicated_detector_decision{{code="{plan.QUIET}"}} 0',
        "dedicated_detector_removals_total 0",
        "dedicated_detector_handovers_total 0",
    ):
        assert line in lines
    (silence,) = [line for line in lines if line.startswith("dedicated_detector_silence_seconds ")]
    assert float(silence.split()[1]) >= 4.5
    assert len([line for line in lines if line.startswith("# TYPE")]) == 9


def test_a_log_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    service.log_line({"event": "decision", "reasons": ["a\nb"]})
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["reasons"] == ["a\nb"]

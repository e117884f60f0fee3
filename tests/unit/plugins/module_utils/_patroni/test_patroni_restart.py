# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rolling restarts: whose turn it is, through every state, and a cluster that is driven to the end."""

from __future__ import annotations

import dataclasses
import itertools
import json
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DeadlineError,
    DedicatedError,
    Refuse,
    Refused,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni import plan
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.io import PatroniUnreachable, Reply
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.service import ClusterService, RestartService

NAMES = ("a", "b", "c")


@dataclasses.dataclass
class Clock:
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclasses.dataclass
class Cluster:
    """Members with a running and a wanted number of connections, as Patroni treats them.

    A standby never runs with less than the leader: Patroni starts it with the leader's number until that has shrunk.
    """

    running: dict[str, int]
    wanted: int
    leader: str = "a"
    ill: set[str] = dataclasses.field(default_factory=set)
    breaks: set[str] = dataclasses.field(default_factory=set)
    order: list[str] = dataclasses.field(default_factory=list)
    together: list[set[str]] = dataclasses.field(default_factory=list)
    refuse: int = 0

    def members(self) -> list[dict[str, t.Any]]:
        found = []
        for name, value in self.running.items():
            leads = name == self.leader
            one: dict[str, t.Any] = {
                "name": name,
                "role": "leader" if leads else ("sync_standby" if name == NAMES[1] else "replica"),
                "state": "stopped" if name in self.ill else ("running" if leads else "streaming"),
                "timeline": 1,
                "api_url": f"https://{name}:8008/patroni",
            }
            if not leads:
                one["lag"] = 0
            if value != self.wanted:
                one["pending_restart"] = True
                one["pending_restart_reason"] = {
                    "max_connections": {"old_value": str(value), "new_value": str(self.wanted)}
                }
            found.append(one)
        return found

    def request(self, method: str, path: str, data: t.Any = None) -> Reply:
        if path == "/cluster":
            return Reply(200, json.dumps({"members": self.members()}).encode())
        return Reply(200, json.dumps({"synchronous_mode": True}).encode())

    def member(self, url: str) -> Member:
        return Member(self, url.removeprefix("https://").removesuffix(":8008"))


@dataclasses.dataclass
class Member:
    cluster: Cluster
    name: str

    def request(self, method: str, path: str, data: t.Any = None) -> Reply:
        assert (method, path, data) == ("POST", "/restart", {"restart_pending": True})
        cluster = self.cluster
        if cluster.refuse:
            return Reply(cluster.refuse, b"no")
        cluster.order.append(self.name)
        cluster.together.append(set(cluster.ill) | {self.name})
        floor = 0 if self.name == cluster.leader else cluster.running[cluster.leader]
        cluster.running[self.name] = max(cluster.wanted, floor)
        if self.name in cluster.breaks:
            cluster.ill.add(self.name)
        return Reply(200, b"restarted")


def service(cluster: Cluster) -> RestartService:
    clock = Clock()
    return RestartService(ClusterService([cluster], clock), cluster.member, clock, timeout=60, poll_interval=1)


def test_growing_settings_reach_the_standbys_first() -> None:
    cluster = Cluster(dict.fromkeys(NAMES, 100), 200)
    assert service(cluster).restart(NAMES, 0).restarted == ("b", "c", "a")
    assert set(cluster.running.values()) == {200}


def test_shrinking_settings_reach_the_leader_first() -> None:
    cluster = Cluster(dict.fromkeys(NAMES, 200), 100)
    assert service(cluster).restart(NAMES, 0).restarted == ("a", "b", "c")
    assert set(cluster.running.values()) == {100}


@pytest.mark.parametrize("leader", ["a", "c"])
@pytest.mark.parametrize("running", list(itertools.product((100, 150, 200), repeat=3)))
@pytest.mark.parametrize("wanted", [100, 200])
def test_from_every_state_everybody_ends_well_and_one_at_a_time(
    leader: str, running: tuple[int, ...], wanted: int
) -> None:
    values = dict(zip(NAMES, running))
    # A standby below the leader cannot run in the first place.
    values = {name: max(value, values[leader]) for name, value in values.items()}
    cluster = Cluster(values, wanted, leader)
    done = service(cluster).restart(NAMES, 0).restarted
    assert set(cluster.running.values()) == {wanted}
    assert all(len(together) == 1 for together in cluster.together)
    assert service(cluster).restart(NAMES, 0).restarted == ()
    assert len(done) <= 2 * len(NAMES)


@pytest.mark.parametrize("ill", NAMES[1:])
def test_while_a_member_is_ill_no_other_is_touched(ill: str) -> None:
    cluster = Cluster(dict.fromkeys(NAMES, 100), 200, ill={ill})
    with pytest.raises(DeadlineError, match=f"{ill} after its restart"):
        service(cluster).restart(NAMES, 0)
    # It is down already, so that its own restart takes nobody further down.
    assert cluster.order == [ill]


def test_an_ill_member_that_waits_for_nothing_stops_it() -> None:
    cluster = Cluster({"a": 100, "b": 200, "c": 100}, 200, ill={"b"})
    with pytest.raises(Refused) as caught:
        service(cluster).restart(NAMES, 0)
    assert (caught.value.refusal.code, cluster.order) == ("not_healthy", [])
    assert "b is stopped" in caught.value.refusal.why


def test_it_stops_at_the_first_that_does_not_come_back_and_goes_on_later() -> None:
    cluster = Cluster(dict.fromkeys(NAMES, 100), 200, breaks={"b"})
    with pytest.raises(DeadlineError, match="b after its restart"):
        service(cluster).restart(NAMES, 0)
    assert cluster.order == ["b"]
    cluster.ill.clear()
    assert service(cluster).restart(NAMES, 0).restarted == ("c", "a")


def test_a_restart_that_patroni_refuses_is_an_error() -> None:
    cluster = Cluster(dict.fromkeys(NAMES, 100), 200, refuse=401)
    with pytest.raises(DedicatedError, match="401"):
        service(cluster).restart(NAMES, 0)


def test_a_restart_that_changes_nothing_ends() -> None:
    cluster = Cluster(dict.fromkeys(NAMES, 100), 200, refuse=503)
    with pytest.raises(DedicatedError, match="still wait"):
        service(cluster).restart(NAMES, 0)


def test_check_mode_names_those_who_wait() -> None:
    cluster = Cluster({"a": 100, "b": 200, "c": 100}, 200)
    done = service(cluster).restart(NAMES, 0, check_mode=True)
    assert done.as_result() == {"changed": True, "msg": "a, c would be restarted", "restarted": ["a", "c"]}
    assert cluster.order == []


def test_a_silent_cluster_is_waited_for_and_reported() -> None:
    class Silent:
        def request(self, method: str, path: str, data: t.Any = None) -> Reply:
            raise PatroniUnreachable("no answer")

    clock = Clock()
    with pytest.raises(DeadlineError, match="no member answers"):
        RestartService(ClusterService([Silent()], clock), lambda url: Silent(), clock, 10, 1).restart(NAMES, 0)


def test_the_exempt_member_may_be_ill_and_no_other() -> None:
    cluster = Cluster(dict.fromkeys(NAMES, 100), 100, ill={"c"})
    view = plan.parse_cluster({"members": cluster.members()}, {"synchronous_mode": True})
    assert plan.why_not_healthy(view, NAMES)
    assert plan.why_not_healthy(view, NAMES, exempt=("c",)) == []
    assert plan.why_not_healthy(view, NAMES, exempt=("b",))
    assert plan.why_not_healthy(view, (*NAMES, "d"), exempt=("c", "d")) == []


def test_settings_that_are_no_numbers_do_not_shrink() -> None:
    member = plan.parse_cluster(
        {
            "members": [
                {
                    "name": "a",
                    "role": "leader",
                    "state": "running",
                    "pending_restart": True,
                    "pending_restart_reason": {"max_connections": {"old_value": "?", "new_value": "100"}},
                }
            ]
        },
        None,
    )
    assert isinstance(plan.next_restart(member, ("a",)), plan.Member)
    assert not isinstance(plan.next_restart(member, ("b",)), Refuse)

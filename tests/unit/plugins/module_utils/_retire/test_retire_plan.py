# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may leave, through the shapes of inventories and the states of clusters."""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._inventory import plan as inventory
from ansible_collections.dedicated.odoo.plugins.module_utils._retire import plan

LAYERS = ("edge", "odoo", "redis", "postgres", "etcd")
STATEFUL = ("redis", "postgres", "etcd")


def names(count: int) -> tuple[str, ...]:
    return tuple(f"n{number}" for number in range(1, count + 1))


def address(name: str) -> str:
    return f"10.0.0.{name[1:]}"


def inventory_of(
    counts: dict[str, int], values: dict[str, dict[str, t.Any]] | None = None, extra: tuple[str, ...] = ()
) -> inventory.Snapshot:
    """The first hosts of each layer; ``values`` by host."""
    every = names(max(counts.values()))
    hosts = {
        name: inventory.HostView(
            name,
            {},
            {
                key: inventory.Value(value)
                for key, value in {"dedicated_address": address(name), **(values or {}).get(name, {})}.items()
            },
        )
        for name in every
    }
    groups = {layer: names(count) for layer, count in counts.items()}
    return inventory.Snapshot(groups={"all": (*every, *extra), **groups}, hosts=hosts, options=())


def all_of(count: int, etcd: int = 3) -> dict[str, int]:
    return {**dict.fromkeys(LAYERS, count), "etcd": etcd}


def racks(count: int, of: t.Callable[[int], int] = lambda number: number) -> dict[str, dict[str, t.Any]]:
    return {f"n{number}": {"dedicated_failure_domain": f"rack{of(number)}"} for number in range(1, count + 1)}


def wish(host: str, snapshot: inventory.Snapshot, **more: t.Any) -> plan.Wish:
    return plan.Wish(host, snapshot.groups["all"], **more)


def codes(refusals: tuple[Refuse, ...]) -> list[str]:
    return [refusal.code for refusal in refusals]


def judged(host: str, counts: dict[str, int], **more: t.Any) -> list[str]:
    snapshot = inventory_of(counts, more.pop("values", None))
    return codes(plan.judge_inventory(snapshot, wish(host, snapshot, **more)))


# -- the inventory ---------------------------------------------------------------------------------------------------


def test_a_fourth_host_may_leave() -> None:
    snapshot = inventory_of(all_of(4), racks(4))
    assert plan.judge_inventory(snapshot, wish("n4", snapshot)) == ()
    assert plan.layers_of(snapshot, "n4") == ("edge", "odoo", "redis", "postgres")


@pytest.mark.parametrize(
    ("host", "code", "words"),
    [
        ("", "no-host-named", "-e retire="),
        ("n9", "unknown-host", "among its 5"),
        ("spare", "no-layer", "none of the groups"),
    ],
)
def test_who_is_no_candidate(host: str, code: str, words: str) -> None:
    snapshot = inventory_of(all_of(4), extra=("spare",))
    (refusal,) = plan.judge_inventory(snapshot, wish(host, snapshot))
    assert refusal.code == code
    assert words in refusal.message


def test_everybody_has_to_be_told() -> None:
    snapshot = inventory_of(all_of(4), extra=("spare",))
    (refusal,) = plan.judge_inventory(snapshot, plan.Wish("n4", ("n1", "n2", "n4")))
    assert refusal.code == "limited"
    assert "n3 would not be told" in refusal.message
    assert plan.judge_inventory(snapshot, plan.Wish("n4", names(4))) == (), "a host that serves nothing need not be"


@pytest.mark.parametrize("layer", LAYERS)
def test_tier_ha_keeps_what_it_promises(layer: str) -> None:
    """One host less than the promise in one layer, and only there."""
    least = inventory.LEAST[layer][0]
    counts = {**all_of(5, 5), layer: least}
    found = judged(f"n{least}", counts, allow_even=True)
    assert found == ["tier-not-kept"]
    assert judged(f"n{least}", {**counts, layer: least + 2}, allow_even=True) == []


def test_three_hosts_are_the_promise_and_all_of_it_is_told() -> None:
    snapshot = inventory_of(all_of(3))
    refusals = plan.judge_inventory(snapshot, wish("n1", snapshot))
    assert codes(refusals) == ["even-etcd", "tier-not-kept", "tier-not-kept", "tier-not-kept"]
    assert all("n1 is not retired" in refusal.message and "without it" in refusal.message for refusal in refusals)
    assert "needs 3 hosts in group postgres, there are 2 (n2, n3)" in " ".join(one.message for one in refusals)


@pytest.mark.parametrize(("tier", "expected"), [(None, ["tier-not-kept"]), ("ha", ["tier-not-kept"]), ("single", [])])
def test_the_promise_is_the_one_before(tier: str | None, expected: list[str]) -> None:
    """Two PostgreSQL members mean ha; that one alone would mean single does not count."""
    values = {name: {"dedicated_tier": tier} for name in names(6)} if tier else None
    assert judged("n2", {**all_of(6, 7), "postgres": 2}, values=values, allow_even=True) == expected


@pytest.mark.parametrize("layer", LAYERS)
def test_the_last_of_a_layer_stays_in_every_tier(layer: str) -> None:
    values = {f"n{number}": {"dedicated_tier": "single"} for number in range(1, 4)}
    assert judged("n1", {**all_of(3, 3), layer: 1}, values=values, allow_even=True) == ["empty-group"]


@pytest.mark.parametrize(
    ("members", "allow", "expected"),
    [(5, False, ["even-etcd"]), (5, True, []), (4, False, []), (4, True, []), (7, False, ["even-etcd"])],
)
def test_an_even_etcd_is_declared(members: int, allow: bool, expected: list[str]) -> None:
    assert judged("n1", all_of(7, members), allow_even=allow) == expected


def test_of_two_etcd_members_none_leaves_under_ha_even_when_declared() -> None:
    assert judged("n1", all_of(5, 3), allow_even=True) == ["tier-not-kept"]


def test_failure_domains_are_still_spread() -> None:
    """Four hosts in two racks and a third: without the third rack's host one rack holds a majority."""
    counts = all_of(5, 5)
    assert judged("n5", counts, values=racks(5), allow_even=True) == []
    lopsided = racks(5, lambda number: {1: 1, 2: 1, 3: 2, 4: 2}.get(number, 3))
    assert set(judged("n5", counts, values=lopsided, allow_even=True)) == {"failure-domain-holds-too-much"}
    assert judged("n5", counts, values=racks(5, lambda number: number), allow_even=True) == []


def test_what_is_wrong_anyway_is_refused_too() -> None:
    values = {"n1": {"dedicated_address": "10.0.0.2"}}
    assert judged("n4", all_of(4), values=values) == ["duplicate-address"]
    assert judged("n4", all_of(4), values={"n4": {"dedicated_address": "nonsense"}}) == [], "it goes with the host"


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        (None, []),
        (("n1", "n2"), []),
        (("n4", "n1"), []),
        (("n4",), ["last-cron-host"]),
        (("n4", "elsewhere"), ["last-cron-host"]),
        ((), []),
    ],
)
def test_scheduled_jobs_keep_a_host(cron: tuple[str, ...] | None, expected: list[str]) -> None:
    assert judged("n4", all_of(4), cron=cron) == expected


def test_a_virtual_address_needs_two_edges() -> None:
    values = {name: {"dedicated_tier": "single"} for name in names(4)}
    counts = {**all_of(4), "edge": 2}
    assert judged("n2", {**counts, "etcd": 1}, values=values, vip="10.0.0.9/24") == ["virtual-address-alone"]
    assert judged("n2", {**counts, "etcd": 1}, values=values) == []
    assert judged("n4", {**counts, "etcd": 1}, values=values, vip="10.0.0.9/24") == [], "it is no edge"


# -- the clusters ----------------------------------------------------------------------------------------------------


def etcd(members: int = 4, silent: tuple[str, ...] = (), **more: t.Any) -> plan.Etcd:
    every = names(members)
    return plan.Etcd(every, tuple(name for name in every if name not in silent), **more)


def postgres(members: int = 4, leader: str = "n1", streaming: tuple[str, ...] | None = None, **more: t.Any) -> t.Any:
    every = names(members)
    standbys = tuple(name for name in every if name != leader) if streaming is None else streaming
    return plan.Postgres(every, leader, standbys, **more)


def redis(members: int = 4, silent: tuple[str, ...] = (), master: str = "n1", **more: t.Any) -> plan.Redis:
    every = tuple(map(address, names(members)))
    gone = set(map(address, silent))
    return plan.Redis(
        address(master) if master else "",
        every,
        tuple(one for one in every if one not in gone),
        more.pop("quorum", members // 2 + 1),
        **more,
    )


def look(host: str = "n4", **more: t.Any) -> plan.Look:
    return dataclasses.replace(plan.Look(address(host), True, etcd(5), postgres(), redis()), **more)


def clusters(host: str, seen: plan.Look, layers: tuple[str, ...] = STATEFUL) -> tuple[Refuse, ...]:
    return plan.judge_clusters(layers, plan.Wish(host, names(5)), seen)


def test_well_clusters_let_it_go() -> None:
    assert clusters("n4", look()) == ()


def test_only_its_own_clusters_are_asked() -> None:
    dead = look(etcd=None, postgres=None, redis=None)
    assert codes(clusters("n4", dead)) == ["redis-does-not-answer", "postgres-does-not-answer", "etcd-does-not-answer"]
    assert clusters("n4", dead, ("edge", "odoo")) == ()
    silent = look(etcd=etcd(5, reachable=False), postgres=postgres(reachable=False), redis=redis(reachable=False))
    assert codes(clusters("n4", silent)) == codes(clusters("n4", dead)), "silence is no health"


@pytest.mark.parametrize("members", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("member", [True, False])
def test_etcd_keeps_a_quorum_of_those_that_stay(members: int, member: bool) -> None:
    """Every set of silent members, with the host among the members and without (a run that was cut off)."""
    every = names(members)
    host = every[0] if member else "n9"
    stay = [name for name in every if name != host]
    for count in range(members + 1):
        for silent in itertools.combinations(every, count):
            found = codes(clusters(host, look(host, etcd=etcd(members, silent)), ("etcd",)))
            well = sum(name not in silent for name in stay)
            assert found == ([] if 2 * well > len(stay) else ["etcd-quorum"]), (silent, host)


def test_etcd_s_refusal_has_numbers_and_a_command() -> None:
    (refusal,) = clusters("n1", look("n1", etcd=etcd(3, ("n2",))), ("etcd",))
    assert "of the 2 etcd members that stay 1 answer and 2 are needed (n2 does not)" in refusal.message
    assert "docker logs etcd" in refusal.message


@pytest.mark.parametrize("layer", STATEFUL)
def test_an_ill_cluster_loses_nobody(layer: str) -> None:
    ill = {
        "etcd": {"etcd": etcd(5, reasons=("n2 raised NOSPACE",))},
        "postgres": {"postgres": postgres(reasons=("n2 raised NOSPACE",))},
        "redis": {"redis": redis(reasons=("n2 raised NOSPACE",))},
    }[layer]
    (refusal,) = clusters("n4", look(**ill))
    assert refusal.code == f"{layer}-not-healthy"
    assert "1 problem(s): n2 raised NOSPACE" in refusal.message
    assert f"--tags {layer}" in refusal.message


@pytest.mark.parametrize(
    ("mode", "synchronous", "words"),
    [
        ("on", ("n3",), "1 member(s) could take over (n3)"),
        ("quorum", ("n3", "n2"), "2 member(s) could take over (n2, n3)"),
        ("on", (), "0 member(s) could take over ()"),
        ("off", (), "3 member(s) could take over (n2, n3, n4)"),
    ],
)
def test_the_leader_is_refused_with_the_way_to_move_it(mode: str, synchronous: tuple[str, ...], words: str) -> None:
    seen = postgres(synchronous_mode=mode, synchronous=synchronous)
    (refusal,) = clusters("n1", look("n1", postgres=seen), ("postgres",))
    assert refusal.code == "postgres-leader"
    assert words in refusal.message
    assert "dedicated.odoo.switchover" in refusal.do
    assert "-e expect=n1" in refusal.do


@pytest.mark.parametrize("mode", ["off", "on", "quorum"])
@pytest.mark.parametrize("count", range(4))
def test_a_synchronous_standby_remains(mode: str, count: int) -> None:
    for streaming in itertools.combinations(("n2", "n3", "n4"), count):
        seen = look(postgres=postgres(streaming=streaming, synchronous_mode=mode))
        left = set(streaming) - {"n4"}
        expected = [] if mode == "off" or left else ["no-synchronous-standby"]
        assert codes(clusters("n4", seen, ("postgres",))) == expected, streaming


def test_a_member_that_patroni_forgot_is_no_reason() -> None:
    assert clusters("n4", look(postgres=postgres(3), redis=redis(4, ("n4",))), ("postgres", "redis")) == ()


@pytest.mark.parametrize("members", [2, 3, 4, 5])
def test_sentinels_keep_their_quorum(members: int) -> None:
    """Every set of silent Sentinels; needed is what they were told, and a majority of those that stay."""
    every = names(members)
    host, stay = every[-1], every[:-1]
    quorum = members // 2 + 1
    for count in range(members + 1):
        for silent in itertools.combinations(every, count):
            found = codes(clusters(host, look(host, redis=redis(members, silent, quorum=quorum)), ("redis",)))
            well = sum(name not in silent for name in stay)
            assert found == ([] if well >= quorum else ["sentinel-quorum"]), silent


# -- the order -------------------------------------------------------------------------------------------------------


def test_who_serves_leaves_first_who_decides_last() -> None:
    steps = plan.steps(LAYERS, plan.Wish("n4", names(4)), look())
    assert [step.layer for step in steps] == [*LAYERS, "others"]
    assert [step.here for step in steps] == [True] * 5 + [False]
    assert not any(step.move for step in steps)


@pytest.mark.parametrize("layers", [(), ("edge",), ("etcd", "odoo"), ("postgres", "redis")])
def test_only_its_own_layers_and_the_others_always(layers: tuple[str, ...]) -> None:
    steps = plan.steps(layers, plan.Wish("n4", names(4)), look())
    assert [step.layer for step in steps] == [layer for layer in plan.ORDER if layer in layers] + ["others"]


def test_the_master_is_moved_first() -> None:
    seen = look(redis=redis(master="n4"))
    assert clusters("n4", seen, ("redis",)) == (), "a safe move exists, so it is no refusal"
    (step,) = [one for one in plan.steps(LAYERS, plan.Wish("n4", names(4)), seen) if one.layer == "redis"]
    assert step.move
    assert step.text.startswith("the master of Redis moves")


@pytest.mark.parametrize("master", ["n1", "n4", ""])
def test_a_dead_host_is_only_forgotten(master: str) -> None:
    seen = look(answers=False, redis=redis(4, ("n4",), master))
    steps = plan.steps(LAYERS, plan.Wish("n4", names(4)), seen)
    assert not any(step.here or step.move for step in steps)
    assert not any("stops" in step.text for step in steps)
    assert [step.layer for step in steps] == ["edge", "redis", "postgres", "etcd", "others"]


# -- what was read ---------------------------------------------------------------------------------------------------


def test_results_of_the_modules_are_understood() -> None:
    seen = plan.parse_etcd(
        {
            "reachable": True,
            "healthy": False,
            "reasons": ["n2 does not answer"],
            "members": [
                {"name": "n1", "id": "a", "learner": False, "reachable": True},
                {"name": "n2", "id": "b", "learner": False, "reachable": False},
                {"name": "n3", "id": "c", "learner": True, "reachable": True},
                {"name": "", "id": "d", "learner": False, "reachable": False},
            ],
        }
    )
    assert seen == plan.Etcd(("n1", "n2", "d"), ("n1",), ("n2 does not answer",))
    database = plan.parse_postgres(
        {
            "reachable": True,
            "leader": "n1",
            "synchronous_mode": None,
            "sync_standbys": ["n3"],
            "reasons": [],
            "members": [
                {"name": "n1", "state": "running", "tags": {}},
                {"name": "n2", "state": "streaming", "tags": {"nosync": True}},
                {"name": "n3", "state": "streaming"},
                {"name": "n4", "state": "stopped"},
            ],
        }
    )
    assert database == plan.Postgres(("n1", "n2", "n3", "n4"), "n1", ("n3",), "on", ("n3",))
    sessions = plan.parse_redis(
        {
            "reachable": True,
            "master": "10.0.0.1:6379",
            "reasons": [],
            "sentinels": [
                {"address": "10.0.0.1:26379", "reachable": True, "quorum_needed": 3},
                {"address": "10.0.0.2:26379", "reachable": False, "quorum_needed": 0},
            ],
        }
    )
    assert sessions == plan.Redis("10.0.0.1", ("10.0.0.1", "10.0.0.2"), ("10.0.0.1",), 3)


@pytest.mark.parametrize("parse", [plan.parse_etcd, plan.parse_postgres, plan.parse_redis])
def test_an_answer_of_nobody_is_no_health(parse: t.Callable[[dict[str, t.Any]], t.Any]) -> None:
    assert parse({"reachable": False, "members": None, "leader": None}).reachable is False

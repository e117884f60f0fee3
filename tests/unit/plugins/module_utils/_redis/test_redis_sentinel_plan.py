# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses, real answers, wrong answers, and the judgement on clusters of one, three and five hosts."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import real_answers as real
from sentinel_lab import FakePeer, Lab

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._redis import sentinel_plan as plan

SIZES = (1, 3, 5)


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1:6379", "10.0.0.1:6379"),
        (" Node1.Example:6379 ", "node1.example:6379"),
        ("[2001:DB8:0::1]:6379", "[2001:db8::1]:6379"),
    ],
)
def test_two_spellings_of_an_address_are_one(text: str, expected: str) -> None:
    assert plan.addresses([text], "nodes") == (expected,)
    assert plan.addresses([expected], "nodes") == (expected,)


@pytest.mark.parametrize("text", ["", "host", "host:", ":6379", "host:redis", "host:0", "host:65536", "2001:db8::1:80"])
def test_what_is_no_address(text: str) -> None:
    refusal = plan.addresses(["ok:1", text], "nodes")
    assert isinstance(refusal, Refuse)
    assert refusal.code == "bad_address"


def test_an_address_given_twice_would_be_counted_twice() -> None:
    refusal = plan.addresses(["[::1]:1", "[0:0::1]:1"], "nodes")
    assert isinstance(refusal, Refuse)
    assert refusal.code == "duplicate_address"


# -- parsing -----------------------------------------------------------------------------------------------------------


def parse(**more: t.Any) -> plan.Sentinel:
    answers = {
        "master": real.HEALTHY_MASTER,
        "replicas": real.HEALTHY_REPLICAS,
        "sentinels": real.HEALTHY_SENTINELS,
        "about": real.INFO_SENTINEL,
        **more,
    }
    return plan.parse_sentinel("127.0.0.12:46379", quorum=(True, real.CKQUORUM), **answers)


def test_a_real_sentinel_at_rest() -> None:
    seen = parse()
    assert (seen.reachable, seen.sees_master, seen.flags) == (True, "127.0.0.13:36379", ("master",))
    assert (seen.down_after_ms, seen.failover_timeout_ms, seen.quorum_needed) == (3000, 20000, 2)
    assert (seen.tilt, seen.in_progress) == (False, False)
    assert seen.seconds_as_master == pytest.approx(246.764)
    assert seen.as_result()["known_sentinels"] == ["127.0.0.11:46379", "127.0.0.13:46379"]
    assert seen.known_replicas[0] == plan.Peer(
        "127.0.0.11:36379", ("slave",), "slave", "127.0.0.13:36379", "ok", priority=100
    )


def test_a_real_sentinel_in_the_middle_of_a_failover() -> None:
    seen = parse(master=real.FAILING_OVER_MASTER, replicas=real.FAILING_OVER_REPLICAS)
    assert seen.in_progress
    assert seen.flags == ("master", "failover_in_progress", "force_failover")
    assert [peer.flags for peer in seen.known_replicas] == [("slave", "disconnected", "promoted"), ("slave",)]


def test_real_nodes() -> None:
    settings = plan.pairs(real.CONFIG_REPLICA, "CONFIG GET")
    replica = plan.parse_node("127.0.0.11:36379", real.ROLE_REPLICA, real.INFO_PERSISTENCE, settings)
    assert (replica.role, replica.follows, replica.master_link) == ("slave", "127.0.0.13:36379", "up")
    assert (replica.offset, replica.announced, replica.min_replicas) == (430608, replica.address, 1)
    assert (replica.loading, replica.aof_enabled, replica.aof_ok, replica.rdb_ok) == (False, True, True, True)
    master = plan.parse_node("127.0.0.13:36379", real.ROLE_MASTER, real.INFO_PERSISTENCE, None)
    assert (master.role, master.master_link, master.announced) == ("master", None, None)
    assert master.replicas == ("127.0.0.11:36379", "127.0.0.12:36379")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"master": "OK"}, "SENTINEL MASTER: no list"),
        ({"master": ["name"]}, "SENTINEL MASTER: no list"),
        ({"master": ["name", ["x"]]}, "SENTINEL MASTER: no list"),
        ({"master": ["ip", "10.0.0.1"]}, "SENTINEL MASTER: port is missing"),
        ({"master": [w.replace("20000", "long") for w in real.HEALTHY_MASTER]}, "failover-timeout is 'long'"),
        ({"replicas": None}, "SENTINEL REPLICAS: no list"),
        ({"sentinels": [["ip", "x", "port", "1"]]}, "SENTINEL SENTINELS: flags is missing"),
        ({"about": ""}, "INFO sentinel: sentinel_tilt is missing"),
        ({"about": None}, "INFO sentinel: no text"),
    ],
)
def test_a_wrong_answer_is_named(answers: dict[str, t.Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(**answers)


@pytest.mark.parametrize("role", [["sentinel", []], None, [], ["master", 1], ["slave", "x", 1], "master"])
def test_a_role_with_another_shape_is_no_role(role: t.Any) -> None:
    with pytest.raises(ValueError, match="ROLE"):
        plan.parse_node("a:1", role, real.INFO_PERSISTENCE, None)


# -- who is master -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_vote_of_every_sentinel(size: int) -> None:
    """Each is silent, or names one of two nodes: laws 1 and 3, in all combinations."""
    for votes in itertools.product((None, "a:1", "b:1"), repeat=size):
        sentinels = tuple(
            plan.Sentinel(f"s{number}:1", vote is not None, sees_master=vote, quorum_ok=True)
            for number, vote in enumerate(votes)
        )
        view = plan.View("x", sentinels)
        answering = [vote for vote in votes if vote is not None]
        best = [name for name in ("a:1", "b:1") if 2 * answering.count(name) > len(answering)]
        assert view.master == (best[0] if answering and best else None)
        assert view.majority == any(2 * votes.count(name) > size for name in ("a:1", "b:1"))
        assert view.quorum == view.majority


def test_a_sentinel_that_does_not_know_the_master_counts_as_answering() -> None:
    known, ignorant = plan.Sentinel("a:1", True, sees_master="m:1"), plan.Sentinel("b:1", True)
    assert plan.View("x", (known, ignorant)).master is None


def test_a_majority_is_one_of_all_that_there_should_be() -> None:
    lab = Lab(3)
    assert lab.view().majority
    assert lab.view(expected_sentinels=5).majority
    assert not lab.view(expected_sentinels=6).majority
    assert "only 3 of 6" in plan.why_not_healthy(lab.view(expected_sentinels=6))[0]


def test_quorum_needs_a_majority_that_finds_it() -> None:
    lab = Lab(3)
    lab.sentinel(1).quorum_ok = False
    assert lab.view().quorum
    lab.sentinel(2).quorum_ok = False
    assert lab.view().majority
    assert not lab.view().quorum


# -- judgement ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_healthy(size: int) -> None:
    assert plan.why_not_healthy(Lab(size).view()) == []
    assert plan.why_no_master(Lab(size).view()) is None


def edit(what: str, **values: t.Any) -> t.Callable[[Lab], None]:
    """Change the host 2 (a replica) in one respect."""

    def change(lab: Lab) -> None:
        for name, value in values.items():
            setattr(getattr(lab, what)(2), name, value)

    return change


def peer(**values: t.Any) -> t.Callable[[Lab], None]:
    def change(lab: Lab) -> None:
        for name, value in values.items():
            setattr(lab.sentinel(2).replicas["10.0.0.3:6379"], name, value)

    return change


def stale_sentinel(lab: Lab) -> None:
    lab.sentinel(2).sentinels["10.0.0.9:26379"] = "sentinel,s_down"


def stale_replica(lab: Lab) -> None:
    lab.sentinel(2).replicas["10.0.0.9:6379"] = FakePeer("slave,s_down")


def forgets_sentinel(lab: Lab) -> None:
    del lab.sentinel(2).sentinels["10.0.0.3:26379"]


def forgets_replica(lab: Lab) -> None:
    del lab.sentinel(2).replicas["10.0.0.3:6379"]


# What goes wrong on host 2 alone, and what is said.
ILLNESSES: list[tuple[t.Callable[[Lab], None], str]] = [
    (edit("sentinel", alive=False), "Sentinel 10.0.0.2:26379 does not answer: "),
    (edit("sentinel", master=None), "does not know sessions: ERR No such master"),
    (edit("sentinel", master="10.0.0.2:6379"), "names 10.0.0.2:6379 as master, the majority 10.0.0.1:6379"),
    (edit("sentinel", flags="master,s_down"), "says of the master: master,s_down"),
    (edit("sentinel", flags="master,o_down"), "says of the master: master,o_down"),
    (edit("sentinel", flags="master,failover_in_progress"), "says of the master: master,failover_in_progress"),
    (edit("sentinel", flags="master,something_new"), "says of the master: master,something_new"),
    (edit("sentinel", flags="master,disconnected"), "says of the master: master,disconnected"),
    (edit("sentinel", tilt=True), "is in TILT"),
    (edit("sentinel", quorum_ok=False), "finds no quorum: NOQUORUM"),
    (stale_sentinel, "knows a Sentinel 10.0.0.9:26379 that is not one of them"),
    (stale_replica, "knows a replica 10.0.0.9:6379 that is not one of them"),
    (forgets_sentinel, "does not know the Sentinel 10.0.0.3:26379"),
    (forgets_replica, "does not know the replica 10.0.0.3:6379"),
    (peer(flags="slave,s_down"), "has 10.0.0.3:6379 as slave,s_down"),
    (peer(flags="slave,reconf_inprog"), "has 10.0.0.3:6379 as slave,reconf_inprog"),
    (peer(role="master"), "remembers the replica 10.0.0.3:6379 as master"),
    (peer(follows="10.0.0.2:6379"), "remembers the replica 10.0.0.3:6379 as following 10.0.0.2:6379"),
    (peer(link="err"), "remembers the link of the replica 10.0.0.3:6379 as err"),
    (edit("node", alive=False), "node 10.0.0.2:6379 does not answer"),
    (edit("node", role="master", follows=None), "says master, and the master is 10.0.0.1:6379"),
    (edit("node", role="sentinel"), "'sentinel' is neither a master nor a replica"),
    (edit("node", follows="10.0.0.3:6379"), "follows 10.0.0.3:6379, and the master is 10.0.0.1:6379"),
    (edit("node", link="connect"), "has no link to its master: connect"),
    (edit("node", link="sync"), "has no link to its master: sync"),
    (edit("node", loading=True), "loads its data"),
    (edit("node", aof_ok=False), "could not write its append-only file"),
    (edit("node", rdb_ok=False), "could not save its data"),
    (edit("node", announced="172.17.0.2:6379"), "announces 172.17.0.2:6379, which is not the address"),
    (edit("node", announced="10.0.0.2:6380"), "announces 10.0.0.2:6380, which is not the address"),
    (edit("node", shows_settings=False), "does not show which address it announces"),
    (edit("node", behind=2 * 1024**2), "bytes behind, more than 1048576"),
]


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize(("illness", "said"), ILLNESSES, ids=[said for _, said in ILLNESSES])
def test_each_illness_is_named_and_excused_by_its_host_only(
    size: int, illness: t.Callable[[Lab], None], said: str
) -> None:
    lab = Lab(size)
    illness(lab)
    reasons = plan.why_not_healthy(lab.view())
    assert any(said in reason for reason in reasons), reasons
    assert plan.why_not_healthy(lab.view(), ["10.0.0.2"]) == []
    assert plan.why_not_healthy(lab.view(), ["10.0.0.4"]) != []


@pytest.mark.parametrize("size", [3, 5])
def test_a_dead_host_is_excused_with_what_others_say_of_it(size: int) -> None:
    lab = Lab(size)
    lab.kill(size)
    assert plan.why_not_healthy(lab.view())
    assert plan.why_not_healthy(lab.view(), [f"10.0.0.{size}"]) == []


def test_a_new_host_that_nobody_knows_yet_is_excused() -> None:
    lab = Lab(3)
    lab.kill(3)
    for number in (1, 2):
        del lab.sentinel(number).sentinels["10.0.0.3:26379"]
        del lab.sentinel(number).replicas["10.0.0.3:6379"]
    assert plan.why_not_healthy(lab.view(), ["10.0.0.3"]) == []


def test_old_entries_of_an_excused_host_are_excused() -> None:
    lab = Lab(3)
    lab.sentinel(1).sentinels["10.0.0.3:7000"] = "sentinel,s_down"
    lab.sentinel(1).replicas["10.0.0.3:7001"] = FakePeer("slave,s_down")
    assert len(plan.why_not_healthy(lab.view())) == 4
    assert plan.why_not_healthy(lab.view(), ["10.0.0.3"]) == []


def test_a_dead_master_is_not_excused_where_others_suffer() -> None:
    lab = Lab(3)
    lab.kill(1)
    for number in (2, 3):
        lab.node(number).link = "connect"
        lab.sentinel(number).flags = "master,s_down,o_down"
    reasons = plan.why_not_healthy(lab.view(), ["10.0.0.1"])
    assert any("has no link" in reason for reason in reasons)
    assert any("o_down" in reason for reason in reasons)


def test_too_many_dead_hosts_are_no_majority_although_all_are_excused_but_one() -> None:
    lab = Lab(3)
    lab.kill(2)
    lab.kill(3)
    assert any("1 of 3" in reason for reason in plan.why_not_healthy(lab.view(), ["10.0.0.2", "10.0.0.3"]))


def test_when_nobody_else_is_left_nobody_is_ill() -> None:
    lab = Lab(1)
    lab.kill(1)
    assert plan.why_not_healthy(lab.view())
    assert plan.why_not_healthy(lab.view(), ["10.0.0.1"]) == []


def test_the_master_itself_says_otherwise() -> None:
    lab = Lab(3)
    lab.node(1).role, lab.node(1).follows = "slave", "10.0.0.2:6379"
    assert any("itself says slave" in reason for reason in plan.why_not_healthy(lab.view()))
    assert "itself says slave" in str(plan.why_no_master(lab.view()))


def test_the_master_is_silent() -> None:
    lab = Lab(3)
    lab.node(1).alive = False
    assert "does not answer" in str(plan.why_no_master(lab.view()))
    assert all(lab.view().lag(node) is None for node in lab.view().nodes)


def test_the_master_is_none_of_the_nodes() -> None:
    lab = Lab(3)
    for sentinel in lab.sentinels.values():
        sentinel.master = "172.17.0.2:6379"
    assert "is not among the nodes" in plan.why_not_healthy(lab.view())[0]
    assert "is not among the nodes" in str(plan.why_no_master(lab.view()))


def test_a_master_without_enough_replicas_refuses_writes() -> None:
    lab = Lab(3)
    lab.node(1).min_replicas = 2
    lab.node(2).link = "connect"
    assert any("refuses writes: 1 replicas" in reason for reason in plan.why_not_healthy(lab.view()))


def test_a_foreign_replica_is_seen_at_the_master() -> None:
    lab = Lab(3)
    cluster = lab.cluster()
    view = lab.view(nodes=cluster.nodes[:2], expected_nodes=2)
    assert any("has a replica 10.0.0.3:6379" in reason for reason in plan.why_not_healthy(view))


def test_disagreement() -> None:
    lab = Lab(5)
    lab.sentinel(2).master = lab.sentinel(3).master = "10.0.0.2:6379"
    lab.sentinel(4).alive = False
    assert lab.view().master is None
    assert "disagree about the master: 10.0.0.1:6379, 10.0.0.2:6379" in plan.why_not_healthy(lab.view())[0]
    assert "disagree" in str(plan.why_no_master(lab.view()))


def test_nobody_answers() -> None:
    lab = Lab(3)
    for number in (1, 2, 3):
        lab.kill(number)
    assert plan.why_not_healthy(lab.view())[0] == "no Sentinel names a master"
    assert plan.why_no_master(lab.view()) == "no Sentinel names a master"


@pytest.mark.parametrize(("expected", "said"), [(2, "more than the 1"), (3, None), (4, "fewer than the 3")])
def test_numbers_where_not_everybody_is_named(expected: int, said: str | None) -> None:
    """One Sentinel is asked about the others; how many there are is all that can be compared."""
    lab = Lab(3)
    view = lab.view(sentinels=("10.0.0.1:26379",), nodes=(), expected_sentinels=expected, expected_nodes=expected)
    about = [reason for reason in plan.why_not_healthy(view) if "knows" in reason]
    assert len(about) == (2 if said else 0)
    assert all(str(said) in reason for reason in about)


def test_lag_is_that_of_followers_only() -> None:
    lab = Lab(5)
    lab.node(2).behind = 300
    lab.node(3).link = "connect"
    lab.node(4).follows = "10.0.0.2:6379"
    lab.node(5).behind = -50  # asked a moment later than its master
    view = lab.view()
    assert [view.lag(node) for node in view.nodes] == [None, 300, None, None, 0]


@pytest.mark.parametrize("module", ["sentinel_plan", "failover_plan"])
def test_plans_need_the_standard_library_only(module: str) -> None:
    script = "import importlib, sys; sys.modules['ansible'] = None; importlib.import_module(sys.argv[1])"
    folder = Path(plan.__file__).parents[6]
    done = subprocess.run(
        [sys.executable, "-c", script, plan.__name__.replace("sentinel_plan", module)],
        env={**os.environ, "PYTHONPATH": str(folder)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether and to whom the leader is moved: every guard, every shape of three and five members, lies."""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

import pytest
from leader_lab import LOOP, TTL, Lab

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.switchover_plan import (
    Look,
    Move,
    Nothing,
    Transaction,
    Wish,
    instant,
    parse_word,
    plan_switchover,
    quorum_of,
)

Plan = Move | Nothing | Refuse


def plan(lab: Lab, **wish: t.Any) -> Plan:
    wish.setdefault("members", tuple(lab.nodes))
    return plan_switchover(lab.look(), Wish(**wish))


def code(planned: Plan) -> str:
    return planned.code if isinstance(planned, Refuse) else type(planned).__name__.lower()


def refusal(planned: Plan) -> Refuse:
    assert isinstance(planned, Refuse), planned
    return planned


# Every shape


def streaming(lab: Lab, name: str) -> None:
    pass


def dead(lab: Lab, name: str) -> None:
    lab.kill(name)


def dead_for_long(lab: Lab, name: str) -> None:
    lab.kill(name)
    lab.gone.add(name)


def stopped(lab: Lab, name: str) -> None:
    lab.nodes[name].state = "stopped"


def recovering(lab: Lab, name: str) -> None:
    lab.nodes[name].follows = None


def old_timeline(lab: Lab, name: str) -> None:
    lab.nodes[name].timeline = 2


def far_behind(lab: Lab, name: str) -> None:
    lab.nodes[name].position -= 5000


def needs_restart(lab: Lab, name: str) -> None:
    lab.nodes[name].pending = {"max_connections": {"old_value": "100", "new_value": "200"}}


def tagged(lab: Lab, name: str) -> None:
    lab.nodes[name].tags = {"nofailover": True}


FLAWS = (streaming, dead, dead_for_long, stopped, recovering, old_timeline, far_behind, needs_restart, tagged)
# With these a member still counts for the majority: it streams.
WELL = (streaming, far_behind, needs_restart, tagged)


@pytest.mark.parametrize("mode", ["off", "on", "quorum"])
@pytest.mark.parametrize("size", [3, 5])
def test_only_a_flawless_member_of_a_cluster_with_a_majority_is_chosen(mode: str, size: int) -> None:
    shapes = itertools.product(FLAWS, repeat=2) if size == 3 else itertools.combinations_with_replacement(FLAWS, 4)
    for flaws in shapes:
        lab = Lab(size, mode)
        names = tuple(lab.nodes)
        for name, flaw in zip(names[1:], flaws):
            flaw(lab, name)
        synchronous = set(names) if mode == "off" else lab.sync
        good = [name for name, flaw in zip(names[1:], flaws) if flaw is streaming and name in synchronous]
        well = [name for name, flaw in zip(names[1:], flaws) if flaw in WELL]
        enough = 1 + len(well) >= quorum_of(names)
        look = lab.look()
        planned = plan_switchover(look, Wish(names, max_lag=1000))
        if not enough:
            assert f"{1 + len(well)} of {size} members are well" in refusal(planned).why
            assert code(planned) == "members_missing"
        elif good:
            assert planned == Move("a", good[0], tuple(sorted({"a", *well} - {good[0]}))), flaws
        else:
            assert code(planned) == "no_good_candidate", flaws
        # Asking for each by name says the same.
        for name in names[1:]:
            named = plan_switchover(look, Wish(names, candidate=name, max_lag=1000))
            assert isinstance(named, Move) == (name in good and enough), (name, flaws)


@pytest.mark.parametrize(
    ("flaw", "wanted"),
    [
        (dead, "candidate_silent"),
        (dead_for_long, "not_a_member"),
        (stopped, "candidate_not_streaming"),
        (recovering, "candidate_not_streaming"),
        (old_timeline, "timeline"),
        (far_behind, "lag"),
        (needs_restart, "pending_restart"),
        (tagged, "nofailover"),
    ],
)
def test_each_flaw_has_its_code(flaw: t.Callable[[Lab, str], None], wanted: str) -> None:
    lab = Lab(3, "quorum")
    flaw(lab, "b")
    planned = plan(lab, candidate="b", max_lag=1000, members=("a", "b", "c"))
    assert code(planned) == wanted
    assert refusal(planned).do


def test_a_lag_is_told_with_its_numbers() -> None:
    lab = Lab()
    lab.nodes["b"].position -= 700
    assert "b lags 700 bytes behind, more than 699" in refusal(plan(lab, candidate="b", max_lag=699)).why
    assert isinstance(plan(lab, candidate="b", max_lag=700), Move)


def test_an_asynchronous_replica_is_refused_by_name() -> None:
    planned = refusal(plan(Lab(3, "on"), candidate="c"))
    assert planned.code == "candidate_not_synchronous"
    assert "synchronous_mode is on, and c is replica with the state async; synchronous: b" in planned.why


@pytest.mark.parametrize(
    ("tags", "barred"),
    [
        ({"nofailover": True}, True),
        ({"failover_priority": 0}, True),
        ({"failover_priority": -1}, True),
        ({"failover_priority": "x"}, True),
        ({"failover_priority": 2}, False),
        ({"nofailover": False, "failover_priority": 0}, False),
        ({"clonefrom": True}, False),
    ],
)
def test_tags_as_patroni_reads_them(tags: dict[str, t.Any], barred: bool) -> None:
    lab = Lab()
    lab.nodes["b"].tags = tags
    assert code(plan(lab, candidate="b")) == ("nofailover" if barred else "move")


def test_a_broken_watchdog_bars() -> None:
    lab = Lab()
    lab.nodes["b"].watchdog_failed = True
    assert code(plan(lab, candidate="b")) == "watchdog"


def test_the_best_is_chosen_by_lag_and_then_by_name() -> None:
    lab = Lab(5, "quorum")
    for name, lag in zip("bcde", (30, 10, 10, 20)):
        lab.nodes[name].position -= lag
    planned = plan(lab)
    assert isinstance(planned, Move)
    assert planned.candidate == "c"
    assert planned.body == {"leader": "a", "candidate": "c"}
    assert planned.path == "/switchover"


# Who leads, and who should


@pytest.mark.parametrize(
    ("wish", "wanted"),
    [
        ({"candidate": "a"}, "nothing"),
        ({"candidate": "a", "expected_leader": "b"}, "nothing"),
        ({"away_from": "b"}, "nothing"),
        ({"away_from": "b", "candidate": "c"}, "nothing"),
        ({"away_from": "a"}, "move"),
        ({"away_from": "a", "candidate": "a"}, "bad_target"),
        ({"expected_leader": "a"}, "move"),
        ({"expected_leader": "b"}, "other_leader"),
        ({"candidate": "z"}, "not_a_member"),
        ({"candidate": "b", "members": ("a", "c")}, "not_a_member"),
        ({"members": ("a", "x", "y", "z")}, "members_missing"),
        ({"system_identifier": "7500000000000000001"}, "move"),
        ({"system_identifier": "42"}, "other_cluster"),
        ({"scheduled_at": "tomorrow"}, "bad_schedule"),
        ({"scheduled_at": "2030-01-31T03:00:00"}, "bad_schedule"),
        ({"scheduled_at": "2030-01-31T03:00:00Z"}, "move"),
    ],
)
def test_what_is_wished(wish: dict[str, t.Any], wanted: str) -> None:
    assert code(plan(Lab(), **wish)) == wanted


def test_long_transactions_are_named_by_pid_and_age() -> None:
    open_ones = tuple(Transaction(number, 50.0 + number, "odoo", "idle in transaction") for number in range(1, 20))
    planned = refusal(plan(Lab(), transactions=open_ones))
    assert planned.code == "long_transaction"
    assert "the limit is 60 s: pid 19 (odoo, idle in transaction) is open for 69 s" in planned.why
    assert planned.why.endswith("and 4 more")
    assert "pg_terminate_backend(19)" in planned.do
    assert code(plan(Lab(), transactions=open_ones, max_transaction_seconds=69)) == "move"
    # What is open now does not matter later.
    assert code(plan(Lab(), transactions=open_ones, scheduled_at="2030-01-31T03:00:00Z")) == "move"


def test_paused() -> None:
    lab = Lab()
    lab.paused = True
    assert code(plan(lab, candidate="b")) == "paused"
    assert code(plan(lab, candidate="a")) == "nothing"


@pytest.mark.parametrize(
    ("wish", "wanted"),
    [
        ({}, "scheduled"),
        ({"candidate": "b"}, "scheduled"),
        ({"scheduled_at": "2030-01-31T04:00:00Z"}, "scheduled"),
        ({"scheduled_at": "2030-01-31T03:00:00Z"}, "nothing"),
        ({"scheduled_at": "2030-01-31T04:00:00+01:00", "candidate": "b"}, "nothing"),
        ({"scheduled_at": "2030-01-31T03:00:00Z", "candidate": "c"}, "scheduled"),
    ],
)
def test_what_is_scheduled_is_never_overwritten(wish: dict[str, t.Any], wanted: str) -> None:
    lab = Lab(3, "quorum")
    lab.failover = {"leader": "a", "candidate": "b", "scheduled_at": "2030-01-31T03:00:00+00:00"}
    assert code(plan(lab, **wish)) == wanted


# Lying and stale words


def test_a_leader_that_does_not_say_so_itself_is_none() -> None:
    for role, state in itertools.product(("replica", "primary"), ("starting", "stopping", "stopped", "crashed")):
        lab = Lab()
        lab.nodes["a"].role, lab.nodes["a"].state = role, state
        assert code(plan(lab, candidate="b")) == "in_progress"
    lab = Lab()
    lab.nodes["a"].role = "replica"
    assert code(plan(lab, candidate="a")) == "in_progress", "not even when it is wanted there"


def test_two_primaries_stop_everything() -> None:
    lab = Lab()
    lab.nodes["c"].role = "primary"
    planned = refusal(plan(lab, candidate="b"))
    assert (planned.code, "c says primary" in planned.why) == ("in_progress", True)


def test_a_silent_leader_is_not_believed_to_lead() -> None:
    lab = Lab()
    lab.nodes["a"].answers = False
    assert code(plan(lab, candidate="b")) == "leader_silent"
    assert code(plan(lab, candidate="a")) == "leader_silent"


def test_nobody_leads() -> None:
    lab = Lab()
    lab.kill("a", lease=False)
    assert code(plan(lab, candidate="b")) == "no_leader"


def test_failsafe_mode_is_no_time_to_move() -> None:
    lab = Lab()
    lab.nodes["a"].failsafe = True
    assert code(plan(lab, candidate="b")) == "failsafe"


def test_an_old_picture_of_one_member_is_noticed() -> None:
    """It froze while b led; its own contact with the store is as old."""
    lab = Lab()
    lab.nodes["c"].behind = 6
    look = lab.lookout("c").look()
    wish = Wish(("a", "b", "c"), max_age=5)
    assert look.source == "c"
    assert code(plan_switchover(look, wish)) == "stale"
    assert code(plan_switchover(look, dataclasses.replace(wish, max_age=6))) == "move"
    assert code(plan_switchover(lab.lookout("b").look(), wish)) == "move"


def test_a_look_that_took_long_is_stale() -> None:
    lab = Lab()
    lab.slow["c"] = 5.5
    planned = refusal(plan(lab))
    assert (planned.code, "5.5 s old, more than 5" in planned.why) == ("stale", True)


def test_a_member_that_lost_the_store_cannot_take_the_lease() -> None:
    lab = Lab(3, "quorum")
    lab.nodes["b"].behind = TTL + 1
    wish = Wish(("a", "b", "c"), candidate="b")
    assert code(plan_switchover(lab.lookout("a").look(), wish)) == "candidate_stale"
    lab.nodes["b"].behind = TTL
    assert code(plan_switchover(lab.lookout("a").look(), wish)) == "move"


def test_members_of_two_clusters() -> None:
    lab = Lab()
    lab.nodes["c"].system = "42"
    assert code(plan(lab)) == "other_cluster"
    nobody = dataclasses.replace(lab.look(), words={})
    assert code(plan_switchover(nobody, Wish(("a",), system_identifier="42"))) == "other_cluster"


def test_the_store_says_streaming_and_the_leader_does_not() -> None:
    """The store is one loop old; the leader's list of senders is of this moment."""
    look = Lab().look()
    alone = dataclasses.replace(look.word("a"), followers={"c": "async"})
    look = dataclasses.replace(look, words={**look.words, "a": alone})
    assert code(plan_switchover(look, Wish(("a", "b", "c"), candidate="b"))) == "candidate_not_streaming"


def test_the_store_says_synchronous_and_the_leader_does_not() -> None:
    look = Lab().look()
    alone = dataclasses.replace(look.word("a"), followers={"b": "potential", "c": "async"})
    look = dataclasses.replace(look, words={**look.words, "a": alone})
    assert code(plan_switchover(look, Wish(("a", "b", "c"), candidate="b"))) == "candidate_not_synchronous"


def test_an_unknown_configuration_is_never_asynchronous() -> None:
    look = Lab(3, "off").look()
    look = dataclasses.replace(look, view=dataclasses.replace(look.view, synchronous_mode=None))
    assert code(plan_switchover(look, Wish(("a", "b", "c"), candidate="b"))) == "candidate_not_synchronous"


def test_the_lag_is_what_both_say_now_and_not_what_the_store_says() -> None:
    lab = Lab()
    lab.nodes["b"].lag = 10**9
    assert code(plan(lab, candidate="b")) == "move"
    look = lab.look()
    mute = dataclasses.replace(look.word("b"), position=None)
    planned = plan_switchover(dataclasses.replace(look, words={**look.words, "b": mute}), Wish(("a", "b", "c")))
    assert "the lag of b is not known (lag)" in refusal(planned).why


def test_nobody_answers() -> None:
    lab = Lab()
    for node in lab.nodes.values():
        node.answers = False
    planned = refusal(plan(lab))
    assert (planned.code, planned.why.count("no answer")) == ("no_answer", 3)


# Parts


@pytest.mark.parametrize(
    "data",
    [None, [], "x", {}, {"xlog": 3, "patroni": 4, "replication": {"a": 1}}, {"replication": [1, {"state": "x"}]}],
)
def test_a_word_of_any_shape_proves_nothing(data: t.Any) -> None:
    word = parse_word(data)
    assert (word.leads, word.position, word.timeline, dict(word.followers)) == (False, None, None, {})


def test_a_standby_after_its_restart_has_received_less_than_replayed() -> None:
    assert parse_word({"xlog": {"received_location": 10, "replayed_location": 30}}).position == 30


def test_instants() -> None:
    assert instant("2030-01-31T04:00:00+01:00") == instant("2030-01-31T03:00:00Z")
    assert [instant(text) for text in ("", "Z", "2030", "2030-01-31T03:00:00")] == [None] * 4


@pytest.mark.parametrize(("size", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_majorities(size: int, needed: int) -> None:
    assert quorum_of([str(number) for number in range(size)]) == needed


def test_a_look_knows_the_timings_of_the_store() -> None:
    look: Look = Lab().look()
    assert (look.ttl, look.loop_wait, look.history) == (TTL, LOOP, (1, 2))

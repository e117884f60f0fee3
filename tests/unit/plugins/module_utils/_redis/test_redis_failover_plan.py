# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a master may be moved and a Sentinel reset: every shape, every lost host, every guard."""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

import pytest
from sentinel_lab import FakePeer, Lab

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._redis import failover_plan as plan

M1, M2, M3 = (f"10.0.0.{number}:6379" for number in (1, 2, 3))


def planned(lab: Lab, away_from: str | None = M1, **more: t.Any) -> t.Any:
    return plan.plan_failover(lab.view(), away_from, **more)


def code(answer: t.Any) -> str:
    assert isinstance(answer, Refuse), answer
    assert all((answer.what, answer.why, answer.do))
    return answer.code


@pytest.mark.parametrize("size", [3, 5])
def test_the_order(size: int) -> None:
    move = planned(Lab(size))
    others = tuple(f"10.0.0.{number}:6379" for number in range(2, size + 1))
    # Not by the Sentinel beside the master, and paused for four fifths of down-after-milliseconds.
    assert move == plan.Move("10.0.0.2:26379", M1, others, others, 2400)
    assert len(move.steps()) == 3


def test_without_a_pause() -> None:
    move = planned(Lab(3), pause_writes=False)
    assert move.pause_ms == 0
    assert not any("pause" in step for step in move.steps())


def test_the_pause_is_bounded() -> None:
    view = Lab(3).view()
    patient = tuple(dataclasses.replace(one, down_after_ms=60000) for one in view.sentinels)
    move = plan.plan_failover(dataclasses.replace(view, sentinels=patient), M1)
    assert isinstance(move, plan.Move)
    assert move.pause_ms == plan.MAX_PAUSE_MS


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_whatever_dies_the_laws_hold(size: int) -> None:
    """Every set of dead hosts: the order is given exactly when laws 1 and 2 allow it."""
    for dead in itertools.chain.from_iterable(itertools.combinations(range(1, size + 1), n) for n in range(size + 1)):
        lab = Lab(size)
        for number in dead:
            lab.kill(number)
        view = lab.view()
        answer = plan.plan_failover(view, M1)
        allowed = 2 * (size - len(dead)) > size and 1 not in dead
        good = size - 1 - len(dead)
        assert isinstance(answer, plan.Move) == (allowed and good >= 1 and good - 1 >= (1 if size > 2 else 0)), dead
        if isinstance(answer, plan.Move):
            assert not {f"10.0.0.{number}:6379" for number in dead} & {*answer.candidates, *answer.followers}
            assert answer.sentinel not in {f"10.0.0.{number}:26379" for number in dead}


@pytest.mark.parametrize("force", [False, True])
def test_elsewhere_nothing_is_done(force: bool) -> None:
    lab = Lab(3)
    answer = planned(lab, M2, force=force)
    assert isinstance(answer, plan.Nothing)
    assert answer.master == M1


def test_elsewhere_needs_no_healthy_replica_but_a_majority() -> None:
    lab = Lab(3)
    lab.kill(2)
    assert isinstance(planned(lab, M2), plan.Nothing)
    lab.sentinel(3).alive = False
    assert code(planned(lab, M2)) == "no_quorum"


def test_elsewhere_that_calls_itself_master() -> None:
    lab = Lab(3)
    lab.node(2).role, lab.node(2).follows = "master", None
    assert code(planned(lab, M2)) == "two_masters"


def two(lab: Lab, what: str, **values: t.Any) -> None:
    """The same on hosts 2 and 3."""
    for number, (name, value) in itertools.product((2, 3), values.items()):
        setattr(getattr(lab, what)(number), name, value)


def three(lab: Lab, **values: t.Any) -> None:
    for sentinel, (name, value) in itertools.product(lab.sentinels.values(), values.items()):
        setattr(sentinel, name, value)


def stranger(lab: Lab) -> None:
    for sentinel in lab.sentinels.values():
        sentinel.master = "10.9.9.9:6379"


def disagree(lab: Lab) -> None:
    for number in (1, 2, 3):
        lab.sentinel(number).master = f"10.0.0.{number}:6379"


def demoted(lab: Lab) -> None:
    lab.node(1).role, lab.node(1).follows = "slave", M2


def second(lab: Lab) -> None:
    lab.node(3).role, lab.node(3).follows = "master", None


def bad_first(lab: Lab) -> None:
    """The replica that Sentinel would take lags."""
    lab.node(2).behind = 2 * 1024**2
    for sentinel in lab.sentinels.values():
        sentinel.replicas[M2].priority = 10


def never(lab: Lab) -> None:
    for sentinel, name in itertools.product(lab.sentinels.values(), (M2, M3)):
        sentinel.replicas[name].priority = 0


def unknown_replicas(lab: Lab) -> None:
    for sentinel in lab.sentinels.values():
        sentinel.replicas.clear()


def old_memory(lab: Lab) -> None:
    lab.sentinel(3).replicas[M2].role = "master"


def set_node(number: int, **values: t.Any) -> t.Callable[[Lab], None]:
    def change(lab: Lab) -> None:
        for name, value in values.items():
            setattr(lab.node(number), name, value)

    return change


GUARDS: list[tuple[t.Callable[[Lab], None], str, str]] = [
    (lambda lab: three(lab, alive=False), "no_sentinel", "connection refused"),
    (lambda lab: two(lab, "sentinel", alive=False), "no_quorum", "1 of 3 Sentinels name 10.0.0.1:6379"),
    (lambda lab: two(lab, "sentinel", quorum_ok=False), "no_quorum", "1 of 3 Sentinels find their quorum: NOQUORUM"),
    (lambda lab: three(lab, master=None), "no_master", "names None"),
    (disagree, "no_master", "10.0.0.3:26379 names 10.0.0.3:6379"),
    (lambda lab: setattr(lab.sentinel(3), "flags", "master,failover_in_progress"), "in_progress", "10.0.0.3:26379"),
    (lambda lab: three(lab, flags="master,s_down"), "master_ill", "master,s_down"),
    (lambda lab: setattr(lab.sentinel(3), "flags", "master,o_down"), "master_ill", "10.0.0.3:26379 says master,o_down"),
    (lambda lab: setattr(lab.sentinel(3), "tilt", True), "master_ill", "10.0.0.3:26379 is in TILT"),
    (stranger, "role_mismatch", "is not among the nodes"),
    (demoted, "role_mismatch", "says slave"),
    (set_node(1, alive=False), "role_mismatch", "connection refused"),
    (second, "two_masters", "10.0.0.3:6379 says that it is master too"),
    (lambda lab: two(lab, "node", alive=False), "no_good_replica", "10.0.0.2:6379 does not answer"),
    (lambda lab: two(lab, "node", link="connect"), "no_good_replica", "has no link to its master: connect"),
    (lambda lab: two(lab, "node", behind=2000000), "no_good_replica", "more than 1048576"),
    (lambda lab: two(lab, "node", loading=True), "no_good_replica", "loads its data"),
    (lambda lab: two(lab, "node", follows="10.0.0.9:6379"), "no_good_replica", "follows 10.0.0.9:6379"),
    (bad_first, "bad_candidate", "10.0.0.2:6379 10"),
    (never, "bad_candidate", "priorities: none"),
    (unknown_replicas, "bad_candidate", "priorities: none"),
    (set_node(3, link="connect"), "too_few_replicas", "would have 0 good replicas without the old one"),
    (set_node(2, min_replicas=2), "too_few_replicas", "min-replicas-to-write is 2"),
    (old_memory, "not_settled", "10.0.0.3:26379 remembers the replica 10.0.0.2:6379 as master"),
    (lambda lab: three(lab, since=-5.0), "too_soon", "it has been master for 5 s, and failover-timeout is 20 s"),
]


@pytest.mark.parametrize(("harm", "expected", "why"), GUARDS, ids=[f"{one[1]}-{one[2]}" for one in GUARDS])
def test_each_guard(harm: t.Callable[[Lab], None], expected: str, why: str) -> None:
    lab = Lab(3)
    if harm is stranger:
        for sentinel in lab.sentinels.values():
            sentinel.replicas = {}
    harm(lab)
    answer = plan.plan_failover(lab.view(), None, force=expected != "too_soon") if harm is stranger else planned(lab)
    assert code(answer) == expected
    assert why in answer.why
    forced = plan.plan_failover(lab.view(), None, force=True)
    assert isinstance(forced, plan.Move) == (expected == "too_soon")


def test_neither_name_nor_force() -> None:
    assert code(planned(Lab(3), None)) == "no_target"
    assert isinstance(planned(Lab(3), None, force=True), plan.Move)


def test_the_sentinel_that_remembers_longest_counts() -> None:
    lab = Lab(3)
    lab.sentinel(1).since = lab.sentinel(2).since = -1.0
    assert isinstance(planned(lab), plan.Move)


def test_memory_of_an_ill_replica_is_no_hindrance() -> None:
    lab = Lab(5)
    lab.node(5).link = "connect"
    lab.sentinel(3).replicas["10.0.0.5:6379"].link = "err"
    assert isinstance(planned(lab), plan.Move)


def test_only_the_first_priority_is_a_candidate_and_all_good_ones_must_follow() -> None:
    lab = Lab(3)
    for sentinel in lab.sentinels.values():
        sentinel.replicas[M3].priority = 10
    move = planned(lab)
    assert (move.candidates, move.followers) == ((M3,), (M2, M3))


# -- the way there -----------------------------------------------------------------------------------------------------


def test_caught_up() -> None:
    lab = Lab(3)
    move = planned(lab)
    lab.node(1).paused_until = 10
    lab.node(2).behind, lab.node(3).behind = 20, 30
    assert plan.caught_up(lab.view(), move) == "the best candidate still lags 20 bytes behind"
    lab.node(3).behind = 0
    assert plan.caught_up(lab.view(), move) is None
    two(lab, "node", link="connect")
    assert plan.caught_up(lab.view(), move) == "no candidate follows any more"
    lab.node(1).alive = False
    assert "is not a master any more" in str(plan.caught_up(lab.view(), move))


def moved(lab: Lab) -> tuple[t.Any, str]:
    """A move that went well."""
    move = planned(lab)
    lab.ask({move.sentinel: [("SENTINEL", "FAILOVER", "sessions")]})
    lab.clock.now = 15
    lab.ask({})
    return move, str(lab.view().master)


@pytest.mark.parametrize("size", [3, 5])
def test_the_move_is_over(size: int) -> None:
    lab = Lab(size)
    move, new = moved(lab)
    assert new in move.candidates
    assert plan.switched(lab.view(), M1) == new
    assert plan.why_not_moved(lab.view(), move) is None
    assert plan.must_demote(lab.view(), M1) is None
    assert not plan.given_up(lab.view(), move)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda lab: two(lab, "sentinel", alive=False), "10.0.0.3:26379 names "),
        (lambda lab: two(lab, "sentinel", master=M1), "10.0.0.2:26379 names 10.0.0.1:6379"),
        (lambda lab: setattr(lab.sentinel(2), "flags", "master,failover_in_progress"), "has not ended the failover"),
        (set_node(3, role="slave", follows=M1), "10.0.0.3:6379 says slave"),
        (set_node(3, alive=False), "10.0.0.3:6379 says 10.0.0.3:6379: connection refused"),
        (set_node(1, role="master"), "10.0.0.1:6379 says master beside 10.0.0.3:6379"),
        (set_node(1, link="sync"), "10.0.0.1:6379 does not follow 10.0.0.3:6379 yet: sync"),
        (set_node(2, follows=M1), "10.0.0.2:6379 does not follow"),
        (set_node(2, alive=False), "10.0.0.2:6379 does not follow"),
    ],
)
def test_the_move_is_not_over(harm: t.Callable[[Lab], None], why: str) -> None:
    lab = Lab(3)
    move, new = moved(lab)
    assert new == M3
    harm(lab)
    assert why in str(plan.why_not_moved(lab.view(), move))


def test_an_old_master_that_is_gone_is_judged_apart() -> None:
    lab = Lab(3)
    move, _new = moved(lab)
    lab.node(1).alive = False
    assert plan.why_not_moved(lab.view(), move) is None


def test_law_7_the_old_master_is_demoted_on_the_word_of_a_majority_and_of_the_new_one() -> None:
    lab = Lab(3)
    moved(lab)
    set_node(1, role="master", follows=None)(lab)
    assert plan.must_demote(lab.view(), M1) == M3
    lab.sentinel(2).master = M1
    assert plan.must_demote(lab.view(), M1) == M3
    lab.sentinel(1).alive = False
    assert plan.must_demote(lab.view(), M1) is None
    lab.sentinel(1).alive, lab.node(3).role = True, "slave"
    assert plan.must_demote(lab.view(), M1) is None
    lab.node(3).role, lab.node(1).alive = "master", False
    assert plan.must_demote(lab.view(), M1) is None


# -- reset -------------------------------------------------------------------------------------------------------------


def retire(lab: Lab) -> Lab:
    """A fourth host was there and is gone."""
    for sentinel in lab.sentinels.values():
        sentinel.sentinels["10.0.0.9:26379"] = "sentinel,s_down"
        sentinel.replicas["10.0.0.9:6379"] = FakePeer("slave,s_down,disconnected")
    return lab


def test_nothing_to_forget() -> None:
    assert plan.plan_reset(Lab(3).view()) == ()


def test_nothing_to_forget_needs_no_healthy_cluster() -> None:
    lab = Lab(3)
    lab.kill(3)
    assert plan.plan_reset(lab.view()) == ()


def test_each_sentinel_with_a_stale_entry_is_reset() -> None:
    lab = retire(Lab(3))
    del lab.sentinel(2).sentinels["10.0.0.9:26379"], lab.sentinel(2).replicas["10.0.0.9:6379"]
    stale = ("10.0.0.9:26379", "10.0.0.9:6379")
    assert plan.plan_reset(lab.view()) == (plan.Reset("10.0.0.1:26379", stale), plan.Reset("10.0.0.3:26379", stale))


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda lab: three(lab, alive=False), "no_sentinel"),
        (disagree, "no_master"),
        (lambda lab: two(lab, "sentinel", alive=False), "no_quorum"),
        (lambda lab: setattr(lab.sentinel(2), "flags", "master,failover_in_progress"), "in_progress"),
        (lambda lab: lab.sentinel(1).sentinels.update({"10.0.0.9:26379": "sentinel"}), "not_retired"),
        (lambda lab: setattr(lab.sentinel(1).replicas["10.0.0.9:6379"], "flags", "slave"), "not_retired"),
        (lambda lab: setattr(lab.sentinel(3), "alive", False), "somebody_silent"),
        (set_node(2, alive=False), "somebody_silent"),
        (set_node(1, alive=False), "somebody_silent"),
        (lambda lab: lab.sentinel(3).sentinels.pop("10.0.0.2:26379"), "not_settled"),
        (lambda lab: lab.sentinel(3).replicas.pop(M2), "not_settled"),
        (lambda lab: setattr(lab.sentinel(3).replicas[M2], "flags", "slave,s_down"), "not_settled"),
        (lambda lab: setattr(lab.sentinel(3), "flags", "master,s_down"), "not_settled"),
        (lambda lab: setattr(lab.sentinel(3), "master", M2), "not_settled"),
        (demoted, "not_settled"),
    ],
)
def test_law_8_and_10(harm: t.Callable[[Lab], None], expected: str) -> None:
    lab = retire(Lab(3))
    harm(lab)
    assert code(plan.plan_reset(lab.view())) == expected


def test_a_stale_replica_that_the_master_still_serves_is_alive() -> None:
    lab = retire(Lab(3))
    cluster = lab.cluster()
    for sentinel in lab.sentinels.values():
        sentinel.replicas[M3].flags = "slave,s_down"
    view = lab.view(nodes=cluster.nodes[:2])
    assert code(plan.plan_reset(view)) == "not_retired"


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda lab: None, "still knows 10.0.0.9:26379, 10.0.0.9:6379"),
        (lambda lab: lab.sentinel(1).replicas.clear(), "does not know 10.0.0.2:6379"),
        (lambda lab: lab.sentinel(1).sentinels.clear(), "does not know 10.0.0.2:26379"),
        (lambda lab: setattr(lab.sentinel(1).replicas[M2], "flags", "slave,disconnected"), "has as ill 10.0.0.2:6379"),
        (lambda lab: setattr(lab.sentinel(1), "alive", False), "does not answer"),
        (lambda lab: setattr(lab.sentinel(1), "quorum_ok", False), "finds no quorum"),
        (lambda lab: two(lab, "sentinel", alive=False), "no majority"),
    ],
)
def test_law_9_what_a_sentinel_must_know_again(harm: t.Callable[[Lab], None], why: str) -> None:
    lab = retire(Lab(3))
    harm(lab)
    assert why in str(plan.why_not_learned(lab.view(), "10.0.0.1:26379"))


def test_it_knows_again() -> None:
    assert plan.why_not_learned(Lab(3).view(), "10.0.0.1:26379") is None

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The failure detector's law: every state that must keep the leader key, the few that may remove or hand it over."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import typing as t
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "images" / "postgres"))

from detector import plan

KEYS = plan.Keys.of("/dedicated/", "shop")
MEMBERS = ("a", "b", "c")
TIMING = plan.Timing(suspect=2.0, late=2.0, fresh=3.5, turn=1.0, streaming_grace=2.0)
REVISION = 70


def law(me: str = "b", members: tuple[str, ...] = MEMBERS) -> plan.Law:
    return plan.Law(me, members, KEYS, TIMING)


def entry(value: t.Any, revision: int) -> plan.Entry:
    return plan.Entry(value if isinstance(value, str) else json.dumps(value), revision)


def vote(streaming: bool = True, silence: float = 2.4, leader: str | None = "a", revision: int = REVISION) -> str:
    return plan.Vote(leader, revision, silence, streaming, {"rest": {"failures": 2}}).as_text()


CONFIG = {"synchronous_mode": True, "ttl": 20}
SYNC = {"leader": "a", "sync_standby": "b", "quorum": 0}


def dead(**changes: t.Any) -> plan.Snapshot:
    """a is the leader, b its synchronous standby; b and c hold a for dead. Everything allows the removal."""
    view = plan.Snapshot(
        revision=200,
        leader=plan.Entry("a", REVISION),
        config=entry(CONFIG, 12),
        sync=entry(SYNC, 24),
        votes={"b": entry(vote(), 101), "c": entry(vote(streaming=False), 102), "a": entry(plan.Vote().as_text(), 90)},
    )
    return dataclasses.replace(view, **changes)


def votes(**texts: str) -> dict[str, plan.Entry]:
    return {name: entry(text, 100 + number) for number, (name, text) in enumerate(sorted(texts.items()))}


# --- what may remove --------------------------------------------------------------------------------------------------


def test_the_synchronous_standby_removes_at_once_under_every_guard() -> None:
    decision = plan.decide(dead(), law("b"))
    assert decision.code == plan.REMOVE
    assert decision.agreeing == ("b", "c")
    removal = decision.act
    assert removal is not None
    assert (removal.code, removal.leader, removal.revision) == (plan.REMOVE, "a", REVISION)
    assert removal.story == {"step": 1, "removed": "a"}
    assert removal.delete == "/dedicated/shop/leader"
    assert removal.puts == ()
    assert removal.hold == "/dedicated-ops/shop/detector-hold"
    assert set(removal.guards) == {
        plan.Guard("/dedicated/shop/leader", plan.VALUE, "a"),
        plan.Guard("/dedicated/shop/leader", plan.REVISION, revision=REVISION),
        plan.Guard("/dedicated/shop/sync", plan.REVISION, revision=24),
        plan.Guard("/dedicated/shop/config", plan.REVISION, revision=12),
        plan.Guard("/dedicated-ops/shop/detector/b", plan.REVISION, revision=101),
        plan.Guard("/dedicated-ops/shop/detector/c", plan.REVISION, revision=102),
        plan.Guard("/dedicated-ops/shop/operation", plan.ABSENT),
        plan.Guard("/dedicated/shop/failover", plan.ABSENT),
        plan.Guard("/dedicated-ops/shop/detector-hold", plan.ABSENT),
    }


@pytest.mark.parametrize(("seconds", "code"), [(0.0, plan.WAIT_TURN), (0.99, plan.WAIT_TURN), (1.0, plan.REMOVE)])
def test_another_member_lets_the_synchronous_standby_go_first(seconds: float, code: str) -> None:
    decision = plan.decide(dead(), law("c"), seconds)
    assert decision.code == code
    assert (decision.act is not None) == (code == plan.REMOVE)


@pytest.mark.parametrize("mode", [True, "on", "true", "yes", 1, "ON"])
def test_the_spellings_of_synchronous(mode: t.Any) -> None:
    view = dead(config=entry({**CONFIG, "synchronous_mode": mode, "pause": False}, 12))
    assert plan.decide(view, law()).code == plan.REMOVE


@pytest.mark.parametrize("emptied", ["{}", "{ }", ""])
def test_an_order_that_was_carried_out_leaves_an_empty_key(emptied: str) -> None:
    decision = plan.decide(dead(failover=plan.Entry(emptied, 77)), law())
    assert decision.act is not None
    assert plan.Guard(KEYS.failover, plan.REVISION, revision=77) in decision.act.guards


@pytest.mark.parametrize("named", ["b", "b,c", " c , b ", "b,x"])
def test_one_of_several_synchronous_standbys_is_enough(named: str) -> None:
    view = dead(sync=entry({**SYNC, "sync_standby": named}, 24))
    assert plan.decide(view, law()).code == plan.REMOVE


# --- what keeps the key -----------------------------------------------------------------------------------------------

LOCK = plan.Entry("{}", 9)
ORDER = entry({"leader": "a", "member": "b"}, 9)

KEPT: list[tuple[str, str, dict[str, t.Any]]] = [
    ("no leader", plan.NO_LEADER, {"leader": None}),
    ("a stranger leads", plan.FOREIGN_LEADER, {"leader": plan.Entry("z", REVISION)}),
    ("no configuration", plan.BAD_CONFIG, {"config": None}),
    ("configuration is no JSON", plan.BAD_CONFIG, {"config": entry("{", 12)}),
    ("configuration is a list", plan.BAD_CONFIG, {"config": entry([], 12)}),
    ("synchronous_mode absent", plan.NOT_SYNCHRONOUS, {"config": entry({"ttl": 20}, 12)}),
    ("synchronous_mode off", plan.NOT_SYNCHRONOUS, {"config": entry({"synchronous_mode": False}, 12)}),
    ("synchronous_mode null", plan.NOT_SYNCHRONOUS, {"config": entry({"synchronous_mode": None}, 12)}),
    ("synchronous_mode unheard of", plan.NOT_SYNCHRONOUS, {"config": entry({"synchronous_mode": "remote"}, 12)}),
    ("quorum mode", plan.QUORUM_MODE, {"config": entry({"synchronous_mode": "quorum"}, 12)}),
    ("quorum left in sync", plan.QUORUM_MODE, {"sync": entry({**SYNC, "quorum": 1}, 24)}),
    ("quorum is a text", plan.QUORUM_MODE, {"sync": entry({**SYNC, "quorum": "0"}, 24)}),
    ("standby cluster", plan.STANDBY_CLUSTER, {"config": entry({**CONFIG, "standby_cluster": {"host": "x"}}, 12)}),
    ("pause", plan.PAUSED, {"config": entry({**CONFIG, "pause": True}, 12)}),
    ("pause as text", plan.PAUSED, {"config": entry({**CONFIG, "pause": "on"}, 12)}),
    ("pause nobody understands", plan.PAUSED, {"config": entry({**CONFIG, "pause": "maybe"}, 12)}),
    ("operation", plan.OPERATION, {"operation": LOCK}),
    ("an empty operation", plan.OPERATION, {"operation": plan.Entry("", 9)}),
    ("switchover asked for", plan.FAILOVER_ASKED, {"failover": ORDER}),
    ("failover asked for", plan.FAILOVER_ASKED, {"failover": entry({"member": "b"}, 9)}),
    ("an order that nobody can read", plan.FAILOVER_ASKED, {"failover": plan.Entry("{", 9)}),
    ("an order that is no mapping", plan.FAILOVER_ASKED, {"failover": entry([], 9)}),
    ("hold", plan.HOLD_OFF, {"hold": LOCK}),
    ("a hold that nobody can read", plan.HOLD_OFF, {"hold": plan.Entry("?", 9)}),
    ("no sync", plan.NO_SYNC_STANDBY, {"sync": None}),
    ("sync is no JSON", plan.BAD_SYNC, {"sync": entry("b", 24)}),
    ("sync of another leader", plan.SYNC_OF_ANOTHER, {"sync": entry({**SYNC, "leader": "c"}, 24)}),
    ("sync of nobody", plan.SYNC_OF_ANOTHER, {"sync": entry({}, 24)}),
    ("sync names nobody", plan.NO_SYNC_STANDBY, {"sync": entry({"leader": "a", "sync_standby": None}, 24)}),
    ("sync names nothing", plan.NO_SYNC_STANDBY, {"sync": entry({**SYNC, "sync_standby": " , "}, 24)}),
    ("sync names a list", plan.BAD_SYNC, {"sync": entry({**SYNC, "sync_standby": ["b"]}, 24)}),
    ("the leader as its own standby", plan.BAD_SYNC, {"sync": entry({**SYNC, "sync_standby": "a,b"}, 24)}),
    ("the standby is somebody else", plan.NO_SYNC_WITNESS, {"sync": entry({**SYNC, "sync_standby": "c"}, 24)}),
    ("the standby is no member", plan.NO_SYNC_WITNESS, {"sync": entry({**SYNC, "sync_standby": "x"}, 24)}),
    ("nobody suspects", plan.QUIET, {"votes": {}}),
    ("only b", plan.MINORITY, {"votes": votes(b=vote())}),
    ("c's detector is gone", plan.MINORITY, {"votes": votes(b=vote(), a=plan.Vote().as_text())}),
    ("c means another revision", plan.MINORITY, {"votes": votes(b=vote(), c=vote(revision=69))}),
    ("c means another leader", plan.MINORITY, {"votes": votes(b=vote(), c=vote(leader="b"))}),
    ("c has not waited", plan.MINORITY, {"votes": votes(b=vote(), c=vote(silence=1.99))}),
    ("the leader against itself", plan.MINORITY, {"votes": votes(b=vote(), a=vote())}),
    ("strangers vote", plan.MINORITY, {"votes": votes(b=vote(), x=vote(), y=vote())}),
    ("b did not stream", plan.NO_SYNC_WITNESS, {"votes": votes(b=vote(streaming=False), c=vote())}),
]


@pytest.mark.parametrize("me", ["b", "c"])
@pytest.mark.parametrize(("code", "changes"), [case[1:] for case in KEPT], ids=[case[0] for case in KEPT])
def test_the_key_is_kept(code: str, changes: dict[str, t.Any], me: str) -> None:
    decision = plan.decide(dead(**changes), law(me), agreed_seconds=60.0)
    assert decision.code == code
    assert decision.act is None
    assert decision.reasons


def test_whoever_hears_the_leader_does_not_remove() -> None:
    view = dead(votes=votes(b=vote(), c=vote(), d=vote(), e=plan.Vote().as_text()))
    five = ("a", "b", "c", "d", "e")
    assert plan.decide(view, law("e", five), 60.0).code == plan.NOT_AMONG
    assert plan.decide(view, law("b", five)).code == plan.REMOVE


def test_the_leader_never_judges_itself() -> None:
    assert plan.decide(dead(), law("a"), 60.0).code == plan.OWN_LEADER


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        vote().replace('"version": 1', '"version": 2'),
        vote().replace('"version": 1', '"version": true'),
        vote().replace("2.4", "NaN"),
        vote().replace("2.4", "Infinity"),
        vote().replace("2.4", '"2.4"'),
        vote().replace("2.4", "true"),
        vote().replace("2.4", "1" + "0" * 400),
        vote().replace('"streaming": true', '"streaming": 1'),
        vote().replace('"a"', '["a"]'),
        vote().replace("70", '"70"'),
        vote().replace('{"rest": {"failures": 2}}', "7"),
    ],
)
def test_a_vote_that_cannot_be_read_is_none(text: str) -> None:
    view = dead(votes=votes(b=vote(), c=text))
    assert plan.decide(view, law(), 60.0).code == plan.MINORITY
    assert any("vote of c" in problem for problem in plan.unreadable_votes(view, law()))


@pytest.mark.parametrize(
    ("members", "agreeing", "removes"),
    [
        (("a",), (), False),
        (("a", "b"), ("b",), False),
        (("a", "b", "c"), ("b", "c"), True),
        (("a", "b", "c", "d"), ("b", "c"), False),
        (("a", "b", "c", "d"), ("b", "c", "d"), True),
        (("a", "b", "c", "d", "e"), ("b", "c"), False),
        (("a", "b", "c", "d", "e"), ("b", "c", "d"), True),
    ],
)
def test_a_strict_majority_of_all_members(members: tuple[str, ...], agreeing: tuple[str, ...], removes: bool) -> None:
    view = dead(votes=votes(**{name: vote() for name in agreeing}))
    assert (plan.decide(view, law("b", members), 60.0).act is not None) == removes


def test_over_all_combinations_nothing_is_removed_against_the_law() -> None:
    """The law said once more, plainly, over every combination of what it speaks of."""
    says = {
        "nothing": None,
        "no": plan.Vote().as_text(),
        "yes": vote(),
        "yes, not streaming": vote(streaming=False),
        "too early": vote(silence=1.0),
        "old revision": vote(revision=1),
    }
    modes = {"on": True, "off": False, "quorum": "quorum"}
    syncs = {"b": "b", "c": "c", "b,c": "b,c", "none": None}
    removed = 0
    for b, c, mode, sync, blocked, me in itertools.product(says, says, modes, syncs, range(5), MEMBERS):
        view = dead(
            config=entry({"synchronous_mode": modes[mode], "pause": blocked == 1}, 12),
            sync=entry({"leader": "a", "sync_standby": syncs[sync]}, 24),
            operation=LOCK if blocked == 2 else None,
            failover=ORDER if blocked == 3 else None,
            hold=LOCK if blocked == 4 else None,
            votes=votes(**{name: says[said] or "" for name, said in (("b", b), ("c", c)) if says[said]}, a=vote()),
        )
        both = b.startswith("yes") and c.startswith("yes")
        witness = (b == "yes" and "b" in sync) or (c == "yes" and "c" in sync)
        lawful = me != "a" and mode == "on" and not blocked and both and witness
        decision = plan.decide(view, law(me), agreed_seconds=60.0)
        assert (decision.act is not None) == lawful, (b, c, mode, sync, blocked, me)
        assert (decision.code == plan.REMOVE) == lawful
        removed += lawful
    assert removed > 0


def test_every_change_after_the_look_breaks_a_guard() -> None:
    """Rule 10: what was read and what is found when the transaction runs."""
    removal = plan.decide(dead(), law()).act
    assert removal is not None
    found = {
        KEYS.leader: plan.Entry("a", REVISION),
        KEYS.sync: entry(SYNC, 24),
        KEYS.config: entry(CONFIG, 12),
        KEYS.vote("b"): entry(vote(), 101),
        KEYS.vote("c"): entry(vote(), 102),
    }

    def holds(world: t.Mapping[str, plan.Entry]) -> bool:
        return all(guard.why_not(world.get(guard.key)) is None for guard in removal.guards)

    assert holds(found)
    for key, was in found.items():
        assert not holds({**found, key: plan.Entry(was.value, was.revision + 1)})
        assert not holds({other: value for other, value in found.items() if other != key})
    assert not holds({**found, KEYS.leader: plan.Entry("c", REVISION)})
    for key in (KEYS.operation, KEYS.failover, KEYS.hold):
        assert not holds({**found, key: LOCK})


# --- the second step --------------------------------------------------------------------------------------------------

REMOVED = 60
HOLD = {"step": 1, "removed": "a", "by": "c", "id": "x"}
STANDBY = {"state": "running", "role": "replica", "tags": {"clonefrom": True}, "timeline": 3}
SESSION = 7_587_880_000_000_000_123


def cut(**changes: t.Any) -> plan.Snapshot:
    """a took its key back after the removal and is silent on. Everything allows b to take the lead."""
    view = dead(
        leader=plan.Entry("a", REVISION, created=REVISION, lease=5),
        hold=entry(HOLD, REMOVED),
        members={"b": plan.Entry(json.dumps(STANDBY), 90, 9, SESSION), "c": plan.Entry(json.dumps(STANDBY), 91, 9, 6)},
    )
    return dataclasses.replace(view, **changes)


def standby(lease: int = SESSION, **changes: t.Any) -> dict[str, plan.Entry]:
    return {"b": plan.Entry(json.dumps({**STANDBY, **changes}), 90, 9, lease)}


def test_a_leader_that_took_its_key_back_in_silence_loses_it_to_its_synchronous_standby() -> None:
    decision = plan.decide(cut(), law("b"))
    assert (decision.code, decision.agreeing) == (plan.HAND_OVER, ("b", "c"))
    assert any("took its key back" in reason for reason in decision.reasons)
    act = decision.act
    assert act is not None
    assert (act.code, act.leader, act.revision) == (plan.HAND_OVER, "a", REVISION)
    assert act.story == {"step": 2, "taken_from": "a", "handed_to": "b"}
    assert act.delete is None
    # The order counts: whoever has seen the new revision of sync has seen the new holder.
    assert act.puts == (
        plan.Put("/dedicated/shop/leader", "b", SESSION),
        plan.Put("/dedicated/shop/sync", json.dumps(SYNC)),
    )
    assert act.hold == "/dedicated-ops/shop/detector-hold"
    assert set(act.guards) == {
        plan.Guard("/dedicated/shop/leader", plan.VALUE, "a"),
        plan.Guard("/dedicated/shop/leader", plan.REVISION, revision=REVISION),
        plan.Guard("/dedicated/shop/sync", plan.REVISION, revision=24),
        plan.Guard("/dedicated/shop/config", plan.REVISION, revision=12),
        plan.Guard("/dedicated-ops/shop/detector/b", plan.REVISION, revision=101),
        plan.Guard("/dedicated-ops/shop/detector/c", plan.REVISION, revision=102),
        plan.Guard("/dedicated-ops/shop/operation", plan.ABSENT),
        plan.Guard("/dedicated/shop/failover", plan.ABSENT),
        plan.Guard("/dedicated-ops/shop/detector-hold", plan.REVISION, revision=REMOVED),
        plan.Guard("/dedicated/shop/members/b", plan.LEASE, lease=SESSION),
    }


def test_without_a_hold_the_same_is_a_removal() -> None:
    assert plan.decide(cut(hold=None), law("b")).code == plan.REMOVE


@pytest.mark.parametrize(
    "changes",
    [
        {"hold": entry({"removed": "a"}, REMOVED)},
        {"hold": entry(HOLD, REVISION - 1)},
        {"failover": plan.Entry("{}", 77)},
        {"members": standby(role="sync_standby")},
        {"members": standby(tags={})},
        {"members": standby(tags={"nofailover": False, "failover_priority": 2})},
        {"members": {"b": plan.Entry('{"state": "running", "role": "replica"}', 90, 9, 1)}},
        {"sync": entry({**SYNC, "sync_standby": "c, b"}, 24)},
    ],
)
def test_what_else_is_handed_over(changes: dict[str, t.Any]) -> None:
    assert plan.decide(cut(**changes), law("b")).code == plan.HAND_OVER


NOT_HANDED: list[tuple[str, dict[str, t.Any]]] = [
    ("handed over already", {"hold": entry({"step": 2, "taken_from": "a", "handed_to": "b"}, REMOVED)}),
    ("step 2 that names a removal", {"hold": entry({**HOLD, "step": 2}, REMOVED)}),
    ("a step nobody knows", {"hold": entry({**HOLD, "step": 0}, REMOVED)}),
    ("step is a text", {"hold": entry({**HOLD, "step": "1"}, REMOVED)}),
    ("step is true", {"hold": entry({**HOLD, "step": True}, REMOVED)}),
    ("step is 1.0", {"hold": entry({**HOLD, "step": 1.0}, REMOVED)}),
    ("step is null", {"hold": entry({**HOLD, "step": None}, REMOVED)}),
    ("removal from another", {"hold": entry({**HOLD, "removed": "c"}, REMOVED)}),
    ("removal from nobody", {"hold": entry({"step": 1}, REMOVED)}),
    ("an older hold of another", {"hold": entry({"removed": "c"}, REMOVED)}),
    ("hold is no JSON", {"hold": plan.Entry("?", REMOVED)}),
    ("hold is empty", {"hold": plan.Entry("", REMOVED)}),
    ("hold is a list", {"hold": entry(["a"], REMOVED)}),
    ("hold is a name", {"hold": entry('"a"', REMOVED)}),
    ("hold is younger than the key", {"hold": entry(HOLD, REVISION + 1)}),
    ("hold is of the same moment", {"hold": entry(HOLD, REVISION)}),
    ("the key was only renewed since", {"leader": plan.Entry("a", REVISION, created=REMOVED - 1)}),
    ("when the key was made is not known", {"leader": plan.Entry("a", REVISION)}),
    ("no member keys", {"members": {}}),
    ("no member key of b", {"members": {"c": plan.Entry(json.dumps(STANDBY), 91, 9, 6)}}),
    ("no lease", {"members": standby(lease=0)}),
    ("a lease that cannot be", {"members": standby(lease=-1)}),
    ("member key is no JSON", {"members": {"b": plan.Entry("{", 90, 9, SESSION)}}),
    ("member key is a list", {"members": {"b": plan.Entry("[]", 90, 9, SESSION)}}),
    ("member key says nothing", {"members": {"b": plan.Entry("{}", 90, 9, SESSION)}}),
    ("starting", {"members": standby(state="starting")}),
    ("stopped", {"members": standby(state="stopped")}),
    ("crashed", {"members": standby(state="crashed")}),
    ("creating replica", {"members": standby(state="creating replica")}),
    ("state is no text", {"members": standby(state=["running"])}),
    ("a primary", {"members": standby(role="primary")}),
    ("a primary of old", {"members": standby(role="master")}),
    ("demoted", {"members": standby(role="demoted")}),
    ("promoted", {"members": standby(role="promoted")}),
    ("uninitialized", {"members": standby(role="uninitialized")}),
    ("a standby leader", {"members": standby(role="standby_leader")}),
    ("role is no text", {"members": standby(role=["replica"])}),
    ("nofailover", {"members": standby(tags={"nofailover": True})}),
    ("nofailover as text", {"members": standby(tags={"nofailover": "false"})}),
    ("priority 0", {"members": standby(tags={"failover_priority": 0})}),
    ("priority below", {"members": standby(tags={"failover_priority": -1})}),
    ("priority is a text", {"members": standby(tags={"failover_priority": "1"})}),
    ("priority is true", {"members": standby(tags={"failover_priority": True})}),
    ("tags are a list", {"members": standby(tags=["nofailover"])}),
    ("tags are null", {"members": standby(tags=None)}),
]


@pytest.mark.parametrize("me", ["b", "c"])
@pytest.mark.parametrize("changes", [case[1] for case in NOT_HANDED], ids=[case[0] for case in NOT_HANDED])
def test_the_key_is_not_handed_over(changes: dict[str, t.Any], me: str) -> None:
    decision = plan.decide(cut(**changes), law(me), agreed_seconds=60.0)
    assert (decision.code, decision.act) == (plan.HOLD_OFF, None)
    assert "not handed over: " in decision.reasons[0]


@pytest.mark.parametrize(("code", "changes"), [case[1:] for case in KEPT], ids=[case[0] for case in KEPT])
@pytest.mark.parametrize("me", ["b", "c"])
def test_what_keeps_a_key_from_removal_keeps_it_from_being_handed_over(
    code: str, changes: dict[str, t.Any], me: str
) -> None:
    decision = plan.decide(cut(**changes), law(me), agreed_seconds=60.0)
    assert decision.act is None
    looked_at_first = {"leader", "config", "operation", "failover"} & set(changes)
    assert decision.code == (code if looked_at_first else plan.HOLD_OFF)


def test_nobody_hands_the_key_to_another() -> None:
    for me in ("c", "d"):
        view = cut(votes=votes(b=vote(), c=vote(), d=vote()), members={**cut().members, "d": cut().members["c"]})
        decision = plan.decide(view, law(me, ("a", "b", "c", "d")), agreed_seconds=60.0)
        assert (decision.code, decision.act) == (plan.HOLD_OFF, None)
        assert "that is for b to do" in decision.reasons[0]
    assert plan.decide(cut(), law("a"), 60.0).code == plan.OWN_LEADER


def test_a_standby_that_hears_the_leader_does_not_take_its_key() -> None:
    view = cut(
        sync=entry({**SYNC, "sync_standby": "b,e"}, 24),
        votes=votes(b=plan.Vote().as_text(), c=vote(), d=vote(), e=vote()),
    )
    decision = plan.decide(view, law("b", ("a", "b", "c", "d", "e")), 60.0)
    assert (decision.code, decision.act) == (plan.HOLD_OFF, None)


def test_over_all_combinations_nothing_is_handed_over_against_the_law() -> None:
    """Rule 11 said once more, plainly, over every combination of what it speaks of."""
    says = {"no": plan.Vote().as_text(), "yes": vote(), "yes, not streaming": vote(streaming=False)}
    says["too early"] = vote(silence=1.9)
    holds = {
        "removal": HOLD,
        "old removal": {"removed": "a"},
        "handing over": {"step": 2, "taken_from": "a"},
        "other": {"step": 1, "removed": "c"},
        "garbage": 7,
    }
    syncs = {"b": "b", "c": "c", "none": None}
    patronis = {
        "well": standby(),
        "no lease": standby(lease=0),
        "starting": standby(state="starting"),
        "primary": standby(role="primary"),
        "nofailover": standby(tags={"nofailover": True}),
    }
    handed = 0
    for b, c, hold, sync, made, patroni, me in itertools.product(
        says, says, holds, syncs, (REMOVED - 1, REMOVED + 1), patronis, MEMBERS
    ):
        own = patronis[patroni]["b"]
        view = cut(
            leader=plan.Entry("a", REVISION, made),
            hold=entry(holds[hold], REMOVED),
            sync=entry({"leader": "a", "sync_standby": syncs[sync]}, 24),
            votes=votes(b=says[b], c=says[c], a=vote()),
            members={"b": own, "c": own},
        )
        agreed = b.startswith("yes") and c.startswith("yes")
        mine = (me == "b" and (b, sync) == ("yes", "b")) or (me == "c" and (c, sync) == ("yes", "c"))
        retaken = hold in ("removal", "old removal") and made > REMOVED
        lawful = agreed and mine and retaken and patroni == "well"
        decision = plan.decide(view, law(me), agreed_seconds=60.0)
        assert (decision.act is not None) == lawful, (b, c, hold, sync, made, patroni, me)
        assert (decision.code == plan.HAND_OVER) == lawful
        handed += lawful
    assert handed > 0


def test_every_change_after_the_look_breaks_a_guard_of_the_second_step() -> None:
    act = plan.decide(cut(), law()).act
    assert act is not None
    view = cut()
    found = {
        KEYS.leader: view.leader,
        KEYS.sync: view.sync,
        KEYS.config: view.config,
        KEYS.hold: view.hold,
        KEYS.vote("b"): view.votes["b"],
        KEYS.vote("c"): view.votes["c"],
    }
    own = {KEYS.member("b"): view.members["b"]}

    def holds(world: t.Mapping[str, plan.Entry | None]) -> bool:
        return all(guard.why_not(world.get(guard.key)) is None for guard in act.guards)

    assert holds({**found, **own})
    for key, was in found.items():
        assert was is not None
        assert not holds({**found, **own, key: dataclasses.replace(was, revision=was.revision + 1)})
        assert not holds({**found, **own, key: None})
    for key in (KEYS.operation, KEYS.failover):
        assert not holds({**found, **own, key: LOCK})
    # Patroni writes its member key in every loop; only another session is another Patroni.
    rewritten = plan.Entry("{}", 150, 9, SESSION)
    assert holds({**found, KEYS.member("b"): rewritten})
    assert not holds({**found, KEYS.member("b"): dataclasses.replace(rewritten, lease=SESSION + 1)})
    assert not holds(found)


def test_numbers_do_not_make_another_decision_but_people_do() -> None:
    longer = dead(votes=votes(b=vote(silence=9.0), c=vote(silence=8.0)))
    assert plan.decide(longer, law()).key == plan.decide(dead(), law()).key
    assert plan.decide(dead(votes=votes(b=vote())), law()).key != plan.decide(dead(votes=votes(c=vote())), law()).key


# --- what one member hears --------------------------------------------------------------------------------------------

TARGET = plan.Target("a", REVISION, ("10.0.0.1", 8008), ("10.0.0.1", 5432))


def seen(
    kind: str, at: float, alive: bool | None = False, took: float = 0.1, streaming: bool = False
) -> plan.Observation:
    return plan.Observation(kind, TARGET, at - took, at, alive, "x", streaming)


def watch(*observations: plan.Observation, since: float = 100.0) -> plan.Watch:
    state = plan.Watch(TARGET, since)
    for observation in observations:
        state = state.heard(observation, TIMING)
    return state


def failures(at: float) -> list[plan.Observation]:
    return [seen(kind, at) for kind in plan.KINDS]


def test_silence_needs_a_failure_of_every_kind() -> None:
    for count in range(3):
        for kinds in itertools.combinations(plan.KINDS, count):
            assert not watch(*(seen(kind, 102.0) for kind in kinds)).suspects(102.5, TIMING)
    assert watch(*failures(102.0)).suspects(102.5, TIMING)


def test_silence_needs_time() -> None:
    state = watch(*failures(101.5))
    assert not state.suspects(101.99, TIMING)
    assert state.suspects(102.0, TIMING)
    assert state.silence(102.0) == pytest.approx(2.0)


@pytest.mark.parametrize("kind", plan.KINDS)
def test_any_sign_of_life_resets_the_clock(kind: str) -> None:
    state = watch(*failures(102.0), seen(kind, 102.1, alive=True))
    assert not state.suspects(103.0, TIMING)
    assert state.silence(103.0) == 0.0
    again = [seen(one, 104.0) for one in plan.KINDS]
    for observation in again:
        state = state.heard(observation, TIMING)
    assert not state.suspects(104.05, TIMING)
    assert state.suspects(104.1, TIMING)


def test_a_question_asked_before_the_last_answer_is_no_failure_since() -> None:
    state = watch(seen(plan.REST, 102.0, alive=True))
    for kind in plan.KINDS:
        state = state.heard(seen(kind, 102.9, took=1.0), TIMING)
    assert not state.suspects(110.0, TIMING)


def test_what_could_not_be_asked_is_no_silence() -> None:
    state = watch(*failures(102.0), seen(plan.REST, 102.1, alive=None))
    assert not state.suspects(103.0, TIMING)
    assert state.heard(seen(plan.REST, 102.8), TIMING).suspects(103.0, TIMING)


def test_failures_of_long_ago_are_no_silence() -> None:
    """Probes that hang or died must not turn into a dead leader."""
    state = watch(*failures(102.0))
    assert state.suspects(105.5, TIMING)
    assert not state.suspects(105.6, TIMING)


def test_who_stood_still_begins_anew() -> None:
    state = watch(*failures(102.0), seen(plan.REST, 120.0, took=17.0))
    assert state.since == 120.0
    for observation in failures(121.0):
        state = state.heard(observation, TIMING)
    assert not state.suspects(121.5, TIMING)


def test_another_target_is_not_mixed_in() -> None:
    other = dataclasses.replace(TARGET, revision=REVISION + 1)
    state = watch(*failures(102.0))
    alive = plan.Observation(plan.REST, other, 102.0, 102.1, True, "x")
    assert state.heard(alive, TIMING) == state


@pytest.mark.parametrize(
    ("streamed", "last_sign", "expected"),
    [(99.9, 100.0, True), (98.1, 100.0, True), (97.9, 100.0, False), (None, 100.0, False)],
)
def test_whether_it_streamed_when_the_silence_began(streamed: float | None, last_sign: float, expected: bool) -> None:
    before = [] if streamed is None else [seen(plan.STREAM, streamed, streaming=True)]
    state = watch(*before, seen(plan.REST, last_sign, alive=True), *failures(102.0), since=90.0)
    assert plan.own_vote(state, 103.0, TIMING) == plan.Vote("a", REVISION, 3.0, expected, state.evidence(103.0))


def test_a_receiver_that_still_looks_streaming_afterwards_proves_nothing() -> None:
    """The view says streaming for as long as nobody told the kernel of the death."""
    state = watch(
        seen(plan.REST, 100.0, alive=True),
        seen(plan.STREAM, 101.0, streaming=True),
        seen(plan.REST, 102.0),
        seen(plan.POSTGRES, 102.0),
        since=90.0,
    )
    assert plan.own_vote(state, 103.0, TIMING).streaming is False


def anew(before: plan.Watch | None, at: float, **changes: t.Any) -> plan.Watch:
    return plan.Watch.of(dataclasses.replace(TARGET, revision=REVISION + 9, **changes), at, before)


def test_a_silence_that_goes_on_under_a_new_key_began_with_streaming() -> None:
    before = watch(seen(plan.STREAM, 100.5, alive=True, streaming=True), *failures(103.0))
    state = anew(before, 104.0)
    assert (state.target.revision, state.since, state.silence(110.0)) == (REVISION + 9, 104.0, 0.0)
    for observation in failures(105.0):
        state = state.heard(dataclasses.replace(observation, target=state.target), TIMING)
    assert not state.suspects(105.9, TIMING)
    assert plan.own_vote(state, 106.0, TIMING) == plan.Vote("a", REVISION + 9, 2.0, True, state.evidence(106.0))
    # And so on, however often it takes its key; but a sign of life is judged anew.
    assert plan.Watch.of(dataclasses.replace(TARGET, revision=99), 107.0, state).streaming is True
    heard = state.heard(plan.Observation(plan.REST, state.target, 106.9, 107.0, True, "x"), TIMING)
    assert heard.streaming is False


@pytest.mark.parametrize(
    ("observations", "changes"),
    [
        ([], {}),
        ([seen(plan.STREAM, 100.5, alive=True, streaming=True)], {}),
        ([seen(plan.STREAM, 100.5, alive=True, streaming=True), *failures(103.0)[:2]], {}),
        ([seen(plan.REST, 100.5, alive=True), *failures(103.0)], {}),
        ([seen(plan.STREAM, 100.5, alive=True, streaming=True), *failures(103.0)], {"leader": "c"}),
        ([seen(plan.STREAM, 100.5, alive=True, streaming=True), *failures(103.0)], {"postgres": ("10.0.0.9", 5432)}),
    ],
    ids=["nothing heard", "it lives", "not all kinds failed", "not streaming", "another leader", "another address"],
)
def test_what_is_not_carried_over(observations: list[plan.Observation], changes: dict[str, t.Any]) -> None:
    assert anew(watch(*observations), 104.0, **changes).streaming is False
    assert anew(None, 104.0, **changes).streaming is False


def test_without_suspicion_a_vote_says_nothing() -> None:
    assert plan.own_vote(None, 100.0, TIMING) == plan.Vote()
    assert plan.own_vote(watch(), 200.0, TIMING) == plan.Vote()
    assert plan.parse_vote("b", plan.Vote().as_text()) == plan.Vote()


def test_a_vote_survives_being_written() -> None:
    said = plan.Vote("a", REVISION, 2.5, True, {"rest": {"failures": 2}})
    assert plan.parse_vote("b", said.as_text()) == said


def test_a_vote_is_written_again_when_it_says_something_else() -> None:
    said = plan.Vote("a", REVISION, 2.5, True)
    assert dataclasses.replace(said, silence=9.0, evidence={"x": 1}).says_the_same(said)
    assert not said.says_the_same(None)
    for change in ({"suspects": "c"}, {"leader_revision": 1}, {"streaming": False}, {"silence": 2.0}):
        assert not dataclasses.replace(said, **change).says_the_same(said)


# --- whom to watch ----------------------------------------------------------------------------------------------------

MEMBER = {"api_url": "https://10.0.0.1:8008/patroni", "conn_url": "postgres://10.0.0.1:5432/postgres"}


def test_the_leader_is_watched_where_it_says_it_is() -> None:
    view = dead(members={"a": entry(MEMBER, 5)})
    assert plan.target_of(view, "b", MEMBERS) == TARGET
    assert plan.target_of(view, "a", MEMBERS) is None
    assert plan.target_of(dead(leader=None), "b", MEMBERS) is None
    assert plan.target_of(dead(leader=plan.Entry("z", 1)), "b", MEMBERS) is None


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"a": plan.Entry("x", 5)},
        {"a": entry({**MEMBER, "api_url": None}, 5)},
        {"a": entry({**MEMBER, "conn_url": "postgres:///postgres"}, 5)},
        {"a": entry({**MEMBER, "conn_url": "postgres://h:99999999/x"}, 5)},
        {"a": entry({**MEMBER, "conn_url": "postgres://[h/x"}, 5)},
    ],
)
def test_a_leader_without_addresses_is_not_watched(members: dict[str, plan.Entry]) -> None:
    with pytest.raises(plan.Malformed, match="members/a"):
        plan.target_of(dead(members=members), "b", MEMBERS)


def test_our_keys_are_not_below_patronis() -> None:
    ours = (KEYS.operation, KEYS.hold, KEYS.vote("b"))
    assert not any(key.startswith(KEYS.patroni) for key in ours)
    assert plan.Keys.of("/x/y/", "z").hold == "/x/y-ops/z/detector-hold"

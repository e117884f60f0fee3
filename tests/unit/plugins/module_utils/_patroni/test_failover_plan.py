# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether somebody is promoted in place of a dead leader, and what is said to be lost: every shape, and lies."""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

import pytest
from leader_lab import LOOP, TTL, Lab

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.failover_plan import (
    Loss,
    NotAccepted,
    Promotion,
    Waited,
    Wish,
    last_known,
    loss_of,
    lsn,
    parse_lsn,
    plan_failover,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.switchover_plan import Look, Nothing

Plan = Promotion | Nothing | Refuse
LONG = Waited(leaderless=60, unled=True)


def dead(size: int = 3, mode: str = "on") -> Lab:
    """The leader is gone, and so is its lease."""
    lab = Lab(size, mode)
    lab.kill("a", lease=False)
    return lab


def plan(lab: Lab, waited: Waited = LONG, **wish: t.Any) -> Plan:
    wish.setdefault("members", tuple(lab.nodes))
    return plan_failover(lab.look(), Wish(**wish), waited)


def code(planned: Plan) -> str:
    return planned.code if isinstance(planned, Refuse) else type(planned).__name__.lower()


def loss(planned: Plan) -> Loss:
    assert isinstance(planned, (Promotion, NotAccepted)), planned
    return planned.loss


# A leader lives


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("mode", ["off", "on", "quorum"])
@pytest.mark.parametrize(
    ("wish", "wanted"),
    [
        ({}, "leader_alive"),
        ({"candidate": "b"}, "leader_alive"),
        ({"candidate": "b", "accept_loss": "everything"}, "leader_alive"),
        ({"dead_leader": "a"}, "leader_alive"),
        ({"dead_leader": "a", "candidate": "b"}, "leader_alive"),
        ({"dead_leader": "b", "candidate": "b"}, "leader_alive"),
        ({"candidate": "a"}, "nothing"),
        ({"dead_leader": "b"}, "nothing"),
        ({"dead_leader": "b", "candidate": "a"}, "nothing"),
    ],
)
def test_a_healthy_leader_is_never_replaced(size: int, mode: str, wish: dict[str, t.Any], wanted: str) -> None:
    for waited in (Waited(), LONG):
        if wish or waited is not LONG:
            assert code(plan(Lab(size, mode), waited, **wish)) == wanted
    planned = plan(Lab(size, mode), Waited())
    assert isinstance(planned, Refuse)
    assert "patroni_switchover" in planned.do


@pytest.mark.parametrize(
    ("waited", "wish", "wanted"),
    [
        (Waited(unled=True), {}, "nothing"),
        (Waited(silent="b"), {}, "nothing"),
        (Waited(silent="a"), {}, "leader_alive"),
        (Waited(silent="a", unled=True), {}, "leader_alive"),
        (Waited(silent="b", unled=True), {"candidate": "c"}, "leader_alive"),
        (Waited(silent="b", unled=True), {"dead_leader": "a"}, "leader_alive"),
    ],
)
def test_patroni_elected_meanwhile(waited: Waited, wish: dict[str, t.Any], wanted: str) -> None:
    assert code(plan(Lab(), waited, **wish)) == wanted


def test_a_lease_that_has_not_run_out() -> None:
    lab = Lab()
    lab.kill("a")
    planned = plan(lab, Waited(lease=7, silent="a"), candidate="b")
    assert isinstance(planned, Refuse)
    assert planned.code == "lease_alive"
    assert f"wait {TTL + LOOP - 7} s" in planned.do


def test_a_silent_leader_whose_lease_does_not_run_out_lives() -> None:
    lab = Lab()
    lab.nodes["a"].answers = False
    assert code(plan(lab, Waited(lease=TTL + LOOP), candidate="b")) == "lease_alive"
    assert code(plan(lab, Waited(lease=TTL + LOOP + 1), candidate="b")) == "lease_renewed"


@pytest.mark.parametrize("state", ["starting", "stopping", "crashed", "stopped"])
def test_a_leader_that_starts_or_stops_is_patronis_affair(state: str) -> None:
    lab = Lab()
    lab.nodes["a"].state = state
    assert code(plan(lab, candidate="b")) == "in_progress"


@pytest.mark.parametrize("name", ["a", "c"])
def test_a_primary_without_a_lease_is_alive(name: str) -> None:
    lab = dead()
    lab.gone.clear()
    lab.nodes[name].answers, lab.nodes[name].role = True, "primary"
    assert code(plan(lab, candidate="b")) == "primary_alive"
    lab.nodes[name].state = "stopped"
    assert code(plan(lab, candidate="b")) == "promotion"


def test_patroni_is_given_time_to_elect() -> None:
    lab = dead()
    early = plan(lab, Waited(leaderless=LOOP - 1))
    assert isinstance(early, Refuse)
    assert (early.code, "wait 1 s" in early.do.lower()) == ("electing", True)
    assert code(plan(lab, Waited(leaderless=LOOP))) == "promotion"
    assert code(plan(lab, Waited(leaderless=19), election_wait=20)) == "electing"
    assert code(plan(lab, Waited(), election_wait=0)) == "promotion"
    lab.paused = True
    assert code(plan(lab, Waited())) == "promotion", "paused, it elects nobody"


# Every shape


def alive(lab: Lab, name: str) -> None:
    pass


def gone(lab: Lab, name: str) -> None:
    lab.kill(name)


def forgotten(lab: Lab, name: str) -> None:
    lab.kill(name)
    lab.gone.add(name)


def starting(lab: Lab, name: str) -> None:
    lab.nodes[name].state = "starting"


def old(lab: Lab, name: str) -> None:
    lab.nodes[name].timeline = 2


def short(lab: Lab, name: str) -> None:
    lab.nodes[name].position -= 100


def barred(lab: Lab, name: str) -> None:
    lab.nodes[name].tags = {"nofailover": True}


def lost(lab: Lab, name: str) -> None:
    lab.nodes[name].behind = TTL + 1


FATES = (alive, gone, forgotten, starting, old, short, barred, lost)
UNFIT = {
    gone: "candidate_silent",
    forgotten: "not_a_member",
    starting: "candidate_not_running",
    barred: "nofailover",
    lost: "candidate_stale",
}
MUTE = (gone, forgotten, starting)


@pytest.mark.parametrize("mode", ["off", "on", "quorum"])
@pytest.mark.parametrize("size", [3, 5])
def test_nothing_is_called_lost_only_where_that_is_certain(mode: str, size: int) -> None:
    """The leader had 1000 bytes and acknowledged what its standbys of the mode have."""
    shapes = itertools.product(FATES, repeat=2) if size == 3 else itertools.combinations_with_replacement(FATES, 4)
    for fates in shapes:
        lab = dead(size, mode)
        names = "bcde"[: size - 1]
        for name, fate in zip(names, fates):
            fate(lab, name)
        if set(fates) <= {lost, gone, forgotten}:
            continue  # nobody to compare their contact with: then nobody could have told of the cluster either
        look = lab.lookout(*(name for name, fate in zip(names, fates) if fate is not lost), history=True).look()
        assert not look.silent
        for name, fate in zip(names, fates):
            planned = plan_failover(look, Wish(tuple(lab.nodes), candidate=name), LONG)
            newer = fate is old and any(other not in (*MUTE, old) for other in fates)
            wanted = UNFIT.get(fate) or ("timeline" if newer else None)
            if wanted is not None:
                assert code(planned) == wanted, (name, fates)
                continue
            position = lab.nodes[name].position
            told = loss(planned)
            whole = (
                fate is not old
                and {
                    "off": False,
                    "on": name == "b",
                    # Nobody has more, and nobody but the leader could not be asked.
                    "quorum": not set(fates) & set(MUTE) and position == max(lab.nodes[one].position for one in names),
                }[mode]
            )
            assert (told.kind == "nothing") == whole, (name, fates, told)
            assert isinstance(planned, Promotion) == whole
            if not whole:
                assert told.text.startswith(f"{name} loses ")
                assert code(
                    plan_failover(look, Wish(tuple(lab.nodes), candidate=name, accept_loss=told.text), LONG)
                ) == ("promotion")
                for typed in ("yes", told.text + " ", told.text.replace(name, "z", 1)):
                    wish = Wish(tuple(lab.nodes), candidate=name, accept_loss=typed)
                    assert code(plan_failover(look, wish, LONG)) == "loss_not_accepted"


@pytest.mark.parametrize("mode", ["off", "on", "quorum"])
def test_the_one_that_loses_least_is_chosen(mode: str) -> None:
    lab = dead(5, mode)
    for name, position in zip("bcde", (970, 990, 980, 990)):
        lab.nodes[name].position = position
    planned = plan(lab)
    # With one synchronous standby it is that one, however short its log: the rest was never acknowledged.
    assert loss(planned).candidate == ("b" if mode == "on" else "c")


def test_nobody_is_left() -> None:
    lab = dead(3)
    lab.nodes["b"].tags = {"nofailover": True}
    lab.nodes["c"].state = "stopped"
    planned = plan(lab)
    assert isinstance(planned, Refuse)
    assert planned.code == "no_good_candidate"
    assert "(nofailover); " in planned.why
    assert "(candidate_not_running)" in planned.why


@pytest.mark.parametrize(
    ("wish", "wanted"),
    [
        ({"candidate": "b", "dead_leader": "b"}, "bad_target"),
        ({"candidate": "z"}, "not_a_member"),
        ({"candidate": "b", "members": ("a", "c")}, "not_a_member"),
        ({"candidate": "b", "dead_leader": "a"}, "promotion"),
        ({"system_identifier": "42"}, "other_cluster"),
        ({"last_leader_lsn": 999}, "bad_lsn"),
        ({"last_leader_lsn": 1000}, "promotion"),
    ],
)
def test_what_is_wished(wish: dict[str, t.Any], wanted: str) -> None:
    assert code(plan(dead(), **wish)) == wanted


# What is lost


def test_the_sentence_with_its_numbers() -> None:
    lab = dead(3, "off")
    for node in lab.nodes.values():
        node.position = 0x5000060
    planned = plan(lab, candidate="b", last_leader_lsn=0x5000060 + 12345)
    assert isinstance(planned, NotAccepted)
    assert planned.loss.text == "b loses up to 12345 bytes after 0/5000060"
    assert f'accept_loss: "{planned.loss.text}"' in planned.do
    assert code(plan(lab, candidate="b", last_leader_lsn=0x5000060)) == "promotion", "it has everything"


def test_without_a_given_position_the_loss_has_no_upper_limit() -> None:
    lab = dead(3, "off")
    told = loss(plan(lab, candidate="b"))
    assert (told.kind, told.text) == ("unknown", "b loses an unknown amount after 0/3E8")
    # The leader reported more in its last loop: Patroni tells the distance to that.
    lab.nodes["b"].lag = 300
    told = loss(plan(lab, candidate="b"))
    assert told.text == "b loses at least 300 bytes after 0/3E8, and how much more is unknown"
    assert told.as_result()["bytes"] == 300
    # So did another member's distance.
    lab.nodes["b"].lag, lab.nodes["c"].lag = 0, 500
    assert loss(plan(lab, candidate="b")).size == 500


def test_a_member_that_has_more_counts_as_known() -> None:
    lab = dead(3, "off")
    lab.nodes["c"].position = 1700
    assert last_known(lab.look()) == 1700
    assert loss(plan(lab, candidate="b")).size == 700


def test_a_restarted_leader_may_have_more_than_its_synchronous_standby() -> None:
    """It never acknowledged that."""
    lab = dead(3, "on")
    lab.nodes["c"].position = 1700
    assert code(plan(lab, candidate="b")) == "promotion"


def test_in_quorum_mode_only_a_given_position_helps_when_two_are_silent() -> None:
    lab = dead(3, "quorum")
    lab.kill("c")
    assert loss(plan(lab, candidate="b")).kind == "unknown"
    assert loss(plan(lab, candidate="b", last_leader_lsn=1300)).text == "b loses up to 300 bytes after 0/3E8"
    assert code(plan(lab, candidate="b", last_leader_lsn=1000)) == "promotion"


def test_an_asynchronous_member_of_a_synchronous_cluster_is_no_safe_choice() -> None:
    told = loss(plan(dead(3, "on"), candidate="c"))
    assert (told.kind, "c is not synchronous" in told.why) == ("unknown", True)


@pytest.mark.parametrize("timeline", [2, None])
def test_positions_of_different_timelines_are_not_compared(timeline: int | None) -> None:
    look = dead(3, "on").look()
    words = {**look.words, "b": dataclasses.replace(look.word("b"), timeline=timeline)}
    words["c"] = dataclasses.replace(look.word("c"), error="away", timeline=None)
    told = loss_of(dataclasses.replace(look, words=words), "b", Wish(("a", "b", "c"), last_leader_lsn=1000))
    assert told.kind == "unknown"
    assert "timeline" in told.why


def test_an_unknown_mode_or_position_is_unknown() -> None:
    look: Look = dead(3, "on").look()
    wish = Wish(("a", "b", "c"))
    assert loss_of(look, "b", wish).kind == "nothing"
    blind = dataclasses.replace(look, view=dataclasses.replace(look.view, synchronous_mode=None))
    assert loss_of(blind, "b", wish).kind == "unknown"
    words = {**look.words, "b": dataclasses.replace(look.word("b"), position=None)}
    told = loss_of(dataclasses.replace(look, words=words), "b", wish)
    assert told.text == "b loses an unknown amount"


def test_a_cluster_that_never_failed_over_has_no_history() -> None:
    lab = dead(3, "on")
    lab.history = []
    assert code(plan(lab, candidate="b")) == "promotion"


# Parts


@pytest.mark.parametrize("position", [0, 1, 0x5000060, (1 << 32) - 1, 1 << 32, (7 << 32) + 0xABC])
def test_positions_are_written_as_postgresql_does(position: int) -> None:
    assert parse_lsn(lsn(position)) == position


@pytest.mark.parametrize("text", ["", "/", "0", "0/", "/1", "0/G", "0/1/2", "1FFFFFFFF/0", "0/-1", "0x1"])
def test_what_is_no_position(text: str) -> None:
    assert parse_lsn(text) is None


def test_the_order_is_for_the_candidate_alone() -> None:
    planned = plan(dead())
    assert isinstance(planned, Promotion)
    assert (planned.move.path, planned.move.body, planned.move.targets) == ("/failover", {"candidate": "b"}, ("b",))
    assert planned.move.followers == ("c",)

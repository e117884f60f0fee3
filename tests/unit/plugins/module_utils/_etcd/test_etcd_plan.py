# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd's answers, the judgement on a cluster, who may join and leave, and users and roles: all without a network."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._etcd import plan

# Answers of etcd 3.5.16.
MEMBERS = json.loads(
    '{"header":{"cluster_id":"3198562910057819671", "member_id":"16584373575713555829", "raft_term":"4"}, "members":['
    '{"ID":"7514872027423323091", "name":"n3", "peerURLs":["https://127.0.0.1:23380"]}, '
    '{"ID":"10872134008543580356", "name":"n2", "peerURLs":["https://127.0.0.1:22380"], '
    '"clientURLs":["https://127.0.0.1:22379"]}, '
    '{"ID":"1030224218424815118", "peerURLs":["https://127.0.0.1:24380"], "isLearner":true}]}'
)
STATUS = json.loads(
    '{"header":{"cluster_id":"3198562910057819671", "member_id":"16584373575713555829", "revision":"7", '
    '"raft_term":"4"}, "version":"3.5.16", "dbSize":"2637824", "leader":"16584373575713555829", "raftIndex":"27", '
    '"raftTerm":"4", "raftAppliedIndex":"27", "errors":["memberID:16584373575713555829 alarm:NOSPACE "], '
    '"dbSizeInUse":"1224704"}'
)
LEADERLESS = json.loads(
    '{"header":{"cluster_id":"3198562910057819671", "member_id":"16584373575713555829", "revision":"1", '
    '"raft_term":"3"}, "version":"3.5.16", "dbSize":"28672", "raftIndex":"21", "raftTerm":"3", '
    '"raftAppliedIndex":"21", "errors":["etcdserver: no leader"], "dbSizeInUse":"24576"}'
)
ALARMS = json.loads(
    '{"header":{"cluster_id":"3198562910057819671"}, "alarms":[{"memberID":"16584373575713555829", "alarm":"NOSPACE"}]}'
)
PERMISSIONS = json.loads(
    '{"header":{}, "perm":[{"key":"L29uZQ=="}, {"permType":"READWRITE", "key":"L3NlcnZpY2Uv", '
    '"range_end":"L3NlcnZpY2Uw"}, {"key":"L3gv", "range_end":"L3gw"}]}'
)


# Answers


def test_members_are_read_and_started_means_published() -> None:
    cluster_id, members = plan.parse_members(MEMBERS)
    assert plan.hex_id(cluster_id) == "2c6394051dbc6e17"
    assert [(one.label, one.started, one.learner) for one in members] == [
        ("https://127.0.0.1:24380", False, True),
        ("n2", True, False),
        ("n3", False, False),
    ]
    assert members[2].id == 0x684A304B1F1633D3


def test_a_status_is_read_with_and_without_a_leader() -> None:
    status = plan.parse_status(STATUS)
    assert (status.leader, status.member_id) == (16584373575713555829, 16584373575713555829)
    assert (status.db_size, status.db_size_in_use, status.raft_index, status.raft_term) == (2637824, 1224704, 27, 4)
    assert plan.parse_status(LEADERLESS).leader == 0


def test_alarms_are_read_and_none_is_none() -> None:
    assert plan.parse_alarms(ALARMS) == (plan.Alarm(16584373575713555829, "NOSPACE"),)
    assert plan.parse_alarms({"header": {}}) == ()


@pytest.mark.parametrize(
    ("parse", "data", "where"),
    [
        (plan.parse_members, [], "member/list: header"),
        (plan.parse_members, {"header": {"cluster_id": "1"}}, "member/list: members"),
        (plan.parse_members, {"header": {"cluster_id": "x"}, "members": [{}]}, "cluster_id: not a number"),
        (plan.parse_members, {"header": {}, "members": [{"name": "a"}]}, "members/0: ID"),
        (plan.parse_members, {"header": {}, "members": [{"ID": "1", "peerURLs": "x"}]}, "members/0: peerURLs"),
        (plan.parse_status, {}, "status: header"),
        (plan.parse_status, {"header": {}}, "member_id: missing"),
        (plan.parse_status, {"header": {"member_id": "1"}, "raftTerm": True}, "raftTerm"),
        (plan.parse_alarms, {"header": {}, "alarms": ["x"]}, "alarms"),
    ],
)
def test_a_parse_error_names_its_place(parse: t.Callable[[t.Any], t.Any], data: t.Any, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        parse(data)


# A cluster to play with


def peer(name: str) -> str:
    return f"https://{name}:2380"


def client(name: str) -> str:
    return f"https://{name}:2379"


def member(number: int, **changes: t.Any) -> plan.Member:
    name = f"n{number}"
    return plan.Member(number, name, (peer(name),), (client(name),), **changes)


def unstarted(number: int, named: bool = False) -> plan.Member:
    return plan.Member(number, f"n{number}" if named else "", (peer(f"n{number}"),))


def status(number: int, leader: int = 1, **changes: t.Any) -> plan.Status:
    return dataclasses.replace(plan.Status(number, leader, "3.5.16", 100, 50, 10, 2), **changes)


def answers(members: t.Sequence[plan.Member], up: t.Iterable[int], leader: int = 1, own: int = 0) -> list[plan.Answer]:
    return [
        plan.Answer(client(f"n{one}"), 7, tuple(members), status(one, leader), own=one == own) for one in sorted(up)
    ]


def view(
    members: t.Sequence[plan.Member], up: t.Iterable[int], leader: int = 1, own: int = 0, **changes: t.Any
) -> plan.View:
    seen = plan.assemble(answers(members, up, leader, own))
    assert seen is not None
    return dataclasses.replace(seen, **{"alarms": (), **changes})


def cluster(size: int) -> list[plan.Member]:
    return [member(number) for number in range(1, size + 1)]


# Health


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_whole_cluster_is_healthy(size: int) -> None:
    assert plan.why_not_healthy(view(cluster(size), range(1, size + 1)), [f"n{one + 1}" for one in range(size)]) == []


THREE = cluster(3)


def told(changes: t.Mapping[int, t.Mapping[str, t.Any]], members: t.Sequence[plan.Member] = THREE) -> plan.View:
    """Three answers, some of them different."""
    seen = plan.assemble(
        [
            dataclasses.replace(one, status=dataclasses.replace(one.status, **changes.get(one.status.member_id, {})))
            for one in answers(members, (1, 2, 3))
        ]
    )
    assert seen is not None
    return dataclasses.replace(seen, alarms=())


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (view(THREE, (1, 2)), "n3 does not answer"),
        (view(THREE, (1,)), "1 of 3 voting members answer, 2 are needed"),
        (view(THREE, (2, 3)), "the leader n1 does not answer itself"),
        (view(THREE, (1, 2, 3), leader=0), "there is no leader"),
        (view(THREE, (1, 2, 3), leader=9), "the leader 9 is not a member"),
        (told({3: {"leader": 2}}), "n3 follows 2, others n1"),
        (told({3: {"leader": 0}}), "n3 knows no leader"),
        (told({1: {"leader": 2}, 2: {"leader": 1}}), "does not lead"),
        (told({3: {"raft_term": 1}}), "n3 is in term 1, the leader in 2"),
        (told({1: {"raft_index": 5000}}), "n3 is 4990 entries of the log behind"),
        (told({3: {"errors": ("disk is slow",)}}), "n3 reports: disk is slow"),
        (view([*THREE, unstarted(4)], (1, 2, 3)), "https://n4:2380 is registered and was never started"),
        (view([*THREE, unstarted(4, named=True)], (1, 2, 3)), "n4 is registered and was never started"),
        (view([*THREE, member(4, learner=True)], (1, 2, 3, 4)), "n4 is still a learner"),
        (view(THREE, (1, 2, 3), alarms=(plan.Alarm(2, "NOSPACE"),)), "n2 has raised the alarm NOSPACE"),
        (view(THREE, (1, 2, 3), alarms=(plan.Alarm(9, "CORRUPT"),)), "of a member that is gone (9)"),
        (view(THREE, (1, 2, 3), alarms=None), "the alarms could not be read"),
        (view(THREE, (1, 2, 3), foreign=("https://x",)), "https://x belongs to another cluster"),
        (view(THREE, (1, 2, 3), stray=("https://x",)), "https://x answers as a member that is not registered"),
        (view(THREE, (1, 2, 3), differing=("n2",)), "n2 lists other members"),
    ],
)
def test_reasons_against_health(seen: plan.View, reason: str) -> None:
    reasons = plan.why_not_healthy(seen)
    assert any(reason in one for one in reasons), reasons


def test_expected_members_must_be_there() -> None:
    seen = view(THREE, (1, 2, 3))
    assert plan.why_not_healthy(seen, ["n1", "n4", "n5"], ["n5"]) == ["n4 is not a member"]


@pytest.mark.parametrize(
    ("seen", "healthy"),
    [
        (view(THREE, (1, 2)), True),
        (told({3: {"leader": 0, "raft_term": 99}}), True),
        (told({3: {"raft_index": -5000}}), True),
        (view(THREE, (1, 2, 3), alarms=(plan.Alarm(3, "CORRUPT"),)), True),
        (view(THREE, (1, 2, 3), differing=("n3",)), True),
        # Whoever is excepted, somebody must lead, a quorum must answer, and the others must be well.
        (view(THREE, (1, 2), leader=3), False),
        (view(THREE, (1,)), False),
        (view(THREE, (1, 3)), False),
        (view(THREE, (1, 2, 3), alarms=(plan.Alarm(2, "NOSPACE"),)), False),
    ],
)
def test_an_excepted_member_may_be_ill(seen: plan.View, healthy: bool) -> None:
    assert (plan.why_not_healthy(seen, ("n1", "n2", "n3"), ("n3",)) == []) == healthy


def test_without_a_quorum_alarms_come_from_errors() -> None:
    seen = view(THREE, (1,), leader=0, alarms=None)
    seen = dataclasses.replace(seen, statuses={1: status(1, 0, errors=("memberID:2 alarm:NOSPACE ",))})
    assert seen.alarms_of(2) == ("NOSPACE",)


# Whose word counts


def test_the_leaders_list_counts_and_a_stale_one_is_told() -> None:
    stale = plan.Answer(client("n3"), 7, tuple(cluster(2)), status(3, 1, raft_index=5))
    seen = plan.assemble([stale, *answers(THREE, (1, 2))])
    assert seen is not None
    assert [one.name for one in seen.members] == ["n1", "n2", "n3"]
    assert seen.differing == ("n3",)


def test_an_isolated_member_with_a_higher_term_does_not_outvote_the_leader() -> None:
    isolated = plan.Answer(client("n3"), 7, tuple(THREE), status(3, 0, raft_term=99))
    seen = plan.assemble([isolated, *answers(THREE, (1, 2))])
    assert seen is not None
    assert seen.leader_id == 1


def test_a_leader_of_the_past_loses_against_the_present_one() -> None:
    past = plan.Answer(client("n3"), 7, tuple(THREE), status(3, 3, raft_term=1, raft_index=99))
    seen = plan.assemble([past, *answers(THREE, (1, 2))])
    assert seen is not None
    assert seen.leader_id == 1
    assert any("n3 follows n3" in one or "n3 follows 3" in one for one in plan.why_not_healthy(seen))


def test_another_cluster_behind_one_address_is_told() -> None:
    lonely = plan.Answer("https://x", 8, (plan.Member(50, "x", ("https://x:1",), ("https://x",)),), status(50, 50))
    seen = plan.assemble([lonely, *answers(THREE, (1, 2))])
    assert seen is not None
    assert (seen.cluster_id, seen.foreign) == (7, ("https://x",))


def test_a_removed_member_that_still_runs_is_told() -> None:
    removed = plan.Answer("https://n4:2379", 7, tuple(cluster(4)), status(4, 0))
    seen = plan.assemble([removed, *answers(THREE, (1, 2, 3))])
    assert seen is not None
    assert seen.stray == ("https://n4:2379",)


def test_the_own_members_word_counts_only_while_nobody_else_speaks() -> None:
    lonely = plan.Answer(client("n3"), 8, (member(3),), status(3, 3, raft_term=99), own=True)
    seen = plan.assemble([lonely, *answers(THREE, (1,))])
    assert seen is not None
    assert seen.cluster_id == 7
    alone = plan.assemble([lonely])
    assert alone is not None
    assert alone.cluster_id == 8
    assert plan.assemble([]) is None


# Members


def wish(number: int, state: str = "present", **changes: t.Any) -> plan.MemberWish:
    return plan.MemberWish(state, f"n{number}", peer(f"n{number}"), **changes)


def kinds(decision: plan.Judged) -> list[str]:
    assert isinstance(decision, plan.Decision), decision
    return [step.kind for step in decision.steps]


def code(decision: plan.Judged) -> str:
    assert isinstance(decision, Refuse), decision
    return decision.code


@pytest.mark.parametrize("data", [True, False])
def test_a_new_cluster_is_formed_where_nobody_answers(data: bool) -> None:
    assert plan.plan_present(None, wish(1, data_present=data)) == plan.Decision(bootstrap=True)


def test_no_new_cluster_beside_the_data_of_an_old_one() -> None:
    assert code(plan.plan_present(None, wish(3, with_data=("n1", "n2")))) == "cluster_is_silent"
    assert plan.plan_present(None, wish(3, data_present=True, with_data=("n1",))) == plan.Decision(bootstrap=True)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_member_with_data_just_starts(size: int) -> None:
    for up in (range(1, size), range(1, size + 1)):
        seen = plan.assemble(answers(cluster(size), up))
        decision = plan.plan_present(seen, wish(size, data_present=True))
        assert decision == (plan.Decision(bootstrap=True) if seen is None else plan.Decision())


@pytest.mark.parametrize(
    ("seen", "wanted", "expected"),
    [
        (view(THREE, (1, 2, 3)), wish(4), "unexpected_name"),
        (view(THREE, (1, 2, 3), differing=("n2",)), wish(3), "answers_differ"),
        (view(THREE, (1, 2, 3), foreign=("https://x",)), wish(3), "two_clusters"),
        (view(THREE, (1, 2)), dataclasses.replace(wish(3), peer_url=peer("n2")), "peer_url_taken"),
        (view(THREE, (1, 2)), dataclasses.replace(wish(3), peer_url=peer("n9")), "name_taken"),
        (view(cluster(2), (1, 2)), wish(3, data_present=True), "removed_member"),
        (view(cluster(2), (1,)), wish(3), "others_not_healthy"),
        (view(cluster(2), (1, 2), alarms=(plan.Alarm(1, "NOSPACE"),)), wish(3), "others_not_healthy"),
        (view([*cluster(2), unstarted(5)], (1, 2)), wish(3), "others_not_healthy"),
        (view(THREE, (1, 2, 3)), wish(3), "member_runs"),
        (view(THREE, (1, 2), leader=0), wish(3), "others_not_healthy"),
        (view(THREE, (1,)), wish(3), "quorum_lost"),
        (view(cluster(5), (1, 2, 3)), wish(5), "others_not_healthy"),
        (view([*cluster(2), unstarted(3)], (1, 2), leader=0), wish(3), "no_quorum"),
    ],
)
def test_joining_is_refused(seen: plan.View, wanted: plan.MemberWish, expected: str) -> None:
    wanted = dataclasses.replace(wanted, expected=("n1", "n2", "n3", "n5"))
    assert code(plan.plan_present(seen, wanted)) == expected


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_host_without_data_joins_and_is_replaced_when_it_was_there(size: int) -> None:
    others = cluster(size)
    fresh = plan.plan_present(view(others, range(1, size + 1)), wish(size + 1))
    assert (kinds(fresh), t.cast("plan.Decision", fresh).join) == (["add"], True)
    lost = plan.plan_present(view([*others, member(size + 1)], range(1, size + 1)), wish(size + 1))
    if size == 1:
        # One of two is no quorum, so that nothing can be changed.
        assert code(lost) == "others_not_healthy"
    else:
        assert kinds(lost) == ["remove", "add"]
    for named in (True, False):
        begun = plan.plan_present(view([*others, unstarted(size + 1, named)], range(1, size + 1)), wish(size + 1))
        assert begun == plan.Decision(join=True)


def test_a_registration_is_used_while_another_one_waits_too() -> None:
    seen = view([*THREE, unstarted(4), unstarted(5)], (1, 2, 3))
    assert plan.plan_present(seen, wish(4)) == plan.Decision(join=True)
    assert plan.initial_cluster(seen.members, wish(4)) == (
        "5=https://n5:2380,n1=https://n1:2380,n2=https://n2:2380,n3=https://n3:2380,n4=https://n4:2380"
    )


@pytest.mark.parametrize(
    ("seen", "wanted", "expected"),
    [
        (None, wish(1), "no_answer"),
        (view(cluster(1), (1,)), wish(1), "last_member"),
        (view(THREE, (1, 2, 3)), wish(3), "even_left"),
        (view(cluster(4), (1, 2)), wish(4, allow_even=True), "others_not_healthy"),
        (view(cluster(5), (1, 2, 5)), wish(5, allow_even=True), "quorum_lost"),
        (view(THREE, (1, 3)), wish(3, allow_even=True), "quorum_lost"),
        (view(cluster(5), (1, 2, 3, 5)), wish(5, allow_even=True), "others_not_healthy"),
        (view(THREE, (1, 2, 3), leader=0), wish(3, allow_even=True), "others_not_healthy"),
        (view(THREE, (1, 2, 3)), dataclasses.replace(wish(3), peer_url=peer("n1")), "peer_url_taken"),
        (view(THREE, (1, 2, 3), differing=("n2",)), wish(3, allow_even=True), "answers_differ"),
    ],
)
def test_leaving_is_refused(seen: plan.View | None, wanted: plan.MemberWish, expected: str) -> None:
    assert code(plan.plan_absent(seen, wanted)) == expected


def test_leaving() -> None:
    assert kinds(plan.plan_absent(view(cluster(4), (1, 2, 3, 4)), wish(4))) == ["remove"]
    assert kinds(plan.plan_absent(view(cluster(4), (1, 2, 3)), wish(4))) == ["remove"]
    assert kinds(plan.plan_absent(view(THREE, (1, 2, 3)), wish(9))) == []
    assert kinds(plan.plan_absent(view([*THREE, unstarted(4)], (1, 2, 3)), wish(4))) == ["remove"]
    learning = [*THREE, member(4, learner=True)]
    assert kinds(plan.plan_absent(view(learning, (1, 2, 3, 4)), wish(4))) == ["remove"]


def test_a_leader_hands_over_to_the_furthest() -> None:
    seen = told({1: {"raft_index": 11}, 2: {"raft_index": 9}})
    decision = plan.plan_absent(seen, wish(1, allow_even=True))
    assert kinds(decision) == ["transfer", "remove"]
    assert t.cast("plan.Decision", decision).steps[0].to == 3


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_whatever_is_up_no_step_costs_the_quorum(size: int) -> None:
    """Every subset of members up, every leader, every host: adding needs all others, removing leaves a quorum."""
    members = cluster(size)
    taken = 0
    for up in itertools.chain.from_iterable(itertools.combinations(range(1, size + 1), n) for n in range(size + 1)):
        for leader, host, state in itertools.product(range(size + 1), range(1, size + 2), ("present", "absent")):
            seen = plan.assemble(answers(members, up, leader))
            seen = seen and dataclasses.replace(seen, alarms=())
            decision = plan.plan_member(seen, wish(host, state, allow_even=True))
            if isinstance(decision, Refuse) or not decision.steps:
                continue
            taken += 1
            left = [one.id for one in members if one.id != host]
            assert leader in up
            assert set(left) <= set(up)
            assert len(left) >= 1
            if state == "present" and host <= size:
                assert host not in up
    assert taken


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, "no_answer"),
        (view(THREE, (1, 2, 3), leader=0, alarms=None), "no_quorum"),
        (view(THREE, (1, 2, 3), alarms=None), "no_quorum"),
        (view(THREE, (1, 2), alarms=(plan.Alarm(1, "NOSPACE"),)), "size_not_known"),
        (dataclasses.replace(told({3: {"db_size": 1000}}), alarms=(plan.Alarm(1, "NOSPACE"),)), "over_quota"),
        (dataclasses.replace(told({3: {"db_size": 1001}}), alarms=(plan.Alarm(1, "NOSPACE"),)), "over_quota"),
    ],
)
def test_an_alarm_is_kept(seen: plan.View | None, expected: str) -> None:
    assert code(plan.plan_disarm(seen, plan.MemberWish("disarmed", quota=1000))) == expected


def test_an_alarm_is_cleared_below_the_quota_and_only_that_of_space() -> None:
    alarms = (plan.Alarm(1, "NOSPACE"), plan.Alarm(2, "CORRUPT"), plan.Alarm(9, "NOSPACE"))
    seen = dataclasses.replace(told({3: {"db_size": 999}}), alarms=alarms)
    decision = plan.plan_disarm(seen, plan.MemberWish("disarmed", quota=1000))
    assert [step.member_id for step in t.cast("plan.Decision", decision).steps] == [1, 9]
    calm = dataclasses.replace(seen, alarms=(plan.Alarm(2, "CORRUPT"),))
    assert plan.plan_disarm(calm, plan.MemberWish("disarmed", quota=1000)) == plan.Decision()


def test_a_prediction_is_the_membership_after() -> None:
    seen = view([*THREE], (1, 2))
    decision = plan.plan_present(seen, wish(3))
    after = plan.predicted(seen.members, t.cast("plan.Decision", decision).steps, wish(3))
    assert plan.initial_cluster(after, wish(3)) == "n1=https://n1:2380,n2=https://n2:2380,n3=https://n3:2380"
    assert plan.membership(after, wish(3)) == {name: [peer(name)] for name in ("n1", "n2", "n3")}


# Users and roles


@pytest.mark.parametrize(
    ("prefix", "end"),
    [("/service/", b"/service0"), ("a", b"b"), ("\u00ff", b"\xc3\xc0"), ("", b"\0")],
)
def test_a_prefix_is_a_range(prefix: str, end: bytes) -> None:
    found = plan.Range.of_prefix(prefix)
    assert found.end == end
    assert found.text == (prefix or "(all keys)")


def test_permissions_are_read() -> None:
    assert {one.text: kind for one, kind in plan.parse_permissions(PERMISSIONS).items()} == {
        "(key) /one": "read",
        "/service/": "readwrite",
        "/x/": "read",
    }
    with pytest.raises(ValueError, match="perm/0"):
        plan.parse_permissions({"perm": [{"key": "?"}]})


ROLES = [{"name": "patroni", "permissions": [{"prefix": "/service/", "type": "readwrite"}]}, {"name": "idle"}]
USERS = [{"name": "patroni", "password": "p", "roles": ["patroni"]}, {"name": "watch", "password": "w", "roles": []}]


def accepted(enabled: bool = True) -> plan.AuthWish:
    found = plan.auth_wish(USERS, ROLES, enabled, "r")
    assert isinstance(found, plan.AuthWish)
    return found


@pytest.mark.parametrize(
    ("users", "roles", "password", "expected"),
    [
        ([{"name": "root", "password": "x"}], [], "r", "reserved_name"),
        ([], [{"name": "root"}], "r", "reserved_name"),
        ([{"name": "a", "password": "x"}] * 2, [], "r", "bad_names"),
        ([], [{"name": ""}], "r", "bad_names"),
        ([{"name": "a", "password": ""}], [], "r", "no_password"),
        ([], [], "", "no_password"),
        ([{"name": "a", "password": "x", "roles": ["b"]}], [], "r", "unknown_role"),
        ([], [{"name": "a", "permissions": [{"prefix": "x", "type": "read"}] * 2}], "r", "bad_names"),
    ],
)
def test_bad_declarations_are_refused(users: t.Any, roles: t.Any, password: str, expected: str) -> None:
    found = plan.auth_wish(users, roles, True, password)
    assert isinstance(found, Refuse)
    assert found.code == expected


def test_the_first_plan_enables_last() -> None:
    assert [step.text for step in plan.plan_auth(plan.AuthView(), accepted())] == [
        "add role root",
        "add user root",
        "give root the role root",
        "add role patroni",
        "let role patroni readwrite /service/",
        "add role idle",
        "add user patroni",
        "give patroni the role patroni",
        "add user watch",
        "enable authentication",
    ]


def applied(view_: plan.AuthView, steps: t.Iterable[plan.AuthStep]) -> plan.AuthView:
    for step in steps:
        view_ = plan.auth_after(view_, step)
    return view_


def test_it_may_be_interrupted_anywhere_and_passwords_are_set_again_before_enabling() -> None:
    first = plan.plan_auth(plan.AuthView(), accepted())
    whole = applied(plan.AuthView(), first)
    for at in range(len(first) + 1):
        halfway = applied(plan.AuthView(), first[:at])
        rest = plan.plan_auth(halfway, accepted())
        assert applied(halfway, rest) == whole
        if rest:
            assert rest[-1].kind == "enable"
            known = {step.name for step in rest if step.kind in ("add_user", "set_password")}
            assert known == {"root", "patroni", "watch"}
    assert plan.plan_auth(whole, accepted()) == []


def random_view(rng: random.Random) -> plan.AuthView:
    enabled = rng.random() < 0.5
    spans = [plan.Range.of_prefix(one) for one in ("/service/", "/x/", "")]
    names = ["patroni", "watch", *(["root"] if not enabled else [])]
    users = {
        name: frozenset(rng.sample(["root", "patroni", "idle", "old"], rng.randrange(4)))
        for name in rng.sample(names, rng.randrange(len(names) + 1))
    }
    roles: dict[str, dict[plan.Range, str]] = {
        name: {one: rng.choice(["read", "readwrite", "write"]) for one in rng.sample(spans, rng.randrange(4))}
        for name in rng.sample(["patroni", "idle", "root"], rng.randrange(4))
    }
    if enabled:
        users["root"] = frozenset({"root"})
        roles["root"] = {}
    passwords = {name: rng.choice([True, False]) if enabled else None for name in users}
    return plan.AuthView(enabled, users, roles, passwords)


def test_from_anywhere_a_plan_makes_it_true_and_touches_only_what_is_declared() -> None:
    rng = random.Random(5)
    for _ in range(300):
        before = random_view(rng)
        wanted = accepted(rng.random() < 0.8)
        steps = plan.plan_auth(before, wanted)
        for at in range(len(steps) + 1):
            halfway = applied(before, steps[:at])
            after = applied(halfway, plan.plan_auth(halfway, wanted))
            assert plan.plan_auth(after, wanted) == []
        assert after.enabled == wanted.enabled
        assert {user.name: after.users[user.name] for user in wanted.users} == {
            user.name: user.roles for user in wanted.users
        }
        assert {name: after.roles[name] for name in wanted.roles} == wanted.roles
        assert "root" in after.users["root"]
        # A permission is never wider in between than before or after.
        taken = [at for at, step in enumerate(steps) if step.kind == "revoke" and step.name == "patroni"]
        given = [at for at, step in enumerate(steps) if step.kind == "grant" and step.name == "patroni"]
        assert not taken or not given or max(taken) < min(given)


def test_a_changed_password_is_set_and_roots_last() -> None:
    whole = applied(plan.AuthView(), plan.plan_auth(plan.AuthView(), accepted()))
    seen = dataclasses.replace(whole, passwords={"root": False, "patroni": False, "watch": True})
    assert [step.text for step in plan.plan_auth(seen, accepted())] == [
        "set the password of patroni",
        "set the password of root",
    ]


def test_surplus_is_taken_and_an_undeclared_user_stays() -> None:
    whole = applied(plan.AuthView(), plan.plan_auth(plan.AuthView(), accepted()))
    seen = dataclasses.replace(
        whole,
        users={**whole.users, "patroni": frozenset({"patroni", "root"}), "other": frozenset({"root"})},
        roles={**whole.roles, "idle": {plan.Range.of_prefix(""): "readwrite"}},
    )
    assert [step.text for step in plan.plan_auth(seen, accepted())] == [
        "take (all keys) from role idle",
        "take the role root from patroni",
    ]


def test_nothing_that_is_shown_can_hold_a_password() -> None:
    whole = applied(plan.AuthView(), plan.plan_auth(plan.AuthView(), accepted()))
    assert plan.auth_shown(whole, accepted()) == {
        "enabled": True,
        "users": {
            "root": {"roles": ["root"], "password_state": "as wanted"},
            "patroni": {"roles": ["patroni"], "password_state": "as wanted"},
            "watch": {"roles": [], "password_state": "as wanted"},
        },
        "roles": {"patroni": {"/service/": "readwrite"}, "idle": {}},
    }

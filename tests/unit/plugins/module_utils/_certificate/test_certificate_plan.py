# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends soon, whose names differ, and the order of a rotation: any part of it done, steps of any size."""

from __future__ import annotations

import dataclasses
import itertools
import random
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._certificate import plan
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.parse import Certificate, Key, Names
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.plan import Consumer, Step, Wish
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse

CERTIFICATE = Certificate(
    version=3,
    serial="1f",
    subject="CN=a",
    issuer="CN=b",
    not_before=1000,
    not_after=1000 + 40 * plan.DAY,
    key=Key("ec", 256, "secp256r1"),
    signature="ecdsa-with-SHA256",
    fingerprint="ab",
    public_key="cd",
    names=Names(dns=("a.example.com",)),
    usages=("server",),
    is_ca=False,
    self_signed=False,
)


# How a certificate is shown


@pytest.mark.parametrize(
    ("now", "days"),
    [
        (1000, 40),
        (1001, 39),
        (1000 + 39 * plan.DAY + 1, 0),
        (1000 + 40 * plan.DAY, 0),
        (1000 + 40 * plan.DAY + 0.5, -1),
        (1000 + 41 * plan.DAY + 1, -2),
    ],
)
def test_days_left_are_full_days(now: float, days: int) -> None:
    assert plan.short(CERTIFICATE, now)["days_left"] == days


def test_chain_is_shown_without_its_first_or_not_at_all() -> None:
    shown = plan.full((CERTIFICATE, dataclasses.replace(CERTIFICATE, serial="2")), True, 1000)
    assert [one["serial"] for one in shown["chain"]] == ["2"]
    assert plan.full((CERTIFICATE,), True, 1000)["chain"] == []
    assert plan.full((CERTIFICATE,), False, 1000)["chain"] is None
    assert (shown["serial"], shown["sans"]["dns"], shown["name_constraints"]) == ("1f", ["a.example.com"], None)


@pytest.mark.parametrize(
    ("reason", "answered", "own", "code"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", True, False, "client_certificate_required"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", True, False, "client_certificate_required"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", True, False, "client_certificate_required"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", True, True, "client_certificate_refused"),
        ("TLSV1_ALERT_UNKNOWN_CA", True, True, "client_certificate_refused"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", True, True, "client_certificate_refused"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", False, True, "handshake_failed"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", False, False, "handshake_failed"),
        ("TLSV1_UNRECOGNIZED_NAME", True, False, "handshake_failed"),
        ("TLSV1_ALERT_INTERNAL_ERROR", True, True, "handshake_failed"),
        ("UNKNOWN_CA", True, True, "handshake_failed"),
        ("", True, True, "handshake_failed"),
    ],
)
def test_code_of_a_failed_handshake(reason: str, answered: bool, own: bool, code: str) -> None:
    assert plan.rejection(reason, answered, own) == code


# As OpenSSL 3.0 prints it.
FAILED = "CN = a\nerror 20 at 0 depth lookup: unable to get local issuer certificate\nerror /a: verification failed\n"


@pytest.mark.parametrize(
    ("rc", "stdout", "stderr", "verdict"),
    [
        (0, "/etc/a.pem: OK\n", "", (True, "")),
        (2, "", FAILED, (False, "unable to get local issuer certificate")),
        (2, FAILED, "", (False, "unable to get local issuer certificate")),
        (1, "", "Could not open file of certificates\nUnable to load", (False, "Unable to load")),
        (0, "", "", (False, "openssl ended with 0")),
        (137, "", "", (False, "openssl ended with 137")),
        (2, "/etc/a.pem: OK\n", "", (False, "/etc/a.pem: OK")),
    ],
)
def test_verdict_of_openssl(rc: int, stdout: str, stderr: str, verdict: tuple[bool, str]) -> None:
    assert plan.openssl_verdict(rc, stdout, stderr) == verdict


# Which end soon


def entry(name: str, days: int, chain: list[dict[str, t.Any]] | None = None) -> dict[str, t.Any]:
    return {"name": name, "subject": f"CN={name}", "days_left": days, "chain": chain}


@pytest.mark.parametrize(
    ("days_left", "level"),
    [(-5, 0), (-1, 0), (0, 1), (1, 7), (6, 7), (7, 14), (13, 14), (14, 30), (29, 30), (30, None), (400, None)],
)
def test_level(days_left: int, level: int | None) -> None:
    assert plan.level(days_left) == level


def test_expiring_soonest_first() -> None:
    seen = [entry("b", 29), entry("d", 30), entry("a", 29), entry("c", -3, [])]
    found = plan.expiring(seen, 30)
    assert [(one["name"], one["level"], one["ends_in_days"]) for one in found] == [
        ("c", 0, -3),
        ("a", 30, 29),
        ("b", 30, 29),
    ]
    assert [one["name"] for one in plan.expiring(seen, 31)] == ["c", "a", "b", "d"]
    assert plan.expiring(seen, -3) == []
    assert "level" not in seen[0]


def test_a_chain_ends_with_its_first() -> None:
    between, root = entry("between", 3), {**entry("root", -9), "self_signed": True}
    found = plan.expiring([entry("a", 60, [between, root])], 7)
    assert [(one["name"], one["days_left"], one["ends_in_days"], one["ends_first"], one["level"]) for one in found] == [
        ("a", 60, 3, "CN=between", 7)
    ]


def test_a_root_in_a_file_counts_as_itself() -> None:
    assert plan.expiring([{**entry("root", 3), "self_signed": True}], 7)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        5,
        {"a": 1},
        ["a"],
        [{"name": "a"}],
        [{"days_left": True}],
        [{"days_left": "3"}],
        [entry("a", 9, ["b"])],
    ],  # type: ignore[list-item]
)
def test_what_is_not_understood_does_not_look_as_if_it_lasted(value: t.Any) -> None:
    with pytest.raises(ValueError, match="certificate"):
        plan.expiring(value, 30)


def test_days_that_are_no_number() -> None:
    with pytest.raises(ValueError, match="no number"):
        plan.expiring([], float("nan"))


# Whose names differ


def sans(**kinds: list[str]) -> dict[str, t.Any]:
    return {"sans": {"dns": [], "ip": [], "uri": [], "email": [], "other": [], **kinds}}


@pytest.mark.parametrize(
    ("carried", "wanted", "missing", "superfluous"),
    [
        (sans(), [], [], []),
        (sans(dns=["A.example.com"], ip=["10.0.0.1"]), ["a.example.com.", "10.0.0.1"], [], []),
        (sans(dns=["a"], ip=["10.0.0.1"]), ["dns:A", "IP:10.0.0.1"], [], []),
        (sans(dns=["a"]), ["b"], ["dns:b"], ["dns:a"]),
        (sans(ip=["2001:db8::1"]), ["2001:0DB8:0::1"], [], []),
        (sans(ip=["2001:db8::1"]), ["ip:2001:db8::2"], ["ip:2001:db8::2"], ["ip:2001:db8::1"]),
        (sans(dns=["10.0.0.1"]), ["10.0.0.1"], ["ip:10.0.0.1"], ["dns:10.0.0.1"]),
        (sans(dns=["*.example.com"]), ["a.example.com", "b.example.com"], [], []),
        (sans(dns=["*.example.com"]), ["*.example.com"], [], []),
        (sans(dns=["*.example.com"]), ["example.com"], ["dns:example.com"], ["dns:*.example.com"]),
        (sans(dns=["*.example.com"]), ["a.b.example.com"], ["dns:a.b.example.com"], ["dns:*.example.com"]),
        (sans(dns=["a.example.com"]), ["*.example.com"], ["dns:*.example.com"], ["dns:a.example.com"]),
        (sans(uri=["urn:a"], other=["directory"]), ["uri:urn:a"], [], ["other:directory"]),
        (sans(email=["a@b.c"]), [], [], ["email:a@b.c"]),
    ],
)
def test_san_mismatch(carried: t.Any, wanted: list[str], missing: list[str], superfluous: list[str]) -> None:
    found = plan.san_mismatch(carried, wanted)
    assert found == {"missing": missing, "superfluous": superfluous, "matches": not missing and not superfluous}


@pytest.mark.parametrize(
    ("carried", "wanted"),
    [
        ({}, []),
        (None, []),
        ({"sans": ["a"]}, []),
        (sans(), "a"),
        (sans(), None),
        (sans(), [""]),
        (sans(), [5]),
        (sans(), ["ip:a"]),
        (sans(), ["dns:a b"]),
        (sans(), ["müller.example.com"]),
        (sans(ip=["a"]), []),
    ],
)
def test_names_that_are_none(carried: t.Any, wanted: t.Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        plan.san_mismatch(carried, wanted)


# The order of a rotation


def members(
    layer: str, name: str, kind: str, leader: str = "", group: str | None = None, hosts: str = "abc"
) -> list[Consumer]:
    return [
        Consumer(layer, host, name, kind, host == leader, layer if group is None else group, True) for host in hosts
    ]


CLUSTER = [
    *members("edge", "traefik", "reload", group="", hosts="ab"),
    *members("odoo", "pgbouncer", "reload", group="", hosts="ab"),
    *members("odoo", "haproxy", "restart", group="", hosts="ab"),
    *members("redis", "redis", "restart", "b"),
    *members("redis", "sentinel", "restart", group="sentinel"),
    *members("postgres", "postgresql", "reload", "c"),
    *members("postgres", "patroni", "reload", "c", group="patroni"),
    *members("etcd", "etcd", "restart", "a"),
]


def planned(consumers: t.Sequence[Consumer], wish: Wish) -> tuple[Step, ...]:
    steps = plan.rotation(consumers, wish)
    assert not isinstance(steps, Refuse), steps
    plan.check_invariants(steps, consumers, wish)
    return steps


def keys(steps: t.Sequence[Step]) -> list[list[str]]:
    return [[one.key for one in step.consumers] for step in steps]


def test_order_one_at_a_time() -> None:
    assert [one[0] for one in keys(planned(CLUSTER, Wish()))] == [
        *("b/etcd", "c/etcd", "a/etcd"),
        *("a/patroni", "a/postgresql", "b/patroni", "b/postgresql", "c/patroni", "c/postgresql"),
        *("a/redis", "a/sentinel", "b/sentinel", "c/redis", "c/sentinel", "b/redis"),
        *("a/pgbouncer", "b/pgbouncer", "a/haproxy", "b/haproxy"),
        *("a/traefik", "b/traefik"),
    ]


def test_order_with_larger_steps() -> None:
    assert keys(planned(CLUSTER, Wish(at_once=4, layers=("redis", "odoo", "edge")))) == [
        ["a/redis"],
        ["a/sentinel", "c/redis"],
        ["b/sentinel"],
        ["c/sentinel"],
        ["b/redis"],
        ["a/pgbouncer"],
        ["b/pgbouncer"],
        ["a/haproxy"],
        ["b/haproxy"],
        ["a/traefik"],
        ["b/traefik"],
    ]


def test_after_the_first_the_others_go_together() -> None:
    hosts = [*members("odoo", "router", "reload", group=""), *members("edge", "edge", "reload", "c", group=""),
             *members("edge", "edge-client", "reload", "c", group="")]  # fmt: skip
    assert keys(planned(hosts, Wish(at_once=3))) == [
        ["a/router"],
        ["b/router", "c/router"],
        ["a/edge"],
        ["a/edge-client", "b/edge"],
        ["b/edge-client"],
        ["c/edge"],
        ["c/edge-client"],
    ]


def test_a_reload_of_the_leader_comes_before_restarts() -> None:
    both = [*members("postgres", "b", "restart", "a"), *members("postgres", "a", "reload", "a")]
    assert [one[0] for one in keys(planned(both, Wish()))] == ["b/a", "c/a", "a/a", "b/b", "c/b", "a/b"]


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_interrupted_after_any_number_of_consumers_it_goes_on(at_once: int) -> None:
    wish = Wish(at_once=at_once)
    whole = [key for step in keys(planned(CLUSTER, wish)) for key in step]
    for count in range(len(whole) + 1):
        left = planned(CLUSTER, dataclasses.replace(wish, done=frozenset(whole[:count])))
        assert sorted(key for step in keys(left) for key in step) == sorted(whole[count:])


def test_any_subset_may_be_done() -> None:
    """By hand, or by a rotation of a host: the order of the rest keeps every law."""
    etcd_and_redis = [one for one in CLUSTER if one.layer in ("etcd", "redis")]
    for size in range(len(etcd_and_redis) + 1):
        for done in itertools.combinations(etcd_and_redis, size):
            planned(etcd_and_redis, Wish(done=frozenset(one.key for one in done), at_once=3))


@pytest.mark.parametrize("seed", range(5))
def test_order_does_not_depend_on_the_order_of_the_question(seed: int) -> None:
    mixed = list(CLUSTER)
    random.Random(seed).shuffle(mixed)
    assert planned(mixed, Wish(at_once=3)) == planned(CLUSTER, Wish(at_once=3))


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(layers=("etcd",)), {"a/etcd", "b/etcd", "c/etcd"}),
        (Wish(layers=("etcd", "redis"), hosts=("b",)), {"b/etcd", "b/redis", "b/sentinel"}),
        (Wish(hosts=("c",), layers=("edge",)), set()),
    ],
)
def test_selection(wish: Wish, expected: set[str]) -> None:
    assert {key for step in keys(planned(CLUSTER, wish)) for key in step} == expected


def sick(*names: str) -> list[Consumer]:
    return [dataclasses.replace(one, healthy=one.key not in names) for one in CLUSTER]


@pytest.mark.parametrize("away", ["a/etcd", "b/etcd", "c/etcd"])
@pytest.mark.parametrize("hosts", [(), ("a",), ("b",)])
def test_no_member_is_touched_while_one_is_not_well(away: str, hosts: tuple[str, ...]) -> None:
    refusal = plan.rotation(sick(away), Wish(hosts=hosts))
    assert isinstance(refusal, Refuse)
    assert refusal.code == "quorum_not_whole"
    assert away in refusal.message


def test_a_group_that_has_nothing_left_to_do_is_not_judged() -> None:
    done = frozenset(one.key for one in CLUSTER if one.layer == "etcd")
    planned(sick("a/etcd"), Wish(done=done))
    planned(sick("a/etcd"), Wish(layers=("redis", "edge")))


def test_who_is_in_no_group_need_not_be_well() -> None:
    planned(sick("a/traefik", "b/traefik", "a/haproxy"), Wish())


def test_the_last_one_to_be_done_is_not_well_itself() -> None:
    """It was interrupted while it restarted: whether its neighbours could bear another restart is not known."""
    done = frozenset({"b/etcd", "c/etcd"})
    assert isinstance(plan.rotation(sick("a/etcd"), Wish(done=done)), Refuse)


@pytest.mark.parametrize("count", [2, 4])
def test_a_member_that_nobody_named(count: int) -> None:
    refusal = plan.rotation(CLUSTER, Wish(sizes={"etcd": count}))
    assert isinstance(refusal, Refuse)
    assert (refusal.code, f"etcd has {count} members, of which 3" in refusal.why) == ("quorum_not_whole", True)
    planned(CLUSTER, Wish(sizes={"etcd": 3, "redis": 3}))


def test_a_group_of_several_services_is_counted_by_hosts() -> None:
    planned([*members("postgres", "a", "reload"), *members("postgres", "b", "reload")], Wish(sizes={"postgres": 3}))


@pytest.mark.parametrize(
    ("consumers", "wish", "code"),
    [
        ([*CLUSTER, CLUSTER[0]], Wish(), "duplicate"),
        (members("s3", "s3", "restart"), Wish(), "unknown_layer"),
        (CLUSTER, Wish(layers=("s3",)), "unknown_layer"),
        (CLUSTER, Wish(hosts=("d",)), "unknown_name"),
        (CLUSTER, Wish(done=frozenset({"etcd"})), "unknown_name"),
        (CLUSTER, Wish(sizes={"none": 3}), "unknown_name"),
        (
            [*members("etcd", "etcd", "restart", "a"), *members("etcd", "other", "restart", "b")],
            Wish(),
            "quorum_not_whole",
        ),
    ],
)
def test_refusals(consumers: list[Consumer], wish: Wish, code: str) -> None:
    refusal = plan.rotation(consumers, wish)
    assert isinstance(refusal, Refuse)
    assert refusal.code == code
    assert all((refusal.what, refusal.why, refusal.do))


def test_another_order_of_layers() -> None:
    consumers = [*members("s3", "s3", "restart", group="", hosts="a"), *members("etcd", "etcd", "restart")]
    assert keys(planned(consumers, Wish(order=("s3", "etcd"))))[0] == ["a/s3"]


EDGES = members("edge", "edge", "reload", group="", hosts="ab")
OF_ONE_HOST = [
    *members("edge", "edge", "reload", group="", hosts="a"),
    *members("edge", "edge-client", "reload", group="", hosts="a"),
]
ETCD = members("etcd", "etcd", "restart", "a")
A, B, C = ETCD


@pytest.mark.parametrize(
    ("steps", "consumers", "wish", "law"),
    [
        ([Step((A,)), Step((B,)), Step((C,))], ETCD, Wish(), "1, 2"),
        ([Step((B, C)), Step((A,))], ETCD, Wish(at_once=2), "3"),
        ([Step(tuple(OF_ONE_HOST))], OF_ONE_HOST, Wish(at_once=2), "3: two of one group or host"),
        ([Step(tuple(EDGES))], EDGES, Wish(at_once=2), "3: more than 1 in a step"),
        ([Step((B,)), Step((C,)), Step((A,))], ETCD, Wish(sizes={"etcd": 4}), "4"),
        ([Step((B,)), Step((C,))], ETCD, Wish(), "5"),
        ([Step((B,)), Step((C,)), Step((A,))], ETCD, Wish(done=frozenset({"b/etcd"})), "5"),
    ],
)
def test_a_plan_that_breaks_a_law_is_noticed(
    steps: list[Step], consumers: list[Consumer], wish: Wish, law: str
) -> None:
    with pytest.raises(AssertionError, match=f"^{law}"):
        plan.check_invariants(steps, consumers, wish)


PLAIN = {"layer": "etcd", "host": "a", "name": "etcd", "kind": "restart"}


def test_consumer_of_plain_data() -> None:
    assert plan.parse_consumer(PLAIN) == Consumer("etcd", "a", "etcd", "restart")
    more = {**PLAIN, "leader": True, "quorum_group": "etcd", "healthy": True}
    assert plan.parse_consumer(more) == Consumer("etcd", "a", "etcd", "restart", True, "etcd", True)
    assert plan.parse_consumer({**PLAIN, "quorum_group": None}).group == ""


@pytest.mark.parametrize(
    "value",
    [
        "etcd",
        {**PLAIN, "kind": "stop"},
        {**PLAIN, "host": ""},
        {**PLAIN, "leader": "no"},
        {**PLAIN, "healthy": 1},
        {**PLAIN, "quorum_group": 5},
        {**PLAIN, "group": "etcd"},
        {key: value for key, value in PLAIN.items() if key != "name"},
    ],
)
def test_consumer_that_is_none(value: t.Any) -> None:
    with pytest.raises(ValueError, match=r"consumer|a/etcd"):
        plan.parse_consumer(value)

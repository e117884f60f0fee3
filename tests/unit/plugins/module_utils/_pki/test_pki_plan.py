# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner: every reason, every refusal, every combination of CAs."""

from __future__ import annotations

import itertools
import typing as t
from dataclasses import replace

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.plan import (
    BACKDATE,
    DAY,
    Authority,
    Copy,
    Found,
    Host,
    Issue,
    Leaf,
    Plan,
    Policy,
    Snapshot,
    Wanted,
    check_invariants,
    iso,
    normalise,
    normalise_domains,
    normalise_pin,
    normalise_san,
    permitted,
    plan,
    why_issue,
    why_not_authority,
    why_not_create,
    why_not_names,
    why_not_policy,
)

NOW = 1_800_000_000
OURS, OTHER = "a" * 64, "b" * 64
CA = Authority(OURS, NOW - 10 * DAY, NOW + 3640 * DAY)
WANTED = Wanted("etcd", "n1", ("dns:n1", "ip:10.0.0.1"), ("server", "client"), 10020, 10020)
LEAF = Leaf("n1", WANTED.sans, WANTED.usages, NOW - DAY, NOW + 89 * DAY, "1f", "c" * 64, "key", True)
GOOD = Found("etcd", LEAF, "key")
HOST = Host(OURS, (OURS,), (GOOD,))
ITEM: dict[str, t.Any] = {
    "name": "etcd",
    "common_name": "n1",
    "sans": ["ip:10.0.0.1", "dns:N1"],
    "usages": ["client", "server"],
    "owner": 10020,
    "group": 10020,
    "mode": "0400",
}


def decide(snapshot: Snapshot) -> Plan | Refuse:
    decision = plan(snapshot, "/pki")
    check_invariants(snapshot, decision)
    return decision


def good(**changes: t.Any) -> Snapshot:
    return replace(Snapshot(CA, HOST, (WANTED,), NOW), **changes)


SUCCESSOR = "5" * 64


@pytest.mark.parametrize(
    ("signs", "others", "pin", "trusts", "code"),
    [
        # Trusting: the old one signs, hosts hear of the new one.
        (OURS, (SUCCESSOR,), OURS, (OURS,), None),
        (OURS, (SUCCESSOR,), OURS, (OURS, SUCCESSOR), None),
        (OURS, (SUCCESSOR,), "", (), None),
        (OURS, (SUCCESSOR,), OTHER, (OTHER,), "other-ca"),
        # Issuing: the new one signs, for hosts that have heard of it.
        (SUCCESSOR, (OURS,), OURS, (OURS, SUCCESSOR), None),
        (SUCCESSOR, (OURS,), SUCCESSOR, (OURS, SUCCESSOR), None),
        (SUCCESSOR, (OURS,), OURS, (OURS,), "successor-unknown"),
        (SUCCESSOR, (OURS,), "", (), None),
        # Settled: the old one is trusted no more.
        (SUCCESSOR, (), SUCCESSOR, (OURS, SUCCESSOR), None),
        (SUCCESSOR, (), SUCCESSOR, (SUCCESSOR,), None),
        (SUCCESSOR, (), OURS, (OURS, SUCCESSOR), "other-ca"),
        (SUCCESSOR, (), OURS, (OURS,), "other-ca"),
        # A controller that has lost the successor.
        (OURS, (), SUCCESSOR, (OURS, SUCCESSOR), "other-ca"),
        (OURS, (), OURS, (OURS, SUCCESSOR), None),
    ],
)
def test_a_host_follows_a_successor_only_when_it_trusts_it(
    signs: str, others: tuple[str, ...], pin: str, trusts: tuple[str, ...], code: str | None
) -> None:
    authority = replace(CA, fingerprint=signs, others=others)
    decision = decide(good(authority=authority, host=Host(pin, trusts)))
    assert getattr(decision, "code", None) == code


def test_nothing_to_do() -> None:
    decision = decide(good())
    assert decision == Plan()
    assert isinstance(decision, Plan)
    assert not decision.changed


REASONS: list[tuple[str, dict[str, t.Any], dict[str, t.Any]]] = [
    ("missing", {"leaf": None}, {}),
    ("wrong-ca", {}, {"trusted": False}),
    ("key-missing", {"key": ""}, {}),
    ("key-mismatch", {"key": "another"}, {}),
    ("subject-differs", {}, {"common_name": "n2"}),
    ("san-differs", {}, {"sans": ("dns:n1",)}),
    ("usages-differ", {}, {"usages": ("server",)}),
    ("lives-too-long", {}, {"not_after": NOW + 90 * DAY}),
    ("not-yet-valid", {}, {"not_before": NOW + 1}),
    ("expired", {}, {"not_before": NOW - 90 * DAY, "not_after": NOW}),
    ("expiring", {}, {"not_before": NOW - 60 * DAY, "not_after": NOW + 30 * DAY}),
]


@pytest.mark.parametrize(("reason", "found", "leaf"), REASONS, ids=[one[0] for one in REASONS])
def test_each_reason_issues(reason: str, found: dict[str, t.Any], leaf: dict[str, t.Any]) -> None:
    present = replace(GOOD, **{"leaf": replace(LEAF, **leaf), **found})
    decision = decide(good(host=replace(HOST, found=(present,))))
    assert isinstance(decision, Plan)
    start = NOW - BACKDATE
    assert decision.issue == (Issue(WANTED, reason, start, start + 90 * DAY),)
    assert decision.repair == ()


def test_renewal_starts_exactly_at_two_thirds() -> None:
    leaf = replace(LEAF, not_before=NOW, not_after=NOW + 90 * DAY)
    found = replace(GOOD, leaf=leaf)
    assert why_issue(WANTED, found, NOW + 60 * DAY - 1, Policy()) is None
    assert why_issue(WANTED, found, NOW + 60 * DAY, Policy()) == "expiring"


def test_shorter_life_reissues_and_longer_does_not() -> None:
    leaf = replace(LEAF, not_before=NOW, not_after=NOW + 60 * DAY)
    found = replace(GOOD, leaf=leaf)
    assert why_issue(WANTED, found, NOW, Policy(valid_days=30)) == "lives-too-long"
    assert why_issue(WANTED, found, NOW, Policy(valid_days=90)) is None


@pytest.mark.parametrize(
    ("found", "word"), [(replace(GOOD, drift=("key.pem",)), "key.pem"), (replace(GOOD, leftovers=True), "left over")]
)
def test_repair_keeps_the_certificate(found: Found, word: str) -> None:
    decision = decide(good(host=replace(HOST, found=(found,))))
    assert isinstance(decision, Plan)
    assert decision.issue == ()
    assert [one.name for one in decision.repair] == ["etcd"]
    assert word in decision.repair[0].reason


def test_issue_does_not_outlive_the_authority() -> None:
    decision = decide(good(authority=replace(CA, not_after=NOW + 5 * DAY), host=replace(HOST, found=())))
    assert isinstance(decision, Plan)
    assert decision.issue[0].not_after == NOW + 5 * DAY


def test_missing_pin_is_written() -> None:
    decision = decide(good(host=Host("", (OURS,), (GOOD,), authority_drift=True)))
    assert decision == Plan(authority=True)


def test_no_certificates_leave_the_host_alone() -> None:
    assert decide(good(wanted=(), host=Host(authority_drift=True))) == Plan()


def test_before_the_first_run_everything_is_due() -> None:
    decision = decide(good(authority=None, host=Host(authority_drift=True)))
    assert isinstance(decision, Plan)
    assert [one.reason for one in decision.issue] == ["missing"]


@pytest.mark.parametrize("holders", list(itertools.product(("", OURS, OTHER), repeat=3)))
@pytest.mark.parametrize("authority", [None, CA], ids=["no-ca", "ca"])
def test_every_combination_of_authorities(authority: Authority | None, holders: tuple[str, str, str]) -> None:
    pin, host_pin, host_ca = holders
    decision = decide(good(authority=authority, pin=pin, host=Host(host_pin, tuple(filter(None, [host_ca])))))
    if authority is None:
        expected = "ca-missing" if any(holders) else None
    else:
        expected = "other-ca" if OTHER in holders else None
    assert getattr(decision, "code", None) == expected


def test_a_garbled_pin_on_the_host_is_another_ca() -> None:
    refusal = why_not_authority(good(host=Host("rubbish")), "/pki")
    assert refusal is not None
    assert refusal.code == "other-ca"


@pytest.mark.parametrize("now", [CA.not_after, CA.not_before - 2 * DAY])
def test_authority_out_of_its_time(now: int) -> None:
    decision = decide(good(now=now))
    assert isinstance(decision, Refuse)
    assert decision.code == "ca-expired"


def test_first_authority_needs_all_hosts() -> None:
    empty = good(authority=None, host=Host())
    assert why_not_create(empty, "/pki", "") is None
    unsure = why_not_create(empty, "/pki", "n1")
    assert unsure is not None
    assert unsure.code == "ca-unsure"
    missing = why_not_create(good(authority=None), "/pki", "n1")
    assert missing is not None
    assert missing.code == "ca-missing"


def test_a_refusal_says_what_why_and_what_to_do() -> None:
    refusal = why_not_authority(good(pin=OTHER), "/srv/pki")
    assert refusal is not None
    assert OURS in refusal.message
    assert OTHER in refusal.message
    assert "nothing was touched" in refusal.why
    assert "openssl x509" in refusal.do


def test_normalise() -> None:
    assert normalise([ITEM]) == (WANTED,)


BAD: list[tuple[dict[str, t.Any], str]] = [
    ({"name": "../etc"}, "name must"),
    ({"name": ""}, "name must"),
    ({"common_name": "", "sans": [], "usages": ["client"]}, "common_name"),
    ({"common_name": "x" * 65}, "common_name"),
    ({"common_name": "a\nb"}, "common_name"),
    ({"usages": []}, "usages"),
    ({"usages": ["peer"]}, "usages"),
    ({"sans": []}, "at least one"),
    ({"sans": ["n1"]}, "neither"),
    ({"sans": ["ip:10.0.0.300"]}, "neither"),
    ({"sans": ["dns:a b"]}, "neither"),
    ({"sans": ["dns:"]}, "neither"),
    ({"mode": "0644"}, "mode"),
    ({"owner": "root"}, "owner"),
    ({"group": -1}, "group"),
    ({"owner": True}, "owner"),
]


@pytest.mark.parametrize(("change", "word"), BAD)
def test_normalise_refuses(change: dict[str, t.Any], word: str) -> None:
    refusal = normalise([{**ITEM, **change}])
    assert isinstance(refusal, Refuse)
    assert refusal.code == "bad-input"
    assert word in refusal.what


def test_normalise_refuses_a_name_twice() -> None:
    refusal = normalise([ITEM, ITEM])
    assert isinstance(refusal, Refuse)
    assert "twice" in refusal.what


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dns:Odoo.Lab.Test", "dns:odoo.lab.test"),
        ("dns:*.lab.test", "dns:*.lab.test"),
        ("ip:2001:DB8:0::1", "ip:2001:db8::1"),
        ("ip: 10.0.0.1", "ip:10.0.0.1"),
        ("dns:a.*.test", None),
        ("email:a@b.c", None),
        ("dns:" + "a" * 64, None),
    ],
)
def test_normalise_san(text: str, expected: str | None) -> None:
    assert normalise_san(text) == expected


def test_normalise_pin() -> None:
    assert normalise_pin(":".join(["AB"] * 32)) == "ab" * 32
    assert normalise_pin("") == ""
    assert isinstance(normalise_pin("abc"), Refuse)


@pytest.mark.parametrize("policy", [Policy(0), Policy(91), Policy(90, 0.0), Policy(90, 1.0)])
def test_policy_refused(policy: Policy) -> None:
    assert why_not_policy(policy) is not None
    assert isinstance(decide(good(policy=policy)), Refuse)


def test_iso() -> None:
    assert iso(NOW) == "2027-01-15T08:00:00Z"


SHARED = replace(WANTED, shared=True)
OUR_LEAF = replace(LEAF, fingerprint="d" * 64, public_key="kept")
KEPT = Found("etcd", OUR_LEAF, "kept")
HAS = Found("etcd", OUR_LEAF, "kept")


@pytest.mark.parametrize(
    ("kept", "present", "expected"),
    [
        # The controller's pair decides whether one is issued, the host's only whether it gets a copy.
        ((), HAS, ("issue", "missing")),
        ((replace(KEPT, key=""),), HAS, ("issue", "key-missing")),
        ((replace(KEPT, leaf=replace(OUR_LEAF, not_after=NOW)),), HAS, ("issue", "expired")),
        ((KEPT,), Found("etcd"), ("copy", "missing")),
        ((KEPT,), GOOD, ("copy", "shared-differs")),
        ((KEPT,), replace(HAS, key=""), ("copy", "key-missing")),
        ((KEPT,), replace(HAS, key="another"), ("copy", "key-mismatch")),
        ((KEPT,), replace(HAS, drift=("key.pem",)), ("repair", "key.pem")),
        ((KEPT,), HAS, None),
    ],
)
def test_a_shared_certificate(kept: tuple[Found, ...], present: Found, expected: tuple[str, str] | None) -> None:
    decision = decide(good(wanted=(SHARED,), shared=kept, host=replace(HOST, found=(present,))))
    assert isinstance(decision, Plan)
    steps = [
        (kind, one.reason) for kind in ("issue", "copy", "repair") for one in t.cast("t.Any", getattr(decision, kind))
    ]
    assert decision.changed == bool(expected)
    assert len(steps) == (0 if expected is None else 1)
    if expected is not None:
        assert steps[0][0] == expected[0]
        assert expected[1] in steps[0][1]


def test_an_expired_host_gets_the_pair_that_serves() -> None:
    old = replace(GOOD, leaf=replace(LEAF, not_after=NOW - DAY))
    decision = decide(good(wanted=(SHARED,), shared=(KEPT,), host=replace(HOST, found=(old,))))
    assert isinstance(decision, Plan)
    assert (decision.issue, [one.reason for one in decision.copy]) == ((), ["shared-differs"])


def test_a_host_of_another_ca_gets_no_copy() -> None:
    decision = decide(good(wanted=(SHARED,), shared=(KEPT,), host=Host(OTHER, (OTHER,))))
    assert isinstance(decision, Refuse)


def test_the_invariants_catch_a_copy_of_nothing() -> None:
    snapshot = good(wanted=(SHARED,), host=replace(HOST, found=(GOOD,)))
    with pytest.raises(AssertionError, match="keeps no pair"):
        check_invariants(snapshot, Plan(copy=(Copy(SHARED, "missing"),)))


@pytest.mark.parametrize(
    ("domains", "san", "expected"),
    [
        ((), "dns:anything.example", True),
        (("acme.internal",), "dns:erp1.acme.internal", True),
        (("acme.internal",), "dns:acme.internal", True),
        (("acme.internal",), "dns:notacme.internal", False),
        (("acme.internal",), "dns:internal", False),
        (("acme.internal",), "dns:bank.example", False),
        (("books.example",), "dns:*.books.example", True),
        (("books.example",), "dns:*.example", False),
        (("acme.internal",), "ip:203.0.113.1", True),
    ],
)
def test_below_which_names_an_authority_signs(domains: tuple[str, ...], san: str, expected: bool) -> None:
    assert permitted(domains, san) is expected


def test_a_name_that_the_authority_may_not_sign_is_refused() -> None:
    snapshot = good()
    refusal = decide(replace(snapshot, authority=replace(CA, domains=("elsewhere.internal",))))
    assert isinstance(refusal, Refuse)
    assert refusal.code == "name-not-permitted"
    assert "nothing was touched" in refusal.message


def test_domains_have_one_form() -> None:
    assert normalise_domains(["Books.Example", " *.books.example", "ACME.internal", "localhost"]) == (
        "acme.internal",
        "books.example",
        "localhost",
    )
    assert normalise_domains([]) == ()
    for wrong in ("", "books_example!", "10.0.0.1/8", "a..b"):
        refusal = normalise_domains(["books.example", wrong])
        assert isinstance(refusal, Refuse)
        assert refusal.code == "bad-input"


def test_what_to_do_about_a_name_that_is_not_permitted_can_be_done() -> None:
    """rotate_ca begins with site.yml, which refuses the name as well."""
    refusal = why_not_names(["dns:new.example"], ("old.example",), "/pki")
    assert refusal is not None
    assert "go back to the former one" in refusal.message

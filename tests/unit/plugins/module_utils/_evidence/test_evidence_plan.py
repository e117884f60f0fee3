# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A chain of six records against every way to tamper with it, and what may enter a record at all."""

from __future__ import annotations

import base64
import itertools
import json
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence import plan

CHAIN = "c" * 32
OTHER = "d" * 32
KINDS = (plan.STARTED, plan.CHANGED, plan.FACTS, plan.ENDED, plan.STARTED, plan.ENDED)


def chain(kinds: t.Sequence[str] = KINDS, name: str = CHAIN, who: str = "ann") -> list[str]:
    """A chain as it is written, two runs in it."""
    lines: list[str] = []
    head = None
    for number, kind in enumerate(kinds):
        run = "a" if number < 4 else "b"
        fields = {"operator": who, "playbook": "site.yml", "seconds": 1.5}
        line, head = plan.seal(plan.body(kind, run, f"2026-01-01T00:00:0{number}Z", fields, ()), head, name)
        lines.append(line)
    return lines


def text(lines: t.Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def codes(lines: t.Sequence[str]) -> list[str]:
    return [problem.code for problem in plan.inspect(text(lines)).problems]


LINES = chain()


# Whole


def test_a_chain_as_it_is_written_is_whole() -> None:
    verdict = plan.inspect(text(LINES))
    assert verdict.problems == ()
    assert verdict.lines == tuple(LINES)
    assert verdict.head == plan.Head(CHAIN, 6, verdict.hashes[-1])
    assert (verdict.runs, verdict.unfinished) == (2, ())


def test_each_record_holds_the_hash_of_the_one_before() -> None:
    records = [json.loads(line) for line in LINES]
    assert records[0]["prev"] == plan.ZERO
    for before, after in itertools.pairwise(records):
        assert (after["prev"], after["seq"]) == (before["hash"], before["seq"] + 1)


# Tampered


@pytest.mark.parametrize("number", range(6))
def test_every_edit_of_a_single_character_shows(number: int) -> None:
    line = LINES[number]
    for at in range(len(line)):
        for edited in (line[:at] + chr(ord(line[at]) ^ 1) + line[at + 1 :], line[:at] + line[at + 1 :]):
            assert codes([*LINES[:number], edited, *LINES[number + 1 :]]), edited


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("edited", [" {}", "{} ", "{}\r", "{}\u2028", '{{"hash":1}}{}'], ids=repr)
def test_what_json_does_not_mind_shows_too(number: int, edited: str) -> None:
    assert codes([*LINES[:number], edited.format(LINES[number]), *LINES[number + 1 :]])


@pytest.mark.parametrize("number", range(6))
def test_an_edit_with_a_hash_to_fit_breaks_the_link_after_it(number: int) -> None:
    record = json.loads(LINES[number])
    record["operator"] = "bob"
    record["hash"] = plan.digest(record)
    found = plan.inspect(text([*LINES[:number], plan.canonical(record), *LINES[number + 1 :]])).problems
    if number < 5:
        assert [(one.code, one.line) for one in found] == [("broken_link", number + 2)]
    else:
        # The last one has nothing after it: that is what other copies are for.
        assert found == ()


@pytest.mark.parametrize("number", range(5))
def test_every_deletion_but_the_last_shows(number: int) -> None:
    found = plan.inspect(text([*LINES[:number], *LINES[number + 1 :]])).problems
    assert [(one.code, one.line) for one in found] == [("gap", number + 1)]


def test_every_subset_that_is_no_beginning_shows() -> None:
    for size in range(1, 6):
        for kept in itertools.combinations(range(6), size):
            beginning = kept == tuple(range(size))
            assert (codes([LINES[at] for at in kept]) == []) == beginning, kept


def test_every_other_order_shows() -> None:
    for order in itertools.permutations(range(6)):
        found = codes([LINES[at] for at in order])
        assert (found == []) == (order == tuple(range(6)))
        assert set(found) <= {"reordered", "gap"}


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(range(6), 2)))
def test_a_swap_is_called_reordered(one: int, other: int) -> None:
    lines = list(LINES)
    lines[one], lines[other] = lines[other], lines[one]
    assert "reordered" in codes(lines)


@pytest.mark.parametrize(("number", "at"), list(itertools.product(range(6), range(7))))
def test_every_duplicate_shows_wherever_it_is_put(number: int, at: int) -> None:
    found = codes([*LINES[:at], LINES[number], *LINES[at:]])
    assert "duplicate" in found


@pytest.mark.parametrize("number", range(1, 6))
def test_a_sound_record_of_another_history_shows(number: int) -> None:
    other = chain(who="eve")
    assert "broken_link" in codes([*LINES[:number], other[number], *LINES[number + 1 :]])
    assert "other_chain" in codes([*LINES[:number], chain(name=OTHER)[number], *LINES[number + 1 :]])


@pytest.mark.parametrize("junk", ["", "x", "[]", "{}", "null", '{"seq":1}', "[" * 5000])
def test_what_is_no_record_shows(junk: str) -> None:
    assert codes([*LINES[:3], junk, *LINES[3:]])[0] == "bad_json"


def test_a_number_that_is_none_is_no_record() -> None:
    for seq in (True, 0, -1, 1.0, "1", None):
        record = {**json.loads(LINES[0]), "seq": seq}
        record["hash"] = plan.digest(record)
        assert codes([plan.canonical(record)]) == ["bad_json"]


def test_one_break_is_told_once() -> None:
    assert codes([*LINES[:2], "x", *LINES[3:]]) == ["bad_json"]


# The end of a chain


@pytest.mark.parametrize("left", range(1, 6))
def test_records_taken_off_the_end_show_only_against_another_copy(left: int) -> None:
    whole, short = plan.inspect(text(LINES)), plan.inspect(text(LINES[:left]))
    assert short.problems == ()
    assert whole.head is not None
    anchor = plan.Anchor(CHAIN, whole.head.seq, whole.head.hash, "node1")
    assert plan.compare(short, [anchor]) == ((), 6 - left)
    problems, behind = plan.compare(short, [anchor], complete=True)
    assert ([one.code for one in problems], behind) == (["truncated"], 6 - left)
    assert "node1" in problems[0].what


def test_no_record_left_at_all_shows() -> None:
    assert [one.code for one in plan.inspect("").problems] == ["empty"]


def test_a_line_that_was_cut_off_is_no_record() -> None:
    for cut in range(1, len(LINES[5]) + 1):
        verdict = plan.inspect(text(LINES[:5]) + LINES[5][:cut])
        assert [one.code for one in verdict.problems] == ["unfinished_line"]
        assert verdict.lines == tuple(LINES[:5])
        # It does not stop the next run, which drops it.
        assert plan.why_not_whole(verdict, "x") is None


@pytest.mark.parametrize("seq", range(1, 7))
def test_another_history_shows_against_any_record_that_was_seen(seq: int) -> None:
    forged, real = plan.inspect(text(chain(who="eve"))), plan.inspect(text(LINES))
    assert forged.problems == ()
    problems, behind = plan.compare(forged, [plan.Anchor(CHAIN, seq, real.hashes[seq - 1])])
    assert ([one.code for one in problems], behind) == (["differs"], 0)
    assert plan.compare(real, [plan.Anchor(CHAIN, seq, real.hashes[seq - 1])], complete=True) == ((), 0)


def test_other_chains_are_no_contradiction_but_are_told() -> None:
    anchors = [plan.Anchor(OTHER, 3, "x", "node1"), plan.Anchor(OTHER, 9, "y", "node2"), plan.Anchor(CHAIN, 9, "z")]
    assert plan.compare(plan.inspect(text(LINES)), anchors[:2], complete=True) == ((), 0)
    assert plan.absent([CHAIN], anchors) == [{"chain": OTHER, "records": 9, "where": "node2"}]


@pytest.mark.parametrize(
    ("left", "runs"), [(1, ["a"]), (3, ["a"]), (4, []), (5, ["b"]), (6, [])], ids=lambda value: str(value)
)
def test_a_run_without_an_end_is_listed_and_is_no_forgery(left: int, runs: list[str]) -> None:
    verdict = plan.inspect(text(LINES[:left]))
    assert verdict.problems == ()
    assert [one.run for one in verdict.unfinished] == runs
    assert all((one.operator, one.playbook) == ("ann", "site.yml") for one in verdict.unfinished)


def test_two_runs_at_once_end_each_for_itself() -> None:
    lines: list[str] = []
    head = None
    for run, kind in (("a", plan.STARTED), ("b", plan.STARTED), ("a", plan.ENDED)):
        line, head = plan.seal(plan.body(kind, run, "now", {}, ()), head, CHAIN)
        lines.append(line)
    assert [one.run for one in plan.inspect(text(lines)).unfinished] == ["b"]


# A host's copy


@pytest.mark.parametrize(("has", "start", "end"), [(h, s, e) for h in range(7) for s in range(7) for e in range(s, 7)])
def test_a_host_takes_what_it_lacks_and_nothing_twice(has: int, start: int, end: int) -> None:
    own = plan.inspect(text(LINES[:has]))
    added = plan.extend(own, LINES[start:end], "node1")
    if start < end and start > has:
        assert isinstance(added, Refuse)
        assert added.code == "chain_gap"
        return
    assert not isinstance(added, Refuse)
    assert [*LINES[:has], *added] == LINES[: max(has, end) if start < end else has]


@pytest.mark.parametrize(("has", "end"), [(h, e) for h in range(1, 7) for e in range(1, 7)])
def test_a_host_refuses_another_history(has: int, end: int) -> None:
    for other in (chain(who="eve"), chain(name=OTHER)):
        refused = plan.extend(plan.inspect(text(LINES[:has])), other[:end], "node1")
        assert isinstance(refused, Refuse)
        assert refused.code == "chain_fork"


@pytest.mark.parametrize("has", range(1, 6))
def test_a_host_refuses_a_history_that_parts_after_its_own_end(has: int) -> None:
    forged = list(LINES)
    head = plan.inspect(text(chain(who="eve")[:has])).head
    forged[has], _head = plan.seal(plan.body("x", "r", "now", {}, ()), head, CHAIN)
    refused = plan.extend(plan.inspect(text(LINES[:has])), forged[has : has + 1], "node1")
    assert isinstance(refused, Refuse)
    assert refused.code == "chain_fork"


@pytest.mark.parametrize(
    "sent", [["x"], [LINES[0], LINES[2]], [LINES[0], LINES[0]], [LINES[1], LINES[0]], [LINES[0], "{}"]]
)
def test_a_host_takes_no_unsound_records(sent: list[str]) -> None:
    refused = plan.extend(plan.inspect(text(LINES[:2])), sent, "node1")
    assert isinstance(refused, Refuse)
    assert refused.code == "bad_record"


def test_a_copy_that_was_tampered_with_is_not_continued() -> None:
    own = plan.inspect(text([LINES[0], LINES[2]]))
    for refused in (plan.extend(own, LINES, "node1"), plan.missing(own, None, "node1")):
        assert isinstance(refused, Refuse)
        assert refused.code == "chain_broken"


@pytest.mark.parametrize(("mine", "there"), [(m, h) for m in range(1, 7) for h in range(7)])
def test_what_is_sent_is_what_the_host_lacks(mine: int, there: int) -> None:
    head = plan.inspect(text(LINES[:there])).head
    lines = plan.missing(plan.inspect(text(LINES[:mine])), head, "node1")
    if there > mine:
        assert isinstance(lines, Refuse)
        assert lines.code == "chain_ahead"
    else:
        assert lines == tuple(LINES[there:mine])


def test_a_host_with_another_history_is_sent_nothing() -> None:
    refused = plan.missing(plan.inspect(text(LINES)), plan.inspect(text(chain(who="eve")[:3])).head, "node1")
    assert isinstance(refused, Refuse)
    assert refused.code == "chain_fork"


# What goes in

CANARY = "canary-7f3a-secret"


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "odoo_db_password",
        "passphrase",
        "API_TOKEN",
        "s3_key_secret",
        "private_key",
        "backup_1_cipher_pass",
        "credentials",
        "passwd",
    ],
)
def test_values_under_names_of_secrets_are_left_out(name: str) -> None:
    for value in (CANARY, [CANARY], {"x": CANARY}):
        facts = plan.facts({"before": [{name: value}], "n": 1})
        assert facts == {"before": [{name: plan.LEFT_OUT}], "n": 1}


def test_known_secrets_are_masked_wherever_they_show() -> None:
    secrets = plan.known_secrets(
        [
            ("x_password", CANARY),
            ("y_password", f"{CANARY}-longer"),
            ("leader", "node1"),
            ("a_password", "short"),
            ("b_password", "{{ lookup('x') }}"),
            ("c_password", 7),
        ]
    )
    assert secrets == (f"{CANARY}-longer", CANARY)
    body = plan.body(
        plan.FACTS,
        "r",
        "now",
        {"task": f"Set {CANARY}", "facts": {f"k {CANARY}": [f"{CANARY}-longer", 1, None, True, 1.5]}, "to": "node1"},
        secrets,
    )
    assert CANARY not in plan.canonical(body)
    assert body["facts"] == {"k (secret)": ["(secret)", 1, None, True, 1.5]}
    assert (body["task"], body["to"]) == ("Set (secret)", "node1")


def test_a_secret_that_is_a_word_of_ours_does_not_hide_the_record() -> None:
    body = plan.body(plan.STARTED, "r", "now", {}, plan.known_secrets([("a_password", "started")]))
    assert body["kind"] == "started"


def test_each_line_of_a_secret_is_one() -> None:
    assert (
        plan.redact("b: second-line", plan.known_secrets([("tls_secret", "first-line\nsecond-line")])) == "b: (secret)"
    )


def test_secrets_inside_of_variables_are_known_and_vaulted_ones_opened() -> None:
    values: list[tuple[str, t.Any]] = [
        ("users", [{"name": "harmless-name", "password": "in-a-list"}]),
        ("odoo_secrets", {"mail": "below-a-name", "deep": [{"x": 7, "y": "deeper-still"}]}),
        ("ansible_become_pass", b"vaulted"),
        ("compass_bearing", "north-east"),
    ]
    opened = plan.known_secrets(values, lambda value: value.decode() if isinstance(value, bytes) else value)
    assert set(opened) == {"in-a-list", "below-a-name", "deeper-still", "vaulted"}


def test_shapes_of_secrets_are_masked() -> None:
    begin = "-----BEGIN RSA PRIVATE" + " KEY-----"
    assert plan.redact(f"x {begin} abc", ()) == plan.LEFT_OUT
    assert plan.redact(f"at postgres://odoo:{CANARY}@db:5432/x", ()) == "at postgres://odoo:(secret)@db:5432/x"
    assert plan.redact("https://node1:8008/cluster", ()) == "https://node1:8008/cluster"


def test_facts_become_plain_and_finite() -> None:
    deep: t.Any = 1
    for __ in range(20):
        deep = [deep]
    facts = plan.facts({"a": (1, 2), "b": object(), "c": float("nan"), "d": 1 / 3, "e": "x" * 5000, 5: deep, "f": None})
    assert not isinstance(facts, Refuse)
    assert (facts["a"], facts["b"], facts["c"], facts["d"], facts["f"]) == (
        [1, 2],
        plan.LEFT_OUT,
        "nan",
        0.333333,
        None,
    )
    assert len(facts["e"]) == plan.MAX_TEXT + 1
    assert plan.LEFT_OUT in plan.canonical(facts["5"])


def test_facts_that_cannot_be_recorded_are_refused() -> None:
    for value, code in (("text", "bad_facts"), ([1], "bad_facts"), ({"a": ["x" * 1000] * 40}, "too_large")):
        refused = plan.facts(value)
        assert isinstance(refused, Refuse)
        assert refused.code == code


def test_of_a_failure_only_the_code_and_the_refusal_are_told() -> None:
    refusal = {"code": "lag_too_high", "what": "node2 cannot lead", "why": "it lags 9 MB", "do": "wait"}
    result = {"msg": CANARY, "stdout": CANARY, "invocation": {"x": CANARY}, "code": "lag_too_high", "refusal": refusal}
    told = plan.reason_of(result)
    assert told == {"code": "lag_too_high", "what": "node2 cannot lead", "why": "it lags 9 MB"}
    assert plan.reason_of({"msg": CANARY, "code": f"no code {CANARY}", "refusal": CANARY}) == {}
    assert plan.reason_of({"code": 7}) == {}


def test_the_inventory_hash_tells_names_and_contents_and_no_order() -> None:
    files = [("hosts.yml", "1"), ("group_vars/all.yml", "2")]
    same = plan.inventory_hash(files)
    assert plan.inventory_hash(reversed(files)) == same
    assert (
        len(
            {
                same,
                plan.inventory_hash([("hosts.yml", "2"), ("group_vars/all.yml", "1")]),
                plan.inventory_hash(files[:1]),
                plan.inventory_hash([("hosts.yaml", "1"), files[1]]),
            }
        )
        == 4
    )


def test_a_run_belongs_to_one_cluster() -> None:
    assert plan.why_not_cluster({"acme"}) is None
    for names in (set(), {"a", "b"}, {"../x"}, {""}, {"a/b"}, {".."}, {"a\n"}):
        assert plan.why_not_cluster(names)


# Signatures. The planner knows none of their mathematics: here "good" ones repeat the key.


class Seal:
    def __init__(self, key: str = "a" * 16) -> None:
        self.key = key

    def sign(self, digest: str) -> str:
        return base64.b64encode((self.key + digest[:48]).encode()).decode()


def check(key: str, digest: str, signature: str) -> bool | None:
    return None if key == "f" * 16 else signature == Seal(key).sign(digest)


def signed_chain(signers: t.Sequence[Seal | None]) -> list[str]:
    lines: list[str] = []
    head = None
    for number, signer in enumerate(signers):
        line, head = plan.seal(plan.body("x", "r", f"t{number}", {}, ()), head, CHAIN, signer)
        lines.append(line)
    return lines


def test_signed_and_unsigned_records_have_one_hash() -> None:
    bare, signed = (signed_chain([signer] * 3) for signer in (None, Seal()))
    assert [json.loads(line)["hash"] for line in bare] == [json.loads(line)["hash"] for line in signed]
    assert codes(signed) == []
    assert plan.inspect(text(bare)).head == plan.inspect(text(signed)).head


@pytest.mark.parametrize("signed", list(itertools.product([False, True], repeat=4)))
def test_after_the_first_signed_record_every_one_is(signed: tuple[bool, ...]) -> None:
    verdict = plan.inspect(text(signed_chain([Seal() if one else None for one in signed])))
    assert verdict.problems == ()
    assert verdict.signed is signed[-1]
    first = signed.index(True) if any(signed) else 4
    bare = [("missing_signature", at + 1) for at in range(first, 4) if not signed[at]]
    for require in (False, True):
        wanted = [("unsigned", 0)] if require and not any(signed) else bare
        assert [(one.code, one.line) for one in plan.why_not_signed(verdict.marks, require)] == wanted
    assert plan.why_not_authentic(verdict.marks, check) == ()


@pytest.mark.parametrize("number", range(3))
def test_every_edit_of_a_signed_record_shows_with_its_key(number: int) -> None:
    lines = signed_chain([Seal()] * 3)
    line = lines[number]
    for at in range(len(line)):
        for edited in (line[:at] + chr(ord(line[at]) ^ 1) + line[at + 1 :], line[:at] + line[at + 1 :]):
            verdict = plan.inspect(text([*lines[:number], edited, *lines[number + 1 :]]))
            assert verdict.problems or plan.why_not_authentic(verdict.marks, check), edited


@pytest.mark.parametrize(
    "outside",
    [
        {"key": "a" * 16},
        {"signature": Seal().sign("0" * 64)},
        {"key": "a" * 15, "signature": Seal().sign("0" * 64)},
        {"key": "", "signature": ""},
        {"key": "a" * 16, "signature": "AAAA"},
        {"key": "a" * 16, "signature": "*" * 88},
        {"key": "a" * 16, "signature": 7},
        {"key": None, "signature": None},
        # The same bytes in another spelling.
        {"key": "a" * 16, "signature": base64.b64encode(b"\0" * 64).decode()[:-3] + "B=="},
    ],
)
def test_what_is_no_signature_by_its_form(outside: dict[str, t.Any]) -> None:
    record = {**json.loads(LINES[2]), **outside}
    assert codes([*LINES[:2], plan.canonical(record), *LINES[3:]]) == ["bad_signature"]


def test_a_record_cannot_bring_its_own_signature() -> None:
    line, __ = plan.seal({"key": "b" * 16, "signature": "x", "kind": "k", "run": "r", "at": "t"}, None, CHAIN, Seal())
    assert json.loads(line)["key"] == "a" * 16
    assert codes([line]) == []


def test_an_unknown_key_is_told_once_and_bad_signatures_each() -> None:
    lines = signed_chain([Seal(), Seal("f" * 16), Seal(), Seal("f" * 16), Seal("e" * 16)])
    third = {**json.loads(lines[2]), "key": "b" * 16}
    marks = plan.inspect(text([*lines[:2], plan.canonical(third), *lines[3:]])).marks
    told = plan.why_not_authentic(marks, check)
    assert [(one.code, one.line) for one in told] == [("unknown_key", 2), ("bad_signature", 3)]
    assert "2 records" in told[0].what


def test_a_host_keeps_signatures_as_they_are() -> None:
    lines = signed_chain([None, Seal(), Seal()])
    added = plan.extend(plan.inspect(text(lines[:1])), lines, "node1")
    assert added == tuple(lines[1:])

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each rule catches its own damage, and the untouched ledger passes."""

from __future__ import annotations

import copy
import dataclasses
import json
import typing as t
from decimal import Decimal as D

import pytest
from reconcile_ledger import HASH, ROWS, fingerprint, seen

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile import plan
from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile.plan import (
    Attachment,
    Chain,
    Checked,
    Entry,
    Line,
    Point,
    Seen,
    Wrong,
)

BEFORE = fingerprint()
# The ledger as it would be without its old gap and its old duplicate.
CLEAN: dict[str, t.Any] = {"gaps": [], "duplicates": [], "sequences": [(1, "INV", "INV/2026/", 1, 9, 9, 0, 0)]}


def judged(given: Seen) -> plan.Judgement:
    judgement = plan.judge(given)
    judgement.check_invariants()
    return judgement


def errors(given: Seen) -> set[str]:
    return {one.code for one in judged(given).findings if one.severity == plan.ERROR}


def without(rows: t.Sequence[t.Any], index: int) -> list[t.Any]:
    return [row for place, row in enumerate(rows) if place != index]


def instead(rows: t.Sequence[t.Any], index: int, row: t.Any) -> list[t.Any]:
    return [row if place == index else one for place, one in enumerate(rows)]


def test_untouched_ledger_is_accepted_by_every_rule() -> None:
    judgement = judged(seen(BEFORE))
    assert judgement.accepted
    assert [one.code for one in judgement.rules if not one.ok] == []
    assert {one.code for one in judgement.rules} == {rule.code for rule in plan.RULES} | {"digest"}
    assert judgement.not_run == ()


# What is damaged, and all rules that say so besides the digest.
FINGERPRINT_DAMAGES: dict[str, tuple[dict[str, t.Any], set[str]]] = {
    "a period out of balance": (
        {"periods": instead(ROWS.periods, 1, (1, "2026-10", D("50.5"), D("50.4"), 1, 2))},
        {"periods_balanced", "periods_match"},
    ),
    "a period out of balance by NaN": (
        {"periods": instead(ROWS.periods, 1, (1, "2026-10", D("NaN"), D("NaN"), 1, 2))},
        {"periods_balanced", "periods_match"},
    ),
    "a whole month missing": ({"periods": without(ROWS.periods, 0)}, {"periods_match"}),
    "a month more": ({"periods": [*ROWS.periods, (1, "2026-11", D(1), D(1), 1, 2)]}, {"periods_match"}),
    "an entry less in a month": (
        {"periods": instead(ROWS.periods, 0, (1, "2026-09", D(150), D(150), 2, 6))},
        {"periods_match"},
    ),
    "a balance": ({"accounts": instead(ROWS.accounts, 0, (1, 6, "121000", D("200.51"), 4))}, {"accounts_match"}),
    "an account missing": ({"accounts": without(ROWS.accounts, 2)}, {"accounts_match"}),
    "a company missing": (
        {"companies": without(ROWS.companies, 1)},
        {"companies_match"},
    ),
    "a company's currency": ({"companies": instead(ROWS.companies, 1, (2, "Beta", "EUR"))}, {"companies_match"}),
    "drafts": ({"drafts": []}, {"drafts_match"}),
    "an open receivable": (
        {"open_items": instead(ROWS.open_items, 0, (1, "asset_receivable", D(99), 2))},
        {"open_items_match"},
    ),
    "open payables gone": ({"open_items": without(ROWS.open_items, 1)}, {"open_items_match"}),
    "a payment's amount": ({"payments": [(1, 1, D("50.01"))]}, {"payments_match"}),
    "payments gone": ({"payments": []}, {"payments_match"}),
    "the end of a hash chain": ({"hashes": [(1, "INV", "INV/2026/", 7, "$4$" + "b" * 64, 2)]}, {"hash_heads"}),
    "a hash chain gone": ({"hashes": []}, {"hash_heads"}),
    "the end of a sequence": (
        {"sequences": instead(ROWS.sequences, 0, (1, "INV", "INV/2026/", 1, 8, 5, 1, 1))},
        {"sequences_match"},
    ),
    "a sequence gone": ({"sequences": without(ROWS.sequences, 1)}, {"sequences_match"}),
    "a new gap": (
        {
            "gaps": [*ROWS.gaps, (1, "INV", "INV/2026/", 8, 8, True)],
            "sequences": instead(ROWS.sequences, 0, (1, "INV", "INV/2026/", 1, 9, 5, 2, 1)),
        },
        {"sequence_gaps", "sequences_match"},
    ),
    "a gap that is wider now": ({"gaps": [(1, "INV", "INV/2026/", 3, 5, True)]}, {"sequence_gaps"}),
    "a gap behind those that are listed": (
        {"sequences": instead(ROWS.sequences, 0, (1, "INV", "INV/2026/", 1, 9, 6, 2, 1))},
        {"sequence_gaps"},
    ),
    "a new duplicate": (
        {"duplicates": [*ROWS.duplicates, (1, "INV", "INV/2026/", 9)]},
        {"sequence_duplicates"},
    ),
    "a duplicate behind those that are listed": (
        {"sequences": instead(ROWS.sequences, 0, (1, "INV", "INV/2026/", 1, 9, 6, 1, 2))},
        {"sequence_duplicates"},
    ),
    "an attachment less": (
        {"attachments": {**ROWS.attachments, "count": 0, "bytes": 0, "in_database": 0}},
        {"attachments_match"},
    ),
    "another attachment": ({"attachments": {**ROWS.attachments, "digest": "e" * 64}}, {"attachments_match"}),
    "a row of a table": ({"tables": {"account_move": 5, "sale_order": 2}}, {"row_counts"}),
    "a table": ({"tables": {"account_move": 5, "sale_order": None}}, {"row_counts"}),
    "a row at the end": ({"max_ids": {"account_move": 8, "ir_attachment": 4}}, {"highest_ids"}),
    "what no rule names": ({"meta": [*ROWS.meta[:4], "19.0.1.4"]}, set()),
}


@pytest.mark.parametrize("damage", FINGERPRINT_DAMAGES, ids=str)
def test_damage_that_shows_in_totals(damage: str) -> None:
    changes, codes = FINGERPRINT_DAMAGES[damage]
    assert errors(seen(BEFORE, fingerprint(**changes))) == codes | {"digest"}


ROW_DAMAGES = {
    "entries": "entries_balanced",
    "open_lines": "open_items_settled",
    "chain": "hash_chain",
    "present": "attachments_present",
    "content": "attachments_content",
    "objects": "objects_present",
    "indexes": "indexes",
}


@pytest.mark.parametrize(("which", "code"), ROW_DAMAGES.items())
def test_damage_of_rows(which: str, code: str) -> None:
    wrong = Checked()
    for number in range(plan.FINDINGS + 3):
        wrong.add(Wrong(f"thing {number}", 1, 2, 1))
    findings = [one for one in judged(seen(BEFORE, **{which: wrong})).findings if one.severity == plan.ERROR]
    assert {one.code for one in findings} == {code}
    assert len(findings) == plan.FINDINGS + 1
    assert findings[-1].found == 3


def test_every_rule_has_a_damage_of_its_own() -> None:
    caught = set(ROW_DAMAGES.values()).union(*(codes for _changes, codes in FINGERPRINT_DAMAGES.values()))
    assert caught == {rule.code for rule in plan.RULES}
    alone = set(ROW_DAMAGES.values()) | {
        code for _changes, codes in FINGERPRINT_DAMAGES.values() if len(codes) == 1 for code in codes
    }
    assert alone == caught - {"periods_balanced"}  # which always shows in its totals too


def test_without_a_fingerprint_rules_that_compare_say_that_they_did_not() -> None:
    judgement = judged(seen(now=fingerprint(**CLEAN)))
    assert judgement.accepted
    silent = {one.code for one in judgement.rules if one.ok is None}
    assert silent == {rule.code for rule in plan.RULES if rule.compares} | {"digest"}
    assert {code for code, why in judgement.not_run if why == plan.NO_FINGERPRINT} == silent


def test_out_of_balance_shows_without_a_fingerprint() -> None:
    changes, _codes = FINGERPRINT_DAMAGES["a period out of balance"]
    assert errors(seen(now=fingerprint(**{**CLEAN, **changes}))) == {"periods_balanced"}


@pytest.mark.parametrize(("known", "codes"), [(True, set()), (False, {"sequence_gaps"})])
def test_without_a_fingerprint_a_gap_is_an_error_unless_odoo_made_it(known: bool, codes: set[str]) -> None:
    now = fingerprint(
        gaps=[(1, "INV", "INV/2026/", 4, 5, known)], duplicates=[], sequences=[(1, "INV", "INV/2026/", 1, 9, 7, 1, 0)]
    )
    assert errors(seen(now=now)) == codes


def test_without_a_fingerprint_a_duplicate_is_an_error() -> None:
    now = fingerprint(**{**CLEAN, "duplicates": ROWS.duplicates})
    assert errors(seen(now=now)) == {"sequence_duplicates"}


def test_old_gaps_and_duplicates_are_notes() -> None:
    notes = [one for one in judged(seen(BEFORE)).findings if one.severity == plan.NOTE]
    assert {one.code for one in notes} == {"sequence_gaps", "sequence_duplicates"}
    assert "4 to 5" in str(notes[0].found)


def test_nothing_at_all_is_not_accepted() -> None:
    nothing = Checked()
    now = plan.compose(plan.Rows([*ROWS.meta], []))
    names = ("entries", "open_lines", "chain", "present", "content", "objects", "indexes")
    judgement = judged(seen(None, now, **dict.fromkeys(names, nothing)))
    assert [one.code for one in judgement.findings] == ["nothing_to_check"]


def test_a_rule_with_nothing_to_check_says_so() -> None:
    judgement = judged(seen(BEFORE, chain=Checked(), not_run={"indexes": "not asked for"}, indexes=Checked()))
    assert judgement.accepted
    assert dict(judgement.not_run) == {"hash_chain": plan.NOTHING, "indexes": "not asked for"}
    assert {one.code for one in judgement.rules if one.ok is None} == {"hash_chain", "indexes"}


# Fingerprints


def test_digest_is_that_of_the_state_and_not_of_the_occasion() -> None:
    later = fingerprint(meta=["later", "0/9", "9:9:", "restored", ROWS.meta[4]])
    shuffled = fingerprint(
        **{name: list(reversed(getattr(ROWS, name))) for name in ("periods", "accounts", "companies")}
    )
    assert BEFORE["digest"] == later["digest"] == shuffled["digest"]
    assert errors(seen(BEFORE, later)) == set()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "0.00"),
        (0, "0.00"),
        (D("-0.000"), "0.00"),
        (D("5"), "5.00"),
        (D("5.100000"), "5.10"),
        (D("-5.1234"), "-5.1234"),
        (D("1E+20"), "100000000000000000000.00"),
        (D("12345678901234567890123456789012.345"), "12345678901234567890123456789012.345"),
        (D("NaN"), "NaN"),
    ],
)
def test_an_amount_is_written_in_one_way(value: t.Any, text: str) -> None:
    assert plan.amount(value) == text


def test_a_kept_fingerprint_is_taken_as_it_was_given_out() -> None:
    assert plan.why_not_fingerprint(json.loads(json.dumps(BEFORE))) is None


def damaged(path: str, value: t.Any) -> t.Any:
    document = copy.deepcopy(BEFORE)
    *way, last = path.split("/")
    place: t.Any = document
    for part in way:
        place = place[int(part) if part.isdigit() else part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return document


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], "not a mapping"),
        (damaged("version", 2), "version 2"),
        (damaged("companies/0/periods/0/debit", None), "/companies/0/periods/0/debit: missing"),
        (damaged("companies/0/periods/0/debit", "1,50"), "not an amount"),
        (damaged("companies/0/drafts", True), "/companies/0/drafts: not of type int"),
        (damaged("companies/0/periods/0/debit", "150.01"), "altered"),
        (damaged("companies", {}), "/companies: not a list"),
        (damaged("tables/account_move", 6), "altered"),
        (fingerprint(tables={'x"; drop': 1}), "not a table's name"),
    ],
)
def test_an_altered_fingerprint_is_refused(document: t.Any, why: str) -> None:
    refusal = plan.why_not_fingerprint(document)
    assert refusal is not None
    assert refusal.code == "bad_fingerprint"
    assert why in refusal.why


# The hash chain. The values were computed by Odoo 19's own _calculate_hashes.

LINES = [Line(90, "Größe 7", "0", "1234.50", 7, None, 2), Line(91, None, "1234.5", "0", 6, 9, 2)]
ENTRY = Entry(41, 2, 3, "INV/2026/00007", "2026-01-31", "INV/2026/", 0, "")
KNOWN = [
    ("", 1, "88427b933655886bb6f2c1205fa9fec9faf391e419c1cbe36dc85fda692e9965"),
    ("", 2, "24bd52ab6dda16c436a37673ca969d8d2eb2397bc60834c91d9c8d0f2f3b1ffc"),
    ("", 3, "bb13f39801117a27d325973be71d1635104a9d3d7523b53fcaacd63ae68b98d0"),
    (HASH, 4, "$4$b32b78f59180b634050d2374d5ce122a291a60f6d233ed219d2a036ca57d6452"),
]


@pytest.mark.parametrize(("previous", "version", "expected"), KNOWN)
def test_hash_is_the_one_of_odoo(previous: str, version: int, expected: str) -> None:
    assert plan.hash_of(previous, ENTRY, LINES, version) == expected


def chain(secure: bool = False, versions: t.Sequence[int] = (2, 3, 4, 4)) -> list[tuple[Entry, list[Line]]]:
    """Two prefixes in turn when secure, else one after the other, as Odoo orders them."""
    made: list[tuple[Entry, list[Line]]] = []
    last: dict[str, str] = {}
    for number, version in enumerate(versions, 1):
        prefix = f"P{number % 2}/" if secure else "P/"
        lines = [
            Line(number * 10, "a", D("5.50"), D(0), 1, None, 2),
            Line(number * 10 + 1, "b", D(0), D("5.5"), 2, 3, 2),
        ]
        entry = Entry(number, 1, 1, f"{prefix}{number}", "2026-01-01", prefix, number if secure else 0, "")
        stored = plan.hash_of(last.get("" if secure else prefix, ""), entry, lines, version)
        last["" if secure else prefix] = stored
        made.append((dataclasses.replace(entry, stored=stored), lines))
    return made


def wrong_of(entries: t.Iterable[tuple[Entry, list[Line]]]) -> list[int]:
    judge = Chain()
    return [entry.id for entry, lines in entries if judge.judge(entry, lines) is not None]


@pytest.mark.parametrize("secure", [False, True])
def test_chain_that_is_whole(secure: bool) -> None:
    other = [(dataclasses.replace(entry, journal=2), lines) for entry, lines in chain(secure)]
    # The journal is in the hash: what was copied into another one does not pass there.
    assert wrong_of(chain(secure)) == []
    assert wrong_of([*chain(secure), *other]) == [1, 2, 3, 4]


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {"name": "P/9"},
        {"date": "2026-01-02"},
        {"company": 2},
    ],
    ids=str,
)
def test_changed_entry_is_found_and_hides_no_other(secure: bool, change: dict[str, t.Any]) -> None:
    entries = chain(secure)
    for place in (1, 3):
        entries[place] = (dataclasses.replace(entries[place][0], **change), entries[place][1])
    assert wrong_of(entries) == [2, 4]


@pytest.mark.parametrize("change", [{"debit": D("5.51")}, {"account": 9}, {"partner": 9}, {"name": None}], ids=str)
def test_changed_line_is_found(change: dict[str, t.Any]) -> None:
    entries = chain()
    entries[2][1][0] = dataclasses.replace(entries[2][1][0], **change)
    assert wrong_of(entries) == [3]


def test_lost_line_and_added_line_are_found() -> None:
    entries = chain()
    entries[0][1].pop()
    entries[2][1].append(Line(99, "", D(0), D(0), 1, None, 2))
    assert wrong_of(entries) == [1, 3]


@pytest.mark.parametrize("secure", [False, True])
def test_missing_entry_breaks_the_next_one(secure: bool) -> None:
    assert wrong_of(without(chain(secure), 1)) == [3]


def test_entries_in_another_order_are_found() -> None:
    first, second, third, fourth = chain()
    assert wrong_of([first, third, second, fourth]) == [3, 2, 4]


@pytest.mark.parametrize("stored", ["$5$" + "a" * 64, "nonsense", "a" * 63, "$4$" + "A" * 64])
def test_hash_that_is_not_known_is_not_accepted(stored: str) -> None:
    entries = chain()
    entries[3] = (dataclasses.replace(entries[3][0], stored=stored), entries[3][1])
    assert wrong_of(entries) == [4]


# Attachments


@pytest.mark.parametrize(
    ("one", "right"),
    [
        (Attachment(1, "c", 7, None, 7), True),
        (Attachment(1, "c", 0, None, None), True),
        (Attachment(1, "c", 7, "ab/abc", None), True),
        (Attachment(1, "c", 7, None, None), False),
        (Attachment(1, "c", 7, None, 6), False),
    ],
)
def test_attachment_is_there(one: Attachment, right: bool) -> None:
    assert (plan.why_not_there(one) is None) is right


@pytest.mark.parametrize(("sha1", "right"), [("c", True), ("d", False), (None, False)])
def test_attachment_has_its_checksum(sha1: str | None, right: bool) -> None:
    assert (plan.why_damaged(Attachment(1, "c", 7, None, 7), sha1) is None) is right


@pytest.mark.parametrize("change", [{"checksum": "x"}, {"id": 2}, {"store": "ab/x"}, {"size": 8}], ids=str)
def test_digest_of_documents_covers_each_field(change: dict[str, t.Any]) -> None:
    one = Attachment(1, "c", 7, None, 7)
    totals = []
    for document in (one, dataclasses.replace(one, **change)):
        documents = plan.Documents()
        documents.add(document)
        totals.append(documents.totals())
    assert totals[0]["digest"] != totals[1]["digest"]
    assert totals[0] == {"count": 1, "bytes": 7, "in_database": 1, "in_store": 0, "digest": totals[0]["digest"]}


# Options


@pytest.mark.parametrize(
    ("point", "code"),
    [
        (Point("close-2026_10"), None),
        (Point("x" * 63, 0.9), None),
        (Point(""), "bad_name"),
        (Point("x" * 64), "bad_name"),
        (Point("a b"), "bad_name"),
        (Point("a\n"), "bad_name"),
        (Point("ä"), "bad_name"),
        (Point("a", 0.0), "bad_lock_timeout"),
        (Point("a", 1.0), "bad_lock_timeout"),
        (Point("a", lock_attempts=0), "bad_attempts"),
    ],
)
def test_restore_point_that_is_asked_for(point: Point, code: str | None) -> None:
    refusal = plan.why_not_point(point)
    assert (refusal.code if refusal else None) == code


def test_tables_are_the_ledgers_and_the_declared_ones() -> None:
    assert plan.tables_of(["sale_order", "account_move"]) == tuple(sorted({*plan.COUNTED, "sale_order"}))
    refusal = plan.tables_of(['a"; drop table x'])
    assert isinstance(refusal, Refuse)
    assert refusal.code == "bad_table"


@pytest.mark.parametrize(("text", "sample"), [("all", None), ("0", 0), ("25", 25)])
def test_sample(text: str, sample: int | None) -> None:
    assert plan.sample_of(text) == sample


@pytest.mark.parametrize("text", ["", "-1", "some", "1.5"])
def test_sample_that_is_none(text: str) -> None:
    assert isinstance(plan.sample_of(text), Refuse)


# The report


def test_report_tells_verdict_findings_and_what_was_not_checked() -> None:
    given = seen(BEFORE, fingerprint(drafts=[]), indexes=Checked(), not_run={"indexes": "not asked for"})
    text = plan.report_of(given, plan.judge(given))
    assert text.startswith("NOT ACCEPTED: 2 errors, 2 notes\n")
    assert "Alpha: drafts: expected 2, found 0 [drafts_match]" in text
    assert "4 posted entries, 2026-09 to 2026-10: debit 200.50, credit 200.50" in text
    assert "indexes are in order (amcheck): not asked for" in text.split("What was NOT checked")[1]
    assert "  WRONG  drafts as in the fingerprint (2 checked)" in text


def test_report_tells_what_it_was_compared_with() -> None:
    exact = {**BEFORE, "restore_point": {"name": "close", "lsn": "0/1"}}
    for before, words in ((exact, "exactly at restore point close"), (BEFORE, "at WAL position"), (None, "nothing")):
        given = seen(before)
        assert words in plan.report_of(given, plan.judge(given))

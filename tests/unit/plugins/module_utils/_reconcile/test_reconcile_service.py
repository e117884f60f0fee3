# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services over a server that answers from memory."""

from __future__ import annotations

import hashlib
import typing as t
from pathlib import Path

import pytest
import yaml
from reconcile_ledger import SHA1, Server

from ansible_collections.dedicated.odoo.plugins.doc_fragments.reconcile import ModuleDocFragment
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile import io, plan
from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile.plan import NOTHING, Objects, Point, Wish
from ansible_collections.dedicated.odoo.plugins.module_utils._reconcile.service import (
    InfoService,
    ReconcileService,
    wish_of,
)
from ansible_collections.dedicated.odoo.plugins.modules import odoo_reconcile, odoo_reconcile_info


def take(
    server: Server, point: Point | None = None, check: bool = False, tables: t.Sequence[str] = ()
) -> dict[str, t.Any]:
    return InfoService(server.connect, server).take(tables, point, check)


def reconcile(server: Server, before: t.Any = None, store: t.Any = None, **wish: t.Any) -> dict[str, t.Any]:
    outcome = ReconcileService(server.connect, store).reconcile(before, Wish(**wish))
    outcome.judgement.check_invariants()
    return outcome.as_result()


def code_of(refused: pytest.ExceptionInfo[DedicatedError]) -> t.Any:
    return refused.value.details["code"]


def codes(result: dict[str, t.Any]) -> set[str]:
    return {one["code"] for one in result["findings"] if one["severity"] == "error"}


def rule(result: dict[str, t.Any], code: str) -> dict[str, t.Any]:
    (found,) = [one for one in result["rules"] if one["code"] == code]
    return found


def why(result: dict[str, t.Any], code: str) -> str | None:
    return next((one["why"] for one in result["checks_not_run"] if one["code"] == code), None)


# Fingerprints


def test_fingerprint_is_read_in_one_transaction_and_changes_nothing() -> None:
    server = Server()
    result = take(server, tables=["sale_order"])
    assert not result["changed"]
    assert result["restore_point"] is None
    assert result["fingerprint"]["tables"]["sale_order"] == 5
    assert plan.why_not_fingerprint(result["fingerprint"]) is None
    assert [one for one in server.events if not one.startswith("snapshot: ")] == []
    assert server.events.count("snapshot: begin") == 1
    assert server.sessions == 0


def test_point_and_snapshot_lie_between_lock_and_unlock() -> None:
    server = Server(busy=2)
    result = take(server, Point("close", lock_pause=3.0))
    assert result["changed"]
    made = result["restore_point"]
    assert result["fingerprint"]["restore_point"] == made
    assert (made["name"], made["lsn"], made["timeline"]) == ("close", "0/3000108", 11)
    assert made["held_ms"] < 10
    assert server.slept == [3.0, 3.0]
    events = server.events
    last_lock = len(events) - 1 - events[::-1].index("guard: lock")
    assert events[last_lock + 1 : last_lock + 8] == [
        "snapshot: begin",
        "snapshot: meta",
        "guard: point",
        "guard: commit",
        # Makes the restore point safe when the locks are gone.
        "guard: begin",
        "guard: durable",
        "guard: commit",
    ]
    assert events.count("snapshot: begin") == 1
    # A failed attempt lets all go before it waits.
    assert events.count("guard: rollback") == 3
    assert server.sessions == 0


def test_everything_that_is_read_is_locked_and_limited() -> None:
    server = Server()
    take(server, Point("close", 0.25), tables=["sale_order"])
    locked = server.sql["lock"]
    for name in (*plan.COUNTED, *plan.ALSO_READ, "sale_order"):
        assert f'"{name}"' in locked
    assert locked.endswith(" IN SHARE MODE")
    assert server.values["limits"] == {"ms": 250}
    assert "idle_in_transaction_session_timeout" in server.sql["limits"]


def test_check_mode_makes_no_point_and_tells_that_it_would() -> None:
    server = Server()
    result = take(server, Point("close"), check=True)
    assert result["changed"]
    assert result["restore_point"] is None
    assert "guard: lock" not in server.events
    assert not any(one.endswith(": point") for one in server.events)


@pytest.mark.parametrize("check", [True, False])
def test_no_point_on_a_replica(check: bool) -> None:
    server = Server()
    server.answers["place"] = [(True,)]
    with pytest.raises(DedicatedError) as refused:
        take(server, Point("close"), check)
    assert code_of(refused) == "in_recovery"
    assert server.sessions == 0


def test_a_fingerprint_of_a_replica_is_one() -> None:
    server = Server()
    server.answers["place"] = [(True,)]
    assert take(server)["fingerprint"]["digest"]


def test_locks_that_do_not_come_are_given_up() -> None:
    server = Server(busy=99)
    with pytest.raises(DedicatedError) as refused:
        take(server, Point("close", lock_attempts=4, lock_pause=1.0))
    assert code_of(refused) == "lock_not_available"
    assert server.slept == [1.0] * 3
    assert server.events.count("guard: lock") == 4
    assert server.events[-1] == "guard: rollback"
    assert server.sessions == 0


@pytest.mark.parametrize("query", ["meta", "point", "durable"])
def test_trouble_while_the_tables_are_locked_lets_them_go(query: str) -> None:
    server = Server(broken={query: io.Failed("gone", code="query_failed")})
    with pytest.raises(DedicatedError):
        take(server, Point("close"))
    assert server.sessions == 0


@pytest.mark.parametrize("point", [None, Point("close")], ids=["plain", "point"])
def test_declared_table_that_is_not_there(point: Point | None) -> None:
    server = Server()
    with pytest.raises(DedicatedError) as refused:
        take(server, point, tables=["no_such_table"])
    assert code_of(refused) == "unknown_table"
    assert "guard: lock" not in server.events


@pytest.mark.parametrize("point", [None, Point("close")], ids=["plain", "point"])
def test_database_without_accounting(point: Point | None) -> None:
    server = Server()
    server.answers["tables"] = [("ir_attachment",)]
    with pytest.raises(DedicatedError) as refused:
        take(server, point)
    assert code_of(refused) == "no_ledger"


@pytest.mark.parametrize(("point", "tables"), [(Point("a b"), []), (None, ["A"])])
def test_bad_wish_is_refused_before_anything_is_asked(point: Point | None, tables: list[str]) -> None:
    server = Server()
    with pytest.raises(DedicatedError):
        take(server, point, tables=tables)
    assert server.events == []


# Reconciliation


def test_same_ledger_is_accepted() -> None:
    server = Server()
    before = take(server, tables=["sale_order"])["fingerprint"]
    result = reconcile(server, before)
    assert result["accepted"]
    assert result["fingerprint"]["digest"] == before["digest"]
    assert result["report"].startswith("ACCEPTED")
    assert not result["changed"]
    assert server.sessions == 0


def test_declared_table_that_was_not_restored() -> None:
    server = Server()
    before = take(server, tables=["sale_order"])["fingerprint"]
    server.answers["tables"].remove(("sale_order",))
    assert codes(reconcile(server, before)) == {"row_counts", "digest"}


ROW_DAMAGES: dict[str, tuple[str, list[tuple[t.Any, ...]], str]] = {
    "out of balance": ("unbalanced", [(1, 7, "INV/7", 2, 5, 4, 0, 1)], "entries_balanced"),
    "no lines": ("unbalanced", [(1, 7, None, 0, 0, 0, 0, 1)], "entries_balanced"),
    "line's balance": ("unbalanced", [(1, 7, "INV/7", 2, 5, 5, 1, 1)], "entries_balanced"),
    "orphans": ("orphans", [(3,)], "entries_balanced"),
    "open item": ("unsettled", [(1, 9, "INV/7", 5, 0, 1)], "open_items_settled"),
    "hash": ("hashed", [(7, 1, 1, "INV/7", "2026-01-01", "INV/", 0, "$4$" + "a" * 64)], "hash_chain"),
    "no content": ("attachments", [(4, SHA1, 7, None, None)], "attachments_present"),
    "other content": ("contents", [(4, SHA1, 7, None, 7, b"invoicf")], "attachments_content"),
}


@pytest.mark.parametrize("damage", ROW_DAMAGES)
def test_damage_of_rows_is_found_without_a_fingerprint(damage: str) -> None:
    query, rows, code = ROW_DAMAGES[damage]
    server = Server()
    server.answers["duplicates"], server.answers["gaps"] = [], []
    server.answers["sequences"] = [(1, "INV", "INV/", 1, 5, 5, 0, 0)]
    assert codes(reconcile(server)) == set()
    server.answers[query] = rows
    assert codes(reconcile(server)) == {code}


def test_altered_fingerprint_is_refused_before_anything_is_asked() -> None:
    server = Server()
    before = take(server)["fingerprint"]
    before["companies"][0]["drafts"] += 1
    server.events.clear()
    with pytest.raises(DedicatedError) as refused:
        reconcile(server, before)
    assert code_of(refused) == "bad_fingerprint"
    assert server.events == []


def test_hashed_entries_are_judged_in_batches_with_their_lines() -> None:
    server = Server()
    entries, lines, previous = [], [], ""
    for number in range(1, io.BATCH + 3):
        entry = plan.Entry(number, 1, 1, f"INV/{number}", "2026-01-01", "INV/", 0, "")
        own = plan.Line(number, None, 1, 0, 1, None, 2)
        previous = plan.hash_of(previous, entry, [own], 4)
        entries.append((number, 1, 1, f"INV/{number}", "2026-01-01", "INV/", 0, previous))
        lines.append((number, number, None, 1, 0, 1, None, 2))
    server.answers["hashed"] = entries
    connection = server.connect(io.SNAPSHOT)
    asked: list[list[int]] = []

    def rows(query: io.Query, **values: t.Any) -> list[tuple[t.Any, ...]]:
        asked.append(values["ids"])
        return [line for line in lines if line[0] in set(values["ids"])]

    connection.rows = lambda query, **values: (  # type: ignore[method-assign]
        rows(query, **values) if query.name == "hashed_lines" else entries
    )
    chain = plan.Chain()
    wrong = [chain.judge(entry, own) for entry, own in io.entries_of(connection)]
    assert wrong == [None] * len(entries)
    assert [len(ids) for ids in asked] == [io.BATCH, 2]


def test_long_attachment_is_read_in_pieces() -> None:
    content = bytes(range(256)) * (io.PIECE // 256) + b"end"
    server = Server()
    row = (5, hashlib.sha1(content).hexdigest(), len(content), None, len(content))
    server.answers["contents"], server.answers["attachments"] = [(*row, None)], [row]
    server.answers["pieces"] = [(*row, content)]
    result = reconcile(server)
    assert rule(result, "attachments_content") == {"code": "attachments_content", "checked": 1, "ok": True}
    assert server.events.count("snapshot: content_piece") == 2


def in_store(server: Server, name: str, checksum: str = SHA1) -> None:
    row = (5, checksum, 7, name, None)
    server.answers["attachments"].append(row)
    server.answers["contents"].append((*row, None))


def test_what_lies_in_a_store_is_told_as_not_checked() -> None:
    server = Server()
    in_store(server, f"{SHA1[:2]}/{SHA1}")
    in_store(server, "s3:odoo/abc")
    result = reconcile(server)
    assert rule(result, "attachments_content")["checked"] == 1
    assert "2 in a store" in str(why(result, "attachments_content"))


# Documents in an object store


def with_objects() -> Server:
    """One is named twice."""
    server = Server()
    for name in ("s3:odoo/aa", "s3:odoo/bb", "s3:odoo/bb"):
        in_store(server, name)
    return server


def test_an_object_store_that_was_not_asked_is_told() -> None:
    result = reconcile(with_objects())
    assert rule(result, "objects_present")["ok"] is None
    assert "3 lie in an object store" in str(why(result, "objects_present"))
    assert why(reconcile(Server()), "objects_present") == NOTHING


@pytest.mark.parametrize("read", [True, False])
def test_objects_that_are_there(read: bool) -> None:
    result = reconcile(with_objects(), objects=Objects(2, {}, read))
    assert rule(result, "objects_present") == {"code": "objects_present", "checked": 3, "ok": True}
    # Sizes say nothing about bytes.
    assert ("3 in a store" in str(why(result, "attachments_content"))) == (not read)


def test_each_row_whose_object_is_missing_is_listed() -> None:
    result = reconcile(with_objects(), objects=Objects(2, {"s3:odoo/bb": "nothing"}))
    assert "objects_present" in codes(result)
    assert not result["accepted"]
    assert [(one["expected"], one["found"]) for one in result["findings"] if one["code"] == "objects_present"] == [
        ("7 bytes in the object store", "nothing")
    ] * 2


@pytest.mark.parametrize("asked", [0, 1, 3])
def test_an_answer_for_another_database_is_refused(asked: int) -> None:
    with pytest.raises(DedicatedError) as refused:
        reconcile(with_objects(), objects=Objects(asked, {}))
    assert code_of(refused) == "other_objects"


@pytest.mark.parametrize(("content", "ok"), [(b"invoice", True), (b"invoicf", False), (None, False)])
def test_files_of_a_filestore_are_read(tmp_path: Path, content: bytes | None, ok: bool) -> None:
    server = Server()
    in_store(server, f"{SHA1[:2]}/{SHA1}")
    in_store(server, "s3:odoo/abc")
    in_store(server, "../../etc/passwd")
    if content is not None:
        (tmp_path / SHA1[:2]).mkdir()
        (tmp_path / SHA1[:2] / SHA1).write_bytes(content)
    result = reconcile(server, store=io.Filestore(str(tmp_path)))
    assert rule(result, "attachments_content") == {"code": "attachments_content", "checked": 2, "ok": ok}
    assert "2 in a store" in str(why(result, "attachments_content"))


def test_filestore_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DedicatedError) as refused:
        reconcile(Server(), store=io.Filestore(str(tmp_path / "none")))
    assert code_of(refused) == "filestore"


def test_sample_tells_what_it_left_out() -> None:
    server = Server()
    server.answers["attachments"] += [(5, SHA1, 7, None, 7), (6, None, 7, None, 7)]
    result = reconcile(server, attachments=1)
    assert server.values["contents"]["sample"] == 1
    assert why(result, "attachments_content") == "content not checked: 1 without a checksum, 1 left out of the sample"


@pytest.mark.parametrize(("amcheck", "words"), [(False, "not asked for"), (None, "not in this database")])
def test_indexes_that_are_not_checked_are_told(amcheck: bool | None, words: str) -> None:
    server = Server()
    server.answers["extension"] = []
    result = reconcile(server, amcheck=amcheck)
    assert rule(result, "indexes") == {"code": "indexes", "checked": 0, "ok": None}
    assert words in str(why(result, "indexes"))


def test_amcheck_that_is_asked_for_must_be_there() -> None:
    server = Server()
    server.answers["extension"] = []
    with pytest.raises(DedicatedError) as refused:
        reconcile(server, amcheck=True)
    assert code_of(refused) == "no_amcheck"


def test_broken_index_is_a_finding_and_trouble_is_none() -> None:
    server = Server(broken={"index_check": io.Failed("lacks matching index tuple", code="x", sqlstate="XX002")})
    server.answers["indexes"].append((18, "other", False))
    result = reconcile(server)
    assert rule(result, "indexes") == {"code": "indexes", "checked": 2, "ok": False}
    assert not result["accepted"]
    server.broken["index_check"] = io.Failed("connection lost", code="x", sqlstate="57P01")
    with pytest.raises(DedicatedError):
        reconcile(server)


# Modules


@pytest.mark.parametrize("module", [odoo_reconcile, odoo_reconcile_info], ids=lambda one: one.__name__.split(".")[-1])
def test_options_are_documented_as_they_are(module: t.Any) -> None:
    shared = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    documented = {**shared, **yaml.safe_load(module.DOCUMENTATION)["options"]}
    assert set(documented) == set(module.ARGUMENTS)
    for name, spec in module.ARGUMENTS.items():
        shown = {
            key: documented[name][key] for key in ("type", "elements", "default", "required") if key in documented[name]
        }
        if "options" in spec:
            shown["options"] = {
                inner: {key: value for key, value in one.items() if key in ("type", "default", "required")}
                for inner, one in documented[name]["suboptions"].items()
            }
        assert shown == spec, name


def test_results_are_documented_as_they_are() -> None:
    server = Server()
    always = {"changed"}
    info = take(server, Point("close"))
    assert set(info) - always == set(yaml.safe_load(odoo_reconcile_info.RETURN)) - {"code", "refusal"}
    shown = yaml.safe_load(odoo_reconcile_info.RETURN)
    assert set(info["restore_point"]) == set(shown["restore_point"]["contains"])
    assert set(info["fingerprint"]) == set(shown["fingerprint"]["contains"])
    judged = reconcile(server, info["fingerprint"])
    assert set(judged) - always == set(yaml.safe_load(odoo_reconcile.RETURN)) - {"code", "refusal"}


def test_wish_of_options() -> None:
    assert wish_of({"attachments": "7", "amcheck": True, "objects": None}) == Wish(7, True)
    answer = {"asked": 1, "wrong": {}, "read": True}
    assert wish_of({"attachments": "7", "amcheck": True, "objects": answer}).objects == Objects(1, {}, True)
    with pytest.raises(DedicatedError):
        wish_of({"attachments": "some", "amcheck": None, "objects": None})

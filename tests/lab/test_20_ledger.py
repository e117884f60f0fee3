# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Odoo does its work: invoices, a ledger that balances, attachments, reports."""

from __future__ import annotations

import collections
import decimal
import hashlib
import os
import typing as t

from labtools import Api, Browser, Lab, unique


def invoice(call: t.Callable[..., t.Any], partner: int, price: float) -> dict[str, t.Any]:
    """A customer invoice, created, posted and read back."""
    lines = [(0, 0, {"name": "Proof", "quantity": 2, "price_unit": price, "tax_ids": [(6, 0, [])]})]
    values = {"move_type": "out_invoice", "partner_id": partner, "invoice_line_ids": lines}
    number = call("account.move", "create", [values])[0]
    call("account.move", "action_post", [number])
    fields = ["name", "state", "amount_total", "amount_untaxed", "sequence_prefix", "sequence_number", "line_ids"]
    found: dict[str, t.Any] = call("account.move", "read", [number], fields)[0]
    return found


def test_invoice_over_the_external_api(api: Api) -> None:
    partner = api.call("res.partner", "create", [{"name": unique("Customer")}])[0]
    move = invoice(api.call, partner, 123.45)
    assert move["state"] == "posted"
    assert move["amount_total"] == 246.90
    assert move["name"].startswith("INV/")
    lines = api.call("account.move.line", "read", move["line_ids"], ["debit", "credit"])
    assert len(lines) >= 2
    assert sum(line["debit"] for line in lines) == sum(line["credit"] for line in lines) == 246.90


def test_invoices_in_a_session_have_numbers_without_gap(admin: Browser) -> None:
    partner = admin.call("res.partner", "create", [{"name": unique("Customer")}])[0]
    moves = [invoice(admin.call, partner, price) for price in (10, 20.5, 0.01)]
    first = moves[0]["sequence_number"]
    assert [move["sequence_number"] for move in moves] == [first, first + 1, first + 2]
    assert len({move["sequence_prefix"] for move in moves}) == 1


def test_a_posted_invoice_cannot_be_deleted(admin: Browser) -> None:
    partner = admin.call("res.partner", "create", [{"name": unique("Customer")}])[0]
    invoice(admin.call, partner, 5)
    move = invoice(admin.call, partner, 6)
    body = {"model": "account.move", "method": "unlink", "args": [[move["id"] - 1, move["id"]]], "kwargs": {}}
    answer = admin.post(
        admin.at("/web/dataset/call_kw/account.move/unlink"), json={"jsonrpc": "2.0", "params": body}, timeout=60
    ).json()
    assert "error" in answer
    assert admin.call("account.move", "search_count", [["id", "=", move["id"]]]) == 1


def test_the_whole_ledger_balances(api: Api) -> None:
    total: dict[str, decimal.Decimal] = collections.defaultdict(decimal.Decimal)
    moves: dict[int, decimal.Decimal] = collections.defaultdict(decimal.Decimal)
    lines = api.call(
        "account.move.line", "search_read", [["parent_state", "=", "posted"]], ["debit", "credit", "move_id"]
    )
    assert lines, "no posted lines: the invoices above were not made"
    for line in lines:
        for side, sign in (("debit", 1), ("credit", -1)):
            amount = decimal.Decimal(str(line[side]))
            total[side] += amount
            moves[line["move_id"][0]] += sign * amount
    assert total["debit"] == total["credit"] > 0
    assert not {move: rest for move, rest in moves.items() if rest}


def test_no_sequence_of_posted_moves_has_a_gap(api: Api) -> None:
    moves = api.call(
        "account.move", "search_read", [["state", "=", "posted"]], ["journal_id", "sequence_prefix", "sequence_number"]
    )
    series: dict[tuple[int, str], list[int]] = collections.defaultdict(list)
    for move in moves:
        series[move["journal_id"][0], move["sequence_prefix"]].append(move["sequence_number"])
    assert series
    for key, numbers in series.items():
        assert sorted(numbers) == list(range(min(numbers), min(numbers) + len(numbers))), key


def test_attachment_goes_up_and_comes_down_equal(lab: Lab, admin: Browser) -> None:
    # Larger than what the edge keeps in memory; random, so that nothing can compress or guess it.
    data = os.urandom(5 * 1024 * 1024)
    partner = admin.call("res.partner", "create", [{"name": unique("Customer")}])[0]
    name = unique("proof") + ".bin"
    up = admin.post(
        admin.at("/web/binary/upload_attachment"),
        data={"model": "res.partner", "id": str(partner), "csrf_token": admin.csrf()},
        files={"ufile": (name, data, "application/octet-stream")},
        timeout=60,
    )
    assert up.status_code == 200, up.text[:300]
    number = admin.call("ir.attachment", "search", [["name", "=", name], ["res_id", "=", partner]])[0]
    down = admin.get(admin.at(f"/web/content/{number}?download=true"), timeout=60)
    assert down.status_code == 200
    assert down.content == data
    # In the database: a backup of the database is a backup of everything, and a second host needs no shared disk.
    where = lab.leader().sql(
        "SELECT octet_length(db_datas), encode(sha256(db_datas), 'hex'), coalesce(store_fname, '') "
        f"FROM ir_attachment WHERE id = {int(number)}",
        lab.database,
    )
    assert where == [[str(len(data)), hashlib.sha256(data).hexdigest(), ""]]


def test_an_attachment_is_not_for_everybody(lab: Lab, admin: Browser) -> None:
    number = admin.call("ir.attachment", "create", [{"name": unique("secret"), "raw": "c2VjcmV0"}])[0]
    assert Browser(lab).get(f"{lab.url}/web/content/{number}", timeout=30).status_code == 404


def test_nothing_is_stored_in_files(lab: Lab) -> None:
    assert lab.leader().sql("SELECT count(*) FROM ir_attachment WHERE store_fname IS NOT NULL", lab.database) == [["0"]]


def test_the_invoice_report_renders(admin: Browser) -> None:
    customer = unique("Customer")
    partner = admin.call("res.partner", "create", [{"name": customer}])[0]
    move = invoice(admin.call, partner, 77)
    page = admin.get(admin.at(f"/report/html/account.report_invoice/{move['id']}"), timeout=90)
    assert page.status_code == 200
    assert move["name"] in page.text
    assert customer in page.text
    assert "154.00" in page.text


def test_json2_api_wants_a_key(lab: Lab) -> None:
    """Odoo 19's newer API: closed without a key, open with one."""
    url = f"{lab.url}/json/2/res.partner/search_count"
    browser = Browser(lab)
    assert browser.post(url, json={"domain": []}, timeout=30).status_code == 401
    headers = {"Authorization": "bearer not-a-key"}
    assert browser.post(url, json={"domain": []}, headers=headers, timeout=30).status_code == 401


def test_a_wrong_password_is_refused(lab: Lab) -> None:
    browser = Browser(lab)
    page = browser.get(f"{lab.url}/web/login", timeout=30)
    token = page.text.split('name="csrf_token" value="')[1].split('"')[0]
    form = {"login": lab.login, "password": "not-the-password", "csrf_token": token}
    answer = browser.post(f"{lab.url}/web/login", data=form, allow_redirects=False, timeout=30)
    assert answer.status_code == 200
    assert "Wrong login/password" in answer.text


def test_a_form_without_csrf_token_is_refused(lab: Lab) -> None:
    form = {"login": lab.login, "password": lab.password}
    answer = Browser(lab).post(f"{lab.url}/web/login", data=form, allow_redirects=False, timeout=30)
    assert answer.status_code == 400

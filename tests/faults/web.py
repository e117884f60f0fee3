# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests at a constant rate through every edge, and a bookkeeper who posts invoices. Both run beside the lab.

The rate is an open loop: a request is sent when its time has come, whatever became of those before it, as users do.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
import typing as t

import requests
import requests.adapters
import verdict
from labtools import Browser, Lab, RpcError, unique

LONGEST = 100.0  # longer than PgBouncer keeps a client waiting


class Visit(http.client.HTTPSConnection):
    """The site through one certain edge: name and certificate are those of the site."""

    def __init__(self, lab: Lab, address: str, context: ssl.SSLContext) -> None:
        super().__init__(lab.domain, timeout=LONGEST, context=context)
        self.edge, self.tls = address, context

    def connect(self) -> None:
        plain = socket.create_connection((self.edge, 443), timeout=10)
        plain.settimeout(LONGEST)
        self.sock = self.tls.wrap_socket(plain, server_hostname=self.host)


class Pinned(requests.adapters.HTTPAdapter):
    """For a browser: one certain edge, under the site's name."""

    def __init__(self, lab: Lab, address: str) -> None:
        self.address, self.domain = address, lab.domain
        super().__init__()

    def init_poolmanager(self, *arguments: t.Any, **more: t.Any) -> None:
        super().init_poolmanager(*arguments, server_hostname=self.domain, assert_hostname=self.domain, **more)

    def get_connection_with_tls_context(
        self, request: t.Any, verify: t.Any, proxies: t.Any = None, cert: t.Any = None
    ) -> t.Any:
        where, how = self.build_connection_pool_key_attributes(request, verify, cert)
        return self.poolmanager.connection_from_host(**where | {"host": self.address}, pool_kwargs=how)


def through(browser: Browser, address: str) -> Browser:
    """The browser, from now on through this edge."""
    browser.mount(browser.lab.url, Pinned(browser.lab, address))
    browser.headers["Host"] = browser.lab.domain
    return browser


class Web:
    """Asks through every target, by turns: a call of a logged-in user, his page, and somebody's login page."""

    # Per second and target. A request costs 30 ms and a page more, and a whole lab may share two cores.
    RATE = 2.5
    TURNS = ("call", "call", "page", "call", "login", "call")

    def __init__(self, lab: Lab, targets: t.Mapping[str, str], browser: Browser) -> None:
        self.lab, self.targets, self.session = lab, targets, browser.session_id
        self.context = lab.context()
        self.done = threading.Event()
        self.lock = threading.Lock()
        self.requests: list[verdict.Request] = []
        self.threads = [threading.Thread(target=self.pace, args=one, daemon=True) for one in enumerate(targets)]
        self.under_way: list[threading.Thread] = []

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def pace(self, number: int, target: str) -> None:
        # Targets take turns instead of asking at the same moment.
        due = time.monotonic() + number / self.RATE / len(self.targets)
        turn = number
        while not self.done.wait(max(0.0, due - time.monotonic())):
            kind = self.TURNS[turn % len(self.TURNS)]
            one = threading.Thread(target=self.visit, args=(target, kind), daemon=True)
            one.start()
            with self.lock:
                self.under_way = [thread for thread in self.under_way if thread.is_alive()] + [one]
            due, turn = due + 1 / self.RATE, turn + 1

    def visit(self, target: str, kind: str) -> None:
        started = time.monotonic()
        try:
            fate, detail = self.ask(self.targets[target], kind)
        except (OSError, http.client.HTTPException) as error:
            fate, detail = verdict.fate_of(kind, None, {}, f"{type(error).__name__} {error}")
        request = verdict.Request(target, kind, started, time.monotonic() - started, fate, detail)
        with self.lock:
            self.requests.append(request)

    def ask(self, address: str, kind: str) -> tuple[str, str]:
        headers = {"User-Agent": "dedicated-odoo-faults", "Connection": "close"}
        body = None
        if kind != "login":
            headers["Cookie"] = f"session_id={self.session}"
        if kind == "call":
            headers["Content-Type"] = "application/json"
            params = {"model": "res.partner", "method": "search_count", "args": [[]], "kwargs": {}}
            body = json.dumps({"jsonrpc": "2.0", "params": params})
        path = {
            "call": "/web/dataset/call_kw/res.partner/search_count",
            "page": "/odoo",
            "login": "/web/login",
        }[kind]
        visit = Visit(self.lab, address, self.context)
        try:
            visit.request("POST" if body else "GET", path, body, headers)
            answer = visit.getresponse()
            text = answer.read().decode(errors="replace")
            lower = {name.lower(): value for name, value in answer.getheaders()}
            return verdict.fate_of(kind, answer.status, lower, text)
        finally:
            visit.close()

    def stop(self) -> None:
        """No more requests; those under way come to their end, or their time-out."""
        self.done.set()
        for thread in [*self.threads, *self.under_way]:
            thread.join(LONGEST + 5)

    def asked(self, target: str) -> list[verdict.Request]:
        with self.lock:
            return [one for one in self.requests if one.target == target]


class Bookkeeper(threading.Thread):
    """Posts an invoice every other second; when the answer stays out, asks the ledger before trying again."""

    PAUSE = 2.0

    def __init__(self, lab: Lab, browser: Browser) -> None:
        super().__init__(daemon=True)
        self.lab, self.browser = lab, browser
        self.done = threading.Event()
        self.posted: dict[str, int] = {}
        self.doubtful = 0
        self.errors: list[str] = []

    def find(self, word: str) -> list[int]:
        found: list[int] = self.browser.call("account.move", "search", [["ref", "=", word]])
        return found

    def post(self, partner: int, word: str) -> int:
        lines = [(0, 0, {"name": word, "quantity": 1, "price_unit": 10, "tax_ids": [(6, 0, [])]})]
        values = {"move_type": "out_invoice", "partner_id": partner, "ref": word, "invoice_line_ids": lines}
        known = self.find(word)
        number: int = known[0] if known else self.browser.call("account.move", "create", [values])[0]
        state = self.browser.call("account.move", "read", [number], ["state"])[0]["state"]
        if state != "posted":
            self.browser.call("account.move", "action_post", [number])
        return number

    def run(self) -> None:
        partner = None
        while not self.done.is_set():
            word = unique("fault")
            while not self.done.is_set():
                try:
                    partner = partner or self.browser.call("res.partner", "create", [{"name": unique("Fault")}])[0]
                    self.posted[word] = self.post(partner, word)
                    break
                except (RpcError, AssertionError, OSError) as error:
                    self.doubtful += 1
                    self.errors.append(str(error)[:200])
                    self.done.wait(0.5)
            self.done.wait(self.PAUSE)

    def finish(self) -> None:
        self.done.set()
        self.join(LONGEST)

    def audit(self, leader_sql: t.Callable[[str], list[list[str]]]) -> list[str]:
        """What is wrong with the books; nothing when they are right."""
        said = []
        states = dict(
            leader_sql("SELECT ref, string_agg(state, ' ') FROM account_move WHERE ref LIKE 'fault-%' GROUP BY 1")
        )
        for word in self.posted:
            if states.get(word) != "posted":
                said.append(f"{word} was answered as posted and is {states.get(word, 'not there')}")
        said += [f"{word} is there twice: {state}" for word, state in states.items() if " " in state]
        wrong = leader_sql(
            "SELECT l.move_id, sum(l.debit) - sum(l.credit) FROM account_move_line l JOIN account_move m ON "
            "m.id = l.move_id WHERE m.state = 'posted' GROUP BY 1 HAVING sum(l.debit) <> sum(l.credit)"
        )
        said += [f"move {move} does not balance: {rest}" for move, rest in wrong]
        holes = leader_sql(
            "SELECT journal_id, sequence_prefix, max(sequence_number) - min(sequence_number) + 1, count(*) "
            "FROM account_move WHERE state = 'posted' GROUP BY 1, 2 "
            "HAVING max(sequence_number) - min(sequence_number) + 1 <> count(*)"
        )
        return said + [f"series {prefix} of journal {one}: {span} numbers, {n} moves" for one, prefix, span, n in holes]

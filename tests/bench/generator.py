# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load generator. Runs on the lab host with nothing but its Python: reads a plan (JSON) on standard input, writes
one JSON line per leg. One process for the whole plan, so that every leg meets the same generator.

HTTP is spoken by hand: http.client spends 0.3 ms of CPU on a request, on the cores that are measured.
"""

from __future__ import annotations

import datetime
import json
import resource
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

TIMEOUT = 60.0
LISTED = 40
Json = dict[str, Any]


class BadAnswer(Exception):
    """Odoo answered with something that the workload does not expect."""


class Client:
    """One connection to one target, kept open when the target's `keep` says so and the server does too."""

    def __init__(self, target: Json, cookie: str = "") -> None:
        self.target = target
        self.cookie = cookie
        self.stream: Any = None
        self.connections = 0
        self.context: ssl.SSLContext | None = None
        if target.get("ca"):
            self.context = ssl.create_default_context(cadata=target["ca"])

    def connect(self) -> None:
        raw = socket.create_connection((self.target["address"], self.target["port"]), timeout=TIMEOUT)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context is not None:
            raw = self.context.wrap_socket(raw, server_hostname=self.target["host"])
        self.socket = raw
        self.stream = raw.makefile("rb")
        self.connections += 1

    def close(self) -> None:
        if self.stream is not None:
            self.stream.close()
            self.socket.close()
            self.stream = None

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, bytes]:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.target['host']}", "Accept: */*", "User-Agent: bench"]
        if self.cookie:
            lines.append(f"Cookie: {self.cookie}")
        if body:
            lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        if not self.target["keep"]:
            lines.append("Connection: close")
        message = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        if self.stream is None:
            self.connect()
        self.socket.sendall(message)
        return self.answer()

    def answer(self) -> tuple[int, bytes]:
        status_line = self.stream.readline()
        if not status_line:
            raise BadAnswer("connection closed before an answer")
        headers: dict[bytes, bytes] = {}
        while (line := self.stream.readline().rstrip()) != b"":
            name, _, value = line.partition(b":")
            name, value = name.lower(), value.strip()
            headers[name] = value
            if name == b"set-cookie" and value.startswith(b"session_id="):
                self.cookie = value.split(b";")[0].decode()
        if headers.get(b"transfer-encoding") == b"chunked":
            body = b""
            while (size := int(self.stream.readline().split(b";")[0], 16)) > 0:
                body += self.stream.read(size)
                self.stream.readline()
            self.stream.readline()
        elif b"content-length" in headers:
            body = self.stream.read(int(headers[b"content-length"]))
        else:
            body = self.stream.read()
        closes = headers.get(b"connection", b"").lower() == b"close" or status_line.startswith(b"HTTP/1.0")
        if closes or not self.target["keep"]:
            self.close()
        return int(status_line.split(b" ", 2)[1]), body

    def rpc(self, path: str, params: Json) -> Any:
        message = json.dumps({"jsonrpc": "2.0", "method": "call", "params": params}).encode()
        status, body = self.request("POST", path, message, "application/json")
        if status != 200:
            raise BadAnswer(f"{path}: {status} {body[:200]!r}")
        answer = json.loads(body)
        if "error" in answer:
            error = answer["error"]
            raise BadAnswer(f"{path}: {error.get('message')}: {error.get('data', {}).get('message')}")
        return answer.get("result")

    def call(self, model: str, method: str, args: list[Any], **kwargs: Any) -> Any:
        return self.rpc(f"/web/dataset/call_kw/{model}/{method}",
                        {"model": model, "method": method, "args": args, "kwargs": kwargs})


class Books:
    """What the business mix works on: a customer, a journal for each client, and enough invoices to list."""

    def __init__(self, client: Client, clients: int) -> None:
        self.client = client
        self.today = datetime.date.today().isoformat()
        self.customer = self.find_or_make("res.partner", [["name", "=", "Bench customer"]], {"name": "Bench customer"})
        sales = client.call("account.journal", "search_read", [[["type", "=", "sale"], ["code", "not like", "BEN"]]],
                            fields=["default_account_id"], limit=1)
        account = sales[0]["default_account_id"][0]
        # Two postings into one journal wait for each other's number: that would measure Odoo's sequence, not the stack.
        self.journals = [
            self.find_or_make("account.journal", [["code", "=", f"BEN{n}"]],
                              {"name": f"Bench {n}", "code": f"BEN{n}", "type": "sale", "default_account_id": account})
            for n in range(clients)]
        self.seeded = client.call("account.move", "create", [[self.invoice(self.journals[0]) for _ in range(LISTED)]])

    def find_or_make(self, model: str, domain: list[Any], values: Json) -> int:
        found = self.client.call(model, "search", [domain], limit=1)
        if found:
            self.client.call(model, "write", [found, values])
            return int(found[0])
        made = self.client.call(model, "create", [[values]])
        return int(made[0])

    def invoice(self, journal: int) -> Json:
        lines = [[0, 0, {"name": f"Work {n}", "quantity": n, "price_unit": 100.0}] for n in (1, 2, 3)]
        return {"move_type": "out_invoice", "partner_id": self.customer, "journal_id": journal,
                "invoice_date": self.today, "invoice_line_ids": lines}

    def remove(self) -> int:
        """Delete every invoice of the bench's journals; how many."""
        removed = 0
        mine = [["journal_id", "in", self.journals]]
        while ids := self.client.call("account.move", "search", [mine], limit=100, order="id desc"):
            posted = self.client.call("account.move", "search", [[["id", "in", ids], ["state", "!=", "draft"]]])
            if posted:
                self.client.call("account.move", "button_draft", [posted])
            self.client.call("account.move", "unlink", [ids], context={"force_delete": True})
            removed += len(ids)
        return removed


Step = tuple[str, float]


def login_page(client: Client, number: int, books: Books | None) -> list[Step]:
    started = time.perf_counter()
    status, body = client.request("GET", "/web/login")
    if status != 200 or b"csrf_token" not in body:
        raise BadAnswer(f"/web/login: {status}, {len(body)} bytes")
    return [("page", time.perf_counter() - started)]


def business(client: Client, number: int, books: Books | None) -> list[Step]:
    assert books is not None
    steps: list[Step] = []

    def timed(name: str, function: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = function()
        steps.append((name, time.perf_counter() - started))
        return result

    def listing() -> Any:
        return client.call("account.move", "search_read", [[["move_type", "=", "out_invoice"]]], limit=LISTED,
                           order="id desc", fields=["name", "partner_id", "invoice_date", "amount_total", "state"])

    def report() -> None:
        status, body = client.request("GET", f"/report/html/account.report_invoice/{made}")
        if status != 200 or b"Work 3" not in body:
            raise BadAnswer(f"report: {status}, {len(body)} bytes")

    listed = timed("list", listing)
    one = listed[len(listed) // 2]["id"]
    timed("read", lambda: client.call("account.move", "web_read", [[one]], specification={
        "name": {}, "state": {}, "amount_total": {}, "partner_id": {"fields": {"display_name": {}}},
        "invoice_line_ids": {"fields": {"name": {}, "quantity": {}, "price_subtotal": {}}}}))
    journal = books.journals[number]
    made = timed("create", lambda: client.call("account.move", "create", [[books.invoice(journal)]]))[0]
    timed("post", lambda: client.call("account.move", "action_post", [[made]]))
    timed("print", report)
    return steps


WORK: dict[str, Callable[[Client, int, Books | None], list[Step]]] = {"login": login_page, "mix": business}


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run_leg(leg: Json, clients: list[Client], books: Books | None) -> Json:
    """Every client repeats the work until the time is over; what it began, it finishes."""
    work = WORK[leg["work"]]
    done: list[list[Step]] = [[] for _ in clients]
    rates = [0.0] * len(clients)
    failures: list[str] = []
    barrier = threading.Barrier(len(clients))

    def loop(number: int) -> None:
        barrier.wait()
        started = time.perf_counter()
        try:
            rounds = 0
            while rounds < leg.get("at_least", 1) or time.perf_counter() - started < leg["seconds"]:
                done[number] += work(clients[number], number, books)
                rounds += 1
        except (BadAnswer, OSError, ValueError) as exc:
            failures.append(f"{type(exc).__name__}: {exc}")
            clients[number].close()
        rates[number] = len(done[number]) / (time.perf_counter() - started)

    before = resource.getrusage(resource.RUSAGE_SELF)
    connections = sum(c.connections for c in clients)
    threads = [threading.Thread(target=loop, args=(n,)) for n in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = resource.getrusage(resource.RUSAGE_SELF)
    steps = [step for one in done for step in one]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    by_step: dict[str, list[float]] = {}
    for name, seconds in steps:
        by_step.setdefault(name, []).append(seconds)
    times = [seconds for _, seconds in steps]
    return {
        **leg, "requests": len(steps), "failures": failures,
        "connections": sum(c.connections for c in clients) - connections,
        "per_second": sum(rates), "p50_ms": 1000 * percentile(times, 0.5) if times else None,
        "p95_ms": 1000 * percentile(times, 0.95) if times else None,
        "mean_ms": 1000 * sum(times) / len(times) if times else None,
        "generator_cpu_ms": 1000 * cpu / max(1, len(steps)),
        "steps_p50_ms": {name: 1000 * percentile(values, 0.5) for name, values in by_step.items()},
    }


def emit(value: Json) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    plan: Json = json.load(sys.stdin)
    most = max(leg["clients"] for leg in plan["legs"])
    pools: dict[tuple[str, str], list[Client]] = {}
    books: Books | None = None
    works = {(leg["target"], leg["work"]) for leg in plan["legs"]}
    for target, work in sorted(works):
        first = Client(plan["targets"][target])
        if work == "mix":
            first.rpc("/web/session/authenticate",
                      {"db": plan["database"], "login": plan["login"], "password": plan["password"]})
            books = books or Books(first, most)
        else:
            first.request("GET", "/web/login")
        pools[target, work] = [first] + [Client(plan["targets"][target], first.cookie) for _ in range(most - 1)]
    try:
        for leg in plan["legs"]:
            emit(run_leg(leg, pools[leg["target"], leg["work"]][: leg["clients"]], books))
    finally:
        if books is not None:
            try:
                emit({"removed": books.remove()})
            except (BadAnswer, OSError) as exc:
                emit({"removed": None, "why": str(exc)})


if __name__ == "__main__":
    main()

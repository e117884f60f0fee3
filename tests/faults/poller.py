# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the PostgreSQL of its own host every 200 ms whether it takes a write and acknowledges it. Runs on that host.

    poller.py MEMBER SOCKETS DATABASE PATRONI CA

A write that hangs is no acknowledgement, and nothing more is sent until it ends. One JSON line per acknowledgement
and per change of what the member is; Patroni's role and timeline are noted when they change. It stops when its
standard input ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import ssl
import sys
import threading
import time
import typing as t
import urllib.error
import urllib.request

import psycopg2
from psycopg2 import extensions

EVERY = 0.2
HANGS = 1.0
TIMELINE = "('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int"
INSERT = f"INSERT INTO fault_probe.poll (member) VALUES (%s) RETURNING {TIMELINE}"
lock = threading.Lock()


def say(what: str, **more: t.Any) -> None:
    line = json.dumps({"what": what, "at": round(time.monotonic(), 4), **more})
    with lock:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def stop_with_input() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def watch_patroni(url: str, ca: str) -> None:
    context, last = ssl.create_default_context(cafile=ca), None
    while True:
        try:
            answer = urllib.request.urlopen(url, timeout=2, context=context).read()
        except urllib.error.HTTPError as error:
            answer = error.read()
        except OSError:
            answer = b"{}"
        known: dict[str, t.Any] = {}
        with contextlib.suppress(ValueError):
            known = json.loads(answer)
        now = {key: known.get(key) for key in ("role", "state", "timeline", "failsafe_mode_is_active")}
        if now != last:
            say("patroni", **now)
            last = now
        time.sleep(0.5)


class Member:
    """One connection, one question at a time: first whether it recovers, then, if not, a write."""

    def __init__(self, name: str, dsn: str) -> None:
        self.name, self.dsn = name, dsn
        self.connection: t.Any = None
        self.cursor: t.Any = None
        self.stage = "away"
        self.sent = 0.0
        self.shown = ""

    def show(self, state: str, why: str = "") -> None:
        if state != self.shown:
            say("state", state=state, why=why.replace("\n", " ")[:160])
            self.shown = state

    def ask(self) -> None:
        self.sent = time.monotonic()
        if self.connection is None:
            self.stage = "connect"
            self.connection = psycopg2.connect(self.dsn, async_=1)
            return
        self.cursor = self.connection.cursor()
        self.stage = "role"
        self.cursor.execute("SELECT pg_is_in_recovery()")

    def answered(self) -> None:
        if self.stage == "role" and not self.cursor.fetchone()[0]:
            self.stage, self.sent = "write", time.monotonic()
            self.cursor.execute(INSERT, (self.name,))
            return
        if self.stage == "role":
            self.show("replica")
        elif self.stage == "write":
            say("ack", sent=round(self.sent, 4), timeline=self.cursor.fetchone()[0])
            self.show("accepts")
        self.stage = "idle"

    def turn(self, until: float) -> None:
        """Go on with the question that is under way, until then at the longest."""
        while self.stage not in ("idle", "away"):
            state = self.connection.poll()
            left = until - time.monotonic()
            if state == extensions.POLL_OK:
                self.answered()
            elif left <= 0:
                break
            elif state == extensions.POLL_READ:
                select.select([self.connection.fileno()], [], [], left)
            else:
                select.select([], [self.connection.fileno()], [], left)
        if self.stage not in ("idle", "away") and time.monotonic() - self.sent > HANGS:
            self.show(f"hangs in {self.stage}")

    def run(self) -> None:
        while True:
            until = time.monotonic() + EVERY
            try:
                if self.stage in ("idle", "away"):
                    self.ask()
                self.turn(until)
            except psycopg2.Error as error:
                self.show("away", str(error))
                if self.connection is not None:
                    self.connection.close()
                self.connection, self.stage = None, "away"
            time.sleep(max(0.0, until - time.monotonic()))


def main() -> None:
    name, sockets, database, patroni, ca = sys.argv[1:]
    threading.Thread(target=stop_with_input, daemon=True).start()
    threading.Thread(target=watch_patroni, args=(f"{patroni}/patroni", ca), daemon=True).start()
    Member(name, f"host={sockets} user=postgres dbname={database}").run()


main()

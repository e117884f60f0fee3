# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the leader for signs of life: its REST interface, its PostgreSQL port, and our own replication stream.

A sign of life is any answer by a process over there. What a kernel does alone is none: a frozen process still has its
connections accepted. What fails on this side (a file missing, no descriptor, no route) says nothing about the leader.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import queue
import select
import socket
import ssl
import threading
import time
import typing as t

from . import plan
from .etcd import Tls

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


@dataclasses.dataclass(frozen=True)
class Finding:
    """``alive`` None: it could not be asked."""

    alive: bool | None
    detail: str
    streaming: bool = False


class Deadline:
    """One limit for all steps of a probe."""

    def __init__(self, seconds: float, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = clock() + seconds

    def left(self) -> float:
        left = self._until - self._clock()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


def judged(exc: Exception) -> Finding:
    """What an error says about the other side."""
    detail = f"{type(exc).__name__}: {exc}"
    if isinstance(exc, (ssl.SSLEOFError, TimeoutError, ConnectionError)):
        return Finding(False, detail)
    # Somebody over there speaks TLS, if not as we like it: a certificate that ran out is no death.
    if isinstance(exc, ssl.SSLError):
        return Finding(True, detail)
    # No route to a network may be our own trouble; a neighbour that does not answer for its address is not.
    if isinstance(exc, OSError) and exc.errno == errno.EHOSTUNREACH:
        return Finding(False, detail)
    return Finding(None, detail)


def ask_rest(address: plan.Address, context: ssl.SSLContext, seconds: float) -> Finding:
    """Any answer to a question that Patroni puts to PostgreSQL first: it answers at once that the server is down or
    starting, and not at all while that hangs.
    """
    deadline = Deadline(seconds)
    with socket.create_connection(address, timeout=deadline.left()) as plain:
        plain.settimeout(deadline.left())
        with context.wrap_socket(plain, server_hostname=address[0]) as talk:
            talk.settimeout(deadline.left())
            talk.sendall(f"GET /primary HTTP/1.1\r\nHost: {address[0]}\r\nConnection: close\r\n\r\n".encode())
            talk.settimeout(deadline.left())
            answer = talk.recv(4096)
            if not answer:
                return Finding(False, "closed without an answer")
            line = answer.split(b"\r\n", 1)[0].decode("ascii", "backslashreplace")
            # The rest is read so that the server need not complain about a broken connection.
            with contextlib.suppress(OSError):
                while talk.recv(4096):
                    talk.settimeout(deadline.left())
    return Finding(True, line[:100])


def ask_postgres(address: plan.Address, context: ssl.SSLContext, seconds: float) -> Finding:
    """Any answer to a request for TLS: a server process was forked for it."""
    deadline = Deadline(seconds)
    with socket.create_connection(address, timeout=deadline.left()) as plain:
        plain.settimeout(deadline.left())
        plain.sendall(SSL_REQUEST)
        plain.settimeout(deadline.left())
        answer = plain.recv(1)
        if not answer:
            return Finding(False, "closed without an answer")
        # Whoever leaves in the middle of a handshake is written into PostgreSQL's log; a farewell after it is not.
        if answer == b"S":
            with contextlib.suppress(OSError):
                plain.settimeout(deadline.left())
                with context.wrap_socket(plain, server_hostname=address[0]) as talk:
                    talk.settimeout(deadline.left())
                    talk.unwrap()
    return Finding(True, f"answered {answer!r}")


# --- our own replication stream ---------------------------------------------------------------------------------------

RECEIVER = (
    "SELECT pid, status, sender_host, sender_port, latest_end_lsn::text, last_msg_receipt_time::text "
    "FROM pg_catalog.pg_stat_wal_receiver"
)
Row = tuple[t.Any, ...]


class Database(t.Protocol):
    def rows(self, query: str, seconds: float) -> list[Row]:
        """Raises TimeoutError, or ConnectionError when it cannot be asked."""


class LocalDatabase:
    """This host's PostgreSQL over its Unix socket. Asynchronous, so that a frozen one cannot hold us."""

    def __init__(self, socket_dir: str) -> None:
        import psycopg2

        self._psycopg2: t.Any = psycopg2
        self._socket_dir = socket_dir
        self._connection: t.Any = None

    def _wait(self, deadline: Deadline) -> None:
        poll = self._psycopg2.extensions
        while True:
            state = self._connection.poll()
            if state == poll.POLL_OK:
                return
            mine = [self._connection.fileno()]
            if state == poll.POLL_READ:
                select.select(mine, [], [], deadline.left())
            else:
                select.select([], mine, [], deadline.left())
            deadline.left()

    def rows(self, query: str, seconds: float) -> list[Row]:
        deadline = Deadline(seconds)
        try:
            if self._connection is None:
                self._connection = self._psycopg2.connect(
                    host=self._socket_dir,
                    user="postgres",
                    dbname="postgres",
                    application_name="dedicated-detector",
                    async_=True,
                )
                self._wait(deadline)
            cursor = self._connection.cursor()
            cursor.execute(query)
            self._wait(deadline)
            return [tuple(row) for row in cursor.fetchall()]
        except BaseException as exc:
            self.close()
            if isinstance(exc, self._psycopg2.Error):
                raise ConnectionError(str(exc).strip()) from exc
            raise

    def close(self) -> None:
        kept, self._connection = self._connection, None
        if kept is not None:
            with contextlib.suppress(self._psycopg2.Error):
                kept.close()


class Stream:
    """Alive: a message came from the leader since the last look. Times are only compared with each other."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last: tuple[plan.Target, Row] | None = None

    def ask(self, target: plan.Target, seconds: float) -> Finding:
        try:
            rows = self._database.rows(RECEIVER, seconds)
        except (TimeoutError, ConnectionError) as exc:
            # No sign of life from there, and no witness for it either.
            self._last = None
            return Finding(False, f"own PostgreSQL: {exc}")
        if not rows:
            self._last = None
            return Finding(False, "no WAL receiver")
        pid, status, host, port, end, receipt = rows[0]
        if (host, port) != target.postgres:
            self._last = None
            return Finding(False, f"receives from {host}:{port}")
        last, self._last = self._last, (target, (pid, end, receipt))
        streaming = status == "streaming"
        if last is None or last[0] != target:
            return Finding(False, f"{status} at {end}, first look", streaming)
        if streaming and last[1] != (pid, end, receipt):
            return Finding(True, f"received up to {end}", True)
        return Finding(False, f"{status} at {end}, nothing new", streaming)


# --- asking all the time ----------------------------------------------------------------------------------------------

Ask = t.Callable[[plan.Target], Finding]


def asks(tls: Tls, database: Database, seconds: float) -> dict[str, Ask]:
    stream = Stream(database)
    return {
        plan.REST: lambda target: ask_rest(target.rest, tls.context(), seconds),
        plan.POSTGRES: lambda target: ask_postgres(target.postgres, tls.context(), seconds),
        plan.STREAM: lambda target: stream.ask(target, seconds),
    }


def observe(kind: str, ask: Ask, target: plan.Target, clock: t.Callable[[], float]) -> plan.Observation:
    started = clock()
    try:
        found = ask(target)
    except Exception as exc:
        found = judged(exc)
    return plan.Observation(kind, target, started, clock(), found.alive, found.detail[:200], found.streaming)


class Senses:
    """One thread per kind of probe, so that none waits for another."""

    def __init__(self, asks: t.Mapping[str, Ask], interval: float) -> None:
        self._interval = interval
        self._target: plan.Target | None = None
        self._heard: queue.SimpleQueue[plan.Observation] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(kind, ask), name=f"probe-{kind}", daemon=True)
            for kind, ask in asks.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()

    def aim(self, target: plan.Target | None) -> None:
        self._target = target

    def collect(self) -> list[plan.Observation]:
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._heard.get_nowait())
        return found

    def _run(self, kind: str, ask: Ask) -> None:
        while not self._stop.is_set():
            target, started = self._target, time.monotonic()
            if target is not None:
                self._heard.put(observe(kind, ask, target, time.monotonic))
            # Never without a pause, however long the probe took.
            self._stop.wait(max(0.05, started + self._interval - time.monotonic()))

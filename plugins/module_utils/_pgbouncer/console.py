# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""PgBouncer's admin console over its Unix socket, and the program that ends a pause when its time is over.

PgBouncer lets a peer with its own uid in as "pgbouncer" without a password, so root takes the uid of the socket's owner
for the moment of the connect. Whoever cannot is asked for a password, which is an error here.

This file is also what the watchdog runs, alone and outside of Ansible: it imports the standard library only.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
import typing as t

ADMIN = "pgbouncer"
# How long the watchdog keeps trying. A PgBouncer that is started anew is not paused; one that was frozen still is.
PATIENCE = 600.0
# Between two looks at HAProxy (s), whose own checks are no closer than 300 ms.
LOOK = 0.05
# What PgBouncer answers when there is nothing to end.
NOTHING_PAUSED = (" is not paused", "no such database")

Row = dict[str, t.Optional[str]]


class ConsoleUnreachable(Exception):
    """No connection, no answer in time, or not let in."""


class ConsoleRefused(Exception):
    """PgBouncer answered with an error."""


def quoted(name: str) -> str:
    """A database's name as the console reads it."""
    return '"' + name.replace('"', '""') + '"'


def socket_path(socket_dir: str, port: int) -> str:
    """Where a PgBouncer with this listen_port listens."""
    return f"{socket_dir.rstrip('/')}/.s.PGSQL.{port}"


class Console:
    """One connection; one command at a time, in PostgreSQL's simple query protocol."""

    def __init__(self, path: str, patience: float = 5.0) -> None:
        self._path = path
        self._patience = patience
        self._buffer = b""
        self._columns: list[str] = []
        self._rows: list[Row] = []
        self._error: str | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._log_in()
        except BaseException:
            self._socket.close()
            raise

    def ask(self, command: str) -> list[Row]:
        """The rows of a command that is answered soon."""
        self.start(command)
        if not self.ended(self._patience):
            raise ConsoleUnreachable(f"{self._path} gives no answer to {command} within {self._patience:g} s")
        return self._rows

    def start(self, command: str) -> None:
        """Send a command without waiting for its end."""
        self._send(b"Q", command.encode() + b"\0")

    def ended(self, timeout: float) -> bool:
        """Whether the command ends within this time."""
        self._columns, self._rows, self._error = [], [], None
        until = time.monotonic() + timeout
        while True:
            message = self._receive(until)
            if message is None:
                return False
            kind, body = message
            if kind == b"Z":
                break
            self._take(kind, body)
        if self._error is not None:
            raise ConsoleRefused(self._error)
        return True

    def close(self) -> None:
        """Hang up; a pause stays."""
        self._socket.close()

    # -- the connection ----------------------------------------------------------------------------------------------

    def _log_in(self) -> None:
        own = os.geteuid()
        try:
            owner = os.stat(self._path).st_uid
            self._socket.settimeout(self._patience)
            if own == 0:
                os.seteuid(owner)
            try:
                self._socket.connect(self._path)
            finally:
                os.seteuid(own)
        except OSError as exc:
            raise ConsoleUnreachable(f"{self._path}: {exc.strerror or exc}") from exc
        fields = b"".join(word.encode() + b"\0" for word in ("user", ADMIN, "database", ADMIN))
        self._send(b"", struct.pack("!i", 196608) + fields + b"\0")
        try:
            ended = self.ended(self._patience)
        except ConsoleRefused as exc:
            raise ConsoleUnreachable(f"{self._path}: {exc}") from exc
        if not ended:
            raise ConsoleUnreachable(f"{self._path} lets nobody in within {self._patience:g} s")

    def _send(self, kind: bytes, body: bytes) -> None:
        try:
            self._socket.settimeout(self._patience)
            self._socket.sendall(kind + struct.pack("!i", len(body) + 4) + body)
        except OSError as exc:
            raise ConsoleUnreachable(f"{self._path}: {exc.strerror or exc}") from exc

    def _receive(self, until: float) -> tuple[bytes, bytes] | None:
        """One message, or None when the time is over; what came of it is kept."""
        while True:
            if len(self._buffer) >= 5:
                size = 1 + t.cast(int, struct.unpack("!i", self._buffer[1:5])[0])
                if len(self._buffer) >= size:
                    message, self._buffer = self._buffer[:size], self._buffer[size:]
                    return message[:1], message[5:]
            try:
                # Not zero: that would make the socket non-blocking.
                self._socket.settimeout(max(0.001, until - time.monotonic()))
                more = self._socket.recv(65536)
            except socket.timeout:
                return None
            except OSError as exc:
                raise ConsoleUnreachable(f"{self._path}: {exc.strerror or exc}") from exc
            if not more:
                raise ConsoleUnreachable(f"{self._path}: {self._error or 'PgBouncer hung up'}")
            self._buffer += more

    def _take(self, kind: bytes, body: bytes) -> None:
        if kind == b"R" and body != b"\0\0\0\0":
            raise ConsoleUnreachable(f"{self._path} asks for a password: run as root or as the owner of the socket")
        if kind == b"T":
            self._columns = _columns(body)
        elif kind == b"D":
            self._rows.append(dict(zip(self._columns, _fields(body))))
        elif kind == b"E":
            self._error = _error(body)


def _columns(body: bytes) -> list[str]:
    names, rest = [], body[2:]
    while rest:
        name, rest = rest.split(b"\0", 1)
        names.append(name.decode())
        rest = rest[18:]
    return names


def _fields(body: bytes) -> list[str | None]:
    found: list[str | None] = []
    rest = body[2:]
    while rest:
        size = t.cast(int, struct.unpack("!i", rest[:4])[0])
        found.append(None if size < 0 else rest[4 : 4 + size].decode("utf-8", "replace"))
        rest = rest[4 + max(0, size) :]
    return found


def _error(body: bytes) -> str:
    parts = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    return parts.get(b"M", "an error without words")


# -- the watchdog ------------------------------------------------------------------------------------------------------


def resume(path: str, database: str, patience: float) -> None:
    """End the pause, and keep trying while PgBouncer does not answer."""
    until = time.monotonic() + patience
    while True:
        try:
            console = Console(path)
            try:
                console.ask(f"RESUME {quoted(database)}")
            finally:
                console.close()
        except ConsoleRefused as exc:
            if any(words in str(exc) for words in NOTHING_PAUSED):
                return
            raise
        except ConsoleUnreachable:
            if time.monotonic() >= until:
                raise
            time.sleep(0.2)
        else:
            return


STAYS, LEAVES, MOVED = "stays", "leaves", "moved"


def way(servers: str, old: str) -> str:
    """By the CSV of HAProxy's ``show stat``: whether the way leads to another server than the old one, and no more to
    that. It leaves when another is there, and the old one's last check has failed but not yet often enough. What makes
    no sense stays.
    """
    lines = servers.lstrip("# ").splitlines()
    up = {}
    for line in lines[1:]:
        row = dict(zip(lines[0].split(","), line.split(",")))
        # "UP 1/3" is on its way down, and still in use.
        if row.get("svname") not in (None, "FRONTEND", "BACKEND") and row.get("status", "").startswith("UP"):
            up[row["svname"]] = row["status"]
    if not set(up) - {old}:
        return STAYS
    if old not in up:
        return MOVED
    return STAYS if up[old] == "UP" else LEAVES


def servers_of(path: str, backend: str) -> str:
    """What HAProxy says of a backend's servers; nothing while it does not answer."""
    return told(path, f"show stat {backend} 4 -1")


def told(path: str, command: str) -> str:
    """HAProxy's answer to a command; nothing while there is none."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(1.0)
            client.connect(path)
            client.sendall(f"{command}\n".encode())
            parts = []
            while part := client.recv(65536):
                parts.append(part)
    except OSError:
        return ""
    return b"".join(parts).decode("utf-8", "replace")


def follow(path: str, database: str, until: float, haproxy: str, backend: str, old: str) -> None:
    """End the pause as soon as HAProxy's way has moved. When the time is over, the watchdog has ended it."""
    while time.monotonic() < until:
        now = way(servers_of(haproxy, backend), old)
        if now == MOVED:
            resume(path, database, 0.0)
            return
        if now == LEAVES:
            # Its further checks, which are for a leader that was only slow, would cost clients that wait their time.
            told(haproxy, f"set server {backend}/{old} health down")
        time.sleep(LOOK)


def main(argv: t.Sequence[str]) -> int:
    """``resume SOCKET DATABASE UNTIL`` ends a pause when the monotonic clock says so.

    ``follow SOCKET DATABASE UNTIL HAPROXY BACKEND OLD`` ends it before, when the leader has moved.
    ``try SOCKET`` only proves that the console can be reached.
    """
    try:
        if argv[0] == "resume":
            time.sleep(max(0.0, float(argv[3]) - time.monotonic()))
            resume(argv[1], argv[2], PATIENCE)
        elif argv[0] == "follow":
            follow(argv[1], argv[2], float(argv[3]), *argv[4:7])
        else:
            Console(argv[1]).ask("SHOW VERSION")
    except (ConsoleUnreachable, ConsoleRefused) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

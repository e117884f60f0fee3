# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol against a listener on a Unix socket, and the program that a watchdog runs."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer import console
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.console import (
    Console,
    ConsoleRefused,
    ConsoleUnreachable,
)


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def row(*fields: str | None) -> bytes:
    body = struct.pack("!h", len(fields))
    for field in fields:
        body += struct.pack("!i", -1) if field is None else struct.pack("!i", len(field.encode())) + field.encode()
    return message(b"D", body)


def columns(*names: str) -> bytes:
    return message(b"T", struct.pack("!h", len(names)) + b"".join(name.encode() + b"\0" + b"\0" * 18 for name in names))


HANG_UP = b"<hang up>"
READY = message(b"Z", b"I")
LET_IN = message(b"R", b"\0\0\0\0") + message(b"S", b"server_version\x001.24.1/bouncer\0") + READY
PASSWORD = message(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0")
DONE = message(b"C", b"PAUSE\0") + READY


def error(text: str) -> bytes:
    return message(b"E", b"SERROR\0C08P01\0M" + text.encode() + b"\0\0")


class Listener:
    """Answers each message of each client with the next of ``answers``; b"" says nothing."""

    def __init__(self, folder: Path, *answers: bytes, pieces: int = 65536) -> None:
        self.path = str(folder / ".s.PGSQL.6432")
        self.heard: list[bytes] = []
        self._answers = list(answers)
        self._pieces = pieces
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(self.path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while self._answers:
            client, _address = self._socket.accept()
            with client, contextlib.suppress(OSError):
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        while True:
            # Also when no answer is left: silence, until the client leaves.
            asked = client.recv(4096)
            if not asked:
                return
            self.heard.append(asked)
            answer = self._answers.pop(0) if self._answers else b""
            said = answer.removesuffix(HANG_UP)
            for start in range(0, len(said), self._pieces):
                client.sendall(said[start : start + self._pieces])
            if answer != said:
                return


@pytest.fixture
def open_console() -> t.Iterator[t.Callable[..., Console]]:
    with contextlib.ExitStack() as stack:

        def connect(listener: Listener, patience: float = 20.0) -> Console:
            made = Console(listener.path, patience)
            stack.callback(made.close)
            return made

        yield connect


@pytest.mark.parametrize("pieces", [65536, 7, 1])
def test_rows_are_read_however_they_arrive(tmp_path: Path, open_console: t.Any, pieces: int) -> None:
    rows = columns("name", "host", "pool_mode") + row("odoo", None, "transaction") + row("Ödoo", "", "session")
    listener = Listener(tmp_path, LET_IN, rows + message(b"C", b"SHOW\0") + READY, DONE, pieces=pieces)
    opened = open_console(listener)
    assert opened.ask("SHOW DATABASES") == [
        {"name": "odoo", "host": None, "pool_mode": "transaction"},
        {"name": "Ödoo", "host": "", "pool_mode": "session"},
    ]
    assert opened.ask('PAUSE "odoo"') == []
    assert listener.heard == [
        b"\0\0\0\x2b\0\x03\0\0user\0pgbouncer\0database\0pgbouncer\0\0",
        b"Q\0\0\0\x13SHOW DATABASES\0",
        b'Q\0\0\0\x11PAUSE "odoo"\0',
    ]


def test_an_error_is_no_end_of_the_connection(tmp_path: Path, open_console: t.Any) -> None:
    opened = open_console(Listener(tmp_path, LET_IN, error("database odoo is not paused") + READY, DONE))
    with pytest.raises(ConsoleRefused, match=r"^database odoo is not paused$"):
        opened.ask('RESUME "odoo"')
    assert opened.ask('PAUSE "odoo"') == []


def test_a_pause_is_waited_for_in_pieces(tmp_path: Path, open_console: t.Any) -> None:
    opened = open_console(Listener(tmp_path, LET_IN, DONE[:7], b""))
    opened.start('PAUSE "odoo"')
    assert opened.ended(0.02) is False
    assert opened.ended(0.0) is False


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([PASSWORD], "asks for a password"),
        ([error("no such database: pgbouncer") + HANG_UP], "no such database: pgbouncer"),
        ([error("no more connections allowed") + READY], "no more connections allowed"),
        ([HANG_UP], "hung up"),
        ([b""], "lets nobody in within 0.05 s"),
    ],
)
def test_who_is_not_let_in_is_told_why(tmp_path: Path, answers: list[bytes], says: str) -> None:
    listener = Listener(tmp_path, *answers)
    with pytest.raises(ConsoleUnreachable, match=says):
        Console(listener.path, 0.05 if answers == [b""] else 20.0)


@pytest.mark.parametrize(("answer", "says"), [(HANG_UP, "hung up"), (b"", "no answer to SHOW STATE within 1 s")])
def test_no_answer(tmp_path: Path, open_console: t.Any, answer: bytes, says: str) -> None:
    opened = open_console(Listener(tmp_path, LET_IN, answer), 20.0 if answer else 1.0)
    with pytest.raises(ConsoleUnreachable, match=says):
        opened.ask("SHOW STATE")


def test_no_socket(tmp_path: Path) -> None:
    path = console.socket_path(f"{tmp_path}/", 6433)
    assert path == f"{tmp_path}/.s.PGSQL.6433"
    with pytest.raises(ConsoleUnreachable, match="No such file"):
        Console(path)


# -- the watchdog ------------------------------------------------------------------------------------------------------


def test_the_watchdog_runs_alone(tmp_path: Path) -> None:
    """As systemd starts it: a file of its own, without Ansible and whatever else lies in the path."""
    listener = Listener(tmp_path, LET_IN, DONE)
    script = tmp_path / "resume.py"
    script.write_bytes(Path(console.__file__).read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", str(script), "resume", listener.path, 'o"doo', "0"],
        cwd="/",
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert listener.heard[1:] == [b'Q\0\0\0\x14RESUME "o""doo"\0']


@pytest.mark.parametrize("said", ["database odoo is not paused", "no such database: odoo"])
def test_a_watchdog_that_finds_nothing_paused_has_done_its_work(tmp_path: Path, said: str) -> None:
    listener = Listener(tmp_path, LET_IN, error(said) + READY)
    assert console.main(["resume", listener.path, "odoo", "0"]) == 0


def test_a_watchdog_tries_again_while_pgbouncer_does_not_answer(tmp_path: Path) -> None:
    listener = Listener(tmp_path, HANG_UP, LET_IN, HANG_UP, LET_IN, DONE)
    assert console.main(["resume", listener.path, "odoo", "0"]) == 0
    assert sum(heard.startswith(b"Q") for heard in listener.heard) == 2


def test_a_watchdog_that_is_refused_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listener = Listener(tmp_path, LET_IN, error("admin access needed") + READY)
    assert console.main(["resume", listener.path, "odoo", "0"]) == 1
    assert capsys.readouterr().err == "admin access needed\n"


def test_a_watchdog_waits_for_the_deadline(tmp_path: Path) -> None:
    listener = Listener(tmp_path, LET_IN, DONE)
    until = time.monotonic() + 0.3
    assert console.main(["resume", listener.path, "odoo", str(until)]) == 0
    assert time.monotonic() >= until


def test_a_watchdogs_patience_ends(tmp_path: Path) -> None:
    with pytest.raises(ConsoleUnreachable):
        console.resume(str(tmp_path / "nothing"), "odoo", 0.0)


@pytest.mark.parametrize(("answers", "code"), [([LET_IN, DONE], 0), ([PASSWORD], 1)])
def test_before_a_pause_the_watchdogs_way_is_tried(tmp_path: Path, answers: list[bytes], code: int) -> None:
    listener = Listener(tmp_path, *answers)
    assert console.main(["try", listener.path]) == code
    assert not any(b"RESUME" in heard for heard in listener.heard)


# -- the follower ------------------------------------------------------------------------------------------------------

HEAD = "# pxname,svname,qcur,status,weight\n"


def stat(**servers: str) -> str:
    return HEAD + "".join(f"postgres_leader,{name},0,{status},1\n" for name, status in servers.items())


@pytest.mark.parametrize(
    ("servers", "found"),
    [
        (stat(db1="UP", db2="DOWN", db3="DOWN"), console.STAYS),
        (stat(db1="UP 1/3", db2="DOWN", db3="DOWN"), console.STAYS),
        (stat(db1="DOWN", db2="DOWN", db3="DOWN"), console.STAYS),
        (stat(db1="UP", db2="UP", db3="DOWN"), console.STAYS),
        (stat(db1="UP 2/3", db2="UP", db3="DOWN"), console.LEAVES),
        (stat(db1="UP 2/3", BACKEND="UP"), console.STAYS),
        (stat(db1="DOWN", db2="UP", db3="DOWN"), console.MOVED),
        (stat(db1="DOWN", db2="DOWN 1/2", db3="DOWN"), console.STAYS),
        (stat(db2="UP"), console.MOVED),
        (stat(BACKEND="UP", db1="DOWN"), console.STAYS),
        (HEAD, console.STAYS),
        ("No such proxy.\n", console.STAYS),
        ("", console.STAYS),
    ],
)
def test_the_way_has_moved_when_another_is_up_and_the_old_one_is_not(servers: str, found: str) -> None:
    assert console.way(servers, "db1") == found


class Haproxy:
    """A socket that answers one look after the other, and hangs up after each."""

    def __init__(self, folder: Path, *answers: str) -> None:
        self.path = str(folder / "haproxy.sock")
        self.asked: list[bytes] = []
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(self.path)
        self._server.listen()
        threading.Thread(target=self._serve, args=(answers,), daemon=True).start()

    def _serve(self, answers: tuple[str, ...]) -> None:
        for answer in answers:
            client, _address = self._server.accept()
            with client:
                self.asked.append(client.recv(4096))
                client.sendall(answer.encode())


def test_the_follower_resumes_when_the_way_has_moved(tmp_path: Path) -> None:
    looks = [stat(db1="UP", db2="DOWN"), stat(db1="DOWN", db2="DOWN"), stat(db1="DOWN", db2="UP")]
    haproxy = Haproxy(tmp_path, "", *looks)
    listener = Listener(tmp_path, LET_IN, DONE)
    until = str(time.monotonic() + 60)
    assert console.main(["follow", listener.path, "odoo", until, haproxy.path, "postgres_leader", "db1"]) == 0
    assert haproxy.asked == [b"show stat postgres_leader 4 -1\n"] * 4
    assert listener.heard[1:] == [b'Q\0\0\0\x12RESUME "odoo"\0']


def test_the_follower_does_not_wait_for_the_old_leaders_last_checks(tmp_path: Path) -> None:
    looks = [stat(db1="UP", db2="UP"), stat(db1="UP 2/3", db2="UP"), "\n", stat(db1="DOWN", db2="UP")]
    haproxy = Haproxy(tmp_path, *looks)
    listener = Listener(tmp_path, LET_IN, DONE)
    until = str(time.monotonic() + 60)
    assert console.main(["follow", listener.path, "odoo", until, haproxy.path, "postgres_leader", "db1"]) == 0
    look = b"show stat postgres_leader 4 -1\n"
    assert haproxy.asked == [look, look, b"set server postgres_leader/db1 health down\n", look]
    assert listener.heard[1:] == [b'Q\0\0\0\x12RESUME "odoo"\0']


def test_a_follower_whose_time_is_over_leaves_it_to_the_watchdog(tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing")
    assert console.main(["follow", nothing, "odoo", "0", nothing, "postgres_leader", "db1"]) == 0

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a host's Odoo out of the edges' choice, and put it back.

The law. HAProxy in front of Odoo keeps a mark (a stick table's entry, which expires by itself). While it stands, the
edges' health checks are answered with no, and everything else is served as before. So:

* Whoever stops Odoo sets the mark first, gives the edges the time in which they ask, and then waits for what is under
  way. Only then is it stopped, and no request is.
* What is still under way when the time is over is told, and is not this module's to end: Odoo finishes its requests
  within its own grace time when it is stopped.
* An HAProxy that is not there lets nothing through. Nothing has to be drained, and nothing can be marked.
"""

from __future__ import annotations

import csv
import socket
import typing as t

from .._common.errors import DedicatedError
from .._common.waiting import Clock

MARK = "set table leaving key odoo data.gpc0 1"
UNMARK = "clear table leaving key odoo"
SHOW = "show table leaving"
STAT = "show stat odoo_http 2 -1"  # 2: the backend's own line


class Console(t.Protocol):
    """HAProxy's runtime console."""

    def ask(self, command: str) -> str | None:
        """The answer to one command. None when nobody listens."""


class HaproxyConsole:
    """One connection for each command, as HAProxy wants it."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path, self._timeout = path, timeout

    def ask(self, command: str) -> str | None:
        parts = []
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(self._timeout)
                client.connect(self._path)
                client.sendall(f"{command}\n".encode())
                while part := client.recv(65536):
                    parts.append(part)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as exc:
            raise DedicatedError(f"{self._path}: {exc.strerror or exc}", code="haproxy_silent") from exc
        return b"".join(parts).decode("utf-8", "replace")


def in_flight(text: str) -> int:
    """Requests that Odoo works on or that wait for it, from ``show stat`` of the backend."""
    rows = [row for row in csv.DictReader(text.lstrip("# ").splitlines()) if row.get("svname") == "BACKEND"]
    try:
        return sum(int(row["scur"]) + int(row["qcur"]) for row in rows[:1] or [{}])
    except (KeyError, ValueError) as exc:
        raise DedicatedError(f"HAProxy tells nothing of odoo_http: {text.strip()[:200]}", code="haproxy_odd") from exc


def marked(text: str) -> bool:
    """Whether the mark stands, from ``show table``."""
    if "table: leaving" not in text:
        raise DedicatedError(
            f"HAProxy has no table for hosts that leave: {text.strip()[:200]}. Run site.yml --tags router first",
            code="haproxy_odd",
        )
    return "key=odoo " in text


class DrainService:
    """``settle`` are the seconds in which every edge has asked at least once."""

    def __init__(self, console: Console, clock: Clock, settle: float, timeout: float, poll_interval: float) -> None:
        self._console, self._clock = console, clock
        self._settle, self._timeout, self._poll = settle, timeout, poll_interval

    def drain(self, check_mode: bool) -> dict[str, t.Any]:
        seen = self._console.ask(SHOW)
        if seen is None:
            return self._result(False, 0, "HAProxy does not answer, so nothing reaches Odoo")
        changed = not marked(seen)
        if check_mode:
            return self._result(changed, self._under_way(), "the edges would be told to leave this host out")
        # Again, if it stands already: that renews the time after which it expires.
        self._order(MARK)
        self._clock.sleep(self._settle)
        deadline = self._clock.monotonic() + self._timeout
        while (left := self._under_way()) and self._clock.monotonic() < deadline:
            self._clock.sleep(self._poll)
        said = f"{left} requests are still under way after {self._timeout:g} s" if left else "nothing is under way"
        return self._result(changed, left, f"the edges leave this host out; {said}")

    def serve(self, check_mode: bool) -> dict[str, t.Any]:
        seen = self._console.ask(SHOW)
        if seen is None or not marked(seen):
            return self._result(False, self._under_way() if seen is not None else 0, "no edge is told to leave it out")
        if not check_mode:
            self._order(UNMARK)
        return self._result(True, self._under_way(), "the edges choose this host again")

    def _under_way(self) -> int:
        said = self._console.ask(STAT)
        return 0 if said is None else in_flight(said)

    def _order(self, command: str) -> None:
        said = self._console.ask(command)
        # It answers an order that it carries out with an empty line.
        if said is not None and said.strip():
            raise DedicatedError(f"HAProxy refuses {command!r}: {said.strip()[:200]}", code="haproxy_refused")

    @staticmethod
    def _result(changed: bool, left: int, msg: str) -> dict[str, t.Any]:
        return {"changed": changed, "in_flight": left, "msg": msg}

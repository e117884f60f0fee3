# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draining, against a console that keeps its mark, forgets it, is away, or answers something else."""

from __future__ import annotations

import socket
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._router import drain

# As HAProxy 3.0 writes them, without most of the columns.
TABLE = "# table: leaving, type: string, size:8, used:{used}\n{entry}\n"
ENTRY = "0x7f12ed0a4008: key=odoo use=0 exp=300000 shard=0 gpc0=1\n"
STAT = "# pxname,svname,qcur,qmax,scur,smax\nodoo_http,BACKEND,{queued},0,{running},9\n\n"


class Haproxy:
    """One that serves ``running`` requests, of which one ends with each look."""

    def __init__(self, running: int = 0, queued: int = 0, there: bool = True, marked: bool = False) -> None:
        self.running, self.queued, self.there, self.marked = running, queued, there, marked
        self.orders: list[str] = []
        self.ends = True

    def ask(self, command: str) -> str | None:
        if not self.there:
            return None
        if command == drain.SHOW:
            return TABLE.format(used=int(self.marked), entry=ENTRY if self.marked else "")
        if command == drain.STAT:
            said = STAT.format(queued=self.queued, running=self.running)
            if self.ends:
                self.running, self.queued = max(0, self.running - 1), 0
            return said
        self.orders.append(command)
        self.marked = command == drain.MARK
        return "\n"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def service(haproxy: t.Any, clock: Clock) -> drain.DrainService:
    return drain.DrainService(haproxy, clock, settle=3.0, timeout=10.0, poll_interval=1.0)


def test_the_edges_are_given_time_before_anything_is_counted() -> None:
    haproxy, clock = Haproxy(running=3, queued=2), Clock()
    said = service(haproxy, clock).drain(check_mode=False)
    assert haproxy.orders == [drain.MARK]
    assert (said["changed"], said["in_flight"]) == (True, 0)
    assert clock.seconds == 3.0 + 3.0


def test_what_does_not_end_is_told() -> None:
    haproxy, clock = Haproxy(running=2), Clock()
    haproxy.ends = False
    said = service(haproxy, clock).drain(check_mode=False)
    assert said["in_flight"] == 2
    assert "2 requests" in said["msg"]
    assert clock.seconds == 13.0
    assert haproxy.marked


def test_a_mark_that_stands_is_renewed_and_no_change() -> None:
    haproxy = Haproxy(marked=True)
    assert service(haproxy, Clock()).drain(check_mode=False)["changed"] is False
    assert haproxy.orders == [drain.MARK]


@pytest.mark.parametrize("verb", ["drain", "serve"])
def test_one_that_is_not_there_needs_nothing(verb: str) -> None:
    haproxy, clock = Haproxy(there=False), Clock()
    assert getattr(service(haproxy, clock), verb)(check_mode=False)["changed"] is False
    assert not haproxy.orders
    assert not clock.seconds


@pytest.mark.parametrize(("verb", "marked"), [("drain", False), ("serve", True)])
def test_check_mode_orders_nothing(verb: str, marked: bool) -> None:
    haproxy, clock = Haproxy(marked=marked), Clock()
    assert getattr(service(haproxy, clock), verb)(check_mode=True)["changed"] is True
    assert not haproxy.orders
    assert not clock.seconds


def test_serving_again_and_twice() -> None:
    haproxy = Haproxy(marked=True)
    drainer = service(haproxy, Clock())
    assert drainer.serve(check_mode=False)["changed"] is True
    assert not haproxy.marked
    assert drainer.serve(check_mode=False)["changed"] is False


def test_it_goes_away_while_it_is_drained() -> None:
    haproxy, clock = Haproxy(running=5), Clock()
    sleep = clock.sleep

    def goes(seconds: float) -> None:
        haproxy.there = False
        sleep(seconds)

    clock.sleep = goes  # type: ignore[method-assign]
    assert service(haproxy, clock).drain(check_mode=False)["in_flight"] == 0


@pytest.mark.parametrize("said", ["No such table\n\n", "", "Permission denied\n"])
def test_an_old_configuration_is_named(said: str) -> None:
    class Old(Haproxy):
        def ask(self, command: str) -> str | None:
            return said

    with pytest.raises(DedicatedError, match="no table"):
        service(Old(), Clock()).drain(check_mode=False)


def test_a_refused_order_is_an_error() -> None:
    class Refuses(Haproxy):
        def ask(self, command: str) -> str | None:
            return "Permission denied\n" if command == drain.MARK else super().ask(command)

    with pytest.raises(DedicatedError, match="refuses"):
        service(Refuses(), Clock()).drain(check_mode=False)


@pytest.mark.parametrize("text", ["", "# pxname,svname\n", "Unknown command\n", STAT.replace("{running}", "x")])
def test_numbers_that_make_no_sense(text: str) -> None:
    with pytest.raises(DedicatedError, match="odoo_http"):
        drain.in_flight(text)


def test_the_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "haproxy.sock")
    assert drain.HaproxyConsole(path, 1.0).ask("show table leaving") is None
    heard = []

    def answer() -> None:
        client, _address = server.accept()
        with client:
            heard.append(client.recv(100))
            client.sendall(b"a" * 100_000)

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        assert drain.HaproxyConsole(path, 5.0).ask("show table leaving") == "a" * 100_000
        thread.join()
        assert heard == [b"show table leaving\n"]
        # It listens, and says nothing.
        with pytest.raises(DedicatedError) as caught:
            drain.HaproxyConsole(path, 0.1).ask("show table leaving")
    assert caught.value.details["code"] == "haproxy_silent"

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL or Redis away under a logged-in browser: requests wait or get 503; nobody is logged out, nothing exits."""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import dataclasses
import threading
import time

import pytest
import requests
from labtools import Browser, Host, Lab, unique, wait_until


@dataclasses.dataclass
class Answer:
    at: float
    took: float
    what: str
    status: int
    retry_after: str | None
    location: str | None
    body: str
    cookies: dict[str, str]


class Clicking(threading.Thread):
    """A person who goes on working: pages, calls and the page of somebody who is not logged in, all the time."""

    def __init__(self, browser: Browser, session: str) -> None:
        super().__init__(daemon=True)
        self.lab, self.session = browser.lab, session
        self.answers: list[Answer] = []
        self.broken: list[str] = []
        self.done = threading.Event()

    def ask(self, what: str) -> requests.Response:
        # The cookie stays the one of before whatever an answer sets: what a second tab would do.
        browser = Browser(self.lab)
        if what != "login":
            browser.cookies.set("session_id", self.session, domain=self.lab.domain, path="/")
        if what == "page":
            return browser.get(browser.at("/odoo"), headers={"Accept": "text/html"}, timeout=100, allow_redirects=False)
        if what == "login":
            return browser.get(browser.at("/web/login"), timeout=100, allow_redirects=False)
        params = {"model": "res.partner", "method": "search_count", "args": [[]], "kwargs": {}}
        path = "/web/dataset/call_kw/res.partner/search_count"
        return browser.post(browser.at(path), json={"jsonrpc": "2.0", "params": params}, timeout=100)

    def run(self) -> None:
        while not self.done.is_set():
            for what in ("page", "call", "login"):
                started = time.monotonic()
                try:
                    got = self.ask(what)
                except requests.RequestException as error:
                    self.broken.append(f"{what}: {error}")
                    continue
                self.answers.append(
                    Answer(
                        started,
                        time.monotonic() - started,
                        what,
                        got.status_code,
                        got.headers.get("Retry-After"),
                        got.headers.get("Location"),
                        got.text,
                        dict(got.cookies),
                    )
                )
            self.done.wait(0.3)

    def finish(self) -> None:
        self.done.set()
        self.join(120)


@contextlib.contextmanager
def away(host: Host, container: str, how: str) -> collections.abc.Iterator[None]:
    """A container that is stopped (its peers are told) or paused (they hear nothing); it always comes back."""
    stop, start = {"stop": ("stop", "start"), "pause": ("pause", "unpause")}[how]
    host.run(["docker", stop, container], timeout=150)
    try:
        yield
    finally:
        host.run(["docker", start, container], timeout=60)


def processes(host: Host) -> dict[str, tuple[object, ...]]:
    """For each Odoo container: when it started, how often it was restarted, its master and its gevent process."""
    found: dict[str, tuple[object, ...]] = {}
    containers = host.containers()
    for name in ("odoo-web", "odoo-cron"):
        one = containers[name]
        # tini's child is Odoo's master; its own workers come and go by their limits.
        master = host.out(["pgrep", "--parent", str(one["State"]["Pid"])]).split()
        gevent = host.run(["pgrep", "--parent", master[0], "--full", "gevent"], check=False).stdout.split()
        found[name] = (one["State"]["StartedAt"], one["RestartCount"], one["State"]["OOMKilled"], *master, *gevent)
    return found


def judge(answers: list[Answer]) -> None:
    assert len(answers) > 5
    for answer in answers:
        assert answer.status in (200, 503), (
            f"{answer.what} answered {answer.status} to {answer.location}: {answer.body[:200]}"
        )
        if answer.status == 503:
            assert answer.retry_after, f"{answer.what}: 503 without Retry-After: {answer.body[:200]}"
        elif answer.what == "call":
            assert '"result"' in answer.body, answer.body[:300]
        elif answer.what == "page":
            assert "csrf_token" in answer.body, answer.body[:300]


CASES = [("postgres", "stop", 20.0), ("redis", "stop", 10.0), ("postgres", "pause", 8.0), ("redis", "pause", 6.0)]


@pytest.mark.parametrize(("container", "how", "seconds"), CASES)
def test_an_outage_is_waited_out(lab: Lab, admin: Browser, container: str, how: str, seconds: float) -> None:
    host = lab.leader() if container == "postgres" else lab.of("redis")[0]
    session, before = admin.session_id, processes(host)
    assert admin.whoami() == lab.login
    clicking = Clicking(admin, session)
    with contextlib.ExitStack() as stack:
        stack.callback(clicking.finish)
        clicking.start()
        with away(host, container, how):
            gone = time.monotonic()
            time.sleep(seconds)
            back = time.monotonic()
        wait_until("the login page answers", lab.answers, 90)
        wait_until(
            f"{container} is healthy",
            lambda: host.out(["docker", "inspect", "--format", "{{.State.Health.Status}}", container]) == "healthy",
            90,
        )
        time.sleep(2)
    during = [answer for answer in clicking.answers if gone < answer.at + answer.took and answer.at < back]
    assert during, "nothing was asked meanwhile"
    # It really was away: calls waited or were turned away.
    assert [answer for answer in during if answer.status == 503 or answer.took > seconds / 3], during
    assert clicking.broken == []
    judge(clicking.answers)
    # Nobody was logged out, by an answer or by a new cookie.
    assert not [
        answer for answer in clicking.answers if answer.what != "login" and "/web/login" in (answer.location or "")
    ]
    assert admin.session_id == session
    assert admin.whoami() == lab.login
    assert admin.get(admin.at("/odoo"), timeout=60, allow_redirects=False).status_code == 200
    assert processes(host) == before
    # And it works: something can be written.
    assert admin.call("res.partner", "create", [{"name": unique("After")}])
    print(container, how, collections.Counter(answer.status for answer in during))  # noqa: T201


def test_live_messages_and_jobs_come_back_by_themselves(lab: Lab, admin: Browser) -> None:
    """After the outages above the bus and the cron listen again, without a restart."""
    import test_30_bus
    from labtools import Api

    api = Api(lab, lab.login, lab.password)
    test_30_bus.test_a_message_from_the_server_arrives(lab, admin, api)
    test_30_bus.test_a_scheduled_job_is_woken_at_once(api)

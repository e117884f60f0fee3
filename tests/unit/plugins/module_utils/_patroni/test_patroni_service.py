# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patroni's configuration and cluster through a fake that keeps state and may lie, and the transport over HTTP."""

from __future__ import annotations

import base64
import dataclasses
import http.server
import json
import threading
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DeadlineError,
    DedicatedError,
    Refused,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni import plan
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.io import PatroniUnreachable, Reply, RestTransport
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.service import ClusterService, ConfigService


@dataclasses.dataclass
class FakeClock:
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclasses.dataclass
class FakePatroni:
    """A cluster with a configuration. ``silent`` requests get no answer; ``script`` answers come first."""

    config: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    members: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)
    silent: int = 0
    script: list[Reply] = dataclasses.field(default_factory=list)
    deaf: bool = False
    on_patch: t.Callable[[FakePatroni], None] | None = None
    calls: list[tuple[str, str, t.Any]] = dataclasses.field(default_factory=list)

    def request(self, method: str, path: str, data: t.Any = None) -> Reply:
        self.calls.append((method, path, data))
        if self.silent:
            self.silent -= 1
            raise PatroniUnreachable(f"{method} {path}: no answer")
        if self.script:
            return self.script.pop(0)
        if (method, path) == ("GET", "/cluster"):
            return Reply(200, json.dumps({"scope": "lab", "members": self.members}).encode())
        if (method, path) == ("PATCH", "/config"):
            if self.on_patch is not None:
                self.on_patch(self)
            if self.script:
                return self.script.pop(0)
            if not self.deaf:
                self.config = plan.merged(self.config, data)
        return Reply(200, json.dumps(self.config).encode())

    def patches(self) -> list[t.Any]:
        return [data for method, _, data in self.calls if method == "PATCH"]


def reconcile(
    patroni: FakePatroni, wanted: dict[str, t.Any], check_mode: bool = False, **more: t.Any
) -> dict[str, t.Any]:
    service = ConfigService(patroni, FakeClock(), timeout=10, poll_interval=1, check_mode=check_mode)
    return service.reconcile(wanted, **more).as_result()


def test_only_what_differs_is_sent_and_the_second_call_sends_nothing() -> None:
    patroni = FakePatroni({"ttl": 30, "postgresql": {"parameters": {"a": 1, "b": 2}}})
    wanted = {"ttl": 30, "postgresql": {"parameters": {"a": 5, "b": None}}}
    first = reconcile(patroni, wanted)
    assert first["changed"]
    assert patroni.patches() == [{"postgresql": {"parameters": {"a": 5, "b": None}}}]
    assert first["before"] == {"ttl": 30, "postgresql": {"parameters": {"a": 1, "b": 2}}}
    assert first["after"] == {"ttl": 30, "postgresql": {"parameters": {"a": 5}}}
    second = reconcile(patroni, wanted)
    assert not second["changed"]
    assert len(patroni.patches()) == 1


def test_check_mode_predicts_and_sends_nothing() -> None:
    patroni = FakePatroni({"ttl": 30})
    predicted = reconcile(patroni, {"ttl": 40}, check_mode=True)
    assert patroni.patches() == []
    assert predicted == reconcile(patroni, {"ttl": 40})


def test_check_mode_takes_a_silent_cluster_for_one_that_is_still_to_come() -> None:
    result = reconcile(FakePatroni(silent=9), {"ttl": 40, "x": None}, check_mode=True)
    assert result["changed"]
    assert not result["reachable"]
    assert result["after"] == {"ttl": 40}


def test_a_cluster_that_comes_late_is_waited_for() -> None:
    patroni = FakePatroni({"ttl": 30}, silent=2, script=[Reply(503, b""), Reply(502, b"")])
    assert not reconcile(patroni, {"ttl": 30})["changed"]


def test_a_cluster_that_never_comes_is_reported_with_what_was_seen() -> None:
    with pytest.raises(DeadlineError, match=r"within 10 s; last seen: GET /config: no answer"):
        reconcile(FakePatroni(silent=99), {"ttl": 30})


def test_unsafe_timings_never_reach_patroni() -> None:
    patroni = FakePatroni({"ttl": 30})
    with pytest.raises(Refused) as caught:
        reconcile(patroni, {"ttl": 10})
    assert caught.value.refusal.code == "clamped_timing"
    assert patroni.patches() == []


def test_an_accepted_patch_that_does_not_come_true_is_an_error() -> None:
    patroni = FakePatroni({"failsafe_mode": False}, deaf=True)
    with pytest.raises(DeadlineError, match="still different: failsafe_mode"):
        reconcile(patroni, {"failsafe_mode": True})
    assert reconcile(patroni, {"failsafe_mode": True}, verify=False)["changed"]


@pytest.mark.parametrize(("status", "hint"), [(401, "username and password"), (403, "allowlist"), (500, "log")])
def test_a_refused_patch_says_what_to_look_at(status: int, hint: str) -> None:
    patroni = FakePatroni({"x": 1}, script=[Reply(200, b'{"x": 1}'), Reply(status, b"no")])
    with pytest.raises(DedicatedError, match=hint):
        reconcile(patroni, {"x": 2})


def test_somebody_else_was_faster() -> None:
    def collide(patroni: FakePatroni) -> None:
        patroni.config = {"x": 1, "y": 2}
        patroni.script = [Reply(409, b"Conflict")]
        patroni.on_patch = None

    patroni = FakePatroni({"x": 1, "y": 1}, on_patch=collide)
    result = reconcile(patroni, {"x": 2, "y": 2})
    assert patroni.patches() == [{"x": 2, "y": 2}, {"x": 2}]
    assert patroni.config == {"x": 2, "y": 2}
    assert result["changed"]


def test_members_that_need_a_restart_are_named() -> None:
    members = [
        {"name": "a", "role": "leader", "state": "running", "pending_restart": True},
        {"name": "b", "role": "replica", "state": "streaming"},
    ]
    assert reconcile(FakePatroni({"x": 1}, members), {"x": 1})["pending_restart"] == ["a"]


# The cluster


def up(*names: str) -> list[dict[str, t.Any]]:
    return [
        {
            "name": name,
            "role": "replica" if at else "leader",
            "state": "streaming" if at else "running",
            "lag": 0,
            "timeline": 1,
        }
        for at, name in enumerate(names)
    ]


def test_a_look_at_the_cluster() -> None:
    result = ClusterService([FakePatroni({"synchronous_mode": False}, up("a", "b"))], FakeClock()).observe().as_result()
    assert result["healthy"]
    assert (result["leader"], result["scope"], result["synchronous_mode"]) == ("a", "lab", "off")
    assert [member["name"] for member in result["members"]] == ["a", "b"]
    assert json.dumps(result)


def test_another_member_is_asked_when_the_first_is_silent() -> None:
    seen = ClusterService([FakePatroni(silent=9), FakePatroni({}, up("a"))], FakeClock()).observe()
    assert seen.as_result()["leader"] == "a"


def test_a_silent_cluster_is_an_answer_when_nothing_is_waited_for() -> None:
    result = ClusterService([FakePatroni(silent=9)], FakeClock()).wait("none", [], 0, 5, 1).as_result()
    assert (result["reachable"], result["healthy"], result["leader"]) == (False, False, None)
    assert "no answer" in result["reasons"][0]


@dataclasses.dataclass
class Awakening(FakePatroni):
    """Each look finds it a stage further."""

    stages: list[list[dict[str, t.Any]]] = dataclasses.field(default_factory=list)

    def request(self, method: str, path: str, data: t.Any = None) -> Reply:
        if path == "/cluster" and self.stages:
            self.members = self.stages.pop(0)
        return super().request(method, path, data)


def test_waiting_for_a_leader_and_for_health() -> None:
    starting = [{**up("a")[0], "state": "starting"}]
    lagging = [*up("a"), {**up("a", "b")[1], "state": "starting"}]
    clock = FakeClock()
    patroni = Awakening(stages=[[], starting, lagging, up("a", "b")])
    leader = ClusterService([patroni], clock).wait("leader", [], 0, 60, 1)
    assert (clock.now, leader.as_result()["leader"], leader.as_result()["healthy"]) == (2, "a", False)
    clock = FakeClock()
    patroni = Awakening(stages=[[], starting, lagging, up("a", "b")])
    assert ClusterService([patroni], clock).wait("healthy", ["a", "b"], 0, 60, 1).as_result()["healthy"]
    assert clock.now == 3


def test_the_deadline_tells_every_reason() -> None:
    with pytest.raises(DeadlineError, match=r"a healthy cluster did not come .* c is not a member"):
        ClusterService([FakePatroni({}, up("a"))], FakeClock()).wait("healthy", ["c"], 0, 5, 1)


# The transport


class Handler(http.server.BaseHTTPRequestHandler):
    seen: t.ClassVar[list[tuple[str, str, str | None, bytes]]] = []

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.seen.append((self.command, self.path, self.headers.get("Authorization"), self.rfile.read(length)))
        body = b'{"a": 1}'
        self.send_response(503 if self.path == "/replica" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PATCH = answer

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def url() -> t.Iterator[str]:
    Handler.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_status_is_an_answer_and_only_writing_carries_the_password(url: str) -> None:
    transport = RestTransport({"url": url, "username": "rest", "password": "pw"})
    assert transport.request("GET", "/replica").status == 503
    assert transport.request("PATCH", "/config", {"x": None}).json("/config") == {"a": 1}
    login = "Basic " + base64.b64encode(b"rest:pw").decode()
    assert Handler.seen == [("GET", "/replica", None, b""), ("PATCH", "/config", login, b'{"x": null}')]


@pytest.mark.parametrize(
    "params",
    [{"url": "http://127.0.0.1:1"}, {"url": "https://127.0.0.1:1", "ca_path": "/no/such/file"}],
)
def test_no_answer_is_the_only_error(params: dict[str, t.Any]) -> None:
    with pytest.raises(PatroniUnreachable, match="no answer"):
        RestTransport(params, request_timeout=2).request("GET", "/config")

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the edge lets through: rates, sources, who asks, what is shown while there is nothing to show."""

from __future__ import annotations

import collections
import contextlib
import json
import sys
import time
import typing as t
from pathlib import Path

import pytest
import requests
from labtools import Browser, Host, Lab, run, unique, wait_until

# Appended: that folder has a conftest of its own.
sys.path.append(str(Path(__file__).resolve().parents[1] / "ha"))

from operating import operate
from test_86_certificates import status

PAGE = "Back in a moment"
# Somebody behind port 9099: a console, a service that knows who may see it, and a firewall for applications.
BEHIND = r"""
import http.server, json, time
class Behind(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length).decode()
        code, user = 200, ""
        if self.path == "/who":
            code = 200 if self.headers.get("Authorization") == "Bearer lab" else 401
            user = "auditor" if code == 200 else ""
        elif self.path == "/inspect":
            code = 403 if "DROP TABLE" in body or "attack" in self.headers.get("X-Forwarded-Uri", "") else 200
        elif self.path.startswith("/lab/slow"):
            time.sleep(4)
        answer = json.dumps({"path": self.path, "user": self.headers.get("X-User")}).encode()
        self.send_response(code)
        if user:
            self.send_header("X-User", user)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    do_POST = do_GET
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 9099), Behind).serve_forever()
"""
# A login that Odoo refuses at once, for it has no token of a form; from the host itself, which is another address.
FLOOD = r"""
import collections, http.client, json, ssl, sys
domain, address, ca, count = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
class Connection(http.client.HTTPSConnection):
    def connect(self):
        http.client.HTTPConnection.connect(self)
        self.sock = context.wrap_socket(self.sock, server_hostname=domain)
answers, connection = [], Connection(address, 443, timeout=30)
for _ in range(int(count)):
    connection.request("POST", "/web/login", "login=a&password=b",
                       {"Host": domain, "Content-Type": "application/x-www-form-urlencoded"})
    answer = connection.getresponse()
    answer.read()
    answers.append([answer.status, answer.headers.get("Retry-After")])
print(json.dumps(answers))
"""


HEARD = "import socket; socket.create_connection(('127.0.0.1', 9099), 1)"


@pytest.fixture
def behind(lab: Lab) -> t.Iterator[None]:
    """Somebody answers on port 9099 of every edge."""
    for host in lab.of("edge"):
        host.run(["sh", "-c", "cat > /run/behind.py"], stdin=BEHIND)
        run(["docker", "exec", "--detach", host.container, "python3", "/run/behind.py"])
        wait_until("it listens", lambda host=host: host.run(["python3", "-c", HEARD], check=False).returncode == 0, 10)
    yield
    for host in lab.of("edge"):
        leave(host)
        host.run(["rm", "/run/behind.py"])


def leave(host: Host) -> None:
    host.run(["pkill", "--full", "/run/behind.py"], check=False)


def get(lab: Lab, path: str, **more: t.Any) -> requests.Response:
    return Browser(lab).get(lab.url + path, timeout=30, allow_redirects=False, **more)


def test_a_flood_of_logins_is_turned_away_and_users_are_not(lab: Lab) -> None:
    edge = lab.of("edge")[0]
    edge.run(["sh", "-c", "cat > /run/flood.py"], stdin=FLOOD)
    argv = ["python3", "/run/flood.py", lab.domain, lab.front, "/etc/dedicated/pki/edge/ca.pem", "300"]
    answers = json.loads(edge.out(argv, timeout=120))
    edge.run(["rm", "/run/flood.py"])
    found = collections.Counter(status for status, _ in answers)
    # As many at once as an office has people, and what a minute allows while this took some seconds.
    assert [status for status, _ in answers[:60]] == [400] * 60
    assert found[429] > 150, found
    assert set(found) == {400, 429}
    assert all(later for status, later in answers if status == 429)
    # Somebody else is not asked to wait; and it holds for logins only.
    Browser(lab).sign_in(lab.login, lab.password)


def test_who_comes_from_elsewhere_is_not_let_to_partners_routes(lab: Lab) -> None:
    assert get(lab, "/lab/partners").status_code == 403
    assert get(lab, "/lab/partners/orders/1").status_code == 403
    # From an address that somebody only claims to have.
    assert get(lab, "/lab/partners", headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 403
    assert get(lab, "/fr/lab/partners").status_code == 403
    assert get(lab, "/lab/other").status_code == 404


def test_a_route_has_its_own_limit_for_bodies(lab: Lab) -> None:
    large = b"x" * (1536 * 1024)
    assert Browser(lab).post(f"{lab.url}/lab/small", data=large, timeout=30).status_code == 413
    assert Browser(lab).post(f"{lab.url}/lab/other", data=large, timeout=30).status_code == 404


@pytest.mark.usefixtures("behind")
def test_a_console_is_for_those_whom_somebody_knows(lab: Lab) -> None:
    assert get(lab, "/lab/console").status_code == 401
    assert get(lab, "/lab/console", headers={"X-User": "auditor"}).status_code == 401
    answer = get(lab, "/lab/console", headers={"Authorization": "Bearer lab", "X-User": "somebody"})
    assert (answer.status_code, answer.json()) == (200, {"path": "/lab/console", "user": "auditor"})


def test_while_nobody_can_tell_who_it_is_nobody_is_let_in(lab: Lab) -> None:
    assert get(lab, "/lab/console", headers={"Authorization": "Bearer lab"}).status_code >= 500


@pytest.mark.usefixtures("behind")
def test_a_route_has_its_own_time(lab: Lab) -> None:
    began = time.monotonic()
    answer = get(lab, "/lab/slow")
    assert answer.status_code == 503
    assert time.monotonic() - began < 3.5
    assert PAGE in answer.text


@contextlib.contextmanager
def inspected(lab: Lab) -> t.Iterator[None]:
    """Everything is shown to somebody first."""
    words = {"edge_waf_url": "http://127.0.0.1:9099/inspect", "edge_waf_body_limit_mb": 1}
    try:
        operate(lab, "site", "--tags", "edge", "-e", json.dumps(words))
        yield
    finally:
        operate(lab, "site", "--tags", "edge")


@pytest.mark.usefixtures("behind")
def test_a_firewall_for_applications_is_asked_about_everything(lab: Lab) -> None:
    with inspected(lab):
        assert get(lab, "/web/login").status_code == 200
        assert get(lab, "/web/login?attack").status_code == 403
        browser = Browser(lab).sign_in(lab.login, lab.password)
        bad = {"jsonrpc": "2.0", "params": {"x": "1; DROP TABLE account_move"}}
        assert browser.post(browser.at("/web/session/get_session_info"), json=bad, timeout=30).status_code == 403
        assert browser.whoami() == lab.login
        for host in lab.of("edge"):
            leave(host)
        # Without its word nothing passes.
        assert get(lab, "/web/login").status_code >= 500
    wait_until("it is open again", lab.answers, 30)


def logged(host: Host, container: str, word: str) -> list[str]:
    lines = host.out(f"docker logs --since 10m {container} 2>&1", timeout=60).splitlines()
    return [line for line in lines if word in line]


def test_a_request_is_found_in_every_log_by_its_id(lab: Lab) -> None:
    token = unique("token").replace(" ", "-")
    forged = "11111111-2222-3333-4444-555555555555"
    answer = get(lab, f"/web/login?token={token}", headers={"X-Request-Id": forged})
    number = answer.headers["X-Request-Id"]
    assert number != forged
    # Traefik writes its lines by the hundred.
    for _ in range(110):
        get(lab, "/web/database/manager")
    odoo = [line for host in lab.of("odoo") for line in logged(host, "odoo-web", number)]
    assert [line for line in odoo if "GET /web/login" in line and f"request={number}" in line], odoo
    edge = [json.loads(line) for host in lab.of("edge") for line in logged(host, "traefik", number)]
    assert [(one["RequestPath"], one["DownstreamStatus"]) for one in edge] == [("/web/login", 200)]
    assert not [line for host in lab.of("edge") for line in logged(host, "traefik", token)]
    assert not [line for host in lab.of("odoo") for line in logged(host, "odoo-web", forged)]


def page(answer: requests.Response) -> bool:
    return (
        answer.status_code == 503
        and PAGE in answer.text
        and bool(answer.headers.get("Retry-After"))
        and "max-age" in answer.headers.get("Strict-Transport-Security", "")
    )


def test_without_any_odoo_there_is_a_page(lab: Lab) -> None:
    """Not for what Odoo itself says: that is test_90's."""
    for host in lab.of("odoo"):
        host.run(["docker", "stop", "odoo-web"], timeout=150)
    try:
        wait_until("the page is there", lambda: page(get(lab, "/odoo")), 30)
        assert page(Browser(lab).post(f"{lab.url}/web/dataset/call_kw", json={}, timeout=30))
    finally:
        for host in lab.of("odoo"):
            host.run(["docker", "start", "odoo-web"], timeout=60)
    wait_until("Odoo is back", lab.answers, 120)


def test_the_maintenance_page_comes_and_goes_by_one_command(lab: Lab) -> None:
    words = ["-e", "reason=test"]
    refused = operate(lab, "maintenance_page", *words, "-e", "state=on", fails=True)
    assert "no-state" in refused
    sources = ["-e", json.dumps({"sources": ["192.0.2.1/24"]})]
    assert "invalid-source" in operate(lab, "maintenance_page", *words, "-e", "state=shown", *sources, fails=True)
    assert lab.answers()
    own = next(address for address in run(["hostname", "--all-ip-addresses"]).stdout.split() if same(address, lab))
    operate(lab, "maintenance_page", *words, "-e", "state=shown")
    try:
        assert page(get(lab, "/web/login"))
        assert page(get(lab, "/web/database/manager"))
        # What runs behind it runs on; whoever works on it sees it.
        operate(lab, "maintenance_page", *words, "-e", "state=shown", "-e", json.dumps({"sources": [own]}))
        assert lab.answers()
        assert "maintenance-page-shown" in [one["code"] for one in status(lab)["findings"]]
    finally:
        operate(lab, "maintenance_page", "-e", "state=hidden")
    assert lab.answers()
    assert get(lab, "/web/database/manager").status_code == 403


def same(address: str, lab: Lab) -> bool:
    """Whether an address of this machine is one of the lab's network."""
    return address.rpartition(".")[0] == lab.hosts[0].address.rpartition(".")[0]

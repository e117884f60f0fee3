# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users have of three hosts: whatever edge and whatever Odoo they meet, it is the same Odoo."""

from __future__ import annotations

import base64
import collections.abc
import contextlib
import hashlib
import json
import socket
import time
import typing as t

import pytest
import websocket
from labtools import Api, Browser, Host, Lab, unique, wait_until

# On a host: what its own Odoo gives for an attachment, past every edge.
FETCH = """
import hashlib, sys, urllib.request
request = urllib.request.Request(f"http://127.0.0.1:8069/web/content/{sys.argv[2]}", headers={"Host": sys.argv[1]})
print(hashlib.sha256(urllib.request.urlopen(request, timeout=60).read()).hexdigest())
"""


@contextlib.contextmanager
def through(lab: Lab, host: Host) -> collections.abc.Iterator[None]:
    """Everything that this process opens meanwhile goes to one edge, past the virtual address."""
    names = lab.data["resolve"]
    usual = names[lab.domain]
    names[lab.domain] = host.address
    try:
        yield
    finally:
        names[lab.domain] = usual


@pytest.fixture
def api(lab: Lab) -> Api:
    wait_until("the login page answers", lab.answers, 60)
    return Api(lab, lab.login, lab.password)


def test_one_session_serves_on_every_edge(lab: Lab) -> None:
    first, *others = lab.of("edge")
    with through(lab, first):
        signed_in = Browser(lab).sign_in(lab.login, lab.password)
    for edge in (first, *others):
        with through(lab, edge):
            browser = Browser(lab)
            browser.cookies.update(signed_in.cookies)
            assert browser.whoami() == lab.login


def test_an_attachment_is_the_same_on_every_host(lab: Lab, api: Api) -> None:
    content = unique("proof").encode() * 100_000
    number = api.call(
        "ir.attachment", "create", [{"name": "proof.bin", "datas": base64.b64encode(content).decode(), "public": True}]
    )[0]
    try:
        for host in lab.of("odoo"):
            seen = host.run(["python3", "-c", FETCH, lab.domain, str(number)]).stdout
            assert seen.strip() == hashlib.sha256(content).hexdigest(), host.name
    finally:
        api.call("ir.attachment", "unlink", [number])


def heard(connection: websocket.WebSocket, word: str, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            frame = connection.recv()
        except websocket.WebSocketTimeoutException:
            return False
        if any(word in json.dumps(one) for one in (json.loads(frame) if frame else [])):
            return True
    return False


def test_the_bus_reaches_a_browser_behind_every_edge(lab: Lab, api: Api) -> None:
    """Sent by whichever Odoo took the call, heard behind each edge."""
    browser = Browser(lab).sign_in(lab.login, lab.password)
    model = api.call("ir.model", "search", [["model", "=", "res.partner"]])[0]
    for edge in lab.of("edge"):
        word = unique("word")
        code = f'env["bus.bus"]._sendone(env.user.partner_id, "dedicated_proof", {{"word": "{word}"}})'
        values = {"name": word, "model_id": model, "state": "code", "code": code}
        action = api.call("ir.actions.server", "create", [values])[0]
        with contextlib.closing(
            websocket.create_connection(
                f"wss://{lab.domain}/websocket",
                socket=lab.context().wrap_socket(
                    socket.create_connection((edge.address, 443), timeout=15), server_hostname=lab.domain
                ),
                origin=lab.url,
                cookie=f"session_id={browser.session_id}",
                timeout=15,
            )
        ) as connection:
            connection.send(json.dumps({"event_name": "subscribe", "data": {"channels": [], "last": 0}}))
            time.sleep(1)  # subscribing has no answer of its own
            api.call("ir.actions.server", "run", [action])
            assert heard(connection, word, 10), f"nothing arrived behind {edge.name}"
        api.call("ir.actions.server", "unlink", [action])


def test_scheduled_jobs_run_once_and_move_when_their_host_is_gone(lab: Lab, api: Api) -> None:
    runners = [host for host in lab.of("odoo") if "odoo-cron" in host.containers()]
    assert [host.name for host in runners] == [host.name for host in lab.of("odoo")[:2]]
    key = unique("dedicated.proof")
    model = api.call("ir.model", "search", [["model", "=", "res.partner"]])[0]
    count = f'p = env["ir.config_parameter"].sudo()\np.set_param("{key}", str(int(p.get_param("{key}", "0")) + 1))'
    values: dict[str, t.Any] = {
        "name": key,
        "model_id": model,
        "state": "code",
        "interval_number": 999,
        "interval_type": "months",
        "nextcall": "2099-01-01 00:00:00",
        "code": count,
    }
    job = api.call("ir.cron", "create", [values])[0]
    trigger = {"name": key, "model_id": model, "state": "code", "code": f'env["ir.cron"].browse({int(job)})._trigger()'}
    action = api.call("ir.actions.server", "create", [trigger])[0]

    def runs() -> int:
        found = api.call("ir.config_parameter", "search_read", [["key", "=", key]], ["value"])
        return int(found[0]["value"]) if found else 0

    def run_once(times: int) -> None:
        api.call("ir.actions.server", "run", [action])
        wait_until(f"run {times} of the job", lambda: runs() >= times, 90)
        time.sleep(3)  # a second run would come now: that nothing comes has no event to wait for
        assert runs() == times

    try:
        run_once(1)
        for number, away in enumerate(runners, start=2):
            away.run(["docker", "stop", "odoo-cron"])
            try:
                run_once(number)
            finally:
                away.run(["docker", "start", "odoo-cron"])
            wait_until(f"{away.name} runs jobs again", away.healthy, 120)
    finally:
        api.call("ir.actions.server", "unlink", [action])
        api.call("ir.cron", "write", [job], {"active": False})

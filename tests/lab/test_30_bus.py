# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""LISTEN/NOTIFY through the whole stack: live messages over the websocket, and jobs woken at once."""

from __future__ import annotations

import collections.abc
import contextlib
import functools
import json
import time
import typing as t

import pytest
import websocket
from labtools import Api, Browser, Lab, unique, wait_until

# What Odoo's own poll would take; anything well below it was a notification.
POLL_SECONDS = 60


@contextlib.contextmanager
def connected(lab: Lab, cookie: str | None) -> collections.abc.Iterator[websocket.WebSocket]:
    socket = websocket.create_connection(
        f"wss://{lab.domain}/websocket",
        sslopt={"ca_certs": lab.ca_file},
        origin=lab.url,
        cookie=f"session_id={cookie}" if cookie else None,
        timeout=15,
    )
    try:
        yield socket
    finally:
        socket.close()


def subscribe(socket: websocket.WebSocket, channels: list[str]) -> None:
    socket.send(json.dumps({"event_name": "subscribe", "data": {"channels": channels, "last": 0}}))


def receive(socket: websocket.WebSocket, kind: str, matching: str, seconds: float) -> dict[str, t.Any]:
    """The first notification of this kind that contains a text."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        socket.settimeout(left)
        try:
            frame = socket.recv()
        except websocket.WebSocketTimeoutException:
            break
        for one in json.loads(frame) if frame else []:
            message: dict[str, t.Any] = one["message"]
            if message["type"] == kind and matching in json.dumps(message["payload"]):
                return message
    raise AssertionError(f"no notification {kind} with {matching} within {seconds:.0f} s")


@contextlib.contextmanager
def server_action(api: Api, code: str) -> collections.abc.Iterator[t.Callable[[], t.Any]]:
    """Python that runs in the server when it is called over the API."""
    model = api.call("ir.model", "search", [["model", "=", "res.partner"]])[0]
    values = {"name": unique("proof"), "model_id": model, "state": "code", "code": code}
    number = api.call("ir.actions.server", "create", [values])[0]
    try:
        yield lambda: api.call("ir.actions.server", "run", [number])
    finally:
        api.call("ir.actions.server", "unlink", [number])


def test_the_upgrade_answers_101_and_the_socket_stays_open(lab: Lab, admin: Browser) -> None:
    with connected(lab, admin.session_id) as socket:
        assert socket.status == 101
        subscribe(socket, [])
        socket.ping("proof")
        # Messages that Odoo has for this user may come first.
        frames = iter(lambda: socket.recv_data(control_frame=True), None)
        assert next(data for opcode, data in frames if opcode == websocket.ABNF.OPCODE_PONG) == b"proof"


def test_the_websocket_wants_our_ca(lab: Lab) -> None:
    with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
        websocket.create_connection(f"wss://{lab.domain}/websocket", timeout=10)


def test_a_message_from_the_server_arrives(lab: Lab, admin: Browser, api: Api) -> None:
    word = unique("word")
    code = f'env["bus.bus"]._sendone(env.user.partner_id, "dedicated_proof", {{"word": "{word}"}})'
    with connected(lab, admin.session_id) as socket, server_action(api, code) as send:
        subscribe(socket, [])
        time.sleep(1)  # subscribing has no answer of its own
        started = time.monotonic()
        send()
        receive(socket, "dedicated_proof", word, 5)
        assert time.monotonic() - started < 5


def test_a_message_of_a_colleague_arrives_and_a_stranger_hears_nothing(lab: Lab, admin: Browser, api: Api) -> None:
    login, password, word = unique("colleague"), unique("pass"), unique("hello")
    groups = api.call(
        "ir.model.data", "search_read", [["module", "=", "base"], ["name", "=", "group_user"]], ["res_id"]
    )
    values = {"name": login, "login": login, "password": password, "group_ids": [(6, 0, [groups[0]["res_id"]])]}
    user = api.call("res.users", "create", [values])[0]
    try:
        me = api.call("res.users", "read", [api.uid], ["partner_id"])[0]["partner_id"][0]
        you = api.call("res.users", "read", [user], ["partner_id"])[0]["partner_id"][0]
        members = [(0, 0, {"partner_id": partner}) for partner in (me, you)]
        channel = api.call(
            "discuss.channel",
            "create",
            [{"name": unique("room"), "channel_type": "group", "channel_member_ids": members}],
        )[0]
        with connected(lab, admin.session_id) as socket, connected(lab, None) as stranger:
            subscribe(socket, [])
            subscribe(stranger, [f"discuss.channel_{channel}"])
            time.sleep(1)
            Api(lab, login, password).call(
                "discuss.channel",
                "message_post",
                [channel],
                body=word,
                message_type="comment",
                subtype_xmlid="mail.mt_comment",
            )
            receive(socket, "discuss.channel/new_message", word, 5)
            with pytest.raises(AssertionError, match="no notification"):
                receive(stranger, "discuss.channel/new_message", word, 2)
        api.call("discuss.channel", "unlink", [channel])
    finally:
        api.call("res.users", "write", [user], {"active": False})


def test_a_scheduled_job_is_woken_at_once(api: Api) -> None:
    key = unique("dedicated.proof")
    model = api.call("ir.model", "search", [["model", "=", "res.partner"]])[0]
    job = api.call(
        "ir.cron",
        "create",
        [
            {
                "name": key,
                "model_id": model,
                "state": "code",
                "interval_number": 999,
                "interval_type": "months",
                "nextcall": "2099-01-01 00:00:00",
                "code": f'p = env["ir.config_parameter"].sudo()\n'
                f'p.set_param("{key}", str(int(p.get_param("{key}", "0")) + 1))',
            }
        ],
    )[0]

    def runs() -> int:
        found = api.call("ir.config_parameter", "search_read", [["key", "=", key]], ["value"])
        return int(found[0]["value"]) if found else 0

    def ran(times: int) -> bool:
        return runs() == times

    try:
        with server_action(api, f'env["ir.cron"].browse({int(job)})._trigger()') as trigger:
            # Three in a row: a poll every minute that happens to come by does not do that.
            for number in (1, 2, 3):
                trigger()
                took = wait_until(f"run {number} of the job", functools.partial(ran, number), 10, 0.2)
                print(f"job {number} ran {took:.1f} s after its trigger")  # noqa: T201
                assert took < POLL_SECONDS / 6
        time.sleep(1)
        assert runs() == 3  # once for each trigger
    finally:
        wait_until("the job is done and can be deleted", lambda: deleted(api, job), 20)
        for number in api.call("ir.config_parameter", "search", [["key", "=", key]]):
            api.call("ir.config_parameter", "unlink", [number])


def deleted(api: Api, job: int) -> bool:
    try:
        api.call("ir.cron", "unlink", [job])
    except Exception:
        return False
    return True


def test_only_the_database_that_is_listened_on_is_pooled_by_session(lab: Lab) -> None:
    """In transaction mode LISTEN would be accepted and never deliver."""
    show = [
        "psql",
        "-h",
        "/run/dedicated/router",
        "-p",
        "6432",
        "-U",
        "pgbouncer",
        "-XAt",
        "-c",
        "SHOW POOLS",
        "pgbouncer",
    ]
    for host in lab.of("odoo"):
        pools = [line.split("|") for line in host.inside("pgbouncer", show).stdout.splitlines()]
        modes = {pool[0]: pool[-2] for pool in pools}
        assert modes["postgres"] == "session"
        assert modes[lab.database] == "transaction"

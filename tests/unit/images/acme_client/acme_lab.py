# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates and an etcd for the tests of the ACME client."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import http.server
import json
import sys
import threading
import time
import typing as t
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "images" / "acme-client"))

from ansible_collections.dedicated.odoo.plugins.module_utils._pki import crypto
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.plan import Issue, Wanted

DAY = 86400
EDGE = ("dns:dedicated-edge-acme",)


@functools.cache
def authority(name: str = "site") -> tuple[t.Any, str]:
    """Key and certificate of an internal authority, as the role pki makes it."""
    key = crypto.open_ca_key(crypto.new_ca_key("a passphrase"), "a passphrase")
    return key, crypto.new_ca(key, f"{name} CA", int(time.time()) - DAY)


def leaf(name: str, sans: tuple[str, ...] = (), ca: str = "site", days: float = 80) -> tuple[str, str]:
    """Certificate and key of one of its leaves; the same ones when asked again."""
    return _leaf(name, sans, ca, days)


@functools.cache
def _leaf(name: str, sans: tuple[str, ...], ca: str, days: float) -> tuple[str, str]:
    key = crypto.new_key()
    signer, pem = authority(ca)
    now = int(time.time())
    wanted = Wanted("edge-acme", "", (f"dns:{name}", *sans), ("client",), 0, 0)
    issue = Issue(wanted, "missing", now - 3600, now + int(days * DAY))
    return crypto.sign(signer, pem, crypto.new_request(key, ""), issue), key


def lay(folder: Path, name: str, sans: tuple[str, ...] = EDGE, ca: str = "site") -> Path:
    """The files of an edge's own certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    cert, key = leaf(name, sans, ca)
    for file, text in (("ca.pem", authority(ca)[1]), ("cert.pem", cert), ("key.pem", key)):
        (folder / file).write_text(text)
    return folder


def _text(value: str) -> str:
    return base64.b64decode(value).decode()


@dataclasses.dataclass
class FakeEtcd:
    """What the client asks of the gateway: keys with revisions, leases that run out, one user."""

    user: str = ""
    password: str = ""
    data: dict[str, dict[str, t.Any]] = dataclasses.field(default_factory=dict)
    leases: set[str] = dataclasses.field(default_factory=set)
    revision: int = 1
    asked: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    token: str = "a-token"
    # Answers before any other: of a member that is starting, or of a token's end.
    first: list[tuple[int, dict[str, t.Any]]] = dataclasses.field(default_factory=list)

    def expire(self, lease: str) -> None:
        self.leases.discard(lease)
        for key in [key for key, entry in self.data.items() if entry["lease"] == lease]:
            del self.data[key]
        self.revision += 1

    def put(self, key: str, value: str, lease: str = "") -> None:
        self.revision += 1
        made = self.data.get(key, {}).get("made", self.revision)
        self.data[key] = {"value": value, "lease": lease, "made": made, "changed": self.revision}

    def answer(self, path: str, asked: dict[str, t.Any], token: str) -> tuple[int, dict[str, t.Any]]:
        self.asked.append((path, token))
        if self.first:
            return self.first.pop(0)
        if path == "/v3/auth/authenticate":
            good = (asked["name"], asked["password"]) == (self.user, self.password)
            return (200, {"token": self.token}) if good else (400, {"error": "authentication failed"})
        if self.user and token != self.token:
            return 401, {"error": "invalid auth token"}
        called = getattr(self, "do_" + path.removeprefix("/v3/").replace("/", "_"))
        return 200, {"header": {"revision": str(self.revision)}, **called(asked)}

    def do_kv_range(self, asked: dict[str, t.Any]) -> dict[str, t.Any]:
        first, end = _text(asked["key"]), _text(asked["range_end"])
        found = [
            {"key": _code(key), "value": _code(entry["value"]), "mod_revision": str(entry["changed"])}
            for key, entry in sorted(self.data.items())
            if first <= key < end
        ]
        return {"kvs": found} if found else {}

    def do_kv_put(self, asked: dict[str, t.Any]) -> dict[str, t.Any]:
        self.put(_text(asked["key"]), _text(asked["value"]))
        return {}

    def do_kv_txn(self, asked: dict[str, t.Any]) -> dict[str, t.Any]:
        (one,) = asked["compare"]
        entry = self.data.get(_text(one["key"]))
        if one["target"] == "CREATE":
            holds = entry is None
        else:
            holds = entry is not None and str(entry["changed"]) == one["mod_revision"]
        if not holds:
            return {}
        (wish,) = asked["success"]
        put = wish["request_put"]
        self.put(_text(put["key"]), _text(put["value"]), put.get("lease", ""))
        return {"succeeded": True, "header": {"revision": str(self.revision)}}

    def do_lease_grant(self, asked: dict[str, t.Any]) -> dict[str, t.Any]:
        lease = str(7000 + len(self.asked))
        self.leases.add(lease)
        return {"ID": lease, "TTL": asked["TTL"]}

    def do_lease_keepalive(self, asked: dict[str, t.Any]) -> dict[str, t.Any]:
        return {"result": {"ID": asked["ID"], **({"TTL": "60"} if asked["ID"] in self.leases else {})}}

    def do_lease_revoke(self, asked: dict[str, t.Any]) -> dict[str, t.Any]:
        self.expire(asked["ID"])
        return {}


def _code(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@contextlib.contextmanager
def gateway(etcd: FakeEtcd) -> t.Iterator[str]:
    """Its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, told = etcd.answer(self.path, body, self.headers.get("Authorization", ""))
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_told: t.Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(10)

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd v3 over its JSON gateway, as much as one look needs. Standard library only."""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
import typing as t
import urllib.error
import urllib.request

SECONDS = 5.0
OWN_TROUBLE = 500
TOKEN = re.compile(r"invalid auth token|auth: revision")


class EtcdError(Exception):
    """etcd did not answer, or refused. What was sent may have happened."""


class Lost(EtcdError):
    """The lease, or what was read, is no longer as it was: nothing has happened."""


class Entry(t.NamedTuple):
    value: str
    revision: int


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode("utf-8", "backslashreplace")


class Etcd:
    def __init__(self, endpoints: t.Sequence[str], context: ssl.SSLContext | None, user: str, password: str) -> None:
        self._endpoints = list(endpoints)
        # Proxies of the directory's way are not for here.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        self._login = {"name": user, "password": password} if user else None
        self._token = ""
        # The lease is kept alive beside what is asked.
        self._one = threading.Lock()

    def _call(self, path: str, data: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        with self._one:
            try:
                return self._known(path, data)
            except EtcdError as exc:
                # A token has its end (auth-token-ttl), which an order may outlive, and ends when users are changed.
                if not self._login or not TOKEN.search(str(exc)):
                    raise
                self._token = ""
                return self._known(path, data)

    def _known(self, path: str, data: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        if self._login and not self._token:
            self._token = str(self._send("/v3/auth/authenticate", self._login, "").get("token", ""))
        return self._send(path, data, self._token)

    def _send(self, path: str, data: t.Mapping[str, t.Any], token: str) -> dict[str, t.Any]:
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = token
        problems = []
        for endpoint in list(self._endpoints):
            # The addresses are the operator's own settings.
            asked = urllib.request.Request(endpoint + path, json.dumps(data).encode(), headers)  # noqa: S310
            try:
                with self._opener.open(asked, timeout=SECONDS) as answer:
                    return dict(json.loads(answer.read()))
            except (OSError, ValueError) as exc:
                told = exc.read()[:200] if isinstance(exc, urllib.error.HTTPError) else exc
                problems.append(f"{endpoint}: {told!r}")
                # A member that is starting, joining or alone refuses what another one grants.
                if isinstance(exc, urllib.error.HTTPError) and exc.code < OWN_TROUBLE:
                    raise EtcdError(problems[-1]) from exc
                # Asked last from now on.
                self._endpoints.append(self._endpoints.pop(self._endpoints.index(endpoint)))
        raise EtcdError("; ".join(problems))

    def under(self, prefix: str) -> dict[str, Entry]:
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        answer = self._call("/v3/kv/range", {"key": encoded(prefix), "range_end": encoded(end)})
        return {
            _decoded(kv["key"])[len(prefix) :]: Entry(_decoded(kv.get("value", "")), int(kv["mod_revision"]))
            for kv in answer.get("kvs", [])
        }

    def put(self, key: str, value: str) -> None:
        self._call("/v3/kv/put", {"key": encoded(key), "value": encoded(value)})

    def take(self, key: str, value: str, seconds: int) -> tuple[str, int] | None:
        """Lease and revision, unless somebody has it."""
        lease = str(self._call("/v3/lease/grant", {"TTL": str(seconds)})["ID"])
        answer = self._call("/v3/kv/txn", {
            "compare": [{"key": encoded(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}],
            "success": [{"request_put": {"key": encoded(key), "value": encoded(value), "lease": lease}}],
        })  # fmt: skip
        if answer.get("succeeded") is not True:
            self.revoke(lease)
            return None
        return lease, int(answer["header"]["revision"])

    def keep(self, lease: str) -> None:
        answer = self._call("/v3/lease/keepalive", {"ID": lease})
        if int(answer.get("result", {}).get("TTL", 0)) <= 0:
            raise Lost("the lease has run out")

    def revoke(self, lease: str) -> None:
        self._call("/v3/lease/revoke", {"ID": lease})

    def put_as_holder(self, holder: str, revision: int, key: str, value: str) -> None:
        """Only while the holder's key is the one that was taken."""
        answer = self._call("/v3/kv/txn", {
            "compare": [{"key": encoded(holder), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}],
            "success": [{"request_put": {"key": encoded(key), "value": encoded(value)}}],
        })  # fmt: skip
        if answer.get("succeeded") is not True:
            raise Lost("somebody else leads by now")

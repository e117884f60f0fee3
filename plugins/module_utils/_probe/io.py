# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Odoo as a user's browser reaches it: over HTTPS, by one address, with the site's name and certificate."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import typing as t

from .._common.errors import DedicatedError

AGENT = "dedicated-odoo-probe"


class OdooError(DedicatedError):
    """Odoo answered, and not with what was asked for."""


class Site:
    """One browser. ``address`` instead of what the name resolves to; ``ca_path`` instead of the system's CAs."""

    def __init__(self, domain: str, address: str, port: int, ca_path: str, timeout: float) -> None:
        try:
            self._context = ssl.create_default_context(cafile=ca_path or None)
        except (OSError, ssl.SSLError) as exc:
            raise DedicatedError(f"{ca_path}: {exc}", code="bad_ca") from exc
        self._domain, self._address, self._port = domain, address or domain, port
        self._timeout = timeout
        self._cookie = ""

    def call(self, path: str, params: t.Mapping[str, t.Any]) -> t.Any:
        """One JSON-RPC call; raises OSError when nobody answers, OdooError when Odoo refuses."""
        connection = http.client.HTTPSConnection(self._domain, timeout=self._timeout)
        plain = socket.create_connection((self._address, self._port), timeout=self._timeout)
        try:
            connection.sock = self._context.wrap_socket(plain, server_hostname=self._domain)
        except (OSError, ssl.SSLError):
            plain.close()
            raise
        headers = {"Content-Type": "application/json", "User-Agent": AGENT, "Connection": "close"}
        if self._cookie:
            headers["Cookie"] = f"session_id={self._cookie}"
        try:
            body = json.dumps({"jsonrpc": "2.0", "method": "call", "id": 1, "params": params})
            connection.request("POST", path, body, headers)
            reply = connection.getresponse()
            text = reply.read(1 << 20).decode("utf-8", "replace")
        except http.client.HTTPException as exc:
            raise OdooError(f"{type(exc).__name__}: {exc}", code="no_http") from exc
        finally:
            connection.close()
        for value in reply.headers.get_all("Set-Cookie", []):
            name, found, rest = value.partition("=")
            if found and name.strip() == "session_id":
                self._cookie = rest.split(";")[0]
        return result_of(reply.status, text)


def result_of(status: int, text: str) -> t.Any:
    if status != 200:
        raise OdooError(f"HTTP {status}", code="http_status")
    try:
        answer = json.loads(text)
    except ValueError:
        raise OdooError("the answer is no JSON", code="no_json") from None
    if not isinstance(answer, dict) or "error" in answer:
        error = answer.get("error") if isinstance(answer, dict) else None
        said = (error or {}).get("data", {}).get("message") or (error or {}).get("message") or "no result"
        raise OdooError(str(said)[:300], code="odoo_error")
    return answer.get("result")

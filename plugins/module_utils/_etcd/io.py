# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""etcd's JSON gateway: one request, one answer; a login only where a member asks for it."""

from __future__ import annotations

import dataclasses
import errno
import json
import socket
import typing as t
from http.client import HTTPException
from urllib.error import HTTPError, URLError

from .._common.errors import DedicatedError

# Said by etcd in plain text, and only while authentication is enabled.
_COMMON_NAME = "CommonName of client"
_LOGIN_NEEDED = ("user name is empty", "invalid auth token", "revision of auth store is old")
_MAY_PASS = (
    "no leader",
    "leader changed",
    "timed out",
    "deadline exceeded",
    "unhealthy cluster",
    "not enough started members",
    "not leader",
    "too many requests",
    "request cancelled",
    "server stopped",
)


class EtcdUnreachable(DedicatedError):
    """Nobody answered. Whether that is bad is the caller's judgement.

    ``quiet``: nothing listens there, or it does not answer in time. Otherwise something is there (a TLS error, for
    example), and nobody may conclude that it is not.
    """

    def __init__(self, msg: str, quiet: bool = True, **details: t.Any) -> None:
        super().__init__(msg, code="unreachable", **details)
        self.quiet = quiet


class EtcdFailure(DedicatedError):
    """An answer that is none of what was asked for. ``said`` are etcd's own words."""

    def __init__(self, msg: str, said: str, status: int, may_pass: bool) -> None:
        super().__init__(msg, code="etcd_refused", status=status)
        self.said = said
        self.status = status
        self.may_pass = may_pass


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer of etcd, whatever it says."""

    status: int
    body: bytes

    def json(self, source: str) -> dict[str, t.Any]:
        """The body as data."""
        try:
            data = json.loads(self.body)
        except ValueError as exc:
            raise DedicatedError(f"etcd {source}: the answer is not JSON: {exc}", code="bad_answer") from exc
        if not isinstance(data, dict):
            raise DedicatedError(f"etcd {source}: the answer is not a mapping", code="bad_answer")
        return data

    @property
    def text(self) -> str:
        """What etcd says about a failure."""
        plain = self.body.decode("utf-8", "replace").strip()[:500]
        try:
            data = json.loads(self.body)
        except ValueError:
            return plain
        return str(data.get("message") or data.get("error") or plain) if isinstance(data, dict) else plain


class Transport(t.Protocol):
    """One request, one answer; no retries."""

    @property
    def url(self) -> str: ...

    def request(self, path: str, data: t.Mapping[str, t.Any], token: str | None = None) -> Reply: ...


class GatewayTransport:
    """The real thing over ansible's open_url, so that TLS behaves as in every other module."""

    # A member without a quorum takes 7 s to say so.
    def __init__(self, params: t.Mapping[str, t.Any], url: str, request_timeout: float = 9) -> None:
        self._url = url.rstrip("/")
        self._options = {
            "use_proxy": False,
            "timeout": request_timeout,
            "ca_path": params.get("ca_path"),
            "client_cert": params.get("client_cert"),
            "client_key": params.get("client_key"),
            "http_agent": "dedicated.odoo",
        }

    @property
    def url(self) -> str:
        return self._url

    def request(self, path: str, data: t.Mapping[str, t.Any], token: str | None = None) -> Reply:
        from ansible.module_utils.urls import ConnectionError as AnsibleConnectionError
        from ansible.module_utils.urls import open_url as untyped_open_url

        open_url: t.Callable[..., t.Any] = untyped_open_url
        # Without Accept the gateway's own certificate would count as the user's (etcd 3.5, auth/store.go).
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = token
        try:
            answer = open_url(self._url + path, method="POST", data=json.dumps(data), headers=headers, **self._options)
            return Reply(int(answer.status), answer.read())
        except HTTPError as exc:
            return Reply(exc.code, exc.read() or b"")
        except (URLError, HTTPException, OSError, AnsibleConnectionError) as exc:
            raise EtcdUnreachable(f"{self._url}: no answer: {exc}", quiet=_is_quiet(exc), url=self._url) from exc


def _is_quiet(exc: BaseException) -> bool:
    reason = exc.reason if isinstance(exc, URLError) else exc
    if isinstance(reason, (TimeoutError, socket.timeout, socket.gaierror, ConnectionRefusedError)):
        return True
    return isinstance(reason, OSError) and reason.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)


class Client:
    """One member, and the login for it. A token is fetched when the member asks for one, and again when it is lost:
    a restarted member knows none."""

    def __init__(self, transport: Transport, username: str | None = None, password: str | None = None) -> None:
        self._transport = transport
        self._username = username
        self._password = password
        self._token: str | None = None

    @property
    def url(self) -> str:
        return self._transport.url

    def call(self, path: str, data: t.Mapping[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The answer as data. Raises EtcdUnreachable, EtcdFailure, or an error that no waiting will mend."""
        reply = self._transport.request(path, data or {}, self._token)
        if self._username and self._wants_login(reply):
            self._token = self._login(self._username, self._password or "")
            reply = self._transport.request(path, data or {}, self._token)
        if reply.status == 200:
            return reply.json(path)
        raise self._judged(path, reply)

    def renew(self, name: str, password: str) -> None:
        """The password of ``name`` is another now."""
        if name == self._username:
            self._password = password
            self._token = None

    def accepts(self, name: str, password: str) -> bool | None:
        """Whether this is the user's password; None while authentication is off, when nobody can tell."""
        reply = self._transport.request("/v3/auth/authenticate", {"name": name, "password": password})
        if reply.status == 200:
            return True
        if "authentication is not enabled" in reply.text:
            return None
        if "authentication failed" in reply.text:
            return False
        raise self._judged("/v3/auth/authenticate", reply)

    def _wants_login(self, reply: Reply) -> bool:
        if reply.status == 200:
            return False
        said = reply.text
        return (
            reply.status == 401
            or any(words in said for words in _LOGIN_NEEDED)
            or (self._token is None and "permission denied" in said)
        )

    def _login(self, username: str, password: str) -> str | None:
        reply = self._transport.request("/v3/auth/authenticate", {"name": username, "password": password})
        if reply.status == 200:
            return str(reply.json("/v3/auth/authenticate").get("token") or "") or None
        said = reply.text
        if "authentication is not enabled" in said:
            return None
        if "authentication failed" in said:
            raise DedicatedError(
                f"{self.url}: etcd does not accept the password of {username}. Give the one that is set.",
                code="bad_login",
            )
        raise self._judged("/v3/auth/authenticate", reply)

    def _judged(self, path: str, reply: Reply) -> DedicatedError:
        said = reply.text
        if _COMMON_NAME in said:
            return DedicatedError(
                f"{self.url}: authentication is on, and then etcd refuses each request whose client certificate has a "
                "common name. Issue the client certificate without one.",
                code="certificate_has_common_name",
            )
        if self._wants_login(reply) and not self._username:
            return DedicatedError(
                f"{self.url}: authentication is on, and no user was given ({said}). Give username and password.",
                code="login_needed",
            )
        may_pass = reply.status in (503, 504) or any(words in said for words in _MAY_PASS)
        return EtcdFailure(f"{self.url}: {path} was refused: {said}", said, reply.status, may_pass)

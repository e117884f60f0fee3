# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Patroni's REST API. A status code is data; being unreachable is the only error."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from http.client import HTTPException
from urllib.error import HTTPError, URLError

from .._common.errors import DedicatedError


class PatroniUnreachable(DedicatedError):
    """Nobody answered. Whether that is bad is the caller's judgement."""


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer of Patroni, whatever it says."""

    status: int
    body: bytes

    def json(self, source: str) -> t.Any:
        """The body as data."""
        try:
            return json.loads(self.body)
        except ValueError as exc:
            raise DedicatedError(f"Patroni {source}: the answer is not JSON: {exc}", code="bad_answer") from exc

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace").strip()[:500]


class Transport(t.Protocol):
    """One request, one answer; no retries."""

    def request(self, method: str, path: str, data: t.Any = None) -> Reply: ...


class RestTransport:
    """The real thing over ansible's open_url, so that TLS behaves as in every other module."""

    def __init__(self, params: t.Mapping[str, t.Any], url: str | None = None, request_timeout: float = 10) -> None:
        self._base = (url or params["url"]).rstrip("/")
        self._options = {
            "use_proxy": False,
            "timeout": request_timeout,
            "ca_path": params.get("ca_path"),
            "client_cert": params.get("client_cert"),
            "client_key": params.get("client_key"),
            "http_agent": "dedicated.odoo",
        }
        self._login: dict[str, t.Any] = {}
        if params.get("username"):
            self._login = {
                "url_username": params["username"],
                "url_password": params["password"],
                "force_basic_auth": True,
            }

    def request(self, method: str, path: str, data: t.Any = None) -> Reply:
        from ansible.module_utils.urls import ConnectionError as AnsibleConnectionError
        from ansible.module_utils.urls import open_url as untyped_open_url

        open_url: t.Callable[..., t.Any] = untyped_open_url

        body = None if data is None else json.dumps(data)
        # Reading needs no password, so that it is not sent without need.
        login = {} if method == "GET" else self._login
        try:
            answer = open_url(
                self._base + path,
                method=method,
                data=body,
                headers={"Content-Type": "application/json"},
                **self._options,
                **login,
            )
            return Reply(int(answer.status), answer.read())
        except HTTPError as exc:
            return Reply(exc.code, exc.read() or b"")
        except (URLError, HTTPException, OSError, AnsibleConnectionError) as exc:
            raise PatroniUnreachable(
                f"{method} {self._base}{path}: no answer: {exc}", code="unreachable", url=self._base
            ) from exc

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the detector is told: one JSON file, every key required except where it says so, no key unknown."""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t
import urllib.parse

from . import plan

_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")


class BadConfig(Exception):
    """The configuration cannot be used."""


@dataclasses.dataclass(frozen=True)
class Config:
    name: str
    scope: str
    namespace: str
    members: tuple[str, ...]
    address: str
    endpoints: tuple[str, ...]
    ca: str
    cert: str
    key: str
    interval: float
    probe_timeout: float
    suspect_seconds: float
    hold_off_seconds: int
    metrics_port: int
    socket_dir: str
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)

    @property
    def timing(self) -> plan.Timing:
        return plan.Timing(
            suspect=self.suspect_seconds,
            late=self.probe_timeout + 1.0,
            fresh=2 * self.probe_timeout + self.interval + 1.0,
        )

    @property
    def law(self) -> plan.Law:
        return plan.Law(self.name, self.members, plan.Keys.of(self.namespace, self.scope), self.timing)


def _text(key: str, value: t.Any) -> str:
    if not isinstance(value, str) or not value:
        raise BadConfig(f"{key}: a text is needed")
    return value


def _name(key: str, value: t.Any) -> str:
    if not _NAME.match(_text(key, value)):
        raise BadConfig(f"{key}: {value!r} is no name (letters, digits, dot, hyphen, underscore)")
    return str(value)


def _number(key: str, value: t.Any, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise BadConfig(f"{key}: a number from {least:g} to {most:g} is needed, not {value!r}")
    return float(value)


def _whole(key: str, value: t.Any, least: int, most: int) -> int:
    if not isinstance(value, int):
        raise BadConfig(f"{key}: a whole number is needed, not {value!r}")
    return int(_number(key, value, least, most))


def _keys(where: str, data: t.Any, needed: t.Collection[str], optional: t.Collection[str] = ()) -> dict[str, t.Any]:
    if not isinstance(data, dict):
        raise BadConfig(f"{where}: an object is needed")
    missing = sorted(set(needed) - set(data))
    unknown = sorted(set(data) - set(needed) - set(optional))
    if missing or unknown:
        parts = [f"missing: {', '.join(missing)}"] if missing else []
        parts += [f"unknown: {', '.join(unknown)}"] if unknown else []
        raise BadConfig(f"{where}: {'; '.join(parts)}")
    return data


def _members(value: t.Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise BadConfig("members: a list of names is needed")
    members = tuple(_name(f"members/{number}", member) for number, member in enumerate(value))
    if len(set(members)) != len(members):
        raise BadConfig("members: a name stands there twice")
    if name not in members:
        raise BadConfig(f"members: {name} is not among them")
    return members


def _endpoint(key: str, value: t.Any) -> str:
    parts = urllib.parse.urlsplit(_text(key, value))
    try:
        good = parts.scheme == "https" and bool(parts.hostname) and parts.port is not None and parts.path in ("", "/")
    except ValueError:
        good = False
    if not good:
        raise BadConfig(f"{key}: {value!r} is not https://host:port")
    return f"https://{parts.netloc}"


def _etcd(value: t.Any) -> tuple[tuple[str, ...], str | None, str | None]:
    etcd = _keys("etcd", value, ("endpoints",), ("username", "password"))
    if not isinstance(etcd["endpoints"], list) or not etcd["endpoints"]:
        raise BadConfig("etcd/endpoints: a list is needed")
    endpoints = tuple(_endpoint(f"etcd/endpoints/{number}", one) for number, one in enumerate(etcd["endpoints"]))
    if ("username" in etcd) != ("password" in etcd):
        raise BadConfig("etcd: username and password belong together")
    if "username" not in etcd:
        return endpoints, None, None
    if not isinstance(etcd["password"], str) or not etcd["password"]:
        raise BadConfig("etcd/password: a text is needed")
    return endpoints, _text("etcd/username", etcd["username"]), etcd["password"]


_NEEDED = tuple(
    field.name for field in dataclasses.fields(Config) if field.name not in ("endpoints", "username", "password")
)


def parse(text: str) -> Config:
    try:
        data = json.loads(text)
    except ValueError as exc:
        raise BadConfig(f"no JSON: {exc}") from exc
    data = _keys("configuration", data, (*_NEEDED, "etcd"))
    name = _name("name", data["name"])
    namespace = _text("namespace", data["namespace"])
    if not (namespace.startswith("/") and namespace.endswith("/") and len(namespace) > 2):
        raise BadConfig(f"namespace: {namespace!r} must begin and end with a slash, with a name between")
    endpoints, username, password = _etcd(data["etcd"])
    config = Config(
        name=name,
        scope=_name("scope", data["scope"]),
        namespace=namespace,
        members=_members(data["members"], name),
        address=_text("address", data["address"]),
        endpoints=endpoints,
        ca=_text("ca", data["ca"]),
        cert=_text("cert", data["cert"]),
        key=_text("key", data["key"]),
        interval=_number("interval", data["interval"], 0.1, 5),
        probe_timeout=_number("probe_timeout", data["probe_timeout"], 0.1, 5),
        suspect_seconds=_number("suspect_seconds", data["suspect_seconds"], 0.5, 60),
        hold_off_seconds=_whole("hold_off_seconds", data["hold_off_seconds"], 10, 86400),
        metrics_port=_whole("metrics_port", data["metrics_port"], 1, 65535),
        socket_dir=_text("socket_dir", data["socket_dir"]),
        username=username,
        password=password,
    )
    if config.suspect_seconds < config.probe_timeout:
        raise BadConfig("suspect_seconds: shorter than probe_timeout, so nobody could be asked in that time")
    return config

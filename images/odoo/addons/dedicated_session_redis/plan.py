# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, settings and life times of sessions in Redis. Pure: standard library only.

A session id has 84 characters: 42 that stay the same through Odoo's soft rotation (the "identifier", which Odoo
stores in the database) and 42 that change. All sessions of one identifier are the fields of one hash
`<prefix><identifier>`, so that a rotation is one transaction on one key, and that looking for or deleting an
identifier needs no search.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t
import urllib.parse

IDENTIFIER_LENGTH = 42
_SID = re.compile(r"[A-Za-z0-9_-]{84}")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{42}")
SCHEMES = ("unix", "redis", "rediss")


class SettingsError(ValueError):
    """odoo.conf says something that cannot be meant."""


@dataclasses.dataclass(frozen=True)
class Settings:
    url: str
    user: str | None = None
    password: str | None = None
    prefix: str = "odoo:session:"


def settings(get: t.Callable[[str], object]) -> Settings | None:
    """From odoo.conf's `dedicated_session_*`; None when there is no URL."""

    def text(name: str) -> str | None:
        value = get(f"dedicated_session_{name}")
        return str(value).strip() or None if value not in (None, False) else None

    url = text("url")
    if url is None or url == "False":
        return None
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise SettingsError(f"dedicated_session_url: scheme {parts.scheme!r} is none of {', '.join(SCHEMES)}")
    if parts.username or parts.password:
        raise SettingsError(
            "dedicated_session_url: holds a user or password; put them into dedicated_session_user and _password"
        )
    return Settings(url, text("user"), text("password"), text("prefix") or Settings.prefix)


def public_url(url: str) -> str:
    return url.partition("?")[0]


def is_sid(sid: object) -> bool:
    return isinstance(sid, str) and _SID.fullmatch(sid) is not None


def is_identifier(identifier: object) -> bool:
    return isinstance(identifier, str) and _IDENTIFIER.fullmatch(identifier) is not None


def place(prefix: str, sid: str) -> tuple[str, str]:
    """(key, field) of a session."""
    if not is_sid(sid):
        raise ValueError(f"Invalid session id {sid!r}")
    return prefix + sid[:IDENTIFIER_LENGTH], sid[IDENTIFIER_LENGTH:]


def claim(field: str) -> str:
    """The field that holds the session id which follows this one; the first rotation to write it wins."""
    return f"next:{field}"


def identifier_keys(prefix: str, identifiers: t.Iterable[str]) -> list[str]:
    """Keys of identifiers. Anything else is refused: it could reach another database's sessions."""
    found = list(identifiers)
    for identifier in found:
        if not is_identifier(identifier):
            raise ValueError("Identifier format incorrect, did you pass in a string instead of a list?")
    return [prefix + identifier for identifier in found]


def scan_pattern(prefix: str) -> str:
    return re.sub(r"([\\*?\[\]])", r"\\\1", prefix) + "*"


def encode(session: t.Mapping[str, object]) -> str:
    return json.dumps(dict(session), separators=(",", ":"))


def decode(raw: bytes | str | None) -> dict[str, t.Any] | None:
    """None: no such session. What cannot be read is an empty session, as in Odoo's own store."""
    if raw is None:
        return None
    try:
        data = json.loads(raw)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def retry_delays(known_away: bool) -> tuple[float, ...]:
    """Pauses between attempts. While the store is known to be away one attempt is enough to find out."""
    return () if known_away else (0.05, 0.2, 0.5)


def lifetime_cut(ttl: int, limit: int) -> bool:
    """Whether a key's remaining life (-1: for ever, -2: gone) has to be cut down to the limit."""
    return ttl == -1 or ttl > limit

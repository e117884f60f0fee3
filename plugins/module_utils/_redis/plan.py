# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run-time settings of a Redis server or of a Sentinel: how they are written, and which differ.

Invariants: only settings that really differ are set, all of them in one command, so that the server takes all or none;
a setting that cannot be read back is never claimed to be unchanged; and no secret value is part of what is shown.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from .._common.errors import Refuse

WITHHELD = "(withheld)"

_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3}
_MEMORY = re.compile(r"(\d+)([bkmg]{0,2})\Z", re.IGNORECASE)
_ALIASES = {"slave": "replica"}
_LIMITS = "client-output-buffer-limit"
_EVENTS = "notify-keyspace-events"


@dataclasses.dataclass(frozen=True)
class Setting:
    """One wanted setting, its value as the server is told it."""

    name: str
    value: str = dataclasses.field(repr=False)
    secret: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings to set, and what may be shown of it."""

    changes: tuple[Setting, ...]
    before: t.Mapping[str, str | None]
    after: t.Mapping[str, str]


def text_of(value: t.Any) -> str:
    """A value from YAML as Redis writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def settings(plain: t.Mapping[str, t.Any], secret: t.Mapping[str, t.Any]) -> tuple[Setting, ...] | Refuse:
    """The wanted settings; names are not case-sensitive, so they are compared in lower case."""
    wanted: dict[str, Setting] = {}
    for mapping, hidden in ((plain, False), (secret, True)):
        for name, value in mapping.items():
            lower = str(name).lower()
            if not re.match(r"[a-z][a-z0-9-]*\Z", lower):
                return Refuse("bad_setting", f"{name!r} is no setting", "its name has other characters", "Correct it.")
            if lower in wanted:
                return Refuse("duplicate_setting", f"{lower} is given twice", "one would win", "Remove one.")
            text = text_of(value)
            # A folded YAML scalar may hold more blanks than the server takes.
            wanted[lower] = Setting(lower, text if hidden else " ".join(text.split()), hidden)
    return tuple(wanted[name] for name in sorted(wanted))


def _token(text: str) -> str:
    found = _MEMORY.match(text)
    if found and found.group(2).lower() in _UNITS:
        return str(int(found.group(1)) * _UNITS[found.group(2).lower()])
    return _ALIASES.get(text, text)


def _limits(text: str) -> dict[str, tuple[str, ...]]:
    """``normal 0 0 0 replica 256mb 64mb 60`` by class of client."""
    tokens = [_token(token) for token in text.split()]
    return {tokens[at]: tuple(tokens[at + 1 : at + 4]) for at in range(0, len(tokens), 4)}


def same(name: str, present: str, wanted: str) -> bool:
    """Whether two spellings of one setting mean the same."""
    if present == wanted:
        return True
    if name == _LIMITS:
        have = _limits(present)
        return all(have.get(client) == limit for client, limit in _limits(wanted).items())
    if name == _EVENTS:
        return set(present.replace("A", "g$lshzxetd")) == set(wanted.replace("A", "g$lshzxetd"))
    return [_token(one) for one in present.split()] == [_token(one) for one in wanted.split()] and bool(present.split())


def plan_settings(present: t.Mapping[str, str], wanted: t.Sequence[Setting], where: str) -> Plan | Refuse:
    """What to set; a setting that the server does not show is one that it does not have."""
    unknown = [setting.name for setting in wanted if setting.name not in present]
    if unknown:
        return Refuse(
            "unknown_setting",
            f"{', '.join(unknown)} cannot be reconciled",
            f"{where} does not show a setting of that name",
            "Look for a typing mistake, or whether this version has it.",
        )
    changes = tuple(one for one in wanted if not _equal(one, present[one.name]))
    return Plan(
        changes,
        {one.name: WITHHELD if one.secret else present[one.name] for one in changes},
        {one.name: WITHHELD + ", changed" if one.secret else one.value for one in changes},
    )


def _equal(wanted: Setting, present: str) -> bool:
    """A secret is compared as it stands: ``1k`` and ``1000`` are two passwords."""
    return present == wanted.value if wanted.secret else same(wanted.name, present, wanted.value)


def argument(text: str) -> str:
    """One argument of a command on redis-cli's standard input."""
    escaped = []
    for byte in text.encode():
        if byte in b'"\\':
            escaped.append("\\" + chr(byte))
        elif 0x20 <= byte < 0x7F:
            escaped.append(chr(byte))
        else:
            escaped.append(f"\\x{byte:02x}")
    return '"' + "".join(escaped) + '"'


def command(*words: str) -> str:
    """One command line for redis-cli's standard input."""
    return " ".join(argument(word) for word in words)

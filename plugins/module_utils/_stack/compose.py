# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compose project as text: labels added, order kept, no quoting surprises.

The dumper is our own because a host may not have PyYAML before its first converge (check mode must work there), and
because PyYAML decides on quotes by YAML 1.1 while Compose reads 1.2: ``12e4567`` would reach a container as a number.
Whatever is not plainly a word is written as a JSON string, which every YAML reads in one way only.
"""

from __future__ import annotations

import json
import re
import typing as t

HASH_LABEL = "dedicated.odoo.config-hash"
HEADER = "# managed by dedicated.odoo: changes made here are overwritten\n"

# A word that no YAML version takes for a number, a date, a boolean or null.
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+-]*(?::[A-Za-z0-9_./@+-]+)*\Z")
# What JSON leaves as it is and YAML does not.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_RESERVED = frozenset({"y", "n", "yes", "no", "true", "false", "on", "off", "null", "inf", "nan"})


def _scalar(value: t.Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value + 0)
    text = str(value)
    if _PLAIN.match(text) and text.lower() not in _RESERVED:
        return text
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def _inline(value: t.Any) -> str | None:
    """Values that stay on the line of their key."""
    if isinstance(value, t.Mapping):
        return None if value else "{}"
    if isinstance(value, (list, tuple)):
        return None if value else "[]"
    return _scalar(value)


def _lines(value: t.Any, indent: int) -> t.Iterator[str]:
    pad = "  " * indent
    if isinstance(value, t.Mapping):
        for key, item in value.items():
            inline = _inline(item)
            if inline is not None:
                yield f"{pad}{_scalar(str(key))}: {inline}"
            else:
                yield f"{pad}{_scalar(str(key))}:"
                yield from _lines(item, indent + 1)
        return
    for item in value:
        inline = _inline(item)
        if inline is not None:
            yield f"{pad}- {inline}"
            continue
        nested = list(_lines(item, indent + 1))
        yield f"{pad}- {nested[0][len(pad) + 2 :]}"
        yield from nested[1:]


def dump(project: t.Mapping[str, t.Any]) -> str:
    """The project as YAML, in the order in which it was given."""
    return HEADER + "\n".join(_lines(project, 0)) + "\n"


def _labels(present: t.Any) -> dict[str, t.Any]:
    """Compose allows a mapping or a list of ``name=value``."""
    if isinstance(present, t.Mapping):
        return dict(present)
    labels: dict[str, t.Any] = {}
    for entry in present or ():
        name, separator, value = str(entry).partition("=")
        labels[name] = value if separator else ""
    return labels


def with_hashes(definition: t.Mapping[str, t.Any], name: str, hashes: t.Mapping[str, str]) -> dict[str, t.Any]:
    """A copy of the definition with the project's name and one hash label for each service in ``hashes``."""
    services = {}
    for service, body in dict(definition.get("services") or {}).items():
        services[service] = dict(body or {})
        if service in hashes:
            services[service]["labels"] = {**_labels(services[service].get("labels")), HASH_LABEL: hashes[service]}
    rest = {key: value for key, value in definition.items() if key not in ("name", "services")}
    return {"name": name, "services": services, **rest}


def rehashed(text: str, hashes: t.Mapping[str, str]) -> str:
    """A text of ``dump`` with other hash labels. A service that has none of ours is left as it is."""
    lines = []
    section = service = ""
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        word = line.strip().rpartition(":")[0].strip('"')
        if indent == 0:
            section = word
        elif indent == 2 and section == "services":
            service = word
        if section == "services" and service in hashes and line.strip().startswith(f"{HASH_LABEL}:"):
            line = f"{' ' * indent}{HASH_LABEL}: {_scalar(hashes[service])}"
        lines.append(line)
    return "\n".join(lines) + "\n"

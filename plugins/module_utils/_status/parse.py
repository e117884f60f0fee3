# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What programs of a host print, as plain data.

Law: what is not understood raises ValueError with its source; it never becomes a value that looks good.
"""

from __future__ import annotations

import csv
import json
import re
import typing as t

from .._pgbackrest import parse as pgbackrest

PROJECT_DIRECTORY = "com.docker.compose.project.working_dir"
SERVICE = "com.docker.compose.service"
ONE_OFF = "com.docker.compose.oneoff"

_HEALTH = re.compile(r"\((?:health: )?(healthy|unhealthy|starting)\)")
_SAMPLE = re.compile(r"(\w+?)(?:\{([^}]*)\})? (-?[0-9.eE+]+)\Z")
# HAProxy's column "type": a server, not a frontend or a backend as a whole.
_SERVER = "2"


# -- containers ------------------------------------------------------------------------------------------------------


def containers(entries: t.Any, root: str) -> list[dict[str, t.Any]]:
    """The engine's list of containers: those of the stacks below ``root``, without one-time steps."""
    if not isinstance(entries, list):
        raise ValueError("docker /containers/json: not a list")
    found = []
    for entry in entries:
        labels = entry.get("Labels") or {}
        if (
            not str(labels.get(PROJECT_DIRECTORY, "")).startswith(f"{root.rstrip('/')}/")
            or labels.get(ONE_OFF) == "True"
        ):
            continue
        health = _HEALTH.search(str(entry.get("Status", "")))
        found.append(
            {
                "name": str((entry.get("Names") or ["?"])[0]).lstrip("/"),
                "stack": str(labels[PROJECT_DIRECTORY]).rstrip("/").rpartition("/")[2],
                "service": str(labels.get(SERVICE, "")),
                "state": str(entry.get("State", "")),
                "health": health.group(1) if health else "none",
                "status": str(entry.get("Status", "")),
            }
        )
    return sorted(found, key=lambda one: str(one["name"]))


# -- units -----------------------------------------------------------------------------------------------------------


def units(text: str, ours: t.Callable[[str], bool]) -> list[dict[str, str]]:
    """``systemctl list-units --all --plain --no-legend``: those of ours, and whatever has failed."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 4:
            continue
        name, load, active, sub = words[:4]
        if load != "not-found" and (active == "failed" or ours(name)):
            found.append({"name": name, "load": load, "active": active, "sub": sub})
    return found


# -- router ----------------------------------------------------------------------------------------------------------


def servers(text: str) -> list[dict[str, str]]:
    """``show stat`` of HAProxy: its servers."""
    rows = list(csv.DictReader(text.lstrip("# ").splitlines()))
    if not rows or not {"pxname", "svname", "status", "type"} <= rows[0].keys():
        raise ValueError("haproxy show stat: no table of servers")
    return [
        {
            "proxy": row["pxname"],
            "name": row["svname"],
            # "UP 1/2" and "DOWN 2/3" are on their way; "no check" is not asked.
            "status": row["status"],
            "check": row.get("check_status") or "",
        }
        for row in rows
        if row["type"] == _SERVER
    ]


def pools(text: str) -> dict[str, list[dict[str, t.Any]]]:
    """``SHOW DATABASES`` and ``SHOW POOLS`` of PgBouncer, one table (CSV) after the other."""
    tables: dict[str, list[str]] = {}
    rows: list[str] | None = None
    for line in text.splitlines():
        title = {"name,": "databases", "database,": "pools"}.get(line[: line.find(",") + 1])
        if title is not None and title not in tables:
            rows = tables[title] = [line]
        elif rows is not None and line:
            rows.append(line)
    if set(tables) != {"databases", "pools"}:
        raise ValueError("pgbouncer: SHOW DATABASES and SHOW POOLS: not both tables")
    try:
        return {
            "databases": [
                {"name": row["name"], "paused": row["paused"] == "1", "disabled": row["disabled"] == "1"}
                for row in csv.DictReader(tables["databases"])
                # Its own console is no database.
                if row["name"] != "pgbouncer"
            ],
            "pools": [
                {
                    "database": row["database"],
                    "user": row["user"],
                    "waiting": int(row["cl_waiting"]),
                    "max_wait_seconds": int(row["maxwait"]),
                }
                for row in csv.DictReader(tables["pools"])
                if row["database"] != "pgbouncer"
            ],
        }
    except (KeyError, TypeError) as exc:
        raise ValueError(f"pgbouncer: SHOW DATABASES and SHOW POOLS: {exc} is missing") from exc


# -- PostgreSQL and its backups --------------------------------------------------------------------------------------


def database(text: str) -> dict[str, t.Any]:
    """The one row that the server was asked for, as JSON."""
    value = _json(text, "psql")
    if not isinstance(value, dict) or not isinstance(value.get("in_recovery"), bool):
        raise ValueError("psql: in_recovery is missing")
    return value


def backups(text: str, stanza: str) -> dict[str, t.Any]:
    """``pgbackrest --output=json info``, of which status tells little."""
    told = pgbackrest.info(text, stanza)
    return {
        "code": told.code,
        "message": told.message,
        "running": told.running,
        "backups": [
            {
                "label": one.label,
                "type": one.type,
                "start": one.begun,
                "stop": one.ended,
                "damaged": one.damaged,
                "bytes": one.database_bytes,
            }
            for one in told.backups
        ],
    }


def repository(text: str, stanza: str, key: int) -> dict[str, t.Any]:
    """The same of one repository among several, with its own words and the newest WAL that it has."""
    told, known = backups(text, stanza), pgbackrest.info(text, stanza).repository(key)
    newest = [
        str(one.get("max") or "")
        for entry in json.loads(text, strict=False)
        if entry.get("name") == stanza
        for one in entry.get("archive") or []
    ]
    return {
        **told,
        "code": told["code"] if known is None else known.code,
        "message": told["message"] if known is None else known.message,
        "newest_wal": max(newest, default=""),
    }


def together(told: t.Mapping[int, t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """What several repositories hold, as if they were one. Raises ValueError when none could be asked."""
    good = {key: one for key, one in told.items() if "error" not in one and one["code"] != pgbackrest.OTHER}
    if not good:
        raise ValueError(
            "; ".join(f"repository {key}: {one.get('error') or one['message']}" for key, one in told.items())
        )
    best = min(good.values(), key=lambda one: int(one["code"]))
    return {
        "code": best["code"],
        "message": best["message"],
        "running": any(one["running"] for one in good.values()),
        "backups": sorted(
            ({**each, "repository": key} for key, one in good.items() for each in one["backups"]),
            key=lambda each: int(each["stop"]),
        ),
        "repositories": [
            {
                "number": key,
                "code": one.get("code"),
                "message": one.get("error") or one["message"],
                "reached": key in good,
                "newest_wal": one.get("newest_wal", ""),
            }
            for key, one in sorted(told.items())
        ],
    }


def _json(text: str, source: str) -> t.Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError(f"{source}: not JSON: {text.strip()[:120]!r}") from None


# -- failure detector ------------------------------------------------------------------------------------------------


def detector(text: str) -> dict[str, t.Any]:
    """The failure detector's metrics."""
    samples: dict[str, float] = {}
    decision = ""
    for line in text.splitlines():
        match = None if line.startswith("#") else _SAMPLE.match(line)
        if match is None:
            continue
        name, labels, number = match.groups()
        if name == "dedicated_detector_decision":
            decision = labels.split('"')[1] if labels and float(number) else decision
        else:
            samples[name] = samples.get(name, 0.0) + float(number)
    if "dedicated_detector_up" not in samples:
        raise ValueError("detector: dedicated_detector_up is missing")
    return {
        "up": samples["dedicated_detector_up"] == 1,
        "suspects": samples.get("dedicated_detector_suspects", 0) > 0,
        "removals": int(samples.get("dedicated_detector_removals_total", 0)),
        "etcd_errors": int(samples.get("dedicated_detector_etcd_errors_total", 0)),
        "decision": decision,
    }

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads what one host can tell of itself. Changes nothing.

Every part is asked for itself and at the same time as the others, each with its own deadline: what does not answer is
an ``error`` in its place, and the rest is told all the same.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import http.client
import json
import os
import re
import socket
import time
import typing as t
from pathlib import Path

from .._certificate.io import Target
from .._certificate.parse import chain, pem
from .._certificate.service import HostEyes, InfoService
from .._common.errors import DedicatedError
from .._common.runner import Runner
from .._pgbackrest.io import plain
from .._preflight import identity
from . import parse

# Users of the images that are asked from inside (images/*/contract.yml).
POSTGRES_UID = "10010"
UNITS = re.compile(r"(dedicated-.+|docker|keepalived|chrony)\.(service|timer)")
CLUSTER_FILE = "/etc/dedicated/cluster"
FIB_TRIE = "/proc/net/fib_trie"
ROUTER = "/run/dedicated/router"
# What the command timeout ends with when it had to act.
TIMED_OUT = 124
# HAProxy's answer is some kilobytes.
ANSWER_LIMIT = 1 << 20
# What is asked over HTTP on this host, by layer: name, port, path. Odoo says there whether it reaches its database.
PROBES = {
    "odoo": (
        ("odoo", 8069, "/web/health?db_server_status=1"),
        ("websocket", 8072, "/websocket/health"),
        ("haproxy", 5080, "/alive"),
    ),
    "edge": (("traefik", 8082, "/ping"),),
}
DETECTOR = (8010, "/metrics")
# Waiting WAL: what archive_command has not taken yet. Slots that are lost: their member cannot come back by itself.
DATABASE_SQL = """
SELECT json_build_object(
  'in_recovery', pg_is_in_recovery(),
  'archive_failing', coalesce(last_failed_time > last_archived_time, last_failed_time IS NOT NULL),
  'archived_seconds_ago', extract(epoch FROM now() - last_archived_time)::bigint,
  'failed_seconds_ago', extract(epoch FROM now() - last_failed_time)::bigint,
  'waiting_wal', (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'),
  'connections', (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
  'max_connections', current_setting('max_connections')::int,
  'lost_slots', (SELECT coalesce(json_agg(slot_name ORDER BY slot_name), '[]') FROM pg_replication_slots
                 WHERE wal_status IN ('unreserved', 'lost'))
) FROM pg_stat_archiver
"""

# Written by the playbooks rehearse_restore, verify_backup (when they begin, and when they have passed) and restore.
NOTES = {
    "rehearsal": "/var/lib/dedicated/restore-rehearsed.json",
    "rehearsal_begun": "/var/lib/dedicated/restore-rehearsal-begun.json",
    "verification": "/var/lib/dedicated/backups-verified.json",
    "verification_begun": "/var/lib/dedicated/backup-verification-begun.json",
}
CLOSED = "/etc/dedicated/closed"
# On edges, by the playbook maintenance_page.
MAINTENANCE = "/etc/dedicated/maintenance-page"


# What is told of a served certificate; the rest is certificate_info's.
SERVED = ("name", "protocol", "code", "why", "serial", "issuer", "not_before", "not_after", "verified",
          "unverified_because")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Wish:
    """What is asked of this host."""

    layers: tuple[str, ...] = ()
    stanza: str = ""
    backup_container: str = "postgres"
    repositories: tuple[int, ...] = ()
    disks: tuple[str, ...] = ()
    root: str = "/opt/dedicated"
    pki: str = "/etc/dedicated/pki"
    timeout: float = 20.0
    # The name of a certificate, and a port that serves it.
    endpoints: tuple[tuple[str, Target], ...] = ()
    handshake_timeout: float = 5.0


class Engine(t.Protocol):
    """Questions to the Docker engine."""

    def get(self, path: str) -> t.Any:
        """The decoded answer, or None."""


def ours(unit: str) -> bool:
    """Whether a unit of systemd is one that our roles lay down or need."""
    return UNITS.fullmatch(unit) is not None


def read(path: str | Path) -> str:
    """A file's text; nothing when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def noted(path: str) -> t.Any:
    """What an operation left for others to know; nothing when it left nothing."""
    text = read(path)
    return json.loads(text) if text else {}


def guarded(ask: t.Callable[[], t.Any]) -> t.Any:
    """An answer, or in its place the reason why there is none."""
    try:
        return ask()
    except DedicatedError as exc:
        return {"error": exc.msg}
    except (OSError, http.client.HTTPException, ValueError) as exc:
        return {
            "error": f"{type(exc).__name__}: {exc}"
            if isinstance(exc, (OSError, http.client.HTTPException))
            else str(exc)
        }


def fetch(port: int, path: str, timeout: float) -> tuple[int, str]:
    """One request on loopback."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read(ANSWER_LIMIT).decode("utf-8", "replace")
    finally:
        connection.close()


def converse(path: str, text: str, timeout: float) -> str:
    """A line to a Unix socket, and all that comes back until it is closed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(path)
        connection.sendall(text.encode())
        answer = bytearray()
        while len(answer) < ANSWER_LIMIT:
            piece = connection.recv(65536)
            if not piece:
                break
            answer += piece
        return answer.decode("utf-8", "replace")


def certificates(directory: str) -> list[dict[str, t.Any]]:
    """Every certificate below the directory, and the authorities that stand beside them."""
    found = []
    for path in sorted(Path(directory).glob("*/cert.pem")) + sorted(Path(directory).glob("ca.pem")):
        entry: dict[str, t.Any] = {
            "name": "ca" if path.name == "ca.pem" else path.parent.name,
            "path": str(path),
            "authority": path.name == "ca.pem",
        }
        try:
            found_here = chain(pem(path.read_text(encoding="ascii", errors="replace")))
            if not found_here:
                raise ValueError("the file holds no certificate")
            first = found_here[0]
            entry.update(serial=first.serial, not_before=first.not_before, not_after=first.not_after)
        except (OSError, ValueError) as exc:
            entry["error"] = str(exc)
        found.append(entry)
    return found


def disk(path: str) -> dict[str, t.Any]:
    """Free space of the file system at a path."""
    stat = os.statvfs(path)
    mebibyte = 1024 * 1024
    return {
        "path": path,
        "free_mb": stat.f_bavail * stat.f_frsize // mebibyte,
        "total_mb": stat.f_blocks * stat.f_frsize // mebibyte,
    }


class Host:
    """One host, asked in parts."""

    def __init__(
        self,
        wish: Wish,
        runner: Runner,
        engine: t.Callable[[bool], Engine],
        fetcher: t.Callable[[int, str, float], tuple[int, str]] = fetch,
        conversation: t.Callable[[str, str, float], str] = converse,
        now: t.Callable[[], float] = time.time,
        eyes: InfoService | None = None,
    ) -> None:
        self._wish = wish
        self._eyes = eyes or InfoService(HostEyes(runner, wish.handshake_timeout), now)
        self._runner = runner
        self._engine = engine
        self._fetch = fetcher
        self._converse = conversation
        self._now = now

    def look(self) -> dict[str, t.Any]:
        """Everything at once; the slowest part is what it takes."""
        wish = self._wish
        parts: dict[str, t.Callable[[], t.Any]] = {
            "engine": self._containers,
            "units": self._units,
            "certificates": lambda: certificates(wish.pki),
            "served": self._served,
            "closed": lambda: noted(CLOSED),
            "maintenance": lambda: noted(MAINTENANCE),
            "disks": lambda: [disk(path) for path in wish.disks],
        }
        if "postgres" in wish.layers:
            parts["database"] = self._database
            parts["detector"] = self._detector
            parts.update({name: functools.partial(noted, path) for name, path in NOTES.items()})
            if wish.stanza:
                parts["backups"] = self._backups
        if "odoo" in wish.layers:
            parts["router"] = self._router
            parts["pools"] = self._pools
        probes = [probe for layer in wish.layers for probe in PROBES.get(layer, ())]
        with concurrent.futures.ThreadPoolExecutor(max_workers=len(parts) + len(probes)) as pool:
            running = {name: pool.submit(guarded, ask) for name, ask in parts.items()}
            asked = {name: pool.submit(self._probe, port, path) for name, port, path in probes}
            found = {name: future.result() for name, future in running.items()}
            found["probes"] = {name: future.result() for name, future in asked.items()}
        # After the answers, so that nothing that they tell lies in the future.
        return {
            "now": int(self._now()),
            "cluster": read(CLUSTER_FILE).strip(),
            "addresses": list(identity.parse_addresses(read(FIB_TRIE))),
            **found,
        }

    def _run(self, argv: t.Sequence[str]) -> str:
        done = self._runner.run(argv, timeout=self._wish.timeout)
        if done.rc == TIMED_OUT:
            raise DedicatedError(f"{argv[0]} did not end within {self._wish.timeout:g} s")
        if done.rc != 0:
            words = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise DedicatedError(f"{argv[0]} ended with {done.rc}: {words[:300]}")
        return done.stdout

    def _inside(self, container: str, user: str, argv: t.Sequence[str]) -> str:
        """In a container, where the program itself has a deadline: ending docker exec does not end it."""
        limit = str(max(1, int(self._wish.timeout) - 1))
        as_user = ["--user", user] if user else []
        return self._run(["docker", "exec", *as_user, container, "timeout", limit, *argv])

    def _containers(self) -> dict[str, t.Any]:
        state = self._run(["systemctl", "show", "docker.service", "--property=ActiveState", "--value"]).strip()
        # Debian's socket unit would start a stopped engine by being asked.
        listed = self._engine(state == "active").get("/containers/json?all=true")
        if listed is None:
            return {"state": state, "containers": [], "error": "the Docker engine does not answer"}
        return {"state": state, "containers": parse.containers(listed, self._wish.root)}

    def _served(self) -> list[dict[str, t.Any]]:
        """By the port as it was asked: two certificates may be served behind one name."""
        told = self._eyes.look([], [target for _name, target in self._wish.endpoints], "")
        by_port = {
            (one["protocol"], one["host"], one["port"]): one for one in [*told["certificates"], *told["missing"]]
        }
        found = []
        for name, target in self._wish.endpoints:
            one = by_port[(target.protocol, target.host, target.port)]
            found.append({"certificate": name, **{key: one[key] for key in SERVED if key in one}})
        return found

    def _units(self) -> list[dict[str, str]]:
        listed = self._run(
            [
                "systemctl",
                "list-units",
                "--all",
                "--plain",
                "--no-legend",
                "--no-pager",
                "--full",
                "--type=service,timer",
            ]
        )
        return parse.units(listed, ours)

    def _probe(self, port: int, path: str) -> dict[str, t.Any]:
        try:
            status, text = self._fetch(port, path, min(5.0, self._wish.timeout))
        except (OSError, http.client.HTTPException) as exc:
            return {"ok": False, "status": 0, "reason": f"{type(exc).__name__}: {exc}"}
        return {"ok": status == 200, "status": status, "reason": "" if status == 200 else text.strip()[:200]}

    def _database(self) -> dict[str, t.Any]:
        sql = " ".join(DATABASE_SQL.split())
        argv = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--host", "/run/postgresql"]
        return parse.database(self._inside("postgres", POSTGRES_UID, [*argv, "--dbname", "postgres", "--command", sql]))

    def _detector(self) -> dict[str, t.Any]:
        try:
            status, text = self._fetch(*DETECTOR, min(5.0, self._wish.timeout))
        except ConnectionRefusedError:
            # It is not part of every cluster.
            return {"up": False, "absent": True}
        if status != 200:
            raise ValueError(f"detector: HTTP {status}")
        return parse.detector(text)

    def _backups(self) -> dict[str, t.Any]:
        wish = self._wish
        if len(wish.repositories) < 2:
            return parse.backups(self._info(), wish.stanza)
        # Each by itself and at once: one that does not answer takes all of its time.
        with concurrent.futures.ThreadPoolExecutor(max_workers=len(wish.repositories)) as pool:
            asked = {key: pool.submit(guarded, functools.partial(self._repository, key)) for key in wish.repositories}
            told = {key: future.result() for key, future in asked.items()}
        return parse.together(told)

    def _repository(self, key: int) -> dict[str, t.Any]:
        found = parse.repository(self._info(f"--repo={key}"), self._wish.stanza, key)
        return {**found, "message": plain(found["message"])}

    def _info(self, *words: str) -> str:
        wish = self._wish
        argv = ["pgbackrest", f"--stanza={wish.stanza}", *words, "--output=json", "info"]
        return self._inside(wish.backup_container, POSTGRES_UID, argv)

    def _router(self) -> list[dict[str, str]]:
        return parse.servers(self._converse(f"{ROUTER}/haproxy.sock", "show stat\n", min(5.0, self._wish.timeout)))

    def _pools(self) -> dict[str, t.Any]:
        # PgBouncer lets a process of its own user in as "pgbouncer", over the socket and without a password.
        argv = ["psql", "--no-psqlrc", "--csv", "--host", ROUTER, "--port", "6432", "--username", "pgbouncer"]
        shows = ["--dbname", "pgbouncer", "--command", "SHOW DATABASES", "--command", "SHOW POOLS"]
        return parse.pools(self._inside("pgbouncer", "", [*argv, *shows]))

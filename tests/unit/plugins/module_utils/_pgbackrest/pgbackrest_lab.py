# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with PostgreSQL and pgBackRest as one simulator, and what the real ones (2.55.1, 17) said.

``fixtures/`` holds captured answers: three backups and one that is running; a repository in which a segment is missing,
damaged files, a lost bundle; five timelines after four failovers; stores and keys that do not answer.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import Completed
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest.io import PgBackRest

FIXTURES = Path(__file__).parent / "fixtures"
NOW = 1795370200.0
SYSTEM = "7711055441762328605"
BEGIN_OF_EXPIRE = "expire command begin 2.55.1: --dry-run --repo1-retention-full=30 --repo1-retention-full-type=time\n"


def captured(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


def server(**changes: t.Any) -> dict[str, t.Any]:
    """A leader on timeline 1 that has just closed its eighth segment."""
    return {
        "now": NOW,
        "in_recovery": False,
        "system_id": SYSTEM,
        "version": "17",
        "segment_bytes": 16 << 20,
        "archive_timeout": 0,
        "wal": "000000010000000000000009",
        "lsn": "0/9000060",
        "history": None,
        "archived_count": 9,
        "failed_count": 0,
        "last_archived": "000000010000000000000008",
        "last_archived_at": NOW - 9,
        "last_failed": None,
        "last_failed_at": None,
        "files": {"000000010000000000000008.done": NOW - 10, "000000010000000000000007.done": NOW - 70},
        **changes,
    }


def standby(**changes: t.Any) -> dict[str, t.Any]:
    return server(in_recovery=True, wal=None, lsn=None, **changes)


def listing(*numbers: int, timeline: int = 1, at: float = NOW - 9, **others: t.Any) -> dict[str, t.Any]:
    """``repo-ls`` of an archive with these segments, by number."""
    folder = f"{timeline:08X}00000000"
    found: dict[str, t.Any] = {".": {"type": "path"}, folder: {"type": "path"}}
    for number in numbers:
        name = f"{folder}/{folder}{number:08X}-{'a' * 40}.zst"
        found[name] = {"type": "file", "size": 1000, "time": int(at)}
    return {**found, **others}


def entry(name: str = "info_three.json") -> dict[str, t.Any]:
    """The stanza's entry of a captured answer, to be changed."""
    return t.cast("dict[str, t.Any]", json.loads(captured(name), strict=False)[0])


@dataclasses.dataclass
class Lab:
    """``acts``: what a command does beside succeeding. ``fails``: exit code and words of a verb, or an exception."""

    stanza: dict[str, t.Any] = dataclasses.field(default_factory=entry)
    postgres: dict[str, t.Any] = dataclasses.field(default_factory=server)
    archives: dict[tuple[int, str], dict[str, t.Any]] = dataclasses.field(
        default_factory=lambda: {(1, "17-1"): listing(*range(1, 9))}
    )
    verify: dict[int, str] = dataclasses.field(default_factory=lambda: {1: captured("verify_ok.txt")})
    expire: str = ""
    acts: dict[str, t.Callable[[Lab, tuple[str, ...]], None]] = dataclasses.field(default_factory=dict)
    fails: dict[str, tuple[int, str] | Exception] = dataclasses.field(default_factory=dict)
    ran: list[tuple[str, ...]] = dataclasses.field(default_factory=list)
    timeouts: list[float] = dataclasses.field(default_factory=list)

    def find(self, program: str) -> str | None:
        return f"/usr/bin/{program}"

    def run(
        self,
        argv: t.Sequence[str],
        env: t.Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> Completed:
        inner = tuple(argv)[9:]
        assert tuple(argv)[:5] == ("docker", "exec", "--user", "10010", "postgres")
        assert tuple(argv)[5:8] == ("timeout", "-k", "5")
        assert float(argv[8]) < timeout
        self.ran.append(inner)
        self.timeouts.append(float(argv[8]))
        verb = self.verb(inner)
        failing = self.fails.get(verb)
        if isinstance(failing, Exception):
            raise failing
        if failing is not None:
            return Completed(tuple(argv), failing[0], "", failing[1])
        if verb in self.acts:
            self.acts[verb](self, inner)
        out, err = self._says(verb, inner)
        return Completed(tuple(argv), 0, out, err)

    @staticmethod
    def verb(inner: t.Sequence[str]) -> str:
        if inner[0] == "psql":
            return "psql"
        assert inner[0] == "pgbackrest"
        return next(one for one in inner[1:] if not one.startswith("-"))

    @property
    def verbs(self) -> list[str]:
        """What was ordered, without the questions."""
        orders = [one for one in self.ran if self.verb(one) not in ("psql", "info", "repo-ls")]
        return [self.verb(one) + (" dry" if "--dry-run" in one else "") for one in orders]

    def _says(self, verb: str, inner: tuple[str, ...]) -> tuple[str, str]:
        repository = next((int(one[7:]) for one in inner if one.startswith("--repo=")), 1)
        if verb == "psql":
            return json.dumps(self.postgres), ""
        if verb == "info":
            return json.dumps([self.stanza]), ""
        if verb == "repo-ls":
            return json.dumps(self.archives.get((repository, inner[-1].rpartition("/")[2]), {".": {}})), ""
        if verb == "verify":
            return self.verify[repository], ""
        return "", self.expire if verb == "expire" else ""


def pgbackrest(lab: Lab, timeout: int = 60) -> PgBackRest:
    return PgBackRest(lab, "postgres", str(lab.stanza["name"]), timeout)


def code_of(exc: DedicatedError) -> str:
    return str(exc.details["code"])

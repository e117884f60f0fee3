# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at files and ports, all at the same time; what has no certificate is told with its reason."""

from __future__ import annotations

import concurrent.futures
import time
import typing as t

from .._common.runner import Runner
from . import io, parse, plan
from .io import Failure, Served, Target

# Enough for every port of a host; more only wait for their turn.
WORKERS = 16

Entry = dict[str, t.Any]


class Eyes(t.Protocol):
    """How files and ports are looked at."""

    def read(self, path: str) -> str:
        """The text of a file. Raises Failure."""

    def verify(self, path: str, ca: str) -> tuple[bool | None, str]:
        """Whether a file's certificate is trusted, and why not."""

    def ask(self, target: Target) -> Served:
        """What a port serves."""


class HostEyes:
    """The real thing."""

    def __init__(self, runner: Runner, timeout: float) -> None:
        self._runner, self._timeout = runner, timeout

    def read(self, path: str) -> str:
        return io.read(path)

    def verify(self, path: str, ca: str) -> tuple[bool | None, str]:
        return io.verify(self._runner, path, ca, self._timeout)

    def ask(self, target: Target) -> Served:
        return io.ask(target, self._timeout)


def _judged(verified: bool | None, why: str, ca: str) -> Entry:
    return {"verified": verified, "unverified_because": why if ca else "no authority was given"}


class InfoService:
    """Certificates of one host's files, and of whatever ports it can reach."""

    def __init__(self, eyes: Eyes, now: t.Callable[[], float] = time.time) -> None:
        self._eyes, self._now = eyes, now

    def look(self, files: t.Sequence[str], targets: t.Sequence[Target], ca: str) -> dict[str, t.Any]:
        """Every file and port is either among the certificates or among the missing, in the order of the question."""
        asked: list[t.Callable[[], Entry]] = [
            *(lambda path=path: self._file(path, ca) for path in files),
            *(lambda target=target: self._port(target) for target in targets),
        ]
        if not asked:
            return {"certificates": [], "missing": []}
        with concurrent.futures.ThreadPoolExecutor(max_workers=min(WORKERS, len(asked))) as pool:
            found = list(pool.map(lambda one: one(), asked))
        return {
            "certificates": [one for one in found if "serial" in one],
            "missing": [one for one in found if "serial" not in one],
        }

    def _file(self, path: str, ca: str) -> Entry:
        place = {
            "source": "file",
            "name": path,
            "path": path,
            "protocol": None,
            "host": None,
            "port": None,
            "server_name": None,
        }
        try:
            chain = parse.chain(parse.pem(self._eyes.read(path)))
        except Failure as exc:
            return {**place, "code": exc.code, "why": exc.msg}
        except parse.Malformed as exc:
            return {**place, "code": "malformed", "why": str(exc)}
        if not chain:
            return {**place, "code": "no_certificate", "why": "the file holds no certificate"}
        judged = _judged(*(self._eyes.verify(path, ca) if ca else (None, "")), ca)
        return {**place, "code": "", "why": "", **plan.full(chain, True, self._now()), **judged}

    def _port(self, target: Target) -> Entry:
        served = self._eyes.ask(target)
        place = {
            "source": "port",
            "name": target.name,
            "path": None,
            "protocol": target.protocol,
            "host": target.host,
            "port": target.port,
            "server_name": target.server_name or target.host,
            "code": served.code,
            "why": served.why,
        }
        if not served.chain:
            return place
        try:
            chain = parse.chain(served.chain)
        except parse.Malformed as exc:
            return {**place, "code": "malformed", "why": str(exc)}
        judged = _judged(served.verified, served.unverified, target.ca)
        return {**place, **plan.full(chain, served.whole, self._now()), **judged}

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watchdogs, as transient timers of the host's systemd; the console itself is in ``console.py``."""

from __future__ import annotations

import inspect
import os
import secrets
import sys
import typing as t

from .._common.errors import DedicatedError
from .._common.runner import Runner
from .._common.waiting import Clock
from . import console, plan
from .console import Row
from .plan import Watchdog

SCRIPT = "/run/dedicated/pgbouncer-resume.py"
PROPERTIES = "Id,ActiveState,SubState"


class Session(t.Protocol):
    """A connection to the console; ``console.Console`` is the real one."""

    def ask(self, command: str) -> list[Row]: ...

    def start(self, command: str) -> None: ...

    def ended(self, timeout: float) -> bool: ...

    def close(self) -> None: ...


def connector(params: t.Mapping[str, t.Any]) -> t.Callable[[], Session]:
    """New connections to the PgBouncer that a module's options name."""
    path = console.socket_path(params["socket_dir"], params["port"])
    return lambda: console.Console(path, params["connect_timeout"])


class Watchdogs:
    """Timers of one PgBouncer. ``clock`` must be the one that systemd counts with: monotonic since boot."""

    def __init__(self, runner: Runner, clock: Clock, socket_dir: str, port: int, script: str = SCRIPT) -> None:
        self._runner = runner
        self._clock = clock
        self._socket = console.socket_path(socket_dir, port)
        self._port = port
        self._script = script

    def why_not(self) -> str | None:
        """Why none can be armed here."""
        for program in ("systemd-run", "systemctl"):
            if self._runner.find(program) is None:
                return f"{program} is not there"
        return None

    def look(self) -> tuple[Watchdog, ...]:
        """All that are armed, or at their work."""
        argv = ["systemctl", "show", f"--property={PROPERTIES}", plan.units_of(self._port)]
        return plan.watchdogs_of(self._run(argv), self._port, self._clock.monotonic())

    def arm(self, database: str, deadline: float) -> str:
        """Arm one, after its program has proven that it reaches the console; the unit's name without its suffix."""
        self._install()
        interpreter = [sys.executable, "-I", self._script]
        self._run([*interpreter, "try", self._socket])
        until = self._clock.monotonic() + deadline
        unit = plan.unit_of(self._port, database, until, secrets.token_hex(4))
        program = [*interpreter, "resume", self._socket, database, f"{until:.3f}"]
        self._run(
            [
                "systemd-run",
                "--quiet",
                # Gone when it is done, even if it failed.
                "--collect",
                f"--unit={unit}",
                f"--description=Ends the pause of a database in PgBouncer (port {self._port})",
                f"--on-active={max(0.0, deadline - plan.LEAD):.3f}s",
                # systemd's default is a minute.
                "--timer-property=AccuracySec=50ms",
                "--property=Type=oneshot",
                # Killed, also for want of memory, it is started again; refused by PgBouncer, it is not.
                "--property=Restart=on-abnormal",
                "--property=OOMScoreAdjust=-900",
                "--property=Nice=-10",
                "--",
                # systemd replaces variables in a service's arguments.
                *(word.replace("$", "$$") for word in program),
            ]
        )
        return unit

    def follow(self, database: str, seconds: float, haproxy: str, backend: str, old: str) -> None:
        """Start what ends the pause when the way has moved. Should it fail, the watchdog is still there."""
        until = f"{self._clock.monotonic() + seconds:.3f}"
        program = [sys.executable, "-I", self._script, "follow", self._socket, database, until, haproxy, backend, old]
        self._run(
            [
                "systemd-run",
                "--quiet",
                "--collect",
                f"--unit={plan.FOLLOWER}-{self._port}-{secrets.token_hex(4)}",
                "--description=Ends the pause of a database in PgBouncer when another leads",
                "--property=Nice=-10",
                "--",
                *(word.replace("$", "$$") for word in program),
            ]
        )

    def disarm(self, units: t.Sequence[str]) -> None:
        """Stop timers and what they started. A pattern, because one that is gone already is none."""
        self._run(["systemctl", "stop", *(f"{unit}.*" for unit in units)])

    def _install(self) -> None:
        """The program's file: its own text, so that there is one client and not two."""
        try:
            os.makedirs(os.path.dirname(self._script), mode=0o755, exist_ok=True)
            # Written beside and moved: an armed watchdog may start at any moment.
            beside = f"{self._script}.{os.getpid()}"
            with open(beside, "w", encoding="utf-8", opener=_private) as stream:
                stream.write(inspect.getsource(console))
            os.replace(beside, self._script)
        except OSError as exc:
            raise DedicatedError(f"{self._script}: {exc.strerror}", code="watchdog_failed") from exc

    def _run(self, argv: list[str]) -> str:
        done = self._runner.run(argv, timeout=30)
        if done.rc != 0:
            said = (done.stderr or done.stdout).strip()
            raise DedicatedError(f"{argv[0]} ended with {done.rc}: {said}", code="watchdog_failed")
        return done.stdout


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

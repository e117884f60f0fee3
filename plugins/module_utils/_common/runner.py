# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running a command: argv instead of a shell, a fixed locale, and always a deadline."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import typing as t

from .errors import DedicatedError


@dataclasses.dataclass(frozen=True)
class Completed:
    """What a command left behind. The exit code is data; judging it is the caller's work."""

    argv: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str


class Runner(t.Protocol):
    """The only way in which services start programs."""

    def find(self, program: str) -> str | None:
        """Path of the program, or None when the host does not have it."""

    def run(
        self,
        argv: t.Sequence[str],
        env: t.Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> Completed:
        """Run to the end. Raises DedicatedError when it cannot be started or does not end in time."""


class SubprocessRunner:
    """The real thing. Secrets travel by ``env`` or ``stdin``: other users can read an argument list."""

    def find(self, program: str) -> str | None:
        return shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")

    def run(
        self,
        argv: t.Sequence[str],
        env: t.Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> Completed:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}
        try:
            done = subprocess.run(  # pylint: disable=ansible-bad-function
                [self.find(argv[0]) or argv[0], *argv[1:]],
                env=environment,
                input=(stdin or "").encode(),
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DedicatedError(f"{argv[0]} did not end within {timeout:g} s", command=argv[0]) from None
        except OSError as exc:
            raise DedicatedError(f"{argv[0]} cannot be started: {exc.strerror}", command=argv[0]) from exc
        return Completed(
            tuple(argv),
            done.returncode,
            done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"),
        )

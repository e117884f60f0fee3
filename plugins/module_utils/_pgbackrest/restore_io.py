# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A place on the host: its directories, its state, and the containers that work in it.

The containers run detached and under names of their own, so that they outlive whoever started them and are found again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import typing as t

from .._common.errors import DedicatedError
from .._common.runner import Completed, Runner
from .._common.waiting import Clock, Seen, wait_until
from .io import PATIENCE, meaning, plain
from .restore_plan import Place, Request, numbers_of

# postgres in the image (images/postgres).
UID = 10010
DATA = "/var/lib/postgresql/data/17"
LABEL = "dedicated.restore"
SCRATCH = "/tmp:mode=1777,size=64m"  # noqa: S108  inside a container of its own
NEW = "state.json.new"
CONF = """\
# Nobody but the place's own Odoo and root of the host: this copy listens on a Unix socket alone.
local all postgres peer map=admin
local all all scram-sha-256
"""
IDENT = """\
admin postgres postgres
admin root postgres
"""
# What is told of a restore alone; all else means what it does elsewhere.
CAUSES = (
    ("recovery ended before configured recovery target", "target_not_reached"),
    ("No space left", "no_room"),
    ("[ChecksumError]", "backup_damaged"),
    ("[FileMissingError]", "file_missing"),
)


class PgBackRestError(DedicatedError):
    """pgBackRest refused or failed; ``code`` is stable."""


def failure(what: str, said: str) -> PgBackRestError:
    """What the last words of pgBackRest or PostgreSQL mean."""
    lines = [line for line in said.splitlines() if "ERROR" in line or "FATAL" in line] or said.splitlines()[-3:]
    code = next((name for mark, name in CAUSES if mark in said), meaning(said))
    return PgBackRestError(f"{what}: {plain(chr(10).join(lines[-3:]))}", code=code)


class Docker:
    """The Docker engine of this host, by its client. All that it starts bears the name of the place as a label."""

    def __init__(
        self,
        runner: Runner,
        image: str,
        conf: str,
        stanza: str,
        place: str,
        repositories: t.Mapping[str, str] | None = None,
    ) -> None:
        self._runner, self._image, self.conf, self.stanza, self._place = runner, image, conf, stanza, place
        self._repositories = dict(repositories or {})

    def numbers(self) -> list[int]:
        """The repositories of the configuration."""
        try:
            return numbers_of((pathlib.Path(self.conf) / "pgbackrest.conf").read_text(encoding="utf-8"))
        except OSError as exc:
            raise DedicatedError(f"pgBackRest's configuration cannot be read: {exc}", code="no_configuration") from exc

    def keys(self) -> dict[str, str]:
        """What a container needs to read the repositories. The engine would make a path that is not there."""
        there = {inside: path for inside, path in self._repositories.items() if pathlib.Path(path).is_dir()}
        return {self.conf: "/etc/pgbackrest:ro", **{path: f"{inside}:ro" for inside, path in there.items()}}

    def _call(self, argv: t.Sequence[str], timeout: float = 60) -> Completed:
        return self._runner.run(["docker", *argv], timeout=timeout)

    def _run(self, name: str, words: t.Sequence[str], mounts: t.Mapping[str, str], network: str) -> list[str]:
        argv = ["run", "--name", name, "--label", f"{LABEL}={self._place}", "--network", network, "--user", str(UID)]
        argv += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only", "--pids-limit", "1024"]
        argv += ["--tmpfs", SCRATCH, "--stop-signal", "SIGINT", "--pull", "never"]
        for outside, inside in mounts.items():
            argv += ["--volume", f"{outside}:{inside}"]
        return [*argv, self._image, *words]

    def ask(self, words: t.Sequence[str], timeout: float) -> str:
        """A command of pgBackRest that reads the repository, in a container that is gone afterwards."""
        name = f"restore-ask-{os.getpid()}"
        # The configuration's own spool and log directories need not be there for a command that only reads.
        patience = f"--io-timeout={max(1, int(timeout) // PATIENCE)}"
        bounded = ["timeout", "--kill-after=5", f"{timeout:g}", *self.words([patience, *words])]
        argv = self._run(name, bounded, self.keys(), "host")
        argv[1:1] = ["--rm"]
        try:
            done = self._call(argv, timeout=timeout + 30)
        except DedicatedError:
            self.remove(name)
            raise PgBackRestError(
                f"pgbackrest {words[-1]} did not end within {timeout:g} s", code="store_unreachable"
            ) from None
        if done.rc == 124:
            raise PgBackRestError(
                f"pgbackrest {words[-1]} did not end within {timeout:g} s: the repository does not answer",
                code="store_unreachable",
            )
        if done.rc != 0:
            raise failure(f"pgbackrest {words[-1]}", done.stderr + done.stdout)
        return done.stdout

    def words(self, words: t.Sequence[str]) -> list[str]:
        return ["pgbackrest", f"--stanza={self.stanza}", *words]

    def start(self, name: str, words: t.Sequence[str], mounts: t.Mapping[str, str], network: str) -> None:
        argv = self._run(name, words, mounts, network)
        argv[1:1] = ["--detach"]
        done = self._call(argv, timeout=120)
        if done.rc != 0:
            raise DedicatedError(
                f"container {name} cannot be started: {done.stderr.strip()[-300:]}", code="no_container"
            )

    def state(self, name: str) -> tuple[str, int] | None:
        """``running`` or ``exited`` and so on, with the exit code; None when there is no such container."""
        done = self._call(["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", name])
        if done.rc != 0:
            return None
        status, _space, code = done.stdout.strip().partition(" ")
        return status, int(code)

    def logs(self, name: str) -> str:
        done = self._call(["logs", "--tail", "400", name])
        return done.stderr + done.stdout

    def inside(self, name: str, words: t.Sequence[str], stdin: str = "") -> Completed:
        return self._runner.run(["docker", "exec", "--interactive", name, *words], stdin=stdin, timeout=60)

    def stop(self, name: str, grace: int = 300) -> None:
        self._call(["stop", "--time", str(grace), name], timeout=grace + 30)

    def remove(self, name: str) -> None:
        self._call(["rm", "--force", name], timeout=60)

    def all(self) -> list[str]:
        """All containers of the place, its Odoo's too."""
        found = self._call(["ps", "--all", "--filter", f"label={LABEL}={self._place}", "--format", "{{.Names}}"])
        return found.stdout.split()


class Directory:
    """The place as files. ``state.json`` is written whole or not at all."""

    def __init__(self, root: str, place: str, locks: str = "/run/lock") -> None:
        self.root, self.path = pathlib.Path(root), pathlib.Path(root) / place
        self._lock = pathlib.Path(locks) / f"dedicated-restore-{place}.lock"

    @contextlib.contextmanager
    def alone(self, clock: Clock, timeout: float) -> t.Iterator[None]:
        """One at a time. A module whose Ansible was killed works on, and ends; the lock ends with its process."""

        def take() -> Seen[bool]:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Seen(False, "an earlier run still works in it")
            return Seen(True)

        with self._lock.open("a", encoding="utf-8") as file:
            wait_until(take, clock, timeout, 0.5, f"the place {self.path.name}")
            yield

    @property
    def data(self) -> pathlib.Path:
        return self.path / "data"

    def look(self) -> Place:
        try:
            found = json.loads((self.path / "state.json").read_text(encoding="utf-8"))
            return Place(found["request"], found["stage"])
        except FileNotFoundError:
            return Place(foreign=self.path.exists() and any(one.name != NEW for one in self.path.iterdir()))
        except (ValueError, KeyError, OSError):
            return Place(foreign=True)

    def state(self) -> dict[str, t.Any]:
        found: dict[str, t.Any] = json.loads((self.path / "state.json").read_text(encoding="utf-8"))
        return found

    def make(self, request: Request, plan: t.Mapping[str, t.Any]) -> None:
        """The state first: what stands in a place without one is nobody's."""
        self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.note({"version": 1, "request": request.as_state(), "plan": dict(plan), "stage": "planned"})

    def prepare(self) -> None:
        """What the containers need; made again as often as wanted."""
        for name, mode in (("data", 0o700), ("run", 0o2775), ("spool", 0o700), ("conf", 0o750)):
            folder = self.path / name
            folder.mkdir(exist_ok=True)
            os.chown(folder, UID, UID)
            folder.chmod(mode)
        for name, text in (("pg_hba.conf", CONF), ("pg_ident.conf", IDENT)):
            (self.path / "conf" / name).write_text(text, encoding="utf-8")
            (self.path / "conf" / name).chmod(0o644)

    def note(self, state: t.Mapping[str, t.Any]) -> None:
        new = self.path / NEW
        new.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        new.chmod(0o600)
        new.replace(self.path / "state.json")

    def resumable(self) -> bool:
        """Whether pgBackRest can go on in it: it believes a directory that has one of these (its documentation)."""
        return any((self.data / "17" / name).exists() for name in ("PG_VERSION", "backup.manifest"))

    def clear(self) -> None:
        """What a fetch left that pgBackRest cannot go on with."""
        for name in ("data", "spool"):
            for one in (self.path / name).iterdir():
                if one.is_dir() and not one.is_symlink():
                    shutil.rmtree(one)
                else:
                    one.unlink()

    def free(self) -> int:
        folder = self.path
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def remove(self) -> None:
        shutil.rmtree(self.path)

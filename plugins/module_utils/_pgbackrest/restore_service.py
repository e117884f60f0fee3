# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore into a place, step by step: look, plan, fetch, recover, open. Each step can be interrupted and done again."""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from .._common.errors import DedicatedError, Refuse, Refused
from .._common.waiting import Clock, Seen, wait_until
from . import parse
from .io import unasked
from .parse import NO_BACKUP
from .restore_io import DATA, Directory, Docker, PgBackRestError, failure
from .restore_plan import (
    Archive,
    History,
    Plan,
    Request,
    Segment,
    backups_of,
    decide,
    files_of,
    next_step,
    told,
)

T = t.TypeVar("T")
SOCKET = "/run/postgresql"
# What differs from the configuration that came along with the data directory, which is that of a member of the cluster.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_directories": SOCKET,
    "unix_socket_permissions": "0777",
    "hba_file": "/etc/restore/pg_hba.conf",
    "ident_file": "/etc/restore/pg_ident.conf",
    "external_pid_file": "",
    "ssl": "off",
    # Else a copy would push its own WAL into the archive of the original.
    "archive_mode": "off",
    "synchronous_standby_names": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "shared_buffers": "128MB",
    "huge_pages": "off",
    "logging_collector": "off",
}


@dataclasses.dataclass(frozen=True)
class Wish:
    """``until`` is the stage to reach."""

    request: Request
    until: str = "ready"
    plan_only: bool = False
    timeout: float = 6 * 3600
    ask_timeout: float = 120


class RestoreService:
    """One place."""

    def __init__(self, docker: Docker, directory: Directory, clock: Clock, processes: int = 2) -> None:
        self._docker, self._directory, self._clock, self._processes = docker, directory, clock, processes

    def run(self, wish: Wish) -> dict[str, t.Any]:
        if wish.plan_only:
            return self._go(wish)
        with self._directory.alone(self._clock, wish.timeout):
            return self._go(wish)

    def _go(self, wish: Wish) -> dict[str, t.Any]:
        changed = False
        while True:
            place = self._directory.look()
            step = next_step(wish.request, place, wish.until)
            if isinstance(step, Refuse):
                raise Refused(step)
            if wish.plan_only and step != "plan":
                return self._result(changed=step != "nothing")
            if step == "nothing":
                # A copy that runs no more, after a reboot for example, is started again.
                if wish.until == "ready" and not self._runs(wish):
                    self._open(wish)
                    changed = True
                return self._result(changed)
            if step == "plan":
                plan = self.plan(wish)
                if wish.plan_only:
                    return {"changed": True, "stage": "", "plan": plan.as_result(), "seconds": {}, "recovered": {}}
                self._directory.make(wish.request, plan.as_result())
            else:
                began = self._clock.monotonic()
                found = {"fetch": self._fetch, "recover": self._recover, "open": self._open}[step](wish)
                state = self._directory.state()
                state["stage"] = {"fetch": "fetched", "recover": "recovered", "open": "ready"}[step]
                state.setdefault("seconds", {})[step] = round(self._clock.monotonic() - began, 1)
                if found:
                    state["recovered"] = found
                self._directory.note(state)
            changed = True

    def _result(self, changed: bool) -> dict[str, t.Any]:
        state = self._directory.state()
        return {
            "changed": changed,
            "stage": state["stage"],
            "plan": state["plan"],
            "seconds": state.get("seconds", {}),
            "recovered": state.get("recovered", {}),
        }

    # -- plan ------------------------------------------------------------------------------------------------------

    def plan(self, wish: Wish) -> Plan:
        """Which backup and WAL it would be, from the first repository that has them. Only reads."""
        asked = wish.request.repository
        reasons: dict[int, DedicatedError] = {}
        for number in [asked] if asked else self._docker.numbers():
            try:
                return self._plan_from(dataclasses.replace(wish.request, repository=number), wish)
            except DedicatedError as exc:
                reasons[number] = exc
        errors = list(reasons.values())
        # A refusal tells more than a store that does not answer.
        first = next((one for one in errors if isinstance(one, Refused)), errors[0])
        if len(errors) == 1:
            raise first
        told = "; ".join(f"repository {number}: {one.msg}" for number, one in reasons.items())
        raise DedicatedError(f"no repository can do it. {told}", **first.details)

    def _plan_from(self, request: Request, wish: Wish) -> Plan:
        found = decide(request, self._archive(request, wish), self._directory.free())
        if isinstance(found, Refuse):
            raise Refused(found)
        return found

    def _archive(self, request: Request, wish: Wish) -> Archive:
        stanza = self._docker.stanza
        words = [f"--repo={request.repository}", "--output=json"]
        if request.repository_time:
            words.append(f"--repo-target-time={request.repository_time}")
        info = self._understood(parse.info, self._docker.ask([*words, "info"], wish.ask_timeout), stanza)
        repository = info.repository(request.repository)
        error = unasked(repository) if repository else None
        if error is not None:
            raise error
        if info.code not in (0, NO_BACKUP) and not request.repository_time:
            raise PgBackRestError(
                f"the repository says of {stanza}: {info.message}; if it was deleted, give repository_time, a moment "
                "before the deletion",
                code="no_stanza",
            )
        segments: list[Segment] = []
        histories: dict[int, History] = {}
        for archive in info.archives:
            if archive.repository != request.repository:
                continue
            where = f"archive/{stanza}/{archive.id}"
            more, born = files_of(self._json([*words, "--recurse", "repo-ls", where], wish))
            segments += more
            for timeline, moment in born.items():
                name = f"{where}/{timeline:08X}.history"
                plain = [word for word in words if word != "--output=json"]
                text = self._docker.ask([*plain, "repo-get", name], wish.ask_timeout)
                histories[timeline] = History(moment, parse.history(text))
        return Archive(tuple(backups_of(info.backups, request.repository)), tuple(segments), histories)

    @staticmethod
    def _understood(parser: t.Callable[..., T], *words: str) -> T:
        try:
            return parser(*words)
        except ValueError as exc:
            raise PgBackRestError(str(exc), code="bad_answer") from None

    def _json(self, words: t.Sequence[str], wish: Wish) -> t.Any:
        text = self._docker.ask(words, wish.ask_timeout)
        try:
            return json.loads(text)
        except ValueError:
            raise PgBackRestError(f"pgbackrest: no JSON: {text.strip()[:200]!r}", code="bad_answer") from None

    # -- fetch -----------------------------------------------------------------------------------------------------

    def _mounts(self) -> dict[str, str]:
        path = self._directory.path
        return {
            str(path / "data"): "/var/lib/postgresql/data",
            str(path / "spool"): "/var/spool/pgbackrest",
            str(path / "run"): SOCKET,
            str(path / "conf"): "/etc/restore:ro",
        }

    def _fetch(self, wish: Wish) -> None:
        name = f"restore-{wish.request.place}-fetch"
        state = self._docker.state(name)
        if state is None:
            self._directory.prepare()
            if not self._directory.resumable():
                self._directory.clear()
            plan = self._directory.state()["plan"]
            self._docker.start(name, self._fetch_words(wish.request, plan), self._with_keys(), "host")
        code = self._ended(name, wish.timeout)
        said = self._docker.logs(name)
        self._docker.remove(name)
        if code != 0:
            raise failure(f"the backup was not fetched (exit code {code})", said)

    def _with_keys(self) -> dict[str, str]:
        return {**self._mounts(), **self._docker.keys()}

    def _fetch_words(self, request: Request, plan: t.Mapping[str, t.Any]) -> list[str]:
        words = [f"--repo={plan['repository']}", f"--set={plan['backup']}", "--delta", "--archive-mode=off"]
        # The backup's own timeline needs no history file, and is not asked for one.
        own = int(plan["first_wal"][:8], 16) == plan["timeline"]
        words += [
            f"--process-max={self._processes}",
            "--log-level-console=info",
            f"--target-timeline={'current' if own else plan['timeline']}",
        ]
        if request.repository_time:
            words.append(f"--repo-target-time={request.repository_time}")
        if request.kind != "latest":
            words += [f"--type={request.kind}", f"--target={self._target(request)}", "--target-action=promote"]
            if request.exclusive:
                words.append("--target-exclusive")
        return self._docker.words([*words, "restore"])

    @staticmethod
    def _target(request: Request) -> str:
        # In UTC with its offset: nobody has to know the host's zone.
        return request.value if request.moment is None else told(request.moment)

    def _ended(self, name: str, timeout: float) -> int:
        def probe() -> Seen[int]:
            state = self._docker.state(name)
            if state is None:
                raise DedicatedError(f"the container {name} was removed by somebody else", code="no_container")
            if state[0] in ("exited", "dead"):
                return Seen(state[1])
            return Seen(-1, f"{name} is {state[0]}")

        return wait_until(probe, self._clock, timeout, 0.5, f"the end of {name}")

    # -- recover ---------------------------------------------------------------------------------------------------

    def server_words(self) -> list[str]:
        words = ["postgres", "-D", DATA]
        for name, value in SETTINGS.items():
            words += ["-c", f"{name}={value}"]
        return words

    def _recover(self, wish: Wish) -> dict[str, t.Any]:
        name = f"restore-{wish.request.place}-recover"
        state = self._directory.state()
        found: dict[str, t.Any] = state.get("recovered", {})
        if not found:
            seen = self._docker.state(name)
            if seen is not None and seen[0] != "running":
                self._docker.remove(name)
            if seen is None or seen[0] != "running":
                self._docker.start(name, self.server_words(), self._with_keys(), "host")
            try:
                wait_until(lambda: self._promoted(name), self._clock, wish.timeout, 0.5, "the end of the recovery")
            except PgBackRestError:
                # Whoever runs it again begins where PostgreSQL stopped.
                self._docker.remove(name)
                raise
            found = self._facts(name)
            # Before it stops: where replay ended is known to the running server alone.
            self._directory.note({**state, "recovered": found})
        if self._docker.state(name) is not None:
            self._docker.stop(name)
            self._docker.remove(name)
        return found

    def _promoted(self, name: str) -> Seen[bool]:
        state = self._docker.state(name)
        if state is None or state[0] != "running":
            raise failure(
                "the recovery ended before its target (take the place away with state: absent before another try)",
                self._docker.logs(name),
            )
        done = self._sql(name, "SELECT pg_is_in_recovery()")
        if done == "f":
            return Seen(True)
        return Seen(False, "PostgreSQL is replaying WAL" if done == "t" else "PostgreSQL is starting")

    def _sql(self, name: str, statement: str) -> str:
        words = ["psql", "-h", SOCKET, "-U", "postgres", "-d", "postgres", "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-"]
        return self._docker.inside(name, words, statement).stdout.strip()

    def _facts(self, name: str) -> dict[str, t.Any]:
        text = self._sql(
            name,
            "CHECKPOINT; SELECT json_build_object('timeline', timeline_id, 'lsn', pg_current_wal_lsn()::text, "
            "'system_id', (SELECT system_identifier::text FROM pg_control_system()), "
            "'last_transaction_at', extract(epoch FROM pg_last_xact_replay_timestamp())) FROM pg_control_checkpoint()",
        )
        try:
            found: dict[str, t.Any] = json.loads(text)
        except ValueError:
            raise DedicatedError(
                f"the recovered server does not tell its state: {text[:200]!r}", code="bad_answer"
            ) from None
        stopped = re.findall(r"recovery stopping (.*)", self._docker.logs(name))
        found["stopped"] = stopped[-1] if stopped else ""
        return found

    # -- open and remove -------------------------------------------------------------------------------------------

    def _runs(self, wish: Wish) -> bool:
        state = self._docker.state(f"restore-{wish.request.place}")
        return state is not None and state[0] == "running"

    def _open(self, wish: Wish) -> None:
        name = f"restore-{wish.request.place}"
        if self._docker.state(name) is not None:
            self._docker.remove(name)
        self._docker.start(name, self.server_words(), self._mounts(), "none")

        def probe() -> Seen[bool]:
            state = self._docker.state(name)
            if state is None or state[0] != "running":
                raise failure("the restored server does not run", self._docker.logs(name))
            return Seen(True) if self._sql(name, "SELECT 1") == "1" else Seen(False, "PostgreSQL is starting")

        wait_until(probe, self._clock, 300, 0.5, "the restored server")

    def remove(self, request_place: str, check: bool) -> bool:
        """Take a place away, with all that runs in it."""
        with self._directory.alone(self._clock, 600):
            return self._remove(request_place, check)

    def _remove(self, request_place: str, check: bool) -> bool:
        names = self._docker.all()
        place = self._directory.look()
        if place.request is None and not place.foreign:
            if names and not check:
                for one in names:
                    self._docker.remove(one)
            return bool(names)
        if place.foreign:
            refusal = next_step(Request(request_place, "latest"), place, "ready")
            raise Refused(t.cast(Refuse, refusal))
        if not check:
            for one in names:
                self._docker.remove(one)
            self._directory.remove()
        return True

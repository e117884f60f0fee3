# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reconcile the run-time settings of a server or of a Sentinel, and see them taken."""

from __future__ import annotations

import dataclasses
import typing as t

from .._common.errors import DedicatedError, Refuse, Refused
from .._common.waiting import Clock, Seen, wait_until
from . import plan
from .io import Answer, Connection, RedisUnreachable

# What SENTINEL MASTER shows of a master's options.
READABLE = ("down-after-milliseconds", "failover-timeout", "parallel-syncs", "quorum")


@dataclasses.dataclass(frozen=True)
class Wish:
    """What one call wants. ``master`` makes it a Sentinel's."""

    settings: tuple[plan.Setting, ...] = ()
    master: str | None = None
    master_settings: tuple[plan.Setting, ...] = ()
    master_secrets: tuple[plan.Setting, ...] = ()
    acl_load: bool = False


@dataclasses.dataclass
class Outcome:
    """What was done, or would be."""

    role: str | None = None
    reachable: bool = True
    before: dict[str, str | None] = dataclasses.field(default_factory=dict)
    after: dict[str, str] = dataclasses.field(default_factory=dict)
    rewritten: bool = False
    acl_loaded: bool = False

    def as_result(self) -> dict[str, t.Any]:
        changed = bool(self.after) or self.acl_loaded or not self.reachable
        return {
            "changed": changed,
            "msg": f"{len(self.after)} settings differ" if self.after else "settings are as wanted",
            **dataclasses.asdict(self),
        }


def _accept(answer: t.Any) -> t.Any:
    if isinstance(answer, Refuse):
        raise Refused(answer)
    return answer


class RedisService:
    """One server."""

    def __init__(
        self,
        connection: Connection,
        clock: Clock,
        where: str,
        timeout: float = 30,
        poll_interval: float = 1,
        check_mode: bool = False,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._where = where
        self._timeout = timeout
        self._poll_interval = poll_interval
        self._check_mode = check_mode

    def reconcile(self, wish: Wish) -> Outcome:
        """Make the wish true. In check mode a server that is not there will be made by what was not run."""
        seen = self._ready() if self._check_mode else None
        if seen is not None and seen.why_not is not None:
            wanted = (*wish.settings, *wish.master_settings)
            shown = {one.name: plan.WITHHELD if one.secret else one.value for one in wanted}
            return Outcome(reachable=False, after=shown)
        if seen is None:
            role = wait_until(
                self._ready, self._clock, self._timeout, self._poll_interval, f"an answer of {self._where}"
            )
        else:
            role = seen.value
        if (role == "sentinel") != (wish.master is not None):
            _accept(
                Refuse(
                    "wrong_kind",
                    f"{self._where} will not be reconciled",
                    f"it has the role {role}, and sentinel_master is {'' if wish.master else 'not '}given",
                    "Correct the port or sentinel_master.",
                )
            )
        outcome = Outcome(role=role)
        if wish.acl_load:
            self._load_acl(outcome)
        if wish.master is None:
            self._server(wish.settings, outcome)
        else:
            self._sentinel(wish.settings, outcome)
            self._master(wish, wish.master, outcome)
        return outcome

    # -- asking ------------------------------------------------------------------------------------------------------

    def _ready(self) -> Seen[str]:
        """The role, once the server answers and has loaded its data."""
        try:
            answer = self._connection.run([["ROLE"]])[0]
        except RedisUnreachable as exc:
            return Seen("", exc.msg)
        if answer.error is not None:
            if answer.error.startswith(("LOADING", "BUSY", "MASTERDOWN")):
                return Seen("", answer.error)
            raise self._failed("ROLE", answer.error)
        return Seen(str(answer.value[0]))

    def _failed(self, what: str, said: str) -> DedicatedError:
        return DedicatedError(
            f"{self._where}: {what} was refused: {said}. Correct the setting or the user's permissions, and run again.",
            code="command_refused",
        )

    def _ask(self, *commands: t.Sequence[str]) -> list[Answer]:
        answers = self._connection.run(commands)
        for words, answer in zip(commands, answers):
            if answer.error is not None:
                # Two words name the command; what follows may be a secret.
                raise self._failed(" ".join(words[:2]), answer.error)
        return answers

    def _present(self, prefix: t.Sequence[str], wanted: t.Sequence[plan.Setting]) -> dict[str, str]:
        if not wanted:
            return {}
        answers = self._ask(*([*prefix, "GET", setting.name] for setting in wanted))
        found: dict[str, str] = {}
        for answer in answers:
            found.update({str(name).lower(): str(value) for name, value in dict(answer.value or {}).items()})
        return found

    def _change(
        self,
        read: t.Callable[[], dict[str, str]],
        commands: t.Callable[[t.Sequence[plan.Setting]], list[list[str]]],
        wanted: t.Sequence[plan.Setting],
    ) -> plan.Plan:
        """Set what differs, then look whether it was taken."""
        planned: plan.Plan = _accept(plan.plan_settings(read(), wanted, self._where))
        if not planned.changes or self._check_mode:
            return planned
        self._set(commands(planned.changes), planned.changes)
        left: plan.Plan = _accept(plan.plan_settings(read(), wanted, self._where))
        if left.changes:
            raise DedicatedError(
                f"{self._where} accepted {', '.join(change.name for change in left.changes)} and shows another value. "
                "Something else sets it, or the value is not one of its own; look at CONFIG GET.",
                code="not_taken",
            )
        return planned

    def _set(self, commands: t.Sequence[t.Sequence[str]], changes: t.Sequence[plan.Setting]) -> None:
        for answer in self._connection.run(commands):
            if answer.error is not None:
                said = answer.error
                for change in changes:
                    if change.secret and change.value:
                        said = said.replace(change.value, plan.WITHHELD)
                raise self._failed(f"setting {', '.join(change.name for change in changes)}", said)

    # -- doing -------------------------------------------------------------------------------------------------------

    def _load_acl(self, outcome: Outcome) -> None:
        outcome.acl_loaded = True
        if not self._check_mode:
            self._ask(["ACL", "LOAD"])

    def _server(self, wanted: t.Sequence[plan.Setting], outcome: Outcome) -> None:
        def commands(changes: t.Sequence[plan.Setting]) -> list[list[str]]:
            # In one go with the rewrite: a play that dies in between would leave a server that forgets at its restart.
            words = [word for change in changes for word in (change.name, change.value)]
            return [["CONFIG", "SET", *words], ["CONFIG", "REWRITE"]]

        done = self._change(lambda: self._present(["CONFIG"], wanted), commands, wanted)
        outcome.rewritten = bool(done.changes) and not self._check_mode
        _note(outcome, done)

    def _sentinel(self, wanted: t.Sequence[plan.Setting], outcome: Outcome) -> None:
        """A Sentinel's own settings; it writes its file itself."""
        prefix = ["SENTINEL", "CONFIG"]
        _note(outcome, self._change(lambda: self._present(prefix, wanted), _each(*prefix, "SET"), wanted))

    def _master(self, wish: Wish, master: str, outcome: Outcome) -> None:
        def read() -> dict[str, str]:
            shown = dict(self._ask(["SENTINEL", "MASTER", master])[0].value)
            return {name: str(shown[name]) for name in READABLE if name in shown}

        commands = _each("SENTINEL", "SET", master)
        _note(outcome, self._change(read, commands, wish.master_settings))
        if wish.master_secrets:
            if not self._check_mode:
                self._set(commands(wish.master_secrets), wish.master_secrets)
            for one in wish.master_secrets:
                outcome.before[one.name] = plan.WITHHELD
                outcome.after[one.name] = plan.WITHHELD + ", set"


def _each(*prefix: str) -> t.Callable[[t.Sequence[plan.Setting]], list[list[str]]]:
    """One command for each setting, for servers that take one at a time."""
    return lambda changes: [[*prefix, change.name, change.value] for change in changes]


def _note(outcome: Outcome, done: plan.Plan) -> None:
    outcome.before.update(done.before)
    outcome.after.update(done.after)

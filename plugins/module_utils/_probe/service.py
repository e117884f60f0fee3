# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work like a user for a while: log in, write a draft entry, again and again. The drafts are taken away at the end."""

from __future__ import annotations

import typing as t

from .._common.errors import DedicatedError
from .._common.waiting import Clock
from .plan import Attempt, Noticed, noticed


class Browser(t.Protocol):
    """Somebody who has just arrived; ``io.Site`` is the real one."""

    def call(self, path: str, params: t.Mapping[str, t.Any]) -> t.Any: ...


class ProbeService:
    """``arrive`` gives a new browser. ``word`` marks what is written, so that all of it is found again."""

    def __init__(
        self, arrive: t.Callable[[], Browser], clock: Clock, login: str, password: str, database: str, word: str
    ) -> None:
        self._arrive, self._clock = arrive, clock
        self._login = {"db": database, "login": login, "password": password}
        self._word = word

    def ready(self) -> int:
        """The journal for drafts. What fails here fails before anything is disturbed."""
        browser = self._signed_in()
        journals = self._ask(browser, "account.journal", "search", [[["type", "=", "general"]]], {"limit": 1})
        if not journals:
            raise DedicatedError(
                f"there is no journal of the type general in which {self._login['login']} could write a draft",
                code="no_journal",
            )
        return int(journals[0])

    def run(self, journal: int, seconds: float, interval: float) -> Noticed:
        """Attempts, one after the other, begun every ``interval`` seconds at most, until the time is over."""
        began = self._clock.monotonic()
        attempts: list[Attempt] = []
        while (started := self._clock.monotonic() - began) < seconds:
            error = ""
            try:
                self._work(journal)
            except (DedicatedError, OSError) as exc:
                error = exc.msg if isinstance(exc, DedicatedError) else f"{type(exc).__name__}: {exc}"
            ended = self._clock.monotonic() - began
            attempts.append(Attempt(started, ended, error))
            self._clock.sleep(max(0.0, interval - (ended - started)))
        return noticed(attempts, self._clock.monotonic() - began)

    def tidy(self) -> int:
        """Take the drafts away; how many there were."""
        browser = self._signed_in()
        found = self._ask(browser, "account.move", "search", [[["ref", "=", self._word], ["state", "=", "draft"]]], {})
        if found:
            self._ask(browser, "account.move", "unlink", [found], {})
        return len(found)

    def _signed_in(self) -> Browser:
        browser = self._arrive()
        found = browser.call("/web/session/authenticate", self._login)
        if not isinstance(found, dict) or not found.get("uid"):
            raise DedicatedError(f"{self._login['login']} is not logged in", code="not_logged_in")
        return browser

    def _work(self, journal: int) -> None:
        values = {"move_type": "entry", "journal_id": journal, "ref": self._word}
        self._ask(self._signed_in(), "account.move", "create", [[values]], {})

    @staticmethod
    def _ask(
        browser: Browser, model: str, method: str, args: t.Sequence[t.Any], kwargs: t.Mapping[str, t.Any]
    ) -> t.Any:
        params = {"model": model, "method": method, "args": args, "kwargs": kwargs}
        return browser.call(f"/web/dataset/call_kw/{model}/{method}", params)

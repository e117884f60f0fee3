# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The timer of this host that ends a pause of Patroni."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import typing as t

from .._common.errors import DedicatedError
from .._common.runner import Runner
from . import maintenance_plan as plan


class TimerHost(t.Protocol):
    """What the service needs of a host."""

    def now(self) -> float: ...

    def try_lock(self) -> bool: ...

    def unlock(self) -> None: ...

    def timer(self) -> plan.Timer | None: ...

    def lay(self, record: plan.Record) -> None: ...

    def remove(self) -> None: ...


class SystemdHost:
    """The real thing. ``root`` is put before every path."""

    def __init__(self, runner: Runner, root: str = "") -> None:
        self._runner = runner
        self._root = root
        self._lock: int | None = None

    def now(self) -> float:
        return time.time()

    def try_lock(self) -> bool:
        """The lock that the timer's script takes as well."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._root + plan.LOCK_FILE, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def timer(self) -> plan.Timer | None:
        """None when nothing of it is there."""
        present = {path: self._read(path) for path in plan.FILES}
        if all(content is None for content in present.values()):
            return None
        record = _record(present[plan.RECORD_FILE])
        if record is None:
            return plan.Timer(0, False)
        wanted = plan.files(record, self._root)
        same = all(present[path] == content for path, (content, _mode) in wanted.items())
        return plan.Timer(record.until, same and self._active())

    def _active(self) -> bool:
        shown = self._systemctl("show", "--property=ActiveState,UnitFileState", f"{plan.UNIT}.timer")
        return {"ActiveState=active", "UnitFileState=enabled"} <= set(shown.split())

    def lay(self, record: plan.Record) -> None:
        for path, (content, mode) in plan.files(record, self._root).items():
            self._write(self._root + path, content, mode)
        self._systemctl("daemon-reload")
        self._systemctl("enable", f"{plan.UNIT}.timer")
        # A timer that runs keeps its old time.
        self._systemctl("restart", f"{plan.UNIT}.timer")

    def remove(self) -> None:
        if self._read(plan.TIMER_FILE) is not None:
            self._systemctl("disable", "--now", f"{plan.UNIT}.timer")
        if self._read(plan.SERVICE_FILE) is not None:
            # It may be waiting to try again.
            self._systemctl("stop", f"{plan.UNIT}.service")
        for path in reversed(plan.FILES):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._root + path)
        self._systemctl("daemon-reload")

    def _systemctl(self, *words: str) -> str:
        done = self._runner.run(["systemctl", *words])
        if done.rc != 0:
            raise DedicatedError(
                f"systemctl {' '.join(words)} failed: {done.stderr.strip()[:500]}", code="systemctl_failed", rc=done.rc
            )
        return done.stdout

    def _read(self, path: str) -> str | None:
        try:
            with open(self._root + path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _write(self, path: str, content: str, mode: int) -> None:
        """Old or new, never half; and on the disk, for it has to outlive a loss of power."""
        staged = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.dedicated-stage")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(staged)
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.rename(staged, path)
        parent = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)


def _record(text: str | None) -> plan.Record | None:
    try:
        return plan.parse_record(json.loads(text or ""))
    except ValueError:
        return None

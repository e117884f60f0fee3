# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of the record, and what else is read for it: Git, and the inventory's files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import typing as t

from .._common.errors import DedicatedError
from .._common.runner import Runner
from .._common.waiting import Clock, Seen, SystemClock, wait_until

LOCK_TIMEOUT = 10.0
# Ansible does not read these in an inventory directory, and certificates are renewed without the inventory changing.
SKIPPED = (".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst", ".orig", ".cfg", ".retry")
CERTIFICATES = (".pem", ".key", ".crt", ".csr", ".jsonl")


class Store(t.Protocol):
    """A file that only grows. Texts end with the newline of the last line, or with what was cut off after it."""

    def read(self) -> str:
        """All of it; empty when there is no file."""

    def append(self, decide: t.Callable[[str], t.Sequence[str]]) -> None:
        """Under the lock: hand over all of it, add the lines that ``decide`` returns, and have them on the disk."""


class FileStore:
    """The real thing: 0600 in a directory of 0700, one writer at a time."""

    def __init__(self, path: str, clock: Clock | None = None) -> None:
        self.path = path
        self._clock = clock or SystemClock()

    def read(self) -> str:
        try:
            with self._locked(os.O_RDONLY, fcntl.LOCK_SH) as handle:
                return _text(_all(handle))
        except FileNotFoundError:
            return ""
        except OSError as exc:
            raise self._error("cannot be read", exc) from exc

    def append(self, decide: t.Callable[[str], t.Sequence[str]]) -> None:
        try:
            # A relative home directory, or a parent that is no directory, shows here.
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            with self._locked(os.O_RDWR | os.O_CREAT | os.O_APPEND, fcntl.LOCK_EX) as handle:
                data = _all(handle)
                lines = decide(_text(data))
                if lines:
                    self._add(handle, data, lines)
        except OSError as exc:
            raise self._error("cannot be written", exc) from exc

    def _add(self, handle: int, data: bytes, lines: t.Sequence[str]) -> None:
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            # Cut off while it was written; on top of it the next line would be lost too.
            os.ftruncate(handle, whole)
        added = "".join(f"{line}\n" for line in lines).encode("ascii")
        try:
            while added:
                added = added[os.write(handle, added) :]
            os.fsync(handle)
        except OSError:
            # A full disk: better without the line than with half of it.
            with contextlib.suppress(OSError):
                os.ftruncate(handle, whole)
            raise
        if not data:
            self._sync_directory()

    def _sync_directory(self) -> None:
        directory = os.open(os.path.dirname(self.path), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _locked(self, flags: int, kind: int) -> t.Iterator[int]:
        handle = os.open(self.path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            wait_until(lambda: _try_lock(handle, kind), self._clock, LOCK_TIMEOUT, 0.05, f"the lock of {self.path}")
            yield handle
        finally:
            os.close(handle)

    def _error(self, what: str, exc: OSError) -> DedicatedError:
        return DedicatedError(f"{self.path} {what}: {exc.strerror or exc}", code="evidence_file", path=self.path)


def _try_lock(handle: int, kind: int) -> Seen[None]:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return Seen(None, "another process holds it")
    return Seen(None)


def _all(handle: int) -> bytes:
    parts: list[bytes] = []
    os.lseek(handle, 0, os.SEEK_SET)
    while True:
        part = os.read(handle, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _text(data: bytes) -> str:
    # What is not ASCII is no record; it must only stay visible as a line that does not fit.
    return data.decode("utf-8", "replace")


def cluster_of_host(path: str) -> str:
    """The cluster that this host belongs to; empty when it belongs to none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def copies(path: str) -> list[str]:
    """The files of a record: one that is named, or all *.jsonl in a directory. None when there is nothing."""
    try:
        if os.path.isdir(path):
            return sorted(os.path.join(path, name) for name in os.listdir(path) if name.endswith(".jsonl"))
    except OSError as exc:
        raise DedicatedError(f"{path} cannot be read: {exc.strerror}", code="evidence_file", path=path) from exc
    return [path] if os.path.lexists(path) else []


# Where a run comes from


def commit(runner: Runner, directory: str, own: bool = False) -> dict[str, t.Any] | None:
    """The commit that a directory is at and whether something in it differs; None where there is no repository.

    With ``own`` the directory must be the repository's top: what is installed somewhere inside another one is none.
    """
    try:
        asked = runner.run(["git", "-C", directory, "rev-parse", "--show-toplevel", "HEAD"], timeout=10)
        answer = asked.stdout.split("\n")
        if asked.rc != 0 or len(answer) < 2:
            return None
        if own and os.path.realpath(answer[0]) != os.path.realpath(directory):
            return None
        status = runner.run(["git", "-C", directory, "status", "--porcelain", "--", "."], timeout=30)
    except DedicatedError:
        return None
    return {"commit": answer[1], "dirty": status.stdout != "" if status.rc == 0 else None}


def inventory_files(sources: t.Iterable[str]) -> list[tuple[str, str]]:
    """Names and hashes of the files that an inventory consists of, as they lie there: what is vaulted stays vaulted.

    Of a source that is a file also the group_vars and host_vars beside it. Names are relative to the source, so that
    another checkout of the same inventory has the same ones.
    """
    found: dict[str, str] = {}
    for source in sources:
        if os.path.isdir(source):
            found.update(_tree(source, source))
        elif os.path.isfile(source):
            base = os.path.dirname(os.path.abspath(source))
            found[os.path.basename(source)] = _sha256(source)
            for name in ("group_vars", "host_vars"):
                found.update(_tree(os.path.join(base, name), base))
        else:
            found[f"source {source}"] = hashlib.sha256(source.encode("utf-8", "surrogateescape")).hexdigest()
    return sorted(found.items())


def _tree(directory: str, base: str) -> t.Iterator[tuple[str, str]]:
    for here, below, names in os.walk(directory, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(here, name)
            if not name.startswith(".") and not name.endswith(SKIPPED + CERTIFICATES) and os.path.isfile(path):
                yield os.path.relpath(path, base), _sha256(path)


def _sha256(path: str) -> str:
    with open(path, "rb") as handle:
        return hashlib.sha256(handle.read()).hexdigest()

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the PKI: every change is one atomic step, and no symbolic link is ever followed.

The directory of a certificate belongs to the service that uses it, so root treats its content as hostile.
"""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t
from dataclasses import dataclass

# Larger than any key or certificate of ours.
MAX_SIZE = 65536


@dataclass(frozen=True)
class Owned:
    """Owner and mode that a file or directory has or shall have."""

    uid: int
    gid: int
    mode: int


@dataclass(frozen=True)
class Entry:
    text: str
    owned: Owned


def _owned(status: os.stat_result) -> Owned:
    return Owned(status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))


def _settle(descriptor: int, owned: Owned) -> None:
    # Owner first: changing it clears set-id bits, and a key must never be readable by more than wanted.
    status = os.fstat(descriptor)
    if (status.st_uid, status.st_gid) != (owned.uid, owned.gid):
        os.fchown(descriptor, owned.uid, owned.gid)
    if stat.S_IMODE(status.st_mode) != owned.mode:
        os.fchmod(descriptor, owned.mode)


class Files:
    """Files below one root directory; names are relative to it."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, name: str) -> str:
        return os.path.join(self.root, name) if name else self.root

    def read(self, name: str) -> Entry | None:
        """The content of a regular file; anything else (a link, a device) counts as absent and gets replaced."""
        try:
            descriptor = os.open(self.path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            if os.path.islink(self.path(name)):
                return None
            raise
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                return None
            return Entry(stream.read(MAX_SIZE).decode("utf-8", "replace"), _owned(status))

    def directory(self, name: str) -> Owned | None:
        try:
            status = os.lstat(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _owned(status) if stat.S_ISDIR(status.st_mode) else None

    def link(self, name: str) -> str:
        """Where a symbolic link points to, empty when there is none."""
        try:
            return os.readlink(self.path(name))
        except OSError:
            return ""

    def make_directory(self, name: str, owned: Owned) -> None:
        path = self.path(name)
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            os.makedirs(parent, exist_ok=True)
            os.chmod(parent, 0o755)  # noqa: S103 - services pass through it, whatever the umask
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _settle(descriptor, owned)
        finally:
            os.close(descriptor)

    def write(self, name: str, text: str, owned: Owned) -> None:
        """Replace a file: written aside with its owner and mode, synced, then renamed over."""
        aside = self._aside(name)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text.encode())
            stream.flush()
            _settle(descriptor, owned)
            os.fsync(descriptor)
        self._land(aside, name)

    def make_link(self, name: str, target: str) -> None:
        aside = self._aside(name)
        os.symlink(target, aside)
        self._land(aside, name)

    def settle(self, name: str, owned: Owned) -> None:
        """Set owner and mode of a file that `read` has just accepted."""
        descriptor = os.open(self.path(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                _settle(descriptor, owned)
        finally:
            os.close(descriptor)

    def rename(self, source: str, target: str) -> None:
        self._land(self.path(source), target)

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(name))

    def _aside(self, name: str) -> str:
        head, tail = os.path.split(self.path(name))
        aside = os.path.join(head, f".{tail}.tmp")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        return aside

    def _land(self, source: str, name: str) -> None:
        target = self.path(name)
        os.replace(source, target)
        descriptor = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Reads(t.Protocol):
    """What looking needs; a test may hand in anything that has it."""

    def read(self, name: str) -> Entry | None: ...

    def directory(self, name: str) -> Owned | None: ...

    def link(self, name: str) -> str: ...

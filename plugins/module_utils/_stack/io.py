# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of the host: looking, and doing one step of a plan."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import secrets
import shutil
import stat
import tempfile
import typing as t

from .._common.errors import DedicatedError
from . import plan
from .model import STATE_FILE, digest, state_text

STAGE_SUFFIX = ".dedicated-stage"
KEY_FILE = "/etc/dedicated/.hash-key"


def stage_name(path: str) -> str:
    """Beside its target, because a rename does not cross file systems; hidden, and with a suffix nobody loads."""
    parent, name = os.path.split(path)
    return os.path.join(parent, "." + name + STAGE_SUFFIX)


class Host(t.Protocol):
    """What the service needs of a host."""

    def look(self, path: str) -> plan.Present: ...

    def apply(self, step: plan.Step, content: bytes = b"") -> None: ...

    def read(self, path: str) -> bytes | None: ...

    def inside(self, directory: str) -> list[str]: ...

    def key(self, create: bool) -> bytes: ...

    def owner(self, name: str) -> int | None: ...

    def group(self, name: str) -> int | None: ...

    def sweep(self, path: str) -> None: ...

    def workspace(self, files: t.Mapping[str, bytes]) -> contextlib.AbstractContextManager[str]: ...


def _identity(name: str, lookup: t.Callable[[str], int]) -> int | None:
    if name.isdigit():
        return int(name)
    try:
        return lookup(name)
    except KeyError:
        return None


class RealHost:
    """This host's file system."""

    def __init__(self, stack: str, key_file: str = KEY_FILE, scratch: str = "/run") -> None:
        self._stack = stack
        self._key_file = key_file
        self._scratch = scratch

    def owner(self, name: str) -> int | None:
        return _identity(name, lambda one: pwd.getpwnam(one).pw_uid)

    def group(self, name: str) -> int | None:
        return _identity(name, lambda one: grp.getgrnam(one).gr_gid)

    def look(self, path: str) -> plan.Present:
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return plan.Present()
        mode = stat.S_IMODE(found.st_mode)
        if stat.S_ISREG(found.st_mode):
            content = self.read(path)
            return plan.Present(plan.FILE, digest(content or b""), mode, found.st_uid, found.st_gid)
        kind = plan.DIRECTORY if stat.S_ISDIR(found.st_mode) else plan.OTHER
        return plan.Present(kind, "", mode, found.st_uid, found.st_gid)

    def read(self, path: str) -> bytes | None:
        """Content of a file; a path below a link is refused, as somebody else may steer it."""
        if os.path.realpath(os.path.dirname(path)) != os.path.dirname(path):
            raise DedicatedError(
                f"{path} cannot be read: a directory above it is a symbolic link. Look who made it, and remove it.",
                code="linked_directory",
            )
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def inside(self, directory: str) -> list[str]:
        found = []
        for parent, directories, files in os.walk(directory, topdown=False):
            found += [os.path.join(parent, name) for name in sorted((*directories, *files))]
        return sorted(found, key=lambda path: (-path.count("/"), path))

    def key(self, create: bool) -> bytes:
        """The host's own hash key, made once. Without it a hash could be tried against likely secrets."""
        present = self.read(self._key_file)
        if present is not None:
            return present.strip()
        fresh = secrets.token_hex(32).encode()
        if not create:
            return fresh
        os.makedirs(os.path.dirname(self._key_file), 0o755, exist_ok=True)
        staged = f"{self._key_file}.{os.getpid()}"
        self._write(staged, fresh + b"\n", 0o600, None, None)
        try:
            # link() fails when another run was first; then its key is the host's key.
            os.link(staged, self._key_file)
        except FileExistsError:
            return (self.read(self._key_file) or fresh).strip()
        finally:
            os.unlink(staged)
        return fresh

    def sweep(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(stage_name(path))

    def apply(self, step: plan.Step, content: bytes = b"") -> None:
        try:
            _ACTIONS[step.action](self, step, content)
        except OSError as exc:
            raise DedicatedError(
                f"{step.path}: {step.action.replace('_', ' ')} failed: {exc.strerror or exc}. "
                "What had landed is complete; correct the cause and run again.",
                code="io",
                path=step.path,
            ) from exc

    def _make_directory(self, step: plan.Step, content: bytes) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(step.path, 0o700)
        self._set(step, content)

    def _set(self, step: plan.Step, content: bytes) -> None:
        descriptor = os.open(step.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(descriptor, -1 if step.uid is None else step.uid, -1 if step.gid is None else step.gid)
            os.fchmod(descriptor, step.mode)
        finally:
            os.close(descriptor)

    def _stage(self, step: plan.Step, content: bytes) -> None:
        try:
            self._write(stage_name(step.path), content, step.mode, step.uid, step.gid)
        except OSError:
            self.sweep(step.path)
            raise

    def _land(self, step: plan.Step, content: bytes) -> None:
        os.rename(stage_name(step.path), step.path)

    def _record(self, step: plan.Step, content: bytes) -> None:
        path = os.path.join(step.path, STATE_FILE)
        self._write(stage_name(path), state_text(self._stack, step.state or plan.State()).encode(), 0o600, None, None)
        os.rename(stage_name(path), path)

    def _remove(self, step: plan.Step, content: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(step.path)

    def _remove_directory(self, step: plan.Step, content: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(step.path)

    def _purge_directory(self, step: plan.Step, content: bytes) -> None:
        shutil.rmtree(step.path)

    def _write(self, path: str, content: bytes, mode: int, uid: int | None, gid: int | None) -> None:
        """A new file that nobody else can read before it has its final owner and mode, on disk when this returns."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchown(descriptor, -1 if uid is None else uid, -1 if gid is None else gid)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)

    @contextlib.contextmanager
    def workspace(self, files: t.Mapping[str, bytes]) -> t.Iterator[str]:
        """A private copy of the tree for checkers; in memory where the host has /run, and gone afterwards."""
        parent = self._scratch if os.access(self._scratch, os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="dedicated-check-", dir=parent) as root:
            for relative, content in files.items():
                path = os.path.join(root, relative)
                os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
                self._write(path, content, 0o400, None, None)
            yield root


_ACTIONS: t.Mapping[str, t.Callable[[RealHost, plan.Step, bytes], None]] = {
    plan.MAKE_DIRECTORY: RealHost._make_directory,
    plan.SET_DIRECTORY: RealHost._set,
    plan.STAGE: RealHost._stage,
    plan.RECORD: RealHost._record,
    plan.LAND: RealHost._land,
    plan.SET_FILE: RealHost._set,
    plan.REMOVE: RealHost._remove,
    plan.FORGET: RealHost._remove,
    plan.REMOVE_DIRECTORY: RealHost._remove_directory,
    plan.PURGE_DIRECTORY: RealHost._purge_directory,
}

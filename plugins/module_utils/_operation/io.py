# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock file of a host, and the processes of a controller.

The file appears and changes in one step and is on disk when that is reported: it is written aside, synced, then linked
(which fails if the name exists) or renamed, and the directory is synced. Who changes it holds an flock on a file beside
it, so that nothing happens between looking and changing; the kernel drops that when its holder dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import multiprocessing
import os
import platform
import pwd
import stat
import time
import typing as t

from .._common.errors import DedicatedError
from .._common.waiting import Clock, SystemClock
from . import plan

# On disk, because a run may reboot the host; on the host, because a run must be possible without any cluster.
DIRECTORY = "/var/lib/dedicated/lock"
NAME, ASIDE, GUARD = "operation.json", ".operation.json.new", ".operation.guard"
MAX_SIZE = 16384  # four times the longest lock
# Looking and changing takes milliseconds; one that takes this long hangs on its disk.
PATIENCE, POLL = 10.0, 0.05
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class System(t.Protocol):
    """The part of ``os`` that changes files, so that a test can cut it off at any step."""

    def mkdir(self, path: str, mode: int) -> None: ...

    def open(self, path: str, flags: int, mode: int = ...) -> int: ...

    def write(self, fd: int, data: bytes) -> int: ...

    def fchmod(self, fd: int, mode: int) -> None: ...

    def fchown(self, fd: int, uid: int, gid: int) -> None: ...

    def fsync(self, fd: int) -> None: ...

    def link(self, src: str, dst: str) -> None: ...

    def replace(self, src: str, dst: str) -> None: ...

    def unlink(self, path: str) -> None: ...


@contextlib.contextmanager
def _told(path: str) -> t.Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise DedicatedError(
            f"The host's lock in {path} cannot be kept: {exc.strerror or exc}. No lock was half-written. Put that "
            "right (space and inodes of the disk, 'become') and run this again.",
            code="io",
            path=path,
        ) from exc


class Place:
    """The lock of this host."""

    def __init__(
        self,
        directory: str | None = None,
        clock: Clock | None = None,
        system: System | None = None,
        now: t.Callable[[], float] = time.time,
    ) -> None:
        self.directory = DIRECTORY if directory is None else directory
        self.path = os.path.join(self.directory, NAME)
        self._aside = os.path.join(self.directory, ASIDE)
        self._guard = os.path.join(self.directory, GUARD)
        self._clock = clock or SystemClock()
        self._system: System = system or t.cast(System, os)
        self._now = now

    def now(self) -> int:
        """The host's clock."""
        return int(self._now())

    def look(self) -> plan.Found:
        """What lies here. Changes nothing and waits for nobody."""
        with _told(self.path):
            try:
                if not stat.S_ISDIR(os.lstat(self.directory).st_mode):
                    return plan.Bad(self.directory, "is no directory")
                descriptor = os.open(self.path, READ)
            except FileNotFoundError:
                return plan.Free()
            except OSError as exc:
                if exc.errno in (errno.ELOOP, errno.ENXIO):
                    return plan.Bad(self.path, "is no regular file")
                if exc.errno == errno.ENOTDIR:
                    return plan.Bad(os.path.dirname(self.directory), "is no directory")
                raise
            try:
                return self._read(descriptor)
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def alone(self) -> t.Iterator[None]:
        """Nobody else changes the lock meanwhile."""
        descriptor = self._enter()
        try:
            yield
        finally:
            os.close(descriptor)

    def create(self, content: str) -> bool:
        """Put a lock where there is none. Whether it was so."""
        with _told(self.path):
            try:
                self._write_aside(content)
                self._system.link(self._aside, self.path)
            except FileExistsError:
                return False
            finally:
                with contextlib.suppress(OSError):
                    self._system.unlink(self._aside)
            self._sync()
        return True

    def replace(self, content: str) -> None:
        """Put another lock in the place of this one."""
        with _told(self.path):
            try:
                self._write_aside(content)
                self._system.replace(self._aside, self.path)
            except OSError:
                with contextlib.suppress(OSError):
                    self._system.unlink(self._aside)
                raise
            self._sync()

    def remove(self) -> None:
        """Take the lock away."""
        with _told(self.path):
            self._system.unlink(self.path)
            self._sync()

    def _read(self, descriptor: int) -> plan.Found:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return plan.Bad(self.path, "is no regular file")
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            return plan.Bad(self.path, "can be written by others than root")
        if status.st_size > MAX_SIZE:
            return plan.Bad(self.path, f"is larger than {MAX_SIZE} bytes")
        try:
            # The file is never written in place, so it comes in one piece.
            return plan.parse(self.path, os.read(descriptor, MAX_SIZE).decode())
        except UnicodeDecodeError:
            return plan.Bad(self.path, "is no lock: not UTF-8")

    def _enter(self) -> int:
        deadline = self._clock.monotonic() + PATIENCE
        while True:
            with _told(self.directory):
                self._make_directory()
                descriptor = self._try_guard()
            if descriptor is not None:
                return descriptor
            if self._clock.monotonic() >= deadline:
                raise DedicatedError(
                    f"{self._guard} has been held by another task for {PATIENCE:g} s. Nothing was changed. Look for a "
                    "task that hangs on this host (its disk?), and run this again.",
                    code="lock_busy",
                    path=self._guard,
                )
            self._clock.sleep(POLL)

    def _try_guard(self) -> int | None:
        """The guard's descriptor while it is ours, None while it is another's."""
        # Others must not open it: whoever can open it can hold it.
        descriptor = self._system.open(self._guard, READ | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody may have removed it after it was opened; then the one that lies there now counts.
            if os.path.samestat(os.fstat(descriptor), os.lstat(self._guard)):
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _make_directory(self) -> None:
        missing, path = [], self.directory
        while not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                self._system.mkdir(path, 0o755)
            self._settle(path)
        self._settle(self.directory)

    def _settle(self, path: str) -> None:
        """Root's own, and readable by all, whatever the umask was. A link is refused."""
        descriptor = os.open(path, READ | os.O_DIRECTORY)
        try:
            status = os.fstat(descriptor)
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                self._system.fchown(descriptor, os.geteuid(), os.getegid())
            if stat.S_IMODE(status.st_mode) != 0o755:
                self._system.fchmod(descriptor, 0o755)
        finally:
            os.close(descriptor)

    def _write_aside(self, content: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # left by a task that was cut off
            self._system.unlink(self._aside)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = self._system.open(self._aside, flags, 0o600)
        try:
            data = content.encode()
            while data:
                data = data[self._system.write(descriptor, data) :]
            self._system.fchmod(descriptor, 0o644)
            self._system.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _sync(self) -> None:
        descriptor = os.open(self.directory, READ | os.O_DIRECTORY)
        try:
            self._system.fsync(descriptor)
        finally:
            os.close(descriptor)


class Machine:
    """The controller: which run this is, and whether the process of another one is alive."""

    def __init__(
        self,
        proc: str = "/proc",
        machine_ids: t.Sequence[str] = ("/etc/machine-id", "/var/lib/dbus/machine-id"),
        kill: t.Callable[[int, int], None] = os.kill,
    ) -> None:
        self._proc = proc
        self._machine_ids = tuple(machine_ids)
        self._kill = kill

    def run(self) -> plan.Run:
        """This run: the process of ansible-playbook, whose worker we are."""
        parent = multiprocessing.parent_process()
        pid = os.getpid() if parent is None or parent.pid is None else parent.pid
        if parent is not None and pid != os.getppid():
            raise DedicatedError(
                f"The process {pid} of ansible-playbook, to which this task belongs, is gone. Nothing was changed.",
                code="run_is_over",
            )
        boot = self._read("sys/kernel/random/boot_id").strip()
        process = self._process(pid)
        try:
            namespace = os.readlink(os.path.join(self._proc, "self/ns/pid"))
        except OSError:
            namespace = ""
        if process is None or not boot or not namespace:
            raise DedicatedError(
                f"The controller's {self._proc} does not show the process {pid} of ansible-playbook, the kernel's boot "
                "id or its PID namespace, so that this run cannot be told from others. Run it on Linux with /proc.",
                code="no_identity",
            )
        return plan.Run(platform.node() or "unknown", self._machine(), boot, namespace, pid, process[1])

    def alive(self, pid: int, start: int) -> bool | None:
        """Is that process of this kernel and PID namespace still the one that began then? None: cannot be told."""
        # First by signal: /proc may hide the processes of other users, which are no less alive.
        try:
            self._kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            pass
        process = self._process(pid)
        if process is None:
            return None
        state, began = process
        return began == start and state not in ("Z", "X")

    @staticmethod
    def operator(environment: t.Mapping[str, str] | None = None, uid: int | None = None) -> str:
        """Who runs it: what they say, who became root, or the user."""
        environment = os.environ if environment is None else environment
        uid = os.getuid() if uid is None else uid
        told = environment.get("DEDICATED_OPERATOR") or (environment.get("SUDO_USER") if uid == 0 else "")
        if told:
            return told
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"uid {uid}"

    def _machine(self) -> str:
        for path in self._machine_ids:
            try:
                with open(path, encoding="ascii") as stream:
                    content = stream.read().strip()
            except (OSError, ValueError):
                continue
            if content:  # its maker asks that it is not shown as it is
                return hashlib.sha256(f"dedicated.odoo operation {content}".encode()).hexdigest()[:16]
        return ""

    def _process(self, pid: int) -> tuple[str, int] | None:
        """State and start of a process, None when it cannot be seen."""
        # The second field is the program's name in brackets and may hold anything, brackets included.
        fields = self._read(f"{pid}/stat").rpartition(")")[2].split()
        try:
            return fields[0], int(fields[19])
        except (IndexError, ValueError):
            return None

    def _read(self, name: str) -> str:
        try:
            with open(os.path.join(self._proc, name), encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except OSError:
            return ""

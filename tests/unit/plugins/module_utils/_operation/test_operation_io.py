# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock file in a real directory, and a controller whose /proc is made up."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import pathlib
import stat
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._operation import io, plan

RUN = plan.Run("ctl1", "a" * 16, "boot-1", plan.MACHINE_NAMESPACE, 100, 5000)
LOCK = plan.Lock(RUN, "site", "bob", "", "acme", 1000, 2000)


class Clock:
    """Time passes only by waiting."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Os:
    """The real thing, for a test to change a part of."""

    def __getattr__(self, name: str) -> t.Any:
        return getattr(os, name)


@pytest.fixture
def where(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "dedicated" / "lock"


@pytest.fixture
def place(where: pathlib.Path) -> io.Place:
    return io.Place(str(where), Clock())


def names(where: pathlib.Path) -> set[str]:
    return {path.name for path in where.iterdir()}


def test_looking_makes_nothing(place: io.Place, where: pathlib.Path) -> None:
    assert place.look() == plan.Free()
    assert not where.parent.exists()


def test_a_lock_from_begin_to_end(place: io.Place, where: pathlib.Path) -> None:
    with place.alone():
        assert place.create(plan.text(LOCK))
        assert place.look() == LOCK
        # The name is taken, whoever asks.
        assert not place.create("something else")
        assert place.look() == LOCK
        later = plan.Lock(RUN, "site", "bob", "", "acme", 1000, 3000)
        place.replace(plan.text(later))
        assert place.look() == later
        assert names(where) == {io.NAME, io.GUARD}
        modes = {name: stat.S_IMODE((where / name).stat().st_mode) for name in names(where)}
        # Whoever can open the guard can hold it for ever.
        assert modes == {io.NAME: 0o644, io.GUARD: 0o600}
        place.remove()
    assert place.look() == plan.Free()
    assert names(where) == {io.GUARD}


def test_a_lock_is_on_disk_before_it_is_reported(where: pathlib.Path) -> None:
    calls: list[str] = []

    class Recorded(Os):
        def __getattr__(self, name: str) -> t.Any:
            calls.append(name)
            return super().__getattr__(name)

    place = io.Place(str(where), Clock(), t.cast(io.System, Recorded()))
    with place.alone():
        calls.clear()
        place.create(plan.text(LOCK))
        assert calls == ["unlink", "open", "write", "fchmod", "fsync", "link", "unlink", "fsync"]
        calls.clear()
        place.replace(plan.text(LOCK))
        assert calls == ["unlink", "open", "write", "fchmod", "fsync", "replace", "fsync"]
        calls.clear()
        place.remove()
        assert calls == ["unlink", "fsync"]


def test_the_directory_is_readable_whatever_the_umask(place: io.Place, where: pathlib.Path) -> None:
    before = os.umask(0o077)
    try:
        with place.alone():
            place.create(plan.text(LOCK))
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (where.parent, where, where / io.NAME)] == [
        0o755,
        0o755,
        0o644,
    ]
    where.chmod(0o777)
    with place.alone():
        assert stat.S_IMODE(where.stat().st_mode) == 0o755


def test_one_at_a_time_and_not_for_ever(where: pathlib.Path) -> None:
    clock = Clock()
    first, second = io.Place(str(where), Clock()), io.Place(str(where), clock)
    with first.alone(), pytest.raises(DedicatedError, match=r"held by another task for 10 s") as caught, second.alone():
        pass
    assert caught.value.details["code"] == "lock_busy"
    assert clock.seconds >= io.PATIENCE
    with second.alone():
        pass


def test_a_guard_that_was_removed_guards_no_more(where: pathlib.Path) -> None:
    """Removed by hand after it was opened: only who holds the one that lies there now is alone."""
    second = io.Place(str(where), Clock())

    class Removing(Os):
        def open(self, path: str, flags: int, mode: int = 0o777) -> int:
            descriptor = os.open(path, flags, mode)
            if not held:
                os.unlink(path)
                held.append(others.enter_context(second.alone()))
            return descriptor

    held: list[None] = []
    with contextlib.ExitStack() as others:
        first = io.Place(str(where), Clock(), t.cast(io.System, Removing()))
        with pytest.raises(DedicatedError, match="held by another task"), first.alone():
            pass
    assert held


BAD: dict[str, t.Callable[[pathlib.Path], t.Any]] = {
    "dangling link": lambda path: path.symlink_to("/nowhere"),
    "link to a lock": lambda path: (
        path.with_name("real").write_text(plan.text(LOCK)),
        path.symlink_to(path.with_name("real")),
    ),
    "directory": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "empty": lambda path: path.write_text(""),
    "too large": lambda path: path.write_text(plan.text(LOCK) + " " * io.MAX_SIZE),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "writable by all": lambda path: (path.write_text(plan.text(LOCK)), path.chmod(0o666)),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_lock_is_called_so_and_stays(place: io.Place, where: pathlib.Path, what: str) -> None:
    where.mkdir(parents=True)
    BAD[what](where / io.NAME)
    before = os.lstat(where / io.NAME)
    found = place.look()
    assert isinstance(found, plan.Bad)
    assert found.path == str(where / io.NAME)
    with place.alone():
        assert not place.create(plan.text(LOCK))
    after = os.lstat(where / io.NAME)
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)
    assert io.ASIDE not in names(where)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_lock_that_somebody_else_wrote_is_none(place: io.Place, where: pathlib.Path) -> None:
    where.mkdir(parents=True)
    (where / io.NAME).write_text(plan.text(LOCK))
    os.chown(where / io.NAME, 12345, 12345)
    assert isinstance(place.look(), plan.Bad)


@pytest.mark.parametrize("kind", ["link", "file", "file above"])
def test_a_directory_that_is_none(place: io.Place, where: pathlib.Path, tmp_path: pathlib.Path, kind: str) -> None:
    if kind == "file above":
        where.parent.write_text("")
    else:
        where.parent.mkdir()
        where.symlink_to(tmp_path) if kind == "link" else where.write_text("")
    found = place.look()
    assert isinstance(found, plan.Bad)
    assert found.why == "is no directory"
    with pytest.raises(DedicatedError) as caught, place.alone():
        pass
    assert caught.value.details["code"] == "io"
    assert not (tmp_path / io.GUARD).exists()


def test_the_data_disk_may_be_elsewhere(tmp_path: pathlib.Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "dedicated").symlink_to(tmp_path / "disk")
    place = io.Place(str(tmp_path / "dedicated" / "lock"), Clock())
    with place.alone():
        assert place.create(plan.text(LOCK))
    assert place.look() == LOCK


def test_the_hosts_clock() -> None:
    assert io.Place("/nowhere", now=lambda: 1234.9).now() == 1234


# The controller

STAT = "{pid} ({name}) {state} 1 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 {start} 3133440 412\n"


class Controller(io.Machine):
    """A controller whose processes are told."""

    def __init__(self, root: pathlib.Path, **existing: t.Any) -> None:
        self.root = root
        (root / "proc/sys/kernel/random").mkdir(parents=True)
        (root / "proc/sys/kernel/random/boot_id").write_text("boot-1\n")
        (root / "proc/self/ns").mkdir(parents=True)
        (root / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
        (root / "machine-id").write_text("3d1219c7c4c5404a\n")
        self.errors: dict[int, type[OSError]] = {}
        super().__init__(str(root / "proc"), [str(root / "none"), str(root / "machine-id")], self.signal)

    def process(self, pid: int, start: int, state: str = "S", name: str = "ansible-playboo") -> None:
        folder = self.root / "proc" / str(pid)
        folder.mkdir(exist_ok=True)
        (folder / "stat").write_text(STAT.format(pid=pid, name=name, state=state, start=start))

    def signal(self, pid: int, number: int) -> None:
        assert number == 0
        if pid in self.errors:
            raise self.errors[pid](errno.EPERM, "told so")


@pytest.fixture
def controller(tmp_path: pathlib.Path) -> Controller:
    return Controller(tmp_path)


@pytest.mark.parametrize("name", ["ansible-playboo", "a b", "evil) R 1 1 (", ""])
def test_the_run_is_this_process_where_nothing_was_forked(controller: Controller, name: str) -> None:
    controller.process(os.getpid(), 777, name=name)
    run = controller.run()
    assert (run.boot, run.namespace, run.pid, run.start) == ("boot-1", plan.MACHINE_NAMESPACE, os.getpid(), 777)
    assert len(run.machine) == 16
    assert "3d1219" not in run.machine
    assert controller.run() == run


def test_the_run_is_the_process_that_forked_the_worker() -> None:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    workers = [context.Process(target=lambda: queue.put(io.Machine().run())) for __ in range(2)]
    for worker in workers:
        worker.start()
    runs = [queue.get() for __ in workers]
    for worker in workers:
        worker.join()
    assert runs[0] == runs[1] == io.Machine().run()
    assert runs[0].pid == os.getpid()


def _orphan(queue: t.Any) -> None:
    """What a worker sees when its ansible-playbook is gone: another parent than the one that forked it."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        io.Machine().run()
        queue.put("")
    except DedicatedError as exc:
        queue.put(exc.details["code"])
    finally:
        os._exit(0)


def test_the_worker_of_a_run_that_is_gone_asks_for_nothing() -> None:
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    worker = context.Process(target=_orphan, args=(queue,))
    worker.start()
    assert queue.get() == "run_is_over"
    worker.join()


@pytest.mark.parametrize("missing", ["proc/sys/kernel/random/boot_id", "proc/self/ns/pid", "proc/{pid}/stat"])
def test_a_controller_that_does_not_show_what_is_needed(controller: Controller, missing: str) -> None:
    controller.process(os.getpid(), 777)
    (controller.root / missing.format(pid=os.getpid())).unlink()
    with pytest.raises(DedicatedError) as caught:
        controller.run()
    assert caught.value.details["code"] == "no_identity"


def test_a_controller_without_a_machine_id(controller: Controller) -> None:
    controller.process(os.getpid(), 777)
    (controller.root / "machine-id").write_text("\n")
    assert controller.run().machine == ""


@pytest.mark.parametrize(
    ("start", "state", "error", "expected"),
    [
        (5000, "S", None, True),
        (5000, "D", PermissionError, True),
        (5000, "Z", None, False),
        (5000, "X", None, False),
        (5001, "S", None, False),
        (5001, "S", PermissionError, False),
        (5000, "S", ProcessLookupError, False),
        # /proc with hidepid does not show another user's process, which is no less alive.
        (None, "", None, None),
        (None, "", PermissionError, None),
        (None, "", ProcessLookupError, False),
    ],
)
def test_is_that_process_alive(
    controller: Controller, start: int | None, state: str, error: type[OSError] | None, expected: bool | None
) -> None:
    if start is not None:
        controller.process(100, start, state)
    if error is not None:
        controller.errors[100] = error
    assert controller.alive(100, 5000) is expected


def test_real_processes() -> None:
    machine = io.Machine()
    run = machine.run()
    assert machine.alive(run.pid, run.start) is True
    assert machine.alive(run.pid, run.start + 1) is False
    child = multiprocessing.get_context("fork").Process(target=int)
    child.start()
    pid = child.pid
    assert pid is not None
    child.join()
    assert machine.alive(pid, 0) is False


@pytest.mark.parametrize(
    ("environment", "uid", "expected"),
    [
        ({"DEDICATED_OPERATOR": "ann", "SUDO_USER": "bob"}, 0, "ann"),
        ({"SUDO_USER": "bob"}, 0, "bob"),
        ({"SUDO_USER": "bob"}, 4_000_000, "uid 4000000"),
        ({"DEDICATED_OPERATOR": ""}, 0, "root"),
    ],
)
def test_who_it_is(environment: dict[str, str], uid: int, expected: str) -> None:
    assert io.Machine.operator(environment, uid) == expected

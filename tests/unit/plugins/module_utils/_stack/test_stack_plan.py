# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner of stacks, driven through every interruption."""

from __future__ import annotations

import dataclasses
import random
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._stack import plan

HOME = "/opt/dedicated/x"
COMPOSE = f"{HOME}/compose.yaml"


@dataclasses.dataclass
class FakeDisk:
    """Files by path, staged contents, and a state; knows what each step does and nothing else."""

    files: dict[str, tuple[str, int, int | None, int | None]] = dataclasses.field(default_factory=dict)
    directories: dict[str, tuple[int, int | None, int | None]] = dataclasses.field(default_factory=dict)
    staged: dict[str, tuple[str, int, int | None, int | None]] = dataclasses.field(default_factory=dict)
    state: plan.State = dataclasses.field(default_factory=plan.State)
    ours: set[str] = dataclasses.field(default_factory=set)

    def snapshot(self) -> plan.Snapshot:
        present = {
            path: plan.Present(plan.FILE, digest, mode, uid or 0, gid or 0)
            for path, (digest, mode, uid, gid) in self.files.items()
        }
        for path, (mode, uid, gid) in self.directories.items():
            present[path] = plan.Present(plan.DIRECTORY, "", mode, uid or 0, gid or 0)
        return plan.Snapshot(present, self.state)

    def apply(self, step: plan.Step, wanted: plan.Wanted | None = None) -> None:
        getattr(self, "_" + step.action)(step, wanted)

    def _make_directory(self, step: plan.Step, wanted: plan.Wanted | None) -> None:
        assert step.path not in self.directories
        parent = step.path.rsplit("/", 1)[0]
        assert parent in ("/opt/dedicated", "/var/lib/dedicated", *self.directories), f"{step.path} before its parent"
        self._set_directory(step, wanted)

    def _set_directory(self, step: plan.Step, wanted: plan.Wanted | None) -> None:
        self.directories[step.path] = (step.mode, step.uid, step.gid)

    def _stage(self, step: plan.Step, wanted: plan.Wanted | None) -> None:
        assert wanted is not None
        digests = {entry.path: entry.digest for entry in wanted.files}
        self.staged[step.path] = (digests[step.path], step.mode, step.uid, step.gid)

    def _land(self, step: plan.Step, wanted: plan.Wanted | None) -> None:
        self.files[step.path] = self.staged.pop(step.path)
        self.ours.add(step.path)

    def _set_file(self, step: plan.Step, wanted: plan.Wanted | None) -> None:
        self.files[step.path] = (self.files[step.path][0], step.mode, step.uid, step.gid)

    def _remove(self, step: plan.Step, wanted: plan.Wanted | None) -> None:
        del self.files[step.path]

    def _record(self, step: plan.Step, wanted: plan.Wanted | None) -> None:
        assert step.path in self.directories
        assert step.state is not None
        self.state = step.state

    def _forget(self, step: plan.Step, wanted: plan.Wanted | None) -> None:
        self.state = plan.State()
        self.files.pop(step.path, None)

    def _remove_directory(self, step: plan.Step, wanted: plan.Wanted | None) -> None:
        assert not any(path.startswith(step.path + "/") for path in (*self.files, *self.directories))
        del self.directories[step.path]

    def _purge_directory(self, step: plan.Step, wanted: plan.Wanted | None) -> None:
        for path in [one for one in (*self.files, *self.directories) if one.startswith(step.path)]:
            self.files.pop(path, None)
            self.directories.pop(path, None)


def want(contents: t.Mapping[str, str], groups: t.Mapping[str, str] | None = None, **changes: t.Any) -> plan.Wanted:
    """``contents``: relative path -> content; ``groups``: path -> reload group."""
    groups = groups or {}
    files = [
        plan.WantedFile(f"{HOME}/{path}", content, 0o440, 0, 0, groups.get(path, plan.RECREATE))
        for path, content in contents.items()
    ]
    files.append(plan.WantedFile(COMPOSE, "compose " + repr(sorted(contents)), 0o640, 0, 0, plan.NOTHING))
    directories = [plan.WantedDirectory(HOME, 0o750, None, None, implied=True)]
    directories += [
        plan.WantedDirectory(f"{HOME}/{parent}", 0o755, None, None, implied=True)
        for parent in sorted({path.rsplit("/", 1)[0] for path in contents if "/" in path})
    ]
    hashes = {
        group: repr(sorted((path, contents[path]) for path in contents if groups.get(path) == group))
        for group in {groups[path] for path in contents if path in groups}
    }
    return plan.Wanted(HOME, tuple(files), tuple(directories), hashes, COMPOSE, **changes)


def planned(disk: FakeDisk, wanted: plan.Wanted) -> plan.Plan:
    answer = plan.plan_landing(wanted, disk.snapshot())
    assert isinstance(answer, plan.Plan), answer
    return answer


def lay_down(disk: FakeDisk, wanted: plan.Wanted, stop: int | None = None) -> plan.Plan:
    """Plan and apply, up to ``stop`` steps, checking the invariants after each."""
    answer = planned(disk, wanted)
    old = dict(disk.files)
    new = {entry.path: (entry.digest, entry.mode, entry.uid, entry.gid) for entry in wanted.files}
    for step in answer.steps[:stop]:
        disk.apply(step, wanted)
        for path, file in disk.files.items():
            assert file in (old.get(path), new.get(path), (old.get(path, ("",))[0], *new.get(path, ("",))[1:])), path
        unknown = disk.ours & set(disk.files) - set(disk.state.files)
        assert not unknown, f"{unknown} would never be removed"
        if COMPOSE in disk.files and disk.files[COMPOSE] == new[COMPOSE] != old.get(COMPOSE):
            assert all(disk.files[path] == new[path] for path in new), "compose.yaml landed before a file"
    return answer


def converged(disk: FakeDisk, wanted: plan.Wanted) -> None:
    assert {path: file[0] for path, file in disk.files.items()} == {entry.path: entry.digest for entry in wanted.files}
    assert planned(disk, wanted).steps == ()


WISHES = [
    want({"a": "1", "conf/b": "1"}),
    want({"a": "2", "conf/b": "1", "c": "1"}, {"c": "acl"}),
    want({"a": "2", "c": "2", "secrets/d": "1"}, {"c": "acl", "secrets/d": "tls"}),
    want({"a": "2", "c": "1"}, {"c": "acl"}),
    want({}),
]


def test_first_landing_is_complete_and_the_second_does_nothing() -> None:
    disk = FakeDisk()
    first = lay_down(disk, WISHES[2])
    assert first.first_deploy
    assert first.pending == ()
    converged(disk, WISHES[2])
    assert not planned(disk, WISHES[2]).first_deploy


def test_everything_is_staged_before_anything_lands_and_compose_lands_last() -> None:
    actions = [step.action for step in planned(FakeDisk(), WISHES[2]).steps]
    assert actions.index(plan.LAND) > max(at for at, action in enumerate(actions) if action == plan.STAGE)
    lands = planned(FakeDisk(), WISHES[2]).paths(plan.LAND)
    assert lands[-1] == COMPOSE


@pytest.mark.parametrize("before", range(len(WISHES)))
@pytest.mark.parametrize("wish", range(len(WISHES)))
@pytest.mark.parametrize("then", range(len(WISHES)))
def test_every_interruption_converges_to_whatever_is_wanted_next(before: int, wish: int, then: int) -> None:
    """Laid down, then another wish interrupted after each step, then the same or a third wish."""
    start = FakeDisk()
    lay_down(start, WISHES[before])
    for stop in range(len(planned(start, WISHES[wish]).steps) + 1):
        disk = dataclasses.replace(
            start, files=dict(start.files), directories=dict(start.directories), staged={}, ours=set(start.ours)
        )
        lay_down(disk, WISHES[wish], stop)
        lay_down(disk, WISHES[then])
        converged(disk, WISHES[then])


@pytest.mark.parametrize("then", range(len(WISHES)))
def test_an_interrupted_first_landing_is_still_the_first(then: int) -> None:
    for stop in range(len(planned(FakeDisk(), WISHES[1]).steps)):
        disk = FakeDisk()
        lay_down(disk, WISHES[1], stop)
        answer = lay_down(disk, WISHES[then])
        assert answer.first_deploy
        assert answer.pending == ()
        converged(disk, WISHES[then])


@dataclasses.dataclass
class FakeService:
    """A container that reads the files of its groups when it starts and when it is reloaded."""

    read: dict[str, str] | None = None

    def load(self, disk: FakeDisk, wishes: t.Sequence[plan.Wanted], group: str | None = None) -> None:
        content = {name: self.content(disk, wishes, name) for name in ("acl", "tls")}
        if self.read is None or group is None:
            self.read = content
        else:
            self.read[group] = content[group]

    @staticmethod
    def content(disk: FakeDisk, wishes: t.Sequence[plan.Wanted], group: str) -> str:
        paths = {entry.path for wish in wishes for entry in wish.files if entry.on_change == group}
        return repr(sorted((path, disk.files[path][0]) for path in paths if path in disk.files))


def mark(disk: FakeDisk, group: str) -> None:
    marked = plan.plan_marking(HOME, [group], disk.state)
    assert isinstance(marked, plan.Plan)
    for step in marked.steps:
        disk.apply(step)


@dataclasses.dataclass
class History:
    """Random landings, starts, reloads and marks, each of which may be interrupted."""

    rng: random.Random
    disk: FakeDisk = dataclasses.field(default_factory=FakeDisk)
    service: FakeService = dataclasses.field(default_factory=FakeService)
    lost: int = 0

    def play(self, wishes: t.Sequence[plan.Wanted]) -> None:
        """One play: lay down, start, reload what is pending, mark; or as far as it comes."""
        wish = self.rng.choice(wishes)
        length = len(planned(self.disk, wish).steps)
        stop = self.rng.randrange(length) if length and self.rng.random() < 0.4 else None
        answer = lay_down(self.disk, wish, stop)
        if self.service.read is not None and self.rng.random() < 0.2:
            self.service.load(self.disk, wishes)  # the container restarts by itself
        if stop is not None:
            return
        self.judge(answer, wishes)
        if self.rng.random() < 0.3:
            return
        if self.service.read is None:
            self.service.load(self.disk, wishes)
        for group in answer.pending:
            self.service.load(self.disk, wishes, group)
            if self.rng.random() < 0.3:
                return
            mark(self.disk, group)

    def judge(self, answer: plan.Plan, wishes: t.Sequence[plan.Wanted]) -> None:
        for group, read in (self.service.read or {}).items():
            if read != self.service.content(self.disk, wishes, group):
                self.lost += 1
                assert group in answer.pending


def test_a_reload_that_was_lost_stays_pending_whatever_happens() -> None:
    rng = random.Random(11)
    groups = {"c": "acl", "d": "acl", "e": "tls"}
    lost = 0
    for _ in range(600):
        history = History(rng)
        wishes = [want({name: rng.choice("123") for name in "acde"}, groups) for _ in range(4)]
        for _ in range(8):
            history.play(wishes)
        lost += history.lost
    assert lost > 200


def test_a_change_that_was_reverted_is_still_pending() -> None:
    old, new = want({"c": "1"}, {"c": "acl"}), want({"c": "2"}, {"c": "acl"})
    disk = FakeDisk()
    lay_down(disk, old)
    assert lay_down(disk, new).pending == ("acl",)
    # The service may have been reloaded here, and the play died before it could say so.
    assert lay_down(disk, old).pending == ("acl",)
    assert planned(disk, old).steps == ()


def test_marking_ends_what_is_pending() -> None:
    old, new = want({"c": "1"}, {"c": "acl"}), want({"c": "2"}, {"c": "acl"})
    disk = FakeDisk()
    lay_down(disk, old)
    lay_down(disk, new)
    mark(disk, "acl")
    answer = planned(disk, new)
    assert (answer.steps, answer.pending) == ((), ())
    again = plan.plan_marking(HOME, ["acl"], disk.state)
    assert isinstance(again, plan.Plan)
    assert again.steps == ()


def test_a_watched_file_that_changed_makes_its_group_pending() -> None:
    disk = FakeDisk()
    before = dataclasses.replace(want({"a": "1"}), groups={"tls": "1"})
    lay_down(disk, before)
    after = lay_down(disk, dataclasses.replace(before, groups={"tls": "2"}))
    assert after.pending == ("tls",)
    assert after.paths(plan.LAND) == []
    assert lay_down(disk, before).pending == ("tls",)


def test_nothing_can_be_marked_in_the_middle_of_a_landing() -> None:
    disk = FakeDisk()
    lay_down(disk, want({"c": "1"}, {"c": "acl"}))
    lay_down(disk, want({"c": "2"}, {"c": "acl"}), stop=2)
    refusal = plan.plan_marking(HOME, ["acl"], disk.state)
    assert isinstance(refusal, Refuse)
    assert refusal.code == "unknown_reload_group"


def test_owner_and_mode_are_corrected_in_place() -> None:
    disk = FakeDisk()
    lay_down(disk, WISHES[0])
    disk.files[f"{HOME}/a"] = ("1", 0o777, 5, 5)
    answer = lay_down(disk, WISHES[0])
    assert [step.action for step in answer.steps] == [plan.SET_FILE]
    converged(disk, WISHES[0])


def test_declared_directories_are_corrected_and_implied_ones_are_not() -> None:
    disk = FakeDisk(
        directories={HOME: (0o700, 9, 9), "/var/lib/dedicated/x": (0o777, 9, 9), "/var/lib/dedicated": (0, 0, 0)}
    )
    data = plan.WantedDirectory("/var/lib/dedicated/x", 0o700, 7, 7)
    wish = want({"a": "1"})
    lay_down(disk, dataclasses.replace(wish, directories=(*wish.directories, data)))
    assert disk.directories["/var/lib/dedicated/x"] == (0o700, 7, 7)
    assert disk.directories[HOME] == (0o700, 9, 9)
    assert disk.state.directories == ("/var/lib/dedicated/x",)


def test_a_seed_is_laid_once_never_compared_and_never_removed() -> None:
    wish = want({"a": "1"})
    seed = plan.WantedFile(f"{HOME}/seed", "1", 0o600, 7, 7, plan.NOTHING, once=True)
    with_seed = dataclasses.replace(wish, files=(*wish.files, seed))
    disk = FakeDisk()
    answer = plan.plan_landing(with_seed, disk.snapshot())
    assert isinstance(answer, plan.Plan)
    for step in answer.steps:
        disk.apply(step, with_seed)
    disk.files[seed.path] = ("rewritten by the server", 0o644, 1, 1)
    assert planned(disk, with_seed).steps == ()
    assert planned(disk, wish).steps == ()


def test_without_prune_files_stay_and_stay_known() -> None:
    disk = FakeDisk()
    lay_down(disk, want({"a": "1", "b": "1"}))
    kept = want({"a": "1"}, prune=False)
    answer = planned(disk, kept)
    for step in answer.steps:
        disk.apply(step, kept)
    assert f"{HOME}/b" in disk.files
    assert lay_down(disk, want({"a": "1"})).paths(plan.REMOVE) == [f"{HOME}/b"]


@pytest.mark.parametrize("kind", [plan.DIRECTORY, plan.OTHER])
def test_a_link_or_directory_in_the_place_of_a_file_is_refused(kind: str) -> None:
    snapshot = plan.Snapshot({f"{HOME}/a": plan.Present(kind)}, plan.State())
    refusal = plan.plan_landing(want({"a": "1"}), snapshot)
    assert isinstance(refusal, Refuse)
    assert refusal.code == "not_a_file"


@pytest.mark.parametrize("kind", [plan.FILE, plan.OTHER])
def test_a_link_or_file_in_the_place_of_a_directory_is_refused(kind: str) -> None:
    refusal = plan.plan_landing(want({"a": "1"}), plan.Snapshot({HOME: plan.Present(kind)}, plan.State()))
    assert isinstance(refusal, Refuse)
    assert refusal.code == "not_a_directory"


# Removal


def removal(disk: FakeDisk, purge: bool = False, declared: tuple[str, ...] = ()) -> plan.Plan | Refuse:
    inside = sorted(
        (path for path in (*disk.files, *disk.directories) if path.startswith(HOME + "/")),
        key=lambda path: (-path.count("/"), path),
    )
    wanted = [plan.WantedDirectory(path, 0o700, None, None) for path in declared]
    return plan.plan_removal(
        HOME, disk.snapshot(), inside, wanted, purge, lambda path: path.startswith("/var/lib/dedicated/")
    )


def laid_down() -> FakeDisk:
    disk = FakeDisk(directories={"/var/lib/dedicated": (0o755, 0, 0)})
    wish = want({"a": "1", "conf/b": "1"})
    data = plan.WantedDirectory("/var/lib/dedicated/x", 0o700, 7, 7)
    lay_down(disk, dataclasses.replace(wish, directories=(*wish.directories, data)))
    disk.files[f"{HOME}/.stack.json"] = ("state", 0o600, 0, 0)
    disk.files["/var/lib/dedicated/x/data"] = ("precious", 0o600, 7, 7)
    return disk


def test_removal_leaves_data_and_nothing_else() -> None:
    disk = laid_down()
    answer = removal(disk)
    assert isinstance(answer, plan.Plan)
    for step in answer.steps:
        disk.apply(step)
    assert set(disk.files) == {"/var/lib/dedicated/x/data"}
    assert HOME not in disk.directories
    again = removal(disk)
    assert isinstance(again, plan.Plan)
    assert again.steps == ()


def test_removal_leaves_and_reports_what_others_put_there() -> None:
    disk = laid_down()
    disk.files[f"{HOME}/conf/notes"] = ("mine", 0o600, 0, 0)
    answer = removal(disk)
    assert isinstance(answer, plan.Plan)
    assert answer.left == (f"{HOME}/conf/notes",)
    for step in answer.steps:
        disk.apply(step)
    assert f"{HOME}/conf/notes" in disk.files
    assert HOME in disk.directories


def test_an_interrupted_purge_is_finished_by_the_next() -> None:
    whole = removal(laid_down(), purge=True)
    assert isinstance(whole, plan.Plan)
    for stop in range(len(whole.steps)):
        disk = laid_down()
        for step in whole.steps[:stop]:
            disk.apply(step)
        answer = removal(disk, purge=True)
        assert isinstance(answer, plan.Plan)
        for step in answer.steps:
            disk.apply(step)
        assert disk.files == {}
        assert set(disk.directories) == {"/var/lib/dedicated"}


def test_only_data_directories_are_purged() -> None:
    refusal = removal(laid_down(), purge=True, declared=("/etc/dedicated/pki",))
    assert isinstance(refusal, Refuse)
    assert refusal.code == "not_purgeable"

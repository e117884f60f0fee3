# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What it takes to bring one stack's files from what is there to what is wanted.

Invariant: after *any* prefix of the steps, however the run ended,

1. every file is either the old or the new one, complete, with its final mode and owner before its name is visible;
2. planning and applying again reaches the wanted state, and then plans nothing;
3. every file that we laid down and that is no longer wanted is still known to the state, so that it can be removed;
4. a reload group whose content may differ from what the running service has read is pending.

(3) is why the state is written before the first and after the last change, with the union of old and new paths in
between. (4) is why a group is marked as not applied *before* anything lands, and only ``mark_reloaded`` clears it: a
content that was changed and changed back may have been read in between.

The steps of a plan, in order: directories, the state, staging of all contents (what can fail for lack of space fails
here), landings by rename with the Compose file last, permissions, removals, the state again.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .._common.errors import Refuse

RECREATE = "recreate"
NOTHING = "none"

# Actions. LAND renames what STAGE wrote; both carry the same path.
MAKE_DIRECTORY = "make_directory"
SET_DIRECTORY = "set_directory"
STAGE = "stage"
RECORD = "record"
LAND = "land"
SET_FILE = "set_file"
REMOVE = "remove"
REMOVE_DIRECTORY = "remove_directory"
PURGE_DIRECTORY = "purge_directory"
FORGET = "forget"

ABSENT, FILE, DIRECTORY, OTHER = "absent", "file", "directory", "other"


@dataclasses.dataclass(frozen=True)
class Present:
    """What lies at a path. ``digest`` of files only; an unreadable detail is the I/O layer's error, not a value."""

    kind: str = ABSENT
    digest: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0


@dataclasses.dataclass(frozen=True)
class WantedFile:
    """A file that shall be there. An owner of None is one that the host does not know (yet)."""

    path: str
    digest: str
    mode: int
    uid: int | None
    gid: int | None
    on_change: str = RECREATE
    services: tuple[str, ...] = ()
    once: bool = False
    secret: bool = False


@dataclasses.dataclass(frozen=True)
class WantedDirectory:
    """A directory that shall be there; ``implied`` ones are made when missing, and otherwise left as they are."""

    path: str
    mode: int
    uid: int | None
    gid: int | None
    implied: bool = False


@dataclasses.dataclass(frozen=True)
class State:
    """What we remember between runs.

    ``files``: path -> whether its content is secret. ``desired``: hash of each reload group as of the last landing,
    empty while one is under way, so that nothing can be marked then.
    ``applied``: hash that the running service is known to have read; a group without one is pending.
    ``services``, ``groups``: paths that the hash of each goes over, so that it can be made again without the wish.
    ``complete``: a landing once ran to its end. Before that no service can have been started from these files.
    """

    files: t.Mapping[str, bool] = dataclasses.field(default_factory=dict)
    directories: tuple[str, ...] = ()
    desired: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    applied: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    complete: bool = False
    services: t.Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    groups: t.Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """The whole wish. ``compose`` names the Compose file among ``files``; ``groups``: reload group -> content hash.

    ``read_by_services`` and ``read_by_groups``: paths by whom they concern.
    """

    directory: str
    files: tuple[WantedFile, ...]
    directories: tuple[WantedDirectory, ...]
    groups: t.Mapping[str, str]
    compose: str | None = None
    prune: bool = True
    read_by_services: t.Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    read_by_groups: t.Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The world at one moment: every path that the wish or the state names, and the state itself."""

    present: t.Mapping[str, Present]
    state: State

    def at(self, path: str) -> Present:
        return self.present.get(path, Present())


@dataclasses.dataclass(frozen=True)
class Step:
    """One action on one path."""

    action: str
    path: str
    mode: int = 0
    uid: int | None = None
    gid: int | None = None
    state: State | None = None

    def as_result(self) -> dict[str, str]:
        return {"action": self.action, "path": self.path}


@dataclasses.dataclass(frozen=True)
class Plan:
    """Steps in order, and which reload groups still have to be told once they are done."""

    steps: tuple[Step, ...]
    pending: tuple[str, ...] = ()
    first_deploy: bool = False
    left: tuple[str, ...] = ()

    def paths(self, *actions: str) -> list[str]:
        return [step.path for step in self.steps if step.action in actions]


def _owner_differs(wanted: WantedFile | WantedDirectory, there: Present) -> bool:
    return (wanted.mode, wanted.uid, wanted.gid) != (there.mode, there.uid, there.gid)


def why_not_file(path: str, there: Present) -> Refuse | None:
    """A link or a directory in the place of a file is not ours to replace: somebody put it there."""
    if there.kind in (ABSENT, FILE):
        return None
    return Refuse(
        "not_a_file",
        f"{path} cannot be written",
        "there is a directory, a link or a special file in its place",
        "Look who made it, move it away and run again.",
    )


def why_not_directory(path: str, there: Present) -> Refuse | None:
    if there.kind in (ABSENT, DIRECTORY):
        return None
    return Refuse(
        "not_a_directory",
        f"{path} cannot be used as a directory",
        "there is a file or a link in its place",
        "Look who made it, move it away and run again.",
    )


def _obstacle(wanted: Wanted, snapshot: Snapshot) -> Refuse | None:
    for entry in wanted.files:
        refusal = why_not_file(entry.path, snapshot.at(entry.path))
        if refusal is not None:
            return refusal
    for directory in wanted.directories:
        refusal = why_not_directory(directory.path, snapshot.at(directory.path))
        if refusal is not None:
            return refusal
    return None


def _directory_steps(wanted: Wanted, snapshot: Snapshot) -> t.Iterator[Step]:
    for entry in sorted(wanted.directories, key=lambda one: one.path.count("/")):
        there = snapshot.at(entry.path)
        if there.kind == ABSENT:
            yield Step(MAKE_DIRECTORY, entry.path, entry.mode, entry.uid, entry.gid)
        elif not entry.implied and _owner_differs(entry, there):
            yield Step(SET_DIRECTORY, entry.path, entry.mode, entry.uid, entry.gid)


def _needs_content(entry: WantedFile, there: Present) -> bool:
    if there.kind == ABSENT:
        return True
    return not entry.once and there.digest != entry.digest


def _groups(wanted: Wanted, before: State) -> tuple[dict[str, str], list[str]]:
    """What counts as applied once the files have landed, and which groups are pending.

    The first landing of a Compose project has nothing to reload: its containers do not exist yet. Without a project
    the files belong to services of the host, which run already.
    """
    if not before.complete and wanted.compose is not None:
        return dict(wanted.groups), []
    applied = {
        group: before.applied[group] for group, digest in wanted.groups.items() if before.applied.get(group) == digest
    }
    return applied, sorted(set(wanted.groups) - set(applied))


def plan_landing(wanted: Wanted, snapshot: Snapshot) -> Plan | Refuse:
    """Steps from the snapshot to the wish."""
    refusal = _obstacle(wanted, snapshot)
    if refusal is not None:
        return refusal
    before = snapshot.state
    applied, pending = _groups(wanted, before)
    mine = {entry.path: entry.secret for entry in wanted.files if not entry.once}
    gone = sorted(set(before.files) - set(mine) - {entry.path for entry in wanted.files})
    if not wanted.prune:
        mine = {**mine, **{path: before.files[path] for path in gone}}
        gone = []
    after = State(
        files=mine,
        directories=tuple(sorted({*before.directories, *(d.path for d in wanted.directories if not d.implied)})),
        desired=dict(wanted.groups),
        applied=applied,
        services=dict(wanted.read_by_services),
        groups=dict(wanted.read_by_groups),
        complete=True,
    )
    between = dataclasses.replace(after, files={**before.files, **mine}, desired={}, complete=before.complete)
    if not before.complete:
        between = dataclasses.replace(between, applied={})

    ordered = sorted(wanted.files, key=lambda entry: (entry.path == wanted.compose, entry.path))
    fresh = [entry for entry in ordered if _needs_content(entry, snapshot.at(entry.path))]
    kept = [entry for entry in ordered if entry not in fresh and not entry.once]
    landing = [
        *(Step(STAGE, entry.path, entry.mode, entry.uid, entry.gid) for entry in fresh),
        *(Step(LAND, entry.path) for entry in fresh),
        *(
            Step(SET_FILE, entry.path, entry.mode, entry.uid, entry.gid)
            for entry in kept
            if _owner_differs(entry, snapshot.at(entry.path))
        ),
        *(Step(REMOVE, path) for path in gone if snapshot.at(path).kind == FILE),
    ]
    steps = list(_directory_steps(wanted, snapshot))
    recorded = before
    if landing and between != before:
        steps.append(Step(RECORD, wanted.directory, state=between))
        recorded = between
    steps += landing
    if after != recorded:
        steps.append(Step(RECORD, wanted.directory, state=after))
    return Plan(tuple(steps), tuple(pending), first_deploy=not before.complete)


def plan_marking(directory: str, groups: t.Sequence[str], state: State) -> Plan | Refuse:
    """Steps after the role has reloaded the services of these groups.

    What is recorded is the hash of the last landing, not of what lies there now: a file that was changed by somebody
    else since then was perhaps not read, and is found pending by the next run.
    """
    unknown = sorted(set(groups) - set(state.desired))
    if unknown:
        return Refuse(
            "unknown_reload_group",
            f"{', '.join(unknown)} cannot be marked as reloaded",
            f"the stack in {directory} has no such reload group, it has: {', '.join(sorted(state.desired)) or 'none'}",
            "Lay the stack down first, and mark what pending_reloads returned.",
        )
    applied = {**state.applied, **{group: state.desired[group] for group in groups}}
    after = dataclasses.replace(state, applied=applied)
    steps = () if after == state else (Step(RECORD, directory, state=after),)
    return Plan(steps, tuple(sorted(group for group in state.desired if applied.get(group) != state.desired[group])))


def plan_rewatch(
    directory: str,
    compose: Step | None,
    desired: t.Mapping[str, str],
    marked: t.Sequence[str],
    state: State,
) -> Plan | Refuse:
    """Steps after somebody has replaced watched files, and has told or will tell the services himself.

    ``compose``: how the Compose file is staged when a label in it changes. The state counts what lies there as wanted;
    a group that is not among ``marked`` and whose content differs from what its service has read stays pending.
    """
    applied = {group: digest for group, digest in state.applied.items() if desired.get(group) == digest}
    between = dataclasses.replace(state, desired=dict(desired), applied=applied)
    answer = plan_marking(directory, marked, between)
    if isinstance(answer, Refuse):
        return answer
    after = next((step.state for step in answer.steps if step.state is not None), between)
    steps = [] if compose is None else [compose, Step(LAND, compose.path)]
    if after != state:
        steps.append(Step(RECORD, directory, state=after))
    return Plan(tuple(steps), answer.pending)


def plan_removal(
    directory: str,
    snapshot: Snapshot,
    inside: t.Sequence[str],
    declared: t.Sequence[WantedDirectory],
    purge: bool,
    purgeable: t.Callable[[str], bool],
) -> Plan | Refuse:
    """Steps that take the stack away: data first (only when asked), then files, the state last.

    ``inside`` lists everything below the directory, deepest first. What we did not lay down stays, and is reported.
    """
    state = snapshot.state
    steps: list[Step] = []
    if purge:
        data = sorted({*state.directories, *(entry.path for entry in declared)})
        for path in data:
            if not purgeable(path) and not path.startswith(directory + "/"):
                return Refuse(
                    "not_purgeable",
                    f"{path} cannot be purged",
                    "only directories below /var/lib/dedicated and /run/dedicated are data of a stack",
                    "Remove it by hand, or take it out of directories.",
                )
        steps += [
            Step(PURGE_DIRECTORY, path) for path in data if purgeable(path) and snapshot.at(path).kind == DIRECTORY
        ]
    steps += [Step(REMOVE, path) for path in sorted(state.files) if snapshot.at(path).kind == FILE]
    if snapshot.at(directory).kind != DIRECTORY:
        return Plan(tuple(steps))
    state_file = directory + "/.stack.json"
    directories, left, kept = _emptied(inside, snapshot, {state_file, *state.files})
    steps += directories
    if snapshot.at(state_file).kind == FILE:
        steps.append(Step(FORGET, state_file))
    if directory not in kept:
        steps.append(Step(REMOVE_DIRECTORY, directory))
    return Plan(tuple(steps), left=tuple(sorted(left)))


def _emptied(
    inside: t.Sequence[str], snapshot: Snapshot, going: t.Collection[str]
) -> tuple[list[Step], list[str], set[str]]:
    """Directories that are empty once ``going`` is gone, what stays, and the directories that stay because of it."""
    kept: set[str] = set()
    left = []
    directories = []
    for path in inside:
        if path in going:
            continue
        if snapshot.at(path).kind == DIRECTORY and path not in kept:
            directories.append(Step(REMOVE_DIRECTORY, path))
            continue
        if snapshot.at(path).kind != DIRECTORY:
            left.append(path)
        kept.add(path.rsplit("/", 1)[0])
    return directories, left, kept

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lay a stack down, mark its reloads, take it away: look, plan, check, act."""

from __future__ import annotations

import dataclasses
import posixpath
import typing as t

from .._common.errors import DedicatedError, Refuse, Refused
from . import compose, model, plan

if t.TYPE_CHECKING:
    from .._common.runner import Runner
    from .io import Host

WITHHELD = "(secret content withheld)\n"
_DONE = {
    plan.MAKE_DIRECTORY: "make the directory",
    plan.SET_DIRECTORY: "set owner and mode",
    plan.SET_FILE: "set owner and mode",
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a call did or, in check mode, would do."""

    plan: plan.Plan
    diff: tuple[dict[str, str], ...] = ()
    compose_file: str | None = None
    warnings: tuple[str, ...] = ()

    def as_result(self) -> dict[str, t.Any]:
        steps = self.plan.steps
        changed_files = sorted(set(self.plan.paths(plan.LAND, plan.SET_FILE)))
        removed = self.plan.paths(plan.REMOVE, plan.REMOVE_DIRECTORY, plan.PURGE_DIRECTORY)
        return {
            "changed": bool(steps),
            "msg": _summary(changed_files, removed, steps),
            "plan": [step.as_result() for step in steps],
            "changed_files": changed_files,
            "removed_files": removed,
            "pending_reloads": list(self.plan.pending),
            "first_deploy": self.plan.first_deploy,
            "compose_file": self.compose_file,
            "left_files": list(self.plan.left),
        }


def _summary(changed: t.Sequence[str], removed: t.Sequence[str], steps: t.Sequence[plan.Step]) -> str:
    if not steps:
        return "nothing to do"
    parts = [f"{len(paths)} {word}" for paths, word in ((changed, "laid down"), (removed, "removed")) if paths]
    return ", ".join(parts) or "state updated"


def _accept(answer: t.Any) -> t.Any:
    """A refusal of the pure layers becomes the user's error here."""
    if isinstance(answer, Refuse):
        raise Refused(answer)
    return answer


class StackService:
    """One stack on one host."""

    def __init__(self, host: Host, runner: Runner, check_mode: bool = False) -> None:
        self._host = host
        self._runner = runner
        self._check_mode = check_mode
        self._warnings: list[str] = []

    # -- present -----------------------------------------------------------------------------------------------------

    def lay_down(self, request: model.Request, with_diff: bool = False) -> Outcome:
        """Bring the files to what the request wants."""
        contents = {entry.path: entry.content for entry in request.files}
        watched = self._watched(request)
        services, groups = model.hashes(request, watched, self._host.key(create=not self._check_mode))
        read_by_services, read_by_groups = model.readers(request)
        files = [self._file(entry) for entry in request.files]
        compose_file = None
        if request.definition is not None:
            compose_file = posixpath.join(request.directory, model.COMPOSE_FILE)
            text = compose.dump(compose.with_hashes(request.definition, request.name, services)).encode()
            contents[compose_file] = text
            files.append(
                plan.WantedFile(
                    compose_file,
                    model.digest(text),
                    0o640,
                    self._host.owner("root"),
                    self._host.group("root"),
                    plan.NOTHING,
                )
            )
        wanted = plan.Wanted(
            directory=request.directory,
            files=tuple(files),
            directories=self._directories(request),
            groups=groups,
            compose=compose_file,
            prune=request.prune,
            read_by_services=read_by_services,
            read_by_groups=read_by_groups,
        )
        snapshot = self._snapshot(request.name, request.directory, wanted)
        planned: plan.Plan = _accept(plan.plan_landing(wanted, snapshot))
        diff = tuple(self._diff(planned, wanted, snapshot, contents)) if with_diff else ()
        self._validate(request, planned, contents, compose_file)
        self._execute(planned, contents, (*contents, *snapshot.state.files))
        return Outcome(planned, diff, compose_file, tuple(self._warnings))

    def _watched(self, request: model.Request) -> dict[str, str]:
        found = {}
        for entry in request.watch:
            there = self._host.look(entry.path)
            if there.kind != plan.FILE and not self._check_mode:
                _accept(
                    Refuse(
                        "watched_file_missing",
                        f"{entry.path} is not there",
                        f"the stack {request.name} reads it, and another role lays it down",
                        "Run that role first (certificates come from the pki role).",
                    )
                )
            found[entry.path] = there.digest or plan.ABSENT
        return found

    def _identity(self, kind: str, name: str, path: str) -> int | None:
        number = self._host.owner(name) if kind == "owner" else self._host.group(name)
        if number is None and not self._check_mode:
            _accept(
                Refuse(
                    f"unknown_{kind}",
                    f"{path} shall belong to the {kind} {name!r}",
                    "the host does not know that name",
                    "Use the number that the image uses, or make the account first.",
                )
            )
        return number

    def _file(self, entry: model.FileSpec) -> plan.WantedFile:
        return plan.WantedFile(
            path=entry.path,
            digest=model.digest(entry.content),
            mode=entry.mode,
            uid=self._identity("owner", entry.owner, entry.path),
            gid=self._identity("group", entry.group, entry.path),
            on_change=entry.on_change,
            services=entry.services,
            once=entry.once,
            secret=entry.secret,
        )

    def _directories(self, request: model.Request) -> tuple[plan.WantedDirectory, ...]:
        wanted = {
            entry.path: plan.WantedDirectory(
                entry.path,
                entry.mode,
                self._identity("owner", entry.owner, entry.path),
                self._identity("group", entry.group, entry.path),
            )
            for entry in request.directories
        }
        leaves = [*wanted, *(entry.path for entry in request.files)]
        leaves.append(posixpath.join(request.directory, model.STATE_FILE))
        for leaf in leaves:
            parent = posixpath.dirname(leaf)
            while parent != "/":
                mode = 0o750 if parent == request.directory else 0o755
                wanted.setdefault(parent, plan.WantedDirectory(parent, mode, None, None, implied=True))
                parent = posixpath.dirname(parent)
        return tuple(wanted.values())

    def _state(self, name: str, directory: str) -> plan.State:
        path = posixpath.join(directory, model.STATE_FILE)
        raw = self._host.read(path)
        state: plan.State = _accept(
            model.parse_state(name, None if raw is None else raw.decode("utf-8", "replace"), path)
        )
        compose_file = posixpath.join(directory, model.COMPOSE_FILE)
        if raw is None and self._host.look(compose_file).kind == plan.FILE:
            # Somebody lost the state, and services may be running: nothing is known to be applied.
            return plan.State(complete=True)
        return state

    def _snapshot(self, name: str, directory: str, wanted: plan.Wanted) -> plan.Snapshot:
        state = self._state(name, directory)
        paths = {
            *(entry.path for entry in wanted.files),
            *(entry.path for entry in wanted.directories),
            *state.files,
        }
        return plan.Snapshot({path: self._host.look(path) for path in paths}, state)

    # -- diff --------------------------------------------------------------------------------------------------------

    def _diff(
        self,
        planned: plan.Plan,
        wanted: plan.Wanted,
        snapshot: plan.Snapshot,
        contents: t.Mapping[str, bytes],
    ) -> t.Iterator[dict[str, str]]:
        secret = {entry.path for entry in wanted.files if entry.secret}
        secret |= {path for path, hidden in snapshot.state.files.items() if hidden}
        for step in planned.steps:
            if step.action == plan.LAND:
                yield self._content_diff(step.path, contents[step.path], step.path in secret)
            elif step.action == plan.REMOVE:
                yield self._content_diff(step.path, b"", step.path in secret)
            elif step.action in _DONE:
                there = snapshot.at(step.path)
                before = f"{there.mode:04o} {there.uid}:{there.gid}\n" if there.kind != plan.ABSENT else ""
                owner = ":".join("root" if one is None else str(one) for one in (step.uid, step.gid))
                yield {
                    "before_header": step.path,
                    "after_header": f"{step.path} ({_DONE[step.action]})",
                    "before": before,
                    "after": f"{step.mode:04o} {owner}\n",
                }

    def _content_diff(self, path: str, after: bytes, hidden: bool) -> dict[str, str]:
        before = self._host.read(path)
        if hidden:
            texts = ["" if one is None else f"{WITHHELD}" for one in (before, after or None)]
            texts[1] = texts[1].replace(")", ", changed)")
        else:
            texts = [(one or b"").decode("utf-8", "replace") for one in (before, after)]
        return {"before_header": path, "after_header": path, "before": texts[0], "after": texts[1]}

    # -- checkers ----------------------------------------------------------------------------------------------------

    def _validate(
        self,
        request: model.Request,
        planned: plan.Plan,
        contents: t.Mapping[str, bytes],
        compose_file: str | None,
    ) -> None:
        landing = set(planned.paths(plan.LAND))
        checks = [check for check in request.checks if check.path in landing]
        if compose_file is not None and compose_file in landing and self._runner.find("docker") is not None:
            argv = ("docker", "compose", "--project-directory", "%d", "-f", "%s", "config", "--quiet")
            checks.append(model.CheckSpec(compose_file, argv))
        if not checks:
            return
        secret = {entry.path for entry in request.files if entry.secret}
        prefix = request.directory + "/"
        names = {path: path[len(prefix) :] if path.startswith(prefix) else ".outside" + path for path in contents}
        with self._host.workspace({names[path]: content for path, content in contents.items()}) as root:
            for check in checks:
                self._check(check, root, posixpath.join(root, names[check.path]), check.path in secret)

    def _lacks_compose(self, check: model.CheckSpec) -> bool:
        """A host before its first converge can have Docker without the plugin. Asked only when a check has failed."""
        if check.argv[:2] != ("docker", "compose"):
            return False
        return self._runner.run(("docker", "compose", "version", "--short")).rc != 0

    def _check(self, check: model.CheckSpec, root: str, staged: str, hidden: bool) -> None:
        if self._runner.find(check.argv[0]) is None:
            if self._check_mode:
                return
            _accept(
                Refuse(
                    "checker_missing",
                    f"{check.path} cannot be checked",
                    f"the host does not have {check.argv[0]}",
                    "Install it, or take the checker out of validate.",
                )
            )
        done = self._runner.run([word.replace("%s", staged).replace("%d", root) for word in check.argv])
        if done.rc == 0 or self._lacks_compose(check):
            return
        said = (done.stderr.strip() or done.stdout.strip()).replace(root, posixpath.dirname(check.path))
        raise DedicatedError(
            f"{check.path} is refused by {check.argv[0]}: "
            + ("its message is withheld, because the file is secret" if hidden else said[-2000:])
            + ". Nothing was changed. Correct the content and run again.",
            code="invalid_content",
            path=check.path,
        )

    # -- acting ------------------------------------------------------------------------------------------------------

    def _execute(self, planned: plan.Plan, contents: t.Mapping[str, bytes], known: t.Iterable[str] = ()) -> None:
        if self._check_mode or not planned.steps:
            return
        try:
            for step in planned.steps:
                self._host.apply(step, contents.get(step.path, b""))
        finally:
            # What an interrupted run staged, or this one before it failed.
            for path in known:
                self._host.sweep(path)

    # -- reloads and removal -----------------------------------------------------------------------------------------

    def mark(self, name: str, directory: str | None, groups: t.Sequence[str]) -> Outcome:
        """Record that the services of these groups have read what lies there."""
        place = _accept(model.place_of(name, directory))
        planned: plan.Plan = _accept(plan.plan_marking(place, groups, self._state(name, place)))
        self._execute(planned, {})
        return Outcome(planned)

    def rewatch(
        self,
        name: str,
        directory: str | None,
        instead: t.Mapping[str, str],
        groups: t.Sequence[str],
        with_diff: bool = False,
    ) -> Outcome:
        """Make the hashes again, as a landing would make them now; ``instead``: paths whose content counts for others.

        Who replaces a watched file and tells the services himself calls this, so that the next landing finds nothing.
        """
        place = _accept(model.place_of(name, directory))
        state = self._state(name, place)
        if not state.complete or not (state.services or state.groups):
            _accept(
                Refuse(
                    "never_landed",
                    f"the stack in {place} does not know what its hashes go over",
                    "it was never laid down, or by an older version",
                    "Run site.yml first.",
                )
            )
        key = self._host.key(create=not self._check_mode)
        paths = {path for found in (*state.services.values(), *state.groups.values()) for path in found}
        contents = {path: self._host.look(instead.get(path, path)).digest or plan.ABSENT for path in paths}
        compose_file = posixpath.join(place, model.COMPOSE_FILE)
        before = self._host.read(compose_file)
        old = (before or b"").decode()
        text = compose.rehashed(old, model.rehashed(state.services, contents, key)).encode()
        staged = None
        if before is not None and text != before:
            owner, group = self._host.owner("root"), self._host.group("root")
            staged = plan.Step(plan.STAGE, compose_file, 0o640, owner, group)
        desired = model.rehashed(state.groups, contents, key)
        planned: plan.Plan = _accept(plan.plan_rewatch(place, staged, desired, groups, state))
        diff = (self._content_diff(compose_file, text, False),) if with_diff and staged is not None else ()
        self._execute(planned, {compose_file: text}, (compose_file,))
        return Outcome(planned, diff, compose_file)

    def remove(self, request: model.Request, purge: bool, confirm: str | None) -> Outcome:
        """Take the stack's files away and, only when asked twice, its data."""
        if purge and confirm != request.name:
            _accept(
                Refuse(
                    "not_confirmed",
                    f"the data of {request.name} will not be purged",
                    f"confirm is {confirm!r}, it must be the name of the stack",
                    "Set confirm to the stack's name if its data shall be gone for good.",
                )
            )
        state = self._state(request.name, request.directory)
        declared = tuple(plan.WantedDirectory(entry.path, entry.mode, None, None) for entry in request.directories)
        if request.definition is not None or state != plan.State():
            # Files of a landing that died before its state was complete are in the state already; this one always is.
            state = dataclasses.replace(
                state, files={**state.files, posixpath.join(request.directory, model.COMPOSE_FILE): False}
            )
        inside = self._host.inside(request.directory)
        paths = {
            *inside,
            *state.files,
            *state.directories,
            *(entry.path for entry in declared),
            request.directory,
        }
        snapshot = plan.Snapshot({path: self._host.look(path) for path in paths}, state)
        planned: plan.Plan = _accept(
            plan.plan_removal(request.directory, snapshot, inside, declared, purge, model.purgeable)
        )
        self._execute(planned, {}, state.files)
        return Outcome(planned)

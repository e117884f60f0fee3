# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a module's parameters to typed values, and what is refused on the way. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import posixpath
import re
import typing as t

from .._common.errors import Refuse
from . import plan

STATE_FILE = ".stack.json"
COMPOSE_FILE = "compose.yaml"
# Where files of a host's configuration belong; nothing of ours lies elsewhere.
ROOTS = (
    "/etc/apt/apt.conf.d",
    "/etc/apt/keyrings",
    "/etc/apt/sources.list.d",
    "/etc/chrony",
    "/etc/dedicated",
    "/etc/docker",
    "/etc/logrotate.d",
    "/etc/ssh/sshd_config.d",
    "/etc/sysctl.d",
    "/etc/systemd/journald.conf.d",
    "/etc/systemd/system",
    "/etc/tmpfiles.d",
    "/run",
    "/var/lib/dedicated",
)
DATA_ROOTS = ("/var/lib/dedicated", "/run/dedicated")

_NAME = re.compile(r"[a-z][a-z0-9_-]*\Z")
_GROUP = re.compile(r"[a-z][a-z0-9_-]*\Z")
_MODE = re.compile(r"[0-7]{4}\Z")


@dataclasses.dataclass(frozen=True)
class FileSpec:
    """One declared file; owners are still names."""

    path: str
    content: bytes = dataclasses.field(repr=False)
    mode: int
    owner: str
    group: str
    on_change: str
    services: tuple[str, ...]
    once: bool
    secret: bool


@dataclasses.dataclass(frozen=True)
class DirectorySpec:
    """One declared directory; owners are still names."""

    path: str
    mode: int
    owner: str
    group: str


@dataclasses.dataclass(frozen=True)
class WatchSpec:
    """A file that somebody else lays down and that our services read."""

    path: str
    on_change: str
    services: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class CheckSpec:
    """A native checker, run on a staged copy before anything lands."""

    path: str
    argv: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Request:
    """Everything that one call wants."""

    name: str
    directory: str
    definition: t.Mapping[str, t.Any] | None
    files: tuple[FileSpec, ...]
    directories: tuple[DirectorySpec, ...]
    watch: tuple[WatchSpec, ...]
    checks: tuple[CheckSpec, ...]
    prune: bool

    @property
    def services(self) -> tuple[str, ...]:
        return tuple((self.definition or {}).get("services") or ())


class _Invalid(Exception):
    """Carries the first refusal out of the nested parsers; never leaves this file."""

    def __init__(self, code: str, what: str, why: str, do: str) -> None:
        super().__init__(what)
        self.refusal = Refuse(code, what, why, do)


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def purgeable(path: str) -> bool:
    """Data directories of stacks, but never the shared parents themselves."""
    return any(path != root and _below(path, root) for root in DATA_ROOTS)


def _mode(text: str, path: str) -> int:
    if not _MODE.match(text):
        raise _Invalid(
            "bad_mode", f"{path} has the mode {text!r}", "it is not four octal digits", 'Write it quoted: mode: "0440".'
        )
    return int(text, 8)


def _place(path: str, directory: str, relative: bool = True) -> str:
    """The absolute path, if we may write there."""
    wrong = path != posixpath.normpath(path) or path in ("", ".", "/") or path.startswith("../") or "\0" in path
    if not wrong and not path.startswith("/") and relative:
        return posixpath.join(directory, path)
    if wrong or not any(_below(path, root) for root in (directory, *ROOTS)):
        raise _Invalid(
            "bad_path",
            f"{path!r} cannot be laid down",
            "a path is relative to the stack's directory without '..', or absolute below one of "
            + ", ".join((directory, *ROOTS)),
            "Correct the path.",
        )
    return path


def _on_change(word: str, path: str) -> str:
    if not _GROUP.match(word):
        raise _Invalid(
            "bad_on_change",
            f"{path} has on_change {word!r}",
            "it is neither recreate, nor none, nor the lower-case name of a reload group",
            "Correct on_change.",
        )
    return word


def _services(names: t.Sequence[str], known: t.Sequence[str], path: str) -> tuple[str, ...]:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise _Invalid(
            "unknown_service",
            f"{path} names the service {unknown[0]}",
            f"the definition has only: {', '.join(known) or 'none'}",
            "Correct services.",
        )
    return tuple(sorted(names)) or tuple(sorted(known))


def _content(entry: t.Mapping[str, t.Any], secrets: t.Mapping[str, t.Any]) -> tuple[bytes, bool]:
    """The content, and whether it is secret."""
    source = entry.get("content_from")
    if source is None:
        return str(entry.get("content") or "").encode(), bool(entry.get("secret"))
    if source not in secrets:
        raise _Invalid(
            "unknown_secret",
            f"{entry['path']} takes its content from {source!r}",
            "secrets has no such entry",
            "Add it to secrets.",
        )
    if not isinstance(secrets[source], str):
        raise _Invalid(
            "bad_secret",
            f"the secret {source!r} cannot be written",
            "it is not a string",
            "Give the file's text as it shall be written.",
        )
    return secrets[source].encode(), True


def _unique(paths: t.Iterable[str]) -> None:
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise _Invalid("duplicate_path", f"{path} is declared twice", "one of them would win", "Remove one.")
        seen.add(path)


def _definition(params: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any] | None:
    definition = params.get("definition")
    if definition is None:
        return None
    if definition.get("name", params["name"]) != params["name"]:
        raise _Invalid(
            "other_name",
            f"the definition carries the name {definition['name']!r}",
            f"the stack is called {params['name']!r}",
            "Leave name out of the definition.",
        )
    services = definition.get("services")
    if not isinstance(services, t.Mapping) or not services:
        raise _Invalid("no_services", "the definition has no services", "Compose needs at least one", "Declare one.")
    for service, body in services.items():
        if body is not None and not isinstance(body, t.Mapping):
            raise _Invalid("bad_service", f"the service {service} is no mapping", "Compose needs one", "Correct it.")
    return t.cast("t.Mapping[str, t.Any]", definition)


def place_of(name: str, directory: str | None) -> str | Refuse:
    """The stack's directory; the one check that also marking and removal need."""
    if not _NAME.match(name):
        return Refuse(
            "bad_name",
            f"{name!r} cannot be the name of a stack",
            "Compose allows lower-case letters, digits, - and _ after a first letter",
            "Choose another name.",
        )
    place = directory or f"/opt/dedicated/{name}"
    if not place.startswith("/") or place != posixpath.normpath(place) or place.count("/") < 2:
        return Refuse("bad_directory", f"{place!r} cannot hold a stack", "it is no absolute path", "Correct directory.")
    return place


def parse(params: t.Mapping[str, t.Any]) -> Request | Refuse:
    """The module's parameters as a request, or the first thing that is wrong with them."""
    place = place_of(params["name"], params.get("directory"))
    if isinstance(place, Refuse):
        return place
    try:
        return _parse(params, place)
    except _Invalid as exc:
        return exc.refusal


def _parse(params: t.Mapping[str, t.Any], directory: str) -> Request:
    definition = _definition(params)
    services = tuple((definition or {}).get("services") or ())
    secrets = params.get("secrets") or {}
    files = []
    for entry in params.get("files") or ():
        path = _place(entry["path"], directory)
        content, secret = _content(entry, secrets)
        once = bool(entry.get("once"))
        files.append(
            FileSpec(
                path=path,
                content=content,
                mode=_mode(entry["mode"], path),
                owner=entry["owner"],
                group=entry["group"],
                on_change=plan.NOTHING if once else _on_change(entry["on_change"], path),
                services=_services(entry.get("services") or (), services, path),
                once=once,
                secret=secret,
            )
        )
    reserved = {posixpath.join(directory, name) for name in (STATE_FILE, COMPOSE_FILE)}
    for entry in files:
        if entry.path in reserved:
            raise _Invalid(
                "reserved_path", f"{entry.path} is declared as a file", "the module writes it itself", "Remove it."
            )
    directories = _directories(params, directory)
    _unique([*(entry.path for entry in files), *(entry.path for entry in directories)])
    return Request(
        name=params["name"],
        directory=directory,
        definition=definition,
        files=tuple(files),
        directories=directories,
        watch=_watch(params, services),
        checks=_checks(params, directory, {entry.path for entry in files}),
        prune=bool(params.get("prune", True)),
    )


def _directories(params: t.Mapping[str, t.Any], directory: str) -> tuple[DirectorySpec, ...]:
    return tuple(
        DirectorySpec(
            path=_place(entry["path"], directory),
            mode=_mode(entry["mode"], entry["path"]),
            owner=entry["owner"],
            group=entry["group"],
        )
        for entry in params.get("directories") or ()
    )


def _watch(params: t.Mapping[str, t.Any], services: t.Sequence[str]) -> tuple[WatchSpec, ...]:
    watch = tuple(
        WatchSpec(
            path=entry["path"],
            on_change=_on_change(entry["on_change"], entry["path"]),
            services=_services(entry.get("services") or (), services, entry["path"]),
        )
        for entry in params.get("watch") or ()
    )
    for entry in watch:
        if not entry.path.startswith("/") or entry.path != posixpath.normpath(entry.path):
            raise _Invalid(
                "bad_path", f"{entry.path!r} cannot be watched", "it is no absolute path", "Correct the path."
            )
    return watch


def _checks(params: t.Mapping[str, t.Any], directory: str, known: t.Collection[str]) -> tuple[CheckSpec, ...]:
    checks = tuple(
        CheckSpec(_place(entry["file"], directory), tuple(entry["argv"])) for entry in params.get("validate") or ()
    )
    for check in checks:
        if check.path not in known:
            raise _Invalid(
                "unknown_file", f"validate names {check.path}", "no declared file lies there", "Correct validate."
            )
        if not check.argv or not any("%s" in word for word in check.argv):
            raise _Invalid(
                "bad_check",
                f"the checker of {check.path} does not see the file",
                "no argument contains %s",
                "Put %s where the checker takes the path.",
            )
    return checks


def digest(content: bytes) -> str:
    """Fingerprint for comparing in memory; it never leaves the process, because short secrets could be guessed."""
    return hashlib.sha256(content).hexdigest()


def keyed(key: bytes, parts: t.Iterable[tuple[str, str]]) -> str:
    """Fingerprint that may be published: without the host's key nothing can be tried against it."""
    text = json.dumps(sorted(parts), separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _concerns(request: Request, watched: t.Mapping[str, str]) -> t.Iterator[tuple[str, tuple[str, ...], str, str]]:
    for entry in request.files:
        yield entry.on_change, entry.services, entry.path, digest(entry.content)
    for watch in request.watch:
        yield watch.on_change, watch.services, watch.path, watched.get(watch.path, plan.ABSENT)


def hashes(request: Request, watched: t.Mapping[str, str], key: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Hash of each service over the files that recreate it, and of each reload group over its files."""
    contents = {path: content for _on_change, _concerned, path, content in _concerns(request, watched)}
    services, groups = readers(request)
    return rehashed(services, contents, key), rehashed(groups, contents, key)


def readers(request: Request) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Paths of the files that recreate each service, and of those of each reload group."""
    services: dict[str, list[str]] = {service: [] for service in request.services}
    groups: dict[str, list[str]] = {}
    for on_change, concerned, path, _content in _concerns(request, {}):
        if on_change == plan.RECREATE:
            for service in concerned:
                services[service].append(path)
        elif on_change != plan.NOTHING:
            groups.setdefault(on_change, []).append(path)
    return (
        {service: tuple(sorted(paths)) for service, paths in services.items()},
        {group: tuple(sorted(paths)) for group, paths in groups.items()},
    )


def rehashed(paths: t.Mapping[str, t.Sequence[str]], contents: t.Mapping[str, str], key: bytes) -> dict[str, str]:
    """Hash of each reader over its files, by their digests."""
    return {reader: keyed(key, [(path, contents[path]) for path in found]) for reader, found in paths.items()}


def state_text(name: str, state: plan.State) -> str:
    """The state as it is stored."""
    return (
        json.dumps(
            {
                "version": 1,
                "stack": name,
                "complete": state.complete,
                "files": {path: {"secret": secret} for path, secret in sorted(state.files.items())},
                "directories": list(state.directories),
                "desired": dict(sorted(state.desired.items())),
                "applied": dict(sorted(state.applied.items())),
                "services": {service: list(paths) for service, paths in sorted(state.services.items())},
                "groups": {group: list(paths) for group, paths in sorted(state.groups.items())},
            },
            indent=2,
        )
        + "\n"
    )


def parse_state(name: str, text: str | None, path: str) -> plan.State | Refuse:
    """The stored state; a file of another stack or one that cannot be read is a refusal, not a fresh start."""
    if text is None:
        return plan.State()
    try:
        data = json.loads(text)
        if data["stack"] != name:
            return Refuse(
                "other_stack",
                f"{path} belongs to the stack {data['stack']!r}",
                f"this call is about {name!r}",
                "Give each stack a directory of its own.",
            )
        return plan.State(
            files={str(file): bool(entry["secret"]) for file, entry in data["files"].items()},
            directories=tuple(str(entry) for entry in data["directories"]),
            desired={str(group): str(value) for group, value in data["desired"].items()},
            applied={str(group): str(value) for group, value in data["applied"].items()},
            services={str(one): tuple(str(path) for path in paths) for one, paths in data.get("services", {}).items()},
            groups={str(one): tuple(str(path) for path in paths) for one, paths in data.get("groups", {}).items()},
            complete=bool(data["complete"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        return Refuse(
            "unreadable_state",
            f"{path} cannot be read",
            f"it is damaged ({type(exc).__name__}: {exc})",
            "Move it away and run again: nothing is removed then, and every reload group is reloaded once.",
        )

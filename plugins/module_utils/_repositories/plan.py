# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where backups go, as pgBackRest is told.

The law.

* A repository has a cipher and a place of its own. What is lost or stolen with one opens no other: no two share a
  store and path, a passphrase, or a key.
* A passphrase cannot be changed in a repository. A new one is a new generation, which is a new directory: what the old
  one holds stays readable with the old passphrase.
* A path of a data host's own disk is no repository: it goes down with what it is for. A path is one only as a mount
  that all data hosts share.
* While a backup is held, its repository expires nothing: what is kept for a court is not only the set, but also every
  moment since.
* No message holds a secret.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import difflib
import re
import typing as t

from .policy import Problem

TYPES = ("s3", "posix", "sftp")
# pgBackRest takes 256; nobody has shown a use for more than these.
MOST = 4
# Where the container has the mounts of type posix (images/postgres/contract.yml), and the configuration's files.
INSIDE = "/var/lib/pgbackrest"
CONFIGURATION = "/etc/pgbackrest"
RETENTION_DAYS = 30
LONGEST_DAYS = 9999
NAME = "pgbackrest_repositories"

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?")
_PATH = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----\n.+\n-----END [A-Z ]+-----\s*", re.DOTALL)
_KNOWN_HOST = re.compile(r"\S+ (?:ssh|ecdsa|sk)-\S+ [A-Za-z0-9+/=]+(?: .*)?")
Check = t.Callable[[str], bool]


def _plain(value: str) -> bool:
    """What may stand in a line of the configuration."""
    return value.isprintable() and value == value.strip()


def _known_hosts(value: str) -> bool:
    lines = [one for one in value.splitlines() if one.strip() and not one.startswith("#")]
    return not value or (bool(lines) and all(_KNOWN_HOST.fullmatch(one) for one in lines))


@dataclasses.dataclass(frozen=True)
class Field:
    """One entry of a repository. ``default`` None: it is required."""

    default: t.Any
    what: str
    check: Check = _plain
    secret: bool = False
    low: int = 0
    high: int = 0


def _text(check: t.Pattern[str]) -> Check:
    return lambda value: check.fullmatch(value) is not None


_TOP = {
    "number": Field(None, f"a number from 1 to {MOST}", low=1, high=MOST),
    "type": Field(None, f"one of {', '.join(TYPES)}", lambda value: value in TYPES),
    "path": Field(None, "an absolute path of plain names, like /pgbackrest", _text(_PATH)),
    "generation": Field(1, "a number from 1 to 9999", low=1, high=9999),
    "cipher_pass": Field(None, "one plain line", secret=True),
    "retention_days": Field(RETENTION_DAYS, f"a number of days from 1 to {LONGEST_DAYS}", low=1, high=LONGEST_DAYS),
    "shared": Field(False, "true or false"),
}
_S3 = {
    "endpoint": Field(None, "a host name, without https:// and port", _text(_HOST)),
    "port": Field(443, "a port", low=1, high=65535),
    "bucket": Field(None, "the bucket's name", _text(_WORD)),
    "region": Field("us-east-1", "the region's name", _text(_WORD)),
    "key": Field(None, "one plain line", secret=True),
    "key_secret": Field(None, "one plain line", secret=True),
    "uri_style": Field("path", "path or host", lambda value: value in ("path", "host")),
    "ca": Field("", "the PEM text of the store's CA, or empty", lambda value: not value or bool(_PEM.fullmatch(value))),
}
_SFTP = {
    "host": Field(None, "a host name, without port", _text(_HOST)),
    "port": Field(22, "a port", low=1, high=65535),
    "user": Field(None, "the user's name there", _text(_WORD)),
    "private_key": Field(None, "the text of a private key", lambda value: bool(_PEM.fullmatch(value)), secret=True),
    "host_fingerprint": Field(
        "",
        "SHA256:… as ssh-keygen -lf prints it, or 64 hexadecimal digits",
        lambda value: fingerprint(value) is not None,
    ),
    "known_hosts": Field("", "lines as ssh-keyscan prints them", _known_hosts),
}
_PARTS = {"s3": _S3, "sftp": _SFTP}
_LABEL = re.compile(r"\d{8}-\d{6}F(?:_\d{8}-\d{6}[DI])?")
_HOLD = {
    "backup": Field(None, "a backup's label, like 20260131-013000F, as pgbackrest info shows it", _text(_LABEL)),
    "reason": Field(None, "why, in one plain line", lambda value: bool(value) and _plain(value)),
}


def fingerprint(text: str) -> str | None:
    """The SHA-256 of a host key as pgBackRest compares it; empty for none, None for what is no fingerprint."""
    if not text or re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return text.lower()
    if not text.startswith("SHA256:"):
        return None
    try:
        found = base64.b64decode(text[7:] + "=" * (-len(text[7:]) % 4), validate=True)
    except binascii.Error:
        return None
    return found.hex() if len(found) == 32 else None


@dataclasses.dataclass(frozen=True)
class Repository:
    """One repository. ``holds``: labels and reasons; ``more``: what its type needs beside."""

    number: int
    type: str
    path: str
    generation: int
    retention_days: int
    shared: bool
    holds: tuple[tuple[str, str], ...]
    cipher_pass: str = dataclasses.field(repr=False)
    more: t.Mapping[str, t.Any] = dataclasses.field(repr=False)

    @property
    def directory(self) -> str:
        """What pgBackRest calls repo-path."""
        above = f"{INSIDE}/{self.number}" if self.type == "posix" else self.path
        return f"{above}/{self.generation}"

    @property
    def at(self) -> str:
        """The host that has it; empty for a path."""
        return str(self.more.get("endpoint" if self.type == "s3" else "host", ""))

    @property
    def store(self) -> tuple[str, ...]:
        """What keeps it, without the path."""
        bucket = (str(self.more.get("bucket", "")),) if self.type == "s3" else ()
        port = (str(self.more["port"]),) if "port" in self.more else ()
        return self.type, self.at.lower(), *port, *bucket

    def within(self, other: Repository) -> bool:
        """Whether it is in the other's place, or below it."""
        mine, theirs = f"{self.path}/{self.generation}/", f"{other.path}/{other.generation}/"
        return self.store == other.store and mine.startswith(theirs)

    @property
    def secrets(self) -> dict[str, str]:
        part = _PARTS.get(self.type, {})
        return {
            "cipher_pass": self.cipher_pass,
            **{f"{self.type}.{name}": str(self.more[name]) for name, field in part.items() if field.secret},
        }

    def public(self) -> dict[str, t.Any]:
        """What everybody may know."""
        return {
            "number": self.number,
            "type": self.type,
            "at": self.at,
            "shared": self.shared,
            "retention_days": self.retention_days,
            "hold": [{"backup": label, "reason": reason} for label, reason in self.holds],
            "bucket": str(self.more.get("bucket", "")),
            # On the host, to be mounted into containers.
            "mount": self.path if self.type == "posix" else "",
            "inside": f"{INSIDE}/{self.number}" if self.type == "posix" else "",
        }

    def lines(self) -> list[str]:
        """Its lines in pgbackrest.conf."""
        options: dict[str, t.Any] = {"type": self.type}
        more = self.more
        if self.type == "s3":
            options.update(
                {
                    "s3-endpoint": more["endpoint"],
                    "storage-port": more["port"],
                    "s3-bucket": more["bucket"],
                    "s3-region": more["region"],
                    "s3-uri-style": more["uri_style"],
                    "s3-key": more["key"],
                    "s3-key-secret": more["key_secret"],
                }
            )
            if more["ca"]:
                options["storage-ca-file"] = f"{CONFIGURATION}/s3-ca-{self.number}.pem"
            options["storage-verify-tls"] = "y"
        elif self.type == "sftp":
            options.update(
                {
                    "sftp-host": more["host"],
                    "sftp-host-port": more["port"],
                    "sftp-host-user": more["user"],
                    "sftp-private-key-file": f"{CONFIGURATION}/sftp-{self.number}.key",
                    "sftp-host-key-hash-type": "sha256",
                }
            )
            if more["host_fingerprint"]:
                options["sftp-host-key-check-type"] = "fingerprint"
                options["sftp-host-fingerprint"] = fingerprint(more["host_fingerprint"])
            else:
                options["sftp-host-key-check-type"] = "strict"
                options["sftp-known-host"] = f"{CONFIGURATION}/sftp-{self.number}.known_hosts"
        options.update(
            {
                "path": self.directory,
                "cipher-type": "aes-256-cbc",
                "cipher-pass": self.cipher_pass,
                "bundle": "y",
                "block": "y",
                "retention-full-type": "time",
                "retention-full": LONGEST_DAYS if self.holds else self.retention_days,
            }
        )
        return [f"repo{self.number}-{name}={value}" for name, value in options.items()]

    def files(self) -> list[tuple[str, str, bool]]:
        """What lies beside pgbackrest.conf: name, content, and whether it is a secret."""
        if self.type == "s3" and self.more["ca"]:
            return [(f"s3-ca-{self.number}.pem", self.more["ca"], False)]
        if self.type != "sftp":
            return []
        found = [(f"sftp-{self.number}.key", self.more["private_key"].rstrip() + "\n", True)]
        if not self.more["host_fingerprint"]:
            found.append((f"sftp-{self.number}.known_hosts", self.more["known_hosts"].rstrip() + "\n", False))
        return found


# -- the border ------------------------------------------------------------------------------------------------------


def _wrong(where: str, message: str, code: str = "invalid-repository") -> Problem:
    return Problem(code, NAME, f"{where}: {message}")


def _whole(value: t.Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def _value(field: Field, given: t.Any) -> tuple[t.Any, bool]:
    """The value, and whether it can be taken."""
    if isinstance(field.default, bool):
        return given, isinstance(given, bool)
    if field.high:
        number = _whole(given)
        return number, number is not None and field.low <= number <= field.high
    text = str(given) if isinstance(given, str) else ""
    # What is empty is judged as a secret, not by its form.
    return text, isinstance(given, str) and ((field.secret and not text) or field.check(text))


def _part(where: str, fields: t.Mapping[str, Field], given: t.Any, beside: t.Iterable[str] = ()) -> t.Any:
    """Every field of a mapping with its default; or the problems."""
    if not isinstance(given, t.Mapping):
        return [_wrong(where, f"it is no mapping with {', '.join(fields)}")]
    problems, values = list[Problem](), dict[str, t.Any]()
    for name in sorted({str(key) for key in given} - {*fields, *beside}):
        close = difflib.get_close_matches(name, [*fields, *beside], n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join([*fields, *beside])}"
        problems.append(_wrong(where, f"{name} is unknown; {hint}"))
    for name, field in fields.items():
        if given.get(name) is None and field.default is None:
            problems.append(_wrong(where, f"{name} is missing ({field.what})"))
            continue
        values[name], good = _value(field, field.default if given.get(name) is None else given[name])
        if not good:
            shown = "" if field.secret or name in ("ca", "known_hosts") else f" is {given[name]!r}, and"
            problems.append(_wrong(where, f"{name}{shown} has to be {field.what}"))
    return problems or values


def _read(place: int, given: t.Any) -> Repository | list[Problem]:
    """One entry of the list."""
    number = _whole(given.get("number")) if isinstance(given, t.Mapping) else None
    where = f"{NAME}, repository {number}" if number is not None else f"{NAME}, entry {place}"
    top = _part(where, _TOP, given, [*_PARTS, "hold"])
    if isinstance(top, list):
        return top
    holds = _holds(where, given.get("hold"))
    if isinstance(holds, list):
        return holds
    kind, more = top["type"], t.cast("dict[str, t.Any]", {})
    others = sorted(name for name in _PARTS if name != kind and given.get(name) is not None)
    if others:
        return [_wrong(where, f"its type is {kind}, and it has {', '.join(others)}; remove that, or correct the type")]
    if kind in _PARTS:
        found = _part(f"{where}, {kind}", _PARTS[kind], given.get(kind))
        if isinstance(found, list):
            return found
        more = found
    if kind == "sftp" and bool(more["host_fingerprint"]) == bool(more["known_hosts"]):
        return [
            _wrong(f"{where}, sftp", "give either host_fingerprint or known_hosts: what proves that it is that host")
        ]
    if top["shared"] and kind != "posix":
        return [_wrong(where, f"shared is for a path; its type is {kind}")]
    return Repository(holds=holds, more=more, **top)


def _holds(where: str, given: t.Any) -> tuple[tuple[str, str], ...] | list[Problem]:
    """The backups that are held, or the problems."""
    if not isinstance(given or [], (list, tuple)):
        return [_wrong(where, "hold is a list of backups, each with its reason")]
    found, problems = list[tuple[str, str]](), list[Problem]()
    for place, one in enumerate(given or [], 1):
        part = _part(f"{where}, hold {place}", _HOLD, one)
        if isinstance(part, list):
            problems += part
        else:
            found.append((part["backup"], part["reason"]))
    return problems or tuple(found)


def read(value: t.Any) -> tuple[tuple[Repository, ...], list[Problem]]:
    """``pgbackrest_repositories``: those that can be understood, by number, and what is wrong with the others."""
    if not isinstance(value, (list, tuple)):
        return (), [_wrong(NAME, "it is a list of repositories")]
    if not value:
        return (), [_wrong(NAME, "it is empty, and without a repository there is no backup; name one")]
    found, problems = list[Repository](), list[Problem]()
    for place, given in enumerate(value, 1):
        one = _read(place, given)
        if isinstance(one, Repository):
            found.append(one)
        else:
            problems += one
    return tuple(sorted(found, key=lambda one: one.number)), problems


# -- judging ---------------------------------------------------------------------------------------------------------


def _pairs(repositories: t.Sequence[Repository]) -> t.Iterator[tuple[Repository, Repository]]:
    for place, one in enumerate(repositories):
        for other in repositories[place + 1 :]:
            yield one, other


def _duplicates(repositories: t.Sequence[Repository]) -> t.Iterator[Problem]:
    for one, other in _pairs(repositories):
        if one.number == other.number:
            yield _wrong(
                NAME, f"two repositories have the number {one.number}; give each its own", "duplicate-repository"
            )
        elif one.within(other) or other.within(one):
            yield _wrong(
                NAME,
                f"the repositories {one.number} and {other.number} are the same place ({one.type}, {one.path},"
                f" generation {one.generation}); what is lost with one is lost with both: give the second a store of"
                " its own",
                "duplicate-repository",
            )


def _shared(repositories: t.Sequence[Repository]) -> t.Iterator[Problem]:
    for one, other in _pairs(repositories):
        theirs = {value for value in other.secrets.values() if value}
        # The name of a key is no secret; its other half is.
        both = [name for name, value in one.secrets.items() if value in theirs and name != "s3.key"]
        if both and one.number != other.number:
            yield _wrong(
                NAME,
                f"{', '.join(both)} of repository {one.number} is also in repository {other.number}; whoever has it"
                " opens both: make another one, and let the second store be another account's",
                "shared-secret",
            )


def _on_data_host(repositories: t.Sequence[Repository]) -> t.Iterator[Problem]:
    for one in repositories:
        if one.type == "posix" and not one.shared:
            yield _wrong(
                f"{NAME}, repository {one.number}",
                f"{one.path} is a path of the data hosts themselves, and goes down with them; mount a file system of"
                " another machine there on each of them and say shared: true, or take s3 or sftp",
                "repository-on-data-host",
            )


def judge(value: t.Any) -> tuple[tuple[Repository, ...], list[Problem]]:
    """The repositories, and all that is wrong with them."""
    repositories, problems = read(value)
    for check in (_duplicates, _shared, _on_data_host):
        problems += check(repositories)
    return repositories, problems

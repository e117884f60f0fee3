# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with an inventory, judged before any host is touched.

Invariants (checked by the tests):

* every finding of a snapshot is reported at once, in a stable order;
* no finding ever holds the value of a secret.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
import typing as t

PREFIXES = (
    "dedicated_",
    "edge_",
    "etcd_",
    "firewall_",
    "host_",
    "odoo_",
    "pgbackrest_",
    "pki_",
    "postgres_",
    "redis_",
    "router_",
    "stack_",
)
# Shared by several roles.
SHARED = (
    "dedicated_address",
    "dedicated_cluster",
    "dedicated_domain",
    "dedicated_root",
    "dedicated_secure_logging",
)
LAYERS: dict[str, tuple[str, ...]] = {
    "etcd": ("etcd",),
    "postgres": ("postgres", "pgbackrest"),
    "redis": ("redis",),
    "odoo": ("router", "odoo"),
    "edge": ("edge",),
    "all": ("host", "firewall", "pki"),
}
ALL = "all"
NOT_OURS = ("ansible_", "inventory_", "__", "group", "hostvars", "playbook_dir", "omit", "vars", "environment")
SECRET = re.compile(r"_(password|passphrase|cipher_pass|secret|token|s3_key)$")
IMAGE = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
LEAST_LENGTH = 16
LENGTHS = {"odoo_admin_password": 12, "pgbackrest_s3_key": 3}
KNOWN_SECRETS = frozenset(
    (
        *("admin", "administrator", "changeme", "change_me", "default", "letmein", "master", "minioadmin", "odoo"),
        *("passphrase", "password", "passw0rd", "postgres", "qwerty", "redis", "root", "secret", "test", "welcome"),
    )
)
NEAR = 0.85
SUGGEST = 0.6


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong: stable code, what it is about, where, and a message with what, why and what to do."""

    code: str
    subject: str
    hosts: tuple[str, ...]
    message: str

    def as_result(self) -> dict[str, t.Any]:
        """Plain data for the border."""
        return {"code": self.code, "subject": self.subject, "hosts": list(self.hosts), "message": self.message}


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of a role's argument specification."""

    name: str
    role: str
    required: bool = False
    secret: bool = False
    description: str = ""


@dataclasses.dataclass(frozen=True)
class Value:
    """A templated value, or why there is none: C(vault) or C(template), with the reason."""

    value: t.Any = None
    failure: str = ""
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class HostView:
    """A host's variables: all names with the place that set them, and the values of those that were asked for."""

    name: str
    origins: t.Mapping[str, str]
    values: t.Mapping[str, Value]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The inventory as it is read."""

    groups: t.Mapping[str, tuple[str, ...]]
    hosts: t.Mapping[str, HostView]
    options: tuple[Option, ...]
    layers: t.Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: dict(LAYERS))
    etcd_group: str = "etcd"
    known: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()

    def known_names(self) -> frozenset[str]:
        """Every name that is one of ours."""
        return frozenset((*SHARED, *self.known, *self.provided, *(option.name for option in self.options)))

    def members(self, group: str) -> tuple[str, ...]:
        """Hosts of a group; `all` means every host of a layer, not every host of the inventory."""
        if group != ALL:
            return tuple(self.groups.get(group, ()))
        named: dict[str, None] = {}
        for layer in self.layers:
            if layer != ALL:
                named.update(dict.fromkeys(self.groups.get(layer, ())))
        return tuple(named)


def is_secret(name: str, options: t.Iterable[Option] = ()) -> bool:
    """Does this variable hold a secret."""
    return SECRET.search(name) is not None or any(option.secret for option in options if option.name == name)


def parse_options(role: str, specification: t.Any) -> tuple[Option, ...]:
    """The options of all entry points of a role's argument specification."""
    found: dict[str, Option] = {}
    specs = specification.get("argument_specs") if isinstance(specification, t.Mapping) else None
    if not isinstance(specs, t.Mapping):
        return ()
    for entry, spec in specs.items():
        for name, option in ((spec or {}).get("options") or {}).items():
            description = option.get("description", "")
            first = description[0] if isinstance(description, list) and description else description
            new = Option(
                name=str(name),
                role=role,
                # Other entry points are called with what they need.
                required=bool(option.get("required", False)) and entry == "main",
                secret=bool(option.get("no_log", False)),
                description=str(first),
            )
            old = found.get(new.name)
            found[new.name] = new if old is None else _merged(old, new)
    return tuple(found.values())


def _merged(first: Option, second: Option) -> Option:
    """An option that two entry points have."""
    return dataclasses.replace(
        first,
        required=first.required or second.required,
        secret=first.secret or second.secret,
        description=first.description or second.description,
    )


def names_to_read(options: t.Iterable[Option], known: t.Iterable[str] = ()) -> frozenset[str]:
    """Variables whose values the judgement needs; no other value is templated."""
    options = tuple(options)
    names = {option.name for option in options if option.required or option.secret}
    names |= {name for name in (*known, *(option.name for option in options)) if is_secret(name)}
    names |= {option.name for option in options if option.name.endswith("_image")}
    return frozenset(names | set(SHARED[:3]))


def judge(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Everything that is wrong, worst kind first."""
    findings: list[Finding] = []
    for check in (
        _groups,
        _unreadable,
        _unknown,
        _missing,
        _secrets,
        _images,
        _addresses,
    ):
        findings.extend(check(snapshot))
    return tuple(findings)


def message(findings: t.Sequence[Finding]) -> str:
    """All findings as one text."""
    lines = [f"The inventory has {len(findings)} problem(s); no host was touched."]
    lines += [f"- {finding.code}: {finding.message}" for finding in findings]
    return "\n".join(lines)


def _groups(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Layers without hosts, and an even number of etcd members."""
    for group in snapshot.layers:
        if not snapshot.members(group) and group != ALL:
            state = "has no hosts" if group in snapshot.groups else "does not exist"
            yield Finding(
                "empty-group",
                group,
                (),
                f"group {group} {state}; every layer needs a host: add it to the group in hosts.yml",
            )
    members = snapshot.members(snapshot.etcd_group)
    if members and len(members) % 2 == 0:
        yield Finding(
            "even-etcd",
            snapshot.etcd_group,
            members,
            f"group {snapshot.etcd_group} has {len(members)} members ({', '.join(members)}); an even number tolerates"
            f" no more failures than {len(members) - 1} and can split in halves: use 1, 3 or 5",
        )


def _by_name(snapshot: Snapshot) -> dict[str, dict[str, str]]:
    """Variable to the hosts that have it, each with the place that set it."""
    names: dict[str, dict[str, str]] = {}
    for host in snapshot.members(ALL):
        for name, origin in snapshot.hosts[host].origins.items():
            names.setdefault(name, {})[host] = origin
    return names


def _place(hosts: t.Mapping[str, str]) -> str:
    """Where a variable was set, in words."""
    places = sorted({origin for origin in hosts.values() if origin})
    return f" ({', '.join(places[:3])})" if places else ""


def _unknown(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Variables that look like ours and are not."""
    known = snapshot.known_names()
    skipped = (*snapshot.ignored, *snapshot.groups)
    for name, hosts in sorted(_by_name(snapshot).items()):
        if name in known or name in skipped or name.startswith(NOT_OURS):
            continue
        ours = name.startswith(PREFIXES)
        close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=SUGGEST if ours else NEAR)
        if not ours and not close:
            continue
        hint = f"did you mean {close[0]}?" if close else "no variable of ours is like it; remove it"
        yield Finding(
            "unknown-variable",
            name,
            tuple(hosts),
            f"{name}{_place(hosts)} is no variable of this collection and would have no effect; {hint}"
            " (a variable of your own: name it in ignored_variables)",
        )


def _needed(snapshot: Snapshot) -> dict[str, tuple[Option, dict[str, None]]]:
    """Required options with the hosts that need them."""
    needed: dict[str, tuple[Option, dict[str, None]]] = {}
    for group, roles in snapshot.layers.items():
        for option in snapshot.options:
            if option.required and option.role in roles and option.name not in snapshot.provided:
                __, hosts = needed.setdefault(option.name, (option, {}))
                hosts.update(dict.fromkeys(snapshot.members(group)))
    address = Option("dedicated_address", "", required=True, description="Private IPv4 address of the host.")
    __, hosts = needed.setdefault(address.name, (address, {}))
    hosts.update(dict.fromkeys(snapshot.members(ALL)))
    return needed


def _missing(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Required variables without a value."""
    for name, (option, candidates) in sorted(_needed(snapshot).items()):
        lacking = tuple(host for host in candidates if _is_absent(snapshot.hosts[host].values.get(name)))
        if not lacking:
            continue
        where = _where(snapshot, lacking)
        what = f" ({option.description.rstrip('.')})" if option.description else ""
        if is_secret(name, snapshot.options):
            yield Finding(
                "missing-secret",
                name,
                lacking,
                f"{name}{what} has no value for {where}; {_how_to_make(name)}, and put the output into"
                " group_vars/all/secrets.yml",
            )
        else:
            yield Finding(
                "missing-variable",
                name,
                lacking,
                f"{name}{what} has no value for {where}; set it in group_vars or host_vars",
            )


def _how_to_make(name: str) -> str:
    """The command that makes a secret."""
    encrypt = f"ansible-vault encrypt_string --stdin-name {name}"
    if "_s3_key" in name:
        return f"take it from the object store and feed it to: {encrypt}"
    return f"make one: openssl rand -base64 24 | tr -d '\\n' | {encrypt}"


def _where(snapshot: Snapshot, hosts: t.Sequence[str]) -> str:
    """Hosts in words, as a group where they are one."""
    for group in (ALL, *snapshot.layers):
        if len(hosts) > 1 and set(snapshot.members(group)) == set(hosts):
            return f"group {group}"
    return ("hosts " if len(hosts) > 1 else "host ") + ", ".join(hosts)


def _is_absent(value: Value | None) -> bool:
    """No value at all. One that cannot be read is another finding."""
    return value is None or (not value.failure and value.value is None)


def _read(snapshot: Snapshot) -> dict[str, dict[str, Value]]:
    """Variable to the values that hosts have."""
    names: dict[str, dict[str, Value]] = {}
    for host in snapshot.members(ALL):
        for name, value in snapshot.hosts[host].values.items():
            if not _is_absent(value):
                names.setdefault(name, {})[host] = value
    return dict(sorted(names.items()))


def _unreadable(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Values that cannot be decrypted or templated."""
    for name, values in _read(snapshot).items():
        for failure, code, advice in (
            ("vault", "vault-undecryptable", "give the password that it was encrypted with (--vault-password-file)"),
            ("template", "unresolved-value", "correct the expression"),
        ):
            hosts = tuple(host for host, value in values.items() if value.failure == failure)
            if hosts:
                reason = values[hosts[0]].reason
                origins = {host: snapshot.hosts[host].origins.get(name, "") for host in hosts}
                yield Finding(
                    code,
                    name,
                    hosts,
                    f"{name}{_place(origins)} cannot be read for {_where(snapshot, hosts)}: {reason}; {advice}",
                )


def why_weak(name: str, value: t.Any) -> str | None:
    """The reason why a secret is none, or None. Never tells the value."""
    if not isinstance(value, str):
        return "is no text"
    if not value.strip():
        return "is empty"
    if value.strip().lower() in KNOWN_SECRETS:
        return "is a well-known default"
    least = LENGTHS.get(name, LEAST_LENGTH)
    if len(value) < least:
        return f"has fewer than {least} characters"
    if len(set(value)) < min(4, least):
        return "repeats the same few characters"
    return None


def _secrets(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Secrets that are empty, short or known."""
    known = snapshot.known_names()
    for name, values in _read(snapshot).items():
        if name not in known or not is_secret(name, snapshot.options):
            continue
        reasons: dict[str, list[str]] = {}
        for host, value in values.items():
            reason = None if value.failure else why_weak(name, value.value)
            if reason is not None:
                reasons.setdefault(reason, []).append(host)
        for reason, hosts in reasons.items():
            yield Finding(
                "weak-secret",
                name,
                tuple(hosts),
                f"{name} {reason} for {_where(snapshot, hosts)}; {_how_to_make(name)}",
            )


def _images(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Images that are not named by their digest."""
    for name, values in _read(snapshot).items():
        if not name.endswith("_image"):
            continue
        wrong: dict[str, list[str]] = {}
        for host, value in values.items():
            if not value.failure and not IMAGE.fullmatch(str(value.value)):
                wrong.setdefault(str(value.value), []).append(host)
        for reference, hosts in wrong.items():
            yield Finding(
                "image-not-by-digest",
                name,
                tuple(hosts),
                f"{name} is '{reference}' for {_where(snapshot, hosts)}; a tag can change under a running cluster:"
                " write registry/name@sha256:<64 hex digits>",
            )


def _addresses(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Addresses that are none, and addresses that two hosts share."""
    seen: dict[str, list[str]] = {}
    for host in snapshot.members(ALL):
        value = snapshot.hosts[host].values.get("dedicated_address")
        if value is None or _is_absent(value) or value.failure:
            continue
        try:
            seen.setdefault(str(ipaddress.IPv4Address(str(value.value))), []).append(host)
        except ValueError:
            yield Finding(
                "invalid-address",
                "dedicated_address",
                (host,),
                f"dedicated_address of {host} is '{value.value}', no IPv4 address; set the private address of the host",
            )
    for address, hosts in seen.items():
        if len(hosts) > 1:
            yield Finding(
                "duplicate-address",
                "dedicated_address",
                tuple(hosts),
                f"{' and '.join(hosts)} have the same dedicated_address {address}; give each host its own",
            )

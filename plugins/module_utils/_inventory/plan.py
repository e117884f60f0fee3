# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with an inventory, judged before any host is touched.

Invariants (checked by the tests):

* every finding of a snapshot is reported at once, in a stable order;
* no finding ever holds the value of a secret;
* tier ``ha`` is accepted only if, of every layer, what is left without any one host still serves, and, where failure
  domains are declared, what is left without any one of them can still decide and still holds the data;
* tier ``single`` promises nothing, so that a layer is refused under it only for being empty, or an even etcd.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
import typing as t

from .._edge import certificate as own_certificate
from .._edge import plan as edge
from . import backups

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
    "vip_",
)
# Shared by several roles.
SHARED = (
    "dedicated_address",
    "dedicated_cluster",
    "dedicated_domain",
    "dedicated_failure_domain",
    "dedicated_root",
    "dedicated_rpo_seconds",
    "dedicated_rto_seconds",
    "dedicated_secure_logging",
    "dedicated_tier",
    "postgres_system_identifier",
)
# Whose values are judged, options of roles and Ansible's own among them.
JUDGED = (
    "ansible_connection",
    "ansible_host",
    "ansible_port",
    "dedicated_address",
    "dedicated_cluster",
    "dedicated_domain",
    "dedicated_failure_domain",
    "dedicated_tier",
    *backups.NAMES,
    *own_certificate.NAMES,
    "edge_domains",
    "edge_routes",
    "postgres_synchronous_mode",
    "postgres_system_identifier",
)
LAYERS: dict[str, tuple[str, ...]] = {
    "etcd": ("etcd",),
    "postgres": ("postgres", "pgbackrest"),
    "redis": ("redis",),
    "odoo": ("router", "odoo"),
    "edge": ("edge", "vip"),
    "all": ("host", "firewall", "pki"),
}
ALL = "all"
SINGLE, HA = "single", "ha"
TIERS = (SINGLE, HA)
# What tier ha needs of each layer, and why not less.
LEAST: dict[str, tuple[int, str]] = {
    "etcd": (3, "without one of 3 members, 2 still are a majority that can decide who leads"),
    "postgres": (3, "without one member there must still be a leader and a standby that has every commit"),
    "redis": (3, "without one of 3 Sentinels, 2 still are a majority that can promote a replica"),
    "odoo": (2, "without one host another must answer"),
    "edge": (2, "without one host another must answer"),
}
STATEFUL = ("etcd", "postgres", "redis")
VOTING = ("etcd", "redis")
FALSE = ("false", "no", "off", "0")
SSH = ("ssh", "smart", "paramiko", "paramiko_ssh")
# Names become etcd's and Patroni's member names, application names (63 bytes), and DNS names in certificates.
MEMBER = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
IDENTIFIER = re.compile(r"[1-9][0-9]{0,19}")
NOT_OURS = ("ansible_", "inventory_", "__", "group", "hostvars", "playbook_dir", "omit", "vars", "environment")
SECRET = re.compile(r"_(password|passphrase|cipher_pass|secret|token|s3_key)$")
IMAGE = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
LEAST_LENGTH = 16
LENGTHS = {"odoo_admin_password": 12, "s3.key": 3}
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
    now: float = 0.0

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
                # Of a mapping only parts are secret, and which ones somebody else has named.
                secret=bool(option.get("no_log", False)) and option.get("type") != "dict",
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
    return frozenset(names | set(JUDGED))


def judge(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Everything that is wrong, worst kind first."""
    findings: list[Finding] = []
    for check in (
        _groups,
        _tier,
        _topology,
        _failure_domains,
        _names,
        _unreadable,
        _unknown,
        _missing,
        _secrets,
        _images,
        _addresses,
        _connections,
        _identifier,
        _backups,
        _routes,
        _own_certificate,
    ):
        findings.extend(check(snapshot))
    return tuple(findings)


def warn(snapshot: Snapshot) -> tuple[Finding, ...]:
    """What is allowed and worth a thought."""
    return (*_weak_single(snapshot), *_weak_domains(snapshot))


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


def _layer(snapshot: Snapshot, layer: str) -> tuple[str, ...]:
    """Hosts of a layer that is part of this inventory."""
    group = snapshot.etcd_group if layer == "etcd" else layer
    return snapshot.members(group) if group in snapshot.layers else ()


def _given(snapshot: Snapshot, name: str) -> dict[str, t.Any]:
    """Host to its value of a variable, where there is one that can be read."""
    given = {}
    for host in snapshot.members(ALL):
        value = snapshot.hosts[host].values.get(name)
        if value is not None and not value.failure and value.value is not None:
            given[host] = value.value
    return given


def tier(snapshot: Snapshot) -> str:
    """The tier: the declared one, else ``ha`` with several PostgreSQL members; empty where it is declared wrongly."""
    declared = set(map(str, _given(snapshot, "dedicated_tier").values()))
    if not declared:
        return HA if len(_layer(snapshot, "postgres")) > 1 else SINGLE
    return declared.pop() if len(declared) == 1 and declared <= set(TIERS) else ""


def _tier(snapshot: Snapshot) -> t.Iterator[Finding]:
    """A tier that is none, or that differs between hosts."""
    if tier(snapshot):
        return
    declared = _given(snapshot, "dedicated_tier")
    said = ", ".join(sorted({f"'{value}'" for value in declared.values()}))
    yield Finding(
        "invalid-tier",
        "dedicated_tier",
        tuple(declared),
        f"dedicated_tier is {said}; it is one of {', '.join(TIERS)}, the same for every host: set it once, in"
        " group_vars/all",
    )


def _topology(snapshot: Snapshot) -> t.Iterator[Finding]:
    """A tier whose promise the groups, or the settings, cannot keep."""
    if tier(snapshot) != HA:
        return
    for layer, (least, why) in LEAST.items():
        members = _layer(snapshot, layer)
        if members and len(members) < least:
            group = snapshot.etcd_group if layer == "etcd" else layer
            yield Finding(
                "tier-not-kept",
                group,
                members,
                f"tier ha needs {least} hosts in group {group}, there {_are(members)}: {why}; add hosts to the"
                " group, or set dedicated_tier to single, which promises nothing when a host is lost",
            )
    off = tuple(
        host
        for host, value in _given(snapshot, "postgres_synchronous_mode").items()
        if str(value).strip().lower() in FALSE and host in _layer(snapshot, "postgres")
    )
    if off:
        yield Finding(
            "tier-not-kept",
            "postgres_synchronous_mode",
            off,
            f"tier ha promises that no acknowledged commit is lost, and postgres_synchronous_mode is off for"
            f" {_where(snapshot, off)}; remove it, or set dedicated_tier to single",
        )


def _are(hosts: t.Sequence[str]) -> str:
    """How many hosts there are, with their names."""
    return f"{'is' if len(hosts) == 1 else 'are'} {len(hosts)} ({', '.join(hosts)})"


def _domains(snapshot: Snapshot) -> dict[str, str]:
    """Host to its failure domain, where one is declared."""
    given = _given(snapshot, "dedicated_failure_domain")
    return {host: str(value).strip() for host, value in given.items() if str(value).strip()}


def _failure_domains(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Failure domains that are declared for some only, or whose loss the tier does not survive."""
    wrong = tuple(
        host
        for host, value in _given(snapshot, "dedicated_failure_domain").items()
        if isinstance(value, bool) or not isinstance(value, (str, int))
    )
    if wrong:
        yield Finding(
            "invalid-failure-domain",
            "dedicated_failure_domain",
            wrong,
            f"dedicated_failure_domain of {_where(snapshot, wrong)} is no name; write what fails together as one word,"
            " for example the rack or the zone",
        )
    domains = _domains(snapshot)
    if wrong or not domains or tier(snapshot) != HA:
        return
    stateful = dict.fromkeys(host for layer in STATEFUL for host in _layer(snapshot, layer))
    missing = tuple(host for host in stateful if host not in domains and not _fails(snapshot, host))
    if missing:
        yield Finding(
            "failure-domain-missing",
            "dedicated_failure_domain",
            missing,
            f"dedicated_failure_domain is declared for {', '.join(domains)} and not for {_where(snapshot, missing)};"
            " what a domain's loss costs can be judged only if every host of etcd, postgres and redis declares one",
        )
    for layer in LEAST:
        yield from _held(snapshot, layer, domains)


def _fails(snapshot: Snapshot, host: str) -> bool:
    """Is the host's domain unreadable, which is a finding of its own."""
    value = snapshot.hosts[host].values.get("dedicated_failure_domain")
    return value is not None and bool(value.failure)


def _by_domain(members: t.Iterable[str], domains: t.Mapping[str, str]) -> dict[str, list[str]]:
    """Domain to those members that are in it."""
    found: dict[str, list[str]] = {}
    for host in members:
        if host in domains:
            found.setdefault(domains[host], []).append(host)
    return found


def _held(snapshot: Snapshot, layer: str, domains: t.Mapping[str, str]) -> t.Iterator[Finding]:
    """Domains without which a layer cannot go on."""
    members = _layer(snapshot, layer)
    if len(members) < LEAST[layer][0]:
        return
    group = snapshot.etcd_group if layer == "etcd" else layer
    need = len(members) // 2 + 1 if layer in VOTING else 1
    for domain, hosts in sorted(_by_domain(members, domains).items()):
        left = len(members) - len(hosts)
        if left >= need:
            continue
        what = f"{need} are needed for a majority" if layer in VOTING else "at least one is needed"
        yield Finding(
            "failure-domain-holds-too-much",
            group,
            tuple(hosts),
            f"failure domain {domain} holds {len(hosts)} of the {len(members)} hosts of group {group}"
            f" ({', '.join(hosts)}); its loss leaves {left}, and {what}: spread the group over"
            f" {'three' if layer in VOTING else 'two'} domains or more, or set dedicated_tier to single, which"
            " promises nothing",
        )


def _weak_single(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Several members under a tier that promises nothing."""
    members = _layer(snapshot, "postgres")
    if tier(snapshot) == SINGLE and len(members) > 1:
        yield Finding(
            "tier-promises-nothing",
            "dedicated_tier",
            members,
            f"dedicated_tier is single and group postgres has {len(members)} hosts; they replicate, but nobody has"
            " checked that the loss of one is survived: set dedicated_tier to ha to have that checked",
        )


def _weak_domains(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Tier ha without failure domains, or with several PostgreSQL members in one."""
    if tier(snapshot) != HA:
        return
    domains = _domains(snapshot)
    if not domains:
        yield Finding(
            "no-failure-domains",
            "dedicated_failure_domain",
            snapshot.members(ALL),
            "no host declares dedicated_failure_domain; whether one rack, zone or virtualisation host carries a"
            " majority is not checked: declare for each host what it would go down with",
        )
    members = _layer(snapshot, "postgres")
    for domain, hosts in sorted(_by_domain(members, domains).items()):
        if 1 < len(hosts) < len(members):
            yield Finding(
                "standby-in-same-domain",
                "postgres",
                tuple(hosts),
                f"failure domain {domain} holds {' and '.join(hosts)} of group postgres; if the leader and its"
                " synchronous standby are both there when it is lost, the members that are left may lack commits and"
                " none is promoted by itself: no data is lost, but a person must decide; one domain for each member"
                " avoids it",
            )


def _slot(name: str) -> str:
    """The replication slot that Patroni makes for a member."""
    return re.sub(r"[-.]", "_", name.lower())


def _names(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Inventory names that cannot be a member's name, or that are the same to PostgreSQL."""
    for host in snapshot.members(ALL):
        if not MEMBER.fullmatch(host):
            yield Finding(
                "invalid-name",
                host,
                (host,),
                f"the inventory name '{host}' cannot be a member's name in etcd, Patroni and certificates; take 1 to"
                " 63 letters, digits, dots, dashes or underscores, the first and the last a letter or a digit (its"
                " address goes into ansible_host)",
            )
    slots: dict[str, list[str]] = {}
    for host in _layer(snapshot, "postgres"):
        slots.setdefault(_slot(host), []).append(host)
    for slot, hosts in slots.items():
        if len(hosts) > 1:
            yield Finding(
                "duplicate-name",
                slot,
                tuple(hosts),
                f"{' and '.join(hosts)} would share the replication slot {slot}: PostgreSQL tells neither capitals nor"
                " dots, dashes and underscores apart; rename one",
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


def _connections(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Two names for what Ansible reaches as one machine."""
    kinds, addresses, ports = (
        _given(snapshot, name) for name in ("ansible_connection", "ansible_host", "ansible_port")
    )
    seen: dict[tuple[str, str], list[str]] = {}
    for host in snapshot.members(ALL):
        if str(kinds.get(host, "ssh")).rsplit(".", 1)[-1] in SSH:
            place = str(addresses.get(host, host)).strip().lower(), str(ports.get(host, 22))
            seen.setdefault(place, []).append(host)
    for (address, port), hosts in seen.items():
        if len(hosts) > 1:
            yield Finding(
                "duplicate-host",
                "ansible_host",
                tuple(hosts),
                f"{' and '.join(hosts)} are both reached at {address}:{port} (ansible_host); one machine would be set"
                " up as two members: give each its own address",
            )


def _identifier(snapshot: Snapshot) -> t.Iterator[Finding]:
    """A pinned system identifier that is none, or that differs between members."""
    given = {host: str(value).strip() for host, value in _given(snapshot, "postgres_system_identifier").items()}
    pinned = {host: value for host, value in given.items() if value}
    wrong = tuple(host for host, value in pinned.items() if not IDENTIFIER.fullmatch(value))
    if wrong:
        yield Finding(
            "invalid-system-identifier",
            "postgres_system_identifier",
            wrong,
            f"postgres_system_identifier is '{pinned[wrong[0]]}' for {_where(snapshot, wrong)}; it is a number of up to"
            " 20 digits: take it from /etc/dedicated/postgres-system-identifier of a member that is right",
        )
    elif len(set(pinned.values())) > 1:
        yield Finding(
            "invalid-system-identifier",
            "postgres_system_identifier",
            tuple(pinned),
            f"postgres_system_identifier has different values ({', '.join(sorted(set(pinned.values())))}); a cluster"
            " has one: set it once, in group_vars/all",
        )


def _alike(given: t.Mapping[str, t.Any]) -> list[tuple[t.Any, list[str]]]:
    """Values with the hosts that have them."""
    seen: list[tuple[t.Any, list[str]]] = []
    for host, mine in given.items():
        same = next((members for value, members in seen if value == mine), None)
        if same is None:
            seen.append((mine, [host]))
        else:
            same.append(host)
    return seen


def _backups(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Repositories and times of backups, by the hosts that have the same."""
    hosts = snapshot.members(backups.LAYER) if backups.ROLE in snapshot.layers.get(backups.LAYER, ()) else ()
    seen = _alike(
        {
            host: {name: given[host] for name in backups.NAMES if host in (given := _given(snapshot, name))}
            for host in hosts
        }
    )
    for given, members in seen:
        for problem in backups.judge(given, why_weak):
            yield Finding(
                problem.code, problem.subject, tuple(members), f"{problem.message} ({_where(snapshot, members)})"
            )
    if len(seen) > 1:
        yield Finding(
            "invalid-repository",
            "pgbackrest_repositories",
            tuple(hosts),
            f"the hosts of group {backups.LAYER} do not have the same repositories, policy and recovery point; any of"
            " them may lead and take the backups: set these once, in group_vars",
        )


def _routes(snapshot: Snapshot) -> t.Iterator[Finding]:
    """Tables of routes, by the edges that have the same."""
    given_by = {
        host: given for host, given in _given(snapshot, "edge_routes").items() if host in snapshot.members("edge")
    }
    for given, members in _alike(given_by):
        for problem in edge.judge(given)[1]:
            yield Finding(
                problem.code, problem.subject, tuple(members), f"{problem.message} ({_where(snapshot, members)})"
            )


def _own_certificate(snapshot: Snapshot) -> t.Iterator[Finding]:
    """A customer's own certificate, by the edges that have the same."""
    names = (*own_certificate.NAMES, "edge_domains", "dedicated_domain")
    given_by = {
        host: {name: given[host] for name in names if host in (given := _given(snapshot, name))}
        for host in snapshot.members("edge")
    }
    for given, members in _alike(given_by):
        domains = given.get("edge_domains") or [given.get("dedicated_domain", "")]
        for problem in own_certificate.judge(given, [str(one) for one in domains], snapshot.now):
            yield Finding(
                problem.code, problem.subject, tuple(members), f"{problem.message} ({_where(snapshot, members)})"
            )

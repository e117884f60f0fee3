# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with an inventory."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.module_utils._inventory import backups, plan

IMAGE = "registry.example:5000/odoo@sha256:" + "a" * 64
STRONG = "kU3x9PqLw7Zr2VbN8sTd"
OPTIONS = (
    plan.Option("odoo_image", "odoo", required=True),
    plan.Option("odoo_workers", "odoo"),
    plan.Option("odoo_db_password", "odoo", required=True, secret=True, description="Password of the role."),
    plan.Option("odoo_admin_password", "odoo", secret=True),
    plan.Option("postgres_image", "postgres", required=True),
    plan.Option("etcd_quota", "etcd"),
    plan.Option("stack_name", "stack", required=True),
)
GOOD: dict[str, t.Any] = {
    "odoo_image": IMAGE,
    "postgres_image": IMAGE,
    "odoo_db_password": STRONG,
    "dedicated_cluster": "lab",
    "dedicated_tier": "single",
}
GROUPS = {"all": ("a", "b", "c", "other"), "odoo": ("a",), "postgres": ("a", "b"), "etcd": ("a", "b", "c")}
LAYERS = {"odoo": ("odoo",), "postgres": ("postgres",), "etcd": ("etcd",), "all": ("host",)}


def view(name: str, number: int, variables: dict[str, t.Any]) -> plan.HostView:
    values = {"dedicated_address": f"10.0.0.{number}", **variables}
    return plan.HostView(
        name,
        {key: f"vars/{key}.yml:3" for key in values},
        {key: value if isinstance(value, plan.Value) else plan.Value(value) for key, value in values.items()},
    )


def snapshot(changes: dict[str, t.Any] | None = None, remove: str = "", **fields: t.Any) -> plan.Snapshot:
    variables = {key: value for key, value in {**GOOD, **(changes or {})}.items() if key != remove}
    hosts = {name: view(name, number, variables) for number, name in enumerate(("a", "b", "c"), 1)}
    given = {"groups": GROUPS, "hosts": hosts, "options": OPTIONS, "layers": LAYERS, **fields}
    return plan.Snapshot(**given)


def codes(judged: plan.Snapshot) -> list[tuple[str, str]]:
    return [(finding.code, finding.subject) for finding in plan.judge(judged)]


def test_sound() -> None:
    assert codes(snapshot()) == []


@pytest.mark.parametrize(
    ("changes", "code", "subject", "words"),
    [
        ({"odoo_wrokers": 4}, "unknown-variable", "odoo_wrokers", "did you mean odoo_workers?"),
        ({"odo_workers": 4}, "unknown-variable", "odo_workers", "did you mean odoo_workers?"),
        ({"postgre_image": IMAGE}, "unknown-variable", "postgre_image", "did you mean postgres_image?"),
        ({"etcd_zzz": 4}, "unknown-variable", "etcd_zzz", "vars/etcd_zzz.yml:3"),
        ({"odoo_db_password": ""}, "weak-secret", "odoo_db_password", "is empty"),
        ({"odoo_db_password": "   "}, "weak-secret", "odoo_db_password", "is empty"),
        ({"odoo_db_password": "Admin"}, "weak-secret", "odoo_db_password", "well-known"),
        ({"odoo_db_password": "Ab1-Ab2-Ab3-Ab4"}, "weak-secret", "odoo_db_password", "fewer than 16"),
        ({"odoo_db_password": "a" * 30}, "weak-secret", "odoo_db_password", "repeats"),
        ({"odoo_db_password": 12345678901234567}, "weak-secret", "odoo_db_password", "is no text"),
        ({"odoo_admin_password": "Ab1-Ab2-Ab3"}, "weak-secret", "odoo_admin_password", "fewer than 12"),
        ({"odoo_image": "odoo:19"}, "image-not-by-digest", "odoo_image", "odoo:19"),
        ({"odoo_image": IMAGE[:-1]}, "image-not-by-digest", "odoo_image", "sha256"),
        (
            {"odoo_image": plan.Value(failure="template", reason="'x' is undefined")},
            "unresolved-value",
            "odoo_image",
            "'x'",
        ),
        (
            {"odoo_db_password": plan.Value(failure="vault", reason="Decryption failed")},
            "vault-undecryptable",
            "odoo_db_password",
            "--vault-password-file",
        ),
    ],
)
def test_bad_value(changes: dict[str, t.Any], code: str, subject: str, words: str) -> None:
    findings = plan.judge(snapshot(changes))
    assert [(finding.code, finding.subject) for finding in findings] == [(code, subject)]
    assert words in findings[0].message


@pytest.mark.parametrize("value", ["Tr0ub4dor&3xyz", "hunter2-hunter2", "changeme"])
def test_value_of_a_secret_is_never_shown(value: str) -> None:
    findings = plan.judge(snapshot({"odoo_db_password": value}))
    assert findings
    assert value not in plan.message(findings)
    assert value not in repr([finding.as_result() for finding in findings])


def test_missing_secret_says_how_to_make_one() -> None:
    (finding,) = plan.judge(snapshot(remove="odoo_db_password"))
    assert finding.code == "missing-secret"
    assert finding.hosts == ("a",), "only hosts whose layer needs it"
    assert "ansible-vault encrypt_string --stdin-name odoo_db_password" in finding.message
    assert "Password of the role" in finding.message


def test_missing_variable_names_the_group() -> None:
    (finding,) = plan.judge(snapshot(remove="postgres_image"))
    assert (finding.code, finding.hosts) == ("missing-variable", ("a", "b"))
    assert "group postgres" in finding.message


def test_provided_by_the_playbook() -> None:
    assert codes(snapshot(remove="postgres_image", provided=("postgres_image",))) == []


def test_none_is_missing() -> None:
    assert codes(snapshot({"odoo_db_password": None})) == [("missing-secret", "odoo_db_password")]


def test_known_and_ignored_names() -> None:
    assert codes(snapshot({"odoo_tier": 1, "host_rack": 2}, known=("odoo_tier",), ignored=("host_rack",))) == []


def test_own_variables_are_left_alone() -> None:
    assert codes(snapshot({"ansible_user": 1, "__odoo_workers": 1, "company": 1, "group_names": 1})) == []


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({**GROUPS, "etcd": ("a", "b")}, [("even-etcd", "etcd")]),
        ({**GROUPS, "etcd": ("a",)}, []),
        ({**GROUPS, "etcd": ()}, [("empty-group", "etcd")]),
        ({key: value for key, value in GROUPS.items() if key != "etcd"}, [("empty-group", "etcd")]),
    ],
)
def test_groups(groups: dict[str, tuple[str, ...]], expected: list[tuple[str, str]]) -> None:
    assert codes(snapshot(groups=groups)) == expected


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("10.0.0.2", "duplicate-address"),
        ("node1", "invalid-address"),
        ("fd00::1", "invalid-address"),
        (None, "missing-variable"),
    ],
)
def test_addresses(address: str | None, code: str) -> None:
    judged = snapshot()
    hosts = {**judged.hosts, "a": view("a", 1, {**GOOD, "dedicated_address": address})}
    assert codes(dataclasses.replace(judged, hosts=hosts)) == [(code, "dedicated_address")]


def test_everything_at_once() -> None:
    judged = snapshot({"odoo_wrokers": 1, "odoo_image": "x"}, remove="odoo_db_password", groups={**GROUPS, "etcd": ()})
    findings = plan.judge(judged)
    assert {finding.code for finding in findings} == {
        "empty-group",
        "unknown-variable",
        "missing-secret",
        "image-not-by-digest",
    }
    assert "4 problem(s)" in plan.message(findings)


def test_parse_options() -> None:
    spec = {
        "argument_specs": {
            "main": {"options": {"odoo_x": {"type": "str", "required": True, "description": ["First.", "Second."]}}},
            "other": {"options": {"odoo_x": {"type": "str"}, "odoo_y": {"required": True, "no_log": True}}},
        }
    }
    assert plan.parse_options("odoo", spec) == (
        plan.Option("odoo_x", "odoo", True, False, "First."),
        plan.Option("odoo_y", "odoo", False, True, ""),
    )
    assert plan.parse_options("odoo", None) == ()


def test_only_needed_values_are_read() -> None:
    names = plan.names_to_read(OPTIONS)
    assert {"odoo_image", "odoo_db_password", "odoo_admin_password", "dedicated_address"} <= names
    assert "odoo_workers" not in names


# --- tiers and failure domains ---------------------------------------------------------------------------------------

LAYERED = {layer: () for layer in (*plan.LEAST, "all")}
THREE = {layer: ("a", "b", "c") for layer in plan.LEAST}
Each = t.Mapping[str, t.Mapping[str, t.Any]]


def topology(
    groups: t.Mapping[str, tuple[str, ...]] = THREE, each: Each | None = None, **shared: t.Any
) -> plan.Snapshot:
    """An inventory of groups, with variables of all hosts and of single ones."""
    names = list(dict.fromkeys(host for hosts in groups.values() for host in hosts))
    hosts = {name: view(name, at, {**shared, **(each or {}).get(name, {})}) for at, name in enumerate(names, 1)}
    options = (plan.Option("postgres_synchronous_mode", "postgres"),)
    return plan.Snapshot(groups=dict(groups), hosts=hosts, options=options, layers=LAYERED)


def domains(*names: str) -> dict[str, dict[str, str]]:
    """A failure domain for a, b, c and so on; a dash for none."""
    return {host: {} if name == "-" else {"dedicated_failure_domain": name} for host, name in zip("abcdefg", names)}


def warnings(judged: plan.Snapshot) -> list[str]:
    return [finding.code for finding in plan.warn(judged)]


@pytest.mark.parametrize(
    ("postgres", "declared", "tier"),
    [
        (("a",), None, "single"),
        (("a", "b"), None, "ha"),
        (("a", "b", "c"), None, "ha"),
        (("a", "b", "c"), "single", "single"),
        (("a",), "ha", "ha"),
        (("a",), "platinum", ""),
        (("a",), "", ""),
    ],
)
def test_tier(postgres: tuple[str, ...], declared: str | None, tier: str) -> None:
    assert plan.tier(topology({**THREE, "postgres": postgres}, dedicated_tier=declared)) == tier


@pytest.mark.parametrize(
    "each",
    [
        {name: {"dedicated_tier": "gold"} for name in "abc"},
        {"a": {"dedicated_tier": "ha"}, "b": {"dedicated_tier": "single"}},
    ],
)
def test_tier_that_is_none_or_differs(each: Each) -> None:
    (finding,) = plan.judge(topology(each=each))
    assert finding.code == "invalid-tier"
    assert "single, ha" in finding.message


def test_one_host_for_everything_is_sound() -> None:
    one = topology({layer: ("a",) for layer in plan.LEAST})
    assert codes(one) == []
    assert warnings(one) == []


def test_three_hosts_for_everything_are_sound() -> None:
    assert codes(topology()) == []
    assert codes(topology(each=domains("x", "y", "z"))) == []
    assert warnings(topology(each=domains("x", "y", "z"))) == []


@pytest.mark.parametrize("layer", list(plan.LEAST))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_least_of_each_layer_under_ha(layer: str, count: int) -> None:
    least = plan.LEAST[layer][0]
    found = [
        finding
        for finding in plan.judge(topology({**THREE, layer: ("a", "b", "c")[:count]}, dedicated_tier="ha"))
        if finding.code == "tier-not-kept"
    ]
    assert [(finding.subject, finding.hosts) for finding in found] == (
        [(layer, ("a", "b", "c")[:count])] if count < least else []
    )
    for finding in found:
        assert f"needs {least} hosts in group {layer}" in finding.message
        assert "set dedicated_tier to single" in finding.message


def test_empty_layer_is_told_once() -> None:
    assert codes(topology({**THREE, "redis": ()})) == [("empty-group", "redis")]


def test_single_promises_nothing() -> None:
    judged = topology({**THREE, "postgres": ("a", "b")}, each=domains("x", "x", "-"), dedicated_tier="single")
    assert codes(judged) == []
    assert warnings(judged) == ["tier-promises-nothing"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(False, True), ("off", True), ("False", True), (True, False), ("quorum", False), (None, False)],
)
def test_ha_without_synchronous_replication(value: t.Any, expected: bool) -> None:
    found = codes(topology(postgres_synchronous_mode=value))
    assert found == ([("tier-not-kept", "postgres_synchronous_mode")] if expected else [])
    assert codes(topology(postgres_synchronous_mode=value, dedicated_tier="single")) == []


FIVE = {**THREE, "etcd": ("a", "b", "c", "d", "e")}
FOUR = {**THREE, "redis": ("a", "b", "c", "d")}


@pytest.mark.parametrize(
    ("groups", "names", "held"),
    [
        (THREE, "xyz", []),
        (THREE, "xxz", ["etcd", "redis"]),
        (THREE, "xxx", ["etcd", "postgres", "redis", "odoo", "edge"]),
        (FIVE, "xyzxy", []),
        (FIVE, "xyzxx", ["etcd"]),
        (FOUR, "xyzw", []),
        # Half is no majority, and what is left without it is none either.
        (FOUR, "xyzx", ["redis"]),
        ({**THREE, "postgres": ("d", "e", "f")}, "xyzvvv", ["postgres"]),
        ({**THREE, "postgres": ("d", "e", "f")}, "xyzvvw", []),
        ({**THREE, "odoo": ("d", "e"), "edge": ("d", "e")}, "xyzvv", ["odoo", "edge"]),
        # Stateless hosts need not declare a domain; where not all do, nobody can tell.
        ({**THREE, "odoo": ("d", "e")}, "xyzv-", []),
    ],
)
def test_failure_domains(groups: dict[str, tuple[str, ...]], names: str, held: list[str]) -> None:
    judged = topology(groups, domains(*names))
    assert codes(judged) == [("failure-domain-holds-too-much", layer) for layer in held]
    assert codes(topology(groups, domains(*names), dedicated_tier="single")) == []


def test_failure_domain_tells_the_numbers() -> None:
    finding = plan.judge(topology(each=domains("north", "north", "south")))[0]
    assert finding.hosts == ("a", "b")
    assert "failure domain north holds 2 of the 3 hosts of group etcd (a, b)" in finding.message
    assert "leaves 1, and 2 are needed" in finding.message


@pytest.mark.parametrize(
    ("groups", "names", "missing"),
    [
        (THREE, "xy-", ("c",)),
        (THREE, "x--", ("b", "c")),
        ({**THREE, "edge": ("d", "e")}, "---v-", ("a", "b", "c")),
        (THREE, "---", ()),
    ],
)
def test_mixture_of_declared_and_not(groups: dict[str, tuple[str, ...]], names: str, missing: tuple[str, ...]) -> None:
    findings = plan.judge(topology(groups, domains(*names)))
    assert [(finding.code, finding.hosts) for finding in findings] == (
        [("failure-domain-missing", missing)] if missing else []
    )


def test_empty_domain_is_none() -> None:
    assert codes(topology(dedicated_failure_domain=" ")) == []
    assert warnings(topology(dedicated_failure_domain=" ")) == ["no-failure-domains"]


@pytest.mark.parametrize("value", [["x"], {"rack": 1}, True])
def test_domain_that_is_no_name(value: t.Any) -> None:
    assert codes(topology(each={"a": {"dedicated_failure_domain": value}})) == [
        ("invalid-failure-domain", "dedicated_failure_domain")
    ]


def test_domain_that_cannot_be_read_is_told_once() -> None:
    broken = {**domains("x", "y"), "c": {"dedicated_failure_domain": plan.Value(failure="template", reason="no")}}
    assert codes(topology(each=broken)) == [("unresolved-value", "dedicated_failure_domain")]


def test_number_of_a_rack_is_a_domain() -> None:
    numbers = {host: {"dedicated_failure_domain": number} for number, host in enumerate("abc")}
    assert codes(topology(each=numbers)) == []
    assert warnings(topology(each=numbers)) == []


def test_warning_of_two_postgres_members_in_one_domain() -> None:
    judged = topology({**THREE, "postgres": ("d", "e", "f")}, domains(*"xyzvvw"))
    (finding,) = plan.warn(judged)
    assert (finding.code, finding.hosts) == ("standby-in-same-domain", ("d", "e"))


# --- names, connections, the pin --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["erp1", "ERP-1", "n", "a.b.example.com", "db_1", "10.0.0.1", "x" * 63])
def test_good_name(name: str) -> None:
    assert codes(topology({layer: (name,) for layer in plan.LEAST})) == []


@pytest.mark.parametrize("name", ["-a", "a-", "_a", "a b", "a=b", "a,b", "ö", "fd00::1", "x" * 64, "a\n"])
def test_bad_name(name: str) -> None:
    assert codes(topology({layer: (name,) for layer in plan.LEAST})) == [("invalid-name", name)]


def test_names_that_are_one_to_postgresql() -> None:
    names = ("erp-1", "erp.1", "ERP_1")
    (finding,) = plan.judge(topology({layer: names for layer in plan.LEAST}))
    assert (finding.code, finding.subject, finding.hosts) == ("duplicate-name", "erp_1", names)


@pytest.mark.parametrize(
    ("each", "hosts"),
    [
        ({}, None),
        ({"a": {"ansible_host": "192.0.2.1"}, "b": {"ansible_host": "192.0.2.1"}}, ("a", "b")),
        ({"a": {"ansible_host": "B"}}, ("a", "b")),
        ({"a": {"ansible_host": "gate", "ansible_port": 2201}, "b": {"ansible_host": "gate"}}, None),
        ({"a": {"ansible_host": "gate", "ansible_port": "22"}, "b": {"ansible_host": "gate"}}, ("a", "b")),
        ({host: {"ansible_host": "x", "ansible_connection": "community.docker.docker"} for host in "ab"}, None),
        ({host: {"ansible_host": "x", "ansible_connection": "ansible.builtin.ssh"} for host in "ab"}, ("a", "b")),
    ],
)
def test_two_names_of_one_machine(each: Each, hosts: tuple[str, ...] | None) -> None:
    found = [finding for finding in plan.judge(topology(each=each))]
    assert [(finding.code, finding.hosts) for finding in found] == ([("duplicate-host", hosts)] if hosts else [])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("7710808616800653334",) * 3, False),
        ((7710808616800653334,) * 3, False),
        (("", "", ""), False),
        (("lab",) * 3, True),
        (("0771",) * 3, True),
        (("1" * 21,) * 3, True),
        (("77", "78", "77"), True),
    ],
)
def test_pinned_system_identifier(values: tuple[t.Any, ...], expected: bool) -> None:
    each = {host: {"postgres_system_identifier": value} for host, value in zip("abc", values)}
    found = codes(topology(each=each))
    assert found == ([("invalid-system-identifier", "postgres_system_identifier")] if expected else [])


def test_new_variables_are_known_and_read() -> None:
    names = {"dedicated_tier", "dedicated_failure_domain", "postgres_system_identifier"}
    assert names <= topology().known_names()
    assert names <= plan.names_to_read(())


# Backups

STORE = {"endpoint": "s3.test", "bucket": "backup", "key": "key", "key_secret": STRONG + "2"}
REPOSITORY = {"number": 1, "type": "s3", "path": "/pgbackrest", "cipher_pass": STRONG, "s3": STORE}
BACKED_UP = {**LAYERS, "postgres": ("postgres", "pgbackrest")}
BACKUP_OPTIONS = (
    *OPTIONS,
    plan.Option("pgbackrest_repositories", "pgbackrest", required=True),
    *(plan.Option(name, "pgbackrest") for name in ("pgbackrest_policy", "pgbackrest_finance_peaks")),
    plan.Option("postgres_archive_timeout", "postgres"),
)


def backed_up(**changes: t.Any) -> plan.Snapshot:
    given = {"pgbackrest_repositories": [REPOSITORY], **changes}
    return snapshot(given, layers=BACKED_UP, options=BACKUP_OPTIONS)


def test_values_of_backups_are_read() -> None:
    names = plan.names_to_read(BACKUP_OPTIONS)
    assert set(backups.NAMES) <= names


@pytest.mark.parametrize(
    ("changes", "code", "subject"),
    [
        ({"pgbackrest_repositories": [{**REPOSITORY, "number": 9}]}, "invalid-repository", "pgbackrest_repositories"),
        ({"pgbackrest_repositories": [REPOSITORY, REPOSITORY]}, "duplicate-repository", "pgbackrest_repositories"),
        (
            {"pgbackrest_repositories": [{**REPOSITORY, "cipher_pass": "changeme"}]},
            "weak-secret",
            "pgbackrest_repositories[1].cipher_pass",
        ),
        (
            {"pgbackrest_repositories": [{**REPOSITORY, "s3": {**STORE, "key_secret": ""}}]},
            "weak-secret",
            "pgbackrest_repositories[1].s3.key_secret",
        ),
        ({"pgbackrest_policy": {"full": "never"}}, "invalid-policy", "pgbackrest_policy"),
        (
            {"pgbackrest_finance_peaks": [{"days": ["sun"], "from": "00:00", "to": "06:00"}]},
            "backup-in-peak",
            "pgbackrest_policy.full",
        ),
        ({"postgres_archive_timeout": 90}, "rpo-not-kept", "postgres_archive_timeout"),
        ({"dedicated_rpo_seconds": 20}, "rpo-not-kept", "postgres_archive_timeout"),
        ({"pgbackrest_repositories": None}, "missing-variable", "pgbackrest_repositories"),
        (
            {"pgbackrest_repositories": plan.Value(failure="vault", reason="Decryption failed")},
            "vault-undecryptable",
            "pgbackrest_repositories",
        ),
    ],
)
def test_backups_that_are_refused(changes: dict[str, t.Any], code: str, subject: str) -> None:
    findings = plan.judge(backed_up(**changes))
    assert [(one.code, one.subject) for one in findings] == [(code, subject)]
    assert STRONG not in plan.message(findings)


def test_backups_that_are_sound() -> None:
    assert codes(backed_up(dedicated_rpo_seconds=60, dedicated_rto_seconds=3600)) == []
    # Not part of this inventory, so that nobody is asked.
    assert codes(snapshot()) == []


def test_members_have_the_same_repositories() -> None:
    whole = backed_up()
    other = [{**REPOSITORY, "path": "/other"}]
    hosts = {
        **whole.hosts,
        "b": view("b", 2, {**GOOD, "pgbackrest_repositories": other}),
    }
    (finding,) = plan.judge(dataclasses.replace(whole, hosts=hosts))
    assert (finding.code, finding.hosts) == ("invalid-repository", ("a", "b"))


def test_the_archive_timeout_is_that_of_the_role() -> None:
    role = Path(backups.__file__).parents[3] / "roles" / "postgres" / "defaults" / "main.yml"
    assert yaml.safe_load(role.read_text(encoding="utf-8"))["postgres_archive_timeout"] == backups.ARCHIVE_TIMEOUT


def test_of_a_mapping_only_parts_are_secret() -> None:
    """Names of regions and servers stand beside them: none of it can be judged by its length."""
    options = {name: {"type": kind, "no_log": True} for name, kind in (("edge_key", "str"), ("edge_words", "dict"))}
    found = plan.parse_options("edge", {"argument_specs": {"main": {"options": options}}})
    assert {option.name: option.secret for option in found} == {"edge_key": True, "edge_words": False}

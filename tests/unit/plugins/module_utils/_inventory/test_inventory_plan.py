# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with an inventory."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._inventory import plan

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

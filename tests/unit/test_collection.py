# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must agree across the collection: metadata, names, layers of the Python code, documentation.

That each role's argument spec equals its defaults is tested in test_roles.py.
"""

from __future__ import annotations

import ast
import re
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GALAXY: dict[str, t.Any] = yaml.safe_load((ROOT / "galaxy.yml").read_text())
ROLES = sorted(path.name for path in ROOT.glob("roles/*") if any(path.rglob("*.yml")))
PLANNERS = sorted(ROOT.glob("plugins/module_utils/_*/plan.py"))
TESTS = sorted(ROOT.glob("tests/**/test_*.py"))
# Values shared by all roles; each role that needs one documents it, none gives it a default of its own.
SHARED = "dedicated_"


def load(path: Path) -> t.Any:
    return yaml.safe_load(path.read_text()) if path.is_file() else None


# Metadata


def test_galaxy_users_get_the_collections_that_galaxy_yml_asks_for() -> None:
    wanted = {entry["name"]: entry["version"] for entry in load(ROOT / "requirements.yml")["collections"]}
    assert wanted == GALAXY["dependencies"]


def test_execution_environment_holds_this_version() -> None:
    text = (ROOT / "execution-environment.yml").read_text()
    assert set(re.findall(r"dedicated-odoo-([\w.]+)\.tar\.gz", text)) == {GALAXY["version"]}


def test_pinned_requirements_are_hashed_and_name_no_index() -> None:
    text = (ROOT / "requirements" / "dev.txt").read_text()
    pinned = re.split(r"\n(?=[a-z])", text)[1:]
    assert pinned
    for entry in pinned:
        assert re.match(r"[a-z0-9.-]+==\S+", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
    assert "://" not in text


def test_action_group_holds_every_module() -> None:
    group = load(ROOT / "meta" / "runtime.yml")["action_groups"]["odoo"]
    modules = {path.stem for path in ROOT.glob("plugins/modules/*.py")} - {"__init__"}
    actions = {path.stem for path in ROOT.glob("plugins/action/*.py")} - {"__init__"}
    assert set(group) == modules | actions
    assert group == sorted(group)


# Roles


@pytest.mark.parametrize("role", ROLES)
def test_internal_and_documented_names_carry_the_roles_prefix(role: str) -> None:
    folder = ROOT / "roles" / role
    for path in folder.glob("vars/*.yml"):
        for name in load(path) or {}:
            assert name.startswith(f"__{role}_"), f"{path.relative_to(ROOT)}: {name}"
    specs = load(folder / "meta" / "argument_specs.yml")
    for name in specs["argument_specs"]["main"].get("options", {}):
        assert name.startswith((f"{role}_", SHARED)) or _is_documented_elsewhere(name, role), name


def _is_documented_elsewhere(name: str, role: str) -> bool:
    """A role may ask for another's variable (postgres needs Odoo's password) if that role documents it too."""
    return any(
        name.startswith(f"{other}_")
        and name
        in (load(ROOT / "roles" / other / "meta" / "argument_specs.yml") or {})
        .get("argument_specs", {})
        .get("main", {})
        .get("options", {})
        for other in ROLES
        if other != role
    )


@pytest.mark.parametrize("role", ROLES)
def test_secrets_of_a_role_have_no_default_and_no_choices(role: str) -> None:
    """Ansible prints the offending value of a spec with choices or another type; a default secret is no secret."""
    specs = load(ROOT / "roles" / role / "meta" / "argument_specs.yml")
    secret = re.compile(r"_(password|passphrase|secret|cipher_pass|key_secret)$")
    for name, option in specs["argument_specs"]["main"].get("options", {}).items():
        if secret.search(name):
            # Another secret under this role's name is none of its own; an empty one is none.
            default = str(option.get("default", ""))
            assert re.fullmatch(r"(\{\{ \w+( \| default\(''\))? \}\})?", default), f"{name} has a default"
            assert "choices" not in option, f"{name} has choices"
            assert option.get("type", "str") == "str", f"{name} is no str"


# Layers


@pytest.mark.parametrize("path", PLANNERS, ids=[path.parent.name for path in PLANNERS])
def test_planner_neither_waits_nor_reads_a_clock(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    assert not imported & {"time", "socket", "subprocess", "os", "logging", "urllib", "http", "random", "secrets"}


def test_a_test_that_needs_more_than_one_patch_is_a_design_bug() -> None:
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                called = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
                names = [func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in called]
                assert names.count("patch") <= 1, f"{path.relative_to(ROOT)}::{node.name}"


# Text


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_links_in_the_documentation_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)} links to {target}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("inventories/example-*")), ids=lambda path: path.name)
def test_example_inventory_sets_only_variables_that_exist(path: Path) -> None:
    known = {"ansible_host", "ansible_user", "ansible_python_interpreter"}
    # Secrets of repositories are the operator's own variables, to which pgbackrest_repositories refers.
    known |= set(re.findall(r"{{ (backup_\w+) }}", (path / "group_vars/all/settings.yml").read_text()))
    for role in ROLES:
        known |= set(load(ROOT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"])
    used: set[str] = set()
    for file in [*path.glob("group_vars/**/*.yml"), *path.glob("group_vars/**/*.yml.example")]:
        used |= set(load(file) or {})
    used |= set(re.findall(r"^ +((?:dedicated|ansible)_\w+):", (path / "hosts.yml").read_text(), flags=re.MULTILINE))
    assert not {name for name in used - known if not name.startswith(SHARED)}

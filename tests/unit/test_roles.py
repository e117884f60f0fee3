# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every role's argument specification says what its defaults say: names, values and types."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir() if path.is_dir())
TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list": (list,),
    "dict": (dict,),
}


def load(path: Path) -> dict[str, t.Any]:
    """A YAML file's mapping; an absent or empty file is an empty one."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def options_of(role: str) -> dict[str, t.Any]:
    """Options of the main entry point."""
    spec = load(ROLES / role / "meta" / "argument_specs.yml")
    assert spec, f"{role} has no meta/argument_specs.yml"
    return spec["argument_specs"]["main"].get("options", {})


def differences(left: t.Any, right: t.Any) -> bool:
    """Different in value or type; 1, 1.0 and true are three things."""
    if type(left) is not type(right):
        return True
    if isinstance(left, dict):
        return left.keys() != right.keys() or any(differences(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) != len(right) or any(differences(*pair) for pair in zip(left, right, strict=True))
    return left != right


def undescribed(options: dict[str, t.Any], where: str) -> list[str]:
    """Options without description or type, suboptions included."""
    found = [f"{where}{name}" for name, option in options.items() if not {"description", "type"} <= option.keys()]
    for name, option in options.items():
        found += undescribed(option.get("options", {}), f"{where}{name}.")
    return found


@pytest.mark.parametrize("role", NAMES)
def test_names_are_equal(role: str) -> None:
    defaults, options = load(ROLES / role / "defaults" / "main.yml"), options_of(role)
    with_default = {name for name, option in options.items() if "default" in option}
    optional = {name for name, option in options.items() if "default" not in option and not option.get("required")}
    assert with_default == set(defaults)
    assert optional == set(), "an option is required, or it has a default"


@pytest.mark.parametrize("role", NAMES)
def test_values_are_equal(role: str) -> None:
    defaults, options = load(ROLES / role / "defaults" / "main.yml"), options_of(role)
    differing = {
        name: (options[name].get("default"), value)
        for name, value in defaults.items()
        if name in options and differences(options[name].get("default"), value)
    }
    assert differing == {}


@pytest.mark.parametrize("role", NAMES)
def test_values_have_their_type(role: str) -> None:
    defaults, options = load(ROLES / role / "defaults" / "main.yml"), options_of(role)
    wrong = []
    for name, value in defaults.items():
        allowed = TYPES.get(options.get(name, {}).get("type", "raw"))
        template = isinstance(value, str) and value.startswith("{{")
        if allowed is None or value is None or template:
            continue
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("role", NAMES)
def test_required_options_have_no_default(role: str) -> None:
    defaults, options = load(ROLES / role / "defaults" / "main.yml"), options_of(role)
    required = {name for name, option in options.items() if option.get("required")}
    assert not required & set(defaults)
    assert not {name for name in required if "default" in options[name]}


@pytest.mark.parametrize("role", NAMES)
def test_options_are_described(role: str) -> None:
    assert undescribed(options_of(role), "") == []


@pytest.mark.parametrize("role", NAMES)
def test_variables_carry_the_role_s_name(role: str) -> None:
    defaults = load(ROLES / role / "defaults" / "main.yml")
    assert [name for name in defaults if not name.startswith(f"{role}_")] == []


SETS = re.compile(r"\| *(?:intersect|difference|symmetric_difference|union)\b(?![^|}]*\)? *\| *sort)")
TEMPLATES = sorted(ROLES.glob("*/templates/**/*.j2"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_templates_keep_their_order(path: Path) -> None:
    """Ansible's filters of sets give another order in every run: a file from them changes without a cause."""
    found = SETS.findall(path.read_text(encoding="utf-8"))
    assert not found, f"{path}: sort what comes out of {found}, or use select and reject"

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/requirements.yml tells the truth about files and tests, and what is met is counted."""

from __future__ import annotations

import ast
import functools
import re
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MATRIX: dict[str, t.Any] = yaml.safe_load((ROOT / "docs" / "requirements.yml").read_text())
AREAS: dict[str, int] = MATRIX["areas"]
ROWS: list[dict[str, t.Any]] = MATRIX["rows"]
KEYS = {"id", "where", "proof", "note"}


@functools.cache
def named_tests(path: Path) -> frozenset[str]:
    """Name the tests of a file: test_a, and TestB::test_c."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            names |= {
                f"{node.name}::{inner.name}"
                for inner in node.body
                if isinstance(inner, ast.FunctionDef) and inner.name.startswith("test")
            }
    return frozenset(names)


def why_not_proof(reference: str, root: Path = ROOT) -> str | None:
    """Say what is wrong with a proof; None if nothing is."""
    name, test = (*reference.split("::", 1), "")[:2]
    path = root / name
    if not name.startswith(("tests/", "molecule/")):
        return f"{reference}: a proof is a test under tests/ or molecule/"
    if not path.is_file():
        return f"{reference}: there is no such file"
    if path.suffix != ".py":
        return f"{reference}: only a Python file has named tests" if test else None
    if not named_tests(path):
        return f"{reference}: the file holds no test"
    if test and test not in named_tests(path):
        return f"{reference}: the file has no such test"
    return None


def why_not_row(row: dict[str, t.Any], root: Path = ROOT) -> list[str]:
    """Say what is wrong with a row."""
    if missing := {"id", "where", "proof"} - set(row):
        return [f"lacks {', '.join(sorted(missing))}"]
    problems = [f"unknown key {key}" for key in sorted(set(row) - KEYS)]
    match = re.fullmatch(r"([A-Z]+)-(\d\d)", row["id"])
    if not match or not 1 <= int(match.group(2)) <= AREAS.get(match.group(1), 0):
        problems.append("is no known requirement")
    problems += [f"{key} must be a list with something in it" for key in ("where", "proof") if not _filled(row[key])]
    if problems:
        return problems
    problems += [f"where: {path} does not exist" for path in row["where"] if not (root / path).exists()]
    return problems + [problem for proof in row["proof"] if (problem := why_not_proof(proof, root))]


def _filled(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) and item for item in value)


@pytest.mark.parametrize("row", ROWS, ids=[row.get("id", "?") for row in ROWS])
def test_row_names_what_exists(row: dict[str, t.Any]) -> None:
    assert why_not_row(row) == []


def test_every_requirement_stands_once_and_in_order() -> None:
    order = list(AREAS)
    ids = [row["id"] for row in ROWS]
    assert ids == sorted(set(ids), key=lambda name: (order.index(name.split("-")[0]), name))


def test_count_by_area(capsys: pytest.CaptureFixture[str]) -> None:
    met = {area: sum(row["id"].startswith(f"{area}-") for row in ROWS) for area in AREAS}
    line = "  ".join(f"{area} {met[area]}/{AREAS[area]}" for area in AREAS)
    with capsys.disabled():
        print(f"\nrequirements met: {sum(met.values())} of {sum(AREAS.values())}:  {line}")  # noqa: T201
    assert sum(met.values()) == len(ROWS)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"id": "TEN-99"}, "is no known requirement"),
        ({"id": "TEN-00"}, "is no known requirement"),
        ({"where": []}, "where must be a list with something in it"),
        ({"where": ["roles/none"]}, "where: roles/none does not exist"),
        ({"proof": ["README.md"]}, "README.md: a proof is a test under tests/ or molecule/"),
        ({"proof": ["tests/unit/test_none.py"]}, "tests/unit/test_none.py: there is no such file"),
        (
            {"proof": ["tests/unit/test_requirements_matrix.py::test_none"]},
            "tests/unit/test_requirements_matrix.py::test_none: the file has no such test",
        ),
        ({"prove": "x"}, "unknown key prove"),
    ],
)
def test_a_false_row_is_found(change: dict[str, t.Any], problem: str) -> None:
    row = {
        "id": "TEN-11",
        "where": ["docs/requirements.yml"],
        "proof": ["tests/unit/test_requirements_matrix.py::test_count_by_area"],
    }
    assert why_not_row(row) == []
    assert why_not_row({**row, **change}) == [problem]

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared options and their documentation say the same, and so do the modules' own; what is returned is documented."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml
from pgbackrest_lab import BEGIN_OF_EXPIRE, Lab, pgbackrest

from ansible_collections.dedicated.odoo.plugins.doc_fragments.pgbackrest import ModuleDocFragment
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest import plan, service
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest.arguments import pgbackrest_arguments
from ansible_collections.dedicated.odoo.plugins.modules import (
    pgbackrest_backup,
    pgbackrest_expire,
    pgbackrest_info,
    pgbackrest_stanza,
    pgbackrest_verify,
)

MODULES = [pgbackrest_backup, pgbackrest_expire, pgbackrest_info, pgbackrest_stanza, pgbackrest_verify]


def documented(text: str) -> dict[str, t.Any]:
    options = yaml.safe_load(text)["options"]
    return {
        name: {key: value for key, value in option.items() if key != "description"} for name, option in options.items()
    }


def test_fragment_documents_the_arguments() -> None:
    assert documented(ModuleDocFragment.DOCUMENTATION) == pgbackrest_arguments()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_module_documents_its_own(module: t.Any) -> None:
    own = {name: option for name, option in module.ARGUMENTS.items() if name not in pgbackrest_arguments()}
    assert documented(module.DOCUMENTATION) == own


def results() -> list[tuple[t.Any, dict[str, t.Any]]]:
    wish = service.wish_of("full", 1, {}, True)
    return [
        (pgbackrest_info, service.show(pgbackrest(Lab()))),
        (pgbackrest_backup, service.take(pgbackrest(Lab()), wish, 60, True)),
        (pgbackrest_verify, service.verify(pgbackrest(Lab()), 60)),
        (pgbackrest_stanza, service.stanza(pgbackrest(Lab()), "", False, 60)),
        (pgbackrest_expire, service.expire(pgbackrest(Lab(expire=BEGIN_OF_EXPIRE)), 30, 60, 0.0)),
    ]


@pytest.mark.parametrize(
    ("module", "result"), results(), ids=lambda one: getattr(one, "__name__", "").rpartition(".")[2]
)
def test_all_that_is_returned_is_documented(module: t.Any, result: dict[str, t.Any]) -> None:
    said = yaml.safe_load(module.RETURN)
    assert set(result) - {"changed"} <= set(said)
    assert set(said) - {"msg", "code", "refusal"} <= set(result)
    for name, value in result.items():
        parts = value if isinstance(value, list) else [value]
        if name in said and "contains" in said[name] and parts and parts[0]:
            assert set(parts[0]) == set(said[name]["contains"]), name
    assert not {"failed", "attempts", "started", "items", "keys", "values"} & set(result)


def test_every_refusal_is_documented() -> None:
    source = Path(plan.__file__).read_text() + Path(service.__file__).read_text()
    codes = set(re.findall(r'Refuse\(\s*"(\w+)"', source))
    assert len(codes) >= 8
    said = " ".join(module.RETURN for module in MODULES)
    assert {code for code in codes if f"V({code})" not in said} == set()


def test_every_problem_of_verify_is_documented() -> None:
    codes = set(re.findall(r'Problem\([\w.]+, "(\w+)"', Path(plan.__file__).read_text()))
    assert len(codes) >= 6
    assert {code for code in codes if f"V({code})" not in pgbackrest_verify.RETURN} == set()

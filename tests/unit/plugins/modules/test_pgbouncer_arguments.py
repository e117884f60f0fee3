# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared options and their documentation say the same, and so do the modules' own."""

from __future__ import annotations

import itertools
import typing as t

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.doc_fragments.pgbouncer import ModuleDocFragment
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer import plan
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.arguments import pgbouncer_arguments
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbouncer.plan import Wish
from ansible_collections.dedicated.odoo.plugins.modules import pgbouncer_pool, pgbouncer_pool_info


def specification(options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Documented options in the form of an argument specification."""
    return {
        name: {
            "options" if key == "suboptions" else key: specification(value) if key == "suboptions" else value
            for key, value in option.items()
            if key != "description"
        }
        for name, option in options.items()
    }


def documented(text: str) -> dict[str, t.Any]:
    return specification(yaml.safe_load(text)["options"])


def test_fragment_documents_the_arguments() -> None:
    assert documented(ModuleDocFragment.DOCUMENTATION) == pgbouncer_arguments()
    assert list(documented(ModuleDocFragment.DOCUMENTATION)) == list(pgbouncer_arguments())


@pytest.mark.parametrize("module", [pgbouncer_pool, pgbouncer_pool_info])
def test_module_documents_its_own(module: t.Any) -> None:
    own = {name: option for name, option in module.ARGUMENTS.items() if name not in pgbouncer_arguments()}
    assert documented(module.DOCUMENTATION) == own


def test_the_module_and_the_planner_have_the_same_default() -> None:
    assert pgbouncer_pool.ARGUMENTS["drain_timeout"]["default"] == Wish("odoo", "paused").drain_timeout


def test_every_refusal_is_documented() -> None:
    source = t.cast(str, plan.__spec__.loader.get_source(plan.__name__))  # type: ignore[union-attr]
    codes = {
        line.split('"')[1]
        for before, line in itertools.pairwise(source.splitlines())
        if before.strip().endswith("return Refuse(")
    }
    assert len(codes) >= 7
    said = yaml.safe_load(pgbouncer_pool.RETURN)["code"]["description"]
    assert {code for code in codes if f"V({code})" not in " ".join(said)} == set()

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Compose file as text: what goes in comes out, in YAML 1.1 as in 1.2."""

from __future__ import annotations

import random
import typing as t

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.module_utils._stack import compose

TRICKY = [
    "", " ", "no", "Off", "y", "NULL", "~", "-", "- a", "8069", "0o17", "0x1f", "12e4567", "1_000", "1:20", "a:b",
    "a: b", "a #b", "#x", "*x", "&x", "!x", "%x", "@x", "`x`", "{x}", "[x]", "x: ", "x:", ":x", "'x'", '"x"', "x\ny",
    "x\n", "\t", "ü", "\U0001f600", "\u007f", "\u0085", "\u2028", "\ufeff", "2026-01-01", "=", "<<", "/a/b:/c:ro",
    "127.0.0.1:80:80", "CMD-SHELL", "x@sha256:0", "${A:-b}", ".inf", ".5", "+1", "true", "null", "a,b", "? x", "|",
    ">", "nan", "Infinity",
]  # fmt: skip


@pytest.mark.parametrize("text", TRICKY)
def test_any_string_stays_the_string_it_is(text: str) -> None:
    project = {"key": text, text: "value", "list": [text, [text], {text: text}]}
    assert yaml.safe_load(compose.dump(project)) == project


@pytest.mark.parametrize("text", ["12e4567", "0o17", "1_000", "no", "8069", "1:20", "2026-01-01", "y", "null"])
def test_what_some_yaml_takes_for_something_else_is_quoted(text: str) -> None:
    assert compose.dump({"key": text}).endswith(f'key: "{text}"\n')


def test_numbers_and_booleans_stay_bare() -> None:
    text = compose.dump({"a": 1, "b": 0.5, "c": True, "d": None, "e": {}, "f": []})
    assert text == compose.HEADER + "a: 1\nb: 0.5\nc: true\nd: null\ne: {}\nf: []\n"


def test_random_structures_come_back() -> None:
    rng = random.Random(7)

    def grow(depth: int) -> t.Any:
        kind = rng.randrange(6 if depth else 3)
        if kind < 3:
            return rng.choice([rng.choice(TRICKY), rng.randrange(-9, 9999), True, False, None])
        if kind < 5:
            return {rng.choice(TRICKY): grow(depth - 1) for _ in range(rng.randrange(4))}
        return [grow(depth - 1) for _ in range(rng.randrange(4))]

    for _ in range(500):
        project = {"x": grow(5)}
        assert yaml.safe_load(compose.dump(project)) == project


def test_order_is_kept() -> None:
    assert list(yaml.safe_load(compose.dump({"z": 1, "a": {"y": 1, "b": 2}}))) == ["z", "a"]


def test_hashes_become_labels_and_the_definition_is_left_alone() -> None:
    definition = {
        "volumes": {"v": None},
        "services": {"a": {"labels": ["x=1", "flag"]}, "b": {"labels": {"x": "1"}}, "c": None},
    }
    project = compose.with_hashes(definition, "stack", {"a": "h1", "b": "h2"})
    assert project == {
        "name": "stack",
        "services": {
            "a": {"labels": {"x": "1", "flag": "", compose.HASH_LABEL: "h1"}},
            "b": {"labels": {"x": "1", compose.HASH_LABEL: "h2"}},
            "c": {},
        },
        "volumes": {"v": None},
    }
    assert definition["services"]["b"] == {"labels": {"x": "1"}}  # type: ignore[index]

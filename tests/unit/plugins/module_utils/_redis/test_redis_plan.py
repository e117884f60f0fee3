# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of Redis: which spellings are one value, and what may be shown."""

from __future__ import annotations

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._redis import plan


@pytest.mark.parametrize(
    ("name", "present", "wanted", "equal"),
    [
        ("maxmemory", "268435456", "256mb", True),
        ("maxmemory", "268435456", "256MB", True),
        ("maxmemory", "256000000", "256m", True),
        ("maxmemory", "256000000", "256mb", False),
        ("maxmemory", "0", "0", True),
        ("maxmemory", "0", "", False),
        ("appendonly", "yes", "yes", True),
        ("appendonly", "yes", "no", False),
        ("maxmemory-policy", "noeviction", "allkeys-lru", False),
        ("save", "", "", True),
        ("save", "3600 1 300 100", "3600 1 300 100", True),
        ("save", "3600 1 300 100", "", False),
        ("save", "", "3600 1", False),
        ("client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60", "replica 256mb 64mb 60", True),
        ("client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60", "normal 0 0 1", False),
        ("notify-keyspace-events", "AKE", "KEA", True),
        ("notify-keyspace-events", "AKE", "KE", False),
    ],
)
def test_same(name: str, present: str, wanted: str, equal: bool) -> None:
    assert plan.same(name, present, wanted) is equal


def test_values_from_yaml() -> None:
    assert [plan.text_of(value) for value in (True, False, 5, None, "x")] == ["yes", "no", "5", "", "x"]


def wanted(plain: dict[str, object], secret: dict[str, object] | None = None) -> tuple[plan.Setting, ...]:
    settings = plan.settings(plain, secret or {})
    assert not isinstance(settings, Refuse), settings
    return settings


def test_only_differences_are_planned_and_secrets_are_not_shown() -> None:
    present = {"maxmemory": "0", "appendonly": "yes", "masterauth": "old-canary"}
    answer = plan.plan_settings(
        present, wanted({"MaxMemory": "1kb", "appendonly": True}, {"masterauth": "new-canary"}), "it"
    )
    assert isinstance(answer, plan.Plan)
    assert [change.name for change in answer.changes] == ["masterauth", "maxmemory"]
    assert "canary" not in repr(answer)
    assert answer.before["maxmemory"] == "0"


def test_a_secret_is_compared_as_it_stands() -> None:
    answer = plan.plan_settings({"masterauth": "1024"}, wanted({}, {"masterauth": "1kb"}), "it")
    assert isinstance(answer, plan.Plan)
    assert answer.changes


@pytest.mark.parametrize(
    ("plain", "secret", "code"),
    [
        ({"x y": 1}, {}, "bad_setting"),
        ({"x\ny": 1}, {}, "bad_setting"),
        ({"masterauth": 1}, {"MASTERAUTH": 2}, "duplicate_setting"),
    ],
)
def test_settings_that_are_refused(plain: dict[str, object], secret: dict[str, object], code: str) -> None:
    refusal = plan.settings(plain, secret)
    assert isinstance(refusal, Refuse)
    assert refusal.code == code


def test_an_unknown_setting_is_refused() -> None:
    refusal = plan.plan_settings({}, wanted({"maxmemry": "1"}), "redis port 6379")
    assert isinstance(refusal, Refuse)
    assert "maxmemry" in refusal.message


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain", '"plain"'),
        ("", '""'),
        ('a "b" \\c', '"a \\"b\\" \\\\c"'),
        ("line\nnext", '"line\\x0anext"'),
        ("ü", '"\\xc3\\xbc"'),
        ("a'b", '"a\'b"'),
    ],
)
def test_an_argument_stays_one_argument(text: str, escaped: str) -> None:
    assert plan.argument(text) == escaped


def test_a_command_is_one_line() -> None:
    assert plan.command("CONFIG", "SET", "x", "a\nFLUSHALL") == '"CONFIG" "SET" "x" "a\\x0aFLUSHALL"'

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared options and their documentation say the same, and so do the modules' own."""

from __future__ import annotations

import typing as t

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.doc_fragments.redis import ModuleDocFragment
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.arguments import redis_arguments
from ansible_collections.dedicated.odoo.plugins.modules import (
    redis_failover,
    redis_sentinel_info,
    redis_sentinel_reset,
)


def specified(options: dict[str, t.Any]) -> dict[str, t.Any]:
    return {name: {key: value for key, value in option.items() if key != "no_log"} for name, option in options.items()}


def documented(text: str) -> dict[str, t.Any]:
    options = yaml.safe_load(text)["options"]
    return {
        name: {key: value for key, value in option.items() if key != "description"} for name, option in options.items()
    }


def test_fragment_documents_the_arguments() -> None:
    assert documented(ModuleDocFragment.DOCUMENTATION) == specified(redis_arguments())
    assert list(documented(ModuleDocFragment.DOCUMENTATION)) == list(redis_arguments())


@pytest.mark.parametrize("module", [redis_failover, redis_sentinel_info, redis_sentinel_reset])
def test_module_documents_its_own(module: t.Any) -> None:
    own = {name: option for name, option in module.ARGUMENTS.items() if name not in redis_arguments()}
    assert documented(module.DOCUMENTATION) == specified(own)


def test_the_password_is_never_logged() -> None:
    assert redis_arguments()["password"]["no_log"] is True

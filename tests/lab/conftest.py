# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the proofs on a running lab. Files run in the order of their names: what disturbs the lab comes last."""

from __future__ import annotations

import json
import os
import typing as t

import pytest
from labtools import Api, Browser, Host, Lab, lab_json, wait_until


@pytest.fixture(scope="session")
def lab() -> t.Iterator[Lab]:
    path = lab_json()
    if not path.exists():
        pytest.exit(f"no lab: {path} does not exist. `make lab` makes it; LAB names another one", returncode=2)
    lab = Lab(path.resolve(), json.loads(path.read_text()))
    undo = lab.resolve()
    # A proxy of this machine knows nothing of the lab.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"
    yield lab
    undo()


@pytest.fixture(autouse=True)
def ready(lab: Lab) -> None:
    """A test begins on a lab that answers, whatever the one before it did."""
    wait_until("the login page answers", lab.answers, 180)


@pytest.fixture(scope="session")
def node(lab: Lab) -> Host:
    return lab.hosts[0]


@pytest.fixture
def admin(lab: Lab) -> Browser:
    return Browser(lab).sign_in(lab.login, lab.password)


@pytest.fixture
def api(lab: Lab) -> Api:
    return Api(lab, lab.login, lab.password)

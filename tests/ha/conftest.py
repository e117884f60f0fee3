# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as the proofs on one host know it."""

from __future__ import annotations

import json
import os
import sys
import typing as t
from pathlib import Path

import pytest

# Appended: both folders have a conftest of their own.
sys.path.append(str(Path(__file__).resolve().parents[1] / "lab"))

from labtools import Lab, lab_json


@pytest.fixture(scope="session")
def lab() -> t.Iterator[Lab]:
    path = lab_json()
    assert path.exists(), f"no lab: {path} does not exist. `PROFILE=ha make lab-up` makes it"
    found = Lab(path.resolve(), json.loads(path.read_text()))
    assert found.data["profile"] == "ha", "this lab has one host: PROFILE=ha make lab, under another name (LAB=…)"
    undo = found.resolve()
    # A proxy of this machine knows nothing of the lab.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"
    yield found
    undo()

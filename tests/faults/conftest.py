# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab of three hosts that the experiments run on, and the table of all at the end."""

from __future__ import annotations

import json
import os
import sys
import typing as t
from pathlib import Path

import pytest

# Appended: both folders have a conftest of their own.
sys.path += [str(Path(__file__).resolve().parents[1] / "lab")]

import run
import verdict
from labtools import Lab


@pytest.fixture(scope="session")
def lab() -> t.Iterator[Lab]:
    try:
        found = run.load()
    except SystemExit as error:
        pytest.exit(str(error), returncode=2)
    undo = found.resolve()
    yield found
    undo()


@pytest.fixture(scope="session")
def results(lab: Lab) -> t.Iterator[list[dict[str, t.Any]]]:
    """What every run gave; the table and summary.json are made of it, also when some failed."""
    collected: list[dict[str, t.Any]] = []
    yield collected
    if collected:
        summary = verdict.summarise(collected)
        out = lab.build / "faults"
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        # Past pytest's capture: the table is for whoever reads the log, and most of all when all held.
        os.write(sys.__stdout__.fileno() if sys.__stdout__ else 1, f"\n\n{verdict.table(summary)}\n".encode())

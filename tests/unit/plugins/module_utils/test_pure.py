# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every plan.py imports, with what it imports, where there is no Ansible."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._sizing import plan

UTILS = Path(plan.__file__).parents[1]
PLANS = sorted(path.parent.name for path in UTILS.glob("_*/plan.py"))
SCRIPT = """
import importlib, sys
for name in ("ansible", "yaml", "docker", "psycopg2", "cryptography"):
    sys.modules[name] = None
importlib.import_module("ansible_collections.dedicated.odoo.plugins.module_utils." + sys.argv[1] + ".plan")
"""


def test_there_are_plans() -> None:
    assert len(PLANS) >= 4


@pytest.mark.parametrize("domain", PLANS)
def test_plan_imports_without_ansible(domain: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, domain],
        env={**os.environ, "PYTHONPATH": str(UTILS.parents[4])},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""

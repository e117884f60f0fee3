# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks of a switchover, rendered by Ansible itself, where the lab has no such state to show."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

TASKS = Path(__file__).resolve().parents[3] / "roles" / "postgres" / "tasks" / "switchover_plan.yml"


@pytest.mark.parametrize(("leader", "asked"), [("n2", "n2"), (None, "n1")])
def test_without_a_leader_the_refusal_is_reached(leader: str | None, asked: str) -> None:
    """Ansible renders delegate_to before it looks at the condition, and fails on an empty name."""
    [task] = [one for one in yaml.safe_load(TASKS.read_text()) if "delegate_to" in one]
    variables = {"__postgres_switchover_view": {"leader": leader}, "inventory_hostname": "n1"}
    templar = Templar(loader=DataLoader(), variables=variables)
    assert templar.template(trust_as_template(task["delegate_to"])) == asked

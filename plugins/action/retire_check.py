# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges on the controller whether a host may leave. Documentation: plugins/modules/retire_check.py."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible_collections.dedicated.odoo.plugins.action import inventory_check
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._inventory import plan as inventory
from ansible_collections.dedicated.odoo.plugins.module_utils._retire import plan

ARGUMENTS: dict[str, t.Any] = {
    "host": {"type": "str", "required": True},
    "reached": {"type": "list", "elements": "str", "required": True},
    "allow_even": {"type": "bool", "default": False},
    "clusters": {"type": "bool", "default": False},
    "answers": {"type": "bool", "default": True},
    "etcd": {"type": "dict"},
    "postgres": {"type": "dict"},
    "redis": {"type": "dict"},
    "known_variables": {"type": "list", "elements": "str", "default": []},
    "ignored_variables": {"type": "list", "elements": "str", "default": []},
    "provided_variables": {"type": "list", "elements": "str", "default": []},
}


def given(snapshot: inventory.Snapshot, hostvars: t.Any, layer: str, name: str) -> t.Any:
    """The first value that a layer's hosts have of a variable; None where it is left to the role."""
    for host in snapshot.members(layer):
        if name in hostvars.raw_get(host):
            return inventory_check.read_value(hostvars[host], name).value
    return None


class ActionModule(inventory_check.ActionModule):
    """Entry point. Never opens a connection."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Read the inventory and what the clusters showed, judge, and tell the order."""
        super(inventory_check.ActionModule, self).run(tmp, task_vars)
        __, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        variables = task_vars or {}
        snapshot = self._snapshot({**arguments, "layers": None, "etcd_group": "etcd"}, variables)
        wish = self._wish(arguments, snapshot, variables["hostvars"])
        refusals = plan.judge_inventory(snapshot, wish)
        layers = plan.layers_of(snapshot, wish.host)
        if refusals or not arguments["clusters"]:
            return self._answer(snapshot, layers, refusals, ())
        look = self._look(arguments, wish, variables["hostvars"])
        refusals = plan.judge_clusters(layers, wish, look)
        return self._answer(snapshot, layers, refusals, () if refusals else plan.steps(layers, wish, look))

    @staticmethod
    def _wish(arguments: Mapping[str, t.Any], snapshot: inventory.Snapshot, hostvars: t.Any) -> plan.Wish:
        """Who is to leave."""
        cron = given(snapshot, hostvars, "odoo", "odoo_cron_members")
        return plan.Wish(
            host=arguments["host"].strip(),
            reached=tuple(arguments["reached"]),
            allow_even=arguments["allow_even"],
            cron=tuple(map(str, cron)) if isinstance(cron, (list, tuple)) else None,
            vip=str(given(snapshot, hostvars, "edge", "edge_vip") or ""),
        )

    @staticmethod
    def _look(arguments: Mapping[str, t.Any], wish: plan.Wish, hostvars: t.Any) -> plan.Look:
        """What the clusters showed."""
        etcd, postgres, redis = (arguments[layer] for layer in ("etcd", "postgres", "redis"))
        return plan.Look(
            address=str(hostvars[wish.host]["dedicated_address"]),
            answers=arguments["answers"],
            etcd=plan.parse_etcd(etcd) if etcd else None,
            postgres=plan.parse_postgres(postgres) if postgres else None,
            redis=plan.parse_redis(redis) if redis else None,
        )

    @staticmethod
    def _answer(
        snapshot: inventory.Snapshot,
        layers: tuple[str, ...],
        refusals: tuple[Refuse, ...],
        steps: tuple[plan.Step, ...],
    ) -> dict[str, t.Any]:
        """The judgement as a result."""
        result: dict[str, t.Any] = {
            "changed": False,
            "layers": list(layers),
            "tier": inventory.tier(snapshot),
            "plan": [step.text for step in steps],
            "moves_redis_master": any(step.move for step in steps),
            "refusals": [refusal.as_result() for refusal in refusals],
        }
        if not refusals:
            return {**result, "msg": "The host may leave."}
        lines = [f"{refusal.code}: {refusal.message}" for refusal in refusals]
        if len(lines) > 1:
            lines = [f"There are {len(lines)} reasons against it.", *(f"- {line}" for line in lines)]
        return {**result, "failed": True, "code": refusals[0].code, "msg": "\n".join((*lines, "Nothing was changed."))}

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges the whole inventory on the controller. Documentation: plugins/modules/inventory_check.py."""

from __future__ import annotations

import dataclasses
import time
import typing as t
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.dedicated.odoo.plugins.module_utils._inventory import plan

try:
    # Where a value was written. Not a public interface, so a finding must do without it.
    from ansible._internal._datatag._tags import Origin
except ImportError:  # pragma: no cover
    Origin = None  # type: ignore[assignment, misc]

ROLES = Path(__file__).resolve().parents[2] / "roles"


def origin(value: t.Any) -> str:
    """The file and line of a value, when Ansible knows it."""
    tag = Origin.get_tag(value) if Origin is not None else None
    path = getattr(tag, "path", None)
    if not path:
        return ""
    line = getattr(tag, "line_num", None)
    return f"{path}:{line}" if line else str(path)


def read_options(roles: Path) -> tuple[plan.Option, ...]:
    """The options of every role of this collection."""
    options: list[plan.Option] = []
    for path in sorted(roles.glob("*/meta/argument_specs.y*ml")):
        options.extend(plan.parse_options(path.parents[1].name, yaml.safe_load(path.read_text(encoding="utf-8"))))
    return tuple(options)


def read_value(hostvars: Mapping[str, t.Any], name: str) -> plan.Value:
    """A templated value, or the reason why there is none."""
    try:
        value = hostvars[name]
        # A value that is decrypted lazily shows its failure only when it is used.
        return plan.Value(_plain(value))
    except AnsibleError as exc:
        # The message of the exception quotes expressions and places, not values.
        text = " ".join(str(exc).split())
        vault = any("vault" in type(each).__name__.lower() for each in _causes(exc)) or "decrypt" in text.lower()
        return plan.Value(failure="vault" if vault else "template", reason=text)


def _plain(value: t.Any) -> t.Any:
    """A value with all that is in it, each read."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(value[key]) for key in value}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _causes(exc: BaseException | None) -> Iterable[BaseException]:
    """An exception and those that caused it."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


class ActionModule(ActionBase):
    """Entry point. Never opens a connection."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Read the inventory, judge it, report everything at once."""
        super().run(tmp, task_vars)
        __, arguments = self.validate_argument_spec(
            argument_spec={
                "layers": {"type": "dict"},
                "etcd_group": {"type": "str", "default": "etcd"},
                "known_variables": {"type": "list", "elements": "str", "default": []},
                "ignored_variables": {"type": "list", "elements": "str", "default": []},
                "provided_variables": {"type": "list", "elements": "str", "default": []},
            }
        )
        snapshot = self._snapshot(arguments, task_vars or {})
        findings = plan.judge(snapshot)
        result: dict[str, t.Any] = {
            "changed": False,
            "findings": [finding.as_result() for finding in findings],
            "tier": plan.tier(snapshot),
            "warnings": [f"{finding.code}: {finding.message}" for finding in plan.warn(snapshot)],
        }
        if findings:
            return {**result, "failed": True, "msg": plan.message(findings)}
        return {**result, "msg": "The inventory is sound."}

    def _snapshot(self, arguments: Mapping[str, t.Any], task_vars: Mapping[str, t.Any]) -> plan.Snapshot:
        """The inventory as the planner takes it."""
        layers = arguments["layers"] or plan.LAYERS
        options = read_options(ROLES)
        snapshot = plan.Snapshot(
            groups={str(group): tuple(map(str, hosts)) for group, hosts in task_vars["groups"].items()},
            hosts={},
            options=options,
            layers={str(group): tuple(map(str, roles)) for group, roles in layers.items()},
            etcd_group=arguments["etcd_group"],
            known=tuple(arguments["known_variables"]),
            ignored=tuple(arguments["ignored_variables"]),
            provided=tuple(arguments["provided_variables"]),
            now=time.time(),
        )
        wanted = plan.names_to_read(options, snapshot.known)
        hosts = {host: self._host(host, task_vars["hostvars"], wanted) for host in snapshot.members(plan.ALL)}
        return dataclasses.replace(snapshot, hosts=hosts)

    @staticmethod
    def _host(name: str, hostvars: t.Any, wanted: Iterable[str]) -> plan.HostView:
        """A host's names without templating, and the values that are needed."""
        raw = hostvars.raw_get(name)
        present = [each for each in wanted if each in raw]
        templated = hostvars[name] if present else {}
        return plan.HostView(
            name=name,
            origins={str(key): origin(value) for key, value in raw.items()},
            values={each: read_value(templated, each) for each in present},
        )

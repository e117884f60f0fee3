# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action from its arguments to its result, and both halves through a real ansible-playbook."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import types
import typing as t

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.action.operation_lock import ActionModule
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._operation import io, plan
from ansible_collections.dedicated.odoo.plugins.modules import operation_lock

FIRST = plan.Run("ctl1", "a" * 16, "boot-1", plan.MACHINE_NAMESPACE, 100, 5000)
SECOND = dataclasses.replace(FIRST, pid=200, start=6000)
AWAY = dataclasses.replace(FIRST, controller="ctl2", machine="b" * 16, boot="boot-9")
REBOOTED = dataclasses.replace(FIRST, boot="boot-0")


class Machine(io.Machine):
    """A controller on which the processes are told."""

    def __init__(self) -> None:
        super().__init__()
        self.me = FIRST
        self.living: dict[int, bool | None] = {}
        self.asked: list[int] = []

    def run(self) -> plan.Run:
        return self.me

    def alive(self, pid: int, start: int) -> bool | None:
        self.asked.append(pid)
        return self.living.get(pid, False)

    @staticmethod
    def operator(environment: t.Mapping[str, str] = os.environ, uid: int | None = None) -> str:
        return "ann"


class Action(ActionModule):
    """The action with a host that is a directory; `visits` records what travelled."""

    def __init__(self, machine: Machine, place: io.Place, args: dict[str, t.Any], check: bool) -> None:
        task = types.SimpleNamespace(args=args, check_mode=check, diff=False, async_val=0, action="operation_lock")
        connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir=None))
        super().__init__(task, connection, None, None, None, None)
        self.machine = machine  # type: ignore[misc]
        self.place = place
        self.visits: list[dict[str, t.Any]] = []

    def _execute_module(self, **given: t.Any) -> dict[str, t.Any]:
        arguments = json.loads(json.dumps(given["module_args"]))
        self.visits.append(arguments)
        try:
            done = operation_lock.visit(self.place, arguments, self._task.check_mode)
        except DedicatedError as exc:
            return {"failed": True, "msg": exc.msg, **json.loads(json.dumps(exc.details))}
        return done.as_result()


class Site:
    """A controller and a host; `run` is who asks."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.machine = Machine()
        self.seconds = 1_800_000_000
        self.place = io.Place(str(root / "lock"), now=lambda: self.seconds)
        self.visits = 0

    def __call__(self, run: plan.Run = FIRST, check: bool = False, **args: t.Any) -> dict[str, t.Any]:
        self.machine.me = run
        self.machine.asked.clear()
        action = Action(self.machine, self.place, {"cluster": "acme", "operation": "patch", **args}, check)
        result = action.run(None, {})
        self.visits = len(action.visits)
        assert result["changed"] is False
        return result


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Site:
    return Site(tmp_path)


def test_all_tasks_of_a_run_are_one_holder(site: Site) -> None:
    first = site(reason="kernel")
    assert (first["held"], first["acquired"], first["lock"]["operator"]) == (True, True, "ann")
    again = site(operator="bob")
    assert (again["held"], again["acquired"], again["lock"]["operator"]) == (True, False, "bob")
    assert again["lock"]["reason"] == "kernel"
    assert (site.visits, site.machine.asked) == (1, [])
    done = site(state="released", operation="")
    assert (done["held"], done["released"]) == (False, True)
    assert not site(state="released")["released"]


def test_a_run_that_is_alive_is_left_alone(site: Site) -> None:
    site(SECOND, reason="kernel")
    for living in (True, None):
        site.machine.living[200] = living
        for args in ({}, {"state": "look"}, {"check": True}, {"break_lock": ["f" * 16]}):
            result = site(**args)
            assert result["failed"]
            assert result["code"] == ("break_lock_mismatch" if "break_lock" in args else "operation_running")
            assert (result["lock"]["id"], site.machine.asked, site.visits) == (SECOND.id, [200], 1)
            assert "patch by ann on ctl1 (reason: kernel)" in result["msg"]
        assert not site(state="released")["released"]
    assert site(SECOND)["held"]


@pytest.mark.parametrize(("holder", "asks"), [(SECOND, [200]), (REBOOTED, [])])
def test_a_run_of_this_controller_that_is_dead_is_taken_over(site: Site, holder: plan.Run, asks: list[int]) -> None:
    site(holder)
    looked = site(state="look")
    checked = site(check=True)
    assert (looked["held"], looked["acquired"], checked["acquired"]) == (False, False, True)
    assert looked["taken_over_from"] == checked["taken_over_from"]
    assert looked["lock"]["id"] == holder.id
    done = site(break_lock="f" * 16)
    assert (site.machine.asked, site.visits) == (asks, 2)
    assert (done["held"], done["taken_over_from"]["id"], done["taken_over_from"]["why"]) == (True, holder.id, "dead")
    assert (site()["taken_over_from"], site.visits) == ({}, 1)


def test_a_run_of_another_controller_is_never_called_dead(site: Site) -> None:
    site(AWAY, ttl=600)
    assert (site()["code"], site.machine.asked, site.visits) == ("operation_running", [], 1)
    assert site(break_lock=[f"{SECOND.id},{AWAY.id}"])["code"] == "bad_argument"
    done = site(break_lock=f"{SECOND.id},{AWAY.id}")
    assert done["taken_over_from"]["why"] == "broken"
    # It has given itself up on every host, and keeps what it has.
    assert site(break_lock=AWAY.id)["acquired"] is False


def test_an_expired_lock_is_taken_over_from_whomever(site: Site) -> None:
    site(AWAY, ttl=600)
    site.seconds += 599
    assert site()["code"] == "operation_running"
    site.seconds += 1
    assert site()["taken_over_from"]["why"] == "expired"
    assert site(AWAY)["code"] == "operation_running"


def test_another_clusters_lock_is_refused_even_if_its_run_is_dead(site: Site) -> None:
    site(SECOND, cluster="beta")
    site.seconds += 100_000
    assert (site()["code"], site.visits) == ("other_cluster", 1)
    assert site(break_lock=SECOND.id)["taken_over_from"]["cluster"] == "beta"


def test_what_is_no_lock_stays(site: Site) -> None:
    (site.root / "lock").mkdir()
    (site.root / "lock" / io.NAME).symlink_to("/nowhere")
    for args in ({}, {"break_lock": "f" * 16}, {"state": "look"}, {"check": True}):
        assert site(**args)["code"] == "bad_lock"
    result = site(state="released")
    assert not result.get("failed")
    assert "rm -r" in result["msg"]
    assert (site.root / "lock" / io.NAME).is_symlink()


def test_looking_and_check_mode_make_nothing(site: Site) -> None:
    assert site(check=True)["acquired"] is True
    assert site(state="look", operation="")["acquired"] is False
    assert site(check=True, state="released")["released"] is False
    assert list(site.root.iterdir()) == []


@pytest.mark.parametrize(
    "args",
    [
        {"operation": ""},
        {"reason": "a\nb"},
        {"ttl": 5},
        {"cluster": ""},
        {"break_lock": "latest"},
        {"request": {"run": None}},
        {"request": {"run": plan.as_data(SECOND), "dead": [FIRST.id]}},
    ],
)
def test_what_cannot_be_asked_for(site: Site, args: dict[str, t.Any]) -> None:
    result = site(**args)
    assert (result["failed"], result["code"]) == (True, "bad_argument")
    assert list(site.root.iterdir()) == []


def test_an_empty_variable_breaks_nothing(site: Site) -> None:
    assert site(break_lock="")["held"]


def test_a_controller_that_cannot_say_which_run_it_is(site: Site) -> None:
    class Blind(Machine):
        def run(self) -> plan.Run:
            raise DedicatedError("no /proc", code="no_identity")

    site.machine = Blind()
    assert (site()["code"], site.visits) == ("no_identity", 0)


def test_a_request_that_is_not_the_actions(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DedicatedError) as caught:
        operation_lock.visit(io.Place(str(tmp_path)), {"request": {"run": {}}, "state": "held"}, False)
    assert caught.value.details["code"] == "bad_argument"


# As Ansible runs it

LOCK: dict[str, t.Any] = {"dedicated.odoo.operation_lock": {"cluster": "acme", "operation": "{{ name }}"}}


@pytest.fixture
def playbooks(tmp_path: pathlib.Path) -> pathlib.Path:
    """A collection of these files only, whose lock lies in a directory of the test."""
    source = pathlib.Path(io.__file__).parents[3]
    target = tmp_path / "ansible_collections" / "dedicated" / "odoo"
    for name in ("action/operation_lock.py", "modules/operation_lock.py"):
        (target / "plugins" / name).parent.mkdir(parents=True)
        shutil.copy(source / "plugins" / name, target / "plugins" / name)
    for name in ("_common", "_operation"):
        shutil.copytree(source / "plugins/module_utils" / name, target / "plugins/module_utils" / name)
    file = target / "plugins/module_utils/_operation/io.py"
    text = file.read_text()
    assert text.count(f'"{io.DIRECTORY}"') == 1
    file.write_text(text.replace(io.DIRECTORY, str(tmp_path / "lock")))
    return tmp_path


def test_two_runs_of_ansible_playbook(playbooks: pathlib.Path) -> None:
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(playbooks),
        "ANSIBLE_LOCAL_TEMP": str(playbooks / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(playbooks / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
        "DEDICATED_OPERATOR": "ann",
    }
    environment.pop("PYTHONPATH", None)
    inner = [sys.executable, "-m", "ansible.cli.playbook", "-i", "hosts.yml", "inner.yml"]
    # Both hosts are this one, so that the second finds the lock that the first has just taken.
    hosts = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (playbooks / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"n1": hosts, "n2": hosts}}}))
    play = {"hosts": "all", "gather_facts": False, "any_errors_fatal": True}
    (playbooks / "inner.yml").write_text(
        yaml.safe_dump([{**play, "vars": {"name": "inner"}, "tasks": [LOCK]}]), encoding="utf-8"
    )
    command = {"ansible.builtin.command": {"argv": inner}, "run_once": True}
    outer = {**play, "vars": {"name": "outer"}}
    tasks: list[dict[str, t.Any]] = [
        {**command, "name": "A run that ends without a release"},
        {**LOCK, "register": "took", "throttle": 1},
        {**command, "register": "refused", "failed_when": "refused.rc == 0"},
    ]
    later: list[dict[str, t.Any]] = [
        {**LOCK, "register": "renewed"},
        {"ansible.builtin.copy": {"dest": str(playbooks / "out.json"), "content": "{{ shown | to_json }}"}},
    ]
    shown = {
        "took": ["{{ hostvars.n1.took }}", "{{ hostvars.n2.took }}"],
        "refused": "{{ refused.stdout ~ refused.stderr }}",
        "renewed": ["{{ hostvars.n1.renewed }}", "{{ hostvars.n2.renewed }}"],
    }
    later[1].update(run_once=True, vars={"shown": shown})
    (playbooks / "outer.yml").write_text(yaml.safe_dump([{**outer, "tasks": tasks}, {**outer, "tasks": later}]))
    done = subprocess.run(
        [*inner[:-1], "outer.yml"],
        cwd=playbooks,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads((playbooks / "out.json").read_text())
    first, second = shown["took"]
    assert (first["acquired"], first["taken_over_from"]["why"]) == (True, "dead")
    assert first["taken_over_from"]["operation"] == "inner"
    assert (second["acquired"], second["lock"]["id"]) == (False, first["lock"]["id"])
    assert first["lock"]["id"] != first["taken_over_from"]["id"]
    assert "operation_running" in shown["refused"]
    assert "outer by ann on" in shown["refused"]
    for renewed in shown["renewed"]:
        assert (renewed["acquired"], renewed["lock"]["id"]) == (False, first["lock"]["id"])
        assert renewed["changed"] is False

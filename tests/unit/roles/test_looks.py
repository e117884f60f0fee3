# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one look tells about a host, and that whatever differs there is still touched."""

from __future__ import annotations

import hashlib
import os
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).resolve().parents[3] / "roles"
# What the programs of a host say here: a unit by its name in the environment, neither enabled nor active otherwise.
FAKES = {
    "systemctl": 'case " $RUNNING " in *" $2 "*) [ "$1" = is-active ] && echo active || echo enabled;;\n'
    '*) [ "$1" = is-active ] && echo inactive || echo disabled; exit 3;; esac',
    "dpkg-query": r"printf 'package installed keepalived\npackage config-files exim4\n'",
    "ip": """echo '[{"ifindex":2,"ifname":"eth7","addr_info":[]}]'""",
}


@pytest.fixture(scope="module", autouse=True)
def lookups() -> None:
    init_plugin_loader()


def trusted(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {key: trusted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [trusted(one) for one in value]
    return trust_as_template(value) if isinstance(value, str) else value


def templar(role: str, **settings: t.Any) -> Templar:
    variables: dict[str, t.Any] = {"role_path": str(ROLES / role), "dedicated_cluster": "test"}
    for file in ("defaults", "vars"):
        variables |= trusted(yaml.safe_load((ROLES / role / file / "main.yml").read_text()))
    return Templar(loader=DataLoader(), variables=variables | trusted(settings))


def task(role: str, file: str, name: str) -> dict[str, t.Any]:
    tasks = yaml.safe_load((ROLES / role / "tasks" / f"{file}.yml").read_text())
    [found] = [one for one in tasks if one["name"] == name]
    return t.cast("dict[str, t.Any]", found)


def acts(role: str, found: dict[str, t.Any], **settings: t.Any) -> bool:
    """Whether Ansible would run the task."""
    conditions = found["when"] if isinstance(found["when"], list) else [found["when"]]
    engine = templar(role, **found.get("vars", {}), **settings)
    return all(engine.evaluate_conditional(trust_as_template(one)) for one in conditions)


def look(place: Path, role: str, *arguments: str, running: str = "", text: str = "") -> list[str]:
    for name, body in FAKES.items():
        (place / name).write_text(f"#!/bin/sh\n{body}\n")
        (place / name).chmod(0o755)
    script = text or (ROLES / role / "files" / "look.sh").read_text()
    environment = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}", "RUNNING": running}
    argv = ["/bin/sh", "-c", script, "look", *arguments]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def test_one_look_tells_packages_interface_programs_and_unit(tmp_path: Path) -> None:
    program = tmp_path / "alive"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o750)
    said = look(tmp_path, "vip", "10.0.0.1", str(program), str(tmp_path / "none"), running="keepalived.service")
    owner, group = program.owner(), program.group()
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    assert [line for line in said if line.startswith("program ")] == [f"program {digest} {owner} {group} 750 {program}"]
    assert said[-1] == "unit enabled active"
    engine = templar("vip", __vip_seen={"stdout_lines": said})
    assert engine.template(trust_as_template("{{ __vip_installed }}")) == ["keepalived"]
    assert engine.template(trust_as_template("{{ __vip_missing }}")) == []
    assert engine.template(trust_as_template("{{ __vip_interface }}")) == "eth7"


def test_a_unit_that_does_not_run_is_no_error_of_the_look(tmp_path: Path) -> None:
    assert look(tmp_path, "vip", "10.0.0.1")[-1] == "unit disabled inactive"


def test_an_address_that_cannot_be_asked_for_ends_the_look(tmp_path: Path) -> None:
    text = "ip() { return 1; }\n" + (ROLES / "vip" / "files" / "look.sh").read_text()
    with pytest.raises(subprocess.CalledProcessError):
        look(tmp_path, "vip", "10.0.0.1", text=text)


@pytest.mark.parametrize(
    ("owner", "mode", "content", "laid"),
    [
        ("root root", "755", None, False),
        ("root root", "775", None, True),
        ("nobody root", "755", None, True),
        ("root root", "755", b"#!/bin/sh\n", True),
    ],
)
def test_a_program_is_laid_down_where_it_differs(owner: str, mode: str, content: bytes | None, laid: bool) -> None:
    found = task("vip", "present", "Lay the programs down, those that keepalived asks among them")
    programs = yaml.safe_load((ROLES / "vip" / "vars" / "main.yml").read_text())["__vip_programs"]
    assert set(programs) == {path.name for path in (ROLES / "vip" / "files").glob("edge-*.sh")}
    for name in programs:
        path = f"/usr/local/sbin/dedicated-{name.removesuffix('.sh')}"
        digest = hashlib.sha256(content or (ROLES / "vip" / "files" / name).read_bytes()).hexdigest()
        item = {"key": name, "value": path}
        seen = {"stdout_lines": [f"program {digest} {owner} {mode} {path}"]}
        assert acts("vip", found, item=item, __vip_seen=seen) == laid
        assert acts("vip", found, item=item, __vip_seen={"stdout_lines": []})


@pytest.mark.parametrize(
    ("changed", "unit", "started"),
    [(False, "enabled active", False), (True, "enabled active", True), (False, "enabled inactive", True),
     (False, "disabled active", True), (False, "enabled failed", True)],
)  # fmt: skip
def test_keepalived_is_started_where_it_does_not_run(changed: bool, unit: str, started: bool) -> None:
    files = ["/etc/systemd/system/keepalived.service.d/dedicated.conf"] if changed else []
    seen = {"stdout_lines": ["package installed keepalived", f"unit {unit}"]}
    found = task("vip", "present", "Start keepalived")
    laid = {"changed_files": files}
    assert acts("vip", found, ansible_check_mode=False, __vip_seen=seen, __vip_laid=laid) == started


def test_the_look_finds_the_timers_that_were_laid_down(tmp_path: Path) -> None:
    units = tmp_path / "units"
    units.mkdir()
    text = (ROLES / "pgbackrest" / "files" / "look.sh").read_text().replace("/etc/systemd/system", str(units))
    assert look(tmp_path, "pgbackrest", text=text) == []
    for name in ("backup-full.timer", "backup-diff.timer", "backup-full.service", "etcd-defrag.timer"):
        (units / f"dedicated-{name}").touch()
    said = look(tmp_path, "pgbackrest", running="dedicated-backup-full.timer", text=text)
    assert said == ["dedicated-backup-diff.timer disabled inactive", "dedicated-backup-full.timer enabled active"]


@pytest.mark.parametrize(
    ("lines", "pending", "touched"),
    [
        (["dedicated-backup-full.timer enabled active"], [], False),
        (["dedicated-backup-full.timer enabled active"], ["check"], False),
        (["dedicated-backup-full.timer enabled active"], ["timers"], True),
        (["dedicated-backup-full.timer enabled inactive"], [], True),
        (["dedicated-backup-diff.timer enabled active"], [], True),
        ([], [], True),
    ],
)
def test_a_timer_is_touched_where_it_does_not_run_or_has_changed(
    lines: list[str], pending: list[str], touched: bool
) -> None:
    settings: dict[str, t.Any] = {
        "__pgbackrest_kind": "full",
        "__pgbackrest_laid": {"first_deploy": False, "pending_reloads": pending},
        "__pgbackrest_timers": {"stdout_lines": lines},
    }
    assert acts("pgbackrest", task("pgbackrest", "main", "Timers"), ansible_check_mode=False, **settings) == touched


def test_a_timer_that_the_policy_does_not_name_is_stopped() -> None:
    found = task("pgbackrest", "configure", "configure | What the policy has no calendar for is not taken any more")
    lines = ["dedicated-backup-full.timer enabled active", "dedicated-backup-incr.timer disabled inactive"]
    engine = templar("pgbackrest", __pgbackrest_timers={"stdout_lines": lines})
    names = engine.template(trust_as_template(found["loop"]))
    stopped = [
        name
        for name in names
        if acts("pgbackrest", found, __pgbackrest_timer=name, __pgbackrest_calendars={"full": "", "diff": ""})
    ]
    assert stopped == ["dedicated-backup-incr.timer"]


WELL = ["want web 1", "have web 1", "state running Up 2 hours (healthy)", "unit enabled active"]
HERE = {"changed_files": [], "pending_reloads": [], "first_deploy": False}


@pytest.mark.parametrize(
    ("here", "other", "laid"),
    [
        (WELL, WELL, {}),
        (["want web 2", *WELL[1:]], WELL, {}),
        (WELL, ["want web 2", *WELL[1:]], {}),
        ([*WELL[:2], "state running Up 2 hours (unhealthy)", WELL[3]], WELL, {}),
        ([*WELL[:2], "state exited Exited (0)", WELL[3]], WELL, {}),
        ([WELL[0], WELL[3]], WELL, {}),
        (WELL, [WELL[0], WELL[3]], {}),
        (WELL, WELL, {"pending_reloads": ["haproxy"]}),
        (WELL, [WELL[0], WELL[3]], {"pending_reloads": ["haproxy"]}),
        (WELL, WELL, {"changed_files": ["/etc/systemd/system/dedicated-web.service"]}),
        ([*WELL[:3], "unit disabled active"], WELL, {}),
        ([*WELL[:3], "unit enabled inactive"], WELL, {}),
        ([], [], {"first_deploy": True}),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_a_stack_is_settled_when_no_task_would_act(
    here: list[str], other: list[str], laid: dict[str, t.Any], check: bool
) -> None:
    """The condition over all of them never hides one that would act."""
    seen = {"stdout_lines": here, "skipped": False}
    if check and laid.get("first_deploy"):
        seen = {"skipped": True}
    settings: dict[str, t.Any] = {
        "inventory_hostname": "n1",
        "ansible_play_hosts": ["n1", "n2"],
        "ansible_check_mode": check,
        "hostvars": {"n1": {"__stack_seen": seen}, "n2": {"__stack_seen": {"stdout_lines": other}}},
        "stack_name": "web",
        "__stack_seen": seen,
        "__stack_laid": {**HERE, **laid},
    }
    tasks = yaml.safe_load((ROLES / "stack" / "tasks" / "settle.yml").read_text())
    acting = [one["name"] for one in tasks if acts("stack", one, **settings)]
    included = acts("stack", task("stack", "present", "Settle {{ stack_name }}"), **settings)
    assert included or not acting, acting
    assert not included or acting or check, "a stack that is settled was not seen as such"

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be proven unattended runs by timers of a controller: here a machine beside the site, with systemd.

In the stage scale: it needs a host to spare (SPARE=1 PROFILE=ha make lab-up), which it gives back as it was.
"""

from __future__ import annotations

import collections.abc
import json
import shlex
import subprocess
import typing as t
from pathlib import Path

import ansible
import pytest
from labtools import Host, Lab, wait_until
from operating import ROOT, refusals

HOME, ENVIRONMENT = "/home/keeper", "/opt/ansible"
SITE = "/opt/ansible/lib/python3.13/site-packages"
COLLECTIONS = "/opt/ansible/collections/ansible_collections"
# What Ansible needs of the machine that these tests run on: hosts of a lab install nothing.
LIBRARIES = ("ansible", "jinja2", "markupsafe", "yaml", "_yaml", "cryptography", "cffi", "_cffi_backend*", "pycparser",
             "resolvelib", "packaging", "jmespath", "*.dist-info")  # fmt: skip
OTHERS = ("community/docker", "community/general", "community/crypto", "community/postgresql", "community/library_*",
          "ansible/posix")  # fmt: skip
CONFIG = f"""\
[defaults]
collections_path = {ENVIRONMENT}/collections
callbacks_enabled = dedicated.odoo.evidence
"""


def send(host: Host, source: Path, there: str, names: t.Iterable[str], *words: str) -> None:
    found = [str(path.relative_to(source)) for name in names for path in sorted(source.glob(name))]
    line = f"tar -C {shlex.quote(str(source))} {shlex.join([*words, '-cf', '-', *found])}"
    line += f" | docker exec -i {host.container} sh -c {shlex.quote(f'mkdir -p {there} && tar -C {there} -xf -')}"
    subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True)


@pytest.fixture(scope="module")
def controller(lab: Lab) -> collections.abc.Iterator[Host]:
    """With Ansible, the collections, and what the operator of this lab has, under the same paths."""
    spare = lab.data.get("spare")
    if not spare:
        pytest.skip("no host to spare: SPARE=1 PROFILE=ha make lab-up")
    host = Host(spare[0]["name"], spare[0]["address"], (), spare[0]["container"])
    site = Path(ansible.__file__).parents[1]
    host.run(f"python3 -m venv --without-pip {ENVIRONMENT} && useradd --create-home keeper")
    send(host, site, SITE, LIBRARIES)
    send(host, site / "ansible_collections", COLLECTIONS, OTHERS)
    ours = (path.name for path in ROOT.iterdir() if path.name not in ("build", ".venv", ".git"))
    send(host, ROOT, f"{COLLECTIONS}/dedicated/odoo", ours)
    program = f"#!{ENVIRONMENT}/bin/python3\nfrom ansible.cli.playbook import main\nmain()\n"
    host.run(f"cat >{ENVIRONMENT}/bin/ansible-playbook", stdin=program)
    host.run(f"chmod 0755 {ENVIRONMENT}/bin/ansible-playbook")
    inventory = Path(lab.data["inventory"])
    send(host, lab.build, str(lab.build), ("pki", "ssh", "vault-password", "services-ca.pem"))
    send(host, inventory.parent, str(inventory.parent), (inventory.name,))
    host.run(f"cat >{HOME}/ansible.cfg", stdin=CONFIG)
    # On the way there, somebody else's directories.
    way = [str(path) for path in (lab.build, *lab.build.parents) if path != path.parent]
    host.run(f"chmod a+x {shlex.join(way)} && chown -R keeper {lab.build} {inventory.parent} {HOME}")
    yield host
    units = f"dedicated-{lab.variables['dedicated_cluster']}-*"
    gone = [ENVIRONMENT, str(lab.build), str(inventory.parent), "/etc/dedicated-schedule"]
    host.run(f"systemctl stop '{units}.timer' '{units}.service'; rm -f /etc/systemd/system/{units}", check=False)
    host.run(f"systemctl daemon-reload; userdel --remove keeper; rm -rf {shlex.join(gone)}", check=False)


def schedule(lab: Lab, host: Host, fails: bool = False, **settings: t.Any) -> str:
    """By the operator, who has rights on his machine."""
    line = [f"{ENVIRONMENT}/bin/ansible-playbook", "dedicated.odoo.schedule", "-i", lab.data["inventory"],
            "-e", json.dumps({"schedule_user": "keeper", **settings})]  # fmt: skip
    env = {"ANSIBLE_CONFIG": f"{HOME}/ansible.cfg", "PWD": HOME, "LC_ALL": "C.UTF-8",
           "ANSIBLE_VAULT_PASSWORD_FILE": str(lab.build / "vault-password")}  # fmt: skip
    done = host.run(f"cd {HOME} && {shlex.join(line)}", env, check=False, timeout=300)
    assert (done.returncode != 0) == fails, refusals(done.stdout) or (done.stdout + done.stderr)[-3000:]
    return done.stdout


def unit(lab: Lab, operation: str, kind: str) -> str:
    return f"dedicated-{lab.variables['dedicated_cluster']}-{operation.replace('_', '-')}.{kind}"


def result(host: Host, name: str) -> dict[str, str]:
    said = host.out(
        ["systemctl", "show", "--property", "ActiveState,Result,ExecMainStatus,ExecMainExitTimestamp", name]
    )
    return dict(line.split("=", 1) for line in said.splitlines())


def timers(host: Host) -> list[str]:
    return sorted(
        line.split()[0] for line in host.out("systemctl list-unit-files 'dedicated-*.timer' --no-legend").splitlines()
    )


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"schedule_operations": {"restore": {"calendar": "daily"}}}, "restore is not run by a timer"),
        ({"schedule_operations": {"status": {"calender": "daily"}}}, "status has no calendar"),
        ({"schedule_operations": {"status": {"calendar": "every day"}}}, "bad-calendar"),
        ({"schedule_user": "nobody-of-that-name"}, "no-user"),
        ({"schedule_vault_password_file": "/root/vault"}, "unreadable"),
    ],
)
def test_it_is_refused_before_anything_is_laid_down(
    lab: Lab, controller: Host, settings: dict[str, t.Any], code: str
) -> None:
    output = schedule(lab, controller, fails=True, **settings)
    assert code in " ".join(output.split()), output[-3000:]
    assert timers(controller) == []


def test_a_timer_elapses_and_the_operation_passes(lab: Lab, controller: Host) -> None:
    """The one that reads the repositories, of which nobody is told anything."""
    wanted = {"verify_backup": {"calendar": "*-*-* *:*:00"}, "rehearse_restore": {"calendar": "Sat *-*-1..7 05:00"}}
    schedule(lab, controller, schedule_operations=wanted)
    assert timers(controller) == sorted(unit(lab, name, "timer") for name in wanted)
    service = unit(lab, "verify_backup", "service")
    wait_until("it ran by itself", lambda: result(controller, service)["ExecMainExitTimestamp"] != "", 900, 5)
    log = controller.out(f"journalctl --unit {service} --no-pager --output cat | tail -n 60")
    assert (result(controller, service)["Result"], result(controller, service)["ExecMainStatus"]) == ("success", "0"), (
        log
    )
    assert "PLAY RECAP" in log


def test_the_ledger_is_restored_by_the_other_one(lab: Lab, controller: Host) -> None:
    """Begun by hand: a month is too long. No timer disturbs it."""
    controller.run(["systemctl", "stop", unit(lab, "verify_backup", "timer")])
    verify = unit(lab, "verify_backup", "service")
    wait_until(
        "the other one has ended", lambda: result(controller, verify)["ActiveState"] in ("inactive", "failed"), 900, 5
    )
    before = lab.leader().out("cat /var/lib/dedicated/restore-rehearsed.json 2>/dev/null || true")
    service = unit(lab, "rehearse_restore", "service")
    done = controller.run(["systemctl", "start", service], check=False, timeout=1200)
    assert done.returncode == 0, controller.out(f"journalctl --unit {service} --no-pager --output cat | tail -n 60")
    after = lab.leader().out("cat /var/lib/dedicated/restore-rehearsed.json")
    assert after != before
    assert json.loads(after)["reconciled"]


def test_again_changes_nothing_and_what_is_named_no_longer_is_gone(lab: Lab, controller: Host) -> None:
    wanted = {"rehearse_restore": {"calendar": "Sat *-*-1..7 05:00"}}
    schedule(lab, controller, schedule_operations=wanted)
    assert timers(controller) == [unit(lab, "rehearse_restore", "timer")]
    assert "changed=0" in schedule(lab, controller, schedule_operations=wanted)
    schedule(lab, controller, schedule_operations={})
    assert timers(controller) == []
    assert controller.out("ls /etc/systemd/system | grep ^dedicated- || true") == ""

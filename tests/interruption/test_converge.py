# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first converge of a blank lab, killed again and again until the last run is let through.

`tools/lab up` has made the lab that LAB names (default: lab), and no playbook has run on it. The chain of killed runs
costs little more than one converge, because each goes on where the one before was cut off, and it leaves a converged
lab to the tests after it. INTERRUPT_ALL=1 cuts at every task boundary there is instead of at a sample. The tests
belong together and run in this order; what each run printed lies in build/<lab>/interruption/.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

ROOT = Path(__file__).resolve().parents[2]
NAME = os.environ.get("LAB") or "lab"
BUILD = ROOT / "build" / NAME
LOGS = BUILD / "interruption"
ALL = bool(os.environ.get("INTERRUPT_ALL"))
RUN_LIMIT = 1200
# With every boundary: more than there are tasks.
MOST_TASKS = 400
# What a check may leave behind: caches of apt, which it refreshes to know what it would install.
FINGERPRINT = r"""
find /etc /opt /usr /var/lib /root /srv /boot -xdev \
  \( -path /var/lib/systemd -o -path /var/lib/apt -o -path /var/lib/docker \) -prune \
  -o -printf '%p %y %m %U:%G %s %T@ %l\n' 2>/dev/null
dpkg-query --show --showformat '${Package} ${Version} ${db:Status-Abbrev}\n'
systemctl list-unit-files --no-legend --plain
true
"""


class Cut(t.NamedTuple):
    """Where a run dies: at the start of the first task with this in its name, or so many seconds later."""

    name: str
    after: float = 0.0


# In the order of the run, since each goes further than the one before.
CUTS = (
    Cut("host : Install packages", after=8),  # apt goes on without us and holds its lock
    Cut("load | Open a new connection"),  # a ruleset is loaded, its dead man's switch runs, nothing is committed
    Cut("Bring up etcd"),  # the project is laid down, nothing runs
    Cut("Bring up postgres", after=3),  # containers are starting
    Cut("cluster | Application database"),  # the role is there, its database is not
    Cut("one-time step of odoo", after=15),  # Odoo is making its tables
    Cut("Bring up edge"),
)


class Run(t.NamedTuple):
    """How a run ended and what it said."""

    code: int
    output: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    def recap(self) -> dict[str, dict[str, int]]:
        """Host to its counts in the recap."""
        counts = re.findall(r"^(\S+)\s+: (ok=.*)$", self.output, re.MULTILINE)
        return {host: {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", line)} for host, line in counts}

    def changed_tasks(self) -> list[str]:
        """The tasks that changed something."""
        pieces = re.split(r"^TASK \[(.*?)\] \**$", self.output, flags=re.MULTILINE)
        return [name for name, text in zip(pieces[1::2], pieces[2::2]) if re.search(r"^changed: ", text, re.MULTILINE)]


numbers = itertools.count(1)


def converge(label: str, *arguments: str, **kill: object) -> Run:
    """`tools/lab converge` in a process group of its own, which the callback may kill."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{next(numbers):03}-{re.sub(r'[^a-z0-9]+', '-', label.lower()).strip('-')}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KILL_")} | {
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks,kill_at",
        "ANSIBLE_NOCOLOR": "1",
        "LAB": NAME,
        **{name.upper(): str(value) for name, value in kill.items()},
    }
    command = [sys.executable, str(ROOT / "tools" / "lab"), "converge", *arguments]
    # Into a file: the SSH connections that outlive the run would keep a pipe open.
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            start_new_session=True, timeout=RUN_LIMIT, check=False,
        )  # fmt: skip
    output = log.read_text(encoding="utf-8")
    told = [name for name, value in secrets().items() if value in output]
    assert not told, f"secrets in the output of {log}"
    return Run(done.returncode, output)


@functools.cache
def secrets() -> dict[str, str]:
    """The lab's secrets; no run may print one, not even as a difference."""
    vault = VaultLib([("default", VaultSecret((BUILD / "vault-password").read_bytes().strip()))])
    path = ROOT / "inventories" / NAME / "group_vars" / "all" / "secrets.yml"
    return t.cast("dict[str, str]", yaml.safe_load(vault.decrypt(path.read_bytes())))


def containers() -> list[str]:
    """The hosts' containers."""
    return [host["container"] for host in json.loads((BUILD / "lab.json").read_text())["hosts"]]


def state() -> set[str]:
    """One line for everything on the hosts that a converge would change."""
    found: set[str] = set()
    for name in containers():
        out = subprocess.check_output(["docker", "exec", name, "sh", "-c", FINGERPRINT], text=True)
        found |= {f"{name} {line}" for line in out.splitlines()}
    return found


@pytest.fixture(scope="module", autouse=True)
def blank() -> None:
    """The lab is up, and nothing has run on it."""
    shutil.rmtree(LOGS, ignore_errors=True)
    for name in containers():
        probe = subprocess.run(["docker", "exec", name, "test", "-e", "/etc/dedicated"], check=False)
        assert probe.returncode == 1, f"{name} is not blank: `make lab-down lab-up LAB={NAME}` makes it anew"


def test_check_mode_before_the_first_converge() -> None:
    before = state()
    run = converge("check before", "--check", "--diff")
    assert run.code == 0, run.output[-4000:]
    assert all(counts["changed"] for counts in run.recap().values()), "a blank host would be changed"
    after = state()
    assert before == after, sorted(before ^ after)


@pytest.mark.skipif(ALL, reason="every boundary is cut instead")
@pytest.mark.parametrize("cut", CUTS, ids=[cut.name.replace(" ", "-") for cut in CUTS])
def test_killed_run(cut: Cut) -> None:
    run = converge(cut.name, kill_at_name=cut.name, kill_after=cut.after)
    assert run.killed, f"the run got past {cut.name!r}:\n{run.output[-4000:]}"
    assert "fatal:" not in run.output, run.output[-4000:]


@pytest.mark.skipif(not ALL, reason="INTERRUPT_ALL=1 cuts at every task boundary")
def test_killed_at_every_boundary() -> None:
    for number in range(1, MOST_TASKS):
        run = converge(f"task {number}", kill_at_task=number)
        if not run.killed:
            assert run.code == 0, run.output[-4000:]
            return
    pytest.fail(f"more than {MOST_TASKS} tasks")


def test_last_run_converges() -> None:
    run = converge("converge")
    assert run.code == 0, run.output[-4000:]


def test_run_again_changes_nothing() -> None:
    run = converge("again")
    assert run.code == 0, run.output[-4000:]
    assert run.changed_tasks() == []
    assert {counts["changed"] for counts in run.recap().values()} == {0}


def test_check_mode_after_the_converge() -> None:
    run = converge("check after", "--check", "--diff")
    assert run.code == 0, run.output[-4000:]
    assert run.changed_tasks() == []
    assert {counts["changed"] for counts in run.recap().values()} == {0}

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks run on the lab as an operator runs them, what they said, and users who work meanwhile."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

# Appended: that folder has a conftest of its own.
sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))

from labtools import Browser, Host, Lab, wait_until
from verdict import OK, Request
from web import Bookkeeper, Web, through

ROOT = Path(__file__).resolve().parents[2]
LOCK = "/var/lib/dedicated/lock/operation.json"
QUIET = 10  # requests in front of an operation, and after it


def changes(output: str) -> list[str]:
    """Which tasks changed which host: short enough for a log that keeps only a part."""
    task, found = "", []
    for line in output.splitlines():
        if line.strip().startswith("TASK ["):
            task = line.strip()
        elif line.strip().startswith("changed: ["):
            found.append(f"{line.strip().split(']')[0]}] {task}")
    return found


def refusals(output: str) -> str:
    """What Ansible called an error, and nothing of the results around it."""
    lines = [line.strip() for line in output.splitlines()]
    return "\n".join(line[:1500] for line in lines if line.startswith(("[ERROR]", "msg:", "lab:")))[-6000:]


def unchanged(lab: Lab, recap: dict[str, dict[str, int]]) -> bool:
    return {host.name: recap[host.name]["changed"] for host in lab.hosts} == {host.name: 0 for host in lab.hosts}


def begin(lab: Lab, playbook: str, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """One of our playbooks, as an operator runs it, in a process group of its own."""
    argv = [sys.executable, str(ROOT / "tools" / "lab"), "run", playbook, *arguments]
    env = {**os.environ, "LAB": lab.name, "DEDICATED_EVIDENCE_DIR": str(lab.build / "evidence"), **env}
    log = (lab.build / f"{playbook}.log").open("w")
    return subprocess.Popen(argv, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def end(lab: Lab, playbook: str, process: subprocess.Popen[str], seconds: float = 600) -> str:
    process.wait(seconds)
    return (lab.build / f"{playbook}.log").read_text()


def operate(lab: Lab, playbook: str, *arguments: str, fails: bool = False, **env: str) -> str:
    process = begin(lab, playbook, *arguments, **env)
    output = end(lab, playbook, process)
    assert (process.returncode != 0) == fails, refusals(output) or output[-3000:]
    return output


def slay(process: subprocess.Popen[str]) -> None:
    """The run and all that it has started, by kill -9."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def recap(output: str) -> dict[str, dict[str, int]]:
    found = re.findall(r"^(\S+)\s+: (ok=.*)$", output, re.MULTILINE)
    return {host: {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", line)} for host, line in found}


def now(host: Host) -> str:
    """PostgreSQL's clock, as a target of a restore.

    A second passes after it: what the archive holds is known by the second, and no later moment is promised.
    """
    moment = "to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'"
    return host.sql(f"SELECT {moment}, pg_sleep(1)")[0][0]


def archive(leader: Host) -> None:
    """What was committed until now is in the repository.

    One byte back: with nothing written since the last switch, PostgreSQL answers with the beginning of a segment that
    nobody has filled, whose archiving would be waited for in vain.
    """
    segment = leader.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")[0][0]
    there = f"SELECT coalesce(last_archived_wal >= '{segment}', false) FROM pg_stat_archiver"
    wait_until(f"{segment} is archived", lambda: leader.sql(there) == [["t"]], 120)


@contextlib.contextmanager
def users(lab: Lab) -> t.Iterator[Web]:
    """Requests at a constant rate and a bookkeeper, by the virtual address. Nobody notices anything, or it fails."""
    web = Web(lab, {"front": lab.front}, Browser(lab).sign_in(lab.login, lab.password))
    bookkeeper = Bookkeeper(lab, through(Browser(lab), lab.front).sign_in(lab.login, lab.password))
    web.start()
    bookkeeper.start()
    try:
        wait_until("they work", lambda: len(web.asked("front")) >= QUIET, 60)
        yield web
        after = len(web.asked("front"))
        wait_until("they work on", lambda: len(web.asked("front")) >= after + QUIET, 60)
    finally:
        bookkeeper.finish()
        web.stop()
    asked = web.asked("front")
    print(f"{len(asked)} requests, the longest took {max(one.took for one in asked):.1f} s")  # noqa: T201
    bad: list[Request] = [one for one in asked if one.fate != OK]
    assert not bad, [f"{one.kind} {one.fate} {one.detail[:200]}" for one in bad[:5]]
    assert not bookkeeper.doubtful, bookkeeper.errors[:5]
    assert bookkeeper.posted
    wrong = bookkeeper.audit(lambda query: lab.leader().sql(query, lab.database))
    assert not wrong, wrong

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two repositories: each has backups and WAL, and with one away the other goes on and is enough for a restore.

On a lab with REPOSITORIES=2, whose second repository is a store of its own.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import typing as t
from pathlib import Path

import pytest
from labtools import Host, Lab, run, unique, wait_until

# Appended: that folder has a conftest of its own.
sys.path.append(str(Path(__file__).resolve().parents[1] / "ha"))

from operating import archive, now, operate, refusals
from test_87_archive import FAILING

SCRIPT = "/opt/dedicated/pgbackrest/bin/backup"


@pytest.fixture(autouse=True)
def two(lab: Lab) -> None:
    if len(lab.repositories) < 2:
        pytest.skip("this lab has one repository: REPOSITORIES=2 make lab, under another name (LAB=…)")


def holds(lab: Lab, number: int) -> dict[str, t.Any]:
    """What one repository has of the stanza, asked by itself."""
    argv = ["pgbackrest", f"--stanza={lab.variables['dedicated_cluster']}", f"--repo={number}", "--output=json", "info"]
    [found] = json.loads(lab.leader().inside("postgres", argv).stdout)
    return t.cast("dict[str, t.Any]", found)


def labels(lab: Lab, number: int) -> list[str]:
    return [one["label"] for one in holds(lab, number)["backup"]]


def newest(lab: Lab, number: int) -> str:
    return max(str(one["max"]) for one in holds(lab, number)["archive"])


def closed(leader: Host) -> str:
    return leader.sql("SELECT pg_walfile_name(pg_switch_wal() - 1)")[0][0]


@contextlib.contextmanager
def first_away(lab: Lab) -> t.Iterator[None]:
    store = f"{lab.name}-object-store"
    run(["docker", "stop", "--time", "1", store])
    try:
        yield
    finally:
        run(["docker", "start", store])


def findings(lab: Lab, fails: bool) -> dict[str, str]:
    path = lab.build / "repositories.json"
    operate(lab, "status", "-e", f"status_file={path}", fails=fails)
    return {one["code"]: one["cause"] for one in json.loads(path.read_text())["findings"]}


def test_both_have_backups_and_wal_and_keys_of_their_own(lab: Lab) -> None:
    archive(lab.leader())
    for number in (1, 2):
        assert holds(lab, number)["status"]["code"] == 0
        assert [one for one in holds(lab, number)["backup"] if one["type"] == "full"]
    assert newest(lab, 1) == newest(lab, 2)
    output = operate(lab, "backup", "-e", "type=incr", "-e", "reason=test")
    assert "backup-failed" not in output
    operate(lab, "verify_backup", "-e", "reason=test", "-e", "dedicated_rpo_seconds=300")
    operate(lab, "retention_report")
    assert len({lab.secrets[f"backup_{number}_cipher_pass"] for number in (1, 2)}) == 2


def test_the_script_takes_one_backup_into_each(lab: Lab) -> None:
    before = {number: len(labels(lab, number)) for number in (1, 2)}
    lab.leader().run([SCRIPT, "diff"], timeout=300)
    assert {number: len(labels(lab, number)) for number in (1, 2)} == {one: count + 1 for one, count in before.items()}
    lab.leader().run([SCRIPT, "incr", "2"], timeout=300)
    assert (len(labels(lab, 1)), len(labels(lab, 2))) == (before[1] + 1, before[2] + 2)
    assert lab.leader().run([SCRIPT, "everything"], check=False).returncode == 64


def test_one_away_the_other_goes_on_and_is_enough(lab: Lab) -> None:
    leader, word = lab.leader(), unique("second")
    archive(leader)
    leader.sql("CREATE TABLE IF NOT EXISTS dedicated_second (word text)", lab.database)
    with first_away(lab):
        leader.sql(f"INSERT INTO dedicated_second VALUES ('{word}')", lab.database)
        moment = now(leader)
        leader.sql(f"INSERT INTO dedicated_second VALUES ('{word} later')", lab.database)
        segment, kept = closed(leader), labels(lab, 2)
        wait_until(f"{segment} is in repository 2", lambda: newest(lab, 2) >= segment, 120)
        wait_until("PostgreSQL knows that one lacks it", lambda: leader.sql(FAILING) == [["t"]], 180)

        found = findings(lab, fails=True)
        assert found["backup-repository-1-unreachable"] == ""
        assert found["archive-failing"] == "backup-repository-1-unreachable"
        assert not [code for code in found if code.startswith("backup-repository-2")]

        said = refusals(operate(lab, "backup", "-e", "type=incr", "-e", "reason=test", fails=True))
        assert "backup-failed: repository 1 store_unreachable" in said, said
        assert "repository 2" not in said.split("backup-failed", 1)[1], said
        done = leader.run([SCRIPT, "incr"], check=False, timeout=600)
        assert done.returncode == 1
        assert "no incr backup into repository 1;" in done.stderr
        assert len(labels(lab, 2)) == len(kept) + 2

        # Without a word on where from: the first that answers and reaches it.
        words = ["-e", "place=second", "-e", json.dumps({"target": moment}), "-e", "reason=test"]
        operate(lab, "restore_aside", *words)
        query = "SELECT word FROM dedicated_second"
        argv = ["psql", "-h", "/run/postgresql", "-U", "postgres", "-d", lab.database, "-XAtc", query]
        rows = lab.of("postgres")[-1].inside("restore-second", argv).stdout.split("\n")
        assert word in rows
        assert f"{word} later" not in rows
        operate(lab, "restore_aside", *words, "-e", "state=absent")
        output = operate(lab, "restore_aside", *words, "-e", "repository=1", fails=True)
        assert re.search(r"code: store_unreachable\b", output), refusals(output)
    archive(leader)
    wait_until("the first has caught up", lambda: newest(lab, 1) >= segment, 120)
    operate(lab, "verify_backup", "-e", "reason=test", "-e", "dedicated_rpo_seconds=300")
    assert not [code for code in findings(lab, fails=False) if code.startswith("backup-repository")]


def test_a_restore_from_the_second_by_its_number(lab: Lab) -> None:
    words = ["-e", "place=by-number", "-e", "repository=2", "-e", "reason=test"]
    output = operate(lab, "restore_aside", *words)
    assert '"repository": 2' in output or "repository: 2" in output
    operate(lab, "restore_aside", *words, "-e", "state=absent")

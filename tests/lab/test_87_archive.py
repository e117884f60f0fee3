# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The object store is away, or full: the database works on, it is said, and no WAL is missing afterwards."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import typing as t
from pathlib import Path

import pytest
from labtools import Lab, run, wait_until

# Appended: that folder has a conftest of its own.
sys.path.append(str(Path(__file__).resolve().parents[1] / "ha"))

from operating import archive, operate

FAILING = "SELECT coalesce(last_failed_time > last_archived_time, last_failed_time IS NOT NULL) FROM pg_stat_archiver"


def shell(lab: Lab, *lines: str) -> str:
    """The object store's own administration."""
    return run(["docker", "exec", "-i", f"{lab.name}-object-store", "weed", "shell"], stdin="\n".join(lines)).stdout


@contextlib.contextmanager
def away(lab: Lab) -> t.Iterator[None]:
    store = f"{lab.name}-object-store"
    run(["docker", "stop", "--time", "1", store])
    try:
        yield
    finally:
        run(["docker", "start", store])


@contextlib.contextmanager
def full(lab: Lab) -> t.Iterator[None]:
    bucket = lab.bucket
    shell(lab, f"s3.bucket.quota -name={bucket} -op=set -sizeMB=1", "s3.bucket.quota.enforce -apply")
    try:
        yield
    finally:
        shell(lab, f"s3.bucket.quota -name={bucket} -op=remove", "s3.bucket.quota.enforce -apply")


class Writing(threading.Thread):
    """Rows, one commit each, all the time."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(daemon=True)
        self.lab, self.leader = lab, lab.leader()
        self.leader.sql("CREATE TABLE IF NOT EXISTS dedicated_outage (at timestamptz)", lab.database)
        self.done = threading.Event()
        self.problem: Exception | None = None
        self.written = 0

    def run(self) -> None:
        try:
            while not self.done.wait(0.1):
                self.leader.sql("INSERT INTO dedicated_outage VALUES (clock_timestamp())", self.lab.database)
                self.written += 1
        except Exception as exc:
            self.problem = exc

    def finish(self) -> None:
        self.done.set()
        self.join(60)


@pytest.mark.parametrize("trouble", [away, full])
def test_the_store_takes_nothing(lab: Lab, trouble: t.Callable[[Lab], t.ContextManager[None]]) -> None:
    leader, writing = lab.leader(), Writing(lab)
    writing.start()
    try:
        with trouble(lab):
            began = writing.written
            leader.sql("SELECT pg_switch_wal()")
            # pgBackRest gives up after archive-timeout and is called again; nothing is dropped.
            wait_until("archiving fails, and PostgreSQL knows", lambda: leader.sql(FAILING) == [["t"]], 180)
            shown = operate(lab, "status", "-e", f"status_file={lab.build / 'outage.json'}", fails=True)
            assert "archive-failing" in shown
            codes = [one["code"] for one in json.loads((lab.build / "outage.json").read_text())["findings"]]
            assert "archive-failing" in codes, codes
            during = writing.written - began
        assert during > 20, "the database did not work on"
        archive(leader)
    finally:
        writing.finish()
    assert writing.problem is None
    # Fails when a segment is missing.
    operate(lab, "verify_backup", "-e", "reason=test")

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A backup's file is damaged, a WAL segment is gone, a backup is killed: it is named, and nothing wrong is restored.

What it damages stays damaged: the bucket keeps what was written. Each case begins with a backup of its own.
"""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

from labtools import Host, Lab, unique, wait_until

# Appended: that folder has a conftest of its own.
sys.path.append(str(Path(__file__).resolve().parents[1] / "ha"))

from operating import archive, now, operate, refusals
from test_97_hostile_deletion import PREFIX, store

__all__ = ["store"]
PGBACKREST = "[p]gbackrest .*--type=full"


def stanza(lab: Lab) -> str:
    return str(lab.variables["dedicated_cluster"])


def backups(lab: Lab) -> list[dict[str, t.Any]]:
    argv = ["pgbackrest", f"--stanza={stanza(lab)}", "--output=json", "info"]
    [found] = json.loads(lab.leader().inside("postgres", argv).stdout)
    return list(found["backup"])


def keys(lab: Lab, store: t.Any, below: str) -> dict[str, int]:
    bucket = lab.bucket
    pages = store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PREFIX + below)
    return {one["Key"]: one["Size"] for page in pages for one in page.get("Contents", [])}


def killed(host: Host) -> bool:
    return host.run(f"pkill -9 -f '{PGBACKREST}'", check=False).returncode == 0


def test_a_backup_that_is_killed_is_made_the_next_time(lab: Lab) -> None:
    """Neither a half backup counts, nor does what it left hinder the next."""
    leader, before = lab.leader(), {one["label"] for one in backups(lab)}
    leader.run("systemctl start --no-block dedicated-backup-full.service")
    wait_until("it copies, and dies", lambda: killed(leader), 60, 0.05)
    state = "systemctl show --property=ActiveState --value dedicated-backup-full.service"
    wait_until("systemd knows", lambda: leader.out(state) == "failed", 30)
    assert {one["label"] for one in backups(lab)} == before
    operate(lab, "backup", "-e", "type=full", "-e", "reason=test")
    [made] = [one for one in backups(lab) if one["label"] not in before]
    assert made["type"] == "full"
    assert not made["error"]
    leader.run("systemctl reset-failed dedicated-backup-full.service")


def test_a_damaged_file_is_named_and_not_restored(lab: Lab, store: t.Any) -> None:
    newest = backups(lab)[-1]["label"]
    files = {
        key: size for key, size in keys(lab, store, f"backup/{stanza(lab)}/{newest}/").items() if "/bundle/" in key
    }
    key = max(files, key=lambda name: files[name])
    bucket = lab.bucket
    whole = store.get_object(Bucket=bucket, Key=key)["Body"].read()
    half = len(whole) // 2
    store.put_object(Bucket=bucket, Key=key, Body=whole[:half] + bytes(64) + whole[half + 64 :])

    try:
        said = refusals(operate(lab, "verify_backup", "-e", "reason=test", fails=True))
        assert f"{newest} backup_invalid" in said, said
        words = ["-e", "place=damaged", "-e", f"backup={newest}", "-e", "reason=test"]
        said = refusals(operate(lab, "restore_aside", *words, fails=True))
        assert "checksum" in said or "corrupt" in said.lower() or "unable to" in said, said
        operate(lab, "restore_aside", "-e", "place=damaged", "-e", "state=absent", "-e", "reason=test")
        assert lab.answers()
    finally:
        store.put_object(Bucket=bucket, Key=key, Body=whole)


def test_a_missing_segment_is_named_and_bounds_what_is_promised(lab: Lab, store: t.Any) -> None:
    leader, word = lab.leader(), unique("gap")
    archive(leader)
    gone = leader.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")[0][0]
    leader.sql("CREATE TABLE IF NOT EXISTS dedicated_gap (word text)", lab.database)
    leader.sql(f"INSERT INTO dedicated_gap VALUES ('{word}')", lab.database)
    archive(leader)
    leader.sql(f"INSERT INTO dedicated_gap VALUES ('{word} later')", lab.database)
    after = now(leader)
    leader.sql(f"INSERT INTO dedicated_gap VALUES ('{word} last')", lab.database)
    archive(leader)
    found = [key for key in keys(lab, store, f"archive/{stanza(lab)}/") if f"/{gone}-" in key]
    assert len(found) == 1, found
    bucket = lab.bucket
    whole = store.get_object(Bucket=bucket, Key=found[0])["Body"].read()
    store.delete_object(Bucket=bucket, Key=found[0])
    try:
        words = ["-e", "place=gap", "-e", json.dumps({"target": after}), "-e", "reason=test"]
        said = refusals(operate(lab, "restore_aside", *words, fails=True))
        assert "is not in the archive, later ones are" in said, said
        assert "can be reached" in said, said
    finally:
        store.put_object(Bucket=bucket, Key=found[0], Body=whole)

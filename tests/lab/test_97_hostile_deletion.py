# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody with the writer's credentials deletes every backup. The last committed row comes back all the same."""

from __future__ import annotations

import datetime
import json
import sys
import time
import typing as t
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from labtools import Lab, unique

# Appended: that folder has a conftest of its own.
sys.path.append(str(Path(__file__).resolve().parents[1] / "ha"))

from operating import archive, operate, refusals

PREFIX = "pgbackrest/1/"


@pytest.fixture
def store(lab: Lab) -> t.Any:
    return boto3.client(
        "s3",
        endpoint_url=f"https://{lab.service_address(5)}:8333",
        verify=str(lab.build / "services-ca.pem"),
        aws_access_key_id=lab.secrets["backup_1_s3_key"],
        aws_secret_access_key=lab.secrets["backup_1_s3_key_secret"],
        region_name="lab",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}, proxies={}),
    )


def test_every_backup_is_deleted_and_nothing_is_lost(lab: Lab, store: t.Any) -> None:
    leader, word = lab.leader(), unique("last")
    leader.sql("CREATE TABLE IF NOT EXISTS dedicated_last (word text)", lab.database)
    leader.sql(f"INSERT INTO dedicated_last VALUES ('{word}')", lab.database)
    archive(leader)
    # pgBackRest takes whole seconds.
    time.sleep(1.1)
    before = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    time.sleep(1.1)

    bucket = lab.bucket
    pages = store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PREFIX)
    keys = [one["Key"] for page in pages for one in page.get("Contents", [])]
    assert keys
    for key in keys:
        store.delete_object(Bucket=bucket, Key=key)
    assert "Contents" not in store.list_objects_v2(Bucket=bucket, Prefix=PREFIX + "backup/")

    output = operate(lab, "restore_aside", "-e", "place=clean", "-e", "reason=test", fails=True)
    assert "give repository_time" in refusals(output), output[-2000:]
    words = ["-e", "place=clean", "-e", json.dumps({"repository_time": before}), "-e", "reason=test"]
    operate(lab, "restore_aside", *words)
    host = lab.of("postgres")[-1]
    query = "SELECT word FROM dedicated_last"
    argv = ["psql", "-h", "/run/postgresql", "-U", "postgres", "-d", lab.database, "-XAtc", query]
    assert word in host.inside("restore-clean", argv).stdout.split("\n")
    operate(lab, "restore_aside", *words, "-e", "state=absent")

    # What the role does for a repository without a stanza: it makes one, and takes the first backup.
    operate(lab, "site", "--tags", "pgbackrest")
    stanza = f"--stanza={lab.variables['dedicated_cluster']}"
    [found] = json.loads(leader.inside("postgres", ["pgbackrest", stanza, "--output=json", "info"]).stdout)
    assert found["status"]["code"] == 0, found["status"]

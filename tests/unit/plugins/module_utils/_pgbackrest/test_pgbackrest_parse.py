# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of the real pgBackRest and PostgreSQL, and what is no answer."""

from __future__ import annotations

import json
import typing as t

import pytest
from pgbackrest_lab import captured, entry, server

from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest import parse


def test_backups_oldest_first_with_all_that_is_told() -> None:
    told = parse.info(captured("info_three.json"), "lab")
    assert (told.code, told.message, told.running) == (0, "ok", False)
    assert [one.type for one in told.backups] == ["full", "incr", "diff"]
    assert told.backups[0].as_result() == {
        "label": "20261122-175358F",
        "type": "full",
        "prior": None,
        "repository": 1,
        "begun": 1795370038,
        "ended": 1795370041,
        "lsn_start": "0/2000028",
        "lsn_stop": "0/3000050",
        "wal_start": "000000010000000000000002",
        "wal_stop": "000000010000000000000003",
        "timeline": 1,
        "database_bytes": 23422067,
        "delta_bytes": 23422067,
        "repository_bytes": 2825224,
        "damaged": False,
        "annotation": {"by": "x", "reason": "one"},
        "system_id": "7711055441762328605",
        "version": "17",
    }
    assert told.backups[1].prior == "20261122-175358F"
    assert told.backups[1].references == ("20261122-175358F",)
    assert told.archives == (parse.ArchiveId(1, "17-1", 1),)


def test_a_running_backup_holds_the_lock() -> None:
    assert parse.info(captured("info_running.json"), "lab").running is True


def test_two_repositories_each_with_its_own_state() -> None:
    told = parse.info(captured("info_repo2_empty.json"), "lab")
    assert told.code == parse.MIXED
    assert [(one.key, one.cipher, one.code) for one in told.repositories] == [(1, "aes-256-cbc", 0), (2, "none", 1)]
    assert told.database(1) is not None
    assert told.database(2) is None


def test_a_missing_stanza_is_an_answer() -> None:
    told = parse.info(captured("info_missing.json"), "nope")
    assert (told.code, told.backups, told.repositories[0].code) == (1, (), 1)
    assert parse.info("[]", "lab").code == parse.NO_PATH
    assert parse.info(captured("info_three.json"), "other").code == parse.NO_PATH


def test_the_present_database_is_the_one_with_the_highest_number() -> None:
    told = entry()
    told["db"] = [
        {"id": 2, "repo-key": 1, "system-id": 22, "version": "17"},
        {"id": 1, "repo-key": 1, "system-id": 11, "version": "16"},
    ]
    assert parse.info(json.dumps([told]), "lab").database(1) == parse.Database(1, 2, "22", "17")


@pytest.mark.parametrize("missing", ["status", "label", "type", "timestamp"])
def test_what_lacks_something_is_refused(missing: str) -> None:
    told = entry()
    (told if missing == "status" else told["backup"][0]).pop(missing)
    with pytest.raises(ValueError, match="pgbackrest info: /lab"):
        parse.info(json.dumps([told]), "lab")


@pytest.mark.parametrize("text", ["", "{}", "ERROR: [055]: unable to load info file"])
def test_what_is_no_answer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pgbackrest info"):
        parse.info(text, "lab")


def test_segments_of_the_archive_without_partial_ones_histories_and_labels() -> None:
    found = parse.archived(captured("ls_timelines.json"))
    assert len(found) == 24
    assert found["000000010000000000000001"] == 1795369523
    assert "00000001000000000000000F" not in found
    assert max(found) == "000000050000000000000018"


@pytest.mark.parametrize(
    "text", ["[]", "x", json.dumps({"0" * 16 + "/" + "0" * 24 + "-" + "a" * 40: {"type": "file"}})]
)
def test_a_list_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="repo-ls"):
        parse.archived(text)


def test_a_leader_after_four_failovers() -> None:
    told = parse.server(captured("server_leader.json"))
    assert (told.in_recovery, told.timeline, told.version, told.waiting) == (False, 5, "17", 0)
    assert [timeline for timeline, _at in told.history] == [1, 2, 3, 4]
    assert told.history[1] == (2, 0x110000A0)
    assert told.done["000000050000000000000018"] == 1795370595
    assert not any("." in name for name in told.done)


def test_a_standby_does_not_know_its_timelines() -> None:
    told = parse.server(captured("server_standby.json"))
    assert (told.in_recovery, told.timeline, told.history, told.lsn) == (True, None, (), None)


def test_files_that_wait() -> None:
    files = {
        "000000010000000000000009.ready": 30.0,
        "00000002.history.ready": 20.0,
        "000000010000000000000008.done": 10.0,
    }
    told = parse.server(json.dumps(server(files=files)))
    assert (told.waiting, told.oldest_waiting_at) == (2, 20.0)
    assert (dict(told.ready), dict(told.done)) == (
        {"000000010000000000000009": 30.0},
        {"000000010000000000000008": 10.0},
    )


@pytest.mark.parametrize("changes", [{"in_recovery": "f"}, {"files": None}, {"now": None}])
def test_a_server_that_does_not_tell_all_is_refused(changes: dict[str, t.Any]) -> None:
    with pytest.raises(ValueError, match="psql"):
        parse.server(json.dumps(server(**changes)))


def test_positions() -> None:
    assert parse.lsn_of("1A/2B3C4D5E") == 0x1A2B3C4D5E
    with pytest.raises(ValueError, match="no position"):
        parse.lsn_of("1A")


def test_verify_that_found_nothing() -> None:
    said = parse.verified(captured("verify_ok.txt"))
    assert (said.status, said.remarks) == ("ok", ())
    assert said.archives == (parse.Checked("17-1", "", 8, 8),)
    assert [one.status for one in said.backups] == ["valid"] * 3


def test_verify_that_found_damage() -> None:
    said = parse.verified(captured("verify_bad.txt"))
    assert said.status == "error"
    assert said.archives == (parse.Checked("17-1", "", 7, 6, other=1),)
    assert said.backups[0] == parse.Checked("20261122-175358F", "invalid", 966, 965, checksum_invalid=1)
    assert parse.verified(captured("verify_lost.txt")).backups[0].missing == 745


def test_verify_that_could_not_read() -> None:
    said = parse.verified(captured("verify_unusable.txt"))
    assert said.remarks == ("No usable backup.info file", "No usable archive.info file")


def test_verify_of_a_backup_without_its_manifest() -> None:
    line = "  backup: 20261122-175358F, status: manifest missing, total files checked: 0, total valid files: 0\n"
    assert parse.verified(line).backups == (parse.Checked("20261122-175358F", "manifest missing", 0, 0),)


def test_what_expire_would_do() -> None:
    would = parse.expiry(captured("expire_dry_run.txt"))
    assert [label for _key, label in would.labels] == [
        "20261122-175358F_20261122-175407D",
        "20261122-175358F_20261122-175402I",
        "20261122-175358F",
    ]
    assert would.archives == ((1, "17-1", "000000010000000000000001", "000000010000000000000009"),)
    assert would.retention == {1: ("count", 1)}
    with pytest.raises(ValueError, match="pgbackrest expire"):
        parse.expiry("")

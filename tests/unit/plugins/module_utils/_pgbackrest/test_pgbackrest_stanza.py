# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stanza belongs to one cluster."""

from __future__ import annotations

import typing as t

import pytest
from pgbackrest_lab import SYSTEM, Lab, code_of, entry, pgbackrest, server, standby

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest import service


def made(lab: Lab, _argv: t.Sequence[str]) -> None:
    name = lab.stanza["name"]
    lab.stanza = entry()
    lab.stanza["name"] = name
    lab.stanza["db"] = [
        {"id": 9, "repo-key": 1, "system-id": lab.postgres["system_id"], "version": lab.postgres["version"]}
    ]


def stanza(lab: Lab, upgrade_from: str = "", check: bool = False, check_mode: bool = False) -> dict[str, t.Any]:
    return service.stanza(pgbackrest(lab), upgrade_from, check, 120, check_mode)


def lab_of(answer: str = "info_three.json", **postgres: t.Any) -> Lab:
    return Lab(entry(answer), server(**postgres), acts={"stanza-create": made, "stanza-upgrade": made})


def test_what_is_there_stays() -> None:
    lab = lab_of()
    result = stanza(lab)
    assert (result["changed"], result["plan"], result["system_id"]) == (False, [], SYSTEM)
    assert lab.verbs == []


@pytest.mark.parametrize("code", [1, 3])
def test_it_is_created_once(code: int) -> None:
    lab = lab_of("info_missing.json")
    lab.stanza["repo"][0]["status"]["code"] = code
    assert stanza(lab, check_mode=True)["plan"] == ["create the stanza"]
    assert lab.verbs == []
    assert stanza(lab)["changed"] is True
    assert stanza(lab)["changed"] is False
    assert lab.verbs == ["stanza-create"]


def test_it_is_created_where_one_repository_lacks_it() -> None:
    assert stanza(lab_of("info_repo2_empty.json"), check_mode=True)["plan"] == ["create the stanza"]


def test_a_stanza_without_a_backup_is_there() -> None:
    lab = lab_of()
    lab.stanza.update(
        backup=[], repo=[{"cipher": "none", "key": 1, "status": {"code": 2, "message": "no valid backups"}}]
    )
    assert stanza(lab)["changed"] is False


@pytest.mark.parametrize("upgrade_from", ["", "12345"])
def test_the_stanza_of_another_cluster_is_refused(upgrade_from: str) -> None:
    lab = lab_of(system_id="7")
    with pytest.raises(Refused) as caught:
        stanza(lab, upgrade_from)
    assert code_of(caught.value) == "other_system"
    assert SYSTEM in caught.value.msg
    assert lab.verbs == []


def test_after_an_upgrade_the_old_cluster_is_named() -> None:
    lab = lab_of(system_id="7", version="18")
    assert stanza(lab, SYSTEM)["plan"] == ["upgrade the stanza"]
    assert lab.verbs == ["stanza-upgrade"]
    assert stanza(lab, SYSTEM)["changed"] is False


def test_another_version_of_the_same_cluster_is_an_upgrade() -> None:
    assert stanza(lab_of(version="18"))["plan"] == ["upgrade the stanza"]


def test_an_old_entry_of_the_stanza_is_not_the_present_one() -> None:
    lab = lab_of()
    lab.stanza["db"].insert(0, {"id": 0, "repo-key": 1, "system-id": 7, "version": "16"})
    assert stanza(lab)["changed"] is False


def test_a_standby_changes_nothing_and_checks_nothing() -> None:
    lab = Lab(postgres=standby())
    assert stanza(lab)["changed"] is False
    for changed, check in ((Lab(entry("info_missing.json"), standby()), False), (lab, True)):
        with pytest.raises(Refused) as caught:
            stanza(changed, check=check)
        assert code_of(caught.value) == "not_leader"
        assert changed.verbs == []


def test_the_check_is_bounded_and_does_not_run_in_check_mode() -> None:
    lab = lab_of()
    assert stanza(lab, check=True, check_mode=True)["checked"] is False
    assert lab.verbs == []
    result = stanza(lab, check=True)
    assert (result["checked"], result["changed"]) == (True, False)
    assert lab.verbs == ["check"]
    assert lab.timeouts[-1] == 120.0
    assert "--archive-timeout=60" in lab.ran[-1]


@pytest.mark.parametrize(
    ("verb", "failing", "code"),
    [
        ("check", (124, ""), "timed_out"),
        ("check", (82, "ERROR: [082]: WAL segment was not archived before the 60000ms timeout"), "archiving_broken"),
        ("stanza-create", (50, "ERROR: [050]: unable to acquire lock"), "backup_running"),
        (
            "stanza-create",
            (28, "ERROR: [028]: backup and archive info files exist but do not match"),
            "pgbackrest_failed",
        ),
    ],
)
def test_commands_that_fail(verb: str, failing: tuple[int, str], code: str) -> None:
    lab = lab_of("info_missing.json")
    lab.fails = {verb: failing}
    with pytest.raises(DedicatedError) as caught:
        stanza(lab, check=True)
    assert code_of(caught.value) == code


def test_a_good_ending_is_no_proof() -> None:
    with pytest.raises(DedicatedError) as caught:
        stanza(Lab(entry("info_missing.json")))
    assert code_of(caught.value) == "no_effect"


def test_one_dead_repository_is_an_error_here() -> None:
    with pytest.raises(DedicatedError) as caught:
        stanza(lab_of("info_repo2_dead.json"))
    assert code_of(caught.value) == "store_unreachable"

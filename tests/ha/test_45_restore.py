# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole site goes back to a moment, in place, and is closed until somebody answers for its books."""

from __future__ import annotations

import json
import typing as t

import pytest
from labtools import Browser, Host, Lab, wait_until
from operating import archive, begin, now, operate, refusals, slay

REASON = ("-e", "reason=proof")
KEPT = "/var/lib/dedicated/postgres/data/17.before-back"
WORDS = ("-e", "place=back", *REASON)


def closed(host: Host) -> bool:
    return bool(host.out("cat /etc/dedicated/closed 2>/dev/null || true"))


@pytest.fixture(scope="module")
def moment(lab: Lab) -> str:
    """Between two committed rows; all of it is in the archive."""
    leader = lab.leader()
    leader.sql("CREATE TABLE IF NOT EXISTS dedicated_marker (word text)", lab.database)
    leader.sql("TRUNCATE dedicated_marker", lab.database)
    leader.sql("INSERT INTO dedicated_marker VALUES ('first')", lab.database)
    between = now(leader)
    leader.sql("INSERT INTO dedicated_marker VALUES ('second')", lab.database)
    archive(leader)
    return between


def restore(moment: str, *more: str) -> t.Sequence[str]:
    return (*WORDS, "-e", json.dumps({"target": moment}), *more)


def test_without_its_name_nothing_is_touched(lab: Lab, moment: str) -> None:
    output = operate(lab, "restore", *restore(moment, "-e", "confirm=other"), fails=True)
    assert "not-confirmed" in refusals(output)
    operate(lab, "restore", *restore(moment), "--check")
    assert not [host.name for host in lab.hosts if closed(host)]
    assert lab.answers()


def test_the_site_goes_back_and_is_opened_by_somebody(lab: Lab, moment: str) -> None:
    """Killed in the middle of the exchange, and run again."""
    browser = Browser(lab).sign_in(lab.login, lab.password)
    history = "SELECT timeline_id FROM pg_control_checkpoint()"
    before = int(lab.leader().sql(history)[0][0])
    words = restore(moment, "-e", f"confirm={lab.variables['dedicated_cluster']}")
    process = begin(lab, "restore", *words)
    last = lab.of("postgres")[-1]
    try:
        wait_until("data are exchanged", lambda: last.run(["test", "-e", KEPT], check=False).returncode == 0, 400, 0.2)
    finally:
        slay(process)
    operate(lab, "restore", *words)
    assert lab.leader().sql("SELECT word FROM dedicated_marker", lab.database) == [["first"]]
    assert int(lab.leader().sql(history)[0][0]) > before
    states = lab.leader().sql("SELECT state FROM pg_stat_replication")
    assert states == [["streaming"]] * (len(lab.of("postgres")) - 1)
    # The old data are beside, on every member, and nobody gets in.
    assert [host.name for host in lab.of("postgres") if host.run(["test", "-d", KEPT], check=False).returncode] == []
    assert not lab.answers()
    output = operate(lab, "reopen", *WORDS, fails=True)
    assert "nobody is named" in refusals(output)
    output = operate(lab, "reopen", *WORDS, "-e", "approver=Somebody", "-e", "abandon=true", fails=True)
    assert "data-exchanged" in refusals(output)
    operate(lab, "reopen", *WORDS, "-e", "approver=Somebody")
    # A session from before goes on.
    assert browser.whoami()
    assert not [host.name for host in lab.hosts if closed(host)]
    # The new timeline has a backup of its own, and its WAL reaches the archive.
    stanza = f"--stanza={lab.variables['dedicated_cluster']}"
    [found] = json.loads(lab.leader().inside("postgres", ["pgbackrest", stanza, "--output=json", "info"]).stdout)
    newest = found["backup"][-1]
    assert newest["type"] == "full"
    assert int(newest["archive"]["start"][:8], 16) > before
    lab.leader().inside("postgres", ["pgbackrest", stanza, "check"], timeout=120)


def test_everything_of_it_can_be_taken_away(lab: Lab) -> None:
    operate(lab, "restore_aside", *WORDS, "-e", "state=absent", "-e", f"restore_host={lab.of('postgres')[0].name}")
    for host in lab.of("postgres"):
        host.run(["rm", "-rf", KEPT])
        assert not host.out("ls /var/lib/dedicated/restore 2>/dev/null || true")

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore in place that is given up before the data were exchanged; a rehearsal that misses its target."""

from __future__ import annotations

from labtools import Browser, Lab, wait_until
from operating import archive, begin, now, operate, refusals, slay
from test_45_restore import REASON, WORDS, closed, restore


def test_it_is_given_up_before_the_data_are_exchanged(lab: Lab) -> None:
    """Killed when it has just been closed. It stays so until it is given up: nothing has happened then."""
    last = lab.leader().sql("SELECT max(id) FROM account_move", lab.database)
    moment = now(lab.leader())
    archive(lab.leader())
    process = begin(lab, "restore", *restore(moment, "-e", f"confirm={lab.variables['dedicated_cluster']}"))
    try:
        wait_until("it is closed", lambda: all(closed(host) for host in lab.of("postgres")), 240, 0.2)
    finally:
        slay(process)
    for playbook in ("site", "backup"):
        output = operate(lab, playbook, *REASON, fails=True)
        assert "site-closed" in refusals(output), output[-2000:]
    output = operate(lab, "reopen", *WORDS, "-e", "approver=Somebody", fails=True)
    assert "not-restored" in refusals(output), output[-2000:]
    operate(lab, "reopen", *WORDS, "-e", "approver=Somebody", "-e", "abandon=true")
    assert lab.leader().sql("SELECT max(id) FROM account_move", lab.database) >= last
    assert Browser(lab).sign_in(lab.login, lab.password).whoami()
    operate(lab, "restore_aside", *WORDS, "-e", "state=absent", "-e", f"restore_host={lab.of('postgres')[0].name}")


def test_a_rehearsal_beyond_its_target_fails(lab: Lab) -> None:
    output = operate(lab, "rehearse_restore", "-e", "reason=test", "-e", "rto_seconds=0.1", fails=True)
    assert "beyond-target" in output
    for host in lab.of("postgres"):
        assert not host.out("ls /var/lib/dedicated/restore 2>/dev/null || true")

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Patroni paused with an end, and a member that is copied anew. In the stage scale, for the time of the default run."""

from __future__ import annotations

from labtools import Lab
from operating import operate, refusals

REASON = ("-e", "reason=proof")


def test_a_pause_has_an_end_and_refuses_a_switchover(lab: Lab) -> None:
    leader = lab.leader()
    show = ["timeout", "60", "patronictl", "-c", "/etc/patroni/patroni.yml", "show-config"]
    operate(lab, "maintenance", *REASON, "-e", "state=paused", "-e", "minutes=5")
    try:
        assert "pause: true" in leader.inside("postgres", show).stdout
        for host in lab.of("postgres"):
            assert host.out("systemctl is-active dedicated-patroni-resume.timer").strip() == "active"
        output = operate(lab, "switchover", *REASON, fails=True)
        assert "paused" in output, refusals(output)
    finally:
        operate(lab, "maintenance", "-e", "state=resumed")
    assert "pause: true" not in leader.inside("postgres", show).stdout
    assert lab.leader() == leader


def test_a_member_is_made_anew(lab: Lab) -> None:
    [[member]] = lab.leader().sql("SELECT application_name FROM pg_stat_replication WHERE sync_state = 'async'")
    output = operate(lab, "reinit_member", *REASON, "-e", f"member={member}", fails=True)
    assert "healthy" in output, refusals(output)
    output = operate(lab, "reinit_member", *REASON, "-e", f"member={lab.leader().name}", fails=True)
    assert "is_leader" in output, refusals(output)
    host = next(one for one in lab.hosts if one.name == member)
    born = host.out("stat --format %W /var/lib/dedicated/postgres/data/17/PG_VERSION")
    operate(lab, "reinit_member", *REASON, "-e", f"member={member}", "-e", "reinit_force=true")
    assert host.out("stat --format %W /var/lib/dedicated/postgres/data/17/PG_VERSION") != born
    assert [member, "streaming"] in lab.leader().sql("SELECT application_name, state FROM pg_stat_replication")

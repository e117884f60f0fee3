# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations killed at a random moment and run again, begun in a failover, refused for a member that receives nothing.

In the stage scale, for the time of the default run.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess

import pytest
from labtools import Host, Lab, wait_until
from operating import begin, end, operate, recap, refusals, slay, users
from test_25_operations import codes, paused, status

REASON = ("-e", "reason=proof")
# To repeat a run that failed: SEED=<what it printed>.
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))


def well(lab: Lab) -> bool:
    try:
        return not codes(status(lab))
    except (AssertionError, OSError, subprocess.SubprocessError):
        return False


# The seconds that each takes here.
TAKES = {"switchover": 45, "restart_cluster": 45, "redis_failover": 45, "edge_failover": 45, "rotate_certificates": 140}


@pytest.mark.parametrize("operation", TAKES)
def test_killed_at_a_random_moment_and_run_again(lab: Lab, operation: str) -> None:
    """No user notices, nothing is left held back, and the next run finds nothing in its way."""
    moment = random.Random(f"{SEED} {operation}").uniform(3, TAKES[operation])
    said = f"SEED={SEED}: {operation} killed after {moment:.1f} s"
    print(said)  # noqa: T201
    with users(lab):
        process = begin(lab, operation, *REASON)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        slay(process)
        operate(lab, operation, *REASON)
    assert not [host.name for host in lab.of("odoo") if paused(host)], said
    assert not any("dedicated_hold" in host.out("nft list tables") for host in lab.of("edge")), said
    wait_until(f"all is well ({said})", lambda: well(lab), 180, 5)


def test_an_operation_that_begins_in_a_failover(lab: Lab) -> None:
    """It waits, or it refuses with a word; afterwards one leads, and the next run does it."""
    leader = lab.leader()
    leader.run(["docker", "pause", "postgres"])
    try:
        process = begin(lab, "switchover", *REASON)
        # Longer than the lease, should the detector hold still; the old leader is back before the operation ends.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(45)
    finally:
        leader.run(["docker", "unpause", "postgres"])
    output = end(lab, "switchover", process)
    if process.returncode != 0:
        words = ("leader_silent", "no_leader", "no_answer", "in_progress", "members_missing", "stale")
        assert any(word in output for word in words), refusals(output)
        assert {counts["changed"] for counts in recap(output).values()} == {0}, output[-3000:]
    wait_until("all is well", lambda: well(lab), 240, 5)
    before = lab.leader().name
    operate(lab, "switchover", *REASON)
    assert lab.leader().name != before


def receiver(host: Host, signal: str) -> None:
    host.run(["pkill", f"-{signal}", "-f", "postgres: .*walreceiver"])


def synchronous(leader: Host) -> str:
    [[name]] = leader.sql("SELECT application_name FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')")
    return name


def test_a_candidate_that_receives_nothing_is_refused(lab: Lab) -> None:
    """Patroni calls it streaming; the leader's own word counts."""
    leader = lab.leader()
    name = synchronous(leader)
    candidate = next(host for host in lab.of("postgres") if host.name == name)
    receiver(candidate, "STOP")
    try:
        output = operate(lab, "switchover", *REASON, "-e", f"to={name}", fails=True)
    finally:
        receiver(candidate, "CONT")
    assert f"{name} cannot lead" in output, refusals(output)
    assert f"does not stream from {leader.name} by its word" in " ".join(output.split()), refusals(output)
    assert {counts["changed"] for counts in recap(output).values()} == {0}, output[-3000:]
    assert lab.leader() == leader
    wait_until("all is well", lambda: well(lab), 180, 5)

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Another authority takes the place of the present one while users work, also when the run is killed."""

from __future__ import annotations

import dataclasses
import random

from labtools import Lab, wait_until
from operating import begin, end, operate, refusals, slay, users
from test_25_operations import codes, status
from test_29_certificates import NAMES, PKI, REASON, pending, served
from test_29_interrupted import SEED

SECONDS = 2400


def rotate(lab: Lab, *arguments: str) -> str:
    process = begin(lab, "rotate_ca", *REASON, *arguments)
    output = end(lab, "rotate_ca", process, SECONDS)
    assert process.returncode == 0, refusals(output) or output[-3000:]
    return output


def killed_and_run_again(lab: Lab, name: str, within: tuple[float, float], *arguments: str) -> None:
    moment = random.Random(f"{SEED} {name}").uniform(*within)
    print(f"SEED={SEED}: {name} killed after {moment:.0f} s")  # noqa: T201
    process = begin(lab, "rotate_ca", *REASON, *arguments)
    try:
        wait_until("its moment", lambda: process.poll() is not None, moment, 1)
    except AssertionError:
        slay(process)
    rotate(lab, *arguments)


def trusted(lab: Lab) -> set[str]:
    """The texts of ca.pem, of every certificate on every host."""
    return {host.out(f"cat {PKI}/{name}/ca.pem") for host in lab.hosts for name in NAMES}


def test_it_needs_a_reason(lab: Lab) -> None:
    assert "no-reason" in operate(lab, "rotate_ca", fails=True)


def test_an_unknown_end_is_refused(lab: Lab) -> None:
    assert "no-until" in operate(lab, "rotate_ca", *REASON, "-e", "until=later", fails=True)


def test_a_successor_though_the_runs_are_killed_and_nobody_notices(lab: Lab) -> None:
    before, former = served(lab), trusted(lab)
    assert len(former) == 1
    # Users trust the former one alone, and all that is shown is of it.
    with users(lab):
        killed_and_run_again(lab, "trust", (20, 200), "-e", "until=trusted")
    assert served(lab) == before
    (both,) = trusted(lab)
    assert both == (lab.build / "pki" / "trust.pem").read_text().strip()
    # They are told of the successor before anybody shows a certificate of it.
    told = lab.build / "told.pem"
    told.write_text(both + "\n")
    with users(dataclasses.replace(lab, data={**lab.data, "ca_file": str(told)})):
        killed_and_run_again(lab, "issue", (20, 300))
    after, now = served(lab), trusted(lab)
    assert not [place for place, serial in after.items() if serial == before[place]]
    assert len(now) == 1
    assert now != former
    assert (lab.build / "pki" / "ca.pem").read_text().strip() in now
    assert pending(lab) == []
    wait_until("status is good", lambda: not codes(status(lab)), 180, 5)


def test_a_certificate_of_the_former_one_opens_nothing(lab: Lab) -> None:
    """By what services do, not by what lies there: test_86 has the same for a stranger's."""
    from test_86_certificates import ask, ports, target

    host = lab.hosts[0]
    kept = "/root/former"
    host.run(f"rm -rf {kept} && cp -a {PKI}/redis {kept}")
    try:
        rotate(lab)
        pair = {"client_cert": f"{kept}/cert.pem", "client_key": f"{kept}/key.pem"}
        asking = [port for port, one in ports(lab).items() if one[2]]
        found = ask(host, lab, targets=[{**target(lab, host, port, ""), **pair} for port in asking])
        codes_ = {one["port"]: one["code"] for one in found["certificates"]}
        assert codes_ == dict.fromkeys(asking, "client_certificate_refused")
    finally:
        host.run(["rm", "-rf", kept])

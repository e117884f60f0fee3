# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates, as served and as they lie on the disk: every threshold, and what is odd."""

from __future__ import annotations

import typing as t

import pytest
from status_scene import DAY, HOUR, NOW, certificate, served

from ansible_collections.dedicated.odoo.plugins.module_utils._status import certificates, look

LIMITS = look.Limits()
Row = dict[str, t.Any]


def host(files: t.Any = (), ports: t.Any = (), now: t.Any = NOW) -> look.Host:
    scene = {"now": now, "certificates": list(files), "served": list(ports)}
    return look.parse_look({"hosts": {"n1": {"asked": True, "status": scene}}, "members": {}}).hosts["n1"]


def found(files: t.Any = (), ports: t.Any = (), now: t.Any = NOW) -> list[look.Finding]:
    return list(certificates.judge(host(files, ports, now), LIMITS))


def codes(*args: t.Any, **more: t.Any) -> list[tuple[str, str]]:
    return [(one.code, one.severity) for one in found(*args, **more)]


STEPS = [
    (90 * DAY, None, ""),
    (30 * DAY + 1, None, ""),
    (30 * DAY, 30, "warning"),
    (14 * DAY + 1, 30, "warning"),
    (14 * DAY, 14, "warning"),
    (7 * DAY + 1, 14, "warning"),
    (7 * DAY, 7, "critical"),
    (DAY + 1, 7, "critical"),
    (DAY, 1, "critical"),
    (1, 1, "critical"),
]


@pytest.mark.parametrize(("left", "days", "severity"), STEPS)
@pytest.mark.parametrize("life", [90 * DAY, 365 * DAY])
def test_thresholds_of_what_is_served(left: int, days: int | None, severity: str, life: int) -> None:
    told = found([certificate("redis")], [served("redis", 6379, left, life)])
    assert [(one.code, one.severity) for one in told] == ([("certificate-due", severity)] if days else [])
    assert all(f"(limit {days} d)" in one.what and "site" in one.do for one in told)


@pytest.mark.parametrize("left", [0, -1, -400 * DAY])
def test_an_end_is_critical_and_says_what_to_run(left: int) -> None:
    (told,) = found([], [served("etcd", 2379, left, verified=False)])
    assert (told.code, told.severity) == ("certificate-ended", "critical")
    assert look.SITE in told.do


@pytest.mark.parametrize("life", [HOUR, DAY, 5 * DAY, 20 * DAY, 90 * DAY])
def test_who_renews_in_time_has_no_finding_however_short_the_life(life: int) -> None:
    assert not found([], [served("redis", 6379, life, life), served("redis", 26379, life / 3 + 1, life)])
    assert codes([], [served("redis", 6379, life / 3 - 1, life)])


def test_it_never_becomes_milder() -> None:
    order = ["", "warning", "critical"]
    seen = [
        order.index(next(iter([severity for _code, severity in codes([], [served("redis", 6379, hours * HOUR)])]), ""))
        for hours in range(90 * 24, -48, -1)
    ]
    assert seen == sorted(seen)


def test_one_end_is_told_once_for_all_ports() -> None:
    ports = [served("redis", port, 6 * DAY) for port in (6379, 26379)]
    assert codes([certificate("redis", 6 * DAY)], ports) == [("certificate-due", "critical")]


def test_what_is_served_counts_and_not_what_lies_there() -> None:
    old = served("router", 8443, 6 * DAY, serial="old")
    assert codes([certificate("router", 80 * DAY)], [old]) == [
        ("certificate-due", "critical"),
        ("certificate-not-served", "warning"),
    ]


def test_another_serial_names_both_and_the_command() -> None:
    (told,) = found([certificate("router")], [served("router", 8443, serial="old")])
    assert told.code == "certificate-not-served"
    assert all(word in told.what for word in ("old", "router1", ":8443"))
    assert "rotate_certificates -e layer=odoo -e host=n1 -e reason=" in told.do


def test_a_file_that_nobody_serves_is_judged_itself() -> None:
    assert codes([certificate("etcd-client", 6 * DAY)]) == [("certificate-due", "critical")]
    assert codes([certificate("ca", 179 * DAY, 3650 * DAY)]) == [("certificate-due", "warning")]
    assert not codes([certificate("ca", 181 * DAY, 3650 * DAY)])
    assert codes([{"name": "x", "path": "/x", "error": "?"}]) == [("certificate-unreadable", "warning")]


@pytest.mark.parametrize(
    ("code", "severity"), [("refused", "note"), ("timed_out", "note"), ("no_tls", "warning"), ("malformed", "warning")]
)
def test_nothing_served_lets_the_file_speak(code: str, severity: str) -> None:
    silent = {"certificate": "redis", "name": "redis://192.0.2.1:6379", "protocol": "redis", "code": code, "why": "?"}
    assert codes([certificate("redis")], [silent]) == [("certificate-not-seen", severity)]
    assert ("certificate-due", "critical") in codes([certificate("redis", 6 * DAY)], [silent])


def test_not_yet_valid_but_for_a_clock_that_is_a_little_behind() -> None:
    assert codes([], [served("redis", 6379, 90 * DAY + 301, verified=False)]) == [
        ("certificate-not-yet-valid", "critical")
    ]
    assert not codes([], [served("redis", 6379, 90 * DAY + 299)])


def test_a_clock_in_the_future_ends_everything_and_the_clock_is_looked_at_first() -> None:
    (told,) = found([], [served("redis", 6379)], NOW + 3650 * DAY)
    assert told.code == "certificate-ended"
    assert "chronyc" in told.do


@pytest.mark.parametrize("now", [None, 0, "junk"])
def test_without_a_clock_nothing_is_judged(now: t.Any) -> None:
    assert codes([certificate("redis", -DAY)], [], now) == [("certificates-not-judged", "warning")]
    assert not codes([], [], now)


@pytest.mark.parametrize("why", ["self-signed certificate", "IP address mismatch"])
def test_another_issuer_and_an_unknown_name(why: str) -> None:
    (told,) = found([], [served("redis", 6379, verified=False, unverified_because=why)])
    assert (told.code, told.severity) == ("certificate-not-trusted", "warning")
    assert why in told.what
    assert not found([], [served("redis", 6379, verified=None)])


def test_of_an_object_store_somebody_else_takes_care() -> None:
    (told,) = found([], [served("repository-1", 443, 6 * DAY, protocol="s3")])
    assert "object store" in told.do


def test_metrics_tell_what_is_served_only() -> None:
    ports = [{**served("redis", 6379), "name": 'a"b\\'}, {"code": "refused"}]
    text = certificates.metrics([host([certificate("ca")], ports)])
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == [
        'dedicated_certificate_not_after_seconds{host="n1",certificate="redis",endpoint="a\\"b\\\\",serial="redis1"} '
        f"{NOW + 60 * DAY}"
    ]
    assert text.endswith("\n")


def test_a_public_one_is_not_rotated_by_us() -> None:
    (told,) = found([certificate("edge")], [served("public", 443, 6 * DAY)])
    assert (told.code, told.severity) == ("certificate-due", "critical")
    assert "dedicated-edge-acme" in told.do

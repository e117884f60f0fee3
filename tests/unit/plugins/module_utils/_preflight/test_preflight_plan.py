# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host may become a host of a cluster."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._preflight import plan

DIGEST = "sha256:" + "b" * 64
IMAGE = f"registry.example:5000/odoo@{DIGEST}"
ID, OUTER = "c" * 64, "d" * 64
GOOD = plan.Facts("debian", "13", "x86_64", 4, 16000, disks=(plan.Disk("/opt", 9000, 20000),))
LIMITS = plan.Limits(
    cluster="lab", ca_fingerprint="ab" * 32, min_free_mb={"/opt": 5000}, ports=(plan.Port(443, stack="edge"),)
)
SHOP = plan.Listener("0.0.0.0", 443, "nginx", 77)
OURS = dataclasses.replace(SHOP, container=ID, project="/opt/dedicated/edge")


def codes(limits: plan.Limits = LIMITS, **changes: t.Any) -> list[str]:
    return [finding.code for finding in plan.judge(dataclasses.replace(GOOD, **changes), limits)]


def test_sound() -> None:
    assert codes() == []
    assert codes(cluster="lab", ca_fingerprint="AB:" * 31 + "AB", docker=plan.Docker("loaded", "active")) == []


def test_controller_without_a_ca() -> None:
    none = dataclasses.replace(LIMITS, ca_fingerprint=plan.NO_CA)
    assert codes(none) == []
    assert codes(none, ca_fingerprint="ab" * 32) == ["other-ca"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cluster": "acme"}, ["other-cluster"]),
        ({"ca_fingerprint": "cd" * 32}, ["other-ca"]),
        ({"os_version": "12"}, ["os-unsupported"]),
        ({"os_id": "fedora"}, ["os-unsupported"]),
        ({"arch": "riscv64"}, ["os-unsupported"]),
        ({"cpus": 1}, ["host-too-small"]),
        ({"memory_mb": 1000}, ["host-too-small"]),
        ({"cpus": 1, "memory_mb": 1000}, ["host-too-small", "host-too-small"]),
        ({"disks": (plan.Disk("/opt", 4999, 20000),)}, ["disk-full"]),
        ({"disks": (plan.Disk("/opt", 9000, 20000, 5),)}, ["disk-full"]),
        ({"docker": plan.Docker("loaded", "failed")}, ["docker-down"]),
        ({"docker": plan.Docker("loaded", "inactive")}, []),
        ({"docker": plan.Docker("loaded", "inactive"), "stacks": ("etcd",)}, ["docker-down"]),
        ({"docker": plan.Docker(), "stacks": ("etcd",)}, []),
        ({"listeners": (SHOP,)}, ["port-taken"]),
        ({"listeners": (SHOP, dataclasses.replace(SHOP, address="::"))}, ["port-taken"]),
        ({"listeners": (dataclasses.replace(SHOP, port=444),)}, []),
        ({"listeners": (OURS,)}, []),
        ({"listeners": (dataclasses.replace(OURS, project="/opt/dedicated-not/edge"),)}, ["port-taken"]),
        ({"listeners": (dataclasses.replace(OURS, project="/"),), "stacks": ("edge",)}, ["port-taken"]),
        ({"listeners": (dataclasses.replace(OURS, project=""),)}, ["port-taken"]),
        ({"listeners": (dataclasses.replace(OURS, project=""),), "stacks": ("edge",)}, []),
        ({"probes": (plan.Probe(IMAGE, 200),)}, []),
        ({"probes": (plan.Probe(IMAGE, 404),)}, ["image-missing"]),
        ({"probes": (plan.Probe("odoo:19"),)}, ["image-missing"]),
        ({"probes": (plan.Probe(IMAGE, 401),)}, ["registry-unauthorized"]),
        ({"probes": (plan.Probe(IMAGE, 500),)}, ["registry-unreachable"]),
        ({"probes": (plan.Probe(IMAGE, reason="timed out"),)}, ["registry-unreachable"]),
    ],
)
def test_judge(changes: dict[str, t.Any], expected: list[str]) -> None:
    assert codes(**changes) == expected


OURS_ID, OTHER_ID = str(1795312537 << 32 | 7), str(1700000000 << 32 | 9)
OWN_ADDRESSES = ("127.0.0.1", "10.0.0.1")


@pytest.mark.parametrize(
    ("address", "addresses", "refused"),
    [
        ("10.0.0.1", OWN_ADDRESSES, False),
        ("10.0.0.2", OWN_ADDRESSES, True),
        ("", OWN_ADDRESSES, False),
        ("10.0.0.2", (), False),
    ],
)
def test_address_of_another_machine(address: str, addresses: tuple[str, ...], refused: bool) -> None:
    limits = dataclasses.replace(LIMITS, address=address)
    findings = plan.judge(dataclasses.replace(GOOD, addresses=addresses), limits)
    assert [finding.code for finding in findings] == (["address-not-here"] if refused else [])
    assert all("which has 10.0.0.1;" in finding.message for finding in findings)


@pytest.mark.parametrize(
    ("pinned", "recorded", "found", "count"),
    [
        ("", "", "", 0),
        ("", "", OTHER_ID, 0),
        ("", OURS_ID, "", 0),
        ("", OURS_ID, OURS_ID, 0),
        ("", OURS_ID, OTHER_ID, 1),
        (OURS_ID, "", "", 0),
        (OURS_ID, "", OURS_ID, 0),
        (OURS_ID, "", OTHER_ID, 1),
        (OURS_ID, OURS_ID, OURS_ID, 0),
        (OURS_ID, OURS_ID, OTHER_ID, 1),
        (OURS_ID, OTHER_ID, "", 1),
        (OURS_ID, OTHER_ID, OURS_ID, 1),
        (OURS_ID, OTHER_ID, OTHER_ID, 2),
    ],
)
def test_data_of_another_cluster(pinned: str, recorded: str, found: str, count: int) -> None:
    limits = dataclasses.replace(LIMITS, system_identifier=pinned, postgres_data="/data/17")
    facts = dataclasses.replace(GOOD, recorded_identifier=recorded, system_identifier=found)
    findings = plan.judge(facts, limits)
    assert [finding.code for finding in findings] == ["other-system-identifier"] * count


def test_leftover_data_is_moved_aside_by_hand() -> None:
    limits = dataclasses.replace(LIMITS, system_identifier=OURS_ID, postgres_data="/data/17")
    (finding,) = plan.judge(dataclasses.replace(GOOD, system_identifier=OTHER_ID), limits)
    assert "never overwritten" in finding.message
    assert "mv /data/17 /data/17.leftover-$(date +%F)" in finding.message
    assert f"{OTHER_ID} (made 2023-11-14 22:13 UTC)" in finding.message


@pytest.mark.parametrize(
    ("wanted", "listening", "taken"),
    [
        ("", "127.0.0.1", True),
        ("10.0.0.1", "127.0.0.1", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "0.0.0.0", True),
        ("10.0.0.1", "::", True),
        ("0.0.0.0", "127.0.0.1", True),
    ],
)
def test_addresses_of_ports(wanted: str, listening: str, taken: bool) -> None:
    limits = dataclasses.replace(LIMITS, ports=(plan.Port(443, wanted),))
    assert (codes(limits, listeners=(dataclasses.replace(SHOP, address=listening),)) == ["port-taken"]) is taken


@pytest.mark.parametrize(("os_id", "version"), [("debian", "12"), ("ubuntu", "22.04"), ("ubuntu", "24.04")])
def test_more_systems_with_docker_s_packages(os_id: str, version: str) -> None:
    (finding,) = plan.judge(dataclasses.replace(GOOD, os_id=os_id, os_version=version), LIMITS)
    assert "host_docker_source" in finding.message
    assert codes(dataclasses.replace(LIMITS, docker_source="docker"), os_id=os_id, os_version=version) == []


def test_everything_at_once_with_numbers() -> None:
    bad = dataclasses.replace(GOOD, os_version="11", memory_mb=1000, cluster="acme", listeners=(SHOP,))
    text = plan.message("n1", plan.judge(bad, LIMITS))
    for words in ("4 reason(s)", "debian-11", "1000 MiB", "3500 MiB", "cluster acme", "nginx (pid 77)"):
        assert words in text


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F85 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9176 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9181 1 0 100 0 0 10 0
   2: 0B631FAC:0016 01631FAC:D3A4 01 00000000:00000000 02:000AF7A1 00000000     0        0 9352 2 0 20 4 30 10 -1
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm inode
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 9192 1 0 100 0 0 10 0
   1: 0000000000000000FFFF00000100007F:01BB 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 9193 1 0 100 0 0 10 0
   2: 000000FD000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 9194 1 0 100 0 0 10 0
"""


def test_parse_listeners() -> None:
    assert plan.parse_listeners(TCP) == [("127.0.0.1", 8069, "9176"), ("0.0.0.0", 22, "9181")]
    assert [found[:2] for found in plan.parse_listeners(TCP6)] == [
        ("::", 22),
        ("127.0.0.1", 443),
        ("fd00:0000:0000:0000:0000:0000:0000:0001", 443),
    ]
    assert plan.parse_listeners("") == []


@pytest.mark.parametrize(
    ("cgroup", "outer", "expected"),
    [
        (f"0::/system.slice/docker-{ID}.scope\n", "0::/init.scope\n", ID),
        (f"5:memory:/docker/{ID}\n0::/\n", "5:memory:/\n", ID),
        (f"5:memory:/docker/{OUTER}/fw/{ID}\n", f"5:memory:/docker/{OUTER}\n", ID),
        (f"5:memory:/docker/{OUTER}/system.slice/nginx.service\n", f"5:memory:/docker/{OUTER}\n", ""),
        ("0::/system.slice/nginx.service\n", "", ""),
    ],
)
def test_parse_container(cgroup: str, outer: str, expected: str) -> None:
    assert plan.parse_container(cgroup, outer) == expected


def test_parse_os_release_and_meminfo() -> None:
    assert plan.parse_os_release('NAME="Debian"\n# x=1\nID=debian\nVERSION_ID="13"\n') == ("debian", "13")
    assert plan.parse_os_release("") == ("unknown", "unknown")
    assert plan.parse_meminfo("MemTotal:       24683612 kB\nMemFree: 1 kB\n") == 24105
    assert plan.parse_meminfo("") == 0


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (IMAGE, ("registry.example:5000", "odoo", DIGEST)),
        (f"r/a/b:1.2@{DIGEST}", ("r", "a/b", DIGEST)),
        ("odoo:19", None),
        (f"odoo@{DIGEST}", None),
        (IMAGE[:-1], None),
    ],
)
def test_parse_image(reference: str, expected: t.Any) -> None:
    assert plan.parse_image(reference) == expected

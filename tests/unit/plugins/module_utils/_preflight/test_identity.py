# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Identifiers in what PostgreSQL, etcd and Patroni wrote, captured from running ones."""

from __future__ import annotations

import json
import struct

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._preflight import identity

# PostgreSQL 17: identifier, version 1700, catalogue version, state.
CONTROL = bytes.fromhex("16906c57954b026ba40600008979100c05000000")
IDENTIFIER = "7710808616800653334"
# etcd 3.5, two members of one cluster: a checksum, padding, the metadata; with padding after it in the second.
WAL = (
    "0400000000000084080410000000000020000000000000000801" + "10e4e4a1cc0b1a1608b2f9bdd0f1b5fea2bb01"
    "10d1b78ce6a787f7d7ae010e000000000000820805",
    "040000000000008408041000000000001f000000000000810801" + "10f3bae0ed011a150880b5efb59382b48e23"
    "10d1b78ce6a787f7d7ae01000e000000000000820805",
)
CLUSTER = "aeafdc3a7cc31bd1"


def test_pg_control() -> None:
    assert identity.parse_pg_control(CONTROL) == IDENTIFIER
    assert identity.made(IDENTIFIER).startswith("2026-")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        CONTROL[:11],
        bytes(8192),
        bytes(8) + CONTROL[8:],
        CONTROL[:8] + struct.pack("<I", 943),  # PostgreSQL 9.4
        struct.pack(">QI", int(IDENTIFIER), 1700),  # another order of bytes
    ],
)
def test_pg_control_that_is_not_understood(raw: bytes) -> None:
    assert identity.parse_pg_control(raw) == ""


def test_made() -> None:
    assert identity.made(str(1795312537 << 32 | 869328)) == "2026-11-22 01:55 UTC"
    assert identity.shown("4294967296") == "4294967296 (made 1970-01-01 00:00 UTC)"


@pytest.mark.parametrize(
    ("text", "expected"), [("77\n", "77"), ("", ""), ("lab", ""), ("0", ""), ("7 7", ""), ("1" * 21, "")]
)
def test_recorded(text: str, expected: str) -> None:
    assert identity.parse_recorded(text) == expected


@pytest.mark.parametrize("head", WAL)
def test_etcd_members_of_one_cluster_have_one_id(head: str) -> None:
    assert identity.parse_etcd_wal(bytes.fromhex(head) + bytes(400)) == CLUSTER


@pytest.mark.parametrize("head", WAL)
def test_etcd_wal_that_is_cut_off_gives_the_id_or_none(head: str) -> None:
    raw = bytes.fromhex(head)
    whole = 16 + 8 + raw[16]  # after the frame of the checksum
    found = [identity.parse_etcd_wal(raw[:length]) for length in range(len(raw))]
    assert found == [""] * whole + [CLUSTER] * (len(raw) - whole)


@pytest.mark.parametrize("raw", [b"", bytes(4096), b"\xff" * 4096, b"no write-ahead log " * 50, CONTROL * 20])
def test_etcd_wal_that_is_none(raw: bytes) -> None:
    assert identity.parse_etcd_wal(raw) == ""


ANSWER = {"state": "running", "database_system_identifier": IDENTIFIER, "patroni": {"scope": "lab", "name": "node1"}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps(ANSWER), ("lab", "node1", IDENTIFIER)),
        (json.dumps({**ANSWER, "database_system_identifier": ""}), ("lab", "node1", "")),
        (json.dumps({"patroni": "x", "database_system_identifier": None}), ("", "", "")),
        ("[]", ("", "", "")),
        ("<html>", ("", "", "")),
    ],
)
def test_patroni(text: str, expected: tuple[str, str, str]) -> None:
    assert identity.parse_patroni(text) == expected


TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.20.0.0/24 2 0 2
        |-- 10.20.0.0
           /24 link UNICAST
        |-- 10.20.0.11
           /32 link UNICAST
           /32 host LOCAL
        |-- 10.20.0.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
Local:
  |-- 10.20.0.11
     /32 host LOCAL
"""


def test_addresses() -> None:
    assert identity.parse_addresses(TRIE) == ("10.20.0.11", "127.0.0.1")
    assert identity.parse_addresses("") == ()

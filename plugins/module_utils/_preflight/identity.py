# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose data this is: identifiers as PostgreSQL, etcd and Patroni write them.

Invariant (checked by the tests): what is not understood gives no identifier, never a wrong one.
"""

from __future__ import annotations

import datetime
import json
import re
import struct
import typing as t

# Before version 1100 (PostgreSQL 11) the layout may differ; the field holds small numbers.
CONTROL_VERSIONS = range(1100, 10000)
WAL_METADATA = 1  # wal.MetadataType of etcd
NODE_ID, CLUSTER_ID = 1, 2  # fields of etcdserverpb.Metadata
RECORD_TYPE, RECORD_DATA = 1, 3  # fields of walpb.Record
VARINT, BYTES = 0, 2


def parse_pg_control(raw: bytes) -> str:
    """The system identifier of C(global/pg_control), which is in the processor's order (little-endian where we run)."""
    if len(raw) < 12:
        return ""
    identifier, version = struct.unpack_from("<QI", raw)
    return str(identifier) if identifier and version in CONTROL_VERSIONS else ""


def made(identifier: str) -> str:
    """When initdb made this identifier, whose upper half is the time."""
    moment = datetime.datetime.fromtimestamp(int(identifier) >> 32, datetime.timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def shown(identifier: str) -> str:
    """An identifier in words."""
    return f"{identifier} (made {made(identifier)})"


def parse_recorded(text: str) -> str:
    """The identifier that a file records."""
    match = re.fullmatch(r"\s*([1-9][0-9]{0,19})\s*", text)
    return match[1] if match else ""


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A number of a protocol buffer, and where the next field begins."""
    value, shift = 0, 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _fields(raw: bytes) -> t.Iterator[tuple[int, t.Any]]:
    """Numbers and byte strings of a protocol buffer."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        if key & 7 == VARINT:
            value: t.Any
            value, at = _varint(raw, at)
        elif key & 7 == BYTES:
            length, at = _varint(raw, at)
            value, at = raw[at : at + length], at + length
        else:
            raise ValueError(f"field type {key & 7}")
        yield key >> 3, value


def parse_etcd_wal(raw: bytes) -> str:
    """The cluster's id, in the hexadecimal form that etcd prints, from the head of one of its WAL files.

    A frame is a length of 56 bits, a byte that tells the padding, and a record; each file begins with a checksum and
    the member's metadata.
    """
    try:
        at = 0
        for __ in range(4):
            (head,) = struct.unpack_from("<Q", raw, at)
            length = head & ((1 << 56) - 1)
            padding = (head >> 56) & 7 if head >> 63 else 0
            if at + 8 + length > len(raw):
                return ""
            record = dict(_fields(raw[at + 8 : at + 8 + length]))
            if record.get(RECORD_TYPE) == WAL_METADATA:
                cluster = dict(_fields(record[RECORD_DATA])).get(CLUSTER_ID)
                return f"{cluster:x}" if cluster else ""
            at += 8 + length + padding
    except (struct.error, IndexError, KeyError, TypeError, ValueError):
        pass
    return ""


def parse_patroni(text: str) -> tuple[str, str, str]:
    """Scope, name and system identifier of what C(GET /patroni) answered; each empty when it is not said."""
    try:
        answer = json.loads(text)
    except ValueError:
        return "", "", ""
    if not isinstance(answer, dict):
        return "", "", ""
    patroni = answer.get("patroni")
    patroni = patroni if isinstance(patroni, dict) else {}
    identifier = parse_recorded(str(answer.get("database_system_identifier") or ""))
    return str(patroni.get("scope") or ""), str(patroni.get("name") or ""), identifier


def parse_addresses(text: str) -> tuple[str, ...]:
    """The host's own IPv4 addresses by C(/proc/net/fib_trie)."""
    found, leaf = [], ""
    for line in text.splitlines():
        word = line.strip()
        if word.startswith("|-- "):
            leaf = word[4:]
        elif word == "/32 host LOCAL":
            found.append(leaf)
    return tuple(dict.fromkeys(found))

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What edges seal for each other, with certificates as the role pki makes them and the real openssl."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from acme_lab import EDGE, lay, leaf
from client.seal import Seal, SealError, fingerprint

SECRET = "chain and key, some 5 KB of it\n" * 160


@pytest.fixture
def one(tmp_path: Path) -> Seal:
    return Seal(lay(tmp_path / "one", "node1"))


@pytest.fixture
def other(tmp_path: Path) -> Seal:
    return Seal(lay(tmp_path / "other", "node2"))


SITE = {"node1", "node2"}


def pem(name: str) -> str:
    return leaf(name, EDGE)[0]


def test_every_reader_opens_it_and_nobody_else(one: Seal, other: Seal, tmp_path: Path) -> None:
    sealed = one.close(SECRET, [pem("node1"), pem("node2")])
    assert SECRET[:30].encode() not in base64.b64decode(sealed)
    assert one.open(sealed, SITE) == other.open(sealed, SITE) == SECRET
    third = Seal(lay(tmp_path / "third", "node3"))
    with pytest.raises(SealError, match="cms"):
        third.open(sealed, SITE)
    with pytest.raises(SealError):
        other.open(one.close(SECRET, [pem("node1")]), SITE)


def test_what_was_tampered_with_does_not_open(one: Seal) -> None:
    sealed = bytearray(base64.b64decode(one.close(SECRET, [pem("node1")])))
    sealed[len(sealed) // 2] ^= 1
    with pytest.raises(SealError):
        one.open(base64.b64encode(sealed).decode(), SITE)


def test_who_is_no_edge_seals_nothing_for_us(one: Seal, tmp_path: Path) -> None:
    """Another certificate of our own authority, an edge's of another authority, and an edge that was retired."""
    strangers: list[tuple[str, tuple[str, ...], str, str]] = [
        ("node9", (), "site", "not sealed by an edge"),
        ("node1", EDGE, "stranger", "certificate verify error"),
        ("node3", EDGE, "site", "not sealed by an edge"),
    ]
    for name, sans, ca, why in strangers:
        stranger = Seal(lay(tmp_path / f"{name}-{ca}", name, sans, ca))
        with pytest.raises(SealError, match=why):
            one.open(stranger.close(SECRET, [pem("node1")]), SITE)


def test_which_edge_it_is(one: Seal) -> None:
    assert [one.edge(pem(name)) for name in ("node1", "node2")] == ["node1", "node2"]
    assert one.edge(leaf("node1")[0]) == ""
    assert one.edge(leaf("node1", ("dns:node2", *EDGE))[0]) == "", "two at once"
    assert one.edge(leaf("node1", EDGE, "stranger")[0]) == ""
    assert one.edge(leaf("node1", EDGE, "site", -0.01)[0]) == "", "it has ended"
    assert one.edge("-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n") == ""
    assert one.edge("") == ""


def test_fingerprints_tell_certificates_apart() -> None:
    assert fingerprint(pem("node1")) != fingerprint(pem("node2"))
    assert len(fingerprint(pem("node1")).split(":")) == 32

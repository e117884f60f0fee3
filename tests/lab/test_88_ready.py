# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate before production, and a record that is signed. The rehearsal of test_85 has passed before."""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

import pytest
from labtools import Lab, run

# Appended: that folder has a conftest of its own.
sys.path.append(str(Path(__file__).resolve().parents[1] / "ha"))

from operating import operate

# What a busy machine measures is no reason here.
TARGETS = ("-e", "rpo_seconds=300")
PROVEN = "/var/lib/dedicated/backups-verified.json"


class Signing(t.NamedTuple):
    """A controller of its own, with a key."""

    env: dict[str, str]
    public: str


def key_pair(place: Path, name: str) -> tuple[Path, str]:
    private = place / f"{name}.pem"
    run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)])
    private.chmod(0o600)
    return private, run(["openssl", "pkey", "-in", str(private), "-pubout"]).stdout


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Signing:
    place = tmp_path_factory.mktemp("signing")
    private, public = key_pair(place, "key")
    env = {"DEDICATED_EVIDENCE_DIR": str(place / "evidence"), "DEDICATED_EVIDENCE_SIGNING_KEY": str(private)}
    return Signing(env, public)


def met(lab: Lab, name: str, **more: t.Any) -> dict[str, bool]:
    """What ready says of each demand."""
    place = lab.build / f"{name}.json"
    operate(lab, "ready", "-e", f"ready_file={place}", *TARGETS, **more)
    return {one["code"]: one["met"] for one in json.loads(place.read_text())["demands"]}


def test_backups_that_nobody_verified_are_not_ready(lab: Lab) -> None:
    for host in lab.of("postgres"):
        host.run(["rm", "-f", PROVEN])
    demands = met(lab, "not-ready", fails=True)
    assert [code for code, well in demands.items() if not well] == ["backups-verified"]


def test_verified_and_rehearsed_it_is_ready(lab: Lab, signing: Signing) -> None:
    operate(lab, "verify_backup", "-e", "reason=test", "-e", "dedicated_rpo_seconds=300", **signing.env)
    assert all(met(lab, "ready").values())


def test_the_record_says_who_signed_it(lab: Lab, signing: Signing, tmp_path: Path) -> None:
    """By its key it is whole; by another's, or where all of it has to be signed, it is not."""
    words: dict[str, t.Any] = {"evidence_public_keys": [signing.public]}
    operate(lab, "verify_evidence", "-e", json.dumps(words), **signing.env)
    # Other runs of this lab have no key.
    words["evidence_require_signature"] = True
    assert "unsigned" in operate(lab, "verify_evidence", "-e", json.dumps(words), fails=True, **signing.env)
    words = {"evidence_public_keys": [key_pair(tmp_path, "other")[1]]}
    assert "unknown_key" in operate(lab, "verify_evidence", "-e", json.dumps(words), fails=True, **signing.env)

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every file and port is either among the certificates or among the missing."""

from __future__ import annotations

import dataclasses
import json
import typing as t
from pathlib import Path

import pytest
from certificate_lab import NAMES, NOW, context, make, plain, port, tls

from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.io import Failure, Served, Target
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.service import HostEyes, InfoService
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import SubprocessRunner

AUTHORITY = make("authority", ca=True)
LEAF = make("leaf", AUTHORITY, names=NAMES)
WEB = Target("https", "10.0.0.1", 443, "erp.example.com", ca="/ca")
ETCD = Target("etcd", "10.0.0.2", 2379)


@dataclasses.dataclass
class FakeEyes:
    """What lies and what is served, by path and by name."""

    files: dict[str, str] = dataclasses.field(default_factory=dict)
    ports: dict[str, Served] = dataclasses.field(default_factory=dict)
    verdict: tuple[bool | None, str] = (True, "")
    verified: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def read(self, path: str) -> str:
        if path not in self.files:
            raise Failure("no_file", "there is no such file")
        return self.files[path]

    def verify(self, path: str, ca: str) -> tuple[bool | None, str]:
        self.verified.append((path, ca))
        return self.verdict

    def ask(self, target: Target) -> Served:
        return self.ports[target.name]


def look(
    eyes: FakeEyes, files: t.Sequence[str] = (), targets: t.Sequence[Target] = (), ca: str = ""
) -> dict[str, t.Any]:
    found = InfoService(eyes, lambda: NOW.timestamp()).look(files, targets, ca)
    # As Ansible takes it.
    json.dumps(found)
    return found


def test_nothing_asked() -> None:
    assert look(FakeEyes()) == {"certificates": [], "missing": []}


def test_file_with_its_chain_and_a_key() -> None:
    eyes = FakeEyes({"/a": LEAF.key_pem + LEAF.pem + AUTHORITY.pem})
    found = look(eyes, ["/a"], ca="/ca")
    (one,) = found["certificates"]
    assert (one["source"], one["name"], one["path"], one["code"]) == ("file", "/a", "/a", "")
    assert (one["subject"], one["days_left"], one["verified"], one["unverified_because"]) == ("CN=leaf", 40, True, "")
    assert [other["subject"] for other in one["chain"]] == ["CN=authority"]
    assert eyes.verified == [("/a", "/ca")]
    assert "PRIVATE" not in json.dumps(found)


def test_without_an_authority_nothing_is_verified() -> None:
    eyes = FakeEyes({"/a": LEAF.pem}, {ETCD.name: Served((LEAF.der,))})
    for one in look(eyes, ["/a"], [ETCD])["certificates"]:
        assert (one["verified"], one["unverified_because"]) == (None, "no authority was given")
    assert eyes.verified == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "no_file"),
        ("", "no_certificate"),
        (LEAF.key_pem, "no_certificate"),
        (LEAF.pem[:200], "malformed"),
        (LEAF.pem.replace("MII", "MIJ", 1), "malformed"),
    ],
)
def test_file_without_a_certificate(text: str | None, code: str) -> None:
    found = look(FakeEyes({} if text is None else {"/a": text}), ["/a"], ca="/ca")
    assert found["certificates"] == []
    assert [(one["name"], one["code"], bool(one["why"])) for one in found["missing"]] == [("/a", code, True)]


def test_port() -> None:
    eyes = FakeEyes(ports={WEB.name: Served((LEAF.der, AUTHORITY.der), True, verified=False, unverified="expired")})
    (one,) = look(eyes, targets=[WEB])["certificates"]
    assert {name: one[name] for name in ("source", "name", "path", "protocol", "host", "port", "server_name")} == {
        "source": "port",
        "name": "https://10.0.0.1:443",
        "path": None,
        "protocol": "https",
        "host": "10.0.0.1",
        "port": 443,
        "server_name": "erp.example.com",
    }
    assert (one["serial"], one["verified"], one["unverified_because"]) == (
        f"{LEAF.certificate.serial_number:x}",
        False,
        "expired",
    )
    assert len(one["chain"]) == 1


def test_port_of_an_older_python_has_a_chain_that_is_not_known() -> None:
    (one,) = look(FakeEyes(ports={ETCD.name: Served((LEAF.der,), False)}), targets=[ETCD])["certificates"]
    assert (one["chain"], one["server_name"]) == (None, "10.0.0.2")


def test_certificate_that_was_seen_before_we_were_refused() -> None:
    served = Served((LEAF.der,), True, "client_certificate_required", "alert")
    (one,) = look(FakeEyes(ports={ETCD.name: served}), targets=[ETCD])["certificates"]
    assert (one["code"], one["why"], one["subject"]) == ("client_certificate_required", "alert", "CN=leaf")


@pytest.mark.parametrize(
    ("served", "code"),
    [(Served(code="refused", why="nobody"), "refused"), (Served((LEAF.der, LEAF.der[:-1]), True), "malformed")],
)
def test_port_without_a_certificate(served: Served, code: str) -> None:
    found = look(FakeEyes(ports={ETCD.name: served}), targets=[ETCD])
    assert found["certificates"] == []
    assert [(one["name"], one["host"], one["code"]) for one in found["missing"]] == [(ETCD.name, "10.0.0.2", code)]


def test_many_in_the_order_of_the_question() -> None:
    paths = [f"/{number}" for number in range(40)]
    eyes = FakeEyes({path: LEAF.pem for path in paths if path != "/7"}, {ETCD.name: Served((LEAF.der,))})
    found = look(eyes, paths, [ETCD])
    assert [one["name"] for one in found["certificates"]] == [*(path for path in paths if path != "/7"), ETCD.name]
    assert [one["name"] for one in found["missing"]] == ["/7"]


def test_the_file_is_newer_than_what_is_served(tmp_path: Path) -> None:
    """The reason for this module: for real, a renewed file that nobody has loaded."""
    renewed = make("leaf", AUTHORITY, names=NAMES, days=(-1, 80))
    (tmp_path / "cert.pem").write_text(renewed.pem)
    (tmp_path / "ca.pem").write_text(AUTHORITY.pem)
    ca = str(tmp_path / "ca.pem")
    with port(tls(context(tmp_path, LEAF))) as number, port(plain) as other:
        targets = [Target("tls", "127.0.0.1", number, ca=ca), Target("redis", "127.0.0.1", other, ca=ca)]
        found = InfoService(HostEyes(SubprocessRunner(), 5)).look([str(tmp_path / "cert.pem")], targets, ca)
    file, served = found["certificates"]
    assert (file["verified"], served["verified"]) == (True, True)
    assert (file["days_left"], served["days_left"]) == (79, 39)
    assert file["serial"] != served["serial"]
    assert file["public_key"] == served["public_key"]
    assert [(one["protocol"], one["code"]) for one in found["missing"]] == [("redis", "no_tls")]

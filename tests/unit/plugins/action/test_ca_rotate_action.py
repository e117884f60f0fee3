# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action from its arguments to its result, with hosts that are directories and follow each step, or do not."""

from __future__ import annotations

import json
import os
import pathlib
import types
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.action.ca_rotate import ActionModule
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._pki import crypto
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.authority import Store
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.plan import DAY, Issue, Wanted
from ansible_collections.dedicated.odoo.plugins.modules import ca_rotate

SECRET = "canary-passphrase"
HOSTS = ("erp1", "erp2")


class Action(ActionModule):
    def __init__(self, args: dict[str, t.Any], check: bool) -> None:
        task = types.SimpleNamespace(args=args, check_mode=check, diff=True, async_val=0, action="ca_rotate")
        connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir=None))
        super().__init__(task, connection, None, None, None, None)

    def _execute_module(self, **given: t.Any) -> dict[str, t.Any]:
        arguments = given["module_args"]
        assert "passphrase" not in arguments
        return {"changed": False, "found": ca_rotate.look(arguments["directory"], arguments["names"])}


class Site:
    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.store = Store(str(root / "ca"))
        assert not isinstance(self.store.create("test internal CA", SECRET), Refuse)
        for name in HOSTS:
            self.converge(name)

    def converge(self, name: str) -> None:
        """What site.yml does to a host."""
        place = self.root / name / "etcd"
        place.mkdir(parents=True, exist_ok=True)
        pem = self.store.certificate()
        leaf = crypto.read_leaf((place / "cert.pem").read_text(), pem) if (place / "cert.pem").exists() else None
        if leaf is None or not leaf.trusted:
            made = self.store.read()
            assert made is not None
            assert not isinstance(made, Refuse)
            issue = Issue(
                Wanted("etcd", name, ("dns:n1",), ("server",), 0, 0), "missing", made.not_before, made.not_before + DAY
            )
            request = crypto.new_request(crypto.new_key(), name)
            (place / "cert.pem").write_text(self.store.sign(SECRET, [issue], {"etcd": request})["etcd"])
        (place / "ca.pem").write_text(self.store.trust())

    def look(self, name: str) -> dict[str, t.Any]:
        given = {"ca_dir": str(self.root / "ca"), "directory": str(self.root / name), "names": ["etcd"]}
        return Action(given, False).run(None, {})

    def step(self, check: bool = False, **more: t.Any) -> dict[str, t.Any]:
        given = {
            "ca_dir": str(self.root / "ca"),
            "ca_name": "test internal CA",
            "passphrase": SECRET,
            "hosts": {name: self.look(name) for name in HOSTS},
            **more,
        }
        result = Action(given, check).run(None, {})
        assert SECRET not in json.dumps(result)
        assert "PRIVATE" not in json.dumps(result)
        return result


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Site:
    return Site(tmp_path)


def test_step_by_step_with_everybody(site: Site) -> None:
    [former] = site.look("erp1")["signers"]
    taken = []
    for number in range(4):
        answer = site.step(begin=number == 0)
        assert not answer.get("failed"), answer
        taken.append((answer["step"], answer["phase"], len(answer["authorities"])))
        for name in HOSTS:
            site.converge(name)
    assert taken == [
        ("prepare", "trusting", 2),
        ("promote", "issuing", 2),
        ("settle", "settled", 1),
        ("", "settled", 1),
    ]
    for name in HOSTS:
        seen = site.look(name)
        assert seen["trusts"] == seen["signers"] != [former]


def test_it_does_not_sign_before_it_may(site: Site) -> None:
    assert site.step(begin=True, sign=False)["step"] == "prepare"
    for name in HOSTS:
        site.converge(name)
    answer = site.step(begin=True, sign=False)
    assert (answer["step"], answer["phase"], answer["changed"]) == ("", "trusting", False)
    assert site.step(begin=False)["step"] == "promote"


def test_a_successor_that_could_not_sign_for_a_service_is_not_made(site: Site) -> None:
    """Past this step there is no way back."""
    answer = site.step(begin=True, ca_domains=["books.example"])
    assert (answer["failed"], answer["code"]) == (True, "name-not-permitted")
    assert "dns:n1" in answer["msg"]
    assert sorted(os.listdir(site.root / "ca")) == ["ca.key", "ca.lock", "ca.pem"]
    assert site.step(begin=True, ca_domains=["books.example", "N1"])["step"] == "prepare"


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_no_step_without_everybody(site: Site, steps: int) -> None:
    for number in range(steps):
        assert not site.step(begin=number == 0).get("failed")
        site.converge("erp1")
        if number < steps - 1:
            site.converge("erp2")
    answer = site.step(begin=steps == 3)
    assert (answer["failed"], answer["code"]) == (True, "host-left-behind")
    assert "erp2" in answer["msg"]
    assert "erp1" not in answer["msg"]


def test_nothing_begins_by_itself_or_in_check_mode(site: Site) -> None:
    assert site.step()["step"] == ""
    answer = site.step(check=True, begin=True)
    assert (answer["step"], answer["phase"], answer["changed"]) == ("prepare", "settled", True)
    assert sorted(os.listdir(site.root / "ca")) == ["ca.key", "ca.lock", "ca.pem"]


def test_refusals(site: Site) -> None:
    assert site.step(passphrase="")["code"] == "bad-input"
    assert site.step(passphrase="wrong")["code"] == "wrong-passphrase"
    assert site.step(ca_dir=str(site.root / "nowhere"))["code"] == "bad-input"
    stranger = Site(site.root / "stranger")
    (site.root / "erp2" / "etcd" / "cert.pem").write_text((stranger.root / "erp2" / "etcd" / "cert.pem").read_text())
    answer = site.step(begin=True)
    assert answer["code"] == "other-ca"
    assert "erp2" in answer["msg"]

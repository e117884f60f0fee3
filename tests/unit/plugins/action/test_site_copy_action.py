# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action from its arguments to what lies on a host that is a directory, opened again with the password."""

from __future__ import annotations

import base64
import io
import json
import os
import pathlib
import tarfile
import types
import typing as t

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.dedicated.odoo.plugins.action.site_copy import ActionModule
from ansible_collections.dedicated.odoo.plugins.module_utils._site_copy import plan
from ansible_collections.dedicated.odoo.plugins.module_utils._site_copy.io import Place

SECRET = "canary-passphrase"
CONTENT = "canary-content"


class Action(ActionModule):
    """The action with a host that is a directory; `visits` records what travelled."""

    def __init__(self, args: dict[str, t.Any], check: bool) -> None:
        task = types.SimpleNamespace(args=args, check_mode=check, diff=True, async_val=0, action="site_copy")
        connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir=None))
        super().__init__(task, connection, None, None, None, None)
        self.visits: list[dict[str, t.Any]] = []

    def _execute_module(self, **given: t.Any) -> dict[str, t.Any]:
        arguments = given["module_args"]
        self.visits.append(arguments)
        place = Place(arguments["data"], arguments["owner"])
        found = place.look()
        due = plan.is_due(found, arguments["digest"])
        if due and arguments.get("sealed"):
            place.write(base64.b64decode(arguments["sealed"]), {**arguments["about"], "digest": arguments["digest"]})
        return {"changed": due, "database": found.database}


class Site:
    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        (root / "inventory" / "group_vars").mkdir(parents=True)
        (root / "inventory" / "group_vars" / "all.yml").write_text(CONTENT)
        (root / "inventory" / "roles").mkdir()
        (root / "inventory" / "roles" / "main.yml").write_text("not of the inventory")
        (root / "pki").mkdir()
        (root / "pki" / "ca.pem").write_text("authority")
        (root / "data").mkdir()
        (root / "data" / "PG_VERSION").write_text("17\n")

    def __call__(self, check: bool = False, **args: t.Any) -> tuple[dict[str, t.Any], list[dict[str, t.Any]]]:
        given = {
            "data": str(self.root / "data"),
            "owner": os.getuid(),
            "trees": [
                {"name": "inventory", "path": str(self.root / "inventory"), "folders": ["group_vars"]},
                {"name": "pki", "path": str(self.root / "pki")},
            ],
            "passphrase": SECRET,
            **args,
        }
        action = Action(given, check)
        result = action.run(None, {})
        assert SECRET not in json.dumps([result, action.visits])
        assert CONTENT not in json.dumps([result, action.visits])
        return result, action.visits

    def opened(self, secret: str = SECRET) -> dict[str, str]:
        sealed = (self.root / "data" / "dedicated" / plan.SEALED).read_bytes()
        packed = VaultLib([("default", VaultSecret(secret.encode()))]).decrypt(sealed)
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            return {one.name: t.cast("t.IO[bytes]", tar.extractfile(one)).read().decode() for one in tar}


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Site:
    return Site(tmp_path)


def test_it_is_sealed_once_and_opens_with_the_password(site: Site) -> None:
    result, visits = site()
    assert result["changed"]
    assert result["files"] == {"inventory": 1, "pki": 1}
    assert len(visits) == 2
    assert site.opened() == {"inventory/group_vars/all.yml": CONTENT, "pki/ca.pem": "authority"}
    result, visits = site()
    assert not result["changed"]
    assert len(visits) == 1


def test_another_content_or_password_is_another_copy(site: Site) -> None:
    site()
    (site.root / "pki" / "ca.pem").write_text("successor")
    assert site()[0]["changed"]
    assert site.opened()["pki/ca.pem"] == "successor"
    assert site(passphrase="other")[0]["changed"]
    assert site.opened("other")["pki/ca.pem"] == "successor"


def test_check_mode_and_a_survey_write_nothing(site: Site) -> None:
    result, visits = site(check=True)
    assert result["changed"]
    assert len(visits) == 1
    (site.root / "pki" / "ca.pem").unlink()
    result, visits = site(survey=True)
    assert not result["changed"]
    assert not visits
    assert not (site.root / "data" / "dedicated").exists()


def test_refusals_come_before_the_host_is_asked(site: Site) -> None:
    for code, args in {"no-secret": {"passphrase": ""}, "bad-input": {"digest": "1"}}.items():
        result, visits = site(**args)
        assert (result["failed"], result["code"], visits) == (True, code, [])
    (site.root / "pki" / "ca.pem").unlink()
    result, visits = site()
    assert (result["code"], visits) == ("nothing-to-copy", [])

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module from its arguments to its output, in check mode: nothing of the machine is touched."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.dedicated.odoo.plugins.modules import stack_project

CANARY = "canary-4d21"


def call(capsys: pytest.CaptureFixture[str], **arguments: t.Any) -> dict[str, t.Any]:
    with (
        patch_module_args(
            {"_ansible_check_mode": True, "_ansible_diff": True, "_ansible_syslog_facility": "", **arguments}
        ),
        pytest.raises(SystemExit),
    ):
        stack_project.main()
    return t.cast("dict[str, t.Any]", json.loads(capsys.readouterr().out))


def test_a_first_deploy_is_predicted_without_showing_a_secret(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home = tmp_path.resolve() / "x"
    result = call(
        capsys,
        name="x",
        directory=str(home),
        definition={"services": {"web": {"image": "i"}}},
        secrets={"pw": CANARY, "conf": f"[options]\nadmin_passwd = {CANARY}\n"},
        files=[
            {"path": "conf/a", "content": "visible\n"},
            {"path": "secrets/pw", "content_from": "pw"},
            {"path": "conf/odoo.conf", "content_from": "conf", "owner": "10050"},
        ],
    )
    assert result["changed"]
    assert result["changed_files"] == [
        str(home / path) for path in ("compose.yaml", "conf/a", "conf/odoo.conf", "secrets/pw")
    ]
    assert any(entry["after"] == "visible\n" for entry in result["diff"])
    assert CANARY not in json.dumps(result)
    assert not home.exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"name": "X"}, "bad_name"),
        ({"name": "x", "files": [{"path": "/etc/passwd", "content": ""}]}, "bad_path"),
        ({"name": "x", "state": "absent", "purge_data": True, "confirm": "y"}, "not_confirmed"),
        ({"name": "x", "mark_reloaded": ["nothing"], "directory": "/nonexistent/x"}, "unknown_reload_group"),
    ],
)
def test_refusals_carry_a_code(capsys: pytest.CaptureFixture[str], arguments: dict[str, t.Any], code: str) -> None:
    result = call(capsys, **arguments)
    assert result["failed"]
    assert result["code"] == code
    assert result["msg"]


def test_a_file_has_exactly_one_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, name="x", files=[{"path": "a"}])["failed"]
    assert call(capsys, name="x", files=[{"path": "a", "content": "", "content_from": "b"}])["failed"]

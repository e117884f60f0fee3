# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's half as Ansible runs it: a process that reads arguments and prints JSON."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.module_utils._pki.plan import KEY_MODES, USAGES
from ansible_collections.dedicated.odoo.plugins.modules import pki_certificates

MODULE = "ansible_collections.dedicated.odoo.plugins.modules.pki_certificates"
# As on a host whose python3-cryptography is not installed yet.
WITHOUT_LIBRARY = "import sys; sys.modules['cryptography'] = None; "
START = (
    "from ansible.module_utils.testing import patch_module_args; import json, os, runpy\n"
    "with patch_module_args(json.loads(os.environ['ARGS'])):\n"
    f"    runpy.run_module('{MODULE}', run_name='__main__')\n"
)


def run(root: pathlib.Path, check: bool, prefix: str = "", **changes: t.Any) -> dict[str, t.Any]:
    item = {"name": "etcd", "common_name": "n1", "sans": ["dns:n1"], "usages": ["server"], "owner": 0, "group": 0}
    args = {
        "certificates": [item],
        "ca_dir": "/nowhere",
        "directory": str(root / "pki"),
        "request": {"phase": "inspect", "now": 1_800_000_000, "ca_pem": "", "issued": {}},
        "_ansible_check_mode": check,
        **changes,
    }
    environment = {**os.environ, "ARGS": json.dumps(args), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", prefix + START], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    return t.cast("dict[str, t.Any]", json.loads(done.stdout.splitlines()[-1]))


def test_without_the_library_check_mode_reports_and_the_run_names_the_package(tmp_path: pathlib.Path) -> None:
    checked = run(tmp_path, check=True, prefix=WITHOUT_LIBRARY)
    assert checked["host"]["library"] is False
    assert checked["host"]["certificates"][0]["cert"] == ""
    failed = run(tmp_path, check=False, prefix=WITHOUT_LIBRARY)
    assert failed["failed"]
    assert "python3-cryptography" in failed["msg"]
    assert list(tmp_path.iterdir()) == []


def test_with_the_library(tmp_path: pathlib.Path) -> None:
    assert run(tmp_path, check=False)["host"]["library"] is True
    assert list(tmp_path.iterdir()) == []


def test_it_is_not_for_direct_use(tmp_path: pathlib.Path) -> None:
    assert "dedicated.odoo.pki_certificates" in run(tmp_path, check=False, request=None)["msg"]


def test_bad_input_is_refused_on_the_host_too(tmp_path: pathlib.Path) -> None:
    item = {"name": "../x", "common_name": "n1", "usages": ["client"], "owner": 0, "group": 0}
    assert run(tmp_path, check=False, certificates=[item])["code"] == "bad-input"


def _documented(options: dict[str, t.Any]) -> dict[str, t.Any]:
    keep = ("type", "elements", "required", "default", "choices")
    return {
        name: {
            **{key: option[key] for key in keep if key in option},
            **({"options": _documented(option["suboptions"])} if "suboptions" in option else {}),
        }
        for name, option in options.items()
    }


def _specified(spec: dict[str, t.Any]) -> dict[str, t.Any]:
    return {
        name: {
            **{key: value for key, value in option.items() if key not in ("no_log", "options")},
            **({"options": _specified(option["options"])} if "options" in option else {}),
        }
        for name, option in spec.items()
    }


def test_documentation_equals_specification() -> None:
    documented = yaml.safe_load(pki_certificates.DOCUMENTATION)["options"]
    assert _documented(documented) == _specified(pki_certificates.ARGUMENT_SPEC)


def test_passphrase_is_hidden() -> None:
    assert pki_certificates.ARGUMENT_SPEC["passphrase"]["no_log"] is True


@pytest.mark.parametrize(("option", "known"), [("mode", KEY_MODES), ("usages", USAGES)])
def test_choices_equal_the_planner(option: str, known: tuple[str, ...]) -> None:
    assert tuple(pki_certificates.CERTIFICATE_SPEC[option]["choices"]) == known

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive, installed into an empty place as a customer does it, runs the same playbook to the same state."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = os.environ.get("LAB") or "lab"
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


def test_site_from_the_installed_archive_changes_nothing(tmp_path: Path) -> None:
    subprocess.run([ROOT / "tools" / "build-test", "copy", "build", "install"], cwd=ROOT, check=True, timeout=300)
    installed = ROOT / "build" / "build-test" / "site"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")} | {
        "ANSIBLE_COLLECTIONS_PATH": str(installed),
        "ANSIBLE_VAULT_PASSWORD_FILE": str(ROOT / "build" / NAME / "vault-password"),
        "ANSIBLE_NOCOLOR": "1",
    }
    # From an empty folder: neither this work tree nor its ansible.cfg is found.
    done = subprocess.run(
        [PLAYBOOK, "dedicated.odoo.site", "-i", ROOT / "inventories" / NAME, "-vv"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "PLAYBOOK: site.yml" in done.stdout
    assert str(installed) in done.stdout, "the playbook came from somewhere else"
    assert set(re.findall(r"changed=(\d+)", done.stdout)) == {"0"}, done.stdout[-4000:]

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role pgbackrest lays down: lines of each repository, keys for its user alone, a script that goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.module_utils._repositories import plan

ROLE = Path(plan.__file__).parents[3] / "roles" / "pgbackrest"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary-key\n-----END OPENSSH PRIVATE KEY-----\n"
S3: dict[str, t.Any] = {
    "number": 1,
    "type": "s3",
    "path": "/pgbackrest",
    "cipher_pass": "canary-one",
    "s3": {"endpoint": "s3.test", "bucket": "backup", "key": "k1", "key_secret": "canary-secret"},
}
SFTP: dict[str, t.Any] = {
    "number": 2,
    "type": "sftp",
    "path": "/srv/backup",
    "generation": 3,
    "cipher_pass": "canary-two",
    "retention_days": 90,
    "sftp": {"host": "vault.test", "user": "erp", "private_key": KEY, "host_fingerprint": "ab" * 32},
}
POSIX = {"number": 3, "type": "posix", "path": "/mnt/backup", "cipher_pass": "canary-three", "shared": True}


def templated(place: Path, role: Path, given: t.Any, local: dict[str, t.Any], **variables: t.Any) -> t.Any:
    """A value as Ansible itself makes it with the variables of a role."""
    copy = {"dest": str(place / "out.json"), "content": "{{ __given | to_json }}", "mode": "0600"}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {
            **yaml.safe_load((role / "defaults" / "main.yml").read_text(encoding="utf-8")),
            **yaml.safe_load((role / "vars" / "main.yml").read_text(encoding="utf-8")),
            "dedicated_cluster": "lab",
            **variables,
        },
        "tasks": [{"ansible.builtin.copy": copy, "vars": {**local, "__given": given}}],
    }
    (place / "play.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    (place / "templates").symlink_to(role / "templates")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(Path(plan.__file__).parents[6]),
        "ANSIBLE_LOCAL_TEMP": str(place / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
    }
    argv = [sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "-c", "local", "play.yml"]
    argv += ["-e", f"ansible_python_interpreter={sys.executable}"]
    done = subprocess.run(argv, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (place / "out.json").exists(), done.stdout + done.stderr
    assert "canary" not in done.stdout + done.stderr
    return json.loads((place / "out.json").read_text())


def laid(place: Path, **variables: t.Any) -> dict[str, t.Any]:
    """The arguments of stack_project, as the role's task would call it."""
    tasks = yaml.safe_load((ROLE / "tasks" / "configure.yml").read_text(encoding="utf-8"))
    (task,) = [one for one in tasks if "dedicated.odoo.stack_project" in one]
    found = templated(place, ROLE, task["dedicated.odoo.stack_project"], task["vars"], **variables)
    return t.cast("dict[str, t.Any]", found)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> dict[str, t.Any]:
    return laid(
        tmp_path_factory.mktemp("three"),
        pgbackrest_repositories=[POSIX, SFTP, S3],
        pgbackrest_policy={"incr": "*-*-* 12:00", "diff": ""},
    )


def test_one_repository_is_configured_as_ever(tmp_path: Path) -> None:
    given = laid(tmp_path, pgbackrest_repositories=[S3])
    lines = given["secrets"]["conf"].splitlines()
    assert {"repo1-type=s3", "repo1-path=/pgbackrest/1", "repo1-cipher-pass=canary-one", "repo1-retention-full=30"} <= {
        *lines
    }
    assert not [line for line in lines if line.startswith(("repo2", "[global:", "io-timeout"))]
    assert lines[-4:] == [
        "[lab]",
        "pg1-path=/var/lib/postgresql/data/17",
        "pg1-socket-path=/run/postgresql",
        "pg1-user=postgres",
    ]
    assert {one["path"] for one in given["files"]} == {
        "conf/pgbackrest.conf",
        "bin/backup",
        *(
            f"/etc/systemd/system/dedicated-backup-{kind}.{suffix}"
            for kind in ("full", "diff")
            for suffix in ("service", "timer")
        ),
    }


def test_every_repository_has_its_lines_and_only_the_conf_has_secrets(three: dict[str, t.Any]) -> None:
    lines = three["secrets"]["conf"].splitlines()
    assert {"repo2-path=/srv/backup/3", "repo2-sftp-host-key-check-type=fingerprint", "repo2-retention-full=90"} <= {
        *lines
    }
    assert {"repo3-type=posix", "repo3-path=/var/lib/pgbackrest/3/1", "repo3-cipher-pass=canary-three"} <= {*lines}
    assert lines.index("[global:archive-push]") < lines.index("io-timeout=15") < lines.index("[lab]")
    assert "canary" not in json.dumps(three["files"])


def test_a_key_is_for_its_user_alone(three: dict[str, t.Any]) -> None:
    (key,) = [one for one in three["files"] if one["path"] == "conf/sftp-2.key"]
    assert (key["mode"], key["owner"], key["group"], key["content_from"]) == ("0400", "10010", "10010", "sftp-2.key")
    assert three["secrets"]["sftp-2.key"] == KEY


def test_timers_are_those_of_the_policy(three: dict[str, t.Any]) -> None:
    units = {Path(one["path"]).name: one["content"] for one in three["files"] if one["path"].endswith(".timer")}
    assert set(units) == {"dedicated-backup-full.timer", "dedicated-backup-incr.timer"}
    assert "OnCalendar=*-*-* 12:00" in units["dedicated-backup-incr.timer"]
    (service,) = [one["content"] for one in three["files"] if one["path"].endswith("full.service")]
    assert "ExecStart=/opt/dedicated/pgbackrest/bin/backup full" in service
    assert "TimeoutStartSec=36h" in service


DOCKER = """\
#!/bin/sh
echo "$@" >> "$CALLS"
case "$*" in *"--repo=$BROKEN "*) exit 1 ;; esac
"""


@pytest.mark.parametrize(
    ("words", "broken", "repositories", "code"),
    [
        (["full"], "0", [1, 2, 3], 0),
        (["diff"], "1", [1, 2, 3], 1),
        (["incr", "2"], "0", [2], 0),
        (["full", "2"], "2", [2], 1),
        ([], "0", [], 64),
        (["everything"], "0", [], 64),
    ],
)
def test_the_script_goes_on_and_fails_in_the_end(
    tmp_path: Path, three: dict[str, t.Any], words: list[str], broken: str, repositories: list[int], code: int
) -> None:
    (script,) = [one["content"] for one in three["files"] if one["path"] == "bin/backup"]
    for name, text in (("backup", script), ("docker", DOCKER)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o700)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CALLS": str(tmp_path / "calls"), "BROKEN": broken}
    done = subprocess.run(
        [tmp_path / "backup", *words], env=environment, capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == code, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
    inside = "exec --user 10010 postgres pgbackrest-on-leader --stanza=lab"
    assert calls == [f"{inside} --type={words[0]} --repo={number} backup" for number in repositories]
    assert ("backup-failed" in done.stderr) == (code == 1)


def test_postgresql_has_the_paths_of_repositories_and_makes_none(tmp_path: Path) -> None:
    role = ROLE.parent / "postgres"
    given = "{{ __postgres_repositories }}"
    (made,) = templated(tmp_path, role, given, {}, pgbackrest_repositories=[S3, POSIX])
    assert (made["source"], made["target"]) == ("/mnt/backup", "/var/lib/pgbackrest/3")
    assert made["bind"] == {"create_host_path": False}
    (tmp_path / "templates").unlink()
    assert templated(tmp_path, role, given, {}, pgbackrest_repositories=[S3]) == []
    contract = yaml.safe_load((ROLE.parents[1] / "images" / "postgres" / "contract.yml").read_text(encoding="utf-8"))
    assert contract["paths"][plan.INSIDE]["mode"] == "rw"

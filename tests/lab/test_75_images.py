# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each image keeps its contract (images/*/contract.yml), so that another image can be put in its place."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import typing as t
from pathlib import PurePosixPath

import pytest
import yaml
from labtools import ROOT, Host, run

NAMES = sorted(path.parent.name for path in (ROOT / "images").glob("*/Dockerfile"))
KEYS = {
    "image",
    "description",
    "user",
    "uid",
    "gid",
    "entrypoint",
    "stop_signal",
    "stop_seconds",
    "commands",
    "paths",
    "ports",
    "health",
    "read_only",
    "cap_drop",
    "labels",
    "packages",
}
IMAGE_OF = {
    "etcd": "etcd",
    "postgres": "postgres",
    "redis": "redis",
    "sentinel": "redis",
    "haproxy": "router",
    "pgbouncer": "router",
    "odoo-web": "odoo",
    "odoo-cron": "odoo",
    "traefik": "traefik",
}
Contract = dict[str, t.Any]
# So that what an interrupted run left is removed by the next, and nothing of another one is.
MARK = f"dedicated.odoo.proof={os.getuid()}-images"


def contract(name: str) -> Contract:
    path = ROOT / "images" / name / "contract.yml"
    assert path.exists(), f"images/{name} has no contract.yml"
    return t.cast("Contract", yaml.safe_load(path.read_text()))


@functools.cache
def reference(name: str) -> str:
    tags = json.loads(run([sys.executable, str(ROOT / "tools" / "images"), "tags"]).stdout)
    found = f"dedicated-odoo/{name}:{tags[name]}"
    assert run(["docker", "image", "inspect", found], check=False).returncode == 0, f"{found} is not built: make images"
    return found


@functools.cache
def config(name: str) -> dict[str, t.Any]:
    return t.cast(
        "dict[str, t.Any]", json.loads(run(["docker", "image", "inspect", reference(name)]).stdout)[0]["Config"]
    )


@functools.cache
def box(name: str) -> str:
    """A container of the image, hardened as its contract allows, to try commands in as the image's own user."""
    about = contract(name)
    hard = ["--read-only", "--tmpfs", "/tmp:mode=1777"] if about["read_only"] else []
    hard += [word for cap in about["cap_drop"] for word in ("--cap-drop", cap)]
    argv = ["docker", "run", "--detach", "--rm", "--label", MARK, "--network", "none", "--no-healthcheck", *hard]
    argv += ["--security-opt", "no-new-privileges", "--entrypoint", "sleep", reference(name), "600"]
    return run(argv, timeout=90).stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def boxes() -> t.Iterator[None]:
    yield
    mine = run(["docker", "ps", "--quiet", "--filter", f"label={MARK}"]).stdout.split()
    if mine:
        run(["docker", "rm", "--force", *mine])


def shell(name: str, script: str) -> str:
    return run(["docker", "exec", box(name), "sh", "-c", script], timeout=90).stdout.strip()


def test_every_image_has_a_contract() -> None:
    assert len(NAMES) == 11
    for name in NAMES:
        about = contract(name)
        assert set(about) >= KEYS, f"{name}: {KEYS - set(about)}"
        assert about["image"] == name


@pytest.mark.parametrize("name", NAMES)
def test_user(name: str) -> None:
    about = contract(name)
    ids = f"{about['uid']}:{about['gid']}"
    assert (config(name)["User"] or "0:0") == ids
    assert shell(name, "echo $(id -u):$(id -g) $(id -un)") == f"{ids} {about['user']}"
    assert about["uid"] >= 10000 or name == "lab-host"  # far from the users of a host


@pytest.mark.parametrize("name", NAMES)
def test_start_and_stop(name: str) -> None:
    about = contract(name)
    assert (config(name)["Entrypoint"] or []) == about["entrypoint"]
    assert config(name)["StopSignal"] == about["stop_signal"]
    first = [words[0] for words in about["commands"].values()]
    assert config(name)["Cmd"][0] in first
    # Variables would be a place for secrets and surprises: only harmless ones.
    secret = re.compile("pass|secret|token|key", re.IGNORECASE)
    assert not [one for one in config(name).get("Env") or [] if secret.search(one)]


@pytest.mark.parametrize("name", NAMES)
def test_commands_are_there(name: str) -> None:
    about = contract(name)
    words = {argv[0] for argv in [*about["commands"].values(), *about["health"].values()]} | set(
        about["entrypoint"][:1]
    )
    missing = shell(
        name, "for one in " + " ".join(sorted(words)) + "; do command -v $one >/dev/null || echo $one; done"
    )
    assert missing == ""


@pytest.mark.parametrize("name", NAMES)
def test_paths(name: str) -> None:
    about = contract(name)
    for path, what in about["paths"].items():
        assert what["mode"] in ("ro", "rw"), path
        assert isinstance(what["mount"], bool), path
    owners = dict(
        line.split(" ", 1)
        for line in shell(name, "stat -c '%n %u' " + " ".join(about["paths"]) + " 2>/dev/null || true").splitlines()
    )
    assert {path for path, what in about["paths"].items() if not what["mount"]} <= set(owners)
    # A directory that is written and mounted belongs to the user: a named volume then has the right owner.
    for path, what in about["paths"].items():
        if what["mode"] == "rw" and what["mount"] and path in owners and about["uid"] > 0:
            assert owners[path] == str(about["uid"]) or path in ("/tmp", "/run"), f"{path} belongs to {owners[path]}"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "lab-host"])
def test_nothing_of_the_image_is_writable_by_its_user(name: str) -> None:
    argv = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", reference(name), "-c"]
    find = (
        "find / -xdev -writable \\( -type f -o -type d \\) -not -path '/proc/*' -not -path '/sys/*' 2>/dev/null || true"
    )
    writable = run([*argv, find], timeout=90).stdout.split()
    rw = [path for path, what in contract(name)["paths"].items() if what["mode"] == "rw"]
    harmless = ("/tmp", "/var/tmp", "/run/lock", "/dev")
    bad = [path for path in writable if not any(PurePosixPath(path).is_relative_to(ok) for ok in (*rw, *harmless))]
    # Directories that the packages make for their own user.
    assert not [path for path in bad if path.startswith(("/usr", "/bin", "/opt", "/lib", "/sbin"))], bad


@pytest.mark.parametrize("name", NAMES)
def test_labels(name: str) -> None:
    found = config(name)["Labels"]
    for label in contract(name)["labels"]:
        assert found.get(label), label
    assert found["org.opencontainers.image.title"] == f"dedicated-odoo/{name}"
    assert found["org.opencontainers.image.version"] == reference(name).rpartition(":")[2]


@pytest.mark.parametrize("name", NAMES)
def test_packages_and_versions(name: str) -> None:
    about = contract(name)
    installed = dict(
        line.split(" ", 1) for line in shell(name, "dpkg-query -W -f '${Package} ${Version}\\n'").splitlines()
    )
    wrong = {
        one: installed.get(one)
        for one, start in about["packages"].items()
        if not (installed.get(one) or "").startswith(start)
    }
    assert wrong == {}
    for one in about.get("versions", []):
        printed = shell(name, " ".join(one["command"]) + " 2>&1")
        assert re.search(one["prints"], printed), printed


@pytest.mark.parametrize("name", NAMES)
def test_no_setuid_programs_beyond_the_distributions(name: str) -> None:
    found = set(shell(name, "find / -xdev -perm /6000 -type f 2>/dev/null || true").split())
    base = {
        f"/usr/bin/{one}"
        for one in (
            "chage",
            "chfn",
            "chsh",
            "expiry",
            "gpasswd",
            "mount",
            "newgrp",
            "passwd",
            "su",
            "umount",
            "ssh-agent",
            "sudo",
        )
    }
    base |= {"/usr/sbin/unix_chkpwd", "/usr/lib/openssh/ssh-keysign", "/usr/lib/dbus-1.0/dbus-daemon-launch-helper"}
    assert found <= base, found - base


def test_what_runs_uses_only_what_the_contracts_promise(node: Host) -> None:
    for container, one in node.containers().items():
        about = contract(IMAGE_OF[container])
        declared = [PurePosixPath(path) for path in about["paths"]]
        for mount in one["Mounts"]:
            target = PurePosixPath(mount["Destination"])
            near = [path for path in declared if path.is_relative_to(target) or target.is_relative_to(path)]
            assert near, f"{container} mounts {target}: not in the contract"
            if mount["RW"]:
                assert any(about["paths"][str(path)]["mode"] == "rw" for path in near), f"{container}: {target}"
        programs = {argv[0] for argv in about["commands"].values()}
        assert one["Config"]["Cmd"][0] in programs, container
        assert one["Config"]["Healthcheck"]["Test"][1] in {argv[0] for argv in about["health"].values()}, container
        assert one["HostConfig"]["ReadonlyRootfs"] == about["read_only"]

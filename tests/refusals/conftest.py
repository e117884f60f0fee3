# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fresh lab host that nobody else uses, and site.yml against it with one thing wrong.

The host is one of tools/lab under the name `refuse`, with a registry that holds a single small image: whether the
registry holds a digest is asked of a real registry, and nothing else of an image matters before a refusal.
REFUSE_KEEP=1 leaves the lab's services for the next run, which makes only the host anew.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import types
import typing as t
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAME = "refuse"
SMALL = "etcd"
PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
# What a converge would change. The rest is the kernel's, or moves by itself: logs, timers' stamps, the caches of apt.
FINGERPRINT = r"""
find /etc /opt /usr /var/lib /root /srv /boot /home -xdev \
  \( -path /home/ops/.ansible -o -path /var/lib/systemd -o -path /var/lib/apt -o -path /var/lib/docker \) -prune \
  -o -printf '%p %y %m %U:%G %s %T@ %l\n' 2>/dev/null
dpkg-query --show --showformat '${Package} ${Version} ${db:Status-Abbrev}\n'
systemctl list-unit-files --no-legend --plain
nft list ruleset 2>/dev/null
ls -d /run/dedicated /run/docker.sock 2>/dev/null
true
"""


def load_lab() -> types.ModuleType:
    """tools/lab as a module, for this lab's name; it has no suffix, so it is loaded by its path."""
    before = os.environ.get("LAB")
    os.environ["LAB"] = NAME
    try:
        loader = SourceFileLoader("refusals_lab", str(ROOT / "tools" / "lab"))
        spec = importlib.util.spec_from_loader(loader.name, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    finally:
        del os.environ["LAB"]
        if before is not None:
            os.environ["LAB"] = before
    # One image stands for all: a minute less of pushing.
    module.STACK_IMAGES = dict.fromkeys(module.STACK_IMAGES, SMALL)  # type: ignore[attr-defined]
    return module


class Result(t.NamedTuple):
    """What a run said and how it ended."""

    code: int
    output: str


class Host:
    """The throw-away host."""

    def __init__(self, container: str) -> None:
        self.container = container

    def run(self, *argv: str, check: bool = True, stdin: str | None = None) -> str:
        """A command as root on the host; its standard output."""
        command = ["docker", "exec", *(["-i"] if stdin is not None else []), self.container, *argv]
        done = subprocess.run(command, capture_output=True, text=True, input=stdin, check=False)
        assert done.returncode == 0 or not check, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def sh(self, script: str) -> str:
        """A shell script as root on the host."""
        return self.run("sh", "-c", script)

    def state(self) -> set[str]:
        """One line for everything that a converge would change."""
        return set(self.sh(FINGERPRINT).splitlines())

    @contextlib.contextmanager
    def file(self, path: str, text: str) -> Iterator[None]:
        """A file with another content, for a while; links in its place are kept."""
        keep = self.sh(f"if [ -e {path} ]; then cat {path}; else echo __absent__; fi")
        self.sh(f"mkdir -p $(dirname {path})")
        self.run("tee", path, stdin=text)
        try:
            yield
        finally:
            if keep == "__absent__\n":
                self.sh(f"rm {path}")
            else:
                self.run("tee", path, stdin=keep)


class Case:
    """A copy of the lab's inventory that a test may spoil, and the run against it."""

    def __init__(
        self, host: Host, inventory: Path, password: Path, secrets: Mapping[str, str], connections: Path
    ) -> None:
        self.host, self.inventory, self.password, self.secrets = host, inventory, password, secrets
        self.connections = connections

    def hosts(self) -> dict[str, t.Any]:
        """hosts.yml as data."""
        return t.cast("dict[str, t.Any]", yaml.safe_load((self.inventory / "hosts.yml").read_text()))

    def write_hosts(self, data: Mapping[str, t.Any]) -> None:
        """hosts.yml anew."""
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(dict(data), sort_keys=False))

    def set(self, **variables: object) -> None:
        """Variables of every host, over all others."""
        path = self.inventory / "group_vars" / "all" / "zz-spoilt.yml"
        path.write_text(yaml.safe_dump(variables))

    def add_hosts(self, groups: Sequence[str], *names: str, address: int = 90) -> None:
        """Further hosts, at addresses that nobody has."""
        data = self.hosts()
        network = data["all"]["hosts"]["node1"]["dedicated_address"].rsplit(".", 1)[0]
        for number, name in enumerate(names, address):
            place = f"{network}.{number}"
            data["all"]["hosts"][name] = {"ansible_host": place, "dedicated_address": place}
            for group in groups:
                data["all"]["children"][group]["hosts"][name] = None
        self.write_hosts(data)

    def play(self, *arguments: str, password: Path | None = None) -> Result:
        """site.yml on this inventory."""
        environment = os.environ | {
            "DEDICATED_EVIDENCE_DIR": str(self.inventory.parent / "evidence"),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(password or self.password),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SSH_TIMEOUT": "4",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.connections),
        }
        command = [PLAYBOOK, "dedicated.odoo.site", "-i", str(self.inventory), *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        return Result(done.returncode, done.stdout)

    def refuse(self, *words: str, password: Path | None = None) -> str:
        """Run, and prove the refusal: not 0, said what and what to do, touched nothing, told no secret."""
        before = self.host.state()
        result = self.play(password=password)
        after = self.host.state()
        # A message may be wrapped by the callback that prints it.
        said = " ".join(result.output.split())
        assert result.code != 0, result.output
        for word in words:
            assert word in said, f"{word!r} is not in:\n{result.output}"
        assert "changed=0" in result.output or "PLAY RECAP" not in result.output, result.output
        assert before == after, sorted(before ^ after)
        assert "Traceback" not in result.output
        self.told_no_secret(result.output)
        return said

    def told_no_secret(self, output: str) -> None:
        """No secret's value is in what was printed."""
        told = [name for name, value in self.secrets.items() if value in output]
        assert not told


def remove_host(module: types.ModuleType) -> None:
    """The host alone, and the disk of its engine."""
    client, name = module.engine(), f"{module.NAME}-node1"
    for container in client.containers.list(all=True, filters={"name": f"^{name}$"}):
        container.remove(force=True, v=True)
    for volume in client.volumes.list(filters={"name": f"^{name}-docker$"}):
        volume.remove(force=True)


@pytest.fixture(scope="session")
def connections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run's SSH connections live: one that a former host of the same address left is not found here."""
    return tmp_path_factory.mktemp("ssh")


@pytest.fixture(scope="session")
def lab() -> Iterator[types.ModuleType]:
    """The lab `refuse`: registry, object store, one host; not converged."""
    module = load_lab()
    keep = bool(os.environ.get("REFUSE_KEEP"))
    if keep:
        remove_host(module)
    else:
        module.down()
    module.up()
    yield module
    if not keep:
        module.down()


@pytest.fixture(scope="session")
def host(lab: types.ModuleType) -> Host:
    """The host, known to be blank."""
    found = Host(f"{lab.NAME}-node1")
    assert found.sh("ls -d /opt/dedicated /etc/dedicated /etc/docker 2>/dev/null; true") == ""
    return found


@pytest.fixture
def case(lab: types.ModuleType, host: Host, tmp_path: Path, connections: Path) -> Case:
    """An own copy of the inventory."""
    inventory = tmp_path / "inventory"
    shutil.copytree(lab.INVENTORY, inventory)
    secrets = lab.make_secrets() | {"vault password": (lab.BUILD / "vault-password").read_text().strip()}
    made = Case(host, inventory, lab.BUILD / "vault-password", secrets, connections)
    data = made.hosts()
    # A CA's home of its own: a test may put a CA there.
    data["all"]["vars"]["pki_dir"] = str(tmp_path / "pki")
    made.write_hosts(data)
    return made

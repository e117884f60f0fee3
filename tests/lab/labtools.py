# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the proofs on a running lab share: the lab as its lab.json tells it, and clients for its front door."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import time
import typing as t
import uuid
import xmlrpc.client
from pathlib import Path

import requests
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
STACKS = ("etcd", "postgres", "redis", "router", "odoo", "edge")
Probe = t.Callable[[], bool]


def lab_json() -> Path:
    name = os.environ.get("LAB") or "lab"
    return Path(os.environ.get("LAB_JSON") or ROOT / "build" / name / "lab.json")


def wait_until(what: str, probe: Probe, seconds: float, pause: float = 0.5) -> float:
    """Seconds until the probe was true; fails when it does not become so."""
    started = time.monotonic()
    while True:
        if probe():
            return time.monotonic() - started
        if time.monotonic() - started > seconds:
            raise AssertionError(f"within {seconds:.0f} s it did not happen: {what}")
        time.sleep(pause)


class Failed(AssertionError):
    """A command that was to succeed did not."""


def run(
    argv: t.Sequence[str],
    env: dict[str, str] | None = None,
    stdin: str | None = None,
    check: bool = True,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        list(argv),
        env=os.environ | (env or {}),
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout,
    )
    if check and done.returncode:
        raise Failed(f"{shlex.join(argv)} exited with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


@dataclasses.dataclass(frozen=True)
class Host:
    """A host of the lab, entered as root through the container that plays it."""

    name: str
    address: str
    groups: tuple[str, ...]
    container: str

    def run(
        self,
        command: str | t.Sequence[str],
        env: dict[str, str] | None = None,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """A command (a text goes to sh). Variables of env reach it by name only: no value is on a command line."""
        words = ["sh", "-c", command] if isinstance(command, str) else list(command)
        names = [word for name in env or {} for word in ("-e", name)]
        return run(["docker", "exec", "-i", *names, self.container, *words], env, stdin, check, timeout)

    def out(self, command: str | t.Sequence[str], **more: t.Any) -> str:
        return str(self.run(command, **more).stdout).strip()

    def inside(
        self, container: str, command: t.Sequence[str], env: dict[str, str] | None = None, **more: t.Any
    ) -> subprocess.CompletedProcess[str]:
        names = [word for name in env or {} for word in ("-e", name)]
        return self.run(["docker", "exec", "-i", *names, container, *command], env, **more)

    def containers(self) -> dict[str, dict[str, t.Any]]:
        """docker inspect of every container that Compose made."""
        ids = self.out("docker ps --all --quiet --filter label=com.docker.compose.project").split()
        return {one["Name"].lstrip("/"): one for one in json.loads(self.out(["docker", "inspect", *ids]))}

    def healthy(self) -> bool:
        states = self.run(
            "docker ps --all --filter label=com.docker.compose.project --format '{{.State}} {{.Status}}'", check=False
        ).stdout.splitlines()
        return len(states) > 0 and all(line.startswith("running") and "(healthy)" in line for line in states)

    def sql(self, query: str, database: str = "postgres") -> list[list[str]]:
        """Rows of a query as the superuser, over the Unix socket."""
        argv = ["psql", "-h", "/run/postgresql", "-U", "postgres", "-d", database, "-XAt", "-F", "\t", "-c", query]
        return [line.split("\t") for line in self.inside("postgres", argv).stdout.splitlines()]

    def writable(self) -> bool:
        """Whether PostgreSQL here answers, and takes writes."""
        try:
            return self.sql("SELECT pg_is_in_recovery()") == [["f"]]
        except Failed:
            return False


@dataclasses.dataclass(frozen=True)
class Lab:
    path: Path
    data: dict[str, t.Any]

    @property
    def url(self) -> str:
        return str(self.data["url"])

    @property
    def domain(self) -> str:
        return self.url.partition("://")[2]

    @property
    def front(self) -> str:
        return str(self.data["resolve"][self.domain])

    @property
    def ca_file(self) -> str:
        return str(self.data["ca_file"])

    @property
    def login(self) -> str:
        return str(self.data["admin_login"])

    @property
    def password(self) -> str:
        return Path(self.data["admin_password_file"]).read_text().strip()

    @property
    def database(self) -> str:
        return str(self.data["database"])

    @property
    def build(self) -> Path:
        """The lab's own folder: what it wrote beside lab.json."""
        return self.path.parent

    @property
    def name(self) -> str:
        return self.build.name

    @property
    def network(self) -> str:
        return f"dedicated-{self.name}"

    @functools.cached_property
    def hosts(self) -> list[Host]:
        return [Host(h["name"], h["address"], tuple(h["groups"]), h["container"]) for h in self.data["hosts"]]

    def of(self, group: str) -> list[Host]:
        return [host for host in self.hosts if group in host.groups]

    def leader(self) -> Host:
        """The host on which PostgreSQL takes writes; in a failover, the next one. A member that is down is none."""
        found: list[Host] = []

        def one_leads() -> bool:
            found[:] = [host for host in self.of("postgres") if host.writable()]
            return len(found) == 1

        wait_until("one PostgreSQL of this lab takes writes", one_leads, 60)
        return found[0]

    def service_address(self, last: int) -> str:
        return str(ipaddress.ip_network(f"{self.hosts[0].address}/24", strict=False).network_address + last)

    @functools.cached_property
    def secrets(self) -> dict[str, str]:
        """Every secret of the inventory, in the clear."""
        from ansible.parsing.vault import VaultLib, VaultSecret

        vault = VaultLib([("default", VaultSecret((self.build / "vault-password").read_bytes().strip()))])
        encrypted = Path(self.data["inventory"]) / "group_vars" / "all" / "secrets.yml"
        return {str(key): str(value) for key, value in yaml.safe_load(vault.decrypt(encrypted.read_bytes())).items()}

    @functools.cached_property
    def variables(self) -> dict[str, t.Any]:
        """The inventory's own variables for all hosts."""
        found: dict[str, t.Any] = {}
        folder = Path(self.data["inventory"])
        found |= yaml.safe_load((folder / "hosts.yml").read_text())["all"]["vars"]
        for name in ("settings.yml", "images.yml"):
            found |= yaml.safe_load((folder / "group_vars" / "all" / name).read_text())
        return found

    @property
    def repositories(self) -> list[dict[str, t.Any]]:
        """Where backups go, as the inventory says it, with references in the place of secrets."""
        return list(self.variables["pgbackrest_repositories"])

    @property
    def bucket(self) -> str:
        """Of the first repository."""
        return str(self.repositories[0]["s3"]["bucket"])

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)

    def resolve(self) -> t.Callable[[], None]:
        """What a line in /etc/hosts would do, for this process; gives back the undoing."""
        stock = socket.getaddrinfo
        names = self.data["resolve"]

        def getaddrinfo(host: t.Any, *arguments: t.Any, **more: t.Any) -> t.Any:
            return stock(names.get(host, host), *arguments, **more)

        socket.getaddrinfo = getaddrinfo

        def undo() -> None:
            socket.getaddrinfo = stock

        return undo

    def answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/web/login", verify=self.ca_file, timeout=10).status_code == 200
        except requests.RequestException:
            return False


class RpcError(AssertionError):
    """Odoo answered a call with an error."""


class Browser(requests.Session):
    """A browser in front of the lab: cookies, verified TLS, and Odoo's own JSON calls."""

    def __init__(self, lab: Lab) -> None:
        super().__init__()
        self.lab = lab
        self.verify = lab.ca_file
        # Without it requests would send the machine's proxy to the lab.
        self.trust_env = False
        self.headers["User-Agent"] = "dedicated-odoo-proof"

    def at(self, path: str) -> str:
        return self.lab.url + path

    def sign_in(self, login: str, password: str) -> t.Self:
        page = self.get(self.at("/web/login"), timeout=60)
        token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
        assert token, f"no login form: {page.status_code} {page.text[:300]}"
        form = {"login": login, "password": password, "csrf_token": token.group(1)}
        answer = self.post(self.at("/web/login"), data=form, timeout=60, allow_redirects=False)
        assert answer.status_code == 303, f"not logged in: {answer.status_code} {answer.text[:300]}"
        return self

    @property
    def session_id(self) -> str:
        return str(self.cookies.get("session_id"))

    def csrf(self) -> str:
        token = re.search(r'csrf_token: "([^"]+)"', self.get(self.at("/odoo"), timeout=60).text)
        assert token, "no CSRF token in the page: not logged in?"
        return token.group(1)

    def rpc(self, path: str, timeout: float = 60, **params: t.Any) -> t.Any:
        body = {"jsonrpc": "2.0", "method": "call", "id": 1, "params": params}
        answer = self.post(self.at(path), json=body, timeout=timeout)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:300]}"
        data = answer.json()
        if "error" in data:
            raise RpcError(json.dumps(data["error"])[:2000])
        return data.get("result")

    def call(self, model: str, method: str, *args: t.Any, **kwargs: t.Any) -> t.Any:
        path = f"/web/dataset/call_kw/{model}/{method}"
        return self.rpc(path, model=model, method=method, args=list(args), kwargs=kwargs)

    def whoami(self) -> str:
        """The login of this session; raises when it is logged out."""
        return str(self.rpc("/web/session/get_session_info")["username"])


class Api:
    """Odoo's external API (XML-RPC), with the name of the caller and no session."""

    def __init__(self, lab: Lab, login: str, password: str) -> None:
        self.lab, self.password = lab, password
        self.uid = self._proxy("common").authenticate(lab.database, login, password, {})
        assert self.uid, f"the API refuses {login}"

    def _proxy(self, service: str) -> t.Any:
        return xmlrpc.client.ServerProxy(
            f"{self.lab.url}/xmlrpc/2/{service}", context=self.lab.context(), allow_none=True
        )

    def call(self, model: str, method: str, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return self._proxy("object").execute_kw(
            self.lab.database, self.uid, self.password, model, method, list(args), kwargs
        )


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:10]}"

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that watch and load the lab from its own hosts, kept running while hosts come and go."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
import typing as t
from pathlib import Path

import verdict
from labtools import Host, Lab

HERE = Path(__file__).resolve().parent
FOLDER = "/var/tmp/dedicated-faults"
ROUTER = "/run/dedicated/router"
LEDGER_RATE = 20
REDIS_RATE = 10


class Client(threading.Thread):
    """One program on one host. When it ends because its host did, it is started again when the host is back."""

    def __init__(self, host: Host, script: str, arguments: t.Callable[[int], list[str]], env: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.host, self.script, self.arguments, self.env = host, script, arguments, env
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.starts = 0
        self.process: subprocess.Popen[str] | None = None
        self.done = threading.Event()

    def run(self) -> None:
        source = (HERE / self.script).read_text()
        names = [word for name in self.env for word in ("-e", name)]
        while not self.done.is_set():
            argv = ["docker", "exec", "-i", *names, self.host.container, "python3", "-u", "-c", source]
            self.process = subprocess.Popen(
                [*argv, *self.arguments(self.starts)],
                env=os.environ | self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            self.starts += 1
            assert self.process.stdout is not None
            assert self.process.stderr is not None
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))
            if said := self.process.stderr.read().strip():
                self.errors.append(said[-500:])
            self.process.wait()
            self.done.wait(1.0)

    def stop(self) -> None:
        self.done.set()
        if self.ident is None:
            return  # was never started
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
        self.join(10)
        if self.is_alive() and self.process is not None:
            self.process.kill()


class Clients:
    """All of them: on every Odoo host a ledger client and a Redis writer, on every member a poller."""

    def __init__(self, lab: Lab, run: str) -> None:
        self.lab, self.folder = lab, f"{FOLDER}/{run}"
        secrets = lab.secrets
        user = str(lab.variables.get("odoo_db_user", "odoo"))
        self.ledgers = {
            host.name: Client(
                host,
                "ledger.py",
                lambda start, host=host: [  # type: ignore[misc]
                    self.folder,
                    f"{host.name}-{start}",
                    str(LEDGER_RATE),
                    ROUTER,
                    lab.database,
                    user,
                ],
                {"LEDGER_PASSWORD": secrets["odoo_db_password"]},
            )
            for host in lab.of("odoo")
        }
        self.redis = {
            host.name: Client(
                host,
                "redis_writer.py",
                lambda start, host=host: [  # type: ignore[misc]
                    f"odoo:session:fault-probe-{host.name}",
                    str(REDIS_RATE),
                    f"{ROUTER}/redis.sock",
                    "odoo",
                ],
                {"REDIS_PASSWORD": secrets["redis_odoo_password"]},
            )
            for host in lab.of("odoo")
            if lab.of("redis")
        }
        self.pollers = {
            host.name: Client(
                host,
                "poller.py",
                lambda start, host=host: [  # type: ignore[misc]
                    host.name,
                    "/run/dedicated/postgres",
                    lab.database,
                    f"https://{host.address}:8008",
                    "/etc/dedicated/pki/ca.pem",
                ],
                {},
            )
            for host in lab.of("postgres")
        }

    @property
    def all(self) -> list[Client]:
        return [*self.ledgers.values(), *self.redis.values(), *self.pollers.values()]

    def start(self) -> None:
        for client in self.all:
            client.start()

    def stop(self) -> None:
        for client in self.all:
            client.done.set()
        for client in self.all:
            client.stop()

    @staticmethod
    def moments(client: Client) -> list[float]:
        return [float(line.split()[2]) for line in list(client.lines) if line.startswith("A ")]

    def acks(self) -> dict[str, list[float]]:
        return {name: self.moments(client) for name, client in self.ledgers.items()}

    def redis_acks(self) -> dict[str, list[float]]:
        return {name: self.moments(client) for name, client in self.redis.items()}

    def accepted(self) -> list[verdict.Accepted]:
        found = []
        for name, client in self.pollers.items():
            for line in list(client.lines):
                one = json.loads(line)
                if one["what"] == "ack":
                    found.append(verdict.Accepted(name, one["timeline"], one["sent"], one["at"]))
        return found

    def events(self, zero: float) -> list[dict[str, t.Any]]:
        """What the pollers saw change, by time after the fault."""
        found = []
        for name, client in self.pollers.items():
            for line in list(client.lines):
                one = json.loads(line)
                if one.pop("what") != "ack":
                    found.append({"at": round(one.pop("at") - zero, 2), "member": name, **one})
        return sorted(found, key=lambda one: one["at"])

    def redis_errors(self, zero: float) -> list[str]:
        """The first of each kind, by time after the fault."""
        found: dict[tuple[str, str], float] = {}
        for name, client in self.redis.items():
            for line in list(client.lines):
                kind, at, *said = line.split(" ", 2)
                if kind == "E":
                    found.setdefault((name, " ".join(said)), round(float(at) - zero, 2))
        return [f"{at} {name}: {said}" for (name, said), at in sorted(found.items(), key=lambda one: one[1])][:20]

    def writes(self) -> tuple[list[verdict.Write], list[str]]:
        """What the ledger clients noted on their disks, and the hosts that could not be read."""
        found, unread = [], []
        for name, client in self.ledgers.items():
            try:
                files = client.host.out(f"cd {self.folder} && ls *.ledger").split()
                texts = {file: client.host.run(["cat", f"{self.folder}/{file}"]).stdout for file in files}
            except (AssertionError, OSError, subprocess.TimeoutExpired):
                unread.append(name)
                continue
            for file, text in texts.items():
                found += verdict.parse_ledger(file.removesuffix(".ledger"), text)
        return found, unread

    def forget(self) -> None:
        for client in self.ledgers.values():
            with contextlib.suppress(Exception):
                client.host.run(["rm", "-rf", self.folder], check=False)

    def warm(self, seconds: float = 40) -> None:
        """Every client has done its work at least a second long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ledgers = all(len(moments) >= LEDGER_RATE for moments in self.acks().values())
            redis = all(len(moments) >= REDIS_RATE for moments in self.redis_acks().values())
            if ledgers and redis and self.accepted() and all(poller.lines for poller in self.pollers.values()):
                return
            time.sleep(0.2)
        said = [f"{one.script} on {one.host.name}: {one.lines[-1:]} {one.errors[-1:]}" for one in self.all]
        raise AssertionError("the clients do not get going: " + "; ".join(said))

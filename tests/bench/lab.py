# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab that is measured, and the temporary Odoo containers that it is measured against."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
import typing as t
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent.parent
NAME = os.environ.get("LAB") or "lab"
BUILD = ROOT / "build" / NAME
MARK = "dedicated.odoo.bench"
# Above every port of ours, below the kernel's own range.
PORTS = {"unix": 18069, "haproxy": 18169}
# What PgBouncer alone may open; Odoo is let in for the time of the run (its group may enter the folder).
LEADER_SOCKET = "/run/dedicated/router/.s.PGSQL.5000"


class Lab:
    def __init__(self) -> None:
        path = BUILD / "lab.json"
        if not path.exists():
            raise SystemExit(f"bench: no lab {NAME!r} is there; `make lab` first")
        self.facts: dict[str, t.Any] = json.loads(path.read_text())
        self.container = self.address = ""
        self.choose_host()
        self.host = t.cast("str", urlsplit(self.facts["url"]).hostname)
        self.ca = Path(self.facts["ca_file"]).read_text()
        self.password = Path(self.facts["admin_password_file"]).read_text().strip()

    def choose_host(self) -> None:
        """The host that has every layer and the leader: there the direct Odoo has its database by Unix socket."""
        query = ["docker", "exec", "--user", "postgres", "postgres", "psql", "-h", "/run/postgresql", "-Atc",
                 "select pg_is_in_recovery()"]
        for host in self.facts["hosts"]:
            self.container, self.address = host["container"], host["address"]
            if {"edge", "odoo", "postgres"} <= set(host["groups"]) and self.run(*query, check=False) == "f":
                return
        raise SystemExit("bench: no host of this lab has edge, Odoo and the PostgreSQL leader; is the lab up?")

    # -- commands on the host ---------------------------------------------------------------------------------

    def run(self, *argv: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
        command = ["docker", "exec", "-i", self.container, *argv]
        done = subprocess.run(command, input=stdin or "", text=True, capture_output=True, check=False, timeout=timeout)
        if check and done.returncode:
            raise SystemExit(f"bench: {' '.join(argv)[:120]} on {self.container} failed: {done.stderr[-800:]}")
        return done.stdout.strip()

    def option(self, name: str) -> str:
        found = self.run("sed", "-n", f"s/^{name} *= *//p", "/opt/dedicated/odoo/conf/odoo.conf")
        return found.splitlines()[-1] if found else ""

    def load(self) -> str:
        return Path("/proc/loadavg").read_text().split(" ", 3)[0]

    # -- the other Odoo -----------------------------------------------------------------------------------------

    def start(self, kind: str) -> None:
        """An Odoo of the same image, configuration and limits, with another way to the database and no Traefik.

        unix: PostgreSQL's Unix socket. haproxy: through HAProxy, without PgBouncer.
        """
        port = PORTS[kind]
        web = json.loads(self.run("docker", "inspect", "odoo-web"))[0]
        argv = ["docker", "run", "--detach", "--name", f"bench-{kind}", "--label", MARK, "--network", "host",
                "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true",
                "--tmpfs", "/tmp:mode=1777", "--memory", str(web["HostConfig"]["Memory"]),
                "--pids-limit", str(web["HostConfig"]["PidsLimit"] or 1024), "--no-healthcheck"]
        for limit in web["HostConfig"]["Ulimits"] or []:
            argv += ["--ulimit", f"{limit['Name']}={limit['Soft']}:{limit['Hard']}"]
        for volume in web["HostConfig"]["Binds"]:
            argv += ["--volume", volume]
        if kind == "unix":
            argv += ["--volume", "/run/dedicated/postgres:/run/dedicated/postgres"]
            database = ["--db_host=/run/dedicated/postgres", "--db_port=5432"]
        else:
            self.run("chmod", "0666", LEADER_SOCKET)
            database = ["--db_host=/run/dedicated/router", "--db_port=5000"]
        self.run(*argv, web["Config"]["Image"], *web["Config"]["Cmd"], *database, f"--http-port={port}",
                 f"--gevent-port={port + 3}")

    def wait(self, port: int, seconds: float = 90) -> None:
        probe = ("import http.client,sys;c=http.client.HTTPConnection('127.0.0.1',int(sys.argv[1]),timeout=20);"
                 "c.request('GET','/web/login');print(c.getresponse().status)")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.run("python3", "-c", probe, str(port), check=False) == "200":
                return
            time.sleep(0.5)
        show = f"for one in $(docker ps -aqf label={MARK}); do docker logs --tail 8 $one; done 2>&1"
        raise SystemExit(f"bench: the Odoo on port {port} did not answer in {seconds:.0f} s:\n"
                         + self.run("sh", "-c", show, check=False))

    def clear(self) -> None:
        """Remove every temporary container, and the permission; also those of an interrupted run."""
        ids = self.run("docker", "ps", "--all", "--quiet", "--filter", f"label={MARK}", check=False).split()
        if ids:
            self.run("docker", "rm", "--force", "--volumes", *ids, check=False)
        self.run("chmod", "0600", LEADER_SOCKET, check=False)

    # -- load ---------------------------------------------------------------------------------------------------

    def target(self, kind: str) -> dict[str, t.Any]:
        """Where the generator sends requests: through Traefik, or to an Odoo on the host's loopback."""
        if kind in ("edge", "edge-new"):
            return {"address": self.address, "port": 443, "host": self.host, "ca": self.ca, "keep": kind == "edge"}
        port = PORTS.get(kind, 8069)
        return {"address": "127.0.0.1", "port": port, "host": self.host, "ca": None, "keep": True}

    def generate(self, legs: list[dict[str, t.Any]], progress: t.Callable[[dict[str, t.Any]], None]) -> list[t.Any]:
        plan = {
            "targets": {leg["target"]: self.target(leg["target"]) for leg in legs},
            "database": self.facts["database"], "login": self.facts["admin_login"], "password": self.password,
            "legs": legs,
        }
        source = (Path(__file__).parent / "generator.py").read_text()
        command = ["docker", "exec", "-i", self.container, "python3", "-c", source]
        results: list[t.Any] = []
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(plan))
            process.stdin.close()
            for line in process.stdout:
                result = json.loads(line)
                if "removed" in result:
                    if result["removed"] is None:
                        print(f"bench: its invoices stay until the next run: {result['why']}", flush=True)
                    continue
                results.append(result)
                progress(result)
        if process.returncode:
            raise SystemExit(f"bench: the generator failed ({process.returncode})")
        failures = [f"{leg['target']} {leg['work']}: {text}" for leg in results for text in leg["failures"]]
        if failures:
            raise SystemExit("bench: failed requests, no result:\n  " + "\n  ".join(failures[:10]))
        return results

    # -- what was measured --------------------------------------------------------------------------------------

    def machine(self) -> dict[str, t.Any]:
        cpuinfo = Path("/proc/cpuinfo").read_text()
        model = re.search(r"model name\s*:\s*(.+)", cpuinfo)
        memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
        return {"cpu": model.group(1) if model else "?", "cores": os.cpu_count(), "kernel": os.uname().release,
                "memory_mb": int(memory.group(1)) // 1024 if memory else None}

    def versions(self) -> dict[str, str]:
        commands = {
            "odoo": "docker exec odoo-web odoo --version",
            "postgres": "docker exec postgres postgres --version",
            "pgbouncer": "docker exec pgbouncer pgbouncer --version",
            "haproxy": "docker exec haproxy haproxy -v",
            "traefik": "docker exec traefik traefik version",
            "redis": "docker exec redis redis-server --version",
            "docker": "docker version --format {{.Server.Version}}",
        }
        found = {}
        for name, command in commands.items():
            out = self.run(*shlex.split(command), check=False)
            number = re.search(r"\d+\.\d+[\w.]*", out)
            found[name] = number.group() if number else "?"
        return found

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a host of the lab, as JSON. Runs on that host: look.py ADDRESS

Its containers, what Patroni says of itself and of the cluster, what the router takes for leader and master, what
Redis and etcd say of themselves. What does not answer within its time is missing. REDISCLI_AUTH: Redis's admin.
"""

from __future__ import annotations

import concurrent.futures
import functools
import json
import os
import socket
import ssl
import subprocess
import sys
import typing as t
import urllib.error
import urllib.request

REDIS = "/etc/dedicated/pki/redis"


def command(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=8, check=False).stdout
    except (subprocess.TimeoutExpired, OSError):
        return ""


def containers() -> dict[str, str]:
    out = command(
        "docker",
        "ps",
        "--all",
        "--filter",
        "label=com.docker.compose.project",
        "--format",
        "{{.Names}}\t{{.State}} {{.Status}}",
    )
    return dict(line.split("\t") for line in out.splitlines())


def patroni(address: str, path: str) -> t.Any:
    context = ssl.create_default_context(cafile="/etc/dedicated/pki/ca.pem")
    try:
        answer = urllib.request.urlopen(f"https://{address}:8008/{path}", timeout=4, context=context).read()
    except urllib.error.HTTPError as error:
        answer = error.read()
    except OSError:
        return {}
    try:
        return json.loads(answer)
    except ValueError:
        return {}


def router() -> dict[str, list[str]]:
    """Backend to the servers that are up in it."""
    up: dict[str, list[str]] = {}
    with socket.socket(socket.AF_UNIX) as stats:
        stats.settimeout(4)
        try:
            stats.connect("/run/dedicated/router/haproxy.sock")
            stats.sendall(b"show stat\n")
            text = b"".join(iter(lambda: stats.recv(65536), b"")).decode()
        except OSError:
            return {}
    for line in text.splitlines():
        cells = line.split(",")
        if len(cells) > 17 and cells[1] not in ("FRONTEND", "BACKEND") and cells[17].startswith("UP"):
            up.setdefault(cells[0], []).append(cells[1])
    return up


def redis(address: str) -> dict[str, str]:
    tls = ["--tls", "--cacert", f"{REDIS}/ca.pem", "--cert", f"{REDIS}/cert.pem", "--key", f"{REDIS}/key.pem"]
    argv = ["redis-cli", *tls, "-h", address, "--user", "admin", "--no-auth-warning", "INFO", "replication"]
    out = command("docker", "exec", "-e", "REDISCLI_AUTH", "redis", *argv)
    return dict(line.strip().split(":", 1) for line in out.splitlines() if ":" in line)


def etcd() -> dict[str, t.Any]:
    try:
        one = json.loads(command("docker", "exec", "etcd", "etcdctl", "endpoint", "status", "--write-out", "json"))[0]
        status = one["Status"]
        return {"leads": status["leader"] == status["header"]["member_id"], "leader": status["leader"]}
    except (ValueError, KeyError, IndexError):
        return {}


def main() -> None:
    address, groups = sys.argv[1], set(sys.argv[2].split(","))
    jobs: dict[str, t.Callable[[], t.Any]] = {"containers": containers}
    if "postgres" in groups:
        jobs |= {name: functools.partial(patroni, address, name) for name in ("patroni", "cluster")}
    if "odoo" in groups:
        jobs["router"] = router
    if "redis" in groups:
        jobs["redis"] = lambda: redis(address)
    if "etcd" in groups:
        jobs["etcd"] = etcd
    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        found = {name: pool.submit(job) for name, job in jobs.items()}
        json.dump({name: job.result() for name, job in found.items()}, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


main()

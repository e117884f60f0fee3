# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talking to a server inside a container: redis-cli with commands on its standard input.

The password travels by the environment, of which docker is told the name only, and values travel by standard input:
nothing secret stands in an argument list, neither on the host nor in the container.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from .._common.errors import DedicatedError
from . import plan

if t.TYPE_CHECKING:
    from .._common.runner import Runner


class RedisUnreachable(DedicatedError):
    """The container, the server or the connection is not there (yet)."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """Reply to one command; an error of the server is data."""

    value: t.Any = None
    error: str | None = None


class Connection(t.Protocol):
    """Several commands over one connection."""

    def run(self, commands: t.Sequence[t.Sequence[str]]) -> list[Answer]: ...


@dataclasses.dataclass(frozen=True)
class Target:
    """Where the server is and how to get in."""

    container: str
    cli: str = "redis-cli"
    host: str = "127.0.0.1"
    port: int = 6379
    tls: bool = True
    tls_cert: str = "/etc/dedicated/pki/redis/cert.pem"
    tls_key: str = "/etc/dedicated/pki/redis/key.pem"
    tls_ca: str = "/etc/dedicated/pki/redis/ca.pem"
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)


def build_argv(target: Target) -> list[str]:
    """The command that is started on the host."""
    argv = ["docker", "exec", "--interactive"]
    if target.password:
        argv += ["--env", "REDISCLI_AUTH"]
    argv += [target.container, target.cli, "--json", "-h", target.host, "-p", str(target.port)]
    if target.tls:
        argv += ["--tls", "--cacert", target.tls_ca, "--cert", target.tls_cert, "--key", target.tls_key]
    if target.username:
        argv += ["--user", target.username]
    return argv


def parse(stdout: str) -> list[Answer]:
    """Output of ``redis-cli --json``: one line for each command, errors as ``error:"..."``."""
    answers = []
    for line in stdout.splitlines():
        if not line.strip():
            continue
        try:
            if line.startswith("error:"):
                answers.append(Answer(error=str(json.loads(line[len("error:") :]))))
            else:
                answers.append(Answer(json.loads(line)))
        except ValueError as exc:
            raise DedicatedError(f"redis-cli: line {len(answers) + 1} is not JSON: {exc}", code="bad_answer") from exc
    return answers


class DockerConnection:
    """``docker exec`` of redis-cli."""

    def __init__(self, runner: Runner, target: Target) -> None:
        self._runner = runner
        self._target = target

    def run(self, commands: t.Sequence[t.Sequence[str]]) -> list[Answer]:
        target = self._target
        if self._runner.find("docker") is None:
            raise RedisUnreachable("docker is not installed on this host", code="no_docker")
        done = self._runner.run(
            build_argv(target),
            env={"REDISCLI_AUTH": target.password} if target.password else None,
            stdin="".join(plan.command(*words) + "\n" for words in commands),
        )
        if "AUTH failed" in done.stderr:
            # redis-cli goes on as the default user then, who may be allowed too much or too little.
            raise DedicatedError(
                f"{target.container}: {target.username or 'default'} cannot log in on port {target.port}: "
                "user name or password is wrong. Check the ACL file that the server has loaded.",
                code="login_failed",
            )
        answers = parse(done.stdout)
        if len(answers) != len(commands):
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise RedisUnreachable(
                f"{target.container}: port {target.port} does not answer: {said[0] if said else 'no output'}",
                code="unreachable",
            )
        return answers

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From outside exactly three ports answer, and Docker cannot open a fourth behind the firewall's back."""

from __future__ import annotations

import collections.abc
import json
import socket

import pytest
from labtools import Host, Lab, run, unique, wait_until

PUBLIC = {22, 80, 443}
SCANNER = """
import errno, json, select, socket, sys, time

ask = json.load(sys.stdin)
found, ports = {}, ask["ports"]
# Waves of connections that all wait at once: long enough for a SYN that was lost and is sent again after 1 s.
for start in range(0, len(ports), 8000):
    poll, waiting = select.epoll(), {}
    for port in ports[start:start + 8000]:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex((ask["host"], port))
        waiting[sock.fileno()] = sock, port
        poll.register(sock, select.EPOLLOUT)
    end = time.monotonic() + ask["timeout"]
    while waiting and (left := end - time.monotonic()) > 0:
        for number, _ in poll.poll(left):
            sock, port = waiting.pop(number)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            found[port] = "open" if code == 0 else errno.errorcode[code]
            sock.close()
    for sock, _ in waiting.values():
        sock.close()
print(json.dumps(found))
"""


def scan(lab: Lab, host: Host, ports: list[int], timeout: float = 1.5) -> dict[int, str]:
    """What ports answer to a machine that is none of the lab's hosts; silence is left out."""
    image = run(["docker", "inspect", "--format", "{{.Config.Image}}", host.container]).stdout.strip()
    ask = {"host": host.address, "ports": ports, "timeout": timeout}
    done = run(
        [
            "docker",
            "run",
            "--rm",
            "-i",
            "--network",
            lab.network,
            "--label",
            f"dedicated.odoo.lab={lab.name}",
            "--ulimit",
            "nofile=16384:16384",
            "--entrypoint",
            "python3",
            image,
            "-c",
            SCANNER,
        ],
        stdin=json.dumps(ask),
        timeout=180,
    )
    return {int(port): state for port, state in json.loads(done.stdout).items()}


def test_a_port_scan_finds_exactly_what_the_matrix_allows(lab: Lab) -> None:
    for host in lab.hosts:
        answers = scan(lab, host, list(range(1, 65536)))
        assert {port for port, state in answers.items() if state == "open"} == PUBLIC
        # A closed port does not even say that it is closed.
        assert set(answers) == PUBLIC


@pytest.fixture
def published(lab: Lab, node: Host) -> collections.abc.Iterator[int]:
    """A container with a published port, as somebody might start one by hand."""
    name, port, image = unique("proof"), 9999, lab.variables["odoo_image"]
    node.run(
        [
            "docker",
            "run",
            "--detach",
            "--rm",
            "--name",
            name,
            "--publish",
            f"{port}:{port}",
            "--entrypoint",
            "python3",
            image,
            "-m",
            "http.server",
            str(port),
            "--directory",
            "/usr/share/pixmaps",
        ]
    )
    try:
        yield port
    finally:
        node.run(["docker", "rm", "--force", name], check=False)


def test_a_published_port_does_not_escape_the_firewall(lab: Lab, node: Host, published: int) -> None:
    ask = f"import socket; socket.create_connection(('{node.address}', {published}), timeout=3)"
    # It really is published: the host itself reaches it. Only then does silence outside say anything.
    wait_until(
        "the host reaches the published port",
        lambda: node.run(["python3", "-c", ask], check=False).returncode == 0,
        30,
    )
    assert scan(lab, node, [published, 443], timeout=4) == {443: "open"}
    with pytest.raises(TimeoutError):
        socket.create_connection((node.address, published), timeout=3)


def test_a_container_does_not_reach_the_services_of_its_host(lab: Lab, node: Host, published: int) -> None:
    """Somebody's container on a bridge is no member of any group."""
    name = node.out(f"docker ps --filter publish={published} --format '{{{{.Names}}}}'")
    ask = (
        "import socket\n"
        f"for port in (22, 5432, 6379, 8008, 2379):\n"
        "    try:\n"
        f"        socket.create_connection(('{node.address}', port), timeout=1.5)\n"
        "        print(port)\n"
        "    except OSError:\n"
        "        pass\n"
    )
    assert node.inside(name, ["python3", "-c", ask]).stdout == ""


def test_a_packet_from_a_strange_network_does_not_pass_through(lab: Lab, node: Host, published: int) -> None:
    """Nobody outside reaches the container by routing to its own address over the host."""
    name = node.out(f"docker ps --filter publish={published} --format '{{{{.Names}}}}'")
    inner = node.out(["docker", "inspect", "--format", "{{.NetworkSettings.IPAddress}}", name])
    image = run(["docker", "inspect", "--format", "{{.Config.Image}}", node.container]).stdout.strip()
    script = (
        f"ip route add {inner}/32 via {node.address}; "
        f"python3 -c \"import socket; socket.create_connection(('{inner}', {published}), timeout=3)\""
    )
    done = run(
        [
            "docker",
            "run",
            "--rm",
            "--cap-add",
            "NET_ADMIN",
            "--network",
            lab.network,
            "--label",
            f"dedicated.odoo.lab={lab.name}",
            "--entrypoint",
            "sh",
            image,
            "-ec",
            script,
        ],
        check=False,
    )
    assert done.returncode != 0
    assert "TimeoutError" in done.stderr, done.stderr


def test_the_table_stays_when_docker_restarts_its_own_rules(node: Host) -> None:
    before = node.out("nft --stateless list table inet dedicated")
    assert "policy drop" in before
    node.run("systemctl reload docker.service")
    assert node.out("nft --stateless list table inet dedicated") == before


def test_no_dead_mans_switch_is_left_behind(node: Host) -> None:
    assert node.out("systemctl list-timers --all --no-legend 'dedicated-firewall-rollback*'") == ""

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a host: real sockets, a real HTTPS registry, a real engine socket."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._preflight import io, plan

HELD, LACKING = "sha256:" + "a" * 64, "sha256:" + "b" * 64


IDENTIFIER = str(1795312537 << 32 | 7)


class Registry(http.server.BaseHTTPRequestHandler):
    """Holds one manifest; wants a password for the name `private`."""

    def do_HEAD(self) -> None:
        private = "/private/" in self.path and self.headers.get("Authorization") is None
        accepted = "application/vnd.oci.image.manifest.v1+json" in self.headers.get("Accept", "")
        held = self.path == f"/v2/odoo/manifests/{HELD}" or "/private/" in self.path
        self.send_response(401 if private else 200 if held and accepted else 404)
        self.end_headers()

    def do_GET(self) -> None:
        if self.path == "/patroni":
            self.send_response(200)
            self.end_headers()
            answer = {"database_system_identifier": IDENTIFIER, "patroni": {"scope": "lab", "name": "n1"}}
            self.wfile.write(json.dumps(answer).encode())
            return
        containers = [
            {"Id": "c1", "Labels": {"com.docker.compose.project.working_dir": "/opt/dedicated/edge"}},
            {"Id": "c2"},
        ]
        found = self.path == "/containers/json" or HELD in self.path
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps(containers).encode())

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
        pass


class UnixServer(socketserver.UnixStreamServer):
    """The handler wants an address of two parts."""

    def get_request(self) -> tuple[t.Any, t.Any]:
        return super().get_request()[0], ("engine", 0)


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> t.Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[tuple[str, str]]:
    """Name of a registry, and its CA."""
    place = tmp_path_factory.mktemp("registry")
    argv = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    argv += ["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=x", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(argv, cwd=place, check=True, capture_output=True, timeout=60)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "cert.pem", place / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield f"localhost:{server.server_address[1]}", (place / "cert.pem").read_text()


@pytest.mark.parametrize(
    ("name", "digest", "user", "status"),
    [("odoo", HELD, "", 200), ("odoo", LACKING, "", 404), ("private", HELD, "", 401), ("private", HELD, "u", 200)],
)
def test_registry(registry: tuple[str, str], name: str, digest: str, user: str, status: int) -> None:
    host, ca = registry
    image = f"{host}/{name}@{digest}"
    assert io.Registries(ca, 5, user, "p").probe(image) == plan.Probe(image, status)


def test_registry_with_another_ca(registry: tuple[str, str]) -> None:
    probe = io.Registries("", 5).probe(f"{registry[0]}/odoo@{HELD}")
    assert probe.status == 0
    assert "CERTIFICATE_VERIFY_FAILED" in probe.reason


def test_silent_registry_is_asked_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        registries = io.Registries("", 0.2)
        name = f"127.0.0.1:{closed.getsockname()[1]}"
        probes = [registries.probe(f"{name}/{image}@{HELD}") for image in ("a", "b")]
    assert all("ConnectionRefusedError" in probe.reason for probe in probes)
    assert registries.probe("odoo:19") == plan.Probe("odoo:19")


def test_engine(tmp_path: Path) -> None:
    path = str(tmp_path / "docker.sock")
    with serving(UnixServer(path, Registry)):
        engine = io.Engine(True, path)
        assert engine.projects() == {"c1": "/opt/dedicated/edge", "c2": "/"}
        assert engine.holds(f"r/odoo@{HELD}")
        assert not engine.holds(f"r/odoo@{LACKING}")
        assert io.Engine(False, path).projects() == {}, "a stopped engine is not woken"
    assert io.Engine(True, path).projects() == {}


def test_listeners_know_their_owner() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        found = io.listeners({port}, io.Engine(False))
    assert [(each.address, each.port, each.pid) for each in found] == [("127.0.0.1", port, os.getpid())]
    assert found[0].process
    assert io.listeners({port}, io.Engine(False)) == ()


def test_a_busy_process_still_owns_its_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    """HAProxy opens and closes connections all the time: a descriptor may be gone between listing and reading it."""
    true_readlink, gone = os.readlink, []

    def readlink(path: os.DirEntry[str]) -> str:
        if not gone and path.path.startswith(f"/proc/{os.getpid()}/"):
            gone.append(path)
            raise FileNotFoundError(path.path)
        return true_readlink(path)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        monkeypatch.setattr(os, "readlink", readlink)
        found = io.listeners({listening.getsockname()[1]}, io.Engine(False))
    assert gone
    assert [each.pid for each in found] == [os.getpid()]


def test_disk_of_a_path_to_be(tmp_path: Path) -> None:
    assert io.disk(str(tmp_path / "a" / "b")).free_mb == io.disk(str(tmp_path)).free_mb


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ((0, "LoadState=loaded\nActiveState=active\n"), "active"),
        ((0, "LoadState=not-found\nActiveState=inactive\n"), "absent"),
        ((0, "LoadState=loaded\nActiveState=failed\n"), "failed"),
        ((1, ""), "absent"),
    ],
)
def test_docker(answer: tuple[int, str], state: str) -> None:
    assert io.docker(lambda argv: answer).state() == state


def test_members_are_asked_whatever_their_certificate(registry: tuple[str, str]) -> None:
    port = int(registry[0].rpartition(":")[2])
    found = io.members({"n2": "127.0.0.1", "n1": "localhost"}, port)
    assert found == (
        plan.Member("n1", "localhost", "n1", "lab", IDENTIFIER),
        plan.Member("n2", "127.0.0.1", "n1", "lab", IDENTIFIER),
    )
    assert io.members({}) == ()


def test_member_that_is_away() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        found = io.member("n1", "127.0.0.1", closed.getsockname()[1], 0.2)
    assert (found.name, found.system_identifier) == ("", "")
    assert "ConnectionRefusedError" in found.reason


def test_member_that_speaks_no_tls(tmp_path: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    with serving(server):
        assert io.member("n1", "127.0.0.1", server.server_address[1], 0.5).reason


def control(folder: Path) -> None:
    """The file that PostgreSQL 17 keeps its identifier in."""
    (folder / "global").mkdir(parents=True)
    (folder / "global" / "pg_control").write_bytes(struct.pack("<QI", int(IDENTIFIER), 1700) + bytes(8180))


def write_ahead_log(folder: Path, name: str, cluster: int) -> None:
    """The head of a file of etcd's write-ahead log."""
    (folder / "member" / "wal").mkdir(parents=True, exist_ok=True)
    record = bytes([8, 1, 26, 4, 8, 5, 16, cluster])
    (folder / "member" / "wal" / name).write_bytes(struct.pack("<Q", len(record)) + record)


def test_state_of_a_data_directory(tmp_path: Path) -> None:
    assert io.data_state("") == ""
    assert io.data_state(str(tmp_path / "no")) == plan.ABSENT
    assert io.data_state(str(tmp_path)) == plan.ABSENT
    (tmp_path / "lost+found").mkdir()
    assert io.data_state(str(tmp_path)) == plan.ABSENT
    (tmp_path / "PG_VERSION").write_text("17")
    assert io.data_state(str(tmp_path)) == plan.PRESENT
    assert io.data_state(str(tmp_path / "PG_VERSION")) == "", "no directory: nobody can tell"


def test_whose_data_it_is(tmp_path: Path) -> None:
    control(tmp_path / "pg")
    write_ahead_log(tmp_path / "etcd", "0-0.wal", 7)
    write_ahead_log(tmp_path / "etcd", "1-9.wal", 11)
    (tmp_path / "postgres-system-identifier").write_text(IDENTIFIER + "\n")
    limits = plan.Limits(postgres_data=str(tmp_path / "pg"), etcd_data=str(tmp_path / "etcd"))
    facts = io.facts(limits, [], io.Registries("", 1), lambda argv: (1, ""), etc=str(tmp_path))
    assert (facts.postgres_data, facts.system_identifier, facts.recorded_identifier) == (
        plan.PRESENT,
        IDENTIFIER,
        IDENTIFIER,
    )
    assert facts.etcd_cluster_id == "b", "the newest file counts"
    assert "127.0.0.1" in facts.addresses


def test_a_host_without_data(tmp_path: Path) -> None:
    limits = plan.Limits(postgres_data=str(tmp_path / "pg"), etcd_data=str(tmp_path / "etcd"))
    facts = io.facts(limits, [], io.Registries("", 1), lambda argv: (1, ""), etc=str(tmp_path))
    assert (facts.postgres_data, facts.system_identifier, facts.recorded_identifier, facts.etcd_cluster_id) == (
        plan.ABSENT, "", "", ""
    )  # fmt: skip


def test_facts(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "ca.fingerprint").write_text("abc\n")
    (tmp_path / "cluster").write_text("lab\n")
    (tmp_path / "root" / "etcd").mkdir(parents=True)
    (tmp_path / "root" / "etcd" / "compose.yaml").write_text("")
    limits = plan.Limits(root=str(tmp_path / "root"), min_free_mb={"/": 1})
    facts = io.facts(limits, ["odoo:19"], io.Registries("", 1), lambda argv: (1, ""), etc=str(tmp_path))
    assert (facts.ca_fingerprint, facts.cluster, facts.stacks) == ("abc", "lab", ("etcd",))
    assert facts.cpus > 0
    assert facts.memory_mb > 0
    assert facts.probes == (plan.Probe("odoo:19"),)
    assert (facts.postgres_data, facts.system_identifier, facts.etcd_cluster_id, facts.members) == ("", "", "", ())

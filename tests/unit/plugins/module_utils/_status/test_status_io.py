# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is asked: which commands, and that what does not answer is an error in its place only."""

from __future__ import annotations

import dataclasses
import datetime
import http.server
import json
import socket
import threading
import typing as t
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from status_scene import NOW
from test_status_parse import DATABASES, METRICS, POOLS, STAT, UNITS, entry, info

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import Completed
from ansible_collections.dedicated.odoo.plugins.module_utils._status import io

KEY = ec.generate_private_key(ec.SECP256R1())


def pem(since: datetime.datetime, until: datetime.datetime, common_name: str = "n1") -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(until)
        .sign(KEY, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def moment(year: int, month: int = 1, day: int = 2) -> datetime.datetime:
    return datetime.datetime(year, month, day, 3, 4, 5, tzinfo=datetime.UTC)


@dataclasses.dataclass
class FakeHost:
    """Programs, ports and sockets of a host; ``broken`` are programs, ports and sockets that do not answer."""

    broken: dict[t.Any, t.Any] = dataclasses.field(default_factory=dict)
    active: str = "active"
    ran: list[tuple[str, ...]] = dataclasses.field(default_factory=list)
    asked_engine: list[bool] = dataclasses.field(default_factory=list)

    def find(self, program: str) -> str | None:
        return f"/usr/bin/{program}"

    def run(
        self,
        argv: t.Sequence[str],
        env: t.Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> Completed:
        self.ran.append(tuple(argv))
        words = " ".join(argv)
        if any(f"--repo={number}" in words for number in self.broken.get("repositories", ())):
            raise DedicatedError("docker did not end within 20 s")
        program = (
            "pgbouncer"
            if "pgbouncer" in words
            else next(one for one in ("pgbackrest", "psql", "list-units", "docker.service") if one in words)
        )
        if isinstance(self.broken.get(program), Exception):
            raise self.broken[program]
        rc, out = self.broken.get(program, (0, self._says(program)))
        return Completed(tuple(argv), rc, out if rc == 0 else "", "" if rc == 0 else out)

    def _says(self, program: str) -> str:
        return {
            "pgbouncer": DATABASES + POOLS,
            "pgbackrest": info(),
            "psql": '{"in_recovery": false}',
            "list-units": UNITS,
            "docker.service": self.active + "\n",
        }[program]

    def engine(self, active: bool) -> FakeHost:
        self.asked_engine.append(active)
        return self

    def get(self, path: str) -> t.Any:
        assert path == "/containers/json?all=true"
        return None if "engine" in self.broken or self.asked_engine == [False] else [entry("redis")]

    def fetch(self, port: int, path: str, timeout: float) -> tuple[int, str]:
        if isinstance(self.broken.get(port), Exception):
            raise self.broken[port]
        return t.cast("tuple[int, str]", self.broken.get(port, (200, METRICS if port == 8010 else "ok")))

    def converse(self, path: str, text: str, timeout: float) -> str:
        assert (path, text) == ("/run/dedicated/router/haproxy.sock", "show stat\n")
        if "haproxy" in self.broken:
            raise self.broken["haproxy"]
        return STAT

    def look(self, **wish: t.Any) -> dict[str, t.Any]:
        host = io.Host(io.Wish(**wish), self, self.engine, self.fetch, self.converse, lambda: NOW + 0.7)
        return host.look()


ALL = {"layers": ("etcd", "postgres", "redis", "odoo", "edge"), "stanza": "lab"}


@pytest.fixture
def pki(tmp_path: Path) -> str:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "cert.pem").write_text(pem(moment(2026), moment(2027)))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "cert.pem").write_text("nothing")
    (tmp_path / "ca.pem").write_text(pem(moment(2026), moment(2036)))
    return str(tmp_path)


def test_everything_is_told(pki: str) -> None:
    host = FakeHost()
    found = host.look(**ALL, pki=pki, disks=(pki,))
    assert found["now"] == NOW
    assert [one["name"] for one in found["engine"]["containers"]] == ["redis"]
    assert next(one["name"] for one in found["units"]) == "chrony.service"
    assert {name: one["ok"] for name, one in found["probes"].items()} == {
        "odoo": True,
        "websocket": True,
        "haproxy": True,
        "traefik": True,
    }
    assert found["router"][0]["name"] == "n1"
    assert found["pools"]["pools"][0]["waiting"] == 2
    assert found["database"] == {"in_recovery": False}
    assert found["backups"]["backups"][0]["type"] == "full"
    assert found["detector"]["up"] is True
    assert found["disks"][0]["total_mb"] >= found["disks"][0]["free_mb"] > 0
    assert [(one["name"], one["authority"], one.get("not_after")) for one in found["certificates"]] == [
        ("broken", False, None),
        ("redis", False, moment(2027).timestamp()),
        ("ca", True, moment(2036).timestamp()),
    ]
    assert "no certificate" in found["certificates"][0]["error"]
    assert json.loads(json.dumps(found)) == found


def test_commands_only_read_and_have_their_own_deadline_inside_of_containers() -> None:
    host = FakeHost()
    host.look(**ALL, timeout=10)
    inside = [argv for argv in host.ran if argv[0] == "docker"]
    assert len(inside) == 3
    for argv in inside:
        assert argv[1] == "exec"
        assert argv[argv.index("timeout") : argv.index("timeout") + 2] == ("timeout", "9")
    (pgbackrest,) = [argv for argv in inside if "pgbackrest" in argv]
    assert pgbackrest[-4:] == ("pgbackrest", "--stanza=lab", "--output=json", "info")
    assert pgbackrest[2:5] == ("--user", "10010", "postgres")
    assert all(argv[1] in ("show", "list-units") for argv in host.ran if argv[0] == "systemctl")


def test_several_repositories_are_asked_each_by_itself() -> None:
    host = FakeHost({"repositories": [1]})
    found = host.look(**ALL, repositories=(1, 2))["backups"]
    assert [(one["number"], one["reached"]) for one in found["repositories"]] == [(1, False), (2, True)]
    assert (found["code"], [one["repository"] for one in found["backups"]]) == (0, [2])
    assert len([argv for argv in host.ran if "pgbackrest" in argv]) == 2
    error = FakeHost({"repositories": [1, 2]}).look(**ALL, repositories=(1, 2))["backups"]["error"]
    assert "repository 1: docker did not end within 20 s; repository 2: " in error
    # One alone is asked as ever.
    alone = FakeHost()
    assert "repositories" not in alone.look(**ALL, repositories=(1,))["backups"]
    assert not [argv for argv in alone.ran if any(word.startswith("--repo=") for word in argv)]


@pytest.mark.parametrize(
    ("layers", "parts"),
    [
        ((), set()),
        (("etcd", "redis"), set()),
        (("edge",), set()),
        (("postgres",), {"database", "detector", *io.NOTES}),
        (("odoo",), {"router", "pools"}),
    ],
)
def test_only_the_host_s_own_layers_are_asked(layers: tuple[str, ...], parts: set[str]) -> None:
    found = FakeHost().look(layers=layers)
    always = {"now", "cluster", "addresses", "engine", "units", "certificates", "served", "closed", "disks",
              "maintenance", "probes"}  # fmt: skip
    assert set(found) == always | parts


@pytest.mark.parametrize(
    ("broken", "part", "words"),
    [
        ({"pgbackrest": DedicatedError("docker did not end within 20 s")}, "backups", "did not end within 20 s"),
        ({"pgbackrest": (124, "")}, "backups", "did not end within 20 s"),
        ({"pgbackrest": (56, "ERROR: [056]: unable to find primary cluster")}, "backups", "unable to find primary"),
        ({"pgbackrest": (0, "ERROR")}, "backups", "not JSON"),
        ({"psql": (1, "container postgres is not running\n")}, "database", "docker ended with 1: container postgres"),
        ({"pgbouncer": (2, "")}, "pools", "no message"),
        ({"haproxy": FileNotFoundError(2, "No such file")}, "router", "FileNotFoundError"),
        ({"list-units": DedicatedError("systemctl cannot be started")}, "units", "cannot be started"),
        ({"engine": True}, "engine", "does not answer"),
        ({8010: (503, "stuck")}, "detector", "HTTP 503"),
        ({8010: TimeoutError("timed out")}, "detector", "timed out"),
    ],
)
def test_what_breaks_is_an_error_in_its_place(broken: dict[t.Any, t.Any], part: str, words: str) -> None:
    well, found = FakeHost().look(**ALL), FakeHost(broken).look(**ALL)
    assert words in found[part]["error"]
    assert {name for name in well if found[name] != well[name]} <= {part, "disks"}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((500, ' {"status": "fail"} '), {"ok": False, "status": 500, "reason": '{"status": "fail"}'}),
        (ConnectionRefusedError("refused"), {"ok": False, "status": 0, "reason": "ConnectionRefusedError: refused"}),
    ],
)
def test_probes_that_fail(answer: t.Any, told: dict[str, t.Any]) -> None:
    assert FakeHost({8069: answer}).look(**ALL)["probes"]["odoo"] == told


def test_a_cluster_without_a_detector() -> None:
    found = FakeHost({8010: ConnectionRefusedError("refused")}).look(**ALL)
    assert found["detector"] == {"up": False, "absent": True}


def test_a_stopped_engine_is_not_started_by_being_asked() -> None:
    host = FakeHost(active="inactive")
    assert host.look()["engine"] == {
        "state": "inactive",
        "containers": [],
        "error": "the Docker engine does not answer",
    }
    assert host.asked_engine == [False]


@pytest.mark.parametrize(
    ("unit", "ours"),
    [
        ("dedicated-backup-full.timer", True),
        ("dedicated-postgres.service", True),
        ("docker.service", True),
        ("keepalived.service", True),
        ("docker.socket", False),
        ("my-dedicated-x.service", False),
        ("ssh.service", False),
    ],
)
def test_units_of_ours(unit: str, ours: bool) -> None:
    assert io.ours(unit) is ours


# The real transports


def test_fetch_and_what_refuses_it() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    port = server.server_address[1]
    assert io.fetch(port, "/web/health?x=1", 5) == (503, "/web/health?x=1")
    server.server_close()
    with pytest.raises(OSError, match="refused"):
        io.fetch(port, "/", 5)


def test_a_conversation_over_a_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()

    def serve() -> None:
        connection, __ = listening.accept()
        with connection:
            connection.sendall(b"said " + connection.recv(100))

    threading.Thread(target=serve, daemon=True).start()
    assert io.converse(path, "show stat\n", 5) == "said show stat\n"
    listening.close()


class FakeEyes:
    """Answers by port."""

    def look(self, files: t.Any, targets: t.Any, ca: str) -> dict[str, t.Any]:
        assert (list(files), ca) == ([], "")
        place = [{"protocol": one.protocol, "host": one.host, "port": one.port, "name": one.name} for one in targets]
        good = [{**one, "code": "", "why": "", "serial": "4f", "sans": {}} for one in place if one["port"] != 6379]
        bad = [{**one, "code": "refused", "why": "nobody listens there"} for one in place if one["port"] == 6379]
        return {"certificates": good, "missing": bad}


def test_what_ports_serve_is_told_in_the_order_of_the_question() -> None:
    asked = (("redis", io.Target("redis", "h", 6379)), ("etcd", io.Target("etcd", "h", 2379)))
    fake = FakeHost()
    eyes = t.cast("io.InfoService", FakeEyes())
    found = io.Host(io.Wish(endpoints=asked), fake, fake.engine, fake.fetch, fake.converse, lambda: NOW, eyes).look()
    assert [(one["certificate"], one["code"], one.get("serial")) for one in found["served"]] == [
        ("redis", "refused", None),
        ("etcd", "", "4f"),
    ]
    assert "sans" not in found["served"][1]

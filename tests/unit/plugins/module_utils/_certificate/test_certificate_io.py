# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real ports on loopback, good and bad; real files."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import ssl
import typing as t
from pathlib import Path

import pytest
from certificate_lab import (
    NAMES,
    USAGES,
    Behaviour,
    Made,
    context,
    hang_up,
    impolite,
    make,
    plain,
    port,
    postgresql,
    silent,
    tls,
)
from cryptography.hazmat.primitives import serialization

from ansible_collections.dedicated.odoo.plugins.module_utils._certificate import io, parse
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.io import Failure, Served, Target
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import Completed, SubprocessRunner

AUTHORITY = make("authority", ca=True)
MIDDLE = make("middle", AUTHORITY, ca=True)
FOREIGN = make("foreign", ca=True)
SERVER = make("server", AUTHORITY, names=NAMES, extensions=[USAGES])
BELOW = make("below", MIDDLE, names=NAMES, extensions=[USAGES])
ENDED = make("ended", AUTHORITY, names=NAMES, days=(-9, -2), extensions=[USAGES])
CLIENT = make("client", AUTHORITY, extensions=[USAGES])
STRANGER = make("stranger", FOREIGN, extensions=[USAGES])
LATE = make("late", AUTHORITY, days=(-9, -2), extensions=[USAGES])
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
# Only since Python 3.13 the whole chain, and what was sent before a failure, can be had.
TELLS = hasattr(ssl.SSLObject, "get_unverified_chain")


def ask(behave: Behaviour, protocol: str = "https", timeout: float = 5, **more: t.Any) -> Served:
    with port(behave) as number:
        return io.ask(Target(protocol, "127.0.0.1", number, **more), timeout)


def file(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def identity(folder: Path, made: Made) -> dict[str, str]:
    return {
        "client_cert": file(folder, "client.pem", made.pem),
        "client_key": file(folder, "client.key", made.key_pem),
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocol", ["https", "postgresql"])
def test_what_is_served(protocol: str, version: ssl.TLSVersion, tmp_path: Path) -> None:
    server = context(tmp_path, SERVER)
    server.maximum_version = version
    behave = tls(server) if protocol == "https" else postgresql(server)
    assert ask(behave, protocol) == Served((SERVER.der,), TELLS)


def test_chain_as_it_was_sent(tmp_path: Path) -> None:
    seen = ask(tls(context(tmp_path, BELOW, [MIDDLE, AUTHORITY])))
    assert seen.chain == ((BELOW.der, MIDDLE.der, AUTHORITY.der) if TELLS else (BELOW.der,))
    assert seen.whole == TELLS


class Told:
    """A handshake of a newer Python."""

    def get_unverified_chain(self) -> list[bytes]:
        return [BELOW.der, MIDDLE.der]


def test_chain_of_a_newer_python() -> None:
    with contextlib.closing(socket.socket()) as unconnected:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        conversation = io._Conversation(unconnected, client, "a", io._Deadline(1))
        assert conversation.chain()[0] == ()
        conversation.tls = Told()  # type: ignore[assignment]
        assert conversation.chain() == ((BELOW.der, MIDDLE.der), True)


@pytest.mark.parametrize(
    ("server", "behind", "name", "verified", "why"),
    [
        (SERVER, (), "", True, ""),
        (SERVER, (), "erp.example.com", True, ""),
        (SERVER, (), "a.apps.example.com", True, ""),
        (BELOW, (MIDDLE,), "", True, ""),
        (BELOW, (), "", False, "unable to get local issuer certificate"),
        (ENDED, (), "", False, "certificate has expired"),
        (make("own", names=NAMES), (), "", False, "self-signed certificate"),
        (make("server", FOREIGN, names=NAMES), (), "", False, "unable to get local issuer certificate"),
        (SERVER, (), "other.example.com", False, "Hostname mismatch"),
        (SERVER, (), "192.0.2.1", False, "IP address mismatch"),
    ],
)
def test_verified_against_the_authority(
    server: Made, behind: tuple[Made, ...], name: str, verified: bool, why: str, tmp_path: Path
) -> None:
    ca = file(tmp_path, "ca.pem", AUTHORITY.pem)
    seen = ask(tls(context(tmp_path, server, behind)), server_name=name, ca=ca)
    assert (seen.chain[0], seen.code, seen.verified) == (server.der, "", verified)
    assert seen.unverified.startswith(why)
    assert bool(seen.unverified) != verified


def test_two_authorities_while_one_follows_the_other(tmp_path: Path) -> None:
    ca = file(tmp_path, "ca.pem", FOREIGN.pem + AUTHORITY.pem)
    assert ask(tls(context(tmp_path, SERVER)), ca=ca).verified


def test_verified_after_postgresql_was_asked_for_tls(tmp_path: Path) -> None:
    ca = file(tmp_path, "ca.pem", FOREIGN.pem)
    seen = ask(postgresql(context(tmp_path, SERVER)), "postgresql", ca=ca)
    assert (seen.chain[0], seen.verified) == (SERVER.der, False)


# Client certificates


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("client", "code"),
    [
        (CLIENT, ""),
        (None, "client_certificate_required"),
        (STRANGER, "client_certificate_refused"),
        (LATE, "client_certificate_refused"),
    ],
    ids=["ours", "none", "foreign", "ended"],
)
def test_server_that_wants_a_certificate(
    client: Made | None, code: str, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    server = context(tmp_path, SERVER, trusts=AUTHORITY)
    server.maximum_version = version
    more = {} if client is None else identity(tmp_path, client)
    seen = ask(tls(server), "etcd", ca=file(tmp_path, "ca.pem", AUTHORITY.pem), **more)
    assert seen.code == code, seen.why
    # Before TLS 1.3 an older Python does not tell what was sent before the failure.
    known = not code or version == ssl.TLSVersion.TLSv1_3 or TELLS
    # Such a server sends its authority as well, which it has anyhow.
    assert (seen.chain[:1], seen.verified) == (((SERVER.der,), True) if known else ((), None))


def test_server_without_session_tickets(tmp_path: Path) -> None:
    """It says nothing to who is accepted, as PostgreSQL; what it says to others is heard all the same."""
    server = context(tmp_path, SERVER, trusts=AUTHORITY)
    server.num_tickets = 0
    assert ask(tls(server)).code == "client_certificate_required"
    seen = ask(tls(server), **identity(tmp_path, CLIENT))
    assert (seen.code, seen.chain[0]) == ("", SERVER.der)


def test_server_that_hangs_up_after_the_handshake(tmp_path: Path) -> None:
    server = context(tmp_path, SERVER)
    server.num_tickets = 0
    seen = ask(impolite(server))
    assert (seen.code, seen.chain[0]) == ("handshake_failed", SERVER.der)


def test_key_and_certificate_in_one_file(tmp_path: Path) -> None:
    both = file(tmp_path, "both.pem", CLIENT.key_pem + CLIENT.pem)
    assert ask(tls(context(tmp_path, SERVER, trusts=AUTHORITY)), client_cert=both).code == ""


def bad_identities(folder: Path) -> dict[str, dict[str, str]]:
    sealed = CLIENT.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"a passphrase"),
    ).decode()
    good = identity(folder, CLIENT)
    return {
        "no file": {**good, "client_cert": str(folder / "none.pem")},
        "other key": {**good, "client_key": file(folder, "other.key", STRANGER.key_pem)},
        "sealed key": {**good, "client_key": file(folder, "sealed.key", sealed)},
        "no key": {"client_cert": good["client_cert"]},
        "garbage": {**good, "client_key": file(folder, "garbage.key", "garbage")},
    }


@pytest.mark.parametrize("which", ["no file", "other key", "sealed key", "no key", "garbage"])
def test_own_certificate_that_is_none(which: str, tmp_path: Path) -> None:
    seen = io.ask(Target("etcd", "127.0.0.1", 9, **bad_identities(tmp_path)[which]), 1)
    assert (seen.code, seen.chain) == ("bad_client_certificate", ())
    assert "PRIVATE" not in seen.why


@pytest.mark.parametrize("text", [None, "", "garbage"])
def test_authority_that_is_none(text: str | None, tmp_path: Path) -> None:
    path = str(tmp_path / "none.pem") if text is None else file(tmp_path, "ca.pem", text)
    assert io.ask(Target("etcd", "127.0.0.1", 9, ca=path), 1).code == "bad_ca"


# Ports that serve nothing


@pytest.mark.parametrize(
    ("behave", "protocol", "code"),
    [
        (plain, "https", "no_tls"),
        (silent, "https", "timed_out"),
        (hang_up, "https", "handshake_failed"),
        (postgresql(None, b"N"), "postgresql", "no_tls"),
        (postgresql(None, b"E"), "postgresql", "no_tls"),
        (postgresql(None, b""), "postgresql", "no_tls"),
        (postgresql(None, b"S"), "postgresql", "handshake_failed"),
        (postgresql(None, b"Splain"), "postgresql", "no_tls"),
        (silent, "postgresql", "timed_out"),
        (plain, "postgresql", "no_tls"),
    ],
)
def test_port_that_serves_nothing(behave: Behaviour, protocol: str, code: str) -> None:
    seen = ask(behave, protocol, timeout=0.2 if behave is silent else 5)
    assert (seen.code, seen.chain, seen.verified) == (code, (), None)
    assert seen.why


def test_port_that_never_ends(tmp_path: Path) -> None:
    """Records of a handshake without an end: neither memory nor time is without a bound."""

    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        # A message of the longest size, of which each record holds a part.
        connection.sendall(b"\x16\x03\x03\x40\x00" + b"\x0b\xff\xff\xff" + bytes(16380))
        for _round in range(100):
            connection.sendall(b"\x16\x03\x03\x40\x00" + bytes(16384))

    seen = ask(behave, timeout=5)
    assert (seen.code, seen.chain) == ("handshake_failed", ())


def test_answer_in_single_bytes_has_one_deadline() -> None:
    """Each byte comes in time, all of them do not."""
    sent = []

    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.settimeout(0.02)
        for octet in b"\x16\x03\x03\x40\x00" + bytes(1000):
            connection.sendall(bytes((octet,)))
            sent.append(octet)
            with contextlib.suppress(TimeoutError):
                connection.recv(1)

    assert ask(behave, timeout=0.3).code == "timed_out"
    assert 1 < len(sent) < 100


def test_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
    assert io.ask(Target("https", "127.0.0.1", number), 5).code == "refused"


def test_no_cipher_in_common_is_not_about_our_certificate(tmp_path: Path) -> None:
    server = context(tmp_path, SERVER)
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    # For a key of RSA, which it does not have.
    server.set_ciphers("ECDHE-RSA-AES256-GCM-SHA384")
    assert ask(tls(server)).code == "handshake_failed"


@pytest.mark.parametrize(
    ("host", "number", "code"),
    [("127.0.0.1", 70000, "bad_target"), ("a" * 70, 443, "bad_target"), ("no-such-host.invalid", 443, "unreachable")],
)
def test_target_that_is_none(host: str, number: int, code: str) -> None:
    assert io.ask(Target("https", host, number), 5).code == code


@pytest.mark.parametrize("name", ["", ".example.com", "a..b", "a\x00b"])
def test_server_name_that_is_none(name: str, tmp_path: Path) -> None:
    """An empty one is that of the host."""
    seen = ask(tls(context(tmp_path, SERVER)), server_name=name)
    assert seen.code == ("bad_target" if name else "")


@pytest.mark.parametrize(
    ("host", "name"), [("127.0.0.1", "redis://127.0.0.1:1"), ("::1", "redis://[::1]:1"), ("a.b", "redis://a.b:1")]
)
def test_name_of_a_target(host: str, name: str) -> None:
    assert Target("redis", host, 1).name == name


# Files


def test_file_is_read(tmp_path: Path) -> None:
    path = file(tmp_path, "cert.pem", f"# Müller\n{BELOW.pem}{MIDDLE.pem}")
    (tmp_path / "current.pem").symlink_to(path)
    for one in (path, str(tmp_path / "current.pem")):
        assert parse.pem(io.read(one)) == (BELOW.der, MIDDLE.der)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(bytes(io.MAX_FILE + 1))
    (tmp_path / "loop").symlink_to("loop")
    for name, code in (
        ("none", "no_file"),
        ("fifo", "unreadable"),
        ("loop", "unreadable"),
        ("large", "too_large"),
        (".", "unreadable"),
        ("a\x00b", "unreadable"),
    ):
        with pytest.raises(Failure) as raised:
            io.read(f"{tmp_path}/{name}")
        assert raised.value.code == code, name
        assert raised.value.details == {"code": code}


@pytest.mark.parametrize(
    ("chain", "trusted", "verified", "why"),
    [
        ((SERVER,), (AUTHORITY,), True, ""),
        ((BELOW, MIDDLE), (AUTHORITY,), True, ""),
        ((BELOW, MIDDLE), (FOREIGN, AUTHORITY), True, ""),
        ((BELOW,), (AUTHORITY,), False, "unable to get local issuer certificate"),
        ((SERVER,), (FOREIGN,), False, "unable to get local issuer certificate"),
        ((ENDED,), (AUTHORITY,), False, "certificate has expired"),
    ],
)
def test_files_are_verified_by_openssl(
    chain: tuple[Made, ...], trusted: tuple[Made, ...], verified: bool, why: str, tmp_path: Path
) -> None:
    path = file(tmp_path, "cert.pem", chain[0].key_pem + "".join(one.pem for one in chain))
    ca = file(tmp_path, "ca.pem", "".join(one.pem for one in trusted))
    assert io.verify(SubprocessRunner(), path, ca, 10) == (verified, why)


@dataclasses.dataclass
class FakeRunner:
    """openssl as far as verify asks for it."""

    has: bool = True
    done: Completed | None = None
    calls: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    def find(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if self.has else None

    def run(
        self,
        argv: t.Sequence[str],
        env: t.Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> Completed:
        self.calls.append(tuple(argv))
        if self.done is None:
            raise DedicatedError(f"{argv[0]} did not end within {timeout:g} s")
        return self.done


def test_nothing_but_the_given_authority_is_trusted() -> None:
    runner = FakeRunner(done=Completed((), 0, "/a: OK\n", ""))
    assert io.verify(runner, "/a", "/ca", 1) == (True, "")
    assert runner.calls == [
        ("openssl", "verify", "-CAfile", "/ca", "-no-CApath", "-no-CAstore", "-untrusted", "/a", "/a")
    ]


def test_path_is_no_option() -> None:
    runner = FakeRunner(done=Completed((), 0, "/a: OK\n", ""))
    io.verify(runner, "-engine", "-ca", 1)
    assert [word for word in runner.calls[0] if word.endswith(("engine", "ca"))] == [
        os.path.abspath(one) for one in ("-ca", "-engine", "-engine")
    ]


@pytest.mark.parametrize(
    ("runner", "why"),
    [(FakeRunner(has=False), "this host has no openssl"), (FakeRunner(), "openssl did not end within 1 s")],
)
def test_nobody_who_could_verify_is_no_verdict(runner: FakeRunner, why: str) -> None:
    assert io.verify(runner, "/a", "/ca", 1) == (None, why)

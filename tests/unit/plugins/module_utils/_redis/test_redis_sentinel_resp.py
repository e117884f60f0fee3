# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Redis protocol: whole, cut anywhere, wrong; and the client against a TLS server of its own."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
import typing as t
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.dedicated.odoo.plugins.module_utils._redis import resp
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.io import Answer, RedisUnreachable

CANARY = "canary-pw-31"

WHOLE = [
    (b"+OK\r\n", Answer("OK")),
    (b"-ERR No such master with that name\r\n", Answer(error="ERR No such master with that name")),
    (b":42\r\n", Answer(42)),
    (b":-1\r\n", Answer(-1)),
    (b"$5\r\na\r\nbc\r\n", Answer("a\r\nbc")),
    (b"$0\r\n\r\n", Answer("")),
    (b"$-1\r\n", Answer()),
    (b"*-1\r\n", Answer()),
    (b"*0\r\n", Answer([])),
    (b"*3\r\n$6\r\nmaster\r\n:7\r\n*1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n", Answer(["master", 7, [["a", "b"]]])),
    (b"*2\r\n+OK\r\n-ERR inner\r\n+", Answer(error="ERR inner")),
    ("$3\r\nä!\r\n".encode(), Answer("ä!")),
    (b"$2\r\n\xff\xfe\r\n", Answer("\ufffd\ufffd")),
]


def feed(*parts: bytes) -> resp.Decoder:
    rest = list(parts)

    def more() -> bytes:
        if not rest:
            raise ConnectionError("closed")
        return rest.pop(0)

    return resp.Decoder(more)


@pytest.mark.parametrize(("raw", "expected"), WHOLE)
def test_reply_in_one_piece_and_byte_by_byte(raw: bytes, expected: Answer) -> None:
    assert feed(raw).reply() == expected
    assert feed(*(raw[at : at + 1] for at in range(len(raw)))).reply() == expected


@pytest.mark.parametrize("raw", [raw for raw, _ in WHOLE if raw[-1:] == b"\n"])
def test_cut_anywhere_is_never_taken_for_whole(raw: bytes) -> None:
    for at in range(len(raw)):
        with pytest.raises(ConnectionError):
            feed(*[raw[:at]] if at else []).reply()


def test_two_replies_out_of_one_piece() -> None:
    decoder = feed(b"+OK\r\n:1\r\n")
    assert [decoder.reply().value, decoder.reply().value] == ["OK", 1]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "not the Redis protocol"),
        (b":many\r\n", "where a number belongs"),
        (b"$-2\r\n", "claims a size"),
        (b"$99999999999\r\n", "claims a size"),
        (b"*1\r\n" * 9, "claims a size"),
        (b"$2\r\nabcd", "does not end"),
    ],
)
def test_what_is_not_the_protocol(raw: bytes, said: str) -> None:
    with pytest.raises(resp.BadAnswer, match=said):
        feed(raw).reply()


def test_endless_answer_is_cut_off() -> None:
    decoder = resp.Decoder(lambda: b"a" * 2**20)
    with pytest.raises(resp.BadAnswer, match="more than"):
        decoder.reply()


def test_encode_counts_bytes_and_keeps_line_ends_inside() -> None:
    assert resp.encode(["AUTH", "ä\r\n"]) == "*2\r\n$4\r\nAUTH\r\n$4\r\nä\r\n\r\n".encode()


# -- over TLS ----------------------------------------------------------------------------------------------------------


def make_pki(folder: Path, address: str = "127.0.0.1") -> dict[str, str]:
    """An authority and one certificate for both ends."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    alt = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(hours=1)).add_extension(alt, False)
    cert = builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(cert.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    paths = {"ca_path": "cert.pem", "client_cert": "cert.pem", "client_key": "key.pem"}
    return {name: str(folder / file) for name, file in paths.items()}


@contextlib.contextmanager
def serve(paths: dict[str, str], *replies: bytes, hang: bool = False) -> t.Iterator[tuple[str, list[bytes]]]:
    """A server that answers each piece that it receives with the next reply, and demands a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths["client_cert"], paths["client_key"])
    context.load_verify_locations(paths["ca_path"])
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []
    over = threading.Event()

    def run() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as raw, context.wrap_socket(raw, True) as link:
            for reply in replies:
                heard.append(link.recv(65536))
                link.sendall(reply)
            if hang:
                heard.append(link.recv(65536))
                over.wait(10)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", heard
    finally:
        over.set()
        listener.close()
        with contextlib.suppress(OSError):
            socket.create_connection(listener.getsockname(), 0.1).close()
        thread.join(10)


def network(paths: dict[str, str], **more: t.Any) -> resp.TlsNetwork:
    return resp.TlsNetwork({**paths, "username": "admin", "password": CANARY, "connect_timeout": 5.0, **more})


def ask(net: resp.TlsNetwork, address: str, *commands: tuple[str, ...]) -> t.Any:
    return net.ask({address: commands})[address]


def test_login_comes_first_and_commands_travel_together(tmp_path: Path) -> None:
    paths = make_pki(tmp_path)
    with serve(paths, b"+OK\r\n", b"+PONG\r\n-ERR no\r\n") as (address, heard):
        assert ask(network(paths), address, ("PING",), ("NO",)) == [Answer("PONG"), Answer(error="ERR no")]
    assert heard == [resp.encode(["AUTH", "admin", CANARY]), resp.encode(["PING"]) + resp.encode(["NO"])]


def test_no_command_follows_a_refused_login_and_the_password_is_not_shown(tmp_path: Path) -> None:
    paths = make_pki(tmp_path)
    with serve(paths, b"-WRONGPASS invalid username-password pair " + CANARY.encode() + b"\r\n") as (address, heard):
        got = ask(network(paths), address, ("SENTINEL", "FAILOVER", "x"))
    assert isinstance(got, RedisUnreachable)
    assert (got.details["code"], len(heard)) == ("login_failed", 1)
    assert "admin cannot log in (WRONGPASS)" in got.msg
    assert CANARY not in got.msg


def test_without_a_password_nothing_is_said_about_it(tmp_path: Path) -> None:
    paths = make_pki(tmp_path)
    with serve(paths, b"+PONG\r\n") as (address, heard):
        assert ask(network(paths, username=None, password=None), address, ("PING",)) == [Answer("PONG")]
    assert heard == [resp.encode(["PING"])]


def test_a_server_of_another_authority_gets_no_byte(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "other").mkdir()
    own, other = make_pki(tmp_path / "own"), make_pki(tmp_path / "other")
    with serve(other, b"+OK\r\n") as (address, heard):
        got = ask(network(own), address, ("PING",))
    assert "certificate verify failed" in got.msg.lower()
    assert heard == []


def test_a_certificate_for_another_address_gets_no_byte(tmp_path: Path) -> None:
    paths = make_pki(tmp_path, "192.0.2.1")
    with serve(paths, b"+OK\r\n") as (address, heard):
        got = ask(network(paths), address, ("PING",))
    assert "IP address mismatch" in got.msg
    assert heard == []


def test_a_server_that_hangs_costs_the_deadline(tmp_path: Path) -> None:
    paths = make_pki(tmp_path)
    with serve(paths, b"+OK\r\n", hang=True) as (address, _heard):
        got = ask(network(paths, connect_timeout=0.3), address, ("PING",))
    assert "no answer in time" in got.msg


def test_what_cannot_be_asked_does_not_hide_what_can(tmp_path: Path) -> None:
    paths = make_pki(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = f"127.0.0.1:{unused.getsockname()[1]}"
    with (
        serve(paths, b"+OK\r\n", b"+PONG\r\n") as (well, _heard),
        serve(paths, b"+OK\r\n", b"?\r\n") as (mad, _too),
        serve(paths, b"+OK\r\n", b"+PO") as (cut, _also),
    ):
        got = network(paths).ask({one: [("PING",)] for one in (closed, well, mad, cut, "nonsense")})
    assert got[well] == [Answer("PONG")]
    said = {address: one.msg for address, one in got.items() if isinstance(one, RedisUnreachable)}
    assert set(said) == {closed, mad, cut, "nonsense"}
    assert "refused" in said[closed]
    assert "not the Redis protocol" in said[mad]
    assert "not of the form host:port" in said["nonsense"]


def test_a_missing_certificate_is_no_answer_too(tmp_path: Path) -> None:
    paths = {**make_pki(tmp_path), "client_cert": str(tmp_path / "none.pem")}
    got = ask(network(paths), "127.0.0.1:1", ("PING",))
    assert got.details["code"] == "no_certificate"
    assert "none.pem" in got.msg


def test_nobody_to_ask(tmp_path: Path) -> None:
    assert network(make_pki(tmp_path)).ask({}) == {}

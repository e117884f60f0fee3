# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates made for the tests, and ports that serve them."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import ipaddress
import socket
import ssl
import threading
import typing as t
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)
KEYS: dict[str, t.Callable[[], t.Any]] = {
    "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
}


@functools.cache
def key(kind: str, label: str = "") -> t.Any:
    """One key per kind and label: making one takes time."""
    assert label is not None
    return KEYS[kind]()


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


@dataclasses.dataclass(frozen=True)
class Made:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: t.Any

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()


def make(
    subject: str | x509.Name = "leaf",
    issuer: Made | None = None,
    kind: str = "p256",
    ca: bool = False,
    names: t.Sequence[x509.GeneralName] = (),
    days: tuple[float, float] = (-1, 40),
    extensions: t.Sequence[tuple[x509.ExtensionType, bool]] = (),
    serial: int | None = None,
) -> Made:
    """A certificate by the issuer, or by itself."""
    text = subject if isinstance(subject, str) else "made"
    own = key(kind, text)
    subject_name = name(subject) if isinstance(subject, str) else subject
    signing = own if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(subject_name if issuer is None else issuer.certificate.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(NOW + days[0] * DAY)
        .not_valid_after(NOW + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()),
            critical=False,
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    unhashed = isinstance(signing, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey))
    return Made(builder.sign(signing, None if unhashed else hashes.SHA256()), own)


NAMES = (
    x509.DNSName("Erp.example.com"),
    x509.DNSName("*.apps.example.com"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("2001:db8::10")),
    x509.UniformResourceIdentifier("https://example.com/a"),
    x509.RFC822Name("ops@example.com"),
    x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])),
    x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4")),
)
USAGES = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)


# -- DER by hand, for what the library refuses to make ---------------------------------------------------------------


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def pieces(data: bytes) -> list[bytes]:
    """The elements of a DER text."""
    found = []
    at = 0
    while at < len(data):
        length, start = data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, start = int.from_bytes(data[start : start + count], "big"), start + count
        found.append(data[at : start + length])
        at = start + length
    return found


def content(element: bytes) -> bytes:
    count = element[1] & 0x7F if element[1] & 0x80 else 0
    return element[2 + count :]


def rebuilt(made: bytes, change: t.Callable[[list[bytes]], list[bytes]]) -> bytes:
    """A certificate whose body was changed. Its signature is wrong then, which nobody looks at."""
    body, algorithm, signature = pieces(content(made))
    return der(0x30, der(0x30, *change(pieces(content(body)))), algorithm, signature)


# -- ports -----------------------------------------------------------------------------------------------------------

Behaviour = t.Callable[[socket.socket], None]


@contextlib.contextmanager
def port(behave: Behaviour) -> t.Iterator[int]:
    """A port on loopback that treats each connection so, one after the other."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def run() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError):
                    connection, _address = listener.accept()
                    with connection:
                        connection.settimeout(5)
                        behave(connection)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join(10)


def context(folder: Path, made: Made, chain: t.Sequence[Made] = (), trusts: Made | None = None) -> ssl.SSLContext:
    """A server's side. `trusts`: it wants a certificate of that authority."""
    path = folder / "server.pem"
    path.write_text(made.key_pem + made.pem + "".join(one.pem for one in chain))
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(path)
    if trusts is not None:
        found.verify_mode = ssl.CERT_REQUIRED
        found.load_verify_locations(cadata=trusts.pem)
    return found


def tls(server: ssl.SSLContext) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        with server.wrap_socket(connection, server_side=True) as secure:
            secure.recv(100)
            with contextlib.suppress(OSError):
                secure.unwrap()

    return behave


def impolite(server: ssl.SSLContext) -> Behaviour:
    """Hangs up when the handshake is through, without a word."""

    def behave(connection: socket.socket) -> None:
        secure = server.wrap_socket(connection, server_side=True)
        with contextlib.closing(socket.socket(fileno=secure.detach())):
            pass

    return behave


def postgresql(server: ssl.SSLContext | None, answer: bytes = b"S") -> Behaviour:
    def behave(connection: socket.socket) -> None:
        if connection.recv(8) != bytes((0, 0, 0, 8, 4, 210, 22, 47)):
            return
        connection.sendall(answer)
        if server is not None:
            tls(server)(connection)

    return behave


def silent(connection: socket.socket) -> None:
    """Takes everything, says nothing, until the other side leaves."""
    while connection.recv(4096):
        pass


def plain(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def hang_up(connection: socket.socket) -> None:
    connection.recv(4096)

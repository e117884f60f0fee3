# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies in files and what ports serve. Changes nothing, sends nothing but a handshake.

A port is asked by a handshake of its own, over memory instead of a socket that the ssl module reads: the whole of it
has one deadline and one limit of bytes, and what is no TLS is known by its first byte.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import ssl
import stat
import struct
import time
import typing as t

from .._common.errors import DedicatedError
from .._common.runner import Runner
from . import plan

MAX_FILE = 1 << 20
# Some times what a chain of MAX_SIZE can be.
MAX_ANSWER = 1 << 19
# How long a server may take to say that it does not accept us, once our side of the handshake is through, and how
# long after our goodbye.
PATIENCE, PARTING = 0.3, 1.0
# PostgreSQL: length and code of SSLRequest (protocol, 53.2.10 "SSL Session Encryption").
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
# Types of TLS records that begin an answer to a ClientHello: alert, handshake.
_RECORDS = (0x15, 0x16)


@dataclasses.dataclass(frozen=True)
class Target:
    """A port that serves a certificate. Empty: no name but the host, no certificate of ours, nobody to trust."""

    protocol: str
    host: str
    port: int
    server_name: str = ""
    client_cert: str = ""
    client_key: str = ""
    ca: str = ""

    @property
    def name(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol}://{host}:{self.port}"


@dataclasses.dataclass(frozen=True)
class Served:
    """What a port showed. `chain` holds DER, the server's own first; `whole`: it is all that was sent.

    `code` and `why` are empty when it served and accepted us. `verified` is None when nobody could judge.
    """

    chain: tuple[bytes, ...] = ()
    whole: bool = False
    code: str = ""
    why: str = ""
    verified: bool | None = None
    unverified: str = ""


class Failure(DedicatedError):
    """Why there is no certificate; `code` is stable."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(why, code=code)
        self.code = code


class _Distrusted(Exception):
    """The server's certificate is none that we are to trust."""


# -- files -----------------------------------------------------------------------------------------------------------


def read(path: str) -> str:
    """The text of a regular file, a symbolic link followed. It is looked through for certificates only."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Failure("no_file", "there is no such file") from None
    except (OSError, ValueError) as exc:
        raise Failure("unreadable", getattr(exc, "strerror", None) or str(exc)) from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Failure("unreadable", "this is no regular file")
    with os.fdopen(descriptor, "rb") as stream:
        data = stream.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise Failure("too_large", f"more than {MAX_FILE} bytes")
    return data.decode("latin-1")


def verify(runner: Runner, path: str, ca: str, timeout: float) -> tuple[bool | None, str]:
    """Whether the first certificate of a file leads to an authority of the other, with the file's own chain.

    Without -no-CApath and -no-CAstore the system's authorities would be trusted beside the given one.
    """
    if runner.find("openssl") is None:
        return None, "this host has no openssl"
    place = os.path.abspath(path)
    trust = ["-CAfile", os.path.abspath(ca), "-no-CApath", "-no-CAstore"]
    try:
        done = runner.run(["openssl", "verify", *trust, "-untrusted", place, place], timeout=timeout)
    except DedicatedError as exc:
        return None, exc.msg
    return plan.openssl_verdict(done.rc, done.stdout, done.stderr)


# -- ports -----------------------------------------------------------------------------------------------------------


class _Deadline:
    """One for all that is done with a port."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise socket.timeout("timed out")
        return seconds


class _Conversation:
    """TLS over a connected socket, one step of the protocol at a time."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, name: str, deadline: _Deadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.sent = 0
        self._received = 0

    def drive(self, step: t.Callable[[], t.Any]) -> None:
        """Repeat a step until it needs no more of the other side. Raises ssl.SSLError, OSError or Failure."""
        while True:
            try:
                step()
            except ssl.SSLWantReadError:
                self._send()
                self._receive()
            except ssl.SSLError:
                # An alert, by which the server knows what we did not like.
                self._send()
                raise
            else:
                self._send()
                return

    def hear(self, seconds: float) -> bool:
        """Whether the other side says anything after the handshake. An alert is raised as ssl.SSLError."""
        if not self._incoming.pending:
            try:
                self._receive(min(seconds, self._deadline.left()))
            except socket.timeout:
                return False
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.read(1)
        return True

    def leave(self) -> None:
        """Say that nothing more comes. What the other side says to that is not for unwrap(): it swallows alerts."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._send()

    def _send(self) -> None:
        data = self._outgoing.read()
        if data:
            self._connection.settimeout(self._deadline.left())
            self._connection.sendall(data)
            self.sent += 1

    def _receive(self, seconds: float | None = None) -> None:
        self._connection.settimeout(self._deadline.left() if seconds is None else seconds)
        data = self._connection.recv(16384)
        if not data:
            raise Failure(plan.HANDSHAKE_FAILED, "the connection was closed")
        if not self._received and data[0] not in _RECORDS:
            raise Failure(plan.NO_TLS, "the answer is no TLS")
        self._received += len(data)
        if self._received > MAX_ANSWER:
            raise Failure(plan.HANDSHAKE_FAILED, f"more than {MAX_ANSWER} bytes, and no end of the handshake")
        self._incoming.write(data)

    def chain(self) -> tuple[tuple[bytes, ...], bool]:
        """What was sent, and whether that is all of it: before Python 3.13 only the first certificate can be had."""
        ask = getattr(self.tls, "get_unverified_chain", None)
        if ask is not None:
            return tuple(bytes(one) for one in ask()), True
        try:
            first = self.tls.getpeercert(binary_form=True)
        except ValueError:
            # The handshake is not through.
            return (), False
        return ((first,) if first else ()), False


def _context(target: Target, trusting: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if trusting:
        try:
            context.load_verify_locations(cafile=target.ca)
        except (OSError, ValueError) as exc:
            raise Failure("bad_ca", f"{target.ca}: {_reason(exc)}") from exc
    else:
        # Whatever is served is to be shown, above all what nobody should trust. Nothing secret is sent.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if target.client_cert:
        try:
            # Without a passphrase OpenSSL would ask for one on the terminal.
            context.load_cert_chain(target.client_cert, target.client_key or None, password=lambda: b"")
        except (OSError, ValueError) as exc:
            raise Failure("bad_client_certificate", f"{target.client_cert}: {_reason(exc)}") from exc
    return context


def _reason(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        return (exc.reason or str(exc)).replace("_", " ").lower()
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__


def _start_postgresql(connection: socket.socket, deadline: _Deadline) -> None:
    """PostgreSQL speaks TLS when asked for it. Exactly one byte is its answer: what follows must be TLS."""
    connection.settimeout(deadline.left())
    connection.sendall(SSL_REQUEST)
    connection.settimeout(deadline.left())
    answer = connection.recv(1)
    if answer == b"S":
        return
    if not answer:
        raise Failure(plan.NO_TLS, "the connection was closed instead of an answer to SSLRequest")
    said = "no TLS here" if answer == b"N" else f"{answer!r}, which is none of PostgreSQL's"
    raise Failure(plan.NO_TLS, f"the answer to SSLRequest is: {said}")


def _shake(conversation: _Conversation, target: Target, trusting: bool) -> Served:
    """The handshake and its aftermath."""
    try:
        conversation.drive(conversation.tls.do_handshake)
    except ssl.SSLCertVerificationError as exc:
        raise _Distrusted(exc.verify_message) from exc
    except ssl.SSLError as exc:
        code, why = plan.rejection(exc.reason or "", conversation.sent > 1, bool(target.client_cert)), _reason(exc)
        chain, whole = conversation.chain()
    else:
        # Before the parting, after which OpenSSL may have forgotten it.
        chain, whole = conversation.chain()
        code, why = _parting(conversation, target)
    return Served(chain, whole and bool(chain), code, why, verified=True if trusting and chain else None)


def _parting(conversation: _Conversation, target: Target) -> tuple[str, str]:
    """Whether the server accepted us. With TLS 1.3 it judges our certificate when our handshake is through already.

    Who accepts sends session tickets at once, or waits for us to speak. Only who stays silent hears a goodbye: a
    goodbye to a server that has refused us would be answered by a reset, which may overtake its alert.
    """
    if conversation.tls.version() != "TLSv1.3":
        return "", ""
    try:
        heard = conversation.hear(PATIENCE)
    except ssl.SSLError as exc:
        return _alerted(exc, target)
    except (ConnectionError, Failure):
        return plan.HANDSHAKE_FAILED, "the connection was closed right after the handshake"
    try:
        conversation.leave()
        if not heard:
            conversation.hear(PARTING)
    except ssl.SSLError as exc:
        return _alerted(exc, target)
    except (OSError, Failure):
        # Many just hang up.
        pass
    return "", ""


def _alerted(exc: ssl.SSLError, target: Target) -> tuple[str, str]:
    if isinstance(exc, ssl.SSLZeroReturnError):
        return "", ""
    return plan.rejection(exc.reason or "", True, bool(target.client_cert)), _reason(exc)


def _look(target: Target, trusting: bool, timeout: float) -> Served:
    if not 1 <= target.port <= 65535 or "\0" in target.host + target.server_name:
        raise Failure("bad_target", "no port, or no name, that there could be")
    deadline = _Deadline(timeout)
    context = _context(target, trusting)
    with socket.create_connection((target.host, target.port), timeout=timeout) as connection:
        if target.protocol == "postgresql":
            _start_postgresql(connection, deadline)
        name = target.server_name or target.host
        return _shake(_Conversation(connection, context, name, deadline), target, trusting)


def ask(target: Target, timeout: float) -> Served:
    """What a port serves. Whatever goes wrong is an answer with its code.

    With an authority the first handshake trusts only that one; when it fails for that, a second one trusts everybody,
    and shows what was not trusted.
    """
    try:
        if not target.ca:
            return _look(target, False, timeout)
        try:
            return _look(target, True, timeout)
        except _Distrusted as exc:
            return dataclasses.replace(_look(target, False, timeout), verified=False, unverified=str(exc))
    except Failure as exc:
        return Served(code=exc.code, why=exc.msg)
    except socket.timeout:
        return Served(code=plan.TIMED_OUT, why=f"no answer within {timeout:g} s")
    except ConnectionRefusedError:
        return Served(code=plan.REFUSED, why="nobody listens there")
    except (ConnectionResetError, BrokenPipeError) as exc:
        return Served(code=plan.HANDSHAKE_FAILED, why=_reason(exc))
    except OSError as exc:
        return Served(code=plan.UNREACHABLE, why=_reason(exc))
    except ValueError as exc:
        # Names that cannot be encoded.
        return Served(code="bad_target", why=str(exc))

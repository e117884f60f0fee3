# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talking to servers over the network: the Redis protocol (RESP 2) in TLS with a client certificate.

Laws:

1. nothing is sent before the server's certificate was verified against the given authority and the dialled address;
2. no command follows a login that was refused: it would run as the default user, who may do too much or too little;
3. a deadline holds for the whole exchange with one server, however slowly it drips;
4. what a server sends is bounded in size and depth before it is believed;
5. a server that cannot be asked is an answer (``RedisUnreachable``), one ill server never hides the others.
"""

from __future__ import annotations

import concurrent.futures
import socket
import ssl
import time
import typing as t

from .._common.errors import DedicatedError
from .io import Answer, RedisUnreachable
from .sentinel_plan import split_address

MAX_BYTES = 8 * 1024**2
MAX_DEPTH = 8
_CHUNK = 65536
Commands = t.Sequence[t.Sequence[str]]


class BadAnswer(DedicatedError):
    """What came is not the protocol."""


def encode(words: t.Sequence[str]) -> bytes:
    """One command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
    return b"".join(parts)


class Decoder:
    """Replies out of a stream of bytes; ``more`` gives the next bytes and raises when there are none."""

    def __init__(self, more: t.Callable[[], bytes]) -> None:
        self._more = more
        self._buffer = b""
        self._seen = 0

    def _fill(self) -> None:
        fresh = self._more()
        self._seen += len(fresh)
        if self._seen > MAX_BYTES:
            raise BadAnswer(f"the answer has more than {MAX_BYTES} bytes", code="bad_answer")
        self._buffer += fresh

    def _line(self) -> str:
        while b"\r\n" not in self._buffer:
            self._fill()
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line.decode("utf-8", "replace")

    def _bulk(self, size: int) -> str:
        while len(self._buffer) < size + 2:
            self._fill()
        raw, end, self._buffer = self._buffer[:size], self._buffer[size : size + 2], self._buffer[size + 2 :]
        if end != b"\r\n":
            raise BadAnswer("a string of the answer does not end where it should", code="bad_answer")
        return raw.decode("utf-8", "replace")

    def reply(self, depth: int = 0) -> Answer:
        """The next whole reply. An error inside of an array becomes the array's error."""
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == "+":
            return Answer(rest)
        if kind == "-":
            return Answer(error=rest)
        if kind not in (":", "$", "*"):
            raise BadAnswer(f"the answer begins with {kind!r}, which is not the Redis protocol", code="bad_answer")
        try:
            number = int(rest)
        except ValueError:
            raise BadAnswer(f"the answer has {rest[:40]!r} where a number belongs", code="bad_answer") from None
        if kind == ":":
            return Answer(number)
        return self._sized(kind, number, depth)

    def _sized(self, kind: str, number: int, depth: int) -> Answer:
        if number == -1:
            return Answer()
        if number < 0 or number > MAX_BYTES or depth >= MAX_DEPTH:
            raise BadAnswer(f"the answer claims a size of {number} at depth {depth}", code="bad_answer")
        if kind == "$":
            return Answer(self._bulk(number))
        parts = [self.reply(depth + 1) for dummy in range(number)]
        error = next((part.error for part in parts if part.error is not None), None)
        return Answer(error=error) if error is not None else Answer([part.value for part in parts])


class Network(t.Protocol):
    """Several commands to each of several servers, at the same time."""

    def ask(self, requests: t.Mapping[str, Commands]) -> dict[str, list[Answer] | RedisUnreachable]: ...


class TlsNetwork:
    """The real thing: one connection for each server and request. Its options are the modules' (``arguments.py``)."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        self._ca: str = params["ca_path"]
        self._cert: str = params["client_cert"]
        self._key: str = params["client_key"]
        self._username: str | None = params.get("username")
        self._password: str | None = params.get("password")
        self._timeout: float = params["connect_timeout"]

    def ask(self, requests: t.Mapping[str, Commands]) -> dict[str, list[Answer] | RedisUnreachable]:
        """Every server at once: a dead host costs one time-out and not one for each of its servers."""
        if not requests:
            return {}
        with concurrent.futures.ThreadPoolExecutor(max_workers=min(16, len(requests))) as pool:
            return dict(zip(requests, pool.map(self._ask_one, requests, requests.values())))

    def _ask_one(self, address: str, commands: Commands) -> list[Answer] | RedisUnreachable:
        try:
            return self._exchange(address, commands)
        except RedisUnreachable as exc:
            return exc
        except BadAnswer as exc:
            return RedisUnreachable(f"{address}: {exc.msg}", code="bad_answer")
        except (OSError, ValueError) as exc:
            # ssl's errors are OSErrors; socket.timeout is one of its own only in Python 3.9.
            said = "no answer in time" if isinstance(exc, (TimeoutError, socket.timeout)) else str(exc)
            return RedisUnreachable(f"{address}: {said}", code="unreachable")

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(self._ca)
            context.load_cert_chain(self._cert, self._key)
        except OSError as exc:
            paths = f"{self._ca}, {self._cert}, {self._key}"
            raise RedisUnreachable(
                f"a certificate or key cannot be used ({paths}): {exc}", code="no_certificate"
            ) from exc
        return context

    def _exchange(self, address: str, commands: Commands) -> list[Answer]:
        deadline = time.monotonic() + self._timeout
        host, port = split_address(address)
        context = self._context()
        with socket.create_connection((host, port), timeout=self._timeout) as plain:  # noqa: SIM117 (line length)
            with context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False) as link:
                _limit(link, deadline)
                link.do_handshake()
                decoder = Decoder(lambda: _receive(link, deadline))
                self._log_in(address, link, decoder)
                _limit(link, deadline)
                link.sendall(b"".join(encode(words) for words in commands))
                return [decoder.reply() for dummy in commands]

    def _log_in(self, address: str, link: ssl.SSLSocket, decoder: Decoder) -> None:
        if self._password is None:
            return
        link.sendall(encode(["AUTH", *([self._username] if self._username else []), self._password]))
        said = decoder.reply().error
        if said is not None:
            raise RedisUnreachable(
                f"{address}: {self._username or 'default'} cannot log in ({said.split(' ')[0]}). "
                "Check user name and password against the ACL file that the server has loaded.",
                code="login_failed",
            )


def _limit(link: ssl.SSLSocket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    link.settimeout(left)


def _receive(link: ssl.SSLSocket, deadline: float) -> bytes:
    _limit(link, deadline)
    got = link.recv(_CHUNK)
    if not got:
        raise ConnectionError("the server closed the connection")
    return got

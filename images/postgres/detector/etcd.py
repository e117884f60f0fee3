# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd v3 over its JSON gateway: one snapshot, one vote under a lease, one guarded act. Standard library only."""

from __future__ import annotations

import base64
import dataclasses
import http.client
import json
import os
import ssl
import threading
import time
import typing as t
import urllib.parse

from . import plan

CONNECT_SECONDS = 0.5
ANSWER_SECONDS = 1.0
CALL_SECONDS = 2.5
# For how long an endpoint that failed is asked last.
PENALTY_SECONDS = 10.0

_STALE_TOKEN = (
    "etcdserver: invalid auth token",
    "etcdserver: user name is empty",
    "etcdserver: revision of auth store is old",
)
_NO_AUTH = "etcdserver: authentication is not enabled"
_DENIED = "etcdserver: permission denied"
_NO_LEASE = "etcdserver: requested lease not found"
# gRPC codes that say for sure that the request was not carried out: invalid argument, not found, permission denied,
# resource exhausted, failed precondition, unimplemented, unauthenticated.
_NOT_DONE = (3, 5, 7, 8, 9, 12, 16)


class EtcdError(Exception):
    """etcd did not answer, or refused."""


class Rejected(EtcdError):
    """etcd answered that it does not do this: it has not happened."""


class LeaseGone(Rejected):
    """The lease has run out."""


class Unsure(EtcdError):
    """The request may have reached etcd, but no clear answer came: it may have happened."""


class NotSent(OSError):
    """No connection: the request has surely not happened."""


class Transport(t.Protocol):
    def post(
        self, endpoint: str, path: str, body: bytes, headers: t.Mapping[str, str], timeout: float
    ) -> tuple[int, bytes]:
        """Status and body of the answer. Raises NotSent, OSError or http.client.HTTPException."""

    def close(self) -> None: ...


class Tls:
    """Our certificate and the CA, read again when the files change: this process may live longer than they do."""

    def __init__(self, ca: str, cert: str, key: str) -> None:
        self.files = (ca, cert, key)
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] = ()
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """Raises OSError, but never ssl.SSLError: what is wrong here is not the other side."""
        stamp = tuple(os.stat(name).st_mtime_ns for name in self.files)
        with self._lock:
            if self._context is None or stamp != self._stamp:
                ca, cert, key = self.files
                try:
                    context = ssl.create_default_context(cafile=ca)
                    context.load_cert_chain(cert, key)
                except ssl.SSLError as exc:
                    raise OSError(f"cannot use {ca}, {cert} and its key: {exc}") from exc
                self._context, self._stamp = context, stamp
            return self._context


class HttpTransport:
    """One connection per endpoint, kept open. Used by one thread."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._open: dict[str, tuple[http.client.HTTPSConnection, ssl.SSLContext]] = {}

    def _connection(self, endpoint: str, timeout: float) -> http.client.HTTPSConnection:
        try:
            context = self._tls.context()
            kept = self._open.get(endpoint)
            if kept is not None and kept[1] is context:
                return kept[0]
            self._drop(endpoint)
            parts = urllib.parse.urlsplit(endpoint)
            limit = min(timeout, CONNECT_SECONDS)
            made = http.client.HTTPSConnection(parts.hostname or "", parts.port or 2379, timeout=limit, context=context)
            made.connect()
        except OSError as exc:
            raise NotSent(f"{type(exc).__name__}: {exc}") from exc
        self._open[endpoint] = (made, context)
        return made

    def _drop(self, endpoint: str) -> None:
        kept = self._open.pop(endpoint, None)
        if kept is not None:
            kept[0].close()

    def post(
        self, endpoint: str, path: str, body: bytes, headers: t.Mapping[str, str], timeout: float
    ) -> tuple[int, bytes]:
        connection = self._connection(endpoint, timeout)
        try:
            if connection.sock is not None:
                connection.sock.settimeout(timeout)
            connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            data = answer.read()
        except BaseException:
            self._drop(endpoint)
            raise
        if answer.will_close:
            self._drop(endpoint)
        return answer.status, data

    def close(self) -> None:
        for endpoint in list(self._open):
            self._drop(endpoint)


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


def _text(encoded: str) -> str:
    # What is no UTF-8 must not end the loop; it equals nothing that we know.
    return base64.b64decode(encoded).decode("utf-8", "backslashreplace")


def _one(key: str) -> dict[str, t.Any]:
    return {"request_range": {"key": _b64(key)}}


def _under(prefix: str) -> dict[str, t.Any]:
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return {"request_range": {"key": _b64(prefix), "range_end": _b64(end)}}


def _entry(kv: t.Mapping[str, t.Any]) -> plan.Entry:
    # The gateway leaves out what is empty or zero.
    return plan.Entry(
        _text(kv.get("value", "")), int(kv["mod_revision"]), int(kv["create_revision"]), int(kv.get("lease", 0))
    )


def _entries(response: t.Mapping[str, t.Any]) -> dict[str, plan.Entry]:
    found = response.get("response_range", {}).get("kvs", [])
    return {_text(kv["key"]): _entry(kv) for kv in found}


def _below(prefix: str, entries: t.Mapping[str, plan.Entry]) -> dict[str, plan.Entry]:
    return {key[len(prefix) :]: entry for key, entry in entries.items()}


def _compare(guard: plan.Guard) -> dict[str, t.Any]:
    base = {"key": _b64(guard.key), "result": "EQUAL"}
    if guard.kind == plan.ABSENT:
        return {**base, "target": "CREATE", "create_revision": "0"}
    if guard.kind == plan.VALUE:
        return {**base, "target": "VALUE", "value": _b64(guard.value)}
    # Lease 0 and revision 0 would be true of a key that does not exist.
    if guard.kind == plan.LEASE and guard.lease > 0:
        return {**base, "target": "LEASE", "lease": str(guard.lease)}
    if guard.kind != plan.REVISION or guard.revision <= 0:
        raise ValueError(f"this guards nothing: {guard}")
    return {**base, "target": "MOD", "mod_revision": str(guard.revision)}


def _put(key: str, value: str, lease: str) -> dict[str, t.Any]:
    return {"key": _b64(key), "value": _b64(value), "lease": lease}


def _complaint(answer: bytes) -> tuple[int, str]:
    """gRPC code and text of an error."""
    try:
        data = json.loads(answer)
        inner = data["error"] if isinstance(data.get("error"), dict) else data
        code = inner.get("grpc_code", inner.get("code"))
        return int(code), str(inner.get("message") or inner.get("error"))
    except (ValueError, TypeError, AttributeError):
        return 2, repr(answer[:200])


def _result(status: int, answer: bytes) -> dict[str, t.Any]:
    if status == 200:
        try:
            data = json.loads(answer)
        except ValueError as exc:
            raise Unsure(f"no JSON: {answer[:200]!r}") from exc
        if not isinstance(data, dict):
            raise Unsure(f"no JSON object: {answer[:200]!r}")
        if "error" not in data:
            return data
    code, message = _complaint(answer)
    if message == _NO_LEASE:
        raise LeaseGone(message)
    if code in _NOT_DONE:
        raise Rejected(message)
    raise Unsure(f"{message} (HTTP {status}, code {code})")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of an act. ``why``: which comparisons did not hold."""

    done: bool
    revision: int
    why: tuple[str, ...] = ()


class Etcd:
    """Asks the endpoints in turn, that of its own host first and that of the watched leader's host last."""

    def __init__(
        self,
        transport: Transport,
        endpoints: t.Sequence[str],
        own_address: str = "",
        username: str | None = None,
        password: str | None = None,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._endpoints = tuple(endpoints)
        self._own = own_address
        self._username, self._password = username, password
        self._clock = clock
        self._token: str | None = None
        self._authenticate = username is not None
        self._failed: dict[str, float] = {}
        self.avoid: str | None = None

    # --- requests -----------------------------------------------------------------------------------------------------

    def _order(self) -> list[str]:
        now = self._clock()

        def rank(endpoint: str) -> tuple[bool, bool, bool]:
            host = urllib.parse.urlsplit(endpoint).hostname
            failed = now - self._failed.get(endpoint, -PENALTY_SECONDS) < PENALTY_SECONDS
            return (failed, host == self.avoid, host != self._own)

        return sorted(self._endpoints, key=rank)

    def _send(self, path: str, data: t.Mapping[str, t.Any], once: bool, seconds: float) -> dict[str, t.Any]:
        """``once``: it must not be sent again when it may have happened."""
        body = json.dumps(data).encode()
        headers = {"Authorization": self._token} if self._token else {}
        until = self._clock() + seconds
        problems = []
        for endpoint in self._order():
            left = until - self._clock()
            if left <= 0:
                break
            try:
                reply = self._transport.post(endpoint, path, body, headers, min(left, ANSWER_SECONDS))
                result = _result(*reply)
            except (OSError, http.client.HTTPException, Unsure) as exc:
                self._failed[endpoint] = self._clock()
                problems.append(f"{endpoint}: {type(exc).__name__}: {exc}")
                if once and not isinstance(exc, NotSent):
                    raise Unsure(problems[-1]) from exc
            else:
                self._failed.pop(endpoint, None)
                return result
        raise EtcdError("; ".join(problems) or "no time left")

    def _login(self, seconds: float) -> None:
        self._token = None
        try:
            answer = self._send(
                "/v3/auth/authenticate", {"name": self._username, "password": self._password}, False, seconds
            )
        except Rejected as exc:
            # Asked again when etcd wants a token one day.
            if str(exc) != _NO_AUTH:
                raise
        else:
            self._token = str(answer.get("token", ""))
        self._authenticate = False

    def call(
        self, path: str, data: t.Mapping[str, t.Any], once: bool = False, seconds: float = CALL_SECONDS
    ) -> dict[str, t.Any]:
        if self._authenticate:
            self._login(seconds)
        try:
            return self._send(path, data, once, seconds)
        except Rejected as exc:
            # Authentication may have been switched on since: without a token, a certificate's name is who we are.
            stale = str(exc) in _STALE_TOKEN or (self._token is None and str(exc) == _DENIED)
            if not stale or self._username is None:
                raise
        # A token that was refused did nothing, so this also holds for what is sent once.
        self._authenticate = True
        self._login(seconds)
        return self._send(path, data, once, seconds)

    # --- what the detector needs --------------------------------------------------------------------------------------

    def snapshot(self, keys: plan.Keys) -> plan.Snapshot:
        """Everything in one transaction, linearizable: as of one revision."""
        single = (keys.leader, keys.config, keys.sync, keys.failover, keys.operation, keys.hold)
        asked = [*(_one(key) for key in single), _under(keys.members), _under(keys.votes)]
        answer = self.call("/v3/kv/txn", {"compare": [], "success": asked})
        try:
            found = [_entries(response) for response in answer["responses"]]
            if len(found) != len(asked):
                raise ValueError(f"{len(found)} answers to {len(asked)} questions")
            leader, config, sync, failover, operation, hold = (
                entries.get(key) for key, entries in zip(single, found, strict=False)
            )
            return plan.Snapshot(
                revision=int(answer["header"]["revision"]),
                leader=leader,
                config=config,
                sync=sync,
                failover=failover,
                operation=operation,
                hold=hold,
                members=_below(keys.members, found[-2]),
                votes=_below(keys.votes, found[-1]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            raise EtcdError(f"snapshot: unexpected answer: {type(exc).__name__}: {exc}") from exc

    def grant(self, seconds: int) -> str:
        """A lease. etcd may make it longer than asked, never shorter."""
        answer = self.call("/v3/lease/grant", {"TTL": str(seconds)})
        if "ID" not in answer:
            raise EtcdError(f"lease: unexpected answer: {answer}")
        return str(answer["ID"])

    def keep_alive(self, lease: str) -> None:
        answer = self.call("/v3/lease/keepalive", {"ID": lease})
        try:
            left = int(answer["result"].get("TTL", 0))
        except (KeyError, AttributeError, TypeError, ValueError) as exc:
            raise EtcdError(f"lease: unexpected answer: {answer}") from exc
        if left <= 0:
            raise LeaseGone(_NO_LEASE)

    def revoke(self, lease: str, seconds: float = CALL_SECONDS) -> None:
        self.call("/v3/lease/revoke", {"ID": lease}, seconds=seconds)

    def put(self, key: str, value: str, lease: str) -> int:
        """The revision under which the key now stands."""
        answer = self.call("/v3/kv/put", _put(key, value, lease))
        try:
            return int(answer["header"]["revision"])
        except (KeyError, TypeError, ValueError) as exc:
            raise EtcdError(f"put: unexpected answer: {answer}") from exc

    def carry_out(self, act: plan.Act, hold: str, lease: str) -> Outcome:
        """The guarded transaction. Raises Unsure when it may have happened."""
        puts = [_put(put.key, put.value, str(put.lease)) for put in act.puts]
        answer = self.call(
            "/v3/kv/txn",
            {
                "compare": [_compare(guard) for guard in act.guards],
                "success": [
                    *([{"request_delete_range": {"key": _b64(act.delete)}}] if act.delete else []),
                    *({"request_put": put} for put in (*puts, _put(act.hold, hold, lease))),
                ],
                "failure": [_one(guard.key) for guard in act.guards],
            },
            once=True,
        )
        try:
            revision = int(answer["header"]["revision"])
            if answer.get("succeeded") is True:
                return Outcome(True, revision)
            found = [_entries(response) for response in answer["responses"]]
        except (KeyError, AttributeError, TypeError, ValueError) as exc:
            raise Unsure(f"{act.code}: unexpected answer: {answer}") from exc
        pairs = zip(act.guards, found, strict=False)
        why = [problem for guard, entries in pairs if (problem := guard.why_not(entries.get(guard.key))) is not None]
        return Outcome(False, revision, tuple(why) or ("etcd says that a comparison did not hold",))

    def close(self) -> None:
        self._transport.close()

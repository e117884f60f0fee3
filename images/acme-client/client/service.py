# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out what the planner says, until there is nothing more to do now."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import ssl
import tempfile
import threading
import typing as t
from pathlib import Path

from . import plan
from .etcd import Entry, EtcdError, Lost
from .lego import OrderError
from .seal import SealError, fingerprint

T = t.TypeVar("T")
LEASE_SECONDS = 60
KEPT_ATTEMPTS = 50
# More looks than these in a row are an error of ours.
LOOKS = 12


class Keeper(t.Protocol):
    def under(self, prefix: str) -> dict[str, Entry]: ...
    def put(self, key: str, value: str) -> None: ...
    def take(self, key: str, value: str, seconds: int) -> tuple[str, int] | None: ...
    def keep(self, lease: str) -> None: ...
    def revoke(self, lease: str) -> None: ...
    def put_as_holder(self, holder: str, revision: int, key: str, value: str) -> None: ...


class Sealer(t.Protocol):
    def edge(self, pem: str) -> str: ...
    def close(self, text: str, readers: t.Sequence[str]) -> str: ...
    def open(self, sealed: str, signers: t.Collection[str]) -> str: ...


class Orders(t.Protocol):
    def obtain(self, directory: str, domains: t.Sequence[str]) -> tuple[str, str]: ...


@dataclasses.dataclass(frozen=True)
class Bundle:
    certificate: plan.Certificate
    chain: str
    key: str

    def as_text(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def of(cls, text: str) -> Bundle:
        data = json.loads(text)
        return cls(plan.Certificate(**data["certificate"]), data["chain"], data["key"])


def read_certificate(chain: str, mark: str) -> plan.Certificate:
    # The standard library reads certificates by this call alone; ssl's own tests use it.
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(chain)
        file.flush()
        found = ssl._ssl._test_decode_cert(file.name)  # type: ignore[attr-defined]
    moments = [float(ssl.cert_time_to_seconds(found[name])) for name in ("notBefore", "notAfter")]
    return plan.Certificate(found["serialNumber"], mark, *moments)


def write(path: Path, text: str, mode: int) -> None:
    """Whole or not at all, also when the host dies; what such a death leaves is in the way of nobody."""
    staged = path.with_name(f".{path.name}.new")
    staged.unlink(missing_ok=True)
    handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def served_text(bundle: Bundle) -> str:
    """JSON is YAML; Traefik takes PEM where it takes a path. Chain and key come in one rename."""
    return json.dumps({"tls": {"certificates": [{"certFile": bundle.chain, "keyFile": bundle.key}]}})


def _read(path: Path) -> Bundle | None:
    try:
        return Bundle.of(path.read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Service:
    def __init__(
        self, settings: plan.Settings, name: str, prefix: str, pem: str, state: Path, served: Path,
        store: Keeper, seal: Sealer, orders: Orders, clock: t.Callable[[], float], say: t.Callable[[str], None],
        members: t.Mapping[str, str],
    ) -> None:  # fmt: skip
        self.settings, self.name, self.prefix, self.pem = settings, name, prefix, pem
        self.state, self.served = state, served
        self.store, self.seal, self.orders, self.clock, self.say = store, seal, orders, clock, say
        # Every edge, with the name in its certificate. Who is none of them gets no copy of the key, and is believed
        # nothing, though his certificate is still good.
        self.members = members
        self._leads: tuple[str, int] | None = None
        self._edges: dict[str, str] = {}
        self._found: dict[str, Entry] = {}
        self._reads = False
        self._unread_since = 0.0
        # What could not be opened is as if it were not there.
        self._rubbish: set[str] = set()

    def run(self) -> plan.Action:
        """The last action: Nothing, or Wait."""
        ended = threading.Event()
        try:
            for _look in range(LOOKS):
                store = self.look()
                action = plan.decide(self.settings, self.here(), store, self.clock())
                self.say(str(action))
                if isinstance(action, plan.Nothing | plan.Wait):
                    return action
                if isinstance(action, plan.Lead):
                    self._leads = self.store.take(self.prefix + "holder", self.name, LEASE_SECONDS)
                    if self._leads:
                        threading.Thread(target=self._keep, args=(self._leads[0], ended), daemon=True).start()
                else:
                    self.carry_out(action, store or plan.Store())
            return plan.Wait("too-many-looks")
        finally:
            ended.set()
            if self._leads:
                # Else the lease runs out.
                with contextlib.suppress(EtcdError):
                    self.store.revoke(self._leads[0])

    def _keep(self, lease: str, ended: threading.Event) -> None:
        while not ended.wait(LEASE_SECONDS / 4):
            try:
                self.store.keep(lease)
            except Lost:
                return
            except EtcdError as exc:
                self.say(f"lease: {exc}")

    def here(self) -> plan.Here:
        kept, pending = (_read(self.state / name) for name in ("installed.json", "pending.json"))
        return plan.Here(
            self.name,
            installed=kept.certificate if kept is not None and self._given(kept) else None,
            pending=pending.certificate if pending is not None else None,
            reads=self._reads,
            unread_since=self._unread_since,
            kept=kept.certificate if kept is not None else None,
        )

    def _given(self, bundle: Bundle) -> bool:
        try:
            return self.served.read_text() == served_text(bundle)
        except OSError:
            return False

    def look(self) -> plan.Store | None:
        try:
            self._found = self.store.under(self.prefix)
            if (own := self._found.get("edges/" + self.name)) is None or own.value != self.pem:
                self.store.put(self.prefix + "edges/" + self.name, self.pem)
                self._found["edges/" + self.name] = Entry(self.pem, 0)
        except EtcdError as exc:
            self.say(f"etcd: {exc}")
            return None
        named = {name: self._found[f"edges/{name}"].value for name in self.members if f"edges/{name}" in self._found}
        # What is not the certificate of just this edge gets no copy of the key.
        self._edges = {
            fingerprint(pem): pem for name, pem in named.items() if self.seal.edge(pem) == self.members[name]
        }
        attempts = self._value("attempts", lambda data: tuple(plan.Attempt(**one) for one in data)) or ()
        published, readers = self._value(
            "published", lambda data: (plan.Certificate(**data["certificate"]), frozenset[str](data["readers"]))
        ) or (None, frozenset[str]())
        self._reads = fingerprint(self.pem) in readers
        self._note_unread(published)
        holder = self._found["holder"].value if "holder" in self._found else ""
        # A lease of an earlier run of ours, which died: it runs out by itself, and until then is somebody else's.
        if holder == self.name and (self._leads is None or self._leads[1] != self._found["holder"].revision):
            holder = f"{self.name} (before)"
        return plan.Store(published, holder, attempts, readers, frozenset(self._edges))

    def _value(self, key: str, read: t.Callable[[t.Any], T]) -> T | None:
        """A value of the store; what is no such value counts as missing, so that nobody waits for it for ever."""
        entry = self._found.get(key)
        if entry is None or entry.value in self._rubbish:
            return None
        try:
            return read(json.loads(entry.value))
        except (ValueError, KeyError, TypeError) as exc:
            self.say(f"etcd: {key} is not understood, and taken for missing: {exc!r}")
            return None

    def _note_unread(self, published: plan.Certificate | None) -> None:
        """Since when what is published is sealed for others, over the runs."""
        path, what = self.state / "unread.json", [published.serial if published else "", fingerprint(self.pem)]
        if published is None or self._reads:
            path.unlink(missing_ok=True)
            return
        try:
            since, noted = json.loads(path.read_text())
        except (OSError, ValueError):
            since, noted = 0.0, []
        if noted != what or since > self.clock():
            since = self.clock()
            write(path, json.dumps([since, what]), 0o600)
        self._unread_since = since

    def carry_out(self, action: plan.Action, store: plan.Store) -> None:
        if isinstance(action, plan.Install):
            try:
                self.install()
            except SealError as exc:
                self.say(f"what is published cannot be taken: {exc}")
                self._rubbish.add(self._found["published"].value)
        elif isinstance(action, plan.Give):
            kept = _read(self.state / "installed.json")
            if kept is not None:
                write(self.served, served_text(kept), 0o440)
        elif isinstance(action, plan.Publish):
            self.publish(action.serial)
        elif isinstance(action, plan.Drop):
            (self.state / "pending.json").unlink(missing_ok=True)
        elif isinstance(action, plan.Ask):
            self.ask(action, store)

    def _put(self, key: str, value: t.Any) -> None:
        if self._leads is None:
            raise Lost("nobody leads here")
        self.store.put_as_holder(self.prefix + "holder", self._leads[1], self.prefix + key, json.dumps(value))

    def install(self) -> None:
        data = json.loads(self._found["published"].value)
        try:
            bundle = Bundle.of(self.seal.open(data["sealed"], set(self.members.values())))
        except (ValueError, KeyError, TypeError) as exc:
            raise SealError(f"no certificate and key: {type(exc).__name__}") from exc
        if bundle.certificate != read_certificate(bundle.chain, bundle.certificate.mark) or (
            dataclasses.asdict(bundle.certificate) != data["certificate"]
        ):
            raise SealError("what is published is not what was sealed")
        # Kept first: what Traefik has not got yet is given to it by the next look.
        write(self.state / "installed.json", bundle.as_text(), 0o600)
        write(self.served, served_text(bundle), 0o440)

    def publish(self, serial: str) -> None:
        bundles = [_read(self.state / name) for name in ("installed.json", "pending.json")]
        bundle = {one.certificate.serial: one for one in bundles if one}[serial]
        sealed = self.seal.close(bundle.as_text(), list(self._edges.values()))
        self._put("published", {
            "certificate": dataclasses.asdict(bundle.certificate), "readers": sorted(self._edges), "sealed": sealed,
        })  # fmt: skip

    def ask(self, action: plan.Ask, store: plan.Store) -> None:
        former = [dataclasses.asdict(one) for one in store.attempts]
        attempt = plan.Attempt(self.clock(), action.kind, self.settings.mark)
        self._put("attempts", [*former, dataclasses.asdict(attempt)][-KEPT_ATTEMPTS:])
        try:
            chain, key = self.orders.obtain(action.directory, self.settings.domains)
            if action.kind == plan.ORDER:
                made = read_certificate(chain, self.settings.mark)
                here, now = self.here(), self.clock()
                # As the planner: what nobody can read is no measure.
                others = (here.installed, here.pending, plan.within_reach(here, store, now))
                if not plan.useful(self.settings, made, others, now):
                    raise OrderError("it ends no later than what there is")
                write(self.state / "pending.json", Bundle(made, chain, key).as_text(), 0o600)
            attempt = dataclasses.replace(attempt, result=plan.DONE)
        except OrderError as exc:
            self.say(f"{action.kind} failed: {exc}")
            until = self.clock() + exc.wait if exc.wait else 0.0
            attempt = dataclasses.replace(attempt, result=plan.FAILED, hold_until=until)
        self._put("attempts", [*former, dataclasses.asdict(attempt)][-KEPT_ATTEMPTS:])

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
    def is_edge(self, pem: str) -> bool: ...
    def close(self, text: str, readers: t.Sequence[str]) -> str: ...
    def open(self, sealed: str) -> str: ...


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
    """Whole or not at all, also when the host dies."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)


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
        members: t.Collection[str] | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.name, self.prefix, self.pem = settings, name, prefix, pem
        self.state, self.served = state, served
        self.store, self.seal, self.orders, self.clock, self.say = store, seal, orders, clock, say
        # Edges by their names; others get no copy of the key, though their certificate is still good.
        self.members = members
        self._leads: tuple[str, int] | None = None
        self._edges: dict[str, str] = {}
        self._found: dict[str, Entry] = {}
        self._reads = False

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
                    self.carry_out(action)
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
        installed, pending = (_read(self.state / name) for name in ("installed.json", "pending.json"))
        # What is noted, and is not what Traefik was given, is installed again: its file is new, or we died in between.
        there = installed.certificate if installed is not None and self._given(installed) else None
        return plan.Here(self.name, there, pending.certificate if pending is not None else None, self._reads)

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
        named = {
            key: entry.value
            for key, entry in self._found.items()
            if key.startswith("edges/") and (self.members is None or key.removeprefix("edges/") in self.members)
        }
        # What is no edge's certificate gets no copy of the key.
        self._edges = {fingerprint(pem): pem for pem in named.values() if self.seal.is_edge(pem)}
        attempts = json.loads(self._found["attempts"].value) if "attempts" in self._found else []
        published, readers = None, frozenset[str]()
        if "published" in self._found:
            data = json.loads(self._found["published"].value)
            published, readers = plan.Certificate(**data["certificate"]), frozenset(data["readers"])
        self._reads = fingerprint(self.pem) in readers
        holder = self._found["holder"].value if "holder" in self._found else ""
        # A lease of an earlier run of ours, which died: it runs out by itself, and until then is somebody else's.
        if holder == self.name and (self._leads is None or self._leads[1] != self._found["holder"].revision):
            holder = f"{self.name} (before)"
        return plan.Store(
            published, holder, tuple(plan.Attempt(**one) for one in attempts), readers, frozenset(self._edges)
        )

    def carry_out(self, action: plan.Action) -> None:
        if isinstance(action, plan.Install):
            self.install()
        elif isinstance(action, plan.Publish):
            self.publish(action.serial)
        elif isinstance(action, plan.Drop):
            (self.state / "pending.json").unlink(missing_ok=True)
        elif isinstance(action, plan.Ask):
            self.ask(action)

    def _put(self, key: str, value: t.Any) -> None:
        if self._leads is None:
            raise Lost("nobody leads here")
        self.store.put_as_holder(self.prefix + "holder", self._leads[1], self.prefix + key, json.dumps(value))

    def install(self) -> None:
        data = json.loads(self._found["published"].value)
        bundle = Bundle.of(self.seal.open(data["sealed"]))
        if bundle.certificate != read_certificate(bundle.chain, bundle.certificate.mark) or (
            dataclasses.asdict(bundle.certificate) != data["certificate"]
        ):
            raise SealError("what is published is not what was sealed")
        write(self.served, served_text(bundle), 0o440)
        write(self.state / "installed.json", bundle.as_text(), 0o600)

    def publish(self, serial: str) -> None:
        bundles = [_read(self.state / name) for name in ("pending.json", "installed.json")]
        bundle = [one for one in bundles if one and one.certificate.serial == serial][0]  # noqa: RUF015
        sealed = self.seal.close(bundle.as_text(), list(self._edges.values()))
        self._put("published", {
            "certificate": dataclasses.asdict(bundle.certificate), "readers": sorted(self._edges), "sealed": sealed,
        })  # fmt: skip

    def ask(self, action: plan.Ask) -> None:
        former = json.loads(self._found["attempts"].value) if "attempts" in self._found else []
        attempt = plan.Attempt(self.clock(), action.kind, self.settings.mark)
        self._put("attempts", [*former, dataclasses.asdict(attempt)][-KEPT_ATTEMPTS:])
        try:
            chain, key = self.orders.obtain(action.directory, self.settings.domains)
            if action.kind == plan.ORDER:
                made = read_certificate(chain, self.settings.mark)
                write(self.state / "pending.json", Bundle(made, chain, key).as_text(), 0o600)
            attempt = dataclasses.replace(attempt, result=plan.DONE)
        except OrderError as exc:
            self.say(f"{action.kind} failed: {exc}")
            until = self.clock() + exc.wait if exc.wait else 0.0
            attempt = dataclasses.replace(attempt, result=plan.FAILED, hold_until=until)
        self._put("attempts", [*former, dataclasses.asdict(attempt)][-KEPT_ATTEMPTS:])

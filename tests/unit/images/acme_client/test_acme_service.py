# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two edges and one store: who orders, what each serves, and what is left when one dies in the middle."""

from __future__ import annotations

import dataclasses
import datetime
import json
import typing as t
from pathlib import Path

import acme_lab
import pytest
from client import plan
from client.etcd import Entry, EtcdError, Lost
from client.lego import OrderError
from client.seal import SealError
from client.service import Service
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = 1_900_000_000.0
PREFIX = "/dedicated-acme/lab/"
SET = plan.Settings(("shop.example",), "https://acme/dir")


class Died(Exception):
    """The host is gone, with all that it had not written."""


@dataclasses.dataclass
class FakeStore:
    data: dict[str, Entry] = dataclasses.field(default_factory=dict)
    leases: dict[str, str] = dataclasses.field(default_factory=dict)
    revision: int = 1
    away: bool = False

    def _here(self) -> None:
        if self.away:
            raise EtcdError("nobody answers")

    def under(self, prefix: str) -> dict[str, Entry]:
        self._here()
        return {key.removeprefix(prefix): entry for key, entry in self.data.items() if key.startswith(prefix)}

    def put(self, key: str, value: str) -> None:
        self._here()
        self.revision += 1
        self.data[key] = Entry(value, self.revision)

    def take(self, key: str, value: str, seconds: int) -> tuple[str, int] | None:
        assert seconds > 0
        self._here()
        if key in self.data:
            return None
        self.put(key, value)
        lease = f"lease-{self.revision}"
        self.leases[lease] = key
        return lease, self.revision

    def keep(self, lease: str) -> None:
        self._here()
        if lease not in self.leases:
            raise Lost("over")

    def revoke(self, lease: str) -> None:
        self._here()
        key = self.leases.pop(lease, None)
        if key is not None:
            self.data.pop(key, None)

    def put_as_holder(self, holder: str, revision: int, key: str, value: str) -> None:
        self._here()
        if holder not in self.data or self.data[holder].revision != revision:
            raise Lost("somebody else leads")
        self.put(key, value)

    def expire(self) -> None:
        """A minute passes."""
        for lease in list(self.leases):
            self.revoke(lease)

    def attempts(self) -> list[tuple[str, str]]:
        entry = self.data.get(PREFIX + "attempts")
        return [(one["kind"], one["result"]) for one in json.loads(entry.value)] if entry else []


@dataclasses.dataclass
class FakeSeal:
    """Readable, so that a test sees for whom it is."""

    name: str
    pem: str

    def edge(self, pem: str) -> str:
        named = [name for name in "abx" for age in range(3) if pem == certificate(name, age)]
        return f"{named[0]}.lab.internal" if named else ""

    def close(self, text: str, readers: t.Sequence[str]) -> str:
        return json.dumps({"readers": list(readers), "text": text, "by": self.edge(self.pem)})

    def open(self, sealed: str, signers: t.Collection[str]) -> str:
        try:
            found = json.loads(sealed)
        except ValueError as exc:
            raise SealError("openssl cms") from exc
        if self.pem not in found["readers"] or found["by"] not in signers:
            raise SealError(f"not for {self.name}, or not by an edge")
        return str(found["text"])


def certificate(name: str, age: int) -> str:
    """An edge's own, after so many renewals of it."""
    return acme_lab.leaf(name, acme_lab.EDGE, days=80 + age)[0]


@dataclasses.dataclass
class FakeOrders:
    """Issues, unless it has trouble."""

    clock: t.Callable[[], float]
    days: float = 90
    asked: list[str] = dataclasses.field(default_factory=list)
    trouble: Exception | None = None

    def obtain(self, directory: str, domains: t.Sequence[str]) -> tuple[str, str]:
        assert list(domains) == ["shop.example"]
        self.asked.append(directory)
        if self.trouble:
            raise self.trouble
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop.example")])
        begun = datetime.datetime.fromtimestamp(self.clock(), datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begun)
            .not_valid_after(begun + datetime.timedelta(days=self.days))
            .sign(key, hashes.SHA256())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return made.public_bytes(serialization.Encoding.PEM).decode(), pem.decode()


@dataclasses.dataclass
class Site:
    folder: Path
    store: FakeStore = dataclasses.field(default_factory=FakeStore)
    now: float = NOW
    said: list[str] = dataclasses.field(default_factory=list)
    members: tuple[str, ...] = ("a", "b")
    settings: plan.Settings = SET
    ages: dict[str, int] = dataclasses.field(default_factory=lambda: {"a": 0, "b": 0})

    def __post_init__(self) -> None:
        self.orders = FakeOrders(lambda: self.now)
        for name in "ab":
            (self.folder / name / "state").mkdir(parents=True)
            self.served(name).write_text("the internal one")

    def served(self, name: str) -> Path:
        return self.folder / name / "acme.yml"

    def edge(self, name: str) -> Service:
        pem = certificate(name, self.ages[name])
        return Service(
            self.settings, name, PREFIX, pem, self.folder / name / "state", self.served(name), self.store,
            FakeSeal(name, pem), self.orders, lambda: self.now, self.said.append,
            {one: f"{one}.lab.internal" for one in self.members},
        )  # fmt: skip

    def settled(self) -> None:
        """Both serve the first one."""
        for name in "abab":
            last = self.look(name)
        assert isinstance(last, plan.Nothing)
        assert self.shown("a") == self.shown("b")

    def renewed_edges(self) -> None:
        """The internal authority has given both of them another certificate."""
        for name in self.ages:
            self.ages[name] += 1

    def look(self, name: str) -> plan.Action:
        return self.edge(name).run()

    def shown(self, name: str) -> dict[str, str]:
        (one,) = json.loads(self.served(name).read_text())["tls"]["certificates"]
        return dict(one)

    def dies(self, name: str) -> None:
        """In the order; its lease is still there."""
        self.orders.trouble = Died()
        service = self.edge(name)
        service.store.revoke = lambda lease: None  # type: ignore[method-assign]
        with pytest.raises(Died):
            service.run()
        del service.store.revoke  # type: ignore[attr-defined]
        self.orders.trouble = None


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_one_orders_and_both_serve_it(site: Site) -> None:
    site.edge("b").look()
    assert isinstance(site.look("a"), plan.Nothing)
    assert isinstance(site.look("b"), plan.Nothing)
    assert site.orders.asked == ["https://acme/dir"]
    assert site.shown("a") == site.shown("b")
    assert site.shown("a")["certFile"].startswith("-----BEGIN CERTIFICATE-----")
    assert site.shown("a")["keyFile"].startswith("-----BEGIN PRIVATE KEY-----")
    assert site.served("a").stat().st_mode & 0o777 == 0o440
    assert PREFIX + "holder" not in site.store.data, "the lease was given back"
    assert not (site.folder / "a" / "state" / "pending.json").exists()


def test_the_key_stands_nowhere_in_what_is_said(site: Site) -> None:
    site.look("a")
    assert "PRIVATE KEY" not in "".join(site.said)


def test_rehearsed_first_where_there_is_a_staging(site: Site) -> None:
    site.settings = dataclasses.replace(SET, staging="https://staging/dir")
    assert isinstance(site.look("a"), plan.Nothing)
    assert site.orders.asked == ["https://staging/dir", "https://acme/dir"]
    assert site.store.attempts() == [("rehearsal", "done"), ("order", "done")]


def test_it_is_renewed_when_due_and_the_former_serves_until_then(site: Site) -> None:
    site.edge("b").look()
    site.look("a")
    former = site.shown("a")
    site.now += 50 * plan.DAY
    assert isinstance(site.look("a"), plan.Nothing)
    site.now += 11 * plan.DAY
    site.look("a")
    assert len(site.orders.asked) == 2
    assert site.shown("a") != former
    site.look("b")
    assert site.shown("b") == site.shown("a")


def test_an_order_that_fails_changes_nothing_and_is_not_repeated_at_once(site: Site) -> None:
    site.edge("b").look()
    site.look("a")
    former = site.shown("a")
    site.now += 61 * plan.DAY
    site.orders.trouble = OrderError("refused", 0)
    assert site.look("a") == plan.Wait("after-failure", site.now + plan.HOUR)
    assert isinstance(site.look("b"), plan.Wait)
    assert (len(site.orders.asked), site.shown("a")) == (2, former)
    site.orders.trouble = None
    site.now += plan.HOUR + 1
    site.look("b")
    assert site.shown("b") != former
    site.look("a")
    assert site.shown("a") == site.shown("b")


def test_the_server_asks_to_wait(site: Site) -> None:
    site.orders.trouble = OrderError("rateLimited", 24 * plan.HOUR)
    assert site.look("a") == plan.Wait("after-failure", site.now + plan.DAY)


def test_when_the_issuer_dies_another_takes_over_after_the_lease(site: Site) -> None:
    site.dies("a")
    assert site.look("b") == plan.Wait("other-leads")
    site.store.expire()
    assert isinstance(site.look("b"), plan.Wait), "an order that was cut off counts as a failure"
    site.now += plan.HOUR + 1
    assert isinstance(site.look("b"), plan.Nothing)
    site.look("a")
    assert site.shown("a") == site.shown("b")
    assert site.store.attempts() == [("order", "open"), ("order", "done")]


def test_our_own_lease_of_a_run_that_died_is_somebody_else_s(site: Site) -> None:
    site.dies("a")
    assert site.look("a") == plan.Wait("other-leads")


def test_what_was_issued_and_not_published_is_published_by_the_next_run(site: Site) -> None:
    service = site.edge("a")
    service.publish = lambda serial: (_ for _ in ()).throw(Died())  # type: ignore[method-assign]
    with pytest.raises(Died):
        service.run()
    assert (site.folder / "a" / "state" / "pending.json").exists()
    assert isinstance(site.look("a"), plan.Nothing)
    assert site.orders.asked == ["https://acme/dir"]


def test_who_was_overtaken_writes_nothing(site: Site) -> None:
    def overtaken(_directory: str, _domains: t.Sequence[str]) -> tuple[str, str]:
        site.store.expire()
        site.store.put(PREFIX + "holder", "b")
        return FakeOrders(lambda: site.now).obtain("", ["shop.example"])

    site.orders.obtain = overtaken  # type: ignore[method-assign]
    with pytest.raises(Lost):
        site.look("a")
    assert PREFIX + "published" not in site.store.data
    assert site.served("a").read_text() == "the internal one"


def test_without_the_store_nothing_happens(site: Site) -> None:
    site.look("a")
    former = site.shown("a")
    site.store.away = True
    site.now += 89 * plan.DAY
    assert site.look("a") == plan.Wait("no-store")
    assert (site.shown("a"), len(site.orders.asked)) == (former, 1)


def test_an_edge_that_came_later_reads_it_once_it_is_sealed_anew(site: Site) -> None:
    site.look("a")
    assert site.look("b") == plan.Wait("sealed-for-others")
    site.look("a")
    assert isinstance(site.look("b"), plan.Nothing)
    assert site.shown("b") == site.shown("a")
    assert len(site.orders.asked) == 1


def test_who_is_no_member_any_more_gets_no_copy(site: Site) -> None:
    site.edge("b").look()
    site.members = ("a",)
    site.look("a")
    sealed = json.loads(json.loads(site.store.data[PREFIX + "published"].value)["sealed"])
    assert sealed["readers"] == [certificate("a", 0)]


def test_a_certificate_under_another_edges_name_gets_no_copy(site: Site) -> None:
    """Of an edge that was retired, say, whose certificate is still good."""
    site.edge("b").look()
    for stranger in (certificate("x", 0), certificate("a", 1), "rubbish"):
        site.store.put(PREFIX + "edges/b", stranger)
        service = site.edge("a")
        service.look()
        assert list(service._edges.values()) == [certificate("a", 0)]


@pytest.mark.parametrize("made_anew", ["the internal one", None])
def test_what_traefik_lost_is_given_to_it_again(site: Site, made_anew: str | None) -> None:
    """ACME was given up and taken up again, or somebody removed the file."""
    site.look("a")
    shown = site.shown("a")
    site.served("a").unlink()
    if made_anew:
        site.served("a").write_text(made_anew)
    assert isinstance(site.look("a"), plan.Nothing)
    assert (site.shown("a"), len(site.orders.asked)) == (shown, 1)


def test_given_up_and_taken_up_again_it_is_used_before_anything_is_ordered(site: Site) -> None:
    site.settled()
    shown = site.shown("a")
    site.renewed_edges()
    for name in "ab":
        site.served(name).write_text("the internal one")
    for name in "abab":
        site.look(name)
    assert site.shown("a") == site.shown("b") == shown
    assert len(site.orders.asked) == 1


def test_a_dead_peer_holds_nobody_up(site: Site) -> None:
    """It renewed, and died before the other one looked; whose own certificate has been renewed since."""
    site.settled()
    former = site.shown("a")
    site.now += 61 * plan.DAY
    site.look("b")
    site.ages["a"] += 1
    assert site.look("a") == plan.Wait("sealed-for-others")
    assert site.shown("a") == former
    site.now += plan.PATIENCE
    site.look("a")
    assert site.shown("a") not in (former, site.shown("b"))
    assert len(site.orders.asked) == 3
    # Its host comes back.
    site.look("b")
    assert site.shown("b") == site.shown("a")


def test_cut_off_after_it_was_published_and_both_edges_renewed(site: Site) -> None:
    site.settled()
    site.now += 61 * plan.DAY
    service = site.edge("a")
    service.install = lambda: (_ for _ in ()).throw(Died())  # type: ignore[method-assign]
    with pytest.raises(Died):
        service.run()
    site.renewed_edges()
    for name in "abab":
        site.look(name)
    assert site.shown("a") == site.shown("b")
    assert len(site.orders.asked) == 2


def test_an_edge_made_anew_while_orders_fail_gets_the_present_one(site: Site) -> None:
    site.settled()
    shown = site.shown("a")
    site.now += 62 * plan.DAY
    site.orders.trouble = OrderError("refused", 0)
    for path in (site.folder / "b" / "state").iterdir():
        path.unlink()
    site.served("b").write_text("the internal one")
    site.ages["b"] += 1
    for name in "baab":
        site.look(name)
    assert site.shown("b") == shown


def test_a_server_whose_clock_is_ahead_of_ours(site: Site) -> None:
    site.orders.clock = lambda: site.now + 20
    assert site.look("a") == plan.Wait("not-yet-valid", site.now + 20)
    assert site.look("a") == plan.Wait("not-yet-valid", site.now + 20)
    site.now += 21
    assert isinstance(site.look("a"), plan.Nothing)
    assert len(site.orders.asked) == 1


def test_an_order_that_brings_no_more_life_is_a_failure(site: Site) -> None:
    site.settled()
    shown = site.shown("a")
    site.now += 61 * plan.DAY
    site.orders.days = 20
    assert site.look("a") == plan.Wait("after-failure", site.now + plan.HOUR)
    assert site.store.attempts() == [("order", "done"), ("order", "failed")]
    assert site.shown("a") == shown


def broken(name: str, data: dict[str, t.Any]) -> str:
    if name == "no text of ours":
        return "{"
    if name == "another end":
        data["certificate"]["not_after"] += 1e6
    else:
        data["certificate"]["not_after"] += 1e6
        data["sealed"] = "rubbish"
    return json.dumps(data)


@pytest.mark.parametrize("kind", ["no text of ours", "another end", "not sealed"])
def test_what_is_published_and_cannot_be_taken_stops_nobody(site: Site, kind: str) -> None:
    site.settled()
    shown, key = site.shown("a"), PREFIX + "published"
    site.store.put(key, broken(kind, json.loads(site.store.data[key].value)))
    site.look("b")
    assert site.shown("b") == shown, "it is not served"
    site.look("a")
    kept = json.loads((site.folder / "b" / "state" / "installed.json").read_text())
    assert json.loads(site.store.data[key].value)["certificate"] == kept["certificate"], "and published again"
    site.now += 61 * plan.DAY
    site.store.put(key, broken(kind, json.loads(site.store.data[key].value)))
    site.look("b")
    site.look("a")
    assert site.shown("a") == site.shown("b") != shown


def test_a_new_edge_does_not_measure_its_order_by_what_nobody_can_read(site: Site) -> None:
    """Somebody with the client's password has published an end far away, for readers that are none."""
    site.edge("b").look()
    far = dataclasses.asdict(plan.Certificate("99", SET.mark, NOW - 1, NOW + 1e9))
    site.store.put(PREFIX + "published", json.dumps({"certificate": far, "readers": [], "sealed": "rubbish"}))
    assert site.look("a") == plan.Wait("sealed-for-others")
    site.now += plan.PATIENCE
    assert isinstance(site.look("a"), plan.Nothing)
    assert site.store.attempts() == [("order", "done")]


def test_attempts_that_are_none_are_taken_for_missing(site: Site) -> None:
    site.store.put(PREFIX + "attempts", '[{"at": "yesterday"}]')
    assert isinstance(site.look("a"), plan.Nothing)
    assert site.store.attempts() == [("order", "done")]


def test_what_a_death_in_the_middle_of_writing_leaves_is_gone_after_the_next(site: Site) -> None:
    (site.folder / "a" / ".acme.yml.new").write_text("half a key")
    site.look("a")
    assert not [path.name for path in (site.folder / "a").rglob(".*")]

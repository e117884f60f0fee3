# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Round trips with real keys and files: issue, renew, refuse, and a crash after every single step."""

from __future__ import annotations

import os
import pathlib
import stat
import time
import typing as t
from dataclasses import dataclass, field, replace

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._pki import crypto, service
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.authority import Store
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.io import Files
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.plan import (
    DAY,
    Authority,
    Found,
    Host,
    Plan,
    Policy,
    Snapshot,
    Wanted,
    check_invariants,
    plan,
)

ME, MINE = os.geteuid(), os.getegid()
# An hour ahead: the authority is made by the real clock, and must be older however long the tests before took.
NOW = int(time.time()) + 3600
WANTED = (
    Wanted("etcd", "n1", ("dns:n1", "ip:10.0.0.1"), ("server", "client"), ME, MINE),
    Wanted("router", "router", (), ("client",), ME, MINE, key_alias=True),
)
SECRET = "correct horse"


class Crash(Exception):
    pass


class CrashingFiles(Files):
    """Dies before the given change, counted from 0; inside a write, also between writing aside and renaming."""

    def __init__(self, root: str, fatal: int) -> None:
        super().__init__(root)
        self.left = fatal

    def _tick(self) -> None:
        if self.left == 0:
            raise Crash
        self.left -= 1

    def make_directory(self, name: str, owned: t.Any) -> None:
        self._tick()
        super().make_directory(name, owned)

    def write(self, name: str, text: str, owned: t.Any) -> None:
        self._tick()
        super().write(name, text, owned)

    def make_link(self, name: str, target: str) -> None:
        self._tick()
        super().make_link(name, target)

    def settle(self, name: str, owned: t.Any) -> None:
        self._tick()
        super().settle(name, owned)

    def remove(self, name: str) -> None:
        self._tick()
        super().remove(name)

    def _land(self, source: str, name: str) -> None:
        self._tick()
        super()._land(source, name)


@dataclass
class Controller:
    """What the action does, without Ansible."""

    store: Store
    root: pathlib.Path
    wanted: tuple[Wanted, ...] = WANTED
    now: int = NOW
    policy: Policy = field(default_factory=Policy)
    pin: str = ""

    @property
    def ask(self) -> service.Ask:
        return service.Ask(self.wanted, self.store.certificate(), self.now, self.pin, self.policy, self.store.trust())

    def look(self, files: Files, stage: bool = True) -> tuple[Plan | Refuse, dict[str, str]]:
        facts = service.inspect(files, self.ask, stage)
        found = tuple(
            Found(
                one["name"],
                crypto.read_leaf(one["cert"], self.ask.ca_pem),
                one["key"],
                tuple(one["drift"]),
                one["leftovers"],
            )
            for one in facts["certificates"]
        )
        host = Host(facts["pin"], tuple(facts["trusts"]), found, facts["authority_drift"])
        authority = self.store.read()
        assert isinstance(authority, Authority)
        kept = tuple(self.store.pair(one.name, SECRET).found for one in self.wanted if one.shared)
        snapshot = Snapshot(authority, host, self.wanted, self.now, self.pin, self.policy, kept)
        decision = plan(snapshot, "/pki")
        check_invariants(snapshot, decision)
        return decision, {one["name"]: one["csr"] for one in facts["certificates"]}

    def run(self, files: Files | None = None) -> Plan:
        files = files or Files(str(self.root))
        decision, requests = self.look(files)
        assert isinstance(decision, Plan), decision
        made = self.store.share(SECRET, [one for one in decision.issue if one.wanted.shared], self.now, self.policy)
        if made:
            again, _requests = self.look(files)
            assert isinstance(again, Plan)
            decision = again
        if decision.changed:
            signed = self.store.sign(SECRET, decision.issue, requests)
            pairs = {one.wanted.name: self.store.pair(one.wanted.name, SECRET) for one in decision.copy}
            signed.update({name: pair.cert for name, pair in pairs.items()})
            service.install(files, self.ask, signed, {name: pair.key for name, pair in pairs.items()})
        return decision

    def reasons(self) -> dict[str, str]:
        return {one.wanted.name: one.reason for one in self.run().issue}


@pytest.fixture
def controller(tmp_path: pathlib.Path) -> Controller:
    store = Store(str(tmp_path / "ca"))
    assert not isinstance(store.create("test internal CA", SECRET), Refuse)
    return Controller(store, tmp_path / "host" / "pki")


def mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def assert_good(controller: Controller) -> None:
    """The host is as it should be, down to modes, and looking again finds nothing to do."""
    ca = controller.store.certificate()
    assert (controller.root / "ca.pem").read_text() == ca
    assert (controller.root / "ca.fingerprint").read_text() == crypto.pem_fingerprint(ca) + "\n"
    for one in controller.wanted:
        where = controller.root / one.name
        leaf = crypto.read_leaf((where / "cert.pem").read_text(), ca)
        assert leaf is not None
        assert leaf.trusted
        assert leaf.public_key == crypto.key_id((where / "key.pem").read_text())
        assert (leaf.common_name, leaf.sans, leaf.usages) == (one.common_name, one.sans, one.usages)
        assert [mode(where), mode(where / "key.pem"), mode(where / "cert.pem")] == [0o750, one.mode, 0o444]
        expected = {"ca.pem", "cert.pem", "key.pem"} | ({"cert.pem.key"} if one.key_alias else set())
        present = {path.name for path in where.iterdir() if not path.name.endswith(".tmp")}
        assert present == expected
    assert controller.run() == Plan()


def test_issue_and_converge(controller: Controller) -> None:
    assert controller.reasons() == {"etcd": "missing", "router": "missing"}
    assert_good(controller)


def test_looking_without_staging_touches_nothing(controller: Controller) -> None:
    decision, requests = controller.look(Files(str(controller.root)), stage=False)
    assert isinstance(decision, Plan)
    assert len(decision.issue) == 2
    assert set(requests.values()) == {""}
    assert not controller.root.exists()


def test_renew_at_two_thirds_with_a_new_key(controller: Controller) -> None:
    controller.run()
    key = (controller.root / "etcd" / "key.pem").read_text()
    controller.now = NOW + 59 * DAY
    assert controller.reasons() == {}
    controller.now = NOW + 61 * DAY
    assert controller.reasons() == {"etcd": "expiring", "router": "expiring"}
    assert (controller.root / "etcd" / "key.pem").read_text() != key
    assert_good(controller)


def test_expired(controller: Controller) -> None:
    controller.run()
    controller.now = NOW + 91 * DAY
    assert controller.reasons() == {"etcd": "expired", "router": "expired"}
    assert_good(controller)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sans": ("dns:n1",)}, "san-differs"),
        ({"common_name": "n2"}, "subject-differs"),
        ({"usages": ("client",)}, "usages-differ"),
    ],
)
def test_changed_wish(controller: Controller, change: dict[str, t.Any], reason: str) -> None:
    controller.run()
    controller.wanted = (replace(WANTED[0], **change), WANTED[1])
    assert controller.reasons() == {"etcd": reason}
    assert_good(controller)


def test_key_mismatch_and_missing_key(controller: Controller) -> None:
    controller.run()
    key = controller.root / "etcd" / "key.pem"
    key.unlink()
    key.write_text(crypto.new_key())
    assert controller.reasons() == {"etcd": "key-mismatch"}
    key.unlink()
    assert controller.reasons() == {"etcd": "key-missing"}
    assert_good(controller)


def test_a_leaf_of_another_ca_is_replaced(controller: Controller, tmp_path: pathlib.Path) -> None:
    controller.run()
    other = Store(str(tmp_path / "other"))
    # Same name, other key: only the signature tells.
    assert not isinstance(other.create("test internal CA", SECRET), Refuse)
    stranger = Controller(other, tmp_path / "elsewhere")
    stranger.run()
    for name in ("key.pem", "cert.pem"):
        (controller.root / "etcd" / name).unlink()
        (controller.root / "etcd" / name).write_text((stranger.root / "etcd" / name).read_text())
    assert controller.reasons() == {"etcd": "wrong-ca"}
    assert_good(controller)


def tree(root: pathlib.Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(root)): (
            mode(path),
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(root.rglob("*"))
    }


def test_other_ca_is_refused_and_touches_nothing(controller: Controller, tmp_path: pathlib.Path) -> None:
    controller.run()
    before = tree(controller.root)
    other = Store(str(tmp_path / "other"))
    assert not isinstance(other.create("another CA", SECRET), Refuse)
    stranger = Controller(other, controller.root)
    decision, requests = stranger.look(Files(str(controller.root)))
    assert isinstance(decision, Refuse)
    assert decision.code == "other-ca"
    assert set(requests.values()) == {""}
    # Even a controller that pushes on is refused by the host itself.
    with pytest.raises(Refused) as caught:
        service.install(Files(str(controller.root)), stranger.ask, {})
    assert caught.value.refusal.code == "other-ca"
    assert tree(controller.root) == before


def test_another_inventory_pin_is_refused(controller: Controller) -> None:
    controller.pin = "a" * 64
    decision, _requests = controller.look(Files(str(controller.root)))
    assert isinstance(decision, Refuse)
    assert not controller.root.exists()


@pytest.mark.parametrize("case", ["names", "key", "signer", "stranger"])
def test_install_refuses_what_does_not_fit(controller: Controller, tmp_path: pathlib.Path, case: str) -> None:
    files = Files(str(controller.root))
    decision, requests = controller.look(files)
    assert isinstance(decision, Plan)
    issue = decision.issue[0]
    if case == "names":
        issue = replace(issue, wanted=replace(issue.wanted, sans=("dns:evil",)))
    if case == "key":
        requests["etcd"] = crypto.new_request(crypto.new_key(), "n1")
    store = controller.store
    if case == "signer":
        store = Store(str(tmp_path / "other"))
        assert not isinstance(store.create("test internal CA", SECRET), Refuse)
    issued = store.sign(SECRET, [issue], requests)
    if case == "stranger":
        issued = {"unknown": issued["etcd"]}
    before = tree(controller.root)
    with pytest.raises(Refused) as caught:
        service.install(files, controller.ask, issued)
    assert caught.value.refusal.code == "host-disagrees"
    assert tree(controller.root) == before


def test_drift_is_repaired_without_a_new_certificate(controller: Controller) -> None:
    controller.run()
    cert = (controller.root / "etcd" / "cert.pem").read_text()
    (controller.root / "etcd" / "key.pem").chmod(0o644)
    (controller.root / "etcd").chmod(0o777)
    (controller.root / "etcd" / "ca.pem").unlink()
    (controller.root / "router" / "cert.pem.key").unlink()
    decision = controller.run()
    assert decision.issue == ()
    assert [one.name for one in decision.repair] == ["etcd", "router"]
    assert (controller.root / "etcd" / "cert.pem").read_text() == cert
    assert_good(controller)


def test_lost_pin_and_ca_copy_come_back(controller: Controller) -> None:
    controller.run()
    (controller.root / "ca.fingerprint").unlink()
    assert controller.run() == Plan(authority=True)
    (controller.root / "ca.pem").unlink()
    assert controller.run() == Plan(authority=True)
    assert_good(controller)


def test_links_planted_by_the_service_are_not_followed(controller: Controller, tmp_path: pathlib.Path) -> None:
    controller.run()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    for name in ("key.pem", "cert.pem", "ca.pem"):
        (controller.root / "etcd" / name).unlink()
        (controller.root / "etcd" / name).symlink_to(victim)
    for name in ("key.pem.new", "cert.pem.new", ".key.pem.new.tmp", ".cert.pem.new.tmp"):
        (controller.root / "etcd" / name).symlink_to(victim)
    controller.run()
    assert (victim.read_text(), mode(victim)) == ("precious", 0o600)
    for name in ("key.pem", "cert.pem", "ca.pem"):
        assert not (controller.root / "etcd" / name).is_symlink()


def test_a_parallel_run_that_landed_the_key_first(controller: Controller) -> None:
    files = Files(str(controller.root))
    decision, requests = controller.look(files)
    assert isinstance(decision, Plan)
    first = controller.store.sign(SECRET, decision.issue, requests)
    second = controller.store.sign(SECRET, decision.issue, requests)
    service.install(files, controller.ask, first)
    service.install(files, controller.ask, second)
    assert_good(controller)


def test_no_key_is_staged_for_a_shared_certificate(controller: Controller) -> None:
    controller.wanted = (replace(WANTED[0], shared=True),)
    decision, requests = controller.look(Files(str(controller.root)))
    assert isinstance(decision, Plan)
    assert [one.reason for one in decision.issue] == ["missing"]
    assert requests == {"etcd": ""}
    assert not controller.root.exists()


@pytest.mark.parametrize("sent", [{}, {"etcd": crypto.new_key()}, {"etcd": "rubbish"}])
def test_a_shared_certificate_comes_with_its_key_or_not_at_all(controller: Controller, sent: dict[str, str]) -> None:
    controller.wanted = (replace(WANTED[0], shared=True),)
    controller.run()
    before = tree(controller.root)
    issued = {"etcd": controller.store.pair("etcd", SECRET).cert}
    with pytest.raises(Refused) as caught:
        service.install(Files(str(controller.root)), controller.ask, issued, sent)
    assert caught.value.refusal.code == "host-disagrees"
    assert tree(controller.root) == before


def prepare(controller: Controller, start: str) -> None:
    if start == "empty":
        return
    if start in ("shared", "becomes-shared"):
        if start == "becomes-shared":
            controller.run()
        controller.wanted = (replace(WANTED[0], shared=True), WANTED[1])
        return
    controller.run()
    if start == "renewal":
        controller.now = NOW + 61 * DAY
    elif start == "drift":
        (controller.root / "etcd" / "key.pem").chmod(0o644)
        (controller.root / "etcd" / "ca.pem").unlink()
        (controller.root / "router" / "key.pem.new").write_text("left")
        (controller.root / "ca.fingerprint").unlink()


@pytest.mark.parametrize("start", ["empty", "renewal", "drift", "shared", "becomes-shared"])
def test_interrupted_after_every_step_it_converges(controller: Controller, start: str, tmp_path: pathlib.Path) -> None:
    for fatal in range(200):
        controller.root = tmp_path / f"host{fatal}" / "pki"
        controller.now = NOW
        controller.wanted = WANTED
        prepare(controller, start)
        try:
            controller.run(CrashingFiles(str(controller.root), fatal))
        except Crash:
            staged = list(controller.root.rglob("*key.pem*"))
            assert all(mode(path) & 0o077 == 0 or path.is_symlink() for path in staged) or start == "drift"
            controller.run()
            assert_good(controller)
        else:
            assert fatal > 3, "the crash never came: the test counts nothing"
            return
    pytest.fail("never got through")


def test_interrupted_twice_it_converges(controller: Controller, tmp_path: pathlib.Path) -> None:
    for first in range(0, 24, 3):
        for second in range(0, 24, 4):
            controller.root = tmp_path / f"host{first}-{second}" / "pki"
            for fatal in (first, second):
                try:
                    controller.run(CrashingFiles(str(controller.root), fatal))
                except Crash:
                    continue
            controller.run()
            assert_good(controller)


def test_abandoned_wish_leaves_no_staged_key(controller: Controller) -> None:
    controller.run()
    controller.wanted = (replace(WANTED[0], sans=("dns:other",)), WANTED[1])
    controller.look(Files(str(controller.root)))  # stages a key, and then nobody signs
    assert (controller.root / "etcd" / "key.pem.new").exists()
    controller.wanted = WANTED
    assert [one.name for one in controller.run().repair] == ["etcd"]
    assert_good(controller)


def test_without_the_library_check_mode_still_reports(controller: Controller) -> None:
    facts = service.inspect(Files(str(controller.root)), controller.ask, stage=False, library=False)
    assert [one["key"] for one in facts["certificates"]] == ["", ""]
    assert facts["pin"] == ""

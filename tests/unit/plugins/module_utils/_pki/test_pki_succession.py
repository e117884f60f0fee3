# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An authority is succeeded, cut off at every write, and everybody believes everybody all the time."""

from __future__ import annotations

import itertools
import pathlib
import typing as t
from dataclasses import replace

import pytest
from test_pki_service import SECRET, WANTED, Controller

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._pki import crypto, succession
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.authority import Store
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.io import Files
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.plan import ISSUING, SETTLED, TRUSTING
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.succession import Follower, Step, Succession

NAMES = ("erp1", "erp2")


class CutOff(Exception):
    """The run ends here."""


class Site:
    """Real files of a controller and of two hosts; every write may be the last of a run."""

    def __init__(self, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Store(str(root / "ca"))
        assert not isinstance(self.store.create("test internal CA", SECRET), Refuse)
        self.hosts = {name: Controller(self.store, root / name / "pki", WANTED) for name in NAMES}
        for one in self.hosts.values():
            one.run()
        self.left: int | None = None
        self.shows = dict.fromkeys(NAMES, True)
        for name in ("write", "rename", "remove", "make_link", "settle"):
            self._cut(monkeypatch, name)

    def _cut(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(Files, name)

        def ticking(files: Files, *words: t.Any) -> t.Any:
            if self.left is not None:
                if self.left == 0:
                    raise CutOff
                self.left -= 1
            answer = real(files, *words)
            succession.check_invariants(self.followers())
            return answer

        monkeypatch.setattr(Files, name, ticking)

    def followers(self) -> tuple[Follower, ...]:
        """Services read what lies there at once: what holds for that holds for those that are told later, in turn."""
        return tuple(self._follower(name, one.root) for name, one in self.hosts.items())

    def _follower(self, name: str, root: pathlib.Path) -> Follower:
        known = {crypto.pem_fingerprint(pem): pem for pem in self._known}
        signers: set[str] = set()
        trusts: set[str] | None = None
        for wanted in WANTED:
            there = set(crypto.pem_fingerprints((root / wanted.name / "ca.pem").read_text()))
            trusts = there if trusts is None else trusts & there
            cert = (root / wanted.name / "cert.pem").read_text()
            for fingerprint, pem in known.items():
                leaf = crypto.read_leaf(cert, pem)
                if leaf is not None and leaf.trusted:
                    signers.add(fingerprint)
        return Follower(name, frozenset(trusts or ()), frozenset(signers))

    @property
    def _known(self) -> list[str]:
        """Every authority that there ever was."""
        folder = pathlib.Path(self.store.directory)
        texts = [one.read_text() for one in folder.glob("*.pem") if not one.name.startswith("shared")]
        hosts = [(one.root / "ca.pem").read_text() for one in self.hosts.values()]
        return sorted({pem for text in (*texts, *hosts) for pem in crypto.pem_certificates(text)})

    def world(self) -> Succession:
        signs = crypto.pem_fingerprint(self.store.certificate())
        trusted = crypto.pem_fingerprints(self.store.trust())
        other = next((one for one in trusted if one != signs), "")
        return Succession(self.store.phase(), signs, other, self.followers())

    def go(self, begin: bool) -> list[str]:
        """As the playbook does; the actions that were taken."""
        done: list[str] = []
        while True:
            step = succession.next_step(self.world(), begin and not done)
            if step is None:
                return done
            assert isinstance(step, Step), step
            assert len(done) < 20, done
            if step.action == succession.PREPARE:
                assert self.store.prepare("test internal CA", SECRET) is None
            elif step.action == succession.PROMOTE:
                self.store.promote()
            elif step.action == succession.SETTLE:
                self.store.settle()
            else:
                for name in step.hosts:
                    self.hosts[name].run()
            done.append(step.action)


@pytest.fixture
def site(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def assert_succeeded(site: Site, former: str) -> None:
    world = site.world()
    assert world.phase == SETTLED
    assert world.signs != former
    assert all(one.trusts == one.signers == {world.signs} for one in world.hosts)
    assert succession.next_step(world, False) is None
    assert not isinstance(site.store.open(SECRET), Refuse)
    assert sorted(one.name for one in pathlib.Path(site.store.directory).iterdir()) == ["ca.key", "ca.lock", "ca.pem"]


def test_the_whole_way(site: Site) -> None:
    former = site.world().signs
    assert site.go(True) == ["prepare", "trust", "promote", "issue", "settle", "drop"]
    assert_succeeded(site, former)


def test_cut_off_at_every_write(site: Site) -> None:
    """Each time a little further; whatever lies there, the next run goes on from it."""
    for cut in itertools.count():
        former = site.world().signs
        assert site.world().phase == SETTLED
        site.left = cut
        try:
            site.go(True)
        except CutOff:
            pass
        else:
            assert cut > 20
            return
        site.left = None
        begun = site.world().phase != SETTLED or site.world().signs != former
        site.go(not begun)
        assert_succeeded(site, former)


OLD, NEW, STRANGE = "a" * 64, "b" * 64, "c" * 64
BOTH = frozenset((OLD, NEW))


def follower(name: str, trusts: t.Iterable[str], signers: t.Iterable[str]) -> Follower:
    return Follower(name, frozenset(trusts), frozenset(signers))


@pytest.mark.parametrize(
    ("phase", "signs", "hosts", "expected"),
    [
        (TRUSTING, OLD, [([OLD], [OLD]), (BOTH, [OLD])], Step("trust", ("n0",))),
        (TRUSTING, OLD, [(BOTH, [OLD]), (BOTH, [OLD])], Step("promote")),
        (ISSUING, NEW, [(BOTH, [OLD]), (BOTH, BOTH)], Step("issue", ("n0", "n1"))),
        # A host that nobody could ask keeps the former one trusted.
        (ISSUING, NEW, [(BOTH, []), (BOTH, [NEW])], Step("issue", ("n0",))),
        (ISSUING, NEW, [(BOTH, [NEW]), (BOTH, [NEW])], Step("settle")),
    ],
)
def test_nobody_is_left_behind(
    phase: str, signs: str, hosts: list[tuple[list[str], list[str]]], expected: Step
) -> None:
    other = OLD if signs == NEW else NEW
    world = Succession(phase, signs, other, tuple(follower(f"n{n}", *one) for n, one in enumerate(hosts)))
    assert succession.next_step(world, True) == expected
    strange = replace(world, hosts=(*world.hosts, follower("n9", BOTH, [STRANGE])))
    refusal = succession.next_step(strange, True)
    assert isinstance(refusal, Refuse)
    assert refusal.code == "other-ca"
    assert "n9" in refusal.what


def test_what_is_settled_is_left_alone() -> None:
    world = Succession(SETTLED, OLD, "", (follower("n0", [OLD], [OLD]),))
    assert succession.next_step(world, False) is None
    assert succession.next_step(world, True) == Step("prepare")
    assert succession.next_step(replace(world, hosts=(follower("n0", BOTH, [OLD]),)), True) == Step("drop", ("n0",))

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rotation on real files, with a server that reads them when it is told to, killed at every write and command."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import ipaddress
import json
import os
import tempfile
import typing as t
from pathlib import Path

import pytest
from certificate_lab import NOW, Made, make
from cryptography import x509

from ansible_collections.dedicated.odoo.plugins.module_utils._certificate import rotate_io, rotate_plan
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.io import Served, Target, verify
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.rotate_plan import Pair, View, Wish
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.rotate_service import (
    Consumer,
    Outcome,
    Patience,
    RotateService,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import Completed, SubprocessRunner
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.io import Files, Owned

HOST = (x509.DNSName("n1"), x509.IPAddress(ipaddress.ip_address("10.0.0.1")))
AUTHORITY = make("authority", ca=True)
OTHER = make("other", ca=True)
OLD = make("old", AUTHORITY, names=HOST, days=(-60, 30))
NEW = make("new", AUTHORITY, names=HOST, days=(-1, 89))
ENDPOINT = Target("postgresql", "10.0.0.1", 5432)
RELOAD = ("docker", "exec", "postgres", "reload")


class Killed(BaseException):
    """The run is over; nothing of it catches this."""


@dataclasses.dataclass
class Fuse:
    """Burns through after so many changes; before that it counts them."""

    left: int | None = None
    burnt: int = 0

    def burn(self) -> None:
        if self.left is not None and self.burnt == self.left:
            raise Killed
        self.burnt += 1


class FusedFiles(Files):
    """Real files whose every change may be the last one."""

    def __init__(self, root: str, fuse: Fuse) -> None:
        super().__init__(root)
        self._fuse = fuse

    def write(self, name: str, text: str, owned: Owned) -> None:
        self._fuse.burn()
        super().write(name, text, owned)

    def rename(self, source: str, target: str) -> None:
        self._fuse.burn()
        super().rename(source, target)

    def remove(self, name: str) -> None:
        self._fuse.burn()
        super().remove(name)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@functools.cache
def verdict(cert: str, ca: str) -> tuple[bool | None, str]:
    """OpenSSL's own, once for each: starting it takes time."""
    real = SubprocessRunner()
    if real.find("openssl") is None:
        return AUTHORITY.pem == ca, ""
    with tempfile.TemporaryDirectory() as place:
        paths = Path(place) / "cert.pem", Path(place) / "ca.pem"
        for path, text in zip(paths, (cert, ca), strict=True):
            path.write_text(text)
        return verify(real, str(paths[0]), str(paths[1]), 10)


class Site:
    """A host with a service that reads its pair when it is told to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.live, self.staged, self.former = (root / name for name in ("pki/pg", "pki/.staged/pg", "pki/.former/pg"))
        self.fuse = Fuse()
        self.serves = OLD.der
        # What the service cannot bring itself to serve.
        self.refuses: set[bytes] = set()
        self.rc = 0
        self.deaf = False
        self.reloads = 0
        self.lay(self.live, OLD)

    def lay(self, place: Path, pair: Made, key: Made | None = None, ca: Made = AUTHORITY) -> None:
        place.mkdir(parents=True, exist_ok=True)
        for name, text in (("key.pem", (key or pair).key_pem), ("cert.pem", pair.pem), ("ca.pem", ca.pem)):
            (place / name).write_text(text)
            (place / name).chmod(0o400 if name == "key.pem" else 0o444)

    def pair(self, place: Path) -> tuple[str, str] | None:
        try:
            return (place / "cert.pem").read_text(), (place / "key.pem").read_text()
        except FileNotFoundError:
            return None

    # -- the runner and the eyes -------------------------------------------------------------------------------------

    def find(self, program: str) -> str | None:
        return program

    def run(
        self,
        argv: t.Sequence[str],
        env: t.Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> Completed:
        assert tuple(argv) == RELOAD
        self.fuse.burn()
        self.reloads += 1
        for pair in (OLD, NEW):
            if self.pair(self.live) == (pair.pem, pair.key_pem) and not self.deaf and pair.der not in self.refuses:
                self.serves = pair.der
        return Completed(tuple(argv), self.rc, "", "no such container\n" if self.rc else "")

    def read(self, path: str) -> str:
        return Path(path).read_text()

    def verify(self, path: str, ca: str) -> tuple[bool | None, str]:
        return verdict(Path(path).read_text(), Path(ca).read_text())

    def ask(self, target: Target) -> Served:
        self.fuse.burn()
        return Served((self.serves,), code="client_certificate_required")

    # -- running -----------------------------------------------------------------------------------------------------

    def rotate(self, wish: Wish | None = None, kill_after: int | None = None, check: bool = False) -> Outcome:
        self.fuse = Fuse(kill_after)
        live, staged, former = (FusedFiles(str(one), self.fuse) for one in (self.live, self.staged, self.former))
        places = rotate_io.HostPlaces(live, staged, former)
        consumer = Consumer(str(self.staged / "cert.pem"), str(self.live / "ca.pem"), (ENDPOINT,), (RELOAD,))
        service = RotateService(places, self, self, Patience(interval=20), Clock(), lambda: NOW.timestamp())
        return service.rotate(consumer, wish or Wish(), check)

    def refused(self, wish: Wish | None = None, check: bool = False) -> Refused:
        with pytest.raises(Refused) as caught:
            self.rotate(wish, check=check)
        assert "PRIVATE" not in json.dumps(caught.value.details)
        return caught.value

    def state(self) -> tuple[t.Any, ...]:
        return self.pair(self.live), self.pair(self.staged), self.pair(self.former), self.serves

    def is_new(self) -> bool:
        return self.state() == ((NEW.pem, NEW.key_pem), None, None, NEW.der)

    def is_old(self) -> bool:
        return self.state() == ((OLD.pem, OLD.key_pem), (NEW.pem, NEW.key_pem), None, OLD.der)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    found = Site(tmp_path)
    found.lay(found.staged, NEW)
    return found


def serial(made: Made) -> str:
    return f"{made.certificate.serial_number:x}"


def test_the_new_one_is_served_and_nothing_is_left(site: Site) -> None:
    outcome = site.rotate(Wish(("ip:10.0.0.1", "n1"), serial(NEW)))
    assert site.is_new()
    assert not site.staged.exists()
    assert not site.former.exists()
    assert (outcome.before["serial"], outcome.after["serial"], outcome.days_left) == (serial(OLD), serial(NEW), 89)
    assert [one.action for one in outcome.steps] == ["keep", "land", "reload", "prove", "drop_staged", "drop_former"]
    assert outcome.served[0]["serial"] == serial(NEW)
    assert (site.live / "key.pem").stat().st_mode & 0o777 == 0o400
    assert "PRIVATE" not in json.dumps(outcome.as_result())
    assert site.refused().refusal.code == "nothing-staged"
    assert not site.rotate(Wish(serial=serial(NEW))).steps


def test_the_former_pair_is_for_root_alone(site: Site) -> None:
    with pytest.raises(Killed):
        site.rotate(kill_after=4)
    assert site.pair(site.former) == (OLD.pem, OLD.key_pem)
    for place in (site.former, site.former.parent):
        assert (place.stat().st_mode & 0o777, place.stat().st_uid) == (0o700, os.geteuid())


def test_check_mode_says_what_the_run_does_and_changes_nothing(site: Site) -> None:
    before = site.state()
    foreseen = site.rotate(check=True)
    assert (site.state(), site.reloads) == (before, 0)
    outcome = site.rotate()
    assert (foreseen.steps, foreseen.before, foreseen.after) == (outcome.steps, outcome.before, outcome.after)
    assert site.refused(check=True).refusal.code == "nothing-staged"


def spoil_key(site: Site) -> None:
    site.lay(site.staged, NEW, key=OLD)


def spoil_chain(site: Site) -> None:
    site.lay(site.staged, make("new", OTHER, names=HOST, days=(-1, 89)))


def spoil_authority(site: Site) -> None:
    site.lay(site.staged, NEW, ca=OTHER)


def spoil_names(site: Site) -> None:
    site.lay(site.staged, make("new", AUTHORITY, names=HOST[:1], days=(-1, 89)))


def spoil_begin(site: Site) -> None:
    site.lay(site.staged, make("new", AUTHORITY, names=HOST, days=(1, 89)))


def spoil_end(site: Site) -> None:
    site.lay(site.staged, make("new", AUTHORITY, names=HOST, days=(-9, -1)))


def spoil_life(site: Site) -> None:
    site.lay(site.staged, make("new", AUTHORITY, names=HOST, days=(-1, 29)))


def spoil_text(site: Site) -> None:
    (site.staged / "cert.pem").unlink()
    (site.staged / "cert.pem").write_text("nothing")


def spoil_live(site: Site) -> None:
    site.lay(site.live, OLD, key=NEW)


@pytest.mark.parametrize(
    ("spoil", "codes"),
    [
        (spoil_key, {"wrong-key"}),
        (spoil_chain, {"wrong-chain"}),
        (spoil_authority, {"wrong-chain"}),
        (spoil_names, {"missing-name"}),
        # OpenSSL, which judges the chain, looks at the clock as well.
        (spoil_begin, {"not-yet-valid", "wrong-chain"}),
        (spoil_end, {"expired", "wrong-chain"}),
        (spoil_life, {"shorter-lived"}),
        (spoil_text, {"unreadable"}),
        (spoil_live, {"live-unusable"}),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_touched(
    site: Site, spoil: t.Callable[[Site], None], codes: set[str]
) -> None:
    spoil(site)
    before = site.state()
    for check in (True, False):
        caught = site.refused(check=check)
        assert caught.refusal.code in codes
        assert "nothing was touched" in caught.msg
    assert (site.state(), site.reloads, site.fuse.burnt) == (before, 0, 0)


def test_names_that_are_asked_for_and_the_serial_that_is_meant(site: Site) -> None:
    caught = site.refused(Wish(("dns:n2",)))
    assert (caught.refusal.code, "dns:n2" in caught.msg) == ("missing-name", True)
    assert site.refused(Wish(serial="abc")).refusal.code == "other-staged"


def test_fewer_names_and_a_shorter_life_have_to_be_said(site: Site) -> None:
    made = make("new", AUTHORITY, names=HOST[:1], days=(-1, 29))
    site.lay(site.staged, made)
    assert site.refused(Wish(fewer_names=True)).refusal.code == "shorter-lived"
    assert site.refused(Wish(shorter_lived=True)).refusal.code == "missing-name"
    foreseen = site.rotate(Wish(fewer_names=True, shorter_lived=True), check=True)
    assert foreseen.after["serial"] == serial(made)


def test_who_does_not_serve_the_new_one_keeps_the_former(site: Site) -> None:
    site.refuses = {NEW.der}
    caught = site.refused()
    assert caught.refusal.code == "not-served"
    assert site.is_old()
    assert caught.details["rolled_back"]
    for word in (serial(OLD), serial(NEW), ENDPOINT.name, "60 s"):
        assert word in caught.msg, word
    assert caught.details["served"][0]["serial"] == serial(OLD)
    # Once the service is mended, the staged pair is taken.
    site.refuses = set()
    site.rotate()
    assert site.is_new()


def test_a_reload_that_fails_goes_back_at_once(site: Site) -> None:
    site.rc, site.deaf = 1, True
    caught = site.refused()
    assert caught.refusal.code == "not-served"
    assert "reload-failed" in caught.msg
    assert "no such container" in caught.msg
    assert site.is_old()


def test_when_even_the_former_is_not_served_it_stays_beside(site: Site) -> None:
    site.refuses, site.serves = {NEW.der, OLD.der}, OTHER.der
    assert site.refused().refusal.code == "former-not-served"
    assert site.pair(site.former) == site.pair(site.live) == (OLD.pem, OLD.key_pem)
    site.refuses = set()
    site.rotate()
    assert site.is_new()


def kills(site: Site, wish: Wish | None = None) -> int:
    """How many changes and looks an undisturbed run makes."""
    with contextlib.suppress(DedicatedError):
        site.rotate(wish)
    return site.fuse.burnt


def trial(folder: Path, name: str) -> Site:
    site = Site(folder / name)
    site.lay(site.staged, NEW)
    return site


@pytest.mark.parametrize("refuses", [False, True])
def test_killed_anywhere_and_run_again(tmp_path: Path, refuses: bool) -> None:
    """Whatever was done, a whole pair lies somewhere; the next run goes on, or goes back."""

    def fresh(name: str) -> Site:
        site = trial(tmp_path, name)
        site.refuses = {NEW.der} if refuses else set()
        return site

    count = kills(fresh("whole"))
    assert count > 10
    for number in range(count):
        site = fresh(f"once-{number}")
        with pytest.raises(Killed):
            site.rotate(kill_after=number)
        whole = [place for place in (site.live, site.staged, site.former) if site.pair(place) is not None]
        assert whole, number
        if refuses:
            assert site.refused().refusal.code == "not-served", number
            assert site.is_old(), number
            continue
        site.rotate(Wish(serial=serial(NEW)))
        assert site.is_new(), number


@pytest.mark.parametrize("gap", [0, 1, 2, 3, 5, 8])
def test_killed_twice(tmp_path: Path, gap: int) -> None:
    for number in range(kills(trial(tmp_path, "whole"))):
        site = trial(tmp_path, f"twice-{number}")
        for after in (number, gap):
            with contextlib.suppress(Killed):
                site.rotate(Wish(serial=serial(NEW)), kill_after=after)
        site.rotate(Wish(serial=serial(NEW)))
        assert site.is_new(), number


def test_a_staged_pair_that_was_spoilt_meanwhile_goes_back(tmp_path: Path) -> None:
    for number in range(kills(trial(tmp_path, "whole"))):
        site = trial(tmp_path, f"spoilt-{number}")
        with pytest.raises(Killed):
            site.rotate(kill_after=number)
        if not site.staged.exists() or not (site.staged / "cert.pem").exists():
            # It had been proven before.
            continue
        (site.staged / "key.pem").unlink(missing_ok=True)
        site.lay(site.staged, NEW, key=OTHER)
        assert site.refused().refusal.code == "wrong-key", number
        assert site.pair(site.live) == (OLD.pem, OLD.key_pem), number
        assert site.pair(site.former) is None, number


def test_a_pair_that_lies_live_already_is_told_and_proven(site: Site) -> None:
    """As after a run of the role pki, which copies a shared pair by itself."""
    site.lay(site.live, NEW)
    outcome = site.rotate()
    assert [one.action for one in outcome.steps] == ["reload", "prove", "drop_staged"]
    assert site.is_new()
    site.lay(site.staged, NEW)
    site.deaf, site.serves = True, OLD.der
    assert site.refused().refusal.code == "not-served"


def test_who_reads_at_every_handshake_needs_no_word(site: Site) -> None:
    site.serves = NEW.der
    places = rotate_io.HostPlaces(*(Files(str(one)) for one in (site.live, site.staged, site.former)))
    service = RotateService(places, site, site, Patience(), Clock(), lambda: NOW.timestamp())
    paths = str(site.staged / "cert.pem"), str(site.live / "ca.pem")
    service.rotate(Consumer(*paths, endpoints=(ENDPOINT,)), Wish())
    assert (site.is_new(), site.reloads) == (True, 0)


def test_a_link_in_the_place_of_a_live_file_is_not_followed(site: Site) -> None:
    (site.live / "key.pem").unlink()
    (site.live / "key.pem").symlink_to("/etc/shadow")
    assert site.refused().refusal.code == "live-unusable"


# -- the planner alone -----------------------------------------------------------------------------------------------


def view_of(**given: t.Any) -> View:
    def pair(made: Made) -> Pair:
        certificate = rotate_io.parse.certificate(made.der)
        return Pair(made.pem, made.key_pem, AUTHORITY.pem, certificate, True)

    wish = given.pop("wish", Wish())
    pairs = {name: pair(given.pop(name)) if name in given else Pair() for name in ("live", "staged", "former")}
    return View(**pairs, wish=wish, now=NOW.timestamp(), **given)


def test_every_path_through_the_planner_ends() -> None:
    """From every mixture of pairs, with every answer of a server, until there is nothing left or it refuses."""
    choices: list[Made | None] = [None, OLD, NEW]
    for live in choices:
        for staged in choices:
            for former in choices:
                given = {"live": live, "staged": staged, "former": former}
                start = view_of(**{name: one for name, one in given.items() if one is not None})
                for answers in range(4):
                    walk(start, answers)


def walk(view: View, answers: int) -> None:
    steps: list[rotate_plan.Step] = []
    while len(steps) < rotate_plan.MAX_STEPS:
        step = None if rotate_plan.finished(view, steps) else rotate_plan.next_step(view)
        if step is None or not isinstance(step, rotate_plan.Step):
            return
        rotate_plan.check_invariants(view, step)
        view = rotate_plan.after(view, step)
        if step.action == rotate_plan.PROVE and not answers >> (step.pair == rotate_plan.OLD) & 1:
            view = dataclasses.replace(view, proof="another one")
        steps.append(step)
    raise AssertionError(steps)


def test_without_a_judge_of_the_chain_nothing_is_done() -> None:
    refusal = rotate_plan.next_step(view_of(live=OLD, staged=NEW, trusted=None, untrusted="this host has no openssl"))
    assert not isinstance(refusal, rotate_plan.Step)
    assert refusal is not None
    assert (refusal.code, "no openssl" in refusal.message) == ("wrong-chain", True)


class NoPrograms(SubprocessRunner):
    def find(self, program: str) -> str | None:
        return None


def test_a_host_without_openssl_judges_by_the_library(site: Site) -> None:
    eyes = rotate_io.RotateEyes(NoPrograms(), 5)
    paths = str(site.staged / "cert.pem"), str(site.live / "ca.pem")
    assert eyes.verify(*paths) == (True, "")
    spoil_chain(site)
    assert eyes.verify(*paths) == (False, "it did not sign it")

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action from its arguments to its result; the host's half runs for real in a directory of its own."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import time
import types
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.action.pki_certificates import ActionModule
from ansible_collections.dedicated.odoo.plugins.module_utils._pki import authority, crypto, service
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.io import Files
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.plan import (
    DAY,
    Issue,
    Policy,
    Wanted,
    normalise,
)
from ansible_collections.dedicated.odoo.plugins.modules import pki_certificates

SECRET = "canary-passphrase"


class Action(ActionModule):
    """The action with a host that is a directory; `visits` records what travelled."""

    def __init__(self, args: dict[str, t.Any], check: bool) -> None:
        task = types.SimpleNamespace(args=args, check_mode=check, diff=True, async_val=0, action="pki_certificates")
        connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir=None))
        super().__init__(task, connection, None, None, None, None)
        self.visits: list[dict[str, t.Any]] = []

    def _execute_module(self, **given: t.Any) -> dict[str, t.Any]:
        arguments = given["module_args"]
        request = arguments["request"]
        self.visits.append(arguments)
        wanted = normalise(arguments["certificates"])
        assert isinstance(wanted, tuple)
        policy = Policy(arguments["valid_days"], arguments["renew_before_fraction"])
        ask = service.Ask(wanted, request["ca_pem"], request["now"], arguments["pin"], policy, request["trust_pem"])
        files = Files(arguments["directory"])
        if arguments["stage"]:
            answer = pki_certificates.staging(files, ask, {"shared_keys": None, **arguments}, not self._task.check_mode)
            return dict(json.loads(json.dumps(answer)))
        if request["phase"] == "install":
            service.install(files, ask, request["issued"], arguments.get("shared_keys"))
            return {"changed": True}
        facts = service.inspect(files, ask, stage=not (self._task.check_mode or arguments["survey"]))
        return {"changed": False, "host": json.loads(json.dumps(facts))}


class Site:
    """A controller's CA directory and a host's directory."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.visits: list[dict[str, t.Any]] = []

    def __call__(self, check: bool = False, limit: str = "", **args: t.Any) -> dict[str, t.Any]:
        item = {"name": "etcd", "common_name": "n1", "sans": ["dns:n1"], "usages": ["server"]}
        given = {
            "certificates": [{**item, "owner": os.geteuid(), "group": os.getegid()}],
            "ca_dir": str(self.root / "ca"),
            "directory": str(self.root / "host"),
            "passphrase": SECRET,
            **args,
        }
        action = Action(given, check)
        result = action.run(None, {"ansible_limit": limit} if limit else {})
        self.visits = action.visits
        assert SECRET not in json.dumps([result, action.visits])
        assert "PRIVATE" not in json.dumps(result)
        return result


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Site:
    return Site(tmp_path)


def test_issue_then_one_visit_without_change(site: Site) -> None:
    first = site()
    assert first["changed"]
    assert first["ca"]["created"]
    assert [(one["name"], one["reason"]) for one in first["issued"]] == [("etcd", "missing")]
    assert first["issued"][0]["serial"] == first["certificates"][0]["serial"] != ""
    second = site()
    assert not second["changed"]
    assert second["issued"] == second["repaired"] == []
    assert second["certificates"] == first["certificates"]
    assert second["ca"] == {**first["ca"], "created": False}
    assert second["diff"] == {"before": {}, "after": {}}
    assert len(site.visits) == 1


def test_check_mode_before_the_first_run(site: Site) -> None:
    result = site(check=True)
    assert result["changed"]
    assert result["issued"][0]["serial"] == ""
    assert result["diff"]["after"]["etcd"]["sans"] == ["dns:n1"]
    assert list(site.root.iterdir()) == []


def test_check_mode_announces_what_the_run_does(site: Site) -> None:
    site()
    assert not site(check=True)["changed"]
    announced, done = site(check=True, valid_days=30), site(valid_days=30)
    assert [one["reason"] for one in announced["issued"]] == [one["reason"] for one in done["issued"]]
    assert done["issued"][0]["reason"] == "lives-too-long"
    assert set(done["diff"]["before"]["etcd"]) == {"common_name", "sans", "usages", "not_after", "serial"}
    assert "PRIVATE" not in json.dumps(done)


def test_refusals_do_not_even_visit_the_host(site: Site) -> None:
    site()
    for args, code in (
        ({"passphrase": "wrong"}, "wrong-passphrase"),
        ({"passphrase": ""}, "bad-input"),
        ({"pin": "a" * 64}, "other-ca"),
        ({"valid_days": 91}, "bad-input"),
        ({"ca_dir": "None/pki"}, "bad-input"),
        ({"request": {"phase": "install"}}, "bad-input"),
        ({"shared_keys": {"etcd": "a key"}}, "bad-input"),
    ):
        result = site(**args)
        assert (result["failed"], result["code"]) == (True, code)
        assert site.visits == []


def test_lost_ca_is_not_replaced(site: Site) -> None:
    site()
    for survey in (True, False):
        result = site(ca_dir=str(site.root / "new"), survey=survey)
        assert (result["failed"], result["code"]) == (True, "ca-missing")
    assert not (site.root / "new").exists()


def test_other_ca_is_refused(site: Site) -> None:
    site()
    assert not site(ca_dir=str(site.root / "new"), directory=str(site.root / "elsewhere")).get("failed")
    for survey in (True, False):
        assert site(ca_dir=str(site.root / "new"), survey=survey)["code"] == "other-ca"


def test_first_ca_not_under_a_limit(site: Site) -> None:
    assert site(limit="n1")["code"] == "ca-unsure"
    assert list(site.root.iterdir()) == []
    assert site(limit="all")["changed"]
    assert not site(limit="n1").get("failed")


def test_survey_of_a_fresh_host_touches_nothing(site: Site) -> None:
    result = site(survey=True, passphrase=None, certificates=[])
    assert not result["changed"]
    assert list(site.root.iterdir()) == []


def test_no_ca_is_made_that_could_not_sign_for_its_hosts(site: Site) -> None:
    for survey in (True, False):
        result = site(survey=survey, ca_domains=["elsewhere.internal"])
        assert (result["failed"], result["code"]) == (True, "name-not-permitted")
    assert list(site.root.iterdir()) == []


def test_a_matching_pin_is_accepted_as_openssl_prints_it(site: Site) -> None:
    pin = site()["ca"]["fingerprint"].upper()
    assert not site(pin=":".join(pin[at : at + 2] for at in range(0, 64, 2)))["changed"]


EDGE = {"name": "edge", "common_name": "odoo.test", "sans": ["dns:odoo.test"], "usages": ["server"], "shared": True}


class Pair:
    """Two hosts of one controller that share a certificate."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def __call__(self, host: str, **args: t.Any) -> dict[str, t.Any]:
        edge = {**EDGE, "owner": os.geteuid(), "group": os.getegid()}
        return self.site(certificates=[edge], directory=str(self.site.root / host), **args)

    def files(self, host: str) -> tuple[str, str]:
        where = self.site.root / host / "edge"
        return (where / "key.pem").read_text(), (where / "cert.pem").read_text()


@pytest.fixture
def pair(site: Site) -> Pair:
    return Pair(site)


def test_hosts_share_one_certificate_and_key(pair: Pair) -> None:
    first = pair("a")
    assert [(one["name"], one["reason"]) for one in first["issued"]] == [("edge", "missing")]
    second = pair("b")
    assert (second["issued"], second["copied"]) == ([], [{"name": "edge", "reason": "missing"}])
    assert pair.files("a") == pair.files("b")
    assert first["certificates"] == second["certificates"]
    assert first["certificates"][0]["serial"] != ""
    for host in ("a", "b"):
        again = pair(host)
        assert (again["changed"], len(pair.site.visits)) == (False, 1)
        # A key travels only when it is needed.
        assert "shared_keys" not in pair.site.visits[0]


def test_a_host_with_a_pair_of_its_own_gets_the_shared_one(pair: Pair) -> None:
    own = {**EDGE, "shared": False, "owner": os.geteuid(), "group": os.getegid()}
    pair.site(certificates=[own], directory=str(pair.site.root / "a"))
    before = pair.files("a")
    announced, done = pair("a", check=True), pair("a")
    assert announced["changed"]
    assert done["changed"]
    assert pair.files("a") != before
    pair("b")
    assert pair.files("a") == pair.files("b")


def test_a_shared_certificate_is_renewed_once_for_all(pair: Pair) -> None:
    pair("a")
    pair("b")
    before = pair.files("a")
    announced = pair("b", check=True, valid_days=30)
    assert [one["reason"] for one in announced["issued"]] == ["lives-too-long"]
    assert pair.files("b") == before
    assert [one["reason"] for one in pair("b", valid_days=30)["issued"]] == ["lives-too-long"]
    late = pair("a", valid_days=30)
    assert (late["issued"], late["copied"]) == ([], [{"name": "edge", "reason": "shared-differs"}])
    assert late["diff"]["after"]["edge"]["serial"] != ""
    assert pair.files("a") == pair.files("b") != before


def test_a_key_that_was_tampered_with_is_copied_again(pair: Pair) -> None:
    pair("a")
    before = pair.files("a")
    (pair.site.root / "a" / "edge" / "key.pem").unlink()
    assert [one["reason"] for one in pair("a")["copied"]] == ["key-missing"]
    assert pair.files("a") == before


# -- staging ---------------------------------------------------------------------------------------------------------


def age(site: Site, name: str, days: int, host: str = "host") -> None:
    """As if a certificate had been issued so many days ago: the store signs with the time that it is given."""
    store = authority.Store(str(site.root / "ca"))
    path = site.root / host / name / "cert.pem"
    leaf = crypto.read_leaf(path.read_text(), store.certificate())
    assert leaf is not None
    wanted = Wanted(name, leaf.common_name, leaf.sans, leaf.usages, os.geteuid(), os.getegid())
    issue = Issue(wanted, "older", leaf.not_before - days * DAY, leaf.not_after - days * DAY)
    request = crypto.new_request((path.parent / "key.pem").read_text(), leaf.common_name)
    pem = store.sign(SECRET, [issue], {name: request})[name]
    path.chmod(0o644)
    path.write_text(pem)
    path.chmod(0o444)


def texts(folder: pathlib.Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())} if folder.exists() else {}


def test_a_new_pair_waits_beside_the_live_one(site: Site) -> None:
    site()
    age(site, "etcd", 3)
    live, since = texts(site.root / "host" / "etcd"), int(time.time())
    aside = site.root / "host" / ".staged"
    announced = site(check=True, stage=True, since=since)
    assert announced["changed"]
    assert announced["staged"][0]["serial"] == ""
    assert not aside.exists()
    first = site(stage=True, since=since)
    assert [(one["name"], one["reason"]) for one in first["issued"]] == [("etcd", "asked")]
    [row] = first["staged"]
    assert (row["name"], row["serial"] not in ("", row["live"])) == ("etcd", True)
    assert first["diff"]["after"]["etcd"]["serial"] == row["serial"]
    assert texts(site.root / "host" / "etcd") == live
    assert set(texts(aside / "etcd")) == {"cert.pem", "key.pem", "ca.pem"}
    assert (aside / "since").read_text() == f"{since}\n"
    assert (aside.stat().st_mode & 0o777, (aside / "etcd" / "key.pem").stat().st_mode & 0o777) == (0o700, 0o400)
    # What waits already is kept, and nobody is asked for a signature.
    again = site(stage=True, since=since)
    assert (again["changed"], again["staged"], len(site.visits)) == (False, first["staged"], 1)
    # The ordinary run is not impressed.
    assert not site()["changed"]


def test_a_live_pair_of_this_rotation_has_none_beside_it(site: Site) -> None:
    site()
    since = int(time.time()) - 60
    assert site(stage=True, since=since)["staged"] == []
    age(site, "etcd", 3)
    site(stage=True, since=since)
    time.sleep(1.1)
    # An ordinary run has issued another one meanwhile: what waits is older, and goes.
    assert site(valid_days=30)["issued"]
    assert site(stage=True, since=since)["staged"] == []
    assert texts(site.root / "host" / ".staged" / "etcd") == {}


def test_what_waits_and_does_not_fit_is_issued_again(site: Site) -> None:
    site()
    age(site, "etcd", 3)
    since = int(time.time())
    waiting = site.root / "host" / ".staged" / "etcd"
    before = site(stage=True, since=since)["staged"]
    (waiting / "key.pem").unlink()
    after = site(stage=True, since=since)
    assert [one["reason"] for one in after["issued"]] == ["key-missing"]
    assert after["staged"] != before
    assert site(stage=True, since=since, valid_days=30)["issued"][0]["reason"] == "lives-too-long"


def test_staging_killed_before_the_pair_is_whole_goes_on(site: Site) -> None:
    site()
    age(site, "etcd", 3)
    since = int(time.time())
    site(stage=True, since=since)
    waiting = site.root / "host" / ".staged" / "etcd"
    # The key has its request, the certificate is still to come.
    (waiting / "key.pem").rename(waiting / "key.pem.new")
    (waiting / "cert.pem").unlink()
    [row] = site(stage=True, since=since)["staged"]
    assert row["serial"]
    assert set(texts(waiting)) == {"cert.pem", "key.pem", "ca.pem"}


def test_staging_is_refused(site: Site) -> None:
    now = int(time.time())
    assert site(stage=True, since=now)["code"] == "bad-input"
    site()
    assert site(stage=True)["code"] == "bad-input"
    assert site(stage=True, since=now + 99)["code"] == "bad-input"
    assert site(stage=True, since=now, directory=str(site.root / "fresh"))["code"] == "not-issued"
    assert site(stage=True, since=now, passphrase="wrong")["code"] == "wrong-passphrase"
    assert not (site.root / "host" / ".staged").exists()
    assert not (site.root / "fresh").exists()


def test_a_shared_pair_is_staged_once_for_all(pair: Pair) -> None:
    for host in ("a", "b"):
        pair(host)
    before = pair.files("a")
    time.sleep(1.1)
    given: dict[str, t.Any] = {"stage": True, "since": int(time.time())}
    first, second = pair("a", **given), pair("b", **given)
    assert ([one["name"] for one in first["issued"]], second["issued"]) == (["edge"], [])
    assert first["staged"][0]["serial"] == second["staged"][0]["serial"] != first["staged"][0]["live"]
    assert not pair("a", **given)["changed"]
    assert not pair("b", **given)["changed"]
    [one, other] = [texts(pair.site.root / host / ".staged" / "edge") for host in ("a", "b")]
    assert one == other
    assert set(one) == {"cert.pem", "key.pem", "ca.pem"}
    assert pair.files("a") == pair.files("b") == before
    # Should an ordinary run come first, it brings the same pair; then nothing is left to be taken.
    assert [copied["reason"] for copied in pair("a")["copied"]] == ["shared-differs"]
    shutil.rmtree(pair.site.root / "a" / ".staged")
    assert pair("a", **given)["staged"] == []

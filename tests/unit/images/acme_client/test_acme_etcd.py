# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease and what is written under it, over a gateway's own words."""

from __future__ import annotations

import typing as t

import pytest
from acme_lab import FakeEtcd, gateway
from client.etcd import Etcd, EtcdError, Lost

# A port on which nobody listens.
DEAD = "http://127.0.0.1:9"


@pytest.fixture
def etcd() -> FakeEtcd:
    return FakeEtcd()


@pytest.fixture
def store(etcd: FakeEtcd) -> t.Iterator[Etcd]:
    with gateway(etcd) as url:
        yield Etcd([url], None, "", "")


def test_only_what_is_under_the_prefix(store: Etcd, etcd: FakeEtcd) -> None:
    for key in ("/acme/a/x", "/acme/a/y", "/acme/b/x", "/acme/a"):
        etcd.put(key, f"value of {key}")
    assert {key: entry.value for key, entry in store.under("/acme/a/").items()} == {
        "x": "value of /acme/a/x",
        "y": "value of /acme/a/y",
    }
    assert store.under("/nothing/") == {}


def test_one_has_the_lease_and_the_other_one_leaves_none_behind(store: Etcd, etcd: FakeEtcd) -> None:
    taken = store.take("/acme/holder", "a", 60)
    assert taken is not None
    assert store.take("/acme/holder", "b", 60) is None
    assert etcd.leases == {taken[0]}
    assert store.under("/acme/")["holder"] == ("a", taken[1])
    store.revoke(taken[0])
    assert store.take("/acme/holder", "b", 60) is not None


def test_who_has_lost_the_lease_writes_nothing(store: Etcd, etcd: FakeEtcd) -> None:
    taken = store.take("/acme/holder", "a", 60)
    assert taken is not None
    store.keep(taken[0])
    store.put_as_holder("/acme/holder", taken[1], "/acme/attempts", "1")
    etcd.expire(taken[0])
    with pytest.raises(Lost):
        store.keep(taken[0])
    with pytest.raises(Lost):
        store.put_as_holder("/acme/holder", taken[1], "/acme/attempts", "2")
    # Also when somebody else, or we ourselves, hold it again.
    assert store.take("/acme/holder", "a", 60) is not None
    with pytest.raises(Lost):
        store.put_as_holder("/acme/holder", taken[1], "/acme/attempts", "3")
    assert store.under("/acme/")["attempts"].value == "1"


def test_a_member_that_is_away_is_asked_last_from_then_on(etcd: FakeEtcd) -> None:
    with gateway(etcd) as url:
        store = Etcd([DEAD, url], None, "", "")
        store.put("/acme/x", "1")
        assert store._endpoints == [url, DEAD]
        assert store.under("/acme/")["x"].value == "1"


def test_nobody_answers() -> None:
    with pytest.raises(EtcdError, match="refused"):
        Etcd([DEAD, DEAD], None, "", "").under("/acme/")


def test_it_logs_in_once_and_a_wrong_password_is_told() -> None:
    etcd = FakeEtcd("acme", "right")
    with gateway(etcd) as url:
        store = Etcd([url], None, "acme", "right")
        store.put("/acme/x", "1")
        store.put("/acme/x", "2")
        assert [path for path, _token in etcd.asked].count("/v3/auth/authenticate") == 1
        assert etcd.data["/acme/x"]["value"] == "2"
        with pytest.raises(EtcdError, match="authentication failed") as told:
            Etcd([url], None, "acme", "wrong-password").put("/acme/x", "3")
        assert "wrong-password" not in str(told.value)


def test_a_token_that_has_ended_is_made_anew_and_the_lease_is_kept(etcd: FakeEtcd) -> None:
    """An order may take longer than a token lives."""
    etcd.user, etcd.password = "acme", "right"
    with gateway(etcd) as url:
        store = Etcd([url], None, "acme", "right")
        taken = store.take("/acme/holder", "a", 60)
        assert taken is not None
        etcd.token = "another-token"
        store.keep(taken[0])
        store.put_as_holder("/acme/holder", taken[1], "/acme/attempts", "1")
        etcd.first.append((400, {"error": "etcdserver: auth: revision in header is old"}))
        store.put("/acme/x", "2")
    assert etcd.data["/acme/x"]["value"] == "2"
    assert [path for path, _token in etcd.asked].count("/v3/auth/authenticate") == 3


def test_a_member_in_trouble_of_its_own_is_not_the_whole_store(etcd: FakeEtcd) -> None:
    starting = FakeEtcd(first=[(503, {"error": "etcdserver: no leader"})] * 3)
    with gateway(starting) as ill, gateway(etcd) as url:
        store = Etcd([ill, url], None, "", "")
        store.put("/acme/x", "1")
        assert etcd.data["/acme/x"]["value"] == "1"
        assert store._endpoints == [url, ill]


def test_what_is_refused_is_not_asked_of_another_member(etcd: FakeEtcd) -> None:
    full = FakeEtcd(first=[(429, {"error": "etcdserver: mvcc: database space exceeded"})])
    with gateway(full) as first, gateway(etcd) as url, pytest.raises(EtcdError, match="space exceeded"):
        Etcd([first, url], None, "", "").put("/acme/x", "1")
    assert etcd.data == {}

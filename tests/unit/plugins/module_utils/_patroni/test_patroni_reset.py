# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the store forgets after a restore, and when it is left alone."""

from __future__ import annotations

import base64
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DeadlineError, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.reset import STALE, ResetService

KEPT = {"config": "{}", "initialize": "777"}
OLD = dict.fromkeys(("status", "sync", "history", "failover", "failsafe"), "{}")


def text(value: str) -> str:
    return base64.b64decode(value).decode()


class Store:
    """An etcd whose leases run out as time passes, and a clock."""

    def __init__(self, keys: t.Mapping[str, str], leases: t.Mapping[str, float] | None = None) -> None:
        self.keys = {f"/dedicated/acme/{name}": value for name, value in keys.items()}
        self.keys["/dedicated/acme-two/status"] = "of another cluster"
        self.leases = {f"/dedicated/acme/{name}": end for name, end in (leases or {}).items()}
        self.now = 0.0
        self.elected_at: float | None = None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for name, end in self.leases.items():
            if end <= self.now:
                self.keys.pop(name, None)

    def call(self, path: str, data: dict[str, t.Any]) -> dict[str, t.Any]:
        if path == "/v3/kv/range":
            first, last = text(data["key"]), text(data["range_end"])
            found = {name: value for name, value in self.keys.items() if first <= name < last}
            return {
                "kvs": [
                    {"key": base64.b64encode(name.encode()), "value": base64.b64encode(value.encode())}
                    for name, value in found.items()
                ]
            }
        assert path == "/v3/kv/txn"
        if self.elected_at is not None:
            self.keys["/dedicated/acme/leader"] = "node2"
        for one in data["compare"]:
            if text(one["key"]) in self.keys:
                return {}
        for one in data["success"]:
            self.keys.pop(text(one["requestDeleteRange"]["key"]), None)
        return {"succeeded": True}

    def names(self) -> set[str]:
        return {name.rpartition("acme/")[2] for name in self.keys if name.startswith("/dedicated/acme/")}


def reset(store: Store, system_id: str = "777", check: bool = False) -> list[str]:
    return ResetService(store.call, store, "acme", "/dedicated/").reset(system_id, 60, check)


def test_the_old_data_are_forgotten_and_the_rest_stays() -> None:
    store = Store({**KEPT, **OLD})
    assert reset(store) == sorted(OLD)
    assert store.names() == set(KEPT)
    assert store.keys["/dedicated/acme-two/status"]
    assert reset(store) == []


def test_a_check_forgets_nothing() -> None:
    store = Store({**KEPT, **OLD, "members/node1": "{}"})
    assert reset(store, check=True) == sorted(OLD)
    assert store.names() == {*KEPT, *OLD, "members/node1"}


def test_it_waits_until_every_member_has_gone() -> None:
    alive = {"leader": "node1", "members/node1": "{}", "members/node2": "{}"}
    store = Store({**KEPT, **OLD, **alive}, {"leader": 10, "members/node1": 20, "members/node2": 5})
    reset(store)
    assert store.now >= 20
    assert store.names() == set(KEPT)


@pytest.mark.parametrize("who", ["leader", "members/node3"])
def test_a_member_that_runs_on_is_named(who: str) -> None:
    store = Store({**KEPT, **OLD, who: "{}"})
    with pytest.raises(DeadlineError, match=who):
        reset(store)
    assert store.names() == {*KEPT, *OLD, who}


def test_the_store_of_another_cluster_is_left_alone() -> None:
    store = Store({**KEPT, **OLD})
    with pytest.raises(Refused) as caught:
        reset(store, "778")
    assert caught.value.refusal.code == "other_system"
    assert store.names() == {*KEPT, *OLD}


def test_a_leader_that_appears_in_that_moment_stops_it() -> None:
    store = Store({**KEPT, **OLD})
    store.elected_at = 0
    with pytest.raises(Refused) as caught:
        reset(store)
    assert caught.value.refusal.code == "leader_appeared"
    assert store.names() == {*KEPT, *OLD, "leader"}


def test_configuration_and_identifier_are_never_stale() -> None:
    assert not {"config", "initialize"} & set(STALE)

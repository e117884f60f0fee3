# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from loading import load

plan = load("addons/dedicated_session_redis/plan.py")
SID = "a" * 42 + "B" * 42


def conf(**values: object) -> object:
    return plan.settings(lambda name: values.get(name.removeprefix("dedicated_session_")))


def test_settings() -> None:
    found = conf(url="unix:///run/redis.sock", user="odoo", password="p", prefix="x:")
    assert found == plan.Settings("unix:///run/redis.sock", "odoo", "p", "x:")
    assert conf(url="rediss://10.0.0.1:6379/0").prefix == "odoo:session:"  # type: ignore[attr-defined]


@pytest.mark.parametrize("url", [None, False, "", "False"])
def test_no_url_is_no_store(url: object) -> None:
    assert conf(url=url) is None


@pytest.mark.parametrize("url", ["http://x", "10.0.0.1:6379", "redis://user:secret@10.0.0.1"])
def test_refused_urls_do_not_show_a_password(url: str) -> None:
    with pytest.raises(plan.SettingsError) as caught:
        conf(url=url)
    assert "secret" not in str(caught.value)


def test_place() -> None:
    assert plan.place("p:", SID) == ("p:" + "a" * 42, "B" * 42)
    for bad in ("a" * 83, SID + "\n", "*" * 84, ""):
        with pytest.raises(ValueError, match="Invalid session id"):
            plan.place("p:", bad)


def test_soft_rotation_stays_on_one_key() -> None:
    assert plan.place("", SID)[0] == plan.place("", SID[:42] + "C" * 42)[0]


def test_a_claim_is_no_session_field() -> None:
    assert not plan.is_sid(SID[:42] + plan.claim(SID[42:]))
    assert ":" in plan.claim(SID[42:])


def test_identifiers_reach_nothing_else() -> None:
    assert plan.identifier_keys("p:", ["a" * 42]) == ["p:" + "a" * 42]
    for bad in ("a" * 42, ["*"], ["a" * 84], ["../" + "a" * 39]):
        with pytest.raises(ValueError, match="Identifier"):
            plan.identifier_keys("p:", bad)


def test_scan_pattern_is_literal() -> None:
    assert plan.scan_pattern("odoo:[x]*") == r"odoo:\[x\]\**"


def test_round_trip() -> None:
    assert plan.decode(plan.encode({"uid": 2, "context": {"lang": "é"}})) == {"uid": 2, "context": {"lang": "é"}}
    assert plan.decode(None) is None
    assert plan.decode(b"{broken") == {}
    assert plan.decode(b"[1]") == {}


def test_patience() -> None:
    assert sum(plan.retry_delays(known_away=False)) < 1
    assert plan.retry_delays(known_away=True) == ()


def test_lifetime_is_only_cut() -> None:
    assert plan.lifetime_cut(-1, 60)
    assert plan.lifetime_cut(61, 60)
    assert not plan.lifetime_cut(60, 60)
    assert not plan.lifetime_cut(-2, 60)

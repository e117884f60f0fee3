# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing goes that the policy keeps."""

from __future__ import annotations

import typing as t

import pytest
from pgbackrest_lab import Lab, captured, code_of, entry, pgbackrest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest import service

DAY = 86400
NOW = 1_800_000_000
BEGIN = (
    "INFO: [DRY-RUN] expire command begin 2.55.1: --dry-run --repo1-retention-full={} --repo1-retention-full-type={}\n"
)


def backup(days_ago: float, kind: str = "full", prior: str | None = None, **changes: t.Any) -> dict[str, t.Any]:
    ended = int(NOW - days_ago * DAY)
    label = f"{kind}{days_ago:g}"
    return {
        **entry()["backup"][0],
        "label": label,
        "type": kind,
        "prior": prior,
        "reference": [prior] if prior else None,
        "timestamp": {"start": ended - 5, "stop": ended},
        **changes,
    }


def gone(lab: Lab, argv: t.Sequence[str]) -> None:
    if "--dry-run" not in argv:
        kept = [one for one in lab.stanza["backup"] if f"remove expired backup {one['label']}\n" not in lab.expire]
        lab.stanza["backup"] = kept
        lab.expire = BEGIN.format(30, "time")


def lab_with(backups: t.Iterable[dict[str, t.Any]], goes: t.Iterable[str], number: int = 30, kind: str = "time") -> Lab:
    stanza = entry()
    stanza["backup"] = list(backups)
    lines = [f"INFO: [DRY-RUN] repo1: remove expired backup {label}\n" for label in goes]
    if lines:
        lines.append(f"INFO: [DRY-RUN] repo1: 17-1 remove archive, start = {'0' * 23}1, stop = {'0' * 23}9\n")
    return Lab(stanza, expire=BEGIN.format(number, kind) + "".join(lines), acts={"expire": gone})


def expire(lab: Lab, days: int = 30, check_mode: bool = False) -> dict[str, t.Any]:
    return service.expire(pgbackrest(lab), days, 60, NOW, check_mode)


OLD = [backup(44), backup(43, "diff", "full44"), backup(37), backup(30.5), backup(9), backup(2)]


def test_what_is_older_than_the_policy_goes_once() -> None:
    lab = lab_with(OLD, ["full44", "diff43", "full37"])
    would = expire(lab, check_mode=True)
    assert [one["label"] for one in would["expired"]] == ["full44", "diff43", "full37"]
    assert would["archives"][0]["last"] == "0" * 23 + "9"
    assert (would["changed"], would["policy_met"]) == (True, True)
    assert lab.verbs == ["expire dry"]
    assert expire(lab)["expired"] == would["expired"]
    assert lab.verbs == ["expire dry", "expire dry", "expire"]
    assert expire(lab)["changed"] is False


def test_nothing_to_expire() -> None:
    result = expire(lab_with(OLD, []))
    assert (result["changed"], result["expired"], result["archives"]) == (False, [], [])


@pytest.mark.parametrize(
    ("number", "kind", "met"), [(30, "time", True), (90, "time", True), (29, "time", False), (90, "count", False)]
)
def test_whether_the_retention_in_effect_meets_the_policy(number: int, kind: str, met: bool) -> None:
    result = expire(lab_with(OLD, [], number, kind))
    assert result["policy_met"] is met
    assert result["in_effect"] == [
        {"repository": 1, "kind": kind, "number": number, "policy_days": 30, "policy_met": met}
    ]


@pytest.mark.parametrize(
    ("backups", "goes", "words"),
    [
        # Younger than the policy.
        (OLD, ["full44", "diff43", "full37", "full30.5", "full9"], "full9 would go"),
        # What is left does not reach back as far as the policy, though all that goes is older.
        (OLD, ["full44", "diff43", "full37", "full30.5"], "no moment 30 days ago"),
        # The last full one, and the last good full one.
        ([backup(44)], ["full44"], "no good full backup"),
        ([backup(44), backup(35, error=True)], ["full44"], "no good full backup"),
    ],
)
def test_below_the_policy_nothing_goes(backups: list[dict[str, t.Any]], goes: list[str], words: str) -> None:
    lab = lab_with(backups, goes, 7)
    with pytest.raises(Refused, match=words) as caught:
        expire(lab)
    assert code_of(caught.value) == "below_policy"
    assert "7 days" in caught.value.msg
    assert lab.verbs == ["expire dry"]


def test_the_real_dry_run_of_a_retention_that_is_too_short() -> None:
    lab = Lab(expire=captured("expire_dry_run.txt"))
    with pytest.raises(Refused, match="1 full backups"):
        service.expire(pgbackrest(lab), 30, 60, NOW)


def test_a_running_backup_is_waited_for() -> None:
    with pytest.raises(Refused) as caught:
        expire(Lab(entry("info_running.json")))
    assert code_of(caught.value) == "backup_running"


def test_what_stays_or_goes_unplanned_is_an_error() -> None:
    lab = lab_with(OLD, ["full44", "diff43"])
    lab.acts = {}
    with pytest.raises(DedicatedError, match="full44, diff43 stayed") as caught:
        expire(lab)
    assert code_of(caught.value) == "no_effect"
    lab = lab_with(OLD, ["full44", "diff43"])
    lab.acts = {
        "expire": lambda lab, argv: (gone(lab, argv), lab.stanza["backup"].pop() if "--dry-run" not in argv else 0)
    }
    with pytest.raises(DedicatedError, match="full2 went beside"):
        expire(lab)


def test_a_dry_run_that_says_nothing_is_an_error() -> None:
    with pytest.raises(DedicatedError) as caught:
        expire(Lab())
    assert code_of(caught.value) == "not_understood"


def test_each_repository_has_its_own_policy() -> None:
    lab = lab_with(OLD, ["full44", "diff43", "full37"])
    with pytest.raises(Refused, match="full37 would go, and the policy is 40 days"):
        service.expire(pgbackrest(lab), 30, 60, NOW, False, {"1": 40})
    result = service.expire(pgbackrest(lab), 90, 60, NOW, False, {1: "30"})
    assert (result["policy_met"], result["in_effect"][0]["policy_days"]) == (True, 30)


@pytest.mark.parametrize("wrong", [{"one": 30}, {0: 30}, {1: 0}, {1: None}, {1: "a month"}])
def test_a_policy_that_is_none(wrong: dict[t.Any, t.Any]) -> None:
    with pytest.raises(Refused) as caught:
        service.expire(pgbackrest(Lab()), 30, 60, NOW, False, wrong)
    assert code_of(caught.value) == "bad_policy"


def test_a_repository_of_which_the_dry_run_says_nothing_does_not_meet_the_policy() -> None:
    lab = lab_with(OLD, [])
    lab.stanza["repo"] = [*lab.stanza["repo"], {**lab.stanza["repo"][0], "key": 2}]
    assert expire(lab)["policy_met"] is False

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of experiments, the choice among them, and what is said to a lab that they do not fit."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import typing as t
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "lab"))

import run
from experiments import DETECTED, EXPERIMENTS, LEASE, Experiment
from scene import CLEAR, TABLE

TESTS = Path(__file__).resolve().parents[1]
# Rows of the fault matrix that high availability is about.
ROWS = {"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "15", "16", "19", "20", "21", "24", "36", "38", "39", "40"}


def test_every_row_of_high_availability_has_an_experiment() -> None:
    assert {one.fault for one in EXPERIMENTS} >= ROWS | {"41", "42", "power", "detector"}


def test_names_are_file_names_and_nobody_shares_one() -> None:
    names = [one.name for one in EXPERIMENTS]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name)] == []


@pytest.mark.parametrize("one", [one for one in EXPERIMENTS if one.fast], ids=lambda one: str(one.name))
def test_what_is_fast_takes_nothing_away_for_long(one: Experiment) -> None:
    assert one.hold <= 10
    assert one.detector is None


def test_detectors_tighten_a_promise_and_loosen_none() -> None:
    for one in EXPERIMENTS:
        with_them, without = one.bound(True), one.bound(False)
        if one.detected is None:
            assert with_them == without
        else:
            assert with_them.write_gap == DETECTED < (without.write_gap or LEASE)


def test_nobody_is_promised_less_than_sessions_and_redundancy() -> None:
    assert [one.name for one in EXPERIMENTS if not one.promise.sessions or one.promise.recovery > 300] == []


@pytest.mark.parametrize(
    ("names", "which", "chosen"),
    [
        ([], "fast", [one.name for one in EXPERIMENTS if one.fast]),
        ([], "", [one.name for one in EXPERIMENTS]),
        (["host-killed"], "fast", ["host-killed"]),
    ],
)
def test_choice(monkeypatch: pytest.MonkeyPatch, names: list[str], which: str, chosen: list[str]) -> None:
    monkeypatch.setenv("SET", which)
    assert [one.name for one in run.choose(names)] == chosen


@pytest.mark.parametrize(("names", "which", "said"), [(["nonsense"], "all", "nonsense"), ([], "some", "some")])
def test_a_choice_that_is_none(monkeypatch: pytest.MonkeyPatch, names: list[str], which: str, said: str) -> None:
    monkeypatch.setenv("SET", which)
    with pytest.raises(SystemExit, match=said):
        run.choose(names)


def test_a_lab_of_one_host_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "one" / "lab.json"
    monkeypatch.setenv("LAB_JSON", str(path))
    with pytest.raises(SystemExit, match="no lab"):
        run.load()
    path.parent.mkdir()
    path.write_text(json.dumps({"profile": "single"}))
    with pytest.raises(SystemExit, match=r"one has the profile single: .* three hosts.*PROFILE=ha"):
        run.load()


def test_the_products_own_packet_filter_is_never_named() -> None:
    sources = "".join((TESTS / "faults" / name).read_text() for name in ("scene.py", "experiments.py"))
    assert TABLE != "inet dedicated"
    assert re.findall(r"table inet dedicated\b(?!_faults)", sources + CLEAR) == []


class Patroni:
    """The dynamic configuration, and what the detectors are."""

    def __init__(self, known: dict[str, t.Any]) -> None:
        self.known = known

    def config(self, change: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        self.known |= change or {}
        return dict(self.known)

    def detectors(self) -> list[t.Any]:
        return []

    def each(self, hosts: list[t.Any], what: t.Any) -> list[t.Any]:
        return [what(host) for host in hosts]


OURS = {"ttl": 20, "loop_wait": 5, "retry_timeout": 5, "primary_start_timeout": 0}


@pytest.mark.parametrize("dies", ["not", "within", "killed"])
def test_timings_are_put_back_whatever_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dies: str) -> None:
    monkeypatch.setattr(run.time, "sleep", lambda seconds: None)
    scene, keep = Patroni(dict(OURS)), tmp_path / "timings.json"
    if dies == "killed":  # the process is gone in the middle: the next one finds the file
        keep.write_text(json.dumps(OURS))
        scene.known |= run.DEFAULTS
        run.put_back(t.cast("t.Any", scene), keep)
    else:
        raises = pytest.raises(KeyError) if dies == "within" else contextlib.nullcontext()
        with raises, run.default_timings(t.cast("t.Any", scene), keep):
            assert scene.known == run.DEFAULTS
            if dies == "within":
                raise KeyError
    assert scene.known == OURS
    assert not keep.exists()


def test_a_run_that_comes_to_no_verdict_breaks_its_promise() -> None:
    result = run.broken_off(EXPERIMENTS[0], AssertionError("the lab is gone"))
    assert run.verdict.summarise([result])[EXPERIMENTS[0].name]["held"] == 0
    assert result["checks"] == [{"name": "the run", "ok": False, "said": "the lab is gone"}]

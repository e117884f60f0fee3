# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of the record in files: adding, keeping, judging; and what is read of Git and the inventory."""

from __future__ import annotations

import fcntl
import os
import pathlib
import stat
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import Completed
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence import io, plan, service

NAME = "a" * 32


class Tired:
    """A clock whose time passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def write(path: pathlib.Path, count: int, name: str = NAME) -> service.Chain:
    chain = service.Chain(io.FileStore(str(path)), name)
    for number in range(count):
        chain.add(plan.body("changed", "r", f"t{number}", {"task": f"task {number}"}, ()))
    return chain


@pytest.fixture
def own(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "state" / "acme" / "evidence.jsonl"


def test_a_record_is_readable_by_its_owner_alone(own: pathlib.Path) -> None:
    old = os.umask(0)
    try:
        write(own, 1)
    finally:
        os.umask(old)
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert stat.S_IMODE(own.parent.stat().st_mode) == 0o700


def test_records_follow_each_other_across_runs(own: pathlib.Path) -> None:
    write(own, 2)
    again = write(own, 0, "b" * 32)
    again.check()
    head = again.add(plan.body("changed", "r", "t", {}, ()))
    # The chain keeps the name that its first run gave it.
    assert (head.chain, head.seq) == (NAME, 3)
    assert plan.inspect(own.read_text()).problems == ()


def test_two_runs_at_once_share_one_chain(own: pathlib.Path) -> None:
    first, second = write(own, 1), write(own, 1)
    for chain in (first, second, first, first, second):
        chain.add(plan.body("changed", "r", "t", {}, ()))
    verdict = plan.inspect(own.read_text())
    assert (verdict.problems, len(verdict.lines)) == ((), 7)


def test_what_was_cut_off_is_dropped_by_the_next_record(own: pathlib.Path) -> None:
    write(own, 2)
    whole = own.read_text()
    for cut in (1, 30, len(whole.splitlines()[1])):
        own.write_text(whole + whole.splitlines()[1][:cut])
        chain = write(own, 0)
        chain.check()
        assert chain.add(plan.body("changed", "r", "t", {}, ())).seq == 3
        assert plan.inspect(own.read_text()).problems == ()


def test_only_an_unfinished_first_line_is_a_chain_not_yet_begun(own: pathlib.Path) -> None:
    own.parent.mkdir(parents=True)
    own.write_text('{"seq":')
    assert write(own, 1)
    assert plan.inspect(own.read_text()).problems == ()


def test_a_tampered_record_is_not_continued(own: pathlib.Path) -> None:
    write(own, 3)
    own.write_text(own.read_text().replace("task 1", "task 9"))
    before = own.read_bytes()
    with pytest.raises(Refused) as caught:
        write(own, 0).check()
    assert caught.value.refusal.code == "chain_broken"
    # The last line alone is looked at when something is added.
    own.write_text(own.read_text().replace("task 2", "task 9"))
    before = own.read_bytes()
    with pytest.raises(Refused):
        write(own, 1)
    assert own.read_bytes() == before


def test_a_full_disk_leaves_no_half_line(own: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(own, 1)
    before = own.read_bytes()
    real = os.write

    def half(handle: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return real(handle, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(DedicatedError, match="No space left") as caught:
        write(own, 1)
    assert caught.value.details["code"] == "evidence_file"
    assert own.read_bytes() == before


def test_a_link_is_not_followed(own: pathlib.Path, tmp_path: pathlib.Path) -> None:
    own.parent.mkdir(parents=True)
    own.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DedicatedError):
        write(own, 1)
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_is_not_waited_for_without_end(own: pathlib.Path) -> None:
    write(own, 1)
    store = io.FileStore(str(own), Tired())
    with own.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DedicatedError, match="another process holds it"):
            store.read()
    assert store.read() == own.read_text()


# The host's side


def test_a_host_gets_what_it_lacks_and_keeps_it(own: pathlib.Path, tmp_path: pathlib.Path) -> None:
    write(own, 3)
    lines = plan.inspect(own.read_text()).lines
    copy = tmp_path / "host" / "evidence" / f"{NAME}.jsonl"
    store = io.FileStore(str(copy))
    assert service.keep(store, (), "node1", dry_run=False) == (None, 0)
    assert service.keep(store, lines[:2], "node1", dry_run=True) == (None, 2)
    assert not copy.parent.exists()
    head, added = service.keep(store, lines[:2], "node1", dry_run=False)
    assert (head and head.seq, added) == (2, 2)
    head, added = service.keep(store, lines, "node1", dry_run=False)
    assert (head and head.seq, added) == (3, 1)
    assert copy.read_bytes() == own.read_bytes()
    before = copy.stat().st_mtime_ns
    assert service.keep(store, lines, "node1", dry_run=False)[1] == 0
    assert copy.stat().st_mtime_ns == before


def test_a_host_that_refuses_writes_nothing(own: pathlib.Path, tmp_path: pathlib.Path) -> None:
    write(own, 3)
    lines = plan.inspect(own.read_text()).lines
    copy = tmp_path / "host" / f"{NAME}.jsonl"
    store = io.FileStore(str(copy))
    with pytest.raises(Refused):
        service.keep(store, lines[1:], "node1", dry_run=False)
    assert not copy.exists()
    service.keep(store, lines[:1], "node1", dry_run=False)
    before = copy.read_bytes()
    for sent in (lines[2:], ("x",)):
        with pytest.raises(Refused):
            service.keep(store, sent, "node1", dry_run=False)
        assert copy.read_bytes() == before


@pytest.mark.parametrize("name", ["", "..", "../etc/x", "A" * 32, "a" * 31, f"{NAME}\n"])
def test_a_host_makes_no_file_under_a_name_that_is_not_ours(name: str) -> None:
    with pytest.raises(DedicatedError):
        service.host_path("/x", name)
    assert service.host_path("/x", NAME) == f"/x/{NAME}.jsonl"


# Judging


def test_copies_are_judged_alone_and_among_each_other(own: pathlib.Path, tmp_path: pathlib.Path) -> None:
    write(own, 4)
    host = tmp_path / "host"
    host.mkdir()
    copy = host / f"{NAME}.jsonl"
    copy.write_text("".join(own.read_text().splitlines(keepends=True)[:3]))
    (host / "notes.txt").write_text("not ours")
    mine = service.verify(str(own), (), True, "controller")
    assert mine["ok"]
    assert [(one["chain"], one["seq"], one["where"]) for one in mine["heads"]] == [(NAME, 4, "controller")]
    anchors = [plan.Anchor(**one) for one in mine["heads"]]
    theirs = service.verify(str(host), anchors, False, "node1")
    assert theirs["ok"]
    assert [(one["records"], one["behind"]) for one in theirs["copies"]] == [(3, 1)]
    assert "1 behind" in theirs["summary"][0]
    # The other way round nothing may be missing.
    own.write_text("".join(own.read_text().splitlines(keepends=True)[:2]))
    back = service.verify(str(own), [plan.Anchor(**one) for one in theirs["heads"]], True, "controller")
    assert not back["ok"]
    assert [one["code"] for one in back["copies"][0]["problems"]] == ["truncated"]
    assert any("truncated" in line and "node1" in line for line in back["summary"])


def test_a_chain_that_only_others_have_is_told(tmp_path: pathlib.Path) -> None:
    found = service.verify(str(tmp_path / "nothing"), [plan.Anchor(NAME, 7, "x", "node1")], True, "controller")
    assert (found["ok"], found["copies"]) == (True, [])
    assert found["absent"] == [{"chain": NAME, "records": 7, "where": "node1"}]
    assert "node1" in found["summary"][0]


def test_a_summary_stays_short(own: pathlib.Path) -> None:
    write(own, 20)
    own.write_text(own.read_text().replace("task", "tusk"))
    found = service.verify(str(own), (), False, "")
    assert len(found["copies"][0]["problems"]) == 20
    assert len(found["summary"]) == service.SHOWN + 2


# Where a run comes from


class Git:
    """Answers as git does; None when it is not there or hangs."""

    def __init__(self, top: str | None, changed: str = "", missing: bool = False) -> None:
        self.top, self.changed, self.missing = top, changed, missing

    def find(self, program: str) -> str | None:
        return None if self.missing else program

    def run(self, argv: t.Sequence[str], env: object = None, stdin: object = None, timeout: float = 60) -> Completed:
        if self.missing:
            raise DedicatedError("git cannot be started: No such file or directory")
        if self.top is None:
            return Completed(tuple(argv), 128, "", "not a git repository")
        return Completed(tuple(argv), 0, f"{self.top}\n{'e' * 40}\n" if "rev-parse" in argv else self.changed, "")


def test_the_commit_and_whether_something_differs(tmp_path: pathlib.Path) -> None:
    here = str(tmp_path)
    assert io.commit(Git(here), here) == {"commit": "e" * 40, "dirty": False}
    assert io.commit(Git(here, " M hosts.yml\n"), here) == {"commit": "e" * 40, "dirty": True}
    assert io.commit(Git(None), here) is None
    assert io.commit(Git(here, missing=True), here) is None


def test_what_lies_inside_another_repository_is_not_its_commit(tmp_path: pathlib.Path) -> None:
    inner = tmp_path / "collections" / "odoo"
    assert io.commit(Git(str(tmp_path)), str(inner), own=True) is None
    assert io.commit(Git(str(inner)), str(inner), own=True) is not None


def test_the_inventory_is_its_source_and_the_variables_beside_it(tmp_path: pathlib.Path) -> None:
    for name in (
        "hosts.yml",
        "group_vars/all/settings.yml",
        "host_vars/n1.yml",
        "other.yml",
        "pki/ca.pem",
        "group_vars/all/.hidden",
        "group_vars/all/old.bak",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    one = [name for name, _hash in io.inventory_files([str(tmp_path / "hosts.yml")])]
    assert one == ["group_vars/all/settings.yml", "host_vars/n1.yml", "hosts.yml"]
    whole = io.inventory_files([str(tmp_path)])
    assert [name for name, _hash in whole] == [*one, "other.yml"]
    (tmp_path / "pki" / "ca.pem").write_text("renewed")
    assert io.inventory_files([str(tmp_path)]) == whole
    (tmp_path / "host_vars" / "n1.yml").write_text("changed")
    assert io.inventory_files([str(tmp_path)]) != whole
    assert [name for name, _hash in io.inventory_files(["node1,"])] == ["source node1,"]

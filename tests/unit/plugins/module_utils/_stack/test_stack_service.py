# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stacks on a real file system, below a temporary directory; commands are faked."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import Completed
from ansible_collections.dedicated.odoo.plugins.module_utils._stack import io, model, plan
from ansible_collections.dedicated.odoo.plugins.module_utils._stack.compose import HASH_LABEL
from ansible_collections.dedicated.odoo.plugins.module_utils._stack.service import Outcome, StackService

CANARY = "canary-9b1f"


class HomelyHost(io.RealHost):
    """The real host, on which everybody's number is ours, so that the tests need not be root."""

    def __init__(self, root: Path) -> None:
        super().__init__("x", key_file=str(root / "etc" / ".hash-key"), scratch=str(root / "scratch"))
        self.writes_left: int | None = None
        (root / "scratch").mkdir(exist_ok=True)

    def owner(self, name: str) -> int | None:
        return None if name == "nobody-knows" else os.getuid()

    def group(self, name: str) -> int | None:
        return os.getgid()

    def _write(self, path: str, content: bytes, mode: int, uid: int | None, gid: int | None) -> None:
        if self.writes_left is not None:
            if self.writes_left == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.writes_left -= 1
        super()._write(path, content, mode, uid, gid)


@dataclasses.dataclass
class FakeRunner:
    """Programs by name; a program is what it does with its arguments."""

    programs: dict[str, t.Callable[[t.Sequence[str]], tuple[int, str]]] = dataclasses.field(default_factory=dict)
    calls: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    def find(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if program in self.programs else None

    def run(
        self,
        argv: t.Sequence[str],
        env: t.Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> Completed:
        self.calls.append(tuple(argv))
        rc, stderr = self.programs[argv[0]](argv[1:])
        return Completed(tuple(argv), rc, "", stderr)


@dataclasses.dataclass
class Lab:
    root: Path
    host: HomelyHost
    runner: FakeRunner

    @property
    def home(self) -> Path:
        return self.root / "opt" / "x"

    def request(self, *files: dict[str, t.Any], **changes: t.Any) -> model.Request:
        defaults = {
            "mode": "0440", "owner": "root", "group": "root", "on_change": "recreate", "services": [], "secret": False,
        }  # fmt: skip
        request = model.parse(
            {
                "name": "x",
                "directory": str(self.home),
                "definition": {"services": {"web": {"image": "i"}, "cron": {"image": "i"}}},
                "files": [{**defaults, **file} for file in files],
                "secrets": {"pw": CANARY},
                **changes,
            }
        )
        assert isinstance(request, model.Request), request
        return request

    def service(self, check_mode: bool = False) -> StackService:
        return StackService(self.host, self.runner, check_mode)

    def lay_down(self, *files: dict[str, t.Any], check_mode: bool = False, **changes: t.Any) -> Outcome:
        return self.service(check_mode).lay_down(self.request(*files, **changes), with_diff=True)

    def labels(self) -> dict[str, str]:
        project = yaml.safe_load((self.home / "compose.yaml").read_text())
        return {name: body["labels"][HASH_LABEL] for name, body in project["services"].items()}

    def tree(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    root = tmp_path.resolve()
    return Lab(root, HomelyHost(root), FakeRunner())


A = {"path": "conf/a", "content": "one\n", "services": ["web"]}
PW = {"path": "secrets/pw", "content_from": "pw", "mode": "0400", "on_change": "acl"}


def test_files_land_with_their_modes_and_the_second_call_does_nothing(lab: Lab) -> None:
    first = lab.lay_down(A, PW).as_result()
    assert first["changed"]
    assert first["first_deploy"]
    assert first["compose_file"] == str(lab.home / "compose.yaml")
    assert (lab.home / "conf/a").read_text() == "one\n"
    assert stat.S_IMODE((lab.home / "secrets/pw").stat().st_mode) == 0o400
    assert stat.S_IMODE((lab.home / "compose.yaml").stat().st_mode) == 0o640
    assert stat.S_IMODE(lab.home.stat().st_mode) == 0o750
    assert stat.S_IMODE((lab.root / "etc/.hash-key").stat().st_mode) == 0o600
    second = lab.lay_down(A, PW).as_result()
    assert not second["changed"]
    assert second["plan"] == []
    assert not list(lab.root.rglob("*.dedicated-stage"))


def test_check_mode_predicts_what_the_run_does_and_touches_nothing(lab: Lab) -> None:
    before = lab.tree()
    predicted = lab.lay_down(A, PW, check_mode=True).as_result()
    assert lab.tree() == before
    assert not lab.home.exists()
    assert lab.lay_down(A, PW).as_result() == predicted
    assert not lab.lay_down(A, PW, check_mode=True).as_result()["changed"]


def test_the_label_follows_the_files_of_its_service(lab: Lab) -> None:
    lab.lay_down(A, PW)
    before = lab.labels()
    lab.lay_down({**A, "content": "two\n"}, PW)
    after = lab.labels()
    assert after["web"] != before["web"]
    assert after["cron"] == before["cron"]


def test_a_compose_file_that_missed_its_landing_lands_although_no_file_changed(lab: Lab) -> None:
    lab.lay_down(A)
    text = (lab.home / "compose.yaml").read_bytes()
    lab.lay_down({**A, "content": "two\n"})
    (lab.home / "compose.yaml").write_bytes(text)
    outcome = lab.lay_down({**A, "content": "two\n"})
    assert outcome.plan.paths(plan.LAND) == [str(lab.home / "compose.yaml")]


def test_secrets_are_in_their_file_and_nowhere_else(lab: Lab) -> None:
    outcome = lab.lay_down(A, PW)
    assert CANARY not in repr(outcome)
    assert CANARY not in str(outcome.as_result())
    changed = lab.lay_down(A, PW, secrets={"pw": CANARY + "2"})
    assert CANARY not in repr(changed)
    assert any("withheld" in entry["after"] for entry in changed.diff)
    gone = lab.lay_down(A)
    assert CANARY not in repr(gone)
    lab.lay_down(A, PW)
    plain = lab.lay_down(A, {"path": "secrets/pw", "content": "no secret any more\n"})
    assert CANARY not in repr(plain)
    holders = [path for path, content in lab.tree().items() if CANARY.encode() in content]
    assert holders == []
    lab.lay_down(A, PW)
    assert [path for path, content in lab.tree().items() if CANARY.encode() in content] == ["opt/x/secrets/pw"]


def test_ordinary_files_show_their_difference(lab: Lab) -> None:
    lab.lay_down(A)
    diff = {entry["after_header"]: entry for entry in lab.lay_down({**A, "content": "two\n"}).diff}
    entry = diff[str(lab.home / "conf/a")]
    assert (entry["before"], entry["after"]) == ("one\n", "two\n")


def test_what_is_no_longer_declared_goes_and_what_was_never_ours_stays(lab: Lab) -> None:
    lab.lay_down(A, PW)
    (lab.home / "conf/notes").write_text("mine")
    outcome = lab.lay_down(A).as_result()
    assert outcome["removed_files"] == [str(lab.home / "secrets/pw")]
    assert (lab.home / "conf/notes").exists()


def test_reloads_are_pending_until_they_are_marked(lab: Lab) -> None:
    assert lab.lay_down(A, PW).plan.pending == ()
    assert lab.lay_down(A, PW, secrets={"pw": "other"}).plan.pending == ("acl",)
    assert lab.lay_down(A, PW, secrets={"pw": "other"}).plan.pending == ("acl",)
    marked = lab.service().mark("x", str(lab.home), ["acl"])
    assert marked.as_result()["changed"]
    assert lab.lay_down(A, PW, secrets={"pw": "other"}).plan.pending == ()
    assert not lab.service().mark("x", str(lab.home), ["acl"]).as_result()["changed"]


def test_a_lost_state_makes_every_group_pending(lab: Lab) -> None:
    lab.lay_down(A, PW)
    (lab.home / ".stack.json").unlink()
    assert lab.lay_down(A, PW).plan.pending == ("acl",)


def test_watched_files_change_labels_and_must_be_there(lab: Lab) -> None:
    watched = lab.root / "cert.pem"
    watch = [{"path": str(watched), "on_change": "recreate"}]
    with pytest.raises(Refused) as caught:
        lab.lay_down(A, watch=watch)
    assert caught.value.refusal.code == "watched_file_missing"
    assert not lab.home.exists()
    assert lab.lay_down(A, watch=watch, check_mode=True).as_result()["changed"]
    watched.write_text("1")
    lab.lay_down(A, watch=watch)
    before = lab.labels()
    watched.write_text("2")
    lab.lay_down(A, watch=watch)
    assert lab.labels()["cron"] != before["cron"]


def test_a_full_disk_lands_nothing_and_leaves_no_stage(lab: Lab) -> None:
    lab.lay_down(A, PW)
    landed = {path: text for path, text in lab.tree().items() if not path.endswith(".stack.json")}
    # The state and one of two contents still fit.
    lab.host.writes_left = 2
    with pytest.raises(DedicatedError, match="No space left on device"):
        lab.lay_down({**A, "content": "two\n"}, PW)
    assert {path: text for path, text in lab.tree().items() if not path.endswith(".stack.json")} == landed
    lab.host.writes_left = None
    lab.lay_down({**A, "content": "two\n"}, PW)
    assert (lab.home / "conf/a").read_text() == "two\n"
    assert not lab.lay_down({**A, "content": "two\n"}, PW).as_result()["changed"]


def test_what_a_killed_run_had_staged_is_swept(lab: Lab) -> None:
    lab.lay_down(A)
    stage = Path(io.stage_name(str(lab.home / "conf/a")))
    stage.write_text("half of a")
    lab.lay_down({**A, "content": "two\n"})
    assert not stage.exists()


def test_a_link_is_not_followed(lab: Lab) -> None:
    lab.lay_down(A)
    (lab.home / "conf/a").unlink()
    (lab.home / "conf/a").symlink_to(lab.root / "elsewhere")
    with pytest.raises(Refused) as caught:
        lab.lay_down(A)
    assert caught.value.refusal.code == "not_a_file"
    (lab.home / "conf/a").unlink()
    (lab.home / "conf").rmdir()
    (lab.root / "other").mkdir()
    (lab.home / "conf").symlink_to(lab.root / "other")
    with pytest.raises(DedicatedError):
        lab.lay_down(A)
    assert list((lab.root / "other").iterdir()) == []


def test_unknown_owner_is_refused_only_when_it_matters(lab: Lab) -> None:
    file = {**A, "owner": "nobody-knows"}
    assert lab.lay_down(file, check_mode=True).as_result()["changed"]
    with pytest.raises(Refused) as caught:
        lab.lay_down(file)
    assert caught.value.refusal.code == "unknown_owner"


def test_checkers_see_the_whole_staged_tree_and_can_stop_everything(lab: Lab) -> None:
    def checker(argv: t.Sequence[str]) -> tuple[int, str]:
        staged = Path(argv[0])
        assert (staged.parent / "b").read_text() == "b"
        assert (Path(argv[1]) / "conf/b").exists()
        return (0, "") if staged.read_text() == "one\n" else (1, f"{staged}: line 1: bad")

    lab.runner.programs["checker"] = checker
    validate = [{"file": "conf/a", "argv": ["checker", "%s", "%d"]}]
    other = {"path": "conf/b", "content": "b"}
    lab.lay_down(A, other, validate=validate)
    before = lab.tree()
    with pytest.raises(DedicatedError, match=r"conf/a is refused by checker: .*line 1: bad") as caught:
        lab.lay_down({**A, "content": "two\n"}, other, validate=validate)
    assert caught.value.details["code"] == "invalid_content"
    assert lab.tree() == before
    calls = len(lab.runner.calls)
    lab.lay_down(A, other, validate=validate)
    assert len(lab.runner.calls) == calls, "an unchanged file was checked"


def test_what_a_checker_says_of_a_secret_file_is_withheld(lab: Lab) -> None:
    lab.runner.programs["checker"] = lambda argv: (1, f"cannot parse {CANARY}")
    with pytest.raises(DedicatedError) as caught:
        lab.lay_down(PW, validate=[{"file": "secrets/pw", "argv": ["checker", "%s"]}])
    assert CANARY not in caught.value.msg


def test_a_missing_checker_is_refused_but_not_in_check_mode(lab: Lab) -> None:
    validate = [{"file": "conf/a", "argv": ["checker", "%s"]}]
    assert lab.lay_down(A, validate=validate, check_mode=True).as_result()["changed"]
    with pytest.raises(Refused) as caught:
        lab.lay_down(A, validate=validate)
    assert caught.value.refusal.code == "checker_missing"


def test_compose_checks_the_project_where_it_is_installed(lab: Lab) -> None:
    lab.runner.programs["docker"] = lambda argv: (1, "unknown command") if argv[1] == "version" else (1, "never asked")
    lab.lay_down(A)
    lab.runner.programs["docker"] = lambda argv: (0, "") if argv[1] == "version" else (1, "services.web: bad image")
    with pytest.raises(DedicatedError, match=r"compose\.yaml is refused by docker: services\.web: bad image"):
        lab.lay_down({**A, "content": "two\n"})
    argv = next(call for call in reversed(lab.runner.calls) if "config" in call)
    assert argv[:3] == ("docker", "compose", "--project-directory")
    assert argv[-2:] == ("config", "--quiet")


def test_without_a_definition_there_is_no_compose_file(lab: Lab) -> None:
    outcome = lab.lay_down({**A, "services": []}, definition=None).as_result()
    assert outcome["compose_file"] is None
    assert not (lab.home / "compose.yaml").exists()


def test_removal_takes_ours_and_reports_the_rest(lab: Lab) -> None:
    lab.lay_down(A, PW)
    (lab.home / "conf/notes").write_text("mine")
    predicted = lab.service(check_mode=True).remove(lab.request(), False, None).as_result()
    outcome = lab.service().remove(lab.request(), False, None).as_result()
    assert predicted == outcome
    assert outcome["left_files"] == [str(lab.home / "conf/notes")]
    assert [path for path in lab.tree() if path.startswith("opt/")] == ["opt/x/conf/notes"]
    (lab.home / "conf/notes").unlink()
    lab.service().remove(lab.request(), False, None)
    assert not lab.home.exists()
    assert not lab.service().remove(lab.request(), False, None).as_result()["changed"]


@pytest.mark.parametrize("confirm", [None, "", "y"])
def test_data_is_purged_only_when_its_stack_is_named(lab: Lab, confirm: str | None) -> None:
    with pytest.raises(Refused) as caught:
        lab.service().remove(lab.request(), True, confirm)
    assert caught.value.refusal.code == "not_confirmed"


def test_the_hash_key_is_made_once_even_by_two_at_a_time(lab: Lab) -> None:
    first = lab.host.key(create=True)
    assert len(first) == 64
    assert lab.host.key(create=True) == first
    assert lab.host.key(create=False) == first
    assert [path.name for path in (lab.root / "etc").iterdir()] == [".hash-key"]


def test_the_whole_tree_survives_a_kill_at_any_write(lab: Lab) -> None:
    """Contents, state and checks by a disk that ends after each number of writes, then a run that may write."""
    lab.lay_down(A, PW)
    for allowed in range(8):
        lab.host.writes_left = allowed
        content = f"{allowed}\n"
        try:
            lab.lay_down({**A, "content": content}, PW, secrets={"pw": content})
        except DedicatedError:
            lab.host.writes_left = None
            assert lab.lay_down({**A, "content": content}, PW, secrets={"pw": content}).plan.pending == ("acl",)
        lab.host.writes_left = None
        assert (lab.home / "conf/a").read_text() == content
        assert not lab.lay_down({**A, "content": content}, PW, secrets={"pw": content}).as_result()["changed"]
        lab.service().mark("x", str(lab.home), ["acl"])


# -- watched files that somebody else replaces -----------------------------------------------------------------------


@pytest.fixture
def watching(lab: Lab) -> tuple[Lab, dict[str, t.Any]]:
    """A stack that reloads for one certificate and recreates a service for another."""
    for name in ("told", "recreated"):
        (lab.root / name).write_text("old")
    watch = [
        {"path": str(lab.root / "told"), "on_change": "pki", "services": []},
        {"path": str(lab.root / "recreated"), "on_change": "recreate", "services": ["web"]},
    ]
    lab.lay_down(A, PW, watch=watch)
    return lab, {"watch": watch}


def rewatch(lab: Lab, *groups: str, check_mode: bool = False, **instead: str) -> Outcome:
    paths = {str(lab.root / name): str(lab.root / other) for name, other in instead.items()}
    return lab.service(check_mode).rewatch("x", str(lab.home), paths, groups, with_diff=True)


def test_after_a_rewatch_the_next_landing_finds_nothing(watching: tuple[Lab, dict[str, t.Any]]) -> None:
    lab, given = watching
    before = lab.labels()
    assert not rewatch(lab).as_result()["changed"]
    for name in ("told", "recreated"):
        (lab.root / name).write_text("new")
    predicted = rewatch(lab, "pki", check_mode=True).as_result()
    assert lab.labels() == before
    done = rewatch(lab, "pki").as_result()
    assert (done["plan"], done["changed_files"]) == (predicted["plan"], [str(lab.home / "compose.yaml")])
    assert done["pending_reloads"] == []
    assert lab.labels()["web"] != before["web"]
    assert lab.labels()["cron"] == before["cron"]
    again = lab.lay_down(A, PW, **given).as_result()
    assert (again["changed"], again["pending_reloads"]) == (False, [])


def test_a_group_that_nobody_told_stays_pending(watching: tuple[Lab, dict[str, t.Any]]) -> None:
    lab, given = watching
    (lab.root / "told").write_text("new")
    assert rewatch(lab).as_result()["pending_reloads"] == ["pki"]
    assert lab.lay_down(A, PW, **given).as_result()["pending_reloads"] == ["pki"]
    (lab.root / "told").write_text("old")
    # It may have been read in between.
    assert rewatch(lab).as_result()["pending_reloads"] == ["pki"]
    with pytest.raises(Refused) as caught:
        rewatch(lab, "other")
    assert caught.value.refusal.code == "unknown_reload_group"


def test_labels_can_be_made_for_a_file_before_it_lands(watching: tuple[Lab, dict[str, t.Any]]) -> None:
    lab, given = watching
    before = lab.labels()
    (lab.root / "staged").write_text("new")
    rewatch(lab, recreated="staged")
    made = lab.labels()
    assert made["web"] != before["web"]
    (lab.root / "recreated").write_text("new")
    assert not rewatch(lab).as_result()["changed"]
    assert not lab.lay_down(A, PW, **given).as_result()["changed"]
    # It did not come to that: the labels of what lies there, letter for letter.
    (lab.root / "recreated").write_text("old")
    text = (lab.home / "compose.yaml").read_bytes()
    rewatch(lab)
    assert (lab.labels(), (lab.home / "compose.yaml").read_bytes() != text) == (before, True)
    assert not lab.lay_down(A, PW, **given).as_result()["changed"]


def test_a_file_of_our_own_that_was_changed_by_hand_is_still_found(watching: tuple[Lab, dict[str, t.Any]]) -> None:
    lab, given = watching
    (lab.home / "conf/a").chmod(0o644)
    (lab.home / "conf/a").write_text("by hand")
    rewatch(lab, "pki")
    landed = lab.lay_down(A, PW, **given).as_result()
    assert {str(lab.home / "conf/a"), str(lab.home / "compose.yaml")} <= set(landed["changed_files"])


def test_a_stack_that_never_landed_has_nothing_to_rewatch(lab: Lab) -> None:
    with pytest.raises(Refused) as caught:
        rewatch(lab)
    assert caught.value.refusal.code == "never_landed"
    assert not lab.home.exists()

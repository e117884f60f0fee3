# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restore that is cut off anywhere goes on; whatever fails is told by name."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DeadlineError,
    DedicatedError,
    Refused,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import Completed
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest import restore_io
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest.restore_io import Directory, Docker
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest.restore_plan import Request, asked
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest.restore_service import RestoreService, Wish

SEGMENTS = {f"{'0' * 7}1{'0' * 14}{number:02X}-{'a' * 40}.zst": {"time": 100 + number} for number in range(10, 30)}
INFO = [
    {
        "name": "acme",
        "status": {"code": 0, "message": "ok"},
        "archive": [{"id": "17-1", "database": {"id": 1, "repo-key": 1}}],
        "backup": [
            {
                "label": "20261130-010000F",
                "type": "full",
                "error": None,
                "timestamp": {"start": 100, "stop": 112},
                "lsn": {"start": "0/A000028", "stop": "0/C000000"},
                "archive": {"start": "00000001000000000000000A", "stop": "00000001000000000000000B"},
                "info": {"size": 1000},
                "database": {"id": 1, "repo-key": 1},
            }
        ],
    }
]
FACTS = {"timeline": 2, "lsn": "0/1D000100", "system_id": "777", "last_transaction_at": 120.5}


class Cut(Exception):
    """Ansible dies here."""


class Clock:
    def __init__(self, world: World) -> None:
        self.now, self._world = 0.0, world

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._world.tick()


class World:
    """A Docker engine with a pgBackRest and a PostgreSQL in it, as its client shows them."""

    def __init__(self, data: pathlib.Path) -> None:
        self.containers: dict[str, dict[str, t.Any]] = {}
        self.data, self.info, self.text = data, INFO, ""
        self.conf = data.parents[1] / "conf"
        self.configured(1)
        self.away: set[int] = set()
        self.cut_after: int | None = None
        self.calls: list[list[str]] = []
        self.fail: dict[str, tuple[int, str]] = {}
        self.begun: list[str] = []

    def find(self, program: str) -> str:
        return program

    def configured(self, *numbers: int) -> None:
        self.conf.mkdir(exist_ok=True)
        lines = [f"repo{number}-type=s3\n" for number in numbers]
        (self.conf / "pgbackrest.conf").write_text("[global]\n" + "".join(lines))

    def tick(self) -> None:
        """Time passes: what fetches comes to its end, what recovers is promoted."""
        for name, one in self.containers.items():
            if one["status"] != "running":
                continue
            if name.endswith("-fetch"):
                code, said = self.fail.get("fetch", (0, "restore command end: completed successfully"))
                (self.data / "17").mkdir(exist_ok=True)
                if code == 0:
                    (self.data / "17" / "PG_VERSION").write_text("17")
                one.update(status="exited", code=code, said=said)
            elif "recover" in self.fail and name.endswith("-recover"):
                one.update(status="exited", code=1, said=self.fail["recover"][1])
            else:
                one["promoted"] = True

    def run(
        self,
        argv: t.Sequence[str],
        env: t.Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> Completed:
        if self.cut_after is not None:
            if self.cut_after == 0:
                raise Cut
            self.cut_after -= 1
        words = list(argv)
        self.calls.append(words)
        rc, out, err = getattr(self, "_" + words[1])(words[2:], stdin or "")
        return Completed(tuple(words), rc, out, err)

    def _run(self, words: list[str], _stdin: str) -> tuple[int, str, str]:
        name = words[words.index("--name") + 1]
        if "--rm" in words:
            code, said = self.fail.get("ask", (0, ""))
            if any(f"--repo={number}" in words for number in self.away):
                code, said = 1, "ERROR: [049]: unable to connect to 'store:8333': [HostConnectError]"
            if code:
                return code, "", said
            if words[-1] == "info":
                return 0, self.text or json.dumps(self.info), ""
            return 0, json.dumps(SEGMENTS), ""
        assert name not in self.containers, "the name is in use"
        self.begun.append(name)
        self.containers[name] = {"status": "running", "code": 0, "said": "", "promoted": False, "words": words}
        return 0, "", ""

    def _inspect(self, words: list[str], _stdin: str) -> tuple[int, str, str]:
        one = self.containers.get(words[-1])
        return (0, f"{one['status']} {one['code']}\n", "") if one else (1, "", "no such container")

    def _logs(self, words: list[str], _stdin: str) -> tuple[int, str, str]:
        return 0, self.containers[words[-1]]["said"], ""

    def _exec(self, words: list[str], stdin: str) -> tuple[int, str, str]:
        one = self.containers[words[1]]
        if not one["promoted"]:
            return 2, "", "the database system is starting up"
        return 0, "f" if "is_in_recovery" in stdin else json.dumps(FACTS) if "CHECKPOINT" in stdin else "1", ""

    def _stop(self, words: list[str], _stdin: str) -> tuple[int, str, str]:
        self.containers[words[-1]]["status"] = "exited"
        return 0, "", ""

    def _rm(self, words: list[str], _stdin: str) -> tuple[int, str, str]:
        self.containers.pop(words[-1], None)
        return 0, "", ""

    def _ps(self, words: list[str], _stdin: str) -> tuple[int, str, str]:
        wanted = words[words.index("--filter") + 1].removeprefix("label=")
        return 0, "\n".join(name for name, one in self.containers.items() if wanted in one["words"]), ""


@pytest.fixture
def world(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> World:
    # Who tests is not root.
    monkeypatch.setattr(restore_io, "UID", os.getuid())
    return World(tmp_path / "copy" / "data")


def request(kind: str = "time", value: str = "1970-01-01 00:01:59+00:00") -> Request:
    found = asked("copy", kind, value)
    assert isinstance(found, Request)
    return found


def place(world: World) -> Directory:
    root = str(world.data.parent.parent)
    return Directory(root, "copy", root)


def service(world: World) -> RestoreService:
    docker = Docker(world, "postgres:1", str(world.conf), "acme", "copy")
    return RestoreService(docker, place(world), Clock(world))


def test_the_whole_way(world: World) -> None:
    result = service(world).run(Wish(request()))
    assert (result["changed"], result["stage"]) == (True, "ready")
    assert result["plan"]["backup"] == "20261130-010000F"
    assert result["recovered"] == {**FACTS, "stopped": ""}
    assert set(result["seconds"]) == {"fetch", "recover", "open"}
    assert world.begun == ["restore-copy-fetch", "restore-copy-recover", "restore-copy"]
    assert list(world.containers) == ["restore-copy"]
    again = service(world).run(Wish(request()))
    assert (again["changed"], again["stage"]) == (False, "ready")
    assert len(world.begun) == 3


def test_what_runs_in_the_end_has_no_network_and_no_keys(world: World) -> None:
    service(world).run(Wish(request()))
    words = world.containers["restore-copy"]["words"]
    assert words[words.index("--network") + 1] == "none"
    assert not [word for word in words if "/etc/pgbackrest" in word]
    assert "archive_mode=off" in words
    assert "listen_addresses=" in words


def test_the_target_reaches_pgbackrest(world: World) -> None:
    service(world).run(Wish(request(), until="fetched"))
    fetch = next(words for words in world.calls if "restore" in words)
    assert "--target=1970-01-01 00:01:59.000000+00:00" in fetch
    assert "--set=20261130-010000F" in fetch
    assert "--archive-mode=off" in fetch
    # The timeline of the backup: its history need not be in the archive.
    assert "--target-timeline=current" in fetch
    assert not [word for word in fetch if "type=latest" in word]


@pytest.mark.parametrize("cut", range(40))
def test_cut_off_anywhere_it_goes_on(world: World, cut: int) -> None:
    """Ansible dies before its n-th call; what runs in containers goes on. Nothing is fetched or promoted twice."""
    world.cut_after = cut
    try:
        service(world).run(Wish(request()))
    except Cut:
        world.tick()
    world.cut_after = None
    result = service(world).run(Wish(request()))
    assert result["stage"] == "ready"
    assert world.begun.count("restore-copy-fetch") == 1
    assert list(world.containers) == ["restore-copy"]


def test_a_plan_touches_nothing(world: World) -> None:
    result = service(world).run(Wish(request(), plan_only=True))
    assert (result["changed"], result["stage"]) == (True, "")
    assert not world.begun
    assert not world.data.parent.exists()


def test_a_target_out_of_reach_touches_nothing(world: World) -> None:
    with pytest.raises(Refused) as caught:
        service(world).run(Wish(request("time", "2026-01-01 00:00:00Z")))
    assert caught.value.refusal.code == "target_outside"
    assert not world.data.parent.exists()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("ERROR: [029]: unable to load info file [CryptoError]\nERROR: [CipherError]", "wrong_key"),
        ("ERROR: [039]: HTTP request failed with 403 (Forbidden): <Code>InvalidAccessKeyId</Code>", "bad_credentials"),
        ("ERROR: [049]: unable to connect to 'store:8333': [HostConnectError]", "store_unreachable"),
        ("ERROR: [199]: something else", "pgbackrest_failed"),
    ],
)
def test_what_pgbackrest_says_has_a_name(world: World, said: str, code: str) -> None:
    world.fail["ask"] = (1, said)
    with pytest.raises(DedicatedError) as caught:
        service(world).run(Wish(request()))
    assert caught.value.details["code"] == code
    assert not world.data.parent.exists()


@pytest.mark.parametrize(
    ("fixture", "code"),
    [
        ("info_wrong_key", "wrong_key"),
        ("info_bad_credentials", "bad_credentials"),
        ("info_unreachable", "store_unreachable"),
        ("info_bad_certificate", "bad_certificate"),
    ],
)
def test_info_ends_well_whatever_it_says(world: World, fixture: str, code: str) -> None:
    """What pgBackRest really says, with exit code 0."""
    world.text = (pathlib.Path(__file__).parent / "fixtures" / f"{fixture}.json").read_text()
    stanza = json.loads(world.text, strict=False)[0]["name"]
    docker = Docker(world, "postgres:1", str(world.conf), stanza, "copy")
    directory = place(world)
    with pytest.raises(DedicatedError) as caught:
        RestoreService(docker, directory, Clock(world)).run(Wish(request("latest", "")))
    assert caught.value.details["code"] == code
    assert caught.value.msg.isprintable()


def second_holds_the_same(world: World) -> None:
    world.configured(2, 1)
    world.info = [
        {
            **INFO[0],
            "archive": [{"id": "17-1", "database": {"id": 1, "repo-key": key}} for key in (1, 2)],
            "backup": [
                {**t.cast("t.Any", INFO[0]["backup"])[0], "database": {"id": 1, "repo-key": key}} for key in (1, 2)
            ],
        }
    ]


@pytest.mark.parametrize(("away", "number"), [((), 1), ((1,), 2), ((2,), 1)])
def test_the_first_repository_that_can_reach_it_is_taken(world: World, away: tuple[int, ...], number: int) -> None:
    second_holds_the_same(world)
    world.away = {*away}
    assert service(world).run(Wish(request(), until="fetched"))["plan"]["repository"] == number
    fetch = next(words for words in world.calls if "restore" in words)
    assert f"--repo={number}" in fetch


def test_the_repository_that_was_named_is_taken_or_none(world: World) -> None:
    second_holds_the_same(world)
    found = asked("copy", "latest", "", repository=2)
    assert isinstance(found, Request)
    assert service(world).run(Wish(found, until="fetched"))["plan"]["repository"] == 2
    world.away = {3}
    other = asked("copy", "latest", "", repository=3)
    assert isinstance(other, Request)
    with pytest.raises(Refused, match="belongs to another restore"):
        service(world).run(Wish(other))


def test_no_repository_can_do_it(world: World) -> None:
    second_holds_the_same(world)
    world.away = {1}
    with pytest.raises(DedicatedError, match=r"(?s)repository 1: .*; repository 2: .*cannot be reached") as caught:
        service(world).run(Wish(request("time", "2026-01-01 00:00:00Z")))
    # The refusal says more than the store that is away.
    assert caught.value.details["code"] == "target_outside"
    assert not world.data.parent.exists()


def test_a_path_is_mounted_to_be_read_where_it_is_there(world: World, tmp_path: pathlib.Path) -> None:
    there = tmp_path / "nfs"
    there.mkdir()
    mounts = {"/var/lib/pgbackrest/1": str(there), "/var/lib/pgbackrest/2": str(tmp_path / "nowhere")}
    docker = Docker(world, "postgres:1", str(world.conf), "acme", "copy", mounts)
    RestoreService(docker, place(world), Clock(world)).run(Wish(request()))
    asked_ones = [words for words in world.calls if "--rm" in words or "restore" in words]
    assert asked_ones
    assert all(f"{there}:/var/lib/pgbackrest/1:ro" in words for words in asked_ones)
    assert not [words for words in world.calls if f"{tmp_path}/nowhere" in str(words)]
    assert not [word for word in world.containers["restore-copy"]["words"] if "/var/lib/pgbackrest" in word]


def test_a_configuration_that_is_not_there(world: World) -> None:
    (world.conf / "pgbackrest.conf").unlink()
    with pytest.raises(DedicatedError) as caught:
        service(world).run(Wish(request()))
    assert caught.value.details["code"] == "no_configuration"


def test_a_fetch_that_fails_is_begun_anew(world: World) -> None:
    world.fail["fetch"] = (82, "ERROR: [082]: the store went away")
    with pytest.raises(DedicatedError, match="the store went away"):
        service(world).run(Wish(request()))
    assert not world.containers
    (world.data / "17" / "half").write_text("a file")
    del world.fail["fetch"]
    assert service(world).run(Wish(request()))["stage"] == "ready"
    # Without PG_VERSION pgBackRest does not go on with it, so that it was cleared.
    assert not (world.data / "17" / "half").exists()


def test_recovery_that_does_not_reach_its_target(world: World) -> None:
    world.fail["recover"] = (1, "FATAL:  recovery ended before configured recovery target was reached")
    with pytest.raises(DedicatedError, match="recovery ended before") as caught:
        service(world).run(Wish(request("name", "never")))
    assert caught.value.details["code"] == "target_not_reached"
    assert not world.containers


def test_a_deleted_repository_asks_for_a_moment_before(world: World) -> None:
    world.info = [{"name": "acme", "status": {"code": 1, "message": "missing stanza path"}}]
    with pytest.raises(DedicatedError, match="repository_time") as caught:
        service(world).run(Wish(request("latest", "")))
    assert caught.value.details["code"] == "no_stanza"


@pytest.mark.parametrize("stage", ["fetched", "recovered", "ready"])
def test_away_with_it(world: World, stage: str) -> None:
    service(world).run(Wish(request(), until=stage))
    assert service(world).remove("copy", check=True)
    assert world.data.parent.exists()
    assert service(world).remove("copy", check=False)
    assert not world.containers
    assert not world.data.parent.exists()
    assert not service(world).remove("copy", check=False)


def test_the_place_of_a_longer_name_stays(world: World) -> None:
    service(world).run(Wish(request()))
    other = {"status": "running", "code": 0, "said": "", "promoted": True, "words": ["dedicated.restore=copy-two"]}
    world.containers["restore-copy-two"] = other
    assert service(world).remove("copy", check=False)
    assert list(world.containers) == ["restore-copy-two"]


def test_what_is_not_ours_is_left(world: World) -> None:
    world.data.mkdir(parents=True)
    for act in (lambda: service(world).run(Wish(request())), lambda: service(world).remove("copy", check=False)):
        with pytest.raises(Refused) as caught:
            act()
        assert caught.value.refusal.code == "place_foreign"
    assert world.data.exists()


def test_a_copy_that_runs_no_more_is_started_again(world: World) -> None:
    service(world).run(Wish(request()))
    world.containers["restore-copy"]["status"] = "exited"
    assert service(world).run(Wish(request()))["changed"]
    assert world.containers["restore-copy"]["status"] == "running"
    assert not service(world).run(Wish(request()))["changed"]


def test_cut_off_while_the_place_is_made(world: World) -> None:
    """The directory is there, and the first state was not yet in its place."""
    world.data.parent.mkdir()
    (world.data.parent / "state.json.new").write_text('{"req')
    assert service(world).run(Wish(request()))["stage"] == "ready"


@pytest.mark.parametrize("stage", ["fetched", "recovered", "ready"])
def test_a_run_whose_ansible_was_killed_works_on_and_is_waited_for(world: World, stage: str) -> None:
    """Both never work in one place: the second finds what the first has done."""
    first, clock = service(world), Clock(world)
    worked: list[str] = []

    class Waiting(Clock):
        def sleep(self, seconds: float) -> None:
            # Meanwhile the first comes to its end, and lets go.
            worked.append(stage)
            held.close()
            super().sleep(seconds)

    with place(world).alone(clock, 1):
        pass
    first.run(Wish(request(), until=stage))
    held = (world.data.parent.parent / "dedicated-restore-copy.lock").open("a")
    fcntl.flock(held, fcntl.LOCK_EX)
    docker = Docker(world, "postgres:1", str(world.conf), "acme", "copy")
    assert RestoreService(docker, place(world), Waiting(world)).run(Wish(request()))["stage"] == "ready"
    assert worked
    assert world.begun.count("restore-copy-fetch") == 1


def test_a_place_that_is_held_for_long_is_told(world: World) -> None:
    with place(world).alone(Clock(world), 1), pytest.raises(DeadlineError, match="an earlier run still works in it"):
        service(world).run(Wish(request(), timeout=3))


def test_a_half_written_state_is_nobodys(world: World) -> None:
    service(world).run(Wish(request(), until="fetched"))
    (world.data.parent / "state.json").write_text('{"request": ')
    with pytest.raises(Refused, match="nobody knows whose"):
        service(world).run(Wish(request()))

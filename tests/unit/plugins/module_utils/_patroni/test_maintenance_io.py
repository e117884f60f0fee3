# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timer's files through a systemd that keeps state, and its script run for real against a small Patroni."""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import http.server
import json
import os
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import Completed
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni import maintenance_plan as mp
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.maintenance_io import SystemdHost
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.plan import merged

RECORD = mp.Record(1_800_000_000, 1_700_000_000, "alice", 'a "until": 5 reason, 100 %')


@dataclasses.dataclass
class Systemd:
    """What systemctl keeps in mind of one timer."""

    root: Path
    enabled: bool = False
    active: bool = False
    broken: bool = False
    calls: list[str] = dataclasses.field(default_factory=list)

    def find(self, program: str) -> str | None:
        return program

    def run(
        self,
        argv: t.Sequence[str],
        env: t.Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> Completed:
        program, verb, *rest = argv
        assert program == "systemctl"
        self.calls.append(" ".join(argv[1:]))
        there = Path(f"{self.root}{mp.TIMER_FILE}").exists()
        if self.broken:
            return Completed(tuple(argv), 1, "", "Failed to connect to bus")
        if verb == "show":
            unit = "enabled" if self.enabled else "disabled" if there else ""
            return Completed(
                tuple(argv), 0, f"ActiveState={'active' if self.active else 'inactive'}\nUnitFileState={unit}\n", ""
            )
        if verb in ("enable", "disable", "restart") and not there:
            return Completed(tuple(argv), 1, "", "Unit not found")
        if verb == "enable":
            self.enabled = True
        if verb == "restart":
            self.active = True
        if verb == "disable":
            self.enabled = False
            self.active = self.active and "--now" not in rest
        return Completed(tuple(argv), 0, "", "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


def test_what_is_laid_down_is_seen_and_removed_without_a_trace(root: Path) -> None:
    systemd = Systemd(root)
    host = SystemdHost(systemd, str(root))
    assert host.timer() is None
    host.lay(RECORD)
    assert host.timer() == mp.Timer(RECORD.until, True)
    assert "OnCalendar=2027-01-15 08:00:00 UTC\n" in (root / mp.TIMER_FILE[1:]).read_text()
    assert (root / mp.SCRIPT_FILE[1:]).stat().st_mode & 0o777 == 0o755
    assert systemd.calls[:3] == [
        "daemon-reload", "enable dedicated-patroni-resume.timer", "restart dedicated-patroni-resume.timer",
    ]  # fmt: skip
    later = dataclasses.replace(RECORD, until=RECORD.until + 600)
    host.lay(later)
    assert host.timer() == mp.Timer(later.until, True)
    host.remove()
    assert host.timer() is None
    assert (systemd.enabled, systemd.active) == (False, False)
    assert [path for path in root.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("path", mp.FILES)
@pytest.mark.parametrize("how", ["gone", "other", "half"])
def test_a_file_that_is_not_as_it_should_be_makes_no_timer(root: Path, path: str, how: str) -> None:
    host = SystemdHost(Systemd(root), str(root))
    host.lay(RECORD)
    file = root / path[1:]
    if how == "gone":
        file.unlink()
    else:
        file.write_text("" if how == "half" else file.read_text() + "x")
    timer = host.timer()
    assert timer is not None
    assert not timer.sound
    host.lay(RECORD)
    assert host.timer() == mp.Timer(RECORD.until, True)
    file.unlink()
    host.remove()
    assert host.timer() is None


@pytest.mark.parametrize("state", ["enabled", "active"])
def test_a_timer_that_does_not_run_or_would_not_after_a_reboot_is_none(root: Path, state: str) -> None:
    systemd = Systemd(root)
    host = SystemdHost(systemd, str(root))
    host.lay(RECORD)
    setattr(systemd, state, False)
    assert host.timer() == mp.Timer(RECORD.until, False)


def test_a_systemctl_that_fails_is_told(root: Path) -> None:
    with pytest.raises(DedicatedError, match="Failed to connect to bus") as caught:
        SystemdHost(Systemd(root, broken=True), str(root)).lay(RECORD)
    assert caught.value.details["code"] == "systemctl_failed"


def test_the_lock_keeps_a_second_run_and_the_script_away(root: Path) -> None:
    one, other = (SystemdHost(Systemd(root), str(root)) for _ in range(2))
    assert one.try_lock()
    assert not other.try_lock()
    one.unlock()
    assert other.try_lock()
    other.unlock()


# -- the script --------------------------------------------------------------------------------------------------------

DOCKER = """#!/bin/sh
[ "$1 $2 $3" = "exec -i postgres" ] || exit 9
shift 3
echo "$*" >> {root}/docker.log
[ -e {root}/container-is-down ] && exit 1
sed 's,/etc/patroni/,{root}/,' > {root}/program
shift 4
[ "$1 $2" = "python3 -" ] || exit 9
exec {python} {root}/program
"""
SYSTEMCTL = """#!/bin/sh
echo "$*" >> {root}/systemctl.log
"""


class Server(http.server.ThreadingHTTPServer):
    """Patroni's REST API with one configuration."""

    deaf = False
    down = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.config: dict[str, t.Any] = {}


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        pause = {"pause": True} if self.server.config.get("pause") else {}
        self._answer({"members": [], **pause} if self.path == "/cluster" else self.server.config)

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wanted = "Basic " + base64.b64encode(b"patroni:s3cret").decode()
        if self.headers["Authorization"] != wanted:
            self._answer({}, 401)
            return
        if not self.server.deaf:
            self.server.config = merged(self.server.config, body)
        self._answer(self.server.config)

    def _answer(self, data: t.Any, status: int = 200) -> None:
        self.send_response(503 if self.server.down else status)
        self.end_headers()
        self.wfile.write(json.dumps(data).encode())

    def log_message(self, *args: t.Any) -> None:
        pass


@dataclasses.dataclass
class Fire:
    root: Path
    server: Server

    def lay(self, until: float) -> None:
        SystemdHost(Systemd(self.root), str(self.root)).lay(dataclasses.replace(RECORD, until=int(until)))

    def __call__(self) -> int:
        path = f"{self.root}/bin:{os.environ['PATH']}"
        script = f"{self.root}{mp.SCRIPT_FILE}"
        done = subprocess.run([script], env={**os.environ, "PATH": path}, check=False, capture_output=True, timeout=60)
        return done.returncode

    def pause(self, until: float | None) -> None:
        record = {} if until is None else {mp.KEY: {**RECORD.as_config(), "until": int(until)}}
        self.server.config = {"ttl": 30, "pause": True, **record}

    @property
    def files(self) -> list[str]:
        return [path for path in mp.FILES if (self.root / path[1:]).exists()]

    def log(self, name: str) -> list[str]:
        file = self.root / f"{name}.log"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def fire(root: Path) -> t.Iterator[Fire]:
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (root / "bin").mkdir()
    for name, text in (("docker", DOCKER), ("systemctl", SYSTEMCTL)):
        file = root / "bin" / name
        file.write_text(text.format(root=root, python=sys.executable))
        file.chmod(0o755)
    login = {"username": "patroni", "password": "s3cret"}
    rest = {"connect_address": f"127.0.0.1:{server.server_address[1]}", "authentication": login}
    (root / "patroni.yml").write_text(json.dumps({"restapi": rest, "ctl": {}}))
    yield Fire(root, server)
    server.shutdown()
    server.server_close()


PAST, FUTURE = time.time() - 100, time.time() + 3600


@pytest.mark.parametrize("until", [PAST, None], ids=["over", "none"])
def test_a_pause_whose_time_is_over_is_ended_and_the_timer_goes(fire: Fire, until: float | None) -> None:
    fire.lay(PAST)
    fire.pause(until)
    assert fire() == 0
    assert fire.server.config == {"ttl": 30}
    assert fire.files == []
    assert fire.log("systemctl") == [
        "disable dedicated-patroni-resume.timer", "--no-block stop dedicated-patroni-resume.timer", "daemon-reload",
    ]  # fmt: skip
    # Inside of the container, with a limit, and without a secret on the command line.
    assert fire.log("docker") == ["timeout -k 5 90 python3 -"]


def test_before_its_time_it_does_not_even_ask(fire: Fire) -> None:
    fire.lay(FUTURE)
    for paused in (True, False):
        fire.server.config = {"pause": paused}
        assert fire() == 0
    assert fire.files == list(mp.FILES)
    assert (fire.log("docker"), fire.log("systemctl")) == ([], [])


def test_a_pause_that_was_renewed_while_this_host_was_away_goes_on(fire: Fire) -> None:
    fire.lay(PAST)
    fire.pause(FUTURE)
    assert fire() == 0
    assert fire.server.config["pause"] is True
    assert fire.files == list(mp.FILES)
    fire.pause(PAST)
    assert fire() == 0
    assert "pause" not in fire.server.config


def test_after_its_time_it_goes_when_nothing_is_paused(fire: Fire) -> None:
    fire.lay(PAST)
    fire.server.config = {"ttl": 30, mp.KEY: {**RECORD.as_config(), "until": int(FUTURE)}}
    assert fire() == 0
    assert fire.files == []


@pytest.mark.parametrize("how", ["container", "store", "deaf", "password"])
def test_what_fails_is_tried_again_by_systemd(fire: Fire, how: str) -> None:
    fire.lay(PAST)
    fire.pause(PAST)
    settings = (fire.root / "patroni.yml").read_text()
    if how == "container":
        (fire.root / "container-is-down").touch()
    elif how == "password":
        (fire.root / "patroni.yml").write_text(settings.replace("s3cret", "old"))
    fire.server.down, fire.server.deaf = how == "store", how == "deaf"
    assert fire() == 1
    assert (fire.server.config["pause"], fire.files) == (True, list(mp.FILES))
    (fire.root / "container-is-down").unlink(missing_ok=True)
    (fire.root / "patroni.yml").write_text(settings)
    fire.server.down = fire.server.deaf = False
    assert fire() == 0
    assert ("pause" in fire.server.config, fire.files) == (False, [])


def test_a_record_of_this_host_that_is_lost_leaves_the_clusters(fire: Fire) -> None:
    fire.lay(FUTURE)
    (fire.root / mp.RECORD_FILE[1:]).unlink()
    fire.pause(FUTURE)
    assert fire() == 0
    assert fire.server.config["pause"] is True
    fire.pause(PAST)
    assert fire() == 0
    assert fire.server.config == {"ttl": 30}


def test_while_the_module_renews_the_script_waits_and_reads_the_new_end(fire: Fire) -> None:
    fire.lay(PAST)
    fire.pause(PAST)
    lock = os.open(f"{fire.root}{mp.LOCK_FILE}", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(fire()))
    thread.start()
    fire.lay(FUTURE)
    os.close(lock)
    thread.join(timeout=60)
    assert results == [0]
    assert fire.server.config["pause"] is True
    assert (fire.files, fire.log("docker")) == (list(mp.FILES), [])


def test_the_program_is_what_the_containers_python_takes() -> None:
    compile(mp.PROGRAM.replace("@KEY@", mp.KEY), "program", "exec")
    script = mp.files(RECORD)[mp.SCRIPT_FILE][0]
    assert "@" not in script
    assert RECORD.reason not in script

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore costs, and what a backup does to those who work: on a table of random text, in the site's database.

plain    `zstd -d | tar -x` of the same data directory from a local file, and a sync: what this machine does anyway
bare     `pgbackrest restore` alone, by the words that the module gives it
module   the module pgbackrest_restore up to the same point, as Ansible calls it on that host
dropped  a table is dropped, comes back from a copy beside the site, and is put in its place: end to end
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
import typing as t

from lab import BUILD, ROOT, Lab
from stats import Spread, ratios, spread, table

THROUGHPUT, OVERHEAD, DROPPED_SECONDS = 0.8, 1.1, 600.0
# Hexadecimal digits of md5: they compress to little more than half, as business data do.
ROW_BYTES = 330
BATCH_ROWS = 250_000
LEG_SECONDS = 15
PLACES = "/var/lib/dedicated/restore"
CONF = "/opt/dedicated/pgbackrest/conf"
UID = "10010"  # of images/postgres/contract.yml
PSQL = ["docker", "exec", "-i", "-u", UID, "postgres", "psql", "-h", "/run/postgresql", "-U", "postgres", "-XAtq",
        "-v", "ON_ERROR_STOP=1"]  # fmt: skip


def timed(what: t.Callable[[], object]) -> float:
    started = time.monotonic()
    what()
    return time.monotonic() - started


class Restore:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.database = lab.facts["database"]
        self.host = next(one["name"] for one in lab.facts["hosts"] if one["container"] == lab.container)
        self.image = json.loads(lab.run("docker", "inspect", "postgres"))[0]["Config"]["Image"]
        self.processes = int(lab.run("sed", "-n", "s/^process-max=//p", f"{CONF}/pgbackrest.conf"))
        self.stanza = self.info()["name"]

    def info(self) -> dict[str, t.Any]:
        said = self.lab.run("docker", "exec", "postgres", "pgbackrest", "--output=json", "info")
        return dict(json.loads(said)[0])

    def newest(self) -> str:
        return str([one for one in self.info()["backup"] if one["database"]["repo-key"] == 1][-1]["label"])

    # -- what is restored ---------------------------------------------------------------------------------------

    def sql(self, text: str, timeout: float = 3600) -> str:
        return self.lab.run(*PSQL, "-d", self.database, stdin=text, timeout=timeout)

    def fill(self, gigabytes: float) -> None:
        rows = int(gigabytes * 2**30 / ROW_BYTES)
        self.sql("DROP TABLE IF EXISTS dedicated_bench; CREATE TABLE dedicated_bench (id bigint, words text)")
        for first in range(1, rows + 1, BATCH_ROWS):
            last = min(first + BATCH_ROWS - 1, rows)
            self.sql(
                "INSERT INTO dedicated_bench SELECT n, (SELECT string_agg(md5(n::text || k), '') FROM"
                f" generate_series(1, 9) k) FROM generate_series({first}, {last}) n"
            )
            print(f"bench: {last} of {rows} rows", flush=True)
        self.sql("ALTER TABLE dedicated_bench ADD PRIMARY KEY (id); CHECKPOINT")

    def playbook(self, name: str, *words: str) -> str:
        argv = [sys.executable, str(ROOT / "tools" / "lab"), "run", name, "-e", "reason=bench", *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"bench: {name} failed\n{done.stdout[-3000:]}")
        return done.stdout

    # -- a backup, and those who work meanwhile -----------------------------------------------------------------

    def legs(self, clients: int, count: int) -> list[dict[str, t.Any]]:
        leg = {"target": "edge", "work": "mix", "clients": clients, "seconds": LEG_SECONDS}
        return self.lab.generate([{**leg, "round": number} for number in range(count)], lambda _leg: None)

    def backup(self, clients: int = 2) -> dict[str, t.Any]:
        """Users at the edge, in legs before, while it runs, and after."""
        calm = self.legs(clients, 3)[1:]
        took: list[float] = []
        thread = threading.Thread(target=lambda: took.append(timed(lambda: self.playbook("backup", "-e", "type=full"))))
        thread.start()
        beside = []
        while thread.is_alive():
            beside += self.legs(clients, 1)
        thread.join()
        if not took:
            raise SystemExit("bench: the backup failed")
        # It ended while the last one was measured.
        beside = beside[:-1] or beside
        calm += self.legs(clients, 2)
        found: dict[str, t.Any] = {"seconds": took[0], "clients": clients}
        for key in ("per_second", "p50_ms", "p95_ms"):
            for when, some in (("calm", calm), ("beside", beside)):
                found.setdefault(key, {})[when] = spread([one[key] for one in some])._asdict()
        return found

    # -- the three ways -----------------------------------------------------------------------------------------

    def clear(self, place: str) -> str:
        """Nothing of it is there, and nothing of what was written before is still to be written."""
        self.lab.run("rm", "-rf", f"{PLACES}/{place}")
        subprocess.run(["sync"], check=True)
        return f"{PLACES}/{place}/data"

    def bare(self, label: str) -> float:
        data = self.clear("bench-bare")
        self.lab.run("install", "-d", "-o", UID, "-g", UID, "-m", "0700", data, f"{data}/17")
        argv = ["docker", "run", "--rm", "--network", "host", "--user", UID, "--cap-drop", "ALL", "--read-only",
                "--tmpfs", "/tmp:mode=1777", "--pull", "never", "--volume", f"{data}:/var/lib/postgresql/data",
                "--volume", f"{CONF}:/etc/pgbackrest:ro", self.image, "pgbackrest", f"--stanza={self.stanza}",
                "--repo=1", f"--set={label}", "--delta", "--archive-mode=off", f"--process-max={self.processes}",
                "--target-timeline=current", "restore"]  # fmt: skip
        return timed(lambda: self.lab.run(*argv, timeout=3600))

    def module(self, label: str) -> float:
        self.clear("bench-module")
        words = {"name": "bench-module", "state": "present", "target_type": "latest", "backup": label, "repository": 1,
                 "until": "fetched", "stanza": self.stanza, "image": self.image, "config_dir": CONF,
                 "processes": self.processes, "timeout": 3600}  # fmt: skip
        argv = [str(ROOT / ".venv/bin/ansible"), self.host, "-i", self.lab.facts["inventory"], "--become",
                "-m", "dedicated.odoo.pgbackrest_restore", "-a", json.dumps(words)]  # fmt: skip
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                       "ANSIBLE_VAULT_PASSWORD_FILE": str(BUILD / "vault-password")}  # fmt: skip

        def call() -> None:
            done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"bench: the module failed\n{done.stdout[-2000:]}")

        return timed(call)

    def plain(self, packed: str) -> float:
        data = self.clear("bench-plain")
        self.lab.run("install", "-d", data)
        # On this machine, which is the hosts': they have no zstd. Their disk is reached through their tar.
        line = (f"zstd -dcq {shlex.quote(packed)} | docker exec -i {self.lab.container}"
                f" sh -c 'tar -xf - -C {data} && sync -f {data}'")  # fmt: skip
        return timed(lambda: subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True))

    def pack(self) -> str:
        packed = str(BUILD / "bench-data.tar.zst")
        line = (f"docker exec {self.lab.container} tar -cf - -C {PLACES}/bench-bare/data ."
                f" | zstd -qf -T0 -o {shlex.quote(packed)}")  # fmt: skip
        subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True)
        return packed

    # -- one table ----------------------------------------------------------------------------------------------

    def dropped(self) -> float:
        """From the order to restore to the last row of the table in its place."""
        look = "SELECT count(*), sum(hashtext(words)::bigint) FROM dedicated_bench"
        before = self.sql(look)
        moment = self.sql("SELECT clock_timestamp()")
        time.sleep(1.1)
        self.sql("DROP TABLE dedicated_bench")
        time.sleep(1.1)
        words = ("-e", "place=bench-dropped", "-e", f"restore_host={self.host}")

        def bring_back() -> None:
            self.sql("SELECT pg_switch_wal()")
            self.playbook("restore_aside", *words, "-e", json.dumps({"target": moment}))
            copy = ["docker", "exec", "-u", UID, "restore-bench-dropped", "pg_dump", "-h", "/run/postgresql", "-U",
                    "postgres", "-t", "dedicated_bench", self.database]  # fmt: skip
            line = f"{shlex.join(copy)} | {shlex.join([*PSQL, '-d', self.database])} >/dev/null"
            self.lab.run("bash", "-o", "pipefail", "-c", line, timeout=3600)

        took = timed(bring_back)
        if self.sql(look) != before:
            raise SystemExit("bench: the table that came back is another one")
        self.playbook("restore_aside", *words, "-e", "state=absent")
        return took


def restore(lab: Lab, gigabytes: float, rounds: int) -> dict[str, t.Any]:
    if shutil.which("zstd") is None:
        raise SystemExit("bench: zstd is not here; apt-get install zstd")
    bench = Restore(lab)
    packed = ""
    try:
        print(f"bench: {gigabytes:g} GB of rows", flush=True)
        bench.fill(gigabytes)
        size = int(bench.sql("SELECT sum(pg_database_size(oid)) FROM pg_database"))
        print("bench: a full backup beside users", flush=True)
        beside = bench.backup()
        label = bench.newest()
        ways: dict[str, list[float]] = {"plain": [], "bare": [], "module": []}
        bench.bare(label)
        packed = bench.pack()
        for number in range(rounds):
            for way in list(ways)[:: 1 if number % 2 == 0 else -1]:
                ways[way].append(bench.plain(packed) if way == "plain" else getattr(bench, way)(label))
                print(f"bench: round {number + 1} of {rounds}: {way} {ways[way][-1]:.1f} s", flush=True)
        for way in ways:
            bench.clear(f"bench-{way}")
        print("bench: a table is dropped", flush=True)
        back = bench.dropped()
    finally:
        for place in ("bench-bare", "bench-module", "bench-plain"):
            bench.clear(place)
        bench.sql("DROP TABLE IF EXISTS dedicated_bench")
        if packed:
            os.unlink(packed)
    throughput, overhead = ratios(ways["plain"], ways["bare"]), ratios(ways["module"], ways["bare"])

    def judged(good: bool) -> str:
        return "reached" if good else "MISSED"

    users = [
        [title, *(Spread(**beside[key][when]).text(1) for when in ("calm", "beside"))]
        for key, title in (("per_second", "requests/s"), ("p50_ms", "p50, ms"), ("p95_ms", "p95, ms"))
    ]
    print(f"\n{size / 2**30:.1f} GB; full backup {beside['seconds']:.0f} s beside {beside['clients']} users\n")
    print(table(["users", "without", "beside the backup"], users))
    print("\n" + table(["restore", "median s (lowest-highest)"], [[way, spread(ways[way]).text()] for way in ways]))
    print(f"\n  throughput of plain: {throughput.text(0, 100)} %, goal {100 * THROUGHPUT:.0f} %:"
          f" {judged(throughput.median >= THROUGHPUT)}"
          f"\n  module over bare: {overhead.text(2)}, goal {OVERHEAD}: {judged(overhead.median <= OVERHEAD)}"
          f"\n  a dropped table is back after {back:.0f} s, goal {DROPPED_SECONDS:.0f} s: "
          f"{judged(back <= DROPPED_SECONDS)}", flush=True)
    return {"bytes": size, "backup": beside, "seconds": ways, "throughput": throughput._asdict(),
            "overhead": overhead._asdict(), "dropped_seconds": back}

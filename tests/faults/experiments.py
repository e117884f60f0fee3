# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The experiments: each puts one fault into the lab, and says what must hold.

The numbers are those of the fault matrix. Bounds are those of the requirements where they give one; otherwise they
follow from the timings: Patroni's lease (ttl 20, loop 5) bounds whatever takes the leader or its word away.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import time
import typing as t

from labtools import Host
from scene import PATRONI, Scene
from verdict import OK, Check, Promise
from web import Web

# The leader vanished without a word: the lease has to run out, unless detectors take the key away before.
LEASE, DETECTED = 22.0, 8.0
POSTGRES = "^postgres: |/bin/postgres -D"
# Patroni itself takes 2.2 s of it (measured by hand, beside raw patronictl).
SWITCHOVER = 2.5
# Every certificate of three hosts, and what writes may notice of it.
ROTATION, ROTATION_GAP = 180.0, 2.0


class Run(t.Protocol):
    """What an experiment may ask of the run that it is part of."""

    scene: Scene
    fault: float
    healed: float

    web: Web
    errors: list[str]  # of the ledger's clients

    def acked(self) -> dict[str, list[float]]: ...


Hosts = list[Host]


def nobody(scene: Scene) -> Hosts:
    return []


def leader(scene: Scene) -> Hosts:
    return [scene.leader()]


def standby(scene: Scene) -> Hosts:
    return [scene.standby()]


def both_standbys(scene: Scene) -> Hosts:
    return [host for host in scene.lab.of("postgres") if host != scene.leader()]


def everyone(scene: Scene) -> Hosts:
    return list(scene.lab.hosts)


def leader_and_standby(scene: Scene) -> Hosts:
    return [scene.leader(), scene.standby()]


def an_odoo_host(scene: Scene) -> Hosts:
    """Not the leader's, so that only one thing is tried."""
    return [next(host for host in scene.lab.of("odoo") if host != scene.leader())]


def address_holder(scene: Scene) -> Hosts:
    """The host that carries the virtual address. The database is led by another, so that only one thing is tried."""
    front = scene.lab.front
    holder = next(host for host in scene.lab.of("edge") if f" {front}/" in host.out("ip -brief -4 address"))
    if holder == scene.leader():
        scene.switch_over()
    return [holder]


@dataclasses.dataclass(frozen=True)
class Experiment:
    name: str
    fault: str
    what: str
    promise: Promise
    inject: t.Callable[[Scene, Hosts], object]
    # Hosts that are themselves away: what their own clients and edges see is written down and not judged.
    victims: t.Callable[[Scene], Hosts] = nobody
    hold: float = 0.0  # seconds until it is taken out again; 0: nothing is to be taken out
    settle: float = 8.0  # seconds watched at least, from the fault on
    detector: bool | None = None  # True: only with detectors
    # With detectors the leader's loss costs less.
    detected: float | None = None
    also: t.Callable[[Run], list[Check]] | None = None
    rejoins: bool = True  # nobody's hand is needed to come back to full redundancy after the healing
    fast: bool = False

    def bound(self, detectors: bool) -> Promise:
        if detectors and self.detected is not None:
            return dataclasses.replace(self.promise, write_gap=self.detected, write_gap_p95=self.detected)
        return self.promise


# --- faults that take more than a line ----------------------------------------------------------------------------


def kill_postmaster(scene: Scene, hosts: Hosts) -> None:
    """The postmaster itself, by its pid file; Patroni lives."""
    scene.leader().run(
        "kill -9 $(ps -eo pid=,args= | awk '$2 ~ /\\/bin\\/postgres$/ && $3 == \"-D\" { print $1; exit }')"
    )


def kill_backend(scene: Scene, hosts: Hosts) -> None:
    """One of the application's backends: PostgreSQL resets all of them."""
    at = scene.leader()
    pid = at.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'odoo' AND datname <> 'postgres' LIMIT 1")[0][0]
    at.inside("postgres", ["kill", "-9", pid])


def kill_etcd_leader(scene: Scene, hosts: Hosts) -> None:
    scene.kill_main(scene.etcd_leader(), "etcd")


def lose_quorum(scene: Scene, hosts: Hosts) -> None:
    """Two of three etcd are gone, that of the leader among them."""
    first = scene.leader()
    scene.each([first, scene.others(first)[0]], lambda host: scene.down(host, "etcd"))


def peers(scene: Scene, host: Host) -> str:
    return "{ " + ", ".join(other.address for other in scene.others(host)) + " }"


def partition(scene: Scene, hosts: Hosts) -> None:
    """From the other hosts, both ways; browsers still reach its edge."""
    others = peers(scene, hosts[0])
    scene.cut(hosts[0], f"in ip saddr {others} drop", f"out ip daddr {others} drop")


def deaf(scene: Scene, hosts: Hosts) -> None:
    scene.cut(hosts[0], f"in ip saddr {peers(scene, hosts[0])} drop")


def mute(scene: Scene, hosts: Hosts) -> None:
    scene.cut(hosts[0], f"out ip daddr {peers(scene, hosts[0])} drop")


def cut_from_etcd(scene: Scene, hosts: Hosts) -> None:
    """From all three, the one on its own host included; everything else goes on."""
    scene.cut(scene.leader(), "out tcp dport 2379 drop", "in tcp sport 2379 drop")


def loss(scene: Scene, hosts: Hosts) -> None:
    scene.cut(hosts[0], f"in ip saddr {peers(scene, hosts[0])} numgen random mod 100 < 30 drop")


def kill_engine(scene: Scene, hosts: Hosts) -> None:
    scene.leader().run("pkill -9 --exact dockerd")


def restart_engine(scene: Scene, hosts: Hosts) -> None:
    scene.leader().run(["systemctl", "restart", "docker"], timeout=200)


def freeze_redis(scene: Scene, hosts: Hosts) -> None:
    scene.pause(scene.redis_master(), "redis")


def lose_redis(scene: Scene, hosts: Hosts) -> None:
    """Nobody is left who could name another master, then the master goes."""
    master = scene.redis_master()
    scene.each(scene.lab.of("redis"), lambda host: scene.down(host, "sentinel"))
    scene.down(master, "redis")


def bad_edge_file(scene: Scene, hosts: Hosts) -> None:
    edge = scene.lab.of("edge")[0]
    path = "/opt/dedicated/edge/conf/dynamic/fault.yml"
    scene.undo(f"remove {path}", lambda: edge.run(["rm", "-f", path]))
    edge.run(f"cat > {path}", stdin="http:\n  routers: [this is: no mapping\n")


def kill_odoo(scene: Scene, hosts: Hosts) -> None:
    """All processes of the container at once, and it stays away until the healing."""
    scene.down(hosts[0], "odoo-web", "odoo-cron")


def freeze_odoo(scene: Scene, hosts: Hosts) -> None:
    scene.pause(hosts[0], "odoo-web")


def kill_edge(scene: Scene, hosts: Hosts) -> None:
    scene.kill_main(scene.lab.of("edge")[0], "traefik")


# --- the failure detector -----------------------------------------------------------------------------------------


def blind_detectors(scene: Scene, hosts: Hosts) -> None:
    """The standbys' detectors get no new connection to the leader; replication, routers and etcd are as they were.

    Told apart by their user, which is PostgreSQL's, and by the first packet: a rule without it would cut replication
    too, and that is no false alarm.
    """
    at = scene.leader().address
    for host in (one for one in scene.detectors() if one != scene.leader()):
        uid = host.out(f"ps -o uid= -p {scene.pid(host, 'detector')}").strip()
        first = "tcp flags & (syn | ack) == syn"
        scene.cut(host, f"out ip daddr {at} tcp dport {{ 5432, 8008 }} {first} meta skuid {uid} drop")


def cut_from_standbys(scene: Scene, hosts: Hosts) -> None:
    """The standbys' hosts reach neither REST nor PostgreSQL of the leader, so nothing replicates; etcd is well."""
    others = peers(scene, hosts[0])
    scene.cut(
        hosts[0],
        f"in ip saddr {others} tcp dport {{ 5432, 8008 }} drop",
        f"out ip daddr {others} tcp sport {{ 5432, 8008 }} drop",
    )


def leader_key(scene: Scene) -> str:
    return f"/dedicated/{scene.lab.variables['dedicated_cluster']}/leader"


def remove_key(scene: Scene, hosts: Hosts) -> None:
    """What a detector does on a false alarm; the leader is healthy."""
    said = scene.etcdctl("del", leader_key(scene))
    if said.split() != ["1"]:
        raise AssertionError(f"{leader_key(scene)} was not there: {said}")


def lie(scene: Scene, hosts: Hosts) -> None:
    """The synchronous standby's detector is stopped, and a vote in its name calls the leader dead, again and again."""
    at = scene.standby()
    key = f"{scene.own_keys}detector/{at.name}"
    scene.down(at, "detector")
    scene.undo("remove the forged vote", lambda: scene.etcdctl("del", key))
    found = json.loads(scene.etcdctl("get", leader_key(scene), "--write-out", "json"))["kvs"][0]
    forged = {
        "version": 1,
        "suspects": base64.b64decode(found["value"]).decode(),
        "leader_mod_revision": found["mod_revision"],
        "silence_seconds": 60.0,
        "streaming": True,
        "evidence": {},
    }
    end = time.monotonic() + 12
    while time.monotonic() < end:
        scene.etcdctl("put", key, stdin=json.dumps(forged))
        time.sleep(0.5)


# --- what is looked at besides ------------------------------------------------------------------------------------


def writes_block_or_go_on(run: Run) -> list[Check]:
    """Strict: nothing is acknowledged while no standby is there. Not strict: it goes on alone, and says so."""
    config = run.scene.config()
    strict = bool(config.get("synchronous_mode_strict"))
    # What was under way when the standbys went may still come back.
    after = [at for moments in run.acked().values() for at in moments if run.fault + 2 < at < run.healed]
    if strict:
        return [Check("no silent asynchrony", not after, f"{len(after)} acknowledged without a standby")]
    first = min(after, default=run.healed) - run.fault
    said = f"{len(after)} acknowledged, the first {first:.1f} s after"
    return [Check("goes on alone (not strict)", bool(after), said)]


def no_transaction_failed(run: Run) -> list[Check]:
    """Neither cut off nor refused: all of them waited."""
    return [Check("transactions", not run.errors, "; ".join(run.errors[:3]) or "none failed")]


def nothing_failed_and_it_was_quick(run: Run) -> list[Check]:
    took = run.healed - run.fault
    return [*no_transaction_failed(run), Check("duration", took <= ROTATION, f"{took:.0f} s, of {ROTATION:.0f} s")]


def no_locks_of_the_dead(run: Run) -> list[Check]:
    """Transactions of clients that are gone hold locks, and hold back vacuum."""
    query = (
        "SELECT client_addr, date_trunc('second', clock_timestamp() - state_change) FROM pg_stat_activity"
        " WHERE state LIKE 'idle in transaction%' AND state_change < clock_timestamp() - interval '45 s'"
    )
    left = [" ".join(row) for row in run.scene.leader().sql(query)]
    return [Check("no locks of the dead", not left, "; ".join(left) or "none left")]


# What the requirements allow a lost edge host or a killed Traefik.
EDGE_SECONDS = 2.0


def the_address_serves_again(run: Run) -> list[Check]:
    """What was under way at the fault may fail; what came later than the allowance does not."""
    bad = [one for one in run.web.asked("front") if one.fate != OK and one.started > run.fault]
    late = [one for one in bad if one.started > run.fault + EDGE_SECONDS]
    last = max((one.started - run.fault for one in bad), default=0.0)
    return [Check("the address serves again", not late, f"the last that failed was sent {last:.2f} s after the fault")]


EXPERIMENTS = [
    Experiment(
        "postmaster-killed", "1", "the leader's postmaster, kill -9",
        Promise(write_gap=5, write_gap_p95=2, wait=7),
        kill_postmaster, fast=True,
    ),
    Experiment(
        "backend-killed", "2", "one backend of the leader, kill -9: PostgreSQL resets all",
        # primary_start_timeout 0: when Patroni looks while PostgreSQL resets itself, it hands over instead of waiting.
        Promise(write_gap=3, wait=5, leader="any"),
        kill_backend,
    ),
    Experiment(
        "patroni-killed", "3", "the leader's Patroni, kill -9: its container goes, PostgreSQL with it",
        Promise(write_gap=25),
        lambda scene, hosts: scene.signal(scene.leader(), "KILL", PATRONI),
    ),
    Experiment(
        "patroni-frozen", "4", "the leader's Patroni stopped for 40 s, longer than its lease",
        Promise(write_gap=25, leader="moves"),
        lambda scene, hosts: scene.stop_processes(scene.leader(), PATRONI), hold=40,
    ),
    Experiment(
        "postgres-frozen", "5", "every process of the leader's PostgreSQL stopped for 60 s, Patroni alive",
        Promise(write_gap=30, leader="moves"),
        lambda scene, hosts: scene.stop_processes(scene.leader(), POSTGRES), hold=60, detected=DETECTED,
    ),
    Experiment(
        "host-frozen", "6", "the leader's host frozen and silent for 40 s, then thawed",
        Promise(write_gap=LEASE, write_gap_p95=LEASE, leader="moves"),
        lambda scene, hosts: scene.freeze(hosts[0], silent=True), leader, hold=40, detected=DETECTED,
    ),
    Experiment(
        "host-killed", "7", "the leader's host without power for 30 s",
        Promise(write_gap=LEASE, write_gap_p95=LEASE, leader="moves"),
        lambda scene, hosts: scene.power_cut(*hosts), leader, hold=30, detected=DETECTED,
    ),
    Experiment(
        "host-restarted", "8", "the leader's host restarted in an orderly way",
        Promise(write_gap=5, leader="moves"),
        lambda scene, hosts: scene.restart(hosts[0]), leader,
    ),
    Experiment(
        "sync-standby-killed", "9", "the synchronous standby's host without power for 40 s",
        Promise(write_gap=25, leader="stays"),
        lambda scene, hosts: scene.power_cut(*hosts), standby, hold=40, also=no_locks_of_the_dead,
    ),
    Experiment(
        "both-standbys-killed", "10", "both standbys' hosts without power for 60 s; etcd has no quorum meanwhile",
        # With two hosts etcd's quorum goes, and failsafe mode asks every member: the leader must step down.
        Promise(broken=None),
        lambda scene, hosts: scene.power_cut(*hosts), both_standbys, hold=60,
    ),
    Experiment(
        "both-standbys-stopped", "10", "PostgreSQL of both standbys gone for 40 s, etcd well",
        Promise(broken=None, leader="stays"),
        lambda scene, hosts: scene.each(both_standbys(scene), lambda host: scene.down(host, "postgres")),
        hold=40, also=writes_block_or_go_on,
    ),
    Experiment(
        "etcd-leader-killed", "15", "etcd's leader, kill -9",
        Promise(write_gap=1, wait=5, leader="stays", broken=0),
        kill_etcd_leader,
    ),
    Experiment(
        "etcd-quorum-lost", "16", "two of three etcd gone for 30 s: failsafe mode keeps the leader",
        Promise(write_gap=1, wait=5, leader="stays", broken=0),
        lose_quorum, hold=30,
    ),
    Experiment(
        "leader-partitioned", "19", "the leader's host cut from the others for 40 s, both ways",
        Promise(write_gap=25, leader="moves"),
        partition, leader, hold=40, detected=DETECTED,
    ),
    Experiment(
        "leader-deaf", "20", "the leader's host hears nothing from the others for 40 s",
        Promise(write_gap=25, leader="moves"),
        deaf, leader, hold=40,
    ),
    Experiment(
        "leader-mute", "20", "the leader's host reaches none of the others for 40 s",
        Promise(write_gap=25, leader="moves"),
        mute, leader, hold=40,
    ),
    Experiment(
        "leader-cut-from-etcd", "21", "the leader's host reaches no etcd for 40 s; the members reach each other",
        Promise(write_gap=25),
        cut_from_etcd, hold=40,
    ),
    Experiment(
        "packet-loss", "24", "30 % of what reaches the leader's host from the others is lost, 40 s long",
        Promise(write_gap=25),
        loss, leader, hold=40,
    ),
    Experiment(
        "engine-restarted", "36", "Docker engine restarted on the leader's host: live restore",
        Promise(write_gap=1, wait=5, leader="stays", broken=0),
        restart_engine,
    ),
    Experiment(
        "engine-killed", "36", "Docker engine of the leader's host, kill -9",
        Promise(write_gap=1, wait=5, leader="stays", broken=0),
        kill_engine,
    ),
    Experiment(
        "redis-master-killed", "38", "the Redis master, kill -9: its restart policy holds",
        Promise(write_gap=1, redis_gap=3, wait=5, leader="stays"),
        lambda scene, hosts: scene.kill_main(scene.redis_master(), "redis"), fast=True,
    ),
    Experiment(
        "redis-master-gone", "38", "the Redis master killed and away for 25 s: Sentinel names another",
        Promise(write_gap=1, redis_gap=3, wait=5, leader="stays"),
        lambda scene, hosts: scene.down(scene.redis_master(), "redis"), hold=25,
    ),
    Experiment(
        "redis-master-frozen", "39", "the Redis master frozen for 25 s",
        Promise(write_gap=1, redis_gap=10, leader="stays"),
        freeze_redis, hold=25,
    ),
    Experiment(
        "redis-lost", "40", "all Sentinels and then the Redis master away for 20 s: a clear answer, nobody logged out",
        Promise(write_gap=1, leader="stays", broken=0),
        lose_redis, hold=20,
    ),
    Experiment(
        "edge-killed", "41", "Traefik of the first edge, kill -9",
        Promise(write_gap=1, leader="stays"),
        kill_edge, lambda scene: [scene.lab.of("edge")[0]], also=the_address_serves_again,
    ),
    Experiment(
        "edge-host-killed", "41", "the host that carries the virtual address without power for 20 s",
        Promise(broken=None),
        lambda scene, hosts: scene.power_cut(*hosts), address_holder, hold=20, also=the_address_serves_again,
    ),
    Experiment(
        "edge-fed-a-bad-file", "41", "a file that is no YAML in the first edge's folder for 10 s: the old rules stay",
        Promise(write_gap=1, leader="stays", broken=0, wait=5),
        bad_edge_file, hold=10,
    ),
    Experiment(
        "odoo-killed", "42", "Odoo of one host away for 15 s: every edge goes on with the others",
        Promise(write_gap=1, leader="stays", outage=5),
        kill_odoo, an_odoo_host, hold=15,
    ),
    Experiment(
        "odoo-frozen", "42", "Odoo of one host frozen for 20 s: every edge goes on with the others",
        Promise(write_gap=1, leader="stays", outage=8),
        freeze_odoo, an_odoo_host, hold=20,
    ),
    Experiment(
        "two-hosts-power-cut", "power", "the leader's and its standby's host without power for 20 s",
        Promise(broken=None),
        lambda scene, hosts: scene.power_cut(*hosts), leader_and_standby, hold=20,
    ),
    Experiment(
        "all-hosts-power-cut", "power", "all hosts without power for 10 s",
        Promise(broken=None),
        lambda scene, hosts: scene.power_cut(*hosts), everyone, hold=10,
    ),
    Experiment(
        "leader-key-removed", "detector", "the leader's key removed while it is healthy: what a false alarm costs",
        Promise(write_gap=0.5, broken=0, turned_away=0),
        remove_key,
    ),
    Experiment(
        "leader-cut-from-standbys", "detector", "the leader's REST and PostgreSQL cut from the others for 40 s",
        Promise(write_gap=10, broken=None),
        cut_from_standbys, leader, hold=40,
    ),
    Experiment(
        "detectors-misled", "detector", "the standbys' detectors get no answer of a healthy leader for 20 s",
        Promise(write_gap=0.5, broken=0, turned_away=0),
        blind_detectors, hold=20, detector=True,
    ),
    Experiment(
        "detector-lying", "detector", "one detector stopped, its vote forged: the leader is dead, it says",
        Promise(write_gap=0.5, broken=0, leader="stays"),
        lie, hold=1, detector=True,
    ),
    Experiment(
        "leader-frozen-and-thawed", "detector", "the leader's host frozen until another leads, then thawed",
        Promise(write_gap=DETECTED, write_gap_p95=DETECTED, leader="moves"),
        lambda scene, hosts: scene.freeze(hosts[0], silent=False), leader, hold=15, detector=True,
    ),
    Experiment(
        "switchover", "operation", "switchover.yml: planned, requests wait in the poolers",
        Promise(write_gap=SWITCHOVER, write_gap_p95=SWITCHOVER, broken=0, turned_away=0, leader="moves"),
        lambda scene, hosts: scene.operate("switchover", "-e", "reason=experiment"),
        also=no_transaction_failed,
    ),
    Experiment(
        "restart-cluster", "operation", "restart_cluster.yml: PostgreSQL on every member, the leader last",
        Promise(write_gap=SWITCHOVER, write_gap_p95=SWITCHOVER, broken=0, turned_away=0, leader="moves"),
        lambda scene, hosts: scene.operate("restart_cluster", "-e", "reason=experiment"),
        also=no_transaction_failed,
    ),
    Experiment(
        "redis-failover", "operation", "redis_failover.yml: planned, writes are held back for a moment",
        Promise(write_gap=1, redis_gap=3, broken=0, turned_away=0, leader="stays"),
        lambda scene, hosts: scene.operate("redis_failover", "-e", "reason=experiment"),
        also=no_transaction_failed,
    ),
    Experiment(
        "edge-failover", "operation", "edge_failover.yml: new connections are held back for a moment",
        Promise(write_gap=1, broken=0, turned_away=0, leader="stays"),
        lambda scene, hosts: scene.operate("edge_failover", "-e", "reason=experiment"),
        address_holder, also=no_transaction_failed,
    ),
    Experiment(
        "rotate-certificates", "operation", "rotate_certificates.yml: every service of every host takes a new one",
        Promise(write_gap=ROTATION_GAP, write_gap_p95=ROTATION_GAP, broken=0, turned_away=0, leader="stays"),
        lambda scene, hosts: scene.operate("rotate_certificates", "-e", "reason=experiment"),
        also=nothing_failed_and_it_was_quick,
    ),
    Experiment(
        "switchover-raw", "operation", "patronictl switchover through the same router: what switchover.yml is beside",
        Promise(broken=None, leader="moves"),
        lambda scene, hosts: scene.switch_over(),
    ),
]  # fmt: skip
BY_NAME = {one.name: one for one in EXPERIMENTS}

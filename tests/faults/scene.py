# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as the place of an experiment: who is who, the faults that can be put into it, and how each is taken out.

Every fault is put in by a method here, which also registers how it is undone. `heal` undoes what is registered;
`clear` undoes whatever a run that was killed may have left, without knowing what it was.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import sys
import time
import typing as t
from pathlib import Path

import health
from labtools import Host, Lab, run, wait_until

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TABLE = "inet dedicated_faults"
BAD_FILE = "/opt/dedicated/edge/conf/dynamic/fault.yml"
FREEZER = Path("/sys/fs/cgroup/freezer")
# A process by what it runs, as pgrep's pattern over whole command lines.
PATRONI = "/usr/bin/patroni "
Undo = t.Callable[[], object]

CLEAR = f"""
nft delete table {TABLE} 2>/dev/null
rm -f {BAD_FILE}
for pid in $(ps -eo pid=,stat= | awk '$2 ~ /^T/ {{ print $1 }}'); do kill -CONT $pid; done
systemctl is-active --quiet docker || systemctl start docker
docker ps --quiet --filter status=paused | xargs -r docker unpause >/dev/null
project=label=com.docker.compose.project
docker ps --all --quiet --filter status=exited --filter $project | xargs -r docker start >/dev/null
"""

CONFIG = """
import base64, os, ssl, sys, urllib.request
pki = "/etc/dedicated/pki/postgres"
context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
context.load_cert_chain(f"{pki}/cert.pem", f"{pki}/key.pem")
word = base64.b64encode(("patroni:" + os.environ["PATRONI_PASSWORD"]).encode()).decode()
data = sys.stdin.buffer.read() or None
request = urllib.request.Request(f"https://{sys.argv[1]}:8008/config", data=data, method="PATCH" if data else "GET",
                                 headers={"Authorization": "Basic " + word})
print(urllib.request.urlopen(request, context=context, timeout=20).read().decode())
"""


class Scene:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.undoing: list[tuple[str, Undo]] = []
        self.pool = concurrent.futures.ThreadPoolExecutor(16)
        # Who is who, found out in front of a fault: looking it up afterwards would delay the fault by a second or more.
        self.cast: dict[str, Host] = {}

    def switch_over(self) -> None:
        """The database to its synchronous standby, in an orderly way, before anything is tried."""
        at, to = self.leader(), self.standby()
        argv = ["timeout", "60", "patronictl", "-c", "/etc/patroni/patroni.yml", "switchover", "--force"]
        at.inside("postgres", [*argv, "--leader", at.name, "--candidate", to.name])
        wait_until(f"{to.name} leads", lambda: self.roles().get("postgres leader") == to, 60)
        self.wait_whole(120)

    def operate(self, playbook: str, *arguments: str) -> str:
        """One of our own playbooks, as an operator runs it. What it said, should it fail."""
        argv = [sys.executable, str(ROOT / "tools" / "lab"), "run", playbook, *arguments]
        done = run(argv, env={"LAB": self.lab.name}, check=False, timeout=600)
        log = self.lab.build / f"{playbook}.log"
        log.write_text(done.stdout + done.stderr)
        assert done.returncode == 0, f"{playbook} failed, see {log}: {done.stdout[-2000:]}"
        return done.stdout

    # -- who is who ------------------------------------------------------------------------------------------------

    def each(self, hosts: t.Iterable[Host], what: t.Callable[[Host], t.Any]) -> list[t.Any]:
        """On all of them at once."""
        return list(self.pool.map(what, hosts))

    def look(self, host: Host) -> dict[str, t.Any] | None:
        env = {"REDISCLI_AUTH": self.lab.secrets.get("redis_admin_password", "")}
        source = (HERE / "look.py").read_text()
        argv = ["python3", "-c", source, host.address, ",".join(host.groups)]
        with contextlib.suppress(Exception):
            found: dict[str, t.Any] = json.loads(host.run(argv, env=env, check=False, timeout=20).stdout)
            return found
        return None

    def looks(self) -> dict[str, dict[str, t.Any] | None]:
        return dict(zip([host.name for host in self.lab.hosts], self.each(self.lab.hosts, self.look)))

    def missing(self) -> list[str]:
        """Why this is not full redundancy."""
        return health.missing(self.looks(), {host.name: frozenset(host.groups) for host in self.lab.hosts})

    def wait_whole(self, seconds: float) -> float:
        """Seconds until full redundancy."""
        began = time.monotonic()
        while why := self.missing():
            if time.monotonic() - began > seconds:
                raise AssertionError(f"not fully redundant within {seconds:.0f} s: " + "; ".join(why[:6]))
            # Looking costs every host something, and they are busy coming back.
            time.sleep(2)
        return time.monotonic() - began

    def host(self, name: str) -> Host:
        return next(host for host in self.lab.hosts if host.name == name)

    def others(self, *hosts: Host) -> list[Host]:
        return [host for host in self.lab.hosts if host not in hosts]

    def roles(self) -> dict[str, Host]:
        looks = self.looks()
        members: list[dict[str, t.Any]] = next(
            (seen["cluster"]["members"] for seen in looks.values() if seen and seen.get("cluster", {}).get("members")),
            [],
        )
        found = {"postgres leader": [one["name"] for one in members if one["role"] == "leader"]}
        standby = ("sync_standby", "quorum_standby")
        found["postgres standby"] = [one["name"] for one in members if one["role"] in standby]
        redis = {name: seen["redis"].get("role") for name, seen in looks.items() if seen and "redis" in seen}
        found["redis master"] = [name for name, role in redis.items() if role == "master"]
        found["etcd leader"] = [name for name, seen in looks.items() if seen and seen.get("etcd", {}).get("leads")]
        return {role: self.host(names[0]) for role, names in found.items() if names}

    def who(self, role: str) -> Host:
        known = self.cast or self.roles()
        if role not in known:
            raise AssertionError(f"the lab has no {role} now")
        return known[role]

    def leader(self) -> Host:
        return self.who("postgres leader")

    def standby(self) -> Host:
        """The synchronous one."""
        return self.who("postgres standby")

    def redis_master(self) -> Host:
        return self.who("redis master")

    def etcd_leader(self) -> Host:
        return self.who("etcd leader")

    # -- putting a fault in ----------------------------------------------------------------------------------------

    def undo(self, what: str, how: Undo) -> None:
        self.undoing.append((what, how))

    def pid(self, host: Host, container: str) -> int:
        return int(host.out(["docker", "inspect", "--format", "{{.State.Pid}}", container]))

    def signal(self, host: Host, signal: str, pattern: str) -> None:
        """A signal to every process of the host whose command line matches."""
        host.run(["pkill", f"-{signal}", "--full", pattern])

    def kill_main(self, host: Host, container: str) -> None:
        """What the kernel does when memory is out: the container's first process dies, its restart policy holds."""
        host.run(f"kill -9 $(docker inspect --format '{{{{.State.Pid}}}}' {container})")

    def down(self, host: Host, *containers: str) -> None:
        """Killed, and not started again until the healing."""
        self.undo(f"start {containers} on {host.name}", lambda: host.run(["docker", "start", *containers]))
        host.run(["docker", "kill", *containers])

    def pause(self, host: Host, container: str) -> None:
        undo = ["docker", "unpause", container]
        self.undo(f"unpause {container} on {host.name}", lambda: host.run(undo, check=False))
        host.run(["docker", "pause", container])

    def stop_processes(self, host: Host, pattern: str) -> None:
        self.undo(
            f"continue {pattern} on {host.name}",
            lambda: host.run(["pkill", "-CONT", "--full", pattern], check=False),
        )
        self.signal(host, "STOP", pattern)

    def cut(self, host: Host, *rules: str) -> None:
        """Packet filter rules on a host, in a table of their own in front of the product's. `in`/`out` come first."""
        lines = [f"add table {TABLE}"]
        lines += [
            f"add chain {TABLE} {chain} {{ type filter hook {hook} priority -310; }}"
            for chain, hook in (("in", "input"), ("out", "output"))
        ]
        for rule in rules:
            chain, words = rule.split(" ", 1)
            lines.append(f"add rule {TABLE} {chain} {words}")
        self.undo(f"delete the table of {host.name}", lambda: self.join(host))
        host.run(["nft", "-f", "-"], stdin="\n".join(lines) + "\n")

    def join(self, host: Host) -> None:
        host.run(f"nft delete table {TABLE} 2>/dev/null || ! nft list table {TABLE} 2>/dev/null")

    def isolate(self, host: Host) -> None:
        """Nothing leaves it, nothing reaches it; on the host itself all goes on."""
        self.cut(host, 'in iifname != "lo" drop', 'out oifname != "lo" drop')

    def power_cut(self, *hosts: Host) -> None:
        """No packet says goodbye: a dying process would close its connections, a host without power does not."""
        for host in hosts:
            self.undo(f"start {host.name}", lambda host=host: self.power_on(host))  # type: ignore[misc]

        def cut(host: Host) -> None:
            host.run(["nft", "-f", "-"], stdin=self.silence())
            run(["docker", "kill", host.container])

        self.each(hosts, cut)

    @staticmethod
    def silence() -> str:
        return (
            f"add table {TABLE}\nadd chain {TABLE} out {{ type filter hook output priority -310; }}\n"
            f'add rule {TABLE} out oifname != "lo" drop\n'
        )

    def power_on(self, host: Host) -> None:
        """Its network is a new one, without the rule that silenced it."""
        run(["docker", "start", host.container])

    def restart(self, host: Host) -> None:
        run(["docker", "restart", "--time", "240", host.container], timeout=300)

    def freeze(self, host: Host, silent: bool) -> None:
        """No process of the host runs. Silent: its network does not answer either, as that of a paused machine."""
        if silent:
            self.isolate(host)
        # Registered last, so undone first: nothing can be entered to rejoin it while it is frozen.
        self.undo(f"thaw {host.name}", lambda: self.thaw(host))
        # An engine within an engine may keep its containers beside its own cgroup instead of below it.
        inner = FREEZER / host.container / "freezer.state"
        if inner.exists():
            inner.write_text("FROZEN")
        run(["docker", "pause", host.container])

    def thaw(self, host: Host) -> None:
        if run(["docker", "inspect", "--format", "{{.State.Paused}}", host.container]).stdout.strip() == "true":
            run(["docker", "unpause", host.container])
        inner = FREEZER / host.container / "freezer.state"
        if inner.exists():
            inner.write_text("THAWED")

    # -- taking it out ---------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Undo, the last fault first. Can be called again; what could not be undone is tried again then."""
        problems = []
        for what, how in reversed(self.undoing[:]):
            try:
                how()
                self.undoing.remove((what, how))
            except Exception as error:  # the others have to be undone all the same
                problems.append(f"{what}: {error}")
        if problems:
            raise AssertionError("could not be undone: " + "; ".join(problems))

    def clear(self) -> None:
        """Whatever is left of earlier faults. The product's own repairs are not waited for."""
        self.undoing.clear()
        for host in self.lab.hosts:
            state = run(["docker", "inspect", "--format", "{{.State.Running}} {{.State.Paused}}", host.container])
            running, paused = state.stdout.split()
            if paused == "true":
                self.thaw(host)
            elif running != "true":
                self.power_on(host)
        self.each(self.lab.hosts, lambda host: host.run(CLEAR, check=False, timeout=180))

    # -- the probe's own tables ------------------------------------------------------------------------------------

    def sql(self, query: str) -> list[list[str]]:
        return self.leader().sql(query, self.lab.database)

    def make_tables(self) -> None:
        self.sql(
            "DROP SCHEMA IF EXISTS fault_probe CASCADE; CREATE SCHEMA fault_probe AUTHORIZATION odoo; "
            "CREATE TABLE fault_probe.ledger (client text NOT NULL, n bigint NOT NULL); "
            "ALTER TABLE fault_probe.ledger OWNER TO odoo; "
            "CREATE TABLE fault_probe.poll (member text, at timestamptz DEFAULT clock_timestamp())"
        )

    def drop_tables(self) -> None:
        self.sql("DROP SCHEMA IF EXISTS fault_probe CASCADE")

    def rows(self) -> list[tuple[str, int]]:
        found = self.sql("SELECT client, n FROM fault_probe.ledger")
        return [(client, int(number)) for client, number in found]

    def members_agree(self, seconds: float = 30) -> bool:
        """Every member holds the same rows, once it has caught up."""
        query = "SELECT count(*), md5(string_agg(client || n, ' ' ORDER BY client, n)) FROM fault_probe.ledger"
        end = time.monotonic() + seconds
        while True:
            sums = {str(host.sql(query, self.lab.database)) for host in self.lab.of("postgres")}
            if len(sums) == 1:
                return True
            if time.monotonic() > end:
                return False
            time.sleep(1)

    # -- Patroni's timings -----------------------------------------------------------------------------------------

    def config(self, change: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Patroni's dynamic configuration, after the change, from the leader's own host with the member's key."""
        leader = self.leader()
        env = {"PATRONI_PASSWORD": self.lab.secrets["postgres_rest_password"]}
        argv = ["python3", "-c", CONFIG, leader.address]
        found: dict[str, t.Any] = json.loads(leader.out(argv, env=env, stdin=json.dumps(change) if change else ""))
        return found

    def etcdctl(self, *words: str, stdin: str | None = None) -> str:
        password = self.lab.secrets.get("etcd_root_password")
        env = {"ETCDCTL_USER": f"root:{password}"} if password else {}
        return self.lab.of("etcd")[0].inside("etcd", ["etcdctl", *words], env=env, stdin=stdin).stdout

    @property
    def own_keys(self) -> str:
        """Where the product keeps in etcd what is not Patroni's."""
        return f"/dedicated-ops/{self.lab.variables['dedicated_cluster']}/"

    # -- the failure detector --------------------------------------------------------------------------------------

    def detectors(self) -> list[Host]:
        """The hosts that have the container, running or not."""
        argv = ["docker", "ps", "--all", "--quiet", "--filter", "name=^detector$"]
        return [host for host in self.lab.of("postgres") if host.run(argv, check=False).stdout.strip()]

    def forget_removal(self) -> None:
        """A detector removes no second key within a set time, which would be the run before this one."""
        if self.detectors():
            self.etcdctl("del", f"{self.own_keys}detector-hold")

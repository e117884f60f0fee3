#!/usr/bin/env python3
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults under load, on a lab of three hosts: tools/faults [name ...]

    SET=fast|all   which experiments, when none is named (default all); --list shows them
    N=20           how often each (default 1); with 20 and more, a p95 is judged too
    BASELINE=1     Patroni's default timings, and detectors stopped: what it is compared with
    OUT=folder     where the results go (default build/<lab>/faults, with BASELINE build/<lab>/faults-baseline)

Each run writes <name>-<n>.json; a table of all stands at the end, and in summary.json. Exit 1: a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import traceback
import typing as t
from pathlib import Path

import verdict
from clients import Clients
from experiments import BY_NAME, EXPERIMENTS, Experiment
from labtools import Browser, Host, Lab, lab_json
from scene import Scene
from web import Bookkeeper, Web, through

# What Patroni does when it is told nothing.
DEFAULTS = {"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "primary_start_timeout": 300}
BEFORE = 4.0  # seconds of undisturbed work in front of the fault
QUIET = 4.0  # all clients at work again for as long: it is over
LONGEST = 150.0  # after which nobody waits for the clients any more


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def load() -> Lab:
    path = lab_json()
    if not path.exists():
        raise SystemExit(f"faults: no lab: {path} does not exist. `make lab PROFILE=ha` makes it; LAB names another")
    lab = Lab(path.resolve(), json.loads(path.read_text()))
    if lab.data["profile"] != "ha":
        raise SystemExit(
            f"faults: the lab {lab.name} has the profile {lab.data['profile']}: these experiments need three hosts. "
            "`make lab-down`, then `make lab PROFILE=ha`"
        )
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"
    return lab


class Experimenting:
    """One run of one experiment."""

    def __init__(self, lab: Lab, scene: Scene, experiment: Experiment, number: int, out: Path, detectors: bool) -> None:
        self.lab, self.scene, self.experiment, self.number, self.out = lab, scene, experiment, number, out
        self.promise = experiment.bound(detectors)
        self.clients = Clients(lab, f"{experiment.name}-{number}")
        self.fault = self.healed = 0.0
        self.recovery: float | None = None
        self.targets = {host.name: host.address for host in lab.of("edge")}
        if lab.front not in self.targets.values():
            self.targets["front"] = lab.front

    def acked(self) -> dict[str, list[float]]:
        return self.clients.acks()

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, t.Any]:
        self.scene.wait_whole(300)
        self.victims = self.experiment.victims(self.scene)
        self.load = os.getloadavg()[0]
        self.scene.forget_removal()
        self.scene.make_tables()
        browser = Browser(self.lab).sign_in(self.lab.login, self.lab.password)
        self.web = Web(self.lab, self.targets, browser)
        # One who keeps the books has a session of his own: rotation of one must not touch the other.
        self.bookkeeper = Bookkeeper(self.lab, self.steady_browser())
        try:
            self.clients.start()
            self.web.start()
            self.bookkeeper.start()
            self.clients.warm()
            self.began = time.monotonic()
            time.sleep(BEFORE)
            self.disturb()
        finally:
            self.healed = self.healed or time.monotonic()
            self.scene.heal()
        # Nothing but the product may repair what the fault has broken.
        with contextlib.suppress(AssertionError):
            self.scene.wait_whole(self.promise.recovery)
            self.recovery = time.monotonic() - self.healed
        time.sleep(QUIET / 2)
        self.end = time.monotonic()
        self.bookkeeper.finish()
        self.web.stop()
        self.clients.stop()
        return self.judge(browser)

    def quit(self) -> None:
        """Nothing of this run goes on, whatever became of it; what has ended already stays as it is."""
        self.clients.stop()
        for one in (getattr(self, "web", None), getattr(self, "bookkeeper", None)):
            if one is not None:
                one.done.set()
        self.clients.forget()

    def steady_browser(self) -> Browser:
        """Through an edge that the fault leaves alone."""
        away = self.names(self.victims)
        steady = [address for name, address in self.targets.items() if name not in away]
        browser = through(Browser(self.lab), [*self.targets.values(), *steady][-1])
        return browser.sign_in(self.lab.login, self.lab.password)

    def disturb(self) -> None:
        experiment = self.experiment
        self.scene.cast = self.cast = self.scene.roles()
        self.fault = time.monotonic()
        try:
            experiment.inject(self.scene, self.victims)
        finally:
            self.scene.cast = {}
        injected = time.monotonic()
        if experiment.hold:
            time.sleep(max(0.0, self.fault + experiment.hold - time.monotonic()))
            self.scene.heal()
        self.healed = time.monotonic() if experiment.hold else injected
        time.sleep(max(0.0, self.fault + experiment.settle - time.monotonic()))
        self.wait_for_work()

    def wait_for_work(self) -> None:
        """Until every client has done its work for a while, the gap of the fault being over."""
        limit = self.healed + LONGEST
        while time.monotonic() < limit:
            now = time.monotonic()
            series = [*self.clients.acks().values(), *self.clients.redis_acks().values()]
            if all(verdict.longest_gap(moments, now - QUIET, now) < QUIET / 2 for moments in series):
                return
            time.sleep(0.5)

    # -- the verdict -----------------------------------------------------------------------------------------------

    @staticmethod
    def names(hosts: t.Iterable[Host]) -> set[str]:
        return {host.name for host in hosts}

    def workers(self) -> int:
        """How many requests can be in flight: as many as there are workers."""
        command = "sed -n 's/^workers *= *//p' /opt/dedicated/odoo/conf/odoo.conf"
        return sum(int(host.out(command) or 1) for host in self.lab.of("odoo"))

    def judged(self, series: dict[str, list[float]]) -> dict[str, list[float]]:
        """Of the hosts that the fault left alone; of all when it left none."""
        away = self.names(self.victims)
        chosen = {name: moments for name, moments in series.items() if name not in away}
        return chosen or series

    def gap(self, series: dict[str, list[float]], begin: float, end: float) -> float | None:
        """The longest that a single client had."""
        found = verdict.gaps(self.judged(series), begin, end)
        return max((value for name, value in found.items() if name != "all"), default=None)

    def judge(self, browser: Browser) -> dict[str, t.Any]:
        kept = self.kept(browser)
        writes, unread = self.clients.writes()
        # A client is named after its host and its start: n1-0.
        rows = [row for row in self.scene.rows() if row[0].rpartition("-")[0] not in unread]
        books = verdict.audit(writes, rows)
        accepted = self.clients.accepted()
        order = verdict.leaders(accepted)
        away = self.names(self.victims)
        requests = {name: self.web.asked(name) for name in self.targets}
        steady = [one for name, found in requests.items() if name not in away for one in found]
        served = verdict.serve(steady, self.fault, self.end)
        acks, redis_acks = self.clients.acks(), self.clients.redis_acks()
        figures = verdict.Figures(
            books=books,
            breaches=tuple(verdict.split_brain(accepted)),
            write_gap=self.gap(acks, self.fault - 0.5, self.end) or 0.0,
            redis_gap=self.gap(redis_acks, self.fault - 0.5, self.end),
            quiet_gap=round(self.gap(acks, self.began, self.fault) or 0.0, 3),
            quiet_redis_gap=round(self.gap(redis_acks, self.began, self.fault) or 0.0, 3),
            served=served,
            logged_out=sum(1 for found in requests.values() for one in found if one.fate == verdict.LOGGED_OUT),
            session_kept=kept,
            moved=len({(member, line) for member, line, *_ in order}) > 1,
            recovery=self.recovery,
            members_agree=self.scene.members_agree(),
            workers=self.workers(),
            postings=tuple(self.bookkeeper.audit(lambda query: self.scene.sql(query))),
        )
        checks = verdict.judge(self.promise, figures)
        self.errors = [f"{write.row} {write.fate}: {write.error}" for write in writes if write.error]
        if self.experiment.also is not None:
            checks += self.experiment.also(self)
        if unread:
            checks.append(verdict.Check("every ledger read", False, f"not those of {', '.join(unread)}"))
        held = all(check.ok for check in checks)
        return {
            **heading(self.experiment),
            "promise": dataclasses.asdict(self.promise),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "verdict": "held" if held else "broken",
            "checks": [dataclasses.asdict(check) for check in checks],
            "victims": sorted(away),
            "roles_before": {role: host.name for role, host in self.cast.items()},
            "load": round(self.load, 1),
            "windows": {
                "fault": 0.0,
                "healed": round(self.healed - self.fault, 2),
                "redundant": self.recovery and round(self.healed + self.recovery - self.fault, 2),
                "end": round(self.end - self.fault, 2),
            },
            "figures": {
                "write_gap": round(figures.write_gap, 3),
                "write_gaps": {
                    name: round(value, 3)
                    for name, value in verdict.gaps(acks, self.fault - 0.5, self.end).items()
                },
                "redis_gap": figures.redis_gap and round(figures.redis_gap, 3),
                "quiet_gap": figures.quiet_gap,
                "quiet_redis_gap": figures.quiet_redis_gap,
                "http_wait": round(served.longest, 3),
                "http_broken": served.count(verdict.BROKEN),
                "http_turned_away": served.count(verdict.TURNED_AWAY),
                "outage": round(served.outage, 3),
                "recovery": self.recovery and round(self.recovery, 1),
                "lost": len(books.lost),
                "acknowledged": books.acknowledged,
                "failed": books.failed,
                "indeterminate": books.indeterminate,
                "logged_out": figures.logged_out,
                "posted": len(self.bookkeeper.posted),
                "posting_retries": self.bookkeeper.doubtful,
            },
            "ledger": {"lost": books.lost, "phantom": books.phantom, "duplicates": books.duplicates,
                       "errors": self.errors[:20]},
            "requests": {
                name: dataclasses.asdict(verdict.serve(found, self.fault, self.end)) for name, found in requests.items()
            },
            "failed_requests": [
                {"at": round(one.started - self.fault, 2), "took": round(one.took, 2), "target": one.target,
                 "kind": one.kind, "fate": one.fate, "detail": one.detail}
                # The victims' own come last: the list is cut, and they are not judged.
                for name, found in sorted(requests.items(), key=lambda pair: pair[0] in away) for one in found
                if one.fate != verdict.OK and one.started + one.took > self.fault
            ][:60],
            "redis_errors": self.clients.redis_errors(self.fault),
            "bookkeeper": self.bookkeeper.errors[:10],
            "leaders": [
                {"member": member, "timeline": line, "first": round(first - self.fault, 2),
                 "last": round(last - self.fault, 2)}
                for member, line, first, last in order
            ],
            "timeline": self.clients.events(self.fault),
            "client_errors": [error for client in self.clients.all for error in client.errors][:10],
        }  # fmt: skip

    def kept(self, browser: Browser) -> bool:
        """Whether the session from before the fault is still that user's, through every edge."""
        try:
            return all(through(browser, address).whoami() == self.lab.login for address in self.targets.values())
        except (AssertionError, OSError):
            return False


@contextlib.contextmanager
def default_timings(scene: Scene, keep: Path) -> t.Iterator[None]:
    """Patroni's own timings, no detector; what was there before is put back, also after a run that was killed."""
    stopped = scene.detectors()
    if not keep.exists():
        now = scene.config()
        keep.write_text(json.dumps({key: now.get(key) for key in DEFAULTS}))
    scene.config(DEFAULTS)
    scene.each(stopped, lambda host: host.run(["docker", "stop", "detector"], check=False))
    try:
        time.sleep(2 * DEFAULTS["loop_wait"])  # every member has read them
        yield
    finally:
        put_back(scene, keep)


def put_back(scene: Scene, keep: Path) -> None:
    if not keep.exists():
        return
    scene.config(json.loads(keep.read_text()))
    scene.each(scene.detectors(), lambda host: host.run(["docker", "start", "detector"], check=False))
    keep.unlink()


def heading(experiment: Experiment) -> dict[str, t.Any]:
    return {
        "name": experiment.name,
        "fault": experiment.fault,
        "what": experiment.what,
        "promise": dataclasses.asdict(experiment.promise),
    }


def perform(lab: Lab, experiment: Experiment, number: int, out: Path, baseline: bool = False) -> dict[str, t.Any]:
    """One run, from clearing to its JSON file."""
    scene = Scene(lab)
    scene.clear()
    detectors = bool(scene.detectors()) and not baseline
    if experiment.detector and not detectors:
        why = "detectors are stopped for the comparison" if baseline else "no container `detector` on this lab"
        result = heading(experiment) | {"verdict": "skipped", "why": why, "checks": [], "figures": {}}
    else:
        run = Experimenting(lab, scene, experiment, number, out, detectors)
        try:
            result = run.run()
        except (AssertionError, OSError, ValueError, subprocess.TimeoutExpired) as error:
            traceback.print_exc()
            result = broken_off(experiment, error) | {"timeline": run.clients.events(run.fault)}
            scene.clear()
        except BaseException:  # also a stop that was asked for
            scene.clear()
            raise
        finally:
            run.quit()
            with contextlib.suppress(Exception):
                scene.drop_tables()
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{experiment.name}-{number}.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def tell(result: dict[str, t.Any], number: int) -> None:
    if result["verdict"] == "skipped":
        say(f"{result['name']}: skipped: {result['why']}")
        return
    say(f"{result['name']} {number}: {result['verdict']}, fully redundant {result['figures']['recovery']} s after")
    for check in result["checks"]:
        say(f"    {'  ' if check['ok'] else 'NO'} {check['name']}: {check['said']}")


def choose(names: list[str]) -> list[Experiment]:
    if unknown := [name for name in names if name not in BY_NAME]:
        raise SystemExit(f"faults: no experiment {', '.join(unknown)}; --list shows them")
    which = os.environ.get("SET") or "all"
    if which not in ("fast", "all"):
        raise SystemExit(f"faults: SET is fast or all, not {which}")
    return [BY_NAME[name] for name in names] or [one for one in EXPERIMENTS if one.fast or which == "all"]


def perform_all(lab: Lab, chosen: list[Experiment], out: Path, baseline: bool) -> list[dict[str, t.Any]]:
    results: list[dict[str, t.Any]] = []
    for number in range(1, int(os.environ.get("N") or 1) + 1):
        for experiment in chosen:
            say(f"faults: {experiment.name} ({experiment.what})")
            results.append(perform(lab, experiment, number, out, baseline))
            tell(results[-1], number)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name")
    parser.add_argument("--list", action="store_true", help="the experiments, and what each does")
    parser.add_argument("--clear", action="store_true", help="only take out what a run that was killed has left")
    options = parser.parse_args()
    if options.list:
        for one in EXPERIMENTS:
            say(f"{one.name:26}{'fast ' if one.fast else '     '}{one.fault:9} {one.what}")
        return 0
    chosen = choose(options.names)
    # A stop asked for by SIGTERM has to heal, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    lab = load()
    baseline = bool(os.environ.get("BASELINE"))
    out = Path(os.environ.get("OUT") or lab.build / ("faults-baseline" if baseline else "faults"))
    scene = Scene(lab)
    scene.clear()
    keep = lab.build / "faults-timings.json"
    put_back(scene, keep)
    if options.clear:
        return 0
    with contextlib.ExitStack() as stack:
        stack.callback(lab.resolve())
        if baseline:
            stack.enter_context(default_timings(scene, keep))
        results = perform_all(lab, chosen, out, baseline)
    return finish(results, out)


def broken_off(experiment: Experiment, error: Exception) -> dict[str, t.Any]:
    """The run came to no verdict: that is no promise held."""
    checks = [{"name": "the run", "ok": False, "said": str(error)[:500]}]
    return heading(experiment) | {"verdict": "broken", "checks": checks, "figures": {"lost": 0, "recovery": None}}


def finish(results: list[dict[str, t.Any]], out: Path) -> int:
    summary = verdict.summarise(results)
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    say("\nseconds: p50/p95/max where there are several runs\n" + verdict.table(summary))
    say(f"\nfaults: the runs are in {os.path.relpath(out)}")
    late = [name for name, row in summary.items() if row.get("p95_held") is False]
    if late:
        say(f"faults: p95 of the write gap over its bound: {', '.join(late)}")
    return 1 if late or any(row["held"] < row["runs"] for row in summary.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

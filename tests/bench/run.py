#!/usr/bin/env python3
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure the running lab: prints tables and writes build/<lab>/bench.json (a section measured later replaces itself).

    tests/bench/run.py                      request and hops (about five minutes)
    tests/bench/run.py converge             `make lab` again, and one setting by its tag
    tests/bench/run.py again | setting      one of them
    tests/bench/run.py restore              a backup beside users, restores, a dropped table (--gigabytes, --rounds)
    tests/bench/run.py cold                 a lab of its own from nothing, images present (--no-images: without them)

Numbers mean something only on a machine that does nothing else: the load at the start is printed and written down.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import typing as t

import converge
from lab import BUILD, NAME, Lab
from request import hops, request
from restore import restore

SECTIONS = ("request", "hops", "converge", "again", "setting", "restore", "cold")


def sections(options: argparse.Namespace, lab: Lab) -> t.Iterator[tuple[str, t.Callable[[], dict[str, t.Any]]]]:
    wanted = list(options.sections) or ["request", "hops"]
    if options.cold and "cold" not in wanted:
        wanted.append("cold")
    runs = options.runs
    table: dict[str, t.Callable[[], dict[str, t.Any]]] = {
        "request": lambda: request(lab, options.rounds, options.pace),
        "hops": lambda: hops(lab, options.rounds, options.pace),
        "again": lambda: converge.again(lab, runs),
        "setting": lambda: converge.setting(lab, runs),
        "restore": lambda: restore(lab, options.gigabytes, options.rounds),
        "cold": lambda: converge.cold(options.no_images),
    }
    for name in wanted:
        for part in ("again", "setting") if name == "converge" else (name,):
            yield part, table[part]


def store(lab: Lab, name: str, result: dict[str, t.Any], seconds: float) -> None:
    path = BUILD / "bench.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known |= {"lab": NAME, "profile": lab.facts["profile"], "machine": lab.machine(), "versions": lab.versions()}
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    known.setdefault("sections", {})[name] = {"at": now, "seconds": round(seconds, 1), **result}
    path.write_text(json.dumps(known, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--rounds", type=int, default=7, help="paired rounds (at least 5 for a result that counts)")
    parser.add_argument("--pace", type=float, default=1.0, help="length of a leg, as a factor")
    parser.add_argument("--runs", type=int, default=3, help="runs of again and setting")
    parser.add_argument("--gigabytes", type=float, default=5.0, help="restore: how much there is to restore")
    parser.add_argument("--cold", action="store_true", help="also the section cold")
    parser.add_argument("--no-images", action="store_true", help="cold: remove this project's images first")
    options = parser.parse_args()
    # A stop asked for by SIGTERM has to clear the temporary containers away, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    lab = Lab()
    load = os.getloadavg()[0]
    machine = lab.machine()
    print(f"bench: {machine['cores']} cores, {machine['cpu']}, {machine['memory_mb']} MiB, load {load:.1f}"
          + ("; other work runs here: the numbers are worth little" if load > 1 else ""), flush=True)
    lab.clear()
    try:
        for name, measure in sections(options, lab):
            started = time.monotonic()
            print(f"\nbench: {name}", flush=True)
            store(lab, name, measure(), time.monotonic() - started)
            if name in ("request", "hops"):
                lab.clear()
    finally:
        lab.clear()
    print(f"\nbench: raw rounds are in {os.path.relpath(BUILD / 'bench.json')}")


if __name__ == "__main__":
    main()

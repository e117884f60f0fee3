# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes: `make lab` again, one setting by its tag, and (on request) a lab from nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import typing as t

from lab import BUILD, NAME, ROOT, Lab
from stats import spread, table

GOALS = {"again": 45.0, "setting": 20.0, "warm": 240.0, "cold": 600.0}
COLD_LAB = "bench"


def make(*arguments: str, lab: str = NAME) -> tuple[float, str]:
    """A whole process, as a person starts it: seconds and output."""
    ours = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARGS")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    environment["LAB"] = lab
    started = time.monotonic()
    done = subprocess.run(["make", "--no-print-directory", *arguments], cwd=ROOT, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    seconds = time.monotonic() - started
    log = ROOT / "build" / f"bench-{lab}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("a") as file:
        file.write(f"\n=== make {' '.join(arguments)} (LAB={lab}): {seconds:.1f} s, {done.returncode}\n{done.stdout}")
    if done.returncode:
        raise SystemExit(f"bench: make {' '.join(arguments)} failed; all of it in {log}\n{done.stdout[-3000:]}")
    return seconds, done.stdout


def changed(output: str) -> int:
    return sum(int(number) for number in re.findall(r"\bchanged=(\d+)", output))


def report(name: str, title: str, times: list[float], **more: t.Any) -> dict[str, t.Any]:
    found = spread(times)
    goal = GOALS[name]
    print("\n" + table(["", "median s", "min", "max", "goal"], [
        [title, f"{found.median:.1f}", f"{found.low:.1f}", f"{found.high:.1f}",
         f"{goal:.0f} {'reached' if found.median <= goal else 'MISSED'}"]]), flush=True)
    return {"seconds": times, **found._asdict(), "goal": goal, "reached": found.median <= goal, **more}


def again(lab: Lab, runs: int) -> dict[str, t.Any]:
    times, changes = [], []
    for _ in range(runs):
        seconds, output = make("lab")
        times.append(seconds)
        changes.append(changed(output))
    if any(changes[1:]):
        print(f"bench: a run without change reported changed={changes}")
    return report("again", "make lab, again without change", times, changed=changes)


def setting(lab: Lab, runs: int) -> dict[str, t.Any]:
    """One option of odoo.conf there and back again; each way is one change, applied by its tag."""
    old = int(lab.option("limit_time_real"))
    extra = BUILD / "bench-setting.json"
    times: list[float] = []
    try:
        for _ in range(runs):
            extra.write_text(json.dumps({"odoo_options": {"limit_time_real": old + 1}}))
            times.append(make("lab-converge", f"ARGS=--tags odoo -e @{extra}")[0])
            if lab.option("limit_time_real") != str(old + 1):
                raise SystemExit("bench: the setting did not arrive on the host")
            times.append(make("lab-converge", "ARGS=--tags odoo")[0])
            if lab.option("limit_time_real") != str(old):
                raise SystemExit("bench: the setting did not go back")
    finally:
        extra.unlink(missing_ok=True)
        if lab.option("limit_time_real") != str(old):
            make("lab-converge", "ARGS=--tags odoo")
    return report("setting", "one Odoo setting by its tag", times)


def phases(output: str) -> list[str]:
    return [line.removeprefix("lab: ") for line in output.splitlines() if line.startswith(("lab: ", "images: "))]


def images_of_the_project() -> list[str]:
    out = subprocess.check_output(["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}"], text=True)
    return [ref for ref in out.split() if ref.startswith("dedicated-odoo/")]


def from_nothing(name: str, title: str) -> dict[str, t.Any]:
    make("lab-down", lab=COLD_LAB)
    parts: dict[str, float] = {}
    output = ""
    for target in ("bootstrap", "images", "lab-up", "lab-converge"):
        parts[target], text = make(target, lab=COLD_LAB)
        output += text
    # The steps of `make lab` in its order; the bootstrap check (3 s at most) runs with each, so this is an upper bound.
    result = report(name, title, [sum(parts.values())], phases=parts, output=phases(output))
    print("  " + ", ".join(f"{target} {seconds:.0f} s" for target, seconds in parts.items()))
    return result


def cold(without_images: bool) -> dict[str, t.Any]:
    """A lab of its own from nothing: with the images present, and (asked for) after removing them."""
    if NAME == COLD_LAB:
        raise SystemExit(f"bench: LAB={COLD_LAB} is the lab that this section makes and removes; run it from another")
    found: dict[str, t.Any] = {}
    try:
        if without_images:
            used = [ref for ref in images_of_the_project()
                    if subprocess.run(["docker", "image", "rm", ref], capture_output=True, check=False).returncode]
            subprocess.run(["docker", "builder", "prune", "--all", "--force"], capture_output=True, check=False)
            if used:
                print(f"bench: not quite cold, {len(used)} images are in use and stay: {', '.join(sorted(used))}")
            found["cold"] = from_nothing("cold", "make lab, nothing there") | {"images_in_use": used}
        found["warm"] = from_nothing("warm", "make lab, images present")
    finally:
        make("lab-down", lab=COLD_LAB)
    return found

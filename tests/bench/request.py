# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests: the whole stack against the same Odoo directly, and what each hop costs."""

from __future__ import annotations

import typing as t

from lab import PORTS, Lab
from stats import Spread, differences, ratios, spread, table

Leg = dict[str, t.Any]
TARGETS = {"mix": 0.90, "login": 0.65}
STEPS = ("list", "read", "create", "post", "print")
TITLES = {"mix": "business mix", "login": "/web/login"}
CLIENTS = (1, 4)
SECONDS = {"mix": 4.0, "login": 2.5}
# Each of the workers compiles templates and fills its caches by itself: enough requests that all have met everything.
WARM_SECONDS = {"mix": 8.0, "login": 3.0}
WARM_AT_LEAST = {"mix": 5, "login": 20}
# Each step of the chain adds one thing to the one before.
CHAIN = [
    ("unix", "Odoo, PostgreSQL by Unix socket"),
    ("haproxy", "+ HAProxy in front of PostgreSQL"),
    ("stack", "+ PgBouncer"),
    ("edge", "+ Traefik with TLS, connection kept"),
    ("edge-new", "+ a new TLS connection each time"),
]


def measure(lab: Lab, targets: list[str], works: list[str], clients: t.Sequence[int], rounds: int,
            pace: float) -> list[Leg]:
    """Warm every target up, then rounds in which each takes its turn, in alternating order."""
    legs: list[Leg] = []
    for target in targets:
        legs += [{"target": target, "work": work, "clients": max(CLIENTS), "seconds": WARM_SECONDS[work],
                  "at_least": WARM_AT_LEAST[work], "round": -1}
                 for work in works]
    for number in range(rounds):
        for work in works:
            for count in clients:
                order = targets if number % 2 == 0 else targets[::-1]
                legs += [{"target": target, "work": work, "clients": count, "seconds": SECONDS[work] * pace,
                          "round": number} for target in order]
    seen = 0

    def progress(leg: Leg) -> None:
        nonlocal seen
        seen += 1
        if leg["round"] >= 0 and seen % 10 == 0:
            print(f"bench: {seen} of {len(legs)} legs", flush=True)

    return [leg for leg in lab.generate(legs, progress) if leg["round"] >= 0]


def column(legs: list[Leg], key: str, **where: t.Any) -> list[t.Any]:
    chosen = [leg for leg in legs if all(leg[name] == value for name, value in where.items())]
    return [leg[key] for leg in sorted(chosen, key=lambda leg: leg["round"])]


def compare(legs: list[Leg], work: str, clients: int) -> dict[str, t.Any]:
    direct = {"target": "unix", "work": work, "clients": clients}
    stack = direct | {"target": "edge"}
    ratio = ratios(column(legs, "per_second", **stack), column(legs, "per_second", **direct))
    result: dict[str, t.Any] = {
        "work": work, "clients": clients, "target": TARGETS[work], "reached": ratio.median >= TARGETS[work],
        "throughput_ratio": ratio._asdict(),
        "generator_cpu_ms": {side: spread(column(legs, "generator_cpu_ms", **where)).median
                             for side, where in (("direct", direct), ("stack", stack))},
    }
    for key in ("per_second", "p50_ms", "p95_ms"):
        result[key] = {"direct": spread(column(legs, key, **direct))._asdict(),
                       "stack": spread(column(legs, key, **stack))._asdict()}
    if work == "mix":
        result["steps_p50_ms"] = {
            step: {side: spread([leg[step] for leg in column(legs, "steps_p50_ms", **where)]).median
                   for side, where in (("direct", direct), ("stack", stack))}
            for step in STEPS}
    return result


def request(lab: Lab, rounds: int, pace: float) -> dict[str, t.Any]:
    lab.start("unix")
    lab.wait(PORTS["unix"])
    before = lab.load()
    legs = measure(lab, ["unix", "edge"], ["login", "mix"], CLIENTS, rounds, pace)
    found = [compare(legs, work, count) for work in ("mix", "login") for count in CLIENTS]
    rows = []
    for one in found:
        cells = [f"{TITLES[one['work']]}, {one['clients']} at once"]
        for side in ("direct", "stack"):
            cells += [Spread(**one["per_second"][side]).text(0), Spread(**one["p50_ms"][side]).text(1),
                      Spread(**one["p95_ms"][side]).text(1)]
        cells += [Spread(**one["throughput_ratio"]).text(0, 100) + " %",
                  f"{100 * one['target']:.0f} % {'reached' if one['reached'] else 'MISSED'}"]
        rows.append(cells)
    print(f"\nOdoo through the whole stack (Traefik with TLS, PgBouncer, HAProxy)"
          f" against the same Odoo on PostgreSQL's Unix socket\n"
          f"  {rounds} paired rounds; medians (lowest-highest); throughput in requests/s, latency in ms\n")
    print(table(["", "direct /s", "p50", "p95", "stack /s", "p50", "p95", "of direct", "target"], rows))
    steps = found[0]["steps_p50_ms"]
    print("\n" + table(["business mix, one at a time (p50, ms)", "direct", "stack", "of direct"], [
        [step, f"{both['direct']:.1f}", f"{both['stack']:.1f}", f"{100 * both['direct'] / both['stack']:.0f} %"]
        for step, both in steps.items()]))
    for one in found:
        if one["clients"] == 1:
            cpu = one["generator_cpu_ms"]
            print(f"  the generator's own CPU per request, {TITLES[one['work']]}:"
                  f" direct {cpu['direct']:.2f} ms, stack {cpu['stack']:.2f} ms")
    print("  print = Odoo's HTML report: the image holds no wkhtmltopdf")
    return {"rounds": rounds, "load_before": before, "results": found, "legs": legs}


def hops(lab: Lab, rounds: int, pace: float) -> dict[str, t.Any]:
    for kind in ("unix", "haproxy"):
        lab.start(kind)
    for kind in ("unix", "haproxy"):
        lab.wait(PORTS[kind])
    before = lab.load()
    names = [name for name, _ in CHAIN]
    legs = measure(lab, names, ["login"], (1,), rounds, pace)
    times = {name: column(legs, "mean_ms", target=name) for name in names}
    added = {}
    rows = []
    last = times["edge"]
    total = spread(last).median
    for position, (name, title) in enumerate(CHAIN):
        more = differences(times[name], times[names[position - 1]]) if position else spread(times[name])
        share = ratios(times["unix"], times[name])
        added[name] = {"mean_ms": spread(times[name])._asdict(), "added_ms": more._asdict(),
                       "of_direct": share._asdict(), "share_of_stack": more.median / total}
        rows.append([title, spread(times[name]).text(2), more.text(2) if position else "",
                     f"{100 * more.median / total:.0f} %", share.text(0, 100) + " %"])
    print(f"\nWhat each hop costs: /web/login, one at a time; {rounds} rounds; mean ms per request (lowest-highest)\n")
    print(table(["", "ms", "added by this hop", "share of the stack", "speed of direct"], rows))
    return {"rounds": rounds, "load_before": before, "hops": added, "legs": legs}

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the detector shows: Prometheus's text format on /metrics, and whether the loop runs on /health."""

from __future__ import annotations

import http.server
import threading
import time
import typing as t

from . import plan

# A loop that has not come round for so long is stuck.
STUCK_SECONDS = 10.0


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Metrics:
    """Written by the loop, read by whoever asks."""

    def __init__(self, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_tick: float | None = None
        self._leader: str | None = None
        self._suspects = False
        self._silence = 0.0
        self._votes = 0
        self._acts = {plan.REMOVE: 0, plan.HAND_OVER: 0}
        self._etcd_errors = 0
        self._refusals = dict.fromkeys(plan.REFUSALS, 0)
        self._code: str | None = None

    def ticked(self, now: float) -> None:
        with self._lock:
            self._last_tick = now

    def heard(self, leader: str | None, suspects: bool, silence: float) -> None:
        with self._lock:
            self._leader, self._suspects, self._silence = leader, suspects, silence

    def decided(self, decision: plan.Decision) -> None:
        with self._lock:
            self._code, self._votes = decision.code, len(decision.agreeing)

    def refused(self, code: str) -> None:
        with self._lock:
            self._refusals[code] += 1

    def acted(self, code: str) -> None:
        with self._lock:
            self._acts[code] += 1

    def etcd_error(self) -> None:
        with self._lock:
            self._etcd_errors += 1

    def healthy(self) -> bool:
        with self._lock:
            return self._last_tick is not None and self._clock() - self._last_tick < STUCK_SECONDS

    def text(self) -> str:
        up = self.healthy()
        with self._lock:
            leader = {"leader": self._leader} if self._leader is not None else None
            lines = [
                *_family("up", "gauge", "1 while the loop runs.", [({}, int(up))]),
                *_family(
                    "suspects",
                    "gauge",
                    "1 while this member holds the leader for dead.",
                    [(leader, int(self._suspects))] if leader else [],
                ),
                *_family(
                    "silence_seconds", "gauge", "Seconds without a sign of life.", [({}, round(self._silence, 3))]
                ),
                *_family("votes", "gauge", "Members that hold the present leader for dead.", [({}, self._votes)]),
                *_family(
                    "removals_total",
                    "counter",
                    "Leader keys removed by this member.",
                    [({}, self._acts[plan.REMOVE])],
                ),
                *_family(
                    "handovers_total",
                    "counter",
                    "Leader keys handed to this member by itself.",
                    [({}, self._acts[plan.HAND_OVER])],
                ),
                *_family(
                    "refusals_total",
                    "counter",
                    "Times that a suspicion met a refusal.",
                    [({"code": code}, count) for code, count in self._refusals.items()],
                ),
                *_family("etcd_errors_total", "counter", "Requests that etcd failed.", [({}, self._etcd_errors)]),
                *_family(
                    "decision",
                    "gauge",
                    "1 for the present decision.",
                    [({"code": code}, int(code == self._code)) for code in plan.CODES],
                ),
            ]
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, told: str, samples: t.Sequence[tuple[t.Mapping[str, str], float]]) -> t.Iterator[str]:
    full = f"dedicated_detector_{name}"
    yield f"# HELP {full} {told}"
    yield f"# TYPE {full} {kind}"
    for labels, value in samples:
        inner = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
        yield f"{full}{{{inner}}} {value}" if inner else f"{full} {value}"


def answer(metrics: Metrics, path: str) -> tuple[int, str]:
    path = path.partition("?")[0]
    if path == "/metrics":
        return 200, metrics.text()
    if path == "/health":
        return (200, "ok\n") if metrics.healthy() else (503, "the loop does not come round\n")
    return 404, "/metrics or /health\n"


def serve(metrics: Metrics, port: int) -> http.server.ThreadingHTTPServer:
    """Answers on loopback, in a thread of its own. Raises OSError when the port is taken."""

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            status, text = answer(metrics, self.path)
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
            """Standard output is for decisions."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server

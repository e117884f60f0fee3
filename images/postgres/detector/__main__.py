# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m detector /etc/patroni/detector.json"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

from . import config as configuration
from . import metrics as shown
from . import probes
from .etcd import Etcd, HttpTransport, Tls
from .service import Detector, log_line


def _refuse(problem: str) -> int:
    log_line({"event": "refused", "problem": problem})
    print(f"detector: {problem}", file=sys.stderr)
    return 2


def run(config: configuration.Config) -> int:
    tls = Tls(config.ca, config.cert, config.key)
    metrics = shown.Metrics()
    try:
        tls.context()
        database = probes.LocalDatabase(config.socket_dir)
        shown.serve(metrics, config.metrics_port)
    except (OSError, ImportError) as exc:
        return _refuse(f"cannot start: {exc}")
    etcd = Etcd(HttpTransport(tls), config.endpoints, config.address, config.username, config.password)
    senses = probes.Senses(probes.asks(tls, database, config.probe_timeout), config.interval)
    detector = Detector(config, etcd, senses, metrics)

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    log_line({"event": "start", "name": config.name, "scope": config.scope, "members": list(config.members)})
    senses.start()
    while not stop.is_set():
        began = time.monotonic()
        detector.tick()
        stop.wait(max(0.05, began + detector.pause() - time.monotonic()))
    senses.stop()
    detector.stop()
    log_line({"event": "stop"})
    return 0


def main(argv: list[str]) -> int:
    if len(argv) != 2:
        print("usage: python3 -m detector CONFIGURATION", file=sys.stderr)
        return 2
    try:
        config = configuration.parse(Path(argv[1]).read_text())
    except (OSError, UnicodeDecodeError, configuration.BadConfig) as exc:
        return _refuse(f"{argv[1]}: {exc}")
    return run(config)


if __name__ == "__main__":
    sys.exit(main(sys.argv))

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger client: numbered rows, one transaction each, over the way that Odoo takes. Runs on a host of the lab.

    ledger.py FOLDER CLIENT RATE SOCKETS DATABASE USER     (the password: LEDGER_PASSWORD)

FOLDER/CLIENT.ledger holds what was tried and what became of it; each line is on the disk before the next step. On
standard output: one line per acknowledgement. It stops when its standard input ends, at once even if a COMMIT hangs:
what has no end in the file is indeterminate.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import typing as t

import psycopg2

SYNC_CANCELED = "canceling"  # "canceling wait for synchronous replication": committed here, and nobody knows where else


class Notes:
    """The file: a line is on the disk when the call returns."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)

    def __call__(self, kind: str, number: int, rest: str = "") -> None:
        line = f"{kind} {number} {time.monotonic():.6f} {rest}".rstrip()
        os.write(self.descriptor, (line.replace("\n", " ") + "\n").encode())
        os.fdatasync(self.descriptor)


def say(*words: t.Any) -> None:
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def stop_with_input() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def write(connection: t.Any, notes: Notes, client: str, number: int) -> None:
    """One transaction. Raises what the driver raises, after it was noted."""
    notes("T", number)
    try:
        connection.cursor().execute("INSERT INTO fault_probe.ledger (client, n) VALUES (%s, %s)", (client, number))
    except psycopg2.Error as error:
        notes("F", number, str(error))
        raise
    del connection.notices[:]
    try:
        connection.commit()
    except psycopg2.Error as error:
        notes("I", number, str(error))
        raise
    if any(SYNC_CANCELED in notice for notice in connection.notices):
        notes("I", number, connection.notices[-1])
        return
    notes("A", number)
    say("A", number, f"{time.monotonic():.4f}")


def main() -> None:
    folder, client, rate, sockets, database, user = sys.argv[1:]
    os.makedirs(folder, mode=0o700, exist_ok=True)
    notes = Notes(os.path.join(folder, f"{client}.ledger"))
    threading.Thread(target=stop_with_input, daemon=True).start()
    where: dict[str, t.Any] = {"host": sockets, "port": 6432, "dbname": database, "user": user}
    connection, number, pause = None, 0, 1 / float(rate)
    due = time.monotonic()
    while True:
        # Missed turns are not made up for: a gap must not be followed by a burst.
        due = max(due + pause, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            if connection is None:
                connection = psycopg2.connect(password=os.environ["LEDGER_PASSWORD"], connect_timeout=70, **where)
            number += 1
            write(connection, notes, client, number)
        except psycopg2.Error as error:
            say("E", f"{time.monotonic():.4f}", str(error).replace("\n", " ")[:200])
            if connection is not None:
                connection.close()
            connection = None
            time.sleep(0.05)


main()

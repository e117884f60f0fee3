# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a key in Redis over the socket that Odoo uses, ten times a second. Runs on a host of the lab.

    redis_writer.py KEY RATE SOCKET USER     (the password: REDIS_PASSWORD)

One line per acknowledged write, and one per error. It stops when its standard input ends.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time


def say(*words: str) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def stop_with_input() -> None:
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


class Refused(OSError):
    """Redis answered with an error."""


class Redis:
    """As much of the protocol as it takes."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        # Odoo's session store waits as long before it tries again.
        self.socket.settimeout(1.0)
        self.socket.connect(path)

    def ask(self, *words: str) -> None:
        parts = [f"*{len(words)}\r\n", *(f"${len(word.encode())}\r\n{word}\r\n" for word in words)]
        self.socket.sendall("".join(parts).encode())
        answer = b""
        while not answer.endswith(b"\r\n"):
            more = self.socket.recv(4096)
            if not more:
                raise Refused("the connection was closed")
            answer += more
        if not answer.startswith(b"+"):
            raise Refused(answer.decode(errors="replace").strip())


def main() -> None:
    key, rate, path, user = sys.argv[1:]
    threading.Thread(target=stop_with_input, daemon=True).start()
    redis, number = None, 0
    while True:
        began = time.monotonic()
        try:
            if redis is None:
                redis = Redis(path)
                redis.ask("AUTH", user, os.environ["REDIS_PASSWORD"])
            number += 1
            redis.ask("SET", key, str(number), "EX", "600")
            say("A", str(number), f"{time.monotonic():.4f}")
        except OSError as error:
            say("E", f"{time.monotonic():.4f}", str(error)[:120])
            if redis is not None:
                redis.socket.close()
            redis = None
        time.sleep(max(0.0, began + 1 / float(rate) - time.monotonic()))


main()

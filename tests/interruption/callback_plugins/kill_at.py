# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills its own run at a task boundary: the process group, with SIGKILL, so that nothing gets a chance to tidy up.

KILL_AT_TASK=12               at the start of the 12th task
KILL_AT_NAME='etcd | Bring'   at the start of the first task whose name contains this
KILL_AFTER=3.5                that many seconds after that start instead: in the middle of the task
KILL_RECORD=/path             appends one line for every task that starts
"""

from __future__ import annotations

import os
import signal
import threading
import typing as t
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: kill_at
type: aggregate
short_description: Kills its own run at a task boundary
version_added: 0.1.0
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - For the tests of interrupted runs; not part of the collection.
requirements:
  - The run leads its own process group.
"""


def kill() -> None:
    """The whole group: ansible-playbook, its workers, and who called it."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kill_at"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: t.Any, **options: t.Any) -> None:
        super().__init__(*arguments, **options)
        self._count = 0
        self._number = int(os.environ.get("KILL_AT_TASK") or 0)
        self._name = os.environ.get("KILL_AT_NAME") or ""
        self._delay = float(os.environ.get("KILL_AFTER") or 0)
        self._record = os.environ.get("KILL_RECORD") or ""

    def v2_playbook_on_task_start(self, task: t.Any, is_conditional: bool) -> None:
        self._count += 1
        name = task.get_name().strip()
        if self._record:
            with Path(self._record).open("a", encoding="utf-8") as file:
                file.write(f"{self._count}\t{name}\n")
        if self._count != self._number and not (self._name and self._name in name):
            return
        if self._delay:
            self._name = ""
            timer = threading.Timer(self._delay, kill)
            timer.daemon = True
            timer.start()
        else:
            kill()

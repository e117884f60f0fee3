# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes: the master and the cron workers outlive an outage.

Odoo 19 by itself: the cron worker dies when its LISTEN connection breaks; the master then checks the registries
before it starts another one, gets the same error, and exits with everything below it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import time

from odoo import sql_db
from odoo.service import server

from . import plan, watch


def _wrap_process_spawn(stock):
    @functools.wraps(stock)
    def process_spawn(self):
        try:
            stock(self)
        except Exception as exc:
            if not watch.outage(exc):
                raise
            # Asked again at the next beat, in at most 4 s. What the check opened must not be inherited by a fork.
            sql_db.close_all()

    return process_spawn


def _listen(worker):
    """The connecting half of WorkerCron.start."""
    started = time.monotonic()
    cursor = sql_db.db_connect("postgres").cursor()
    try:
        cursor.execute("SELECT pg_is_in_recovery()")
        if cursor.fetchone()[0]:
            # A standby delivers no notification: as good as away.
            raise _StandbyAnswered("the server that answers is a standby")
        cursor.execute("LISTEN cron_trigger")
        cursor.commit()
    except Exception:
        _drop(cursor)
        raise
    worker.dbcursor = cursor
    watch.worked(plan.DATABASE, started)


class _StandbyAnswered(Exception):
    dedicated_outage = plan.DATABASE


def _drop(cursor):
    with contextlib.suppress(Exception):
        cursor._cnx.close()
    with contextlib.suppress(Exception):
        cursor.close()


def _listen_again(worker):
    """Until it works, or the worker is told to stop; the master sees that the worker lives."""
    failures = 0
    while worker.alive and worker.ppid == os.getppid():
        worker.multi.pipe_ping(worker.watchdog_pipe)
        try:
            _listen(worker)
        except Exception as exc:
            if not watch.outage(exc):
                raise
            failures += 1
            with contextlib.suppress(InterruptedError):
                select.select([worker.wakeup_fd_r], [], [], plan.backoff(failures))
        else:
            return
    worker.alive = False


def _wrap_cron_start(stock):
    @functools.wraps(stock)
    def start(self):
        try:
            stock(self)
        except Exception as exc:
            if not watch.outage(exc):
                raise
            _listen_again(self)

    return start


def _wrap_cron_step(stock):
    @functools.wraps(stock)
    def step(self):
        try:
            stock(self)
        except Exception as exc:
            if not watch.outage(exc) and not self.dbcursor._cnx.closed:
                raise
            _drop(self.dbcursor)
            _listen_again(self)

    return step


def _wrap_cron_stop(stock):
    @functools.wraps(stock)
    def stop(self):
        try:
            stock(self)
        except Exception as exc:
            if not watch.outage(exc):
                raise

    return stop


def _wrap_cron_thread(stock):
    @functools.wraps(stock)
    def cron_thread(self, number):
        failures = 0
        while True:
            started = time.monotonic()
            try:
                stock(self, number)
            except Exception as exc:
                if not watch.outage(exc):
                    raise
                failures = 1 if time.monotonic() - started > 10 else failures + 1
                time.sleep(plan.backoff(failures))

    return cron_thread


def install():
    server.PreforkServer.process_spawn = _wrap_process_spawn(server.PreforkServer.process_spawn)
    cron = server.WorkerCron
    cron.start = _wrap_cron_start(cron.start)
    cron.sleep = _wrap_cron_step(cron.sleep)
    cron.process_work = _wrap_cron_step(cron.process_work)
    cron.stop = _wrap_cron_stop(cron.stop)
    server.ThreadedServer.cron_thread = _wrap_cron_thread(server.ThreadedServer.cron_thread)

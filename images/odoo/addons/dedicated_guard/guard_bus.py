# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live notifications: listen again within 2 s and deliver what was missed.

Odoo 19 by itself sleeps 50 s after any error, and what was sent meanwhile waits for the next notification.
"""

from __future__ import annotations

import functools
import logging
import threading
import time

from psycopg2.pool import PoolError

from odoo import sql_db
from odoo.modules.module import load_openerp_module

from . import plan, watch

_logger = logging.getLogger(__name__)


def _deliver_missed(dispatch):
    for websocket in {ws for sockets in list(dispatch._channels_to_ws.values()) for ws in list(sockets)}:
        websocket.trigger_notification_dispatching()


def _run(bus):
    def run(self):
        failures = 0
        while not bus.stop_event.is_set():
            started = time.monotonic()
            try:
                if failures:
                    with sql_db.db_connect("postgres").cursor() as cr:
                        cr.execute("SELECT 1")
                    watch.worked(plan.DATABASE, started)
                    # By then loop() listens, so that nothing falls between the two.
                    threading.Timer(1.0, _deliver_missed, [self]).start()
                self.loop()
            except Exception as exc:
                if bus.stop_event.is_set():
                    return
                if not watch.outage(exc):
                    _logger.exception("Bus.loop error, sleep and retry")
                failures = 1 if time.monotonic() - started > 10 else failures + 1
                bus.stop_event.wait(plan.backoff(failures))

    return run


def _wrap_message(stock):
    @functools.wraps(stock)
    def serve_websocket_message(self, message):
        try:
            return stock(self, message)
        except Exception as exc:
            if watch.outage(exc):
                raise PoolError("away") from exc  # closes the socket with "try later"
            raise

    return serve_websocket_message


def _wrap_transport_error(stock):
    @functools.wraps(stock)
    def _handle_transport_error(self, exc):
        if not isinstance(exc, OSError) and watch.outage(exc):
            exc = PoolError("away")
        return stock(self, exc)

    return _handle_transport_error


def install():
    # The module itself is installed in every database with `web`; it is only imported early here.
    load_openerp_module("bus")
    from odoo.addons.bus import websocket
    from odoo.addons.bus.models import bus

    bus.ImDispatch.run = _run(bus)
    websocket.WebsocketRequest.serve_websocket_message = _wrap_message(
        websocket.WebsocketRequest.serve_websocket_message
    )
    websocket.Websocket._handle_transport_error = _wrap_transport_error(websocket.Websocket._handle_transport_error)

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server-wide (`server_wide_modules = base,rpc,web,dedicated_request_id,...`); it is not installed in a database.

HAProxy gives every request an id in the header X-Request-Id; the edge's access log has it, too.
"""

from __future__ import annotations

import functools
import logging
import re
import threading

from odoo import http
from odoo.service import server

# HAProxy's uuid(). Anything else came another way, and is not written down.
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


class _Number(logging.Filter):
    """Appends the id to what Odoo's format ends with."""

    def filter(self, record: logging.LogRecord) -> bool:
        number = getattr(threading.current_thread(), "dedicated_request_id", "")
        if number and not hasattr(record, "dedicated_request_id"):
            record.dedicated_request_id = number
            record.perf_info = f"{getattr(record, 'perf_info', '')} request={number}".strip()
        return True


def _wrap_call(stock):
    @functools.wraps(stock)
    def __call__(self, environ, start_response):
        given = environ.get("HTTP_X_REQUEST_ID", "")
        threading.current_thread().dedicated_request_id = given if ID.match(given) else ""
        return stock(self, environ, start_response)

    return __call__


def _wrap_process_request(stock):
    @functools.wraps(stock)
    def process_request(self, client, addr):
        try:
            return stock(self, client, addr)
        finally:
            # What the worker writes between two requests is no request's.
            threading.current_thread().dedicated_request_id = ""

    return process_request


def install():
    http.Application.__call__ = _wrap_call(http.Application.__call__)
    server.WorkerHTTP.process_request = _wrap_process_request(server.WorkerHTTP.process_request)
    number = _Number()
    for handler in logging.getLogger().handlers:
        handler.addFilter(number)

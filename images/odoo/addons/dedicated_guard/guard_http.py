# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests: an outage is 503 with Retry-After, whatever Odoo would have made of it.

Odoo 19 by itself logs the user out when it cannot open a cursor (Application.__call__ on RegistryError), shows the
database selector when it cannot list databases, and turns a connection lost during authentication into AccessDenied.
"""

from __future__ import annotations

import functools
import time

import psycopg2
from werkzeug.exceptions import HTTPException, ServiceUnavailable

import odoo.service.db
from odoo import http, sql_db

from . import plan, watch


class Unavailable(ServiceUnavailable):
    """The answer; it goes through Odoo's error handling untouched and unlogged."""

    def __init__(self, request, away):
        super().__init__(retry_after=plan.RETRY_AFTER)
        httprequest = request.httprequest
        browser = httprequest.method in ("GET", "HEAD") and "text/html" in httprequest.headers.get("Accept", "")
        content_type, body = plan.page(away.resource, browser)
        self.error_response = http.Response(
            body,
            status=self.code,
            headers=[
                ("Content-Type", content_type),
                ("Retry-After", str(plan.RETRY_AFTER)),
                ("Cache-Control", "no-store"),
            ],
        )
        # The session was already rotated and saved under its new name when the transaction failed: the browser has
        # to learn the name, or it would come back with one that dies after two minutes.
        for cookie in request.future_response.headers.getlist("Set-Cookie"):
            if cookie.startswith("session_id="):
                self.error_response.headers.add("Set-Cookie", cookie)


def _as_unavailable(request, exc):
    if isinstance(exc, Unavailable):
        return exc
    if isinstance(exc, HTTPException) and exc.code is None:
        return None  # a valid response on its way out
    away = watch.outage(exc)
    if away is None:
        return None
    session = getattr(request, "session", None)
    if session is not None:
        session.can_save = False
    return Unavailable(request, away)


def _detached(request):
    """A session that nobody will save and no database, for what can be answered without both."""
    session = http.root.session_store.new()
    for key, value in http.get_default_session().items():
        session.setdefault(key, value)
    session.context["lang"] = request.default_lang()
    session.can_save = False
    session.is_dirty = False
    return session, None


def _wrap_session(stock):
    @functools.wraps(stock)
    def _get_session_and_dbname(self):
        path = self.httprequest.path
        if path in plan.LIVENESS_PATHS:
            return _detached(self)
        started = time.monotonic()
        try:
            result = stock(self)
        except Exception as exc:
            unavailable = _as_unavailable(self, exc)
            if unavailable is None:
                raise
            if http.root.get_static_file(path):
                return _detached(self)
            raise unavailable from exc
        if self.httprequest._session_id__:
            watch.worked(plan.SESSION_STORE, started)
        return result

    return _get_session_and_dbname


def _wrap_serve(stock, resource):
    @functools.wraps(stock)
    def _serve(self):
        started = time.monotonic()
        try:
            response = stock(self)
        except Exception as exc:
            unavailable = _as_unavailable(self, exc)
            if unavailable is None or unavailable is exc:
                raise
            raise unavailable from exc
        if resource:
            watch.worked(resource, started)
        return response

    return _serve


def _wrap_served_exception(stock):
    @functools.wraps(stock)
    def _update_served_exception(self, exc):
        # Before Odoo makes an error page of it, for which it would want the database.
        return _as_unavailable(self, exc) or stock(self, exc)

    return _update_served_exception


def _wrap_list_dbs(stock):
    @functools.wraps(stock)
    def list_dbs(force=False):
        found = stock(force)
        if not found:
            # It also returns nothing when its query failed: ask again, and let the failure be seen.
            with sql_db.db_connect("postgres").cursor() as cr:
                cr.execute("SELECT 1")
            found = stock(force)
        return found

    return list_dbs


def _wrap_db_list(stock):
    @functools.wraps(stock)
    def db_list(force=False, host=None):
        # The stock function takes an outage for "there are no databases".
        try:
            found = odoo.service.db.list_dbs(force)
        except psycopg2.Error as exc:
            if watch.outage(exc):
                raise
            return stock(force, host)
        return http.db_filter(found, host)

    return db_list


def install():
    request = http.Request
    request._get_session_and_dbname = _wrap_session(request._get_session_and_dbname)
    request._serve_db = _wrap_serve(request._serve_db, plan.DATABASE)
    request._serve_nodb = _wrap_serve(request._serve_nodb, None)
    request._update_served_exception = _wrap_served_exception(request._update_served_exception)
    odoo.service.db.list_dbs = _wrap_list_dbs(odoo.service.db.list_dbs)
    http.db_list = _wrap_db_list(http.db_list)

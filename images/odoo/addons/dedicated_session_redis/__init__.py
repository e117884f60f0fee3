# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server-wide: load it with `server_wide_modules = base,rpc,web,dedicated_guard,dedicated_session_redis`."""

import functools
import logging

from odoo import http
from odoo.tools import config

from . import cookie, plan, store

_logger = logging.getLogger(__name__)


def _session_store(application):
    return store.RedisSessionStore(store.connect(plan.settings(config.get)), session_class=http.Session)


def install():
    cookie.install()
    settings = plan.settings(config.get)
    if settings is None:
        _logger.warning("dedicated_session_url is not set: sessions stay in files")
        return
    prop = functools.cached_property(_session_store)
    prop.__set_name__(http.Application, "session_store")
    http.Application.session_store = prop
    http.root.__dict__.pop("session_store", None)
    _logger.info("Sessions are kept in Redis at %s under %s*", plan.public_url(settings.url), settings.prefix)

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The session cookie is marked Secure wherever the browser came over HTTPS; Odoo marks it HttpOnly only.

Without it a browser that does not know HSTS yet would send the session in clear to the port that redirects.
"""

import functools

from odoo import http


def _secure(stock):
    @functools.wraps(stock)
    def set_cookie(self, key, *args, **kwargs):
        request = http.request
        if key == "session_id" and request and request.httprequest.scheme == "https":
            kwargs["secure"] = True
        return stock(self, key, *args, **kwargs)

    return set_cookie


def install():
    for kind in (http._Response, http.FutureResponse):
        kind.set_cookie = _secure(kind.set_cookie)

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server-wide (`server_wide_modules = base,rpc,web,dedicated_guard,...`); it is not installed in a database.

`plan` decides (pure), `watch` remembers and logs, `guard_*` hang both into Odoo's three kinds of processes.
"""

from . import guard_bus, guard_http, guard_server, watch


def install():
    watch.quieten_odoo()
    guard_http.install()
    guard_server.install()
    guard_bus.install()

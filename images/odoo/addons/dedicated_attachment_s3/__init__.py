# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server-wide (`server_wide_modules = base,rpc,web,...,dedicated_attachment_s3`); not installed in a database.

`plan` decides (pure), `client` talks to the store, `attachment` hangs both into Odoo's attachments. Loaded also
where no store is set: a row whose content lies in one is then an error, never an empty file.
"""


def install():
    from . import attachment

    attachment.install()

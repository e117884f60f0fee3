# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
{
    "name": "dedicated.odoo request id",
    "summary": "Each line that a request writes into the log says which request it was",
    "version": "19.0.1.0.0",
    "author": "dedicated.odoo contributors",
    "license": "GPL-3",
    "category": "Hidden",
    "depends": ["web"],
    "post_load": "install",
}

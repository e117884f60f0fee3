# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
{
    "name": "dedicated.odoo guard",
    "summary": "Answers 503 while the database or the session store is away; nobody is logged out, nothing exits",
    "version": "19.0.1.0.0",
    "author": "dedicated.odoo contributors",
    "license": "GPL-3",
    "category": "Hidden",
    "depends": ["web"],
    "post_load": "install",
}

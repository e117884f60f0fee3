# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
{
    "name": "dedicated.odoo sessions in Redis",
    "summary": "Keeps the browsers' sessions in Redis, so that they outlive Odoo's container and host",
    "version": "19.0.1.0.0",
    "author": "dedicated.odoo contributors",
    "license": "GPL-3",
    "category": "Hidden",
    "depends": ["web"],
    "external_dependencies": {"python": ["redis"]},
    "post_load": "install",
}

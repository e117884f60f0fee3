# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
{
    "name": "dedicated.odoo attachments in an object store",
    "summary": "Keeps attachments in S3, the same for all hosts; nothing is lost when the store is away",
    "version": "19.0.1.0.0",
    "author": "dedicated.odoo contributors",
    "license": "GPL-3",
    "category": "Hidden",
    "depends": ["web"],
    "external_dependencies": {"python": ["botocore"]},
    "post_load": "install",
}

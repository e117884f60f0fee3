# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public certificates of an edge pair; what is done, and when, stands in plan.py."""

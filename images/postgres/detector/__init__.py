# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes the leader key of a leader that is believed dead, before its lease runs out. The law is in plan.py."""

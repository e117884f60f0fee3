# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options that every module asking pgBackRest has; ``_pgbackrest/arguments.py`` is their specification."""

    DOCUMENTATION = r"""
options:
  container:
    description: Container with PostgreSQL and pgBackRest, on the host where the module runs.
    type: str
    default: postgres
  stanza:
    description: The stanza, which is pgBackRest's name for a cluster and its backups.
    type: str
    required: true
  timeout:
    description:
      - Seconds for each question to a repository or to the server.
      - pgBackRest itself would wait for minutes when a repository does not answer.
    type: int
    default: 60
notes:
  - pgBackRest runs inside the container, with the configuration and the keys that lie there.
"""

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with where backups go and with what is promised of them, before any host is touched."""

from __future__ import annotations

import typing as t

from .._repositories import plan as repositories
from .._repositories.policy import Problem, judge_policy

LAYER, ROLE = "postgres", "pgbackrest"
NAMES = (
    "dedicated_rpo_seconds",
    "pgbackrest_finance_peaks",
    "pgbackrest_policy",
    "pgbackrest_repositories",
    "postgres_archive_timeout",
)
# Of roles/postgres, where the inventory does not set it.
ARCHIVE_TIMEOUT = 30


def judge(given: t.Mapping[str, t.Any], why_weak: t.Callable[[str, t.Any], str | None]) -> list[Problem]:
    """``given`` has those of NAMES that the inventory sets."""
    problems: list[Problem] = []
    if repositories.NAME in given:
        found, problems = repositories.judge(given[repositories.NAME])
        for one in found:
            for name, value in one.secrets.items():
                weak = why_weak(name, value)
                if weak is not None:
                    problems.append(
                        Problem(
                            "weak-secret",
                            f"{repositories.NAME}[{one.number}].{name}",
                            f"{name} of repository {one.number} {weak}; {_how_to_make(name)}",
                        )
                    )
    return [
        *problems,
        *judge_policy(
            given.get("pgbackrest_policy", {}),
            given.get("pgbackrest_finance_peaks", ()),
            given.get("postgres_archive_timeout", ARCHIVE_TIMEOUT),
            given.get("dedicated_rpo_seconds"),
        ),
    ]


def _how_to_make(name: str) -> str:
    if name == "cipher_pass":
        return "make one: openssl rand -base64 24, and keep a copy elsewhere"
    return "take it from the object store" if name.startswith("s3") else "make one: ssh-keygen -t ed25519"

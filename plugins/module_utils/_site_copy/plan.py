# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a database has, beside its data, what its site is made from. Decides, and touches nothing.

Laws (checked by the tests):

1. nothing is written where there is no database, and nothing that nobody could open;
2. what lies there is replaced when its digest is another, or when a part of it is missing or was cut off; otherwise
   nothing is done, so that a run which changes nothing writes nothing;
3. the sealed copy is written before the note that describes it: a run that dies in between is found by law 2.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .._common.errors import Refuse

# Sealing doubles it twice over, every backup carries it, and inventories are texts.
LIMIT = 8 * 1024 * 1024
SEALED = "site.vault"
NOTE = "site.json"


@dataclasses.dataclass(frozen=True)
class Found:
    """What lies in a data directory: whether it holds a database, the noted digest and size, the size of the copy."""

    database: bool
    digest: str = ""
    noted_bytes: int = -1
    bytes: int = -1


def why_not(trees: t.Mapping[str, int], size: int, can_seal: bool) -> Refuse | None:
    """``trees``: how many files each has; ``size``: of all of them (bytes)."""
    empty = sorted(name for name, files in trees.items() if files == 0)
    if empty:
        return Refuse(
            "nothing-to-copy",
            f"No copy of the site is kept: there is no file in {', '.join(empty)}",
            "a backup without them could not be turned into this site again",
            "Give the directory of the inventory, and that of the authority (pki_dir).",
        )
    if size > LIMIT:
        return Refuse(
            "too-large",
            f"No copy of the site is kept: its files have {size // 1048576} MiB",
            f"more than {LIMIT // 1048576} MiB do not belong into every backup",
            "Keep add-ons, dumps and images outside of the inventory's directory.",
        )
    if not can_seal:
        return Refuse(
            "no-secret",
            "No copy of the site is kept",
            "this run has no vault password to seal it with, and it must not lie on a host in the clear",
            "Give --vault-password-file or --vault-id, or the option passphrase.",
        )
    return None


def is_due(found: Found, digest: str) -> bool:
    """Law 2, and the first half of law 1."""
    if not found.database:
        return False
    return found.digest != digest or found.bytes < 0 or found.bytes != found.noted_bytes

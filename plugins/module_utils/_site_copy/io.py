# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The copy in a data directory, on the host."""

from __future__ import annotations

import json
import os
import typing as t

from .._common.errors import DedicatedError
from .plan import NOTE, SEALED, Found


class Place:
    """A data directory of PostgreSQL, whose files belong to ``owner`` (uid and gid)."""

    def __init__(self, data: str, owner: int) -> None:
        self._data = data
        self._owner = owner
        self.directory = os.path.join(data, "dedicated")

    def look(self) -> Found:
        if not os.path.isfile(os.path.join(self._data, "PG_VERSION")):
            return Found(False)
        try:
            with open(os.path.join(self.directory, NOTE), encoding="utf-8") as file:
                note = json.load(file)
            size = os.stat(os.path.join(self.directory, SEALED)).st_size
            return Found(True, str(note["digest"]), int(note["bytes"]), size)
        except (OSError, ValueError, KeyError, TypeError):
            # Missing, or cut off: it is made anew.
            return Found(True)

    def write(self, sealed: bytes, note: t.Mapping[str, t.Any]) -> None:
        """Law 3."""
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            os.chown(self.directory, self._owner, self._owner)
            self._replace(SEALED, sealed)
            self._replace(NOTE, json.dumps({**note, "bytes": len(sealed)}, indent=1, sort_keys=True).encode() + b"\n")
        except OSError as exc:
            raise DedicatedError(
                f"the copy of the site cannot be written into {self.directory}: {exc.strerror or exc}", code="no-write"
            ) from exc

    def _replace(self, name: str, content: bytes) -> None:
        path = os.path.join(self.directory, name)
        handle = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            os.fchown(file.fileno(), self._owner, self._owner)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.new", path)

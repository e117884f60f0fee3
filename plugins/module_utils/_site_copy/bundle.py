# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Directories as one archive that is the same, byte for byte, as long as their content is."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import io
import os
import stat
import tarfile
import typing as t

# History and what programs leave behind; a repository has a place of its own.
SKIPPED = (".git", "__pycache__", ".molecule")
LEFTOVERS = (".pyc", ".retry", ".swp", "~")


class Entry(t.NamedTuple):
    """A file; ``mode`` are its permissions."""

    path: str
    mode: int
    content: bytes


def gather(name: str, root: str, folders: t.Sequence[str] = ()) -> list[Entry]:
    """Every file below a directory, under ``name``. With ``folders``, of its folders only these.

    A link to a file counts as that file; one to a directory is left.
    """
    found = []
    for place, directories, files in os.walk(root):
        wanted = folders if folders and place == root else directories
        directories[:] = sorted(one for one in directories if one in wanted and one not in SKIPPED)
        for one in sorted(files):
            path = os.path.join(place, one)
            if one.endswith(LEFTOVERS) or not os.path.isfile(path):
                continue
            with open(path, "rb") as file:
                content = file.read()
            inside = os.path.join(name, os.path.relpath(path, root))
            found.append(Entry(inside, stat.S_IMODE(os.stat(path).st_mode), content))
    return found


def pack(entries: t.Iterable[Entry]) -> bytes:
    """A tar, compressed; without times and owners."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in sorted(entries):
            info = tarfile.TarInfo(entry.path)
            info.size, info.mode = len(entry.content), entry.mode
            tar.addfile(info, io.BytesIO(entry.content))
    return gzip.compress(raw.getvalue(), mtime=0)


def digest(packed: bytes, secret: bytes) -> str:
    """Keyed: what is noted in the clear is no help to whoever guesses at the content. Another key is another copy."""
    return hmac.new(secret, packed, hashlib.sha256).hexdigest()

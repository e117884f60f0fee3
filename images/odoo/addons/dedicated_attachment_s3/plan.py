# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, settings and what goes where. Pure: standard library only.

An object's name is the SHA-256 of its content below the database that stored it, `<prefix>/<database>/ab/ab12...`; a
row says `s3:<database>/ab/ab12...`. Hence the same content is one object, an object is never written over with
another content, bytes that come back wrong are noticed, and a copy of the database under another name reads the
original's objects but never removes one.

Invariants, of this module and of `attachment`:
- a row names an object only after the store has confirmed it;
- an object is removed only when no row has named it for `keep_days` without a break, counted in the database itself,
  so that a database recovered to any moment of these days finds all its objects. 0 days: never.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import typing as t
import urllib.parse

SCHEME = "s3:"
URI_STYLES = {"path": "path", "host": "virtual"}
SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"
_DATABASE = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
_FNAME = re.compile(rf"s3:({_DATABASE})/([0-9a-f]{{2}})/(\2[0-9a-f]{{62}})")
_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")

# Every page needs them: bundles and styles whatever their size, and small pictures (lists show many at once).
_ASSETS = frozenset({"text/css", "text/scss", "text/javascript", "application/javascript"})
_SMALL_PICTURE = 51200


class SettingsError(ValueError):
    """odoo.conf says something that cannot be meant."""


@dataclasses.dataclass(frozen=True)
class Settings:
    url: str
    bucket: str
    access_key: str = dataclasses.field(repr=False)
    secret_key: str = dataclasses.field(repr=False)
    region: str = "us-east-1"
    prefix: str = "odoo"
    uri_style: str = "path"
    ca_file: str = SYSTEM_CA
    # False: what lies in the store is read, new attachments go where `ir_attachment.location` says.
    write: bool = True
    keep_days: int = 0


def settings(get: t.Callable[[str], object]) -> Settings | None:
    """From odoo.conf's `dedicated_attachment_s3_*`; None when there is no bucket."""

    def text(name: str, default: str = "") -> str:
        value = get(f"dedicated_attachment_s3_{name}")
        found = "" if value in (None, False) else str(value).strip()
        return found or default

    bucket = text("bucket")
    if not bucket or bucket == "False":
        return None
    missing = [name for name in ("url", "access_key", "secret_key") if not text(name)]
    if missing:
        raise SettingsError(f"dedicated_attachment_s3_{missing[0]} is not set, but a bucket is")
    parts = urllib.parse.urlsplit(text("url"))
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.password or parts.path.strip("/"):
        raise SettingsError("dedicated_attachment_s3_url: expected https://HOST[:PORT] and nothing more")
    prefix = text("prefix", Settings.prefix)
    if not _PREFIX.fullmatch(prefix):
        raise SettingsError(f"dedicated_attachment_s3_prefix: {prefix!r} is no plain path")
    uri_style = text("uri_style", Settings.uri_style)
    if uri_style not in URI_STYLES:
        raise SettingsError(f"dedicated_attachment_s3_uri_style: {uri_style!r} is none of {', '.join(URI_STYLES)}")
    keep_days = text("keep_days", "0")
    if not re.fullmatch(r"\d{1,5}", keep_days):
        raise SettingsError(f"dedicated_attachment_s3_keep_days: {keep_days!r} is no number of days")
    return Settings(
        url=text("url").rstrip("/"),
        bucket=bucket,
        access_key=text("access_key"),
        secret_key=text("secret_key"),
        region=text("region", Settings.region),
        prefix=prefix,
        uri_style=uri_style,
        ca_file=text("ca_file", SYSTEM_CA),
        write=text("write", "True").lower() in ("true", "1", "yes"),
        keep_days=int(keep_days),
    )


def fname(database: str, data: bytes) -> str:
    """What a row says of content that this database stores."""
    digest = hashlib.sha256(data).hexdigest()
    return f"{SCHEME}{database}/{digest[:2]}/{digest}"


def is_ours(name: object) -> bool:
    return isinstance(name, str) and name.startswith(SCHEME)


def key(prefix: str, name: str) -> str:
    """The object of a row. Anything but a name of ours is refused: it could lead to another one's objects."""
    if not _FNAME.fullmatch(name):
        raise ValueError(f"Not the name of a stored attachment: {name!r}")
    return f"{prefix}/{name.removeprefix(SCHEME)}"


def intact(name: str, data: bytes) -> bool:
    """Whether these are the bytes that were stored under the name."""
    return name.rpartition("/")[2] == hashlib.sha256(data).hexdigest()


def own_pattern(database: str) -> str:
    """For LIKE: the names that this database may remove."""
    return SCHEME + re.sub(r"([\\%_])", r"\\\1", database) + "/%"


def stays_in_database(mimetype: object, size: int) -> bool:
    kind = str(mimetype or "").partition(";")[0].strip().lower()
    return size == 0 or kind in _ASSETS or (kind.startswith("image/") and size <= _SMALL_PICTURE)


def misplaced(name: str | None, mimetype: object, size: int, *, writes: bool) -> bool:
    """Whether content that lies under this name (None: in the database) belongs elsewhere.

    With writing on: out of Odoo's own file store, which belongs to one host, and out of the database what need not be
    there. With writing off: back into the database.
    """
    if not writes:
        return is_ours(name)
    return not is_ours(name) and (bool(name) or not stays_in_database(mimetype, size))


def is_away(code: str, status: int) -> bool:
    """Whether an S3 error may go away by itself; else somebody has to look at bucket, keys or rights."""
    return status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout", "ServiceUnavailable")

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Odoo's attachments, wrapped. Odoo 19 by itself inserts the row first and writes the content afterwards, and some of
its upload pages catch every error and commit: the row would stay without content. Here the content comes first.

The order of locks is Odoo's own: who adds a row holds ROW EXCLUSIVE on ir_attachment from before the content is stored
until it commits; who removes objects holds SHARE. So nobody removes an object that is just being named.
"""

from __future__ import annotations

import functools
import logging
import time

import psycopg2

from odoo.addons.base.models.ir_attachment import IrAttachment
from odoo.addons.dedicated_guard import plan as guard
from odoo.addons.dedicated_guard import watch
from odoo.exceptions import UserError
from odoo.http import Stream
from odoo.tools import config

from . import client, plan

_logger = logging.getLogger(__name__)

STORAGE = "s3"
# The lock for removing is held for so many objects, and taken so often in a day's cleaning.
BATCH, BATCHES = 50, 100


class Store:
    """The client as the guard sees it: outages are noted once, and so is their end."""

    def __init__(self, settings):
        self.settings = settings
        self.client = client.Client(settings)

    def _watched(self, command, *args):
        started = time.monotonic()
        try:
            result = command(*args, patient=not watch.is_away(guard.OBJECT_STORE))
        except client.StoreUnavailable as exc:
            watch.outage(exc)
            raise
        except client.ObjectMissing:
            watch.worked(guard.OBJECT_STORE, started)
            raise
        watch.worked(guard.OBJECT_STORE, started)
        return result

    def put(self, fname, data):
        self._watched(self.client.put, plan.key(self.settings.prefix, fname), data)

    def get(self, fname, size=None):
        return self._watched(self.client.get, plan.key(self.settings.prefix, fname), size)


def _writes(store):
    return store is not None and store.settings.write


def put(store, env, data):
    """Store content for this database and return its name."""
    fname = plan.fname(env.cr.dbname, data)
    env.cr.execute("LOCK TABLE ir_attachment IN ROW EXCLUSIVE MODE")
    try:
        store.put(fname, data)
    except client.StoreUnavailable as exc:
        raise UserError(
            "The document could not be stored: the object store for attachments does not take it at the moment. "
            "Nothing was saved. Please try again in a few minutes."
        ) from exc
    return fname


def get(store, fname, size=None):
    if store is None:
        _logger.error("%s: odoo.conf names no object store. Set odoo_s3_* as before", fname)
        raise UserError("This document lies in an object store, and none is set up. Please tell the administrator.")
    try:
        data = store.get(fname, size)
    except client.ObjectMissing as exc:
        _logger.error("%s is not in the object store: bring it back from the bucket's versions or a copy", fname)
        raise UserError("This document is not in the object store. Please tell the administrator.") from exc
    if size is None and not plan.intact(fname, data):
        _logger.error("%s has other bytes in the object store than were written: bring an older version back", fname)
        raise UserError("This document is damaged in the object store. Please tell the administrator.")
    return data


def release(env, fname):
    """Remember since when this name may be unused; whether it is, is looked at when something is to be removed."""
    cr = env.cr
    cr.execute("SELECT to_regclass('dedicated_attachment_unused') IS NULL")
    if cr.fetchone()[0]:
        cr.execute("SELECT pg_advisory_xact_lock(hashtext('dedicated_attachment_unused'))")
        cr.execute(
            "CREATE TABLE IF NOT EXISTS dedicated_attachment_unused"
            " (store_fname varchar PRIMARY KEY, since timestamp NOT NULL)"
        )
    cr.execute(
        "INSERT INTO dedicated_attachment_unused AS u VALUES (%s, now() AT TIME ZONE 'UTC')"
        " ON CONFLICT (store_fname) DO UPDATE SET since = excluded.since",
        (fname,),
    )


def collect(store, env):
    """Remove objects that no row has named for `keep_days`; returns how many. Commits."""
    cr, removed = env.cr, 0
    cr.execute("SELECT to_regclass('dedicated_attachment_unused') IS NOT NULL")
    if not cr.fetchone()[0]:
        return 0
    for _batch in range(BATCHES):
        # Before anything that takes a snapshot: what those who were waited for have committed must be seen.
        cr.commit()
        cr.execute("SET LOCAL lock_timeout TO '10s'")
        try:
            cr.execute("LOCK ir_attachment IN SHARE MODE", log_exceptions=False)
        except psycopg2.errors.LockNotAvailable:
            cr.rollback()
            break
        cr.execute(
            "SELECT store_fname, EXISTS (SELECT FROM ir_attachment a WHERE a.store_fname = u.store_fname)"
            " FROM dedicated_attachment_unused u"
            " WHERE since < now() AT TIME ZONE 'UTC' - %s * interval '1 day' AND store_fname LIKE %s"
            " ORDER BY since LIMIT %s",
            (store.settings.keep_days, plan.own_pattern(cr.dbname), BATCH),
        )
        found = cr.fetchall()
        try:
            for fname, used in found:
                if not used:
                    store.client.delete(plan.key(store.settings.prefix, fname))
                    removed += 1
                cr.execute("DELETE FROM dedicated_attachment_unused WHERE store_fname = %s", (fname,))
        except client.StoreUnavailable as exc:
            _logger.warning("Unused objects are not removed today, the object store %s", exc)
            found = []
        cr.commit()
        if len(found) < BATCH:
            break
    if removed:
        _logger.info("%s objects removed that nothing has named for %s days", removed, store.settings.keep_days)
    return removed


def relocate(store, attachment):
    """Put one attachment's content where new content of its kind goes; True when it was elsewhere.

    Only the place is written, in SQL: it is no change of the document, and would be refused for one that belongs to
    a restricted audit trail.
    """
    env, cr = attachment.env, attachment.env.cr
    cr.execute(
        "SELECT store_fname, mimetype, checksum, db_datas IS NOT NULL FROM ir_attachment"
        " WHERE id = %s AND type = 'binary' FOR UPDATE",
        (attachment.id,),
    )
    row = cr.fetchone()
    if row is None or not (row[0] or row[3]):
        return False
    old, mimetype, checksum, _in_database = row
    attachment.invalidate_recordset(["raw", "datas", "db_datas", "store_fname"])
    data = attachment.with_context(bin_size=False).raw or b""
    if checksum and attachment._compute_checksum(data) != checksum:
        raise UserError(f"Attachment {attachment.id} has other bytes than were stored; it stays where it is")
    fname = put(store, env, data) if _writes(store) and not plan.stays_in_database(mimetype, len(data)) else None
    if fname == old:
        return False
    cr.execute(
        "UPDATE ir_attachment SET store_fname = %s, db_datas = %s WHERE id = %s",
        (fname, None if fname else psycopg2.Binary(data), attachment.id),
    )
    attachment.invalidate_recordset(["raw", "datas", "db_datas", "store_fname"])
    if old:
        attachment._file_delete(old)
    return True


def misplaced(store, env):
    """Ids of attachments that `relocate` is to move."""
    env.cr.execute(
        "SELECT id, store_fname, mimetype, coalesce(file_size, 0) FROM ir_attachment"
        " WHERE type = 'binary' AND (store_fname IS NOT NULL OR db_datas IS NOT NULL) ORDER BY id"
    )
    return [number for number, *row in env.cr.fetchall() if plan.misplaced(*row, writes=_writes(store))]


def _stream(attachment):
    """What is sent to a browser. Odoo holds an upload in memory too."""
    data = attachment.raw
    return Stream(
        type="data",
        data=data,
        size=len(data),
        mimetype=attachment.mimetype,
        download_name=attachment.name,
        etag=attachment.checksum,
        public=attachment.public,
        last_modified=attachment.write_date,
    )


def _handled(cr):
    """Checksums of contents of this transaction that are where they belong before Odoo asks to write them."""
    return cr.cache.setdefault("dedicated_attachment_s3", set())


# -- the methods of ir.attachment, each as a function of the stock one ------------------------------------------------

_store = None  # set once, by install


def _storage(stock, self):
    return STORAGE if _writes(_store) else stock(self)


def _get_storage_domain(stock, self):
    if not _writes(_store):
        return stock(self)
    outside = ["&", ("store_fname", "!=", False), "!", ("store_fname", "=like", "s3:%")]
    return ["|", ("db_datas", "!=", False), *outside]


def _migrate(stock, self):
    mine = self if _writes(_store) else self.filtered(lambda attachment: plan.is_ours(attachment.store_fname))
    for attachment in mine:
        relocate(_store, attachment)
    if self - mine:
        stock(self - mine)


def _get_path(stock, self, bin_data, sha):
    return (plan.fname(self.env.cr.dbname, bin_data), "") if _writes(_store) else stock(self, bin_data, sha)


def _get_datas_related_values(stock, self, data, mimetype):
    values = stock(self, data, mimetype)
    if not data or not _writes(_store):
        return values
    if plan.stays_in_database(mimetype, len(data)):
        values.update(store_fname=False, db_datas=data)
    else:
        values.update(store_fname=put(_store, self.env, data), db_datas=False)
    _handled(self.env.cr).add(values["checksum"])
    return values


def _file_write(stock, self, bin_value, checksum):
    if not _writes(_store):
        return stock(self, bin_value, checksum)
    if checksum in _handled(self.env.cr):
        _handled(self.env.cr).discard(checksum)
        return plan.fname(self.env.cr.dbname, bin_value)
    return put(_store, self.env, bin_value)


def _file_read(stock, self, fname, size=None):
    return get(_store, fname, size) if plan.is_ours(fname) else stock(self, fname, size)


def _file_delete(stock, self, fname):
    return release(self.env, fname) if plan.is_ours(fname) else stock(self, fname)


def _to_http_stream(stock, self):
    self.ensure_one()
    return _stream(self) if plan.is_ours(self.store_fname) else stock(self)


def _gc_file_store(stock, self):
    if _writes(_store) and _store.settings.keep_days:
        collect(_store, self.env)
    return stock(self)


WRAPPED = (
    _storage,
    _get_storage_domain,
    _migrate,
    _get_path,
    _get_datas_related_values,
    _file_write,
    _file_read,
    _file_delete,
    _to_http_stream,
    _gc_file_store,
)


def _wrapped(stock, function):
    @functools.wraps(stock)
    def method(self, *args, **kwargs):
        return function(stock, self, *args, **kwargs)

    return method


def configured():
    settings = plan.settings(config.get)
    return Store(settings) if settings else None


def install():
    global _store
    _store = configured()
    for function in WRAPPED:
        name = function.__name__
        setattr(IrAttachment, name, _wrapped(getattr(IrAttachment, name), function))
    if _writes(_store):
        found = _store.settings
        _logger.info("Attachments are kept at %s in bucket %s under %s/", found.url, found.bucket, found.prefix)

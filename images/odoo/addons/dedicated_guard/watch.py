# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remembers which resource is away, once for all workers, and logs the two ends of an outage."""

from __future__ import annotations

import logging
import mmap
import struct
import time

from . import plan

_logger = logging.getLogger(__name__)

_DOUBLE = struct.Struct("d")
_OFFSETS = {plan.DATABASE: 0, plan.SESSION_STORE: 8, plan.OBJECT_STORE: 16}

# Anonymous and made before the workers are forked, hence shared by them: one line for all. Two workers that fail in
# the same microsecond write two lines; a lock that a killed worker holds would be worse.
_shared = mmap.mmap(-1, mmap.PAGESIZE)


def chain(exc: BaseException) -> list[plan.Fault]:
    found: list[plan.Fault] = []
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen and len(found) < 20:
        seen.add(id(link))
        kinds = frozenset(f"{cls.__module__}.{cls.__qualname__}" for cls in type(link).__mro__)
        found.append(
            plan.Fault(kinds, str(link), getattr(link, "pgcode", None), getattr(link, "dedicated_outage", None))
        )
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return found


def outage(exc: BaseException) -> plan.Away | None:
    """The outage behind this error, noted and logged, or None."""
    away = plan.why_away(chain(exc))
    if away:
        _note(away.resource, 0.0, away)
    return away


def worked(resource: str, started: float) -> None:
    _note(resource, started, None)


def is_away(resource: str) -> bool:
    return bool(_DOUBLE.unpack_from(_shared, _OFFSETS[resource])[0])


def _note(resource: str, started: float, away: plan.Away | None) -> None:
    offset = _OFFSETS.get(resource, 0)
    since = _DOUBLE.unpack_from(_shared, offset)[0]
    if away is None and not since:
        return
    now = time.monotonic()
    after, say = plan.transition(since, started, now, failed=away is not None)
    if after != since:
        _DOUBLE.pack_into(_shared, offset, after)
    if not say:
        return
    if away:
        _logger.warning(plan.gone_message(away))
    else:
        _logger.warning(plan.back_message(resource, now - since))


class _Quiet(logging.Filter):
    """Odoo writes a line, or a traceback, per attempt while the database is away; ours says it once."""

    STARTS = ("Connection to the database failed", "bad query", "Failed to load registry", "Listing databases failed")

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is not None and outage(error):
            return False
        return not (is_away(plan.DATABASE) and str(record.msg).startswith(self.STARTS))


def quieten_odoo() -> None:
    quiet = _Quiet()
    for name in (
        "odoo.sql_db",
        "odoo.registry",
        "odoo.service.db",
        "odoo.service.server",
        "odoo.addons.base.models.ir_cron",
        "odoo.addons.base.models.ir_http",
        "odoo.addons.bus.websocket",
    ):
        logging.getLogger(name).addFilter(quiet)

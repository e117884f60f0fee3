# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Odoo 19's session store interface on Redis. An unreachable Redis is SessionStoreUnavailable, never "no session".

No MULTI/EXEC on purpose: Redis (8.0.2 seen) drops every transaction of its append-only file at start when the default
user is switched off without permissions, which would log everybody out. Single commands in the right order do: after
each of them the sessions are in order.
"""

from __future__ import annotations

import logging
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from odoo import http
from odoo.service import security
from odoo.tools._vendor.sessions import SessionStore

from . import plan

_logger = logging.getLogger(__name__)

TIMEOUT = 1.5


class SessionStoreUnavailable(Exception):
    """Redis did not answer in time. The guard answers 503."""

    dedicated_outage = "session store"


class Store:
    """Redis with bounded patience: runs a command function, retries, translates errors."""

    def __init__(self, client: redis.Redis, prefix: str):
        self.client = client
        self.prefix = prefix
        self.away = False

    def run(self, command):
        for delay in (*plan.retry_delays(self.away), None):
            try:
                result = command(self.client)
            except redis.RedisError as exc:
                # Also an answer of the wrong server (a master that became a replica): look for the right one anew.
                self.client.connection_pool.disconnect(inuse_connections=False)
                if delay is None:
                    self.away = True
                    raise SessionStoreUnavailable(f"{type(exc).__name__}: {exc}") from exc
                time.sleep(delay)
            else:
                self.away = False
                return result
        raise AssertionError("unreachable")


def connect(settings: plan.Settings) -> Store:
    """No connection is made before the first command."""
    client = redis.Redis.from_url(
        settings.url,
        username=settings.user,
        password=settings.password,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        health_check_interval=15,
        # Store.run retries; redis-py's own default waits for tens of seconds.
        retry=Retry(NoBackoff(), 0),
        # Two commands less for the ACL to allow.
        lib_name=None,
        lib_version=None,
    )
    return Store(client, settings.prefix)


class RedisSessionStore(SessionStore):
    # The stock class: its key generator and validity check are what Odoo's database columns expect.
    generate_key = http.FilesystemSessionStore.generate_key
    is_valid_key = http.FilesystemSessionStore.is_valid_key

    def __init__(self, store, session_class=None):
        super().__init__(session_class)
        self.store = store

    # -- reading ----------------------------------------------------------------------------------------------

    def get(self, sid):
        if not self.is_valid_key(sid) or not plan.is_sid(sid):
            return self.new()
        data = self._read(self.store.run, sid)
        return self.new() if data is None else self.session_class(data, sid, False)

    def _read(self, run, sid):
        key, field = plan.place(self.store.prefix, sid)
        return plan.decode(run(lambda client: client.hget(key, field)))

    # -- writing ----------------------------------------------------------------------------------------------

    def _lifetime(self):
        request = http.request
        return max(http.get_session_max_inactivity(request.env if request else None), 1)

    def save(self, session):
        key, field = plan.place(self.store.prefix, session.sid)
        value, lifetime = plan.encode(session), self._lifetime()

        def command(client):
            with client.pipeline(transaction=False) as pipe:
                pipe.hset(key, field, value).expire(key, lifetime).execute()

        self.store.run(command)

    def delete(self, session):
        key, field = plan.place(self.store.prefix, session.sid)
        self.store.run(lambda client: client.hdel(key, field))

    def delete_old_sessions(self, session):
        if "gc_previous_sessions" not in session:
            return
        if session["create_time"] + http.SESSION_DELETION_TIMER >= time.time():
            return
        key, field = plan.place(self.store.prefix, session.sid)

        def command(client):
            # All but this one: another request never sees it missing.
            others = [other for other in client.hkeys(key) if other != field.encode()]
            if others:
                client.hdel(key, *others)

        self.store.run(command)
        del session["gc_previous_sessions"]
        self.save(session)

    # -- rotation ---------------------------------------------------------------------------------------------

    def rotate(self, session, env, soft=False):
        if soft:
            self._rotate_soft(session, env)
        else:
            self._rotate_hard(session, env)

    def _renewed(self, session, env, sid, *, gc_previous):
        """The data of the session under its new name. The session object changes only when that is stored."""
        data = dict(session)
        data.pop("next_sid", None)
        data.pop("deletion_time", None)
        if gc_previous:
            data["gc_previous_sessions"] = True
        if data.get("uid"):
            if not env:
                raise AssertionError("saving this session requires an environment")
            token_of = self.session_class(data, sid)
            data["session_token"] = security.compute_session_token(token_of, env)
        data["create_time"] = time.time()
        return data

    def _become(self, session, sid, data):
        for name in set(session) - set(data):
            del session[name]
        session.update(data)
        session.sid = sid
        session.should_rotate = False

    def _rotate_hard(self, session, env):
        old_key, old_field = plan.place(self.store.prefix, session.sid)
        sid = self.generate_key()
        key, field = plan.place(self.store.prefix, sid)
        data, lifetime = self._renewed(session, env, sid, gc_previous=False), self._lifetime()

        def command(client):
            with client.pipeline(transaction=False) as pipe:
                pipe.hset(key, field, plan.encode(data)).expire(key, lifetime).hdel(old_key, old_field).execute()

        self.store.run(command)
        self._become(session, sid, data)

    def _rotate_soft(self, session, env):
        key, field = plan.place(self.store.prefix, session.sid)
        sid = session.sid[: plan.IDENTIFIER_LENGTH] + self.generate_key()[plan.IDENTIFIER_LENGTH :]
        new_field, claim = sid[plan.IDENTIFIER_LENGTH :], plan.claim(field)
        data, lifetime = self._renewed(session, env, sid, gc_previous=True), self._lifetime()
        old = {**session, "next_sid": sid, "deletion_time": time.time() + http.SESSION_DELETION_TIMER}

        def command(client):
            """The session id that counts: ours, or the one of a request that was faster."""
            # The new session first, so that nothing ever points to one that does not exist.
            client.hset(key, new_field, plan.encode(data))
            client.hsetnx(key, claim, sid)
            winner = (client.hget(key, claim) or sid.encode()).decode()
            if winner != sid:
                client.hdel(key, new_field)
                return winner
            client.hset(key, field, plan.encode(old))
            client.expire(key, lifetime)
            return sid

        chosen = self.store.run(command)
        if chosen == sid:
            self._become(session, sid, data)
        else:
            session.sid = chosen  # as in the stock store: the cookie changes, nothing is saved

    # -- by identifier, for the list of devices ---------------------------------------------------------------

    def get_missing_session_identifiers(self, identifiers):
        identifiers = list(set(identifiers))
        keys = [self.store.prefix + identifier for identifier in identifiers]

        def command(client):
            found = []
            for start in range(0, len(keys), 1000):
                with client.pipeline(transaction=False) as pipe:
                    for key in keys[start : start + 1000]:
                        pipe.exists(key)
                    found += pipe.execute()
            return found

        found = self.store.run(command)
        return {identifier for identifier, there in zip(identifiers, found, strict=True) if not there}

    def delete_from_identifiers(self, identifiers):
        keys = plan.identifier_keys(self.store.prefix, identifiers)
        if keys:
            self.store.run(lambda client: client.delete(*keys))

    # -- cleaning ---------------------------------------------------------------------------------------------

    def vacuum(self, max_lifetime=http.SESSION_LIFETIME):
        """Redis forgets by itself; this applies a limit that was lowered to what is already there."""
        limit = max(int(max_lifetime), 1)

        def command(client):
            cursor, first = 0, True
            while cursor or first:
                first = False
                cursor, keys = client.scan(cursor, match=plan.scan_pattern(self.store.prefix), count=500)
                if not keys:
                    continue
                with client.pipeline(transaction=False) as pipe:
                    for key in keys:
                        pipe.ttl(key)
                    lifetimes = pipe.execute()
                    for key, ttl in zip(keys, lifetimes, strict=True):
                        if plan.lifetime_cut(ttl, limit):
                            pipe.expire(key, limit)
                    pipe.execute()

        try:
            self.store.run(command)
        except SessionStoreUnavailable as exc:
            # Called by the daily cleaning: what comes after it there does not need Redis.
            _logger.warning("Life times of sessions are not looked at today: %s", exc)

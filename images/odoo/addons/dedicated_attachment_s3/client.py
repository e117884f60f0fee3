# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store, with bounded patience. Imports nothing of Odoo, so that the image's commands can use it alone.

An unreachable or refusing store is StoreUnavailable, a missing object is ObjectMissing; nothing is ever "empty".
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import threading

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from . import plan

CONNECT_TIMEOUT = 2
READ_TIMEOUT = 10
# While the store is known to be away, short attempts are enough to find out that it is back.
IMPATIENT_TIMEOUT = 2
_MISSING = ("404", "NoSuchKey", "NotFound")


class StoreUnavailable(Exception):
    """The store did not answer in time, or refuses us. The guard answers 503."""

    dedicated_outage = "object store"


class ObjectMissing(Exception):
    """The store answered that there is no such object."""


class Client:
    def __init__(self, settings: plan.Settings):
        self.settings = settings
        self._lock = threading.Lock()
        self._made = {}

    def _s3(self, patient):
        # One per process: connections must not be inherited by a fork.
        which = (os.getpid(), patient)
        with self._lock:
            if which not in self._made:
                self._made = {known: made for known, made in self._made.items() if known[0] == which[0]}
                self._made[which] = self._make(patient)
            return self._made[which]

    def _make(self, patient):
        settings = self.settings
        return botocore.session.Session().create_client(
            "s3",
            region_name=settings.region,
            endpoint_url=settings.url,
            verify=settings.ca_file,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            config=Config(
                s3={"addressing_style": plan.URI_STYLES[settings.uri_style]},
                signature_version="s3v4",
                connect_timeout=CONNECT_TIMEOUT,
                read_timeout=READ_TIMEOUT if patient else IMPATIENT_TIMEOUT,
                retries={"mode": "standard", "total_max_attempts": 2 if patient else 1},
                # Stores other than Amazon's do not know the newer checksums; Content-MD5 is given below.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=20,
                proxies={},
            ),
        )

    def _run(self, what, command, patient=True):
        try:
            return command(self._s3(patient))
        except ClientError as exc:
            answer = exc.response.get("Error", {})
            code, status = str(answer.get("Code")), exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in _MISSING:
                raise ObjectMissing(what) from exc
            if plan.is_away(code, status):
                raise StoreUnavailable(f"answers {status} {code}") from exc
            raise StoreUnavailable(
                f"refuses to {what}: {status} {code}; check bucket {self.settings.bucket}, the keys and their rights"
            ) from exc
        except (BotoCoreError, OSError) as exc:
            raise StoreUnavailable(f"{type(exc).__name__}: {exc}") from exc

    def size(self, key, patient=True):
        """Bytes of an object; ObjectMissing if there is none."""
        found = self._run("look at an object", lambda s3: s3.head_object(Bucket=self.settings.bucket, Key=key), patient)
        return found["ContentLength"]

    def put(self, key, data, patient=True):
        """Store content under its name, unless it is there. Returns when the store has confirmed it."""
        try:
            if self.size(key, patient) == len(data):
                return
        except ObjectMissing:
            pass
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        try:
            self._run(
                "write an object",
                lambda s3: s3.put_object(Bucket=self.settings.bucket, Key=key, Body=data, ContentMD5=md5),
                patient,
            )
        except ObjectMissing as exc:
            raise StoreUnavailable(f"there is no bucket {self.settings.bucket}") from exc

    def get(self, key, size=None, patient=True):
        extra = {"Range": f"bytes=0-{size - 1}"} if size else {}

        def command(s3):
            # The body inside as well: a connection cut in the middle is an outage, not a shorter file.
            return s3.get_object(Bucket=self.settings.bucket, Key=key, **extra)["Body"].read()

        return self._run("read an object", command, patient)

    def delete(self, key):
        def command(s3):
            s3.delete_object(Bucket=self.settings.bucket, Key=key)

        with contextlib.suppress(ObjectMissing):
            self._run("remove an object", command, patient=False)

    def probe(self):
        """Write and read back; StoreUnavailable says what is wrong."""
        key, content = f"{self.settings.prefix}/probe", b"written by odoo-attachments probe\n"
        self._run("write an object", lambda s3: s3.put_object(Bucket=self.settings.bucket, Key=key, Body=content))
        if self.get(key) != content:
            raise StoreUnavailable("gives back other bytes than were written")

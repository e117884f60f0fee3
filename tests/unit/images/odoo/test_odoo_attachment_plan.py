# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import re
import typing as t

import pytest
from loading import load

plan = load("addons/dedicated_attachment_s3/plan.py")
SET = {"url": "https://objects.example:8333", "bucket": "attachments", "access_key": "key", "secret_key": "hidden"}
DIGEST = hashlib.sha256(b"content").hexdigest()
NAME = f"s3:odoo/{DIGEST[:2]}/{DIGEST}"


def conf(**values: object) -> t.Any:
    return plan.settings(lambda name: {**SET, **values}.get(name.removeprefix("dedicated_attachment_s3_")))


def test_settings() -> None:
    found = conf()
    assert found == plan.Settings(**SET)
    assert (found.write, found.keep_days, found.ca_file) == (True, 0, plan.SYSTEM_CA)
    # As odoo.conf's reader gives them: text.
    found = conf(write="False", keep_days="44", ca_file="/etc/odoo/s3-ca.pem", uri_style="host", prefix="a/b")
    assert (found.write, found.keep_days, found.uri_style, found.prefix) == (False, 44, "host", "a/b")
    assert conf(ca_file="").ca_file == plan.SYSTEM_CA


@pytest.mark.parametrize("bucket", [None, False, "", " ", "False"])
def test_no_bucket_is_no_store(bucket: object) -> None:
    assert conf(bucket=bucket) is None


@pytest.mark.parametrize(
    "change",
    [
        {"url": None},
        {"access_key": ""},
        {"secret_key": None},
        {"url": "http://objects.example"},
        {"url": "objects.example:8333"},
        {"url": "https://user:hidden@objects.example"},
        {"url": "https://objects.example/attachments"},
        {"prefix": "../other"},
        {"prefix": "/a"},
        {"prefix": "a//b"},
        {"uri_style": "dns"},
        {"keep_days": "-1"},
        {"keep_days": "30d"},
    ],
)
def test_refused_settings_name_the_option_and_no_secret(change: dict[str, object]) -> None:
    with pytest.raises(plan.SettingsError) as caught:
        conf(**change)
    assert f"dedicated_attachment_s3_{next(iter(change))}" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_settings_do_not_show_their_keys() -> None:
    assert "hidden" not in repr(conf())


def test_same_content_same_object() -> None:
    assert plan.fname("odoo", b"content") == NAME
    assert plan.fname("odoo", b"other") != NAME
    assert plan.key("lab/x", NAME) == f"lab/x/odoo/{DIGEST[:2]}/{DIGEST}"
    assert plan.intact(NAME, b"content")
    assert not plan.intact(NAME, b"conten")


@pytest.mark.parametrize(
    "name",
    [
        "",
        NAME.removeprefix("s3:"),
        NAME + "\n",
        NAME[:-1],
        NAME.upper(),
        NAME.replace("odoo", ".."),
        NAME.replace("odoo", "a/b"),
        NAME.replace(f"/{DIGEST[:2]}/", "/00/"),
    ],
)
def test_other_names_reach_no_object(name: str) -> None:
    with pytest.raises(ValueError, match="Not the name"):
        plan.key("lab", name)


def like(pattern: str, text: str) -> bool:
    """PostgreSQL's LIKE."""
    parts = re.findall(r"\\.|.", pattern)
    wild = {"%": ".*", "_": "."}
    return re.fullmatch("".join(wild.get(part) or re.escape(part[-1]) for part in parts), text) is not None


@pytest.mark.parametrize(
    ("database", "name", "own"),
    [
        ("odoo", NAME, True),
        ("odoo", NAME.replace("odoo", "odoo2"), False),
        ("od_o", NAME.replace("odoo", "od_o"), True),
        ("od_o", NAME, False),
    ],
)
def test_only_own_objects_are_removed(database: str, name: str, own: bool) -> None:
    assert like(plan.own_pattern(database), name) is own


@pytest.mark.parametrize(
    ("mimetype", "size", "stays"),
    [
        ("text/css", 10**7, True),
        ("text/css; charset=utf-8", 10**7, True),
        ("application/javascript", 10**7, True),
        ("image/png", 51200, True),
        ("IMAGE/PNG", 51200, True),
        ("image/png", 51201, False),
        ("application/pdf", 1, False),
        ("application/pdf", 0, True),
        ("text/plain", 10, False),
        (None, 10, False),
        (False, 10, False),
    ],
)
def test_what_stays_in_the_database(mimetype: object, size: int, stays: bool) -> None:
    assert plan.stays_in_database(mimetype, size) is stays


@pytest.mark.parametrize(
    ("name", "mimetype", "on", "off"),
    [
        (None, "application/pdf", True, False),
        (None, "text/css", False, False),
        ("ab/abc", "application/pdf", True, False),
        ("ab/abc", "text/css", True, False),  # into the database: the file store belongs to one host
        (NAME, "application/pdf", False, True),
        (NAME, "text/css", False, True),
    ],
)
def test_what_is_to_be_moved(name: str | None, mimetype: str, on: bool, off: bool) -> None:
    assert plan.misplaced(name, mimetype, 100, writes=True) is on
    assert plan.misplaced(name, mimetype, 100, writes=False) is off


@pytest.mark.parametrize(
    ("code", "status", "away"),
    [
        ("InternalError", 500, True),
        ("SlowDown", 503, True),
        ("RequestTimeout", 400, True),
        ("AccessDenied", 403, False),
        ("NoSuchBucket", 404, False),
    ],
)
def test_what_may_go_away_by_itself(code: str, status: int, away: bool) -> None:
    assert plan.is_away(code, status) is away

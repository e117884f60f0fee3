# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters of a stack: what is refused, and what the hashes depend on."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._stack import model, plan

KEY = b"k"


def file(path: str, content: str = "x", **changes: t.Any) -> dict[str, t.Any]:
    return {
        "path": path, "content": content, "mode": "0440", "owner": "root", "group": "root",
        "on_change": "recreate", "services": [], "once": False, "secret": False, **changes,
    }  # fmt: skip


def params(**changes: t.Any) -> dict[str, t.Any]:
    return {"name": "redis", "definition": {"services": {"a": {}, "b": {}}}, **changes}


def parsed(**changes: t.Any) -> model.Request:
    request = model.parse(params(**changes))
    assert isinstance(request, model.Request), request
    return request


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "Redis"}, "bad_name"),
        ({"name": "../x"}, "bad_name"),
        ({"directory": "relative"}, "bad_directory"),
        ({"directory": "/"}, "bad_directory"),
        ({"directory": "/opt"}, "bad_directory"),
        ({"files": [file("../x")]}, "bad_path"),
        ({"files": [file("a/../../x")]}, "bad_path"),
        ({"files": [file("/etc/passwd")]}, "bad_path"),
        ({"files": [file("/etc/dedicated/../passwd")]}, "bad_path"),
        ({"files": [file("/etc/dedicatedx/y")]}, "bad_path"),
        ({"files": [file("")]}, "bad_path"),
        ({"files": [file("a"), file("/opt/dedicated/redis/a")]}, "duplicate_path"),
        ({"files": [file("compose.yaml")]}, "reserved_path"),
        ({"files": [file(".stack.json")]}, "reserved_path"),
        ({"files": [file("a", mode="440")]}, "bad_mode"),
        ({"files": [file("a", mode="288")]}, "bad_mode"),
        ({"files": [file("a", mode="0448")]}, "bad_mode"),
        ({"files": [file("a", on_change="Restart it")]}, "bad_on_change"),
        ({"files": [file("a", services=["c"])]}, "unknown_service"),
        ({"files": [file("a", content_from="x")]}, "unknown_secret"),
        ({"files": [file("a", content_from="x")], "secrets": {"x": 5}}, "bad_secret"),
        ({"definition": {"name": "other", "services": {"a": {}}}}, "other_name"),
        ({"definition": {"services": {}}}, "no_services"),
        ({"definition": {"services": {"a": "image"}}}, "bad_service"),
        ({"watch": [{"path": "relative", "on_change": "recreate"}]}, "bad_path"),
        ({"validate": [{"file": "a", "argv": ["check", "%s"]}]}, "unknown_file"),
        ({"files": [file("a")], "validate": [{"file": "a", "argv": ["check"]}]}, "bad_check"),
        ({"directories": [{"path": "/home/x", "mode": "0750", "owner": "root", "group": "root"}]}, "bad_path"),
    ],
)
def test_refusals(changes: dict[str, t.Any], code: str) -> None:
    refusal = model.parse(params(**changes))
    assert isinstance(refusal, Refuse)
    assert refusal.code == code
    assert refusal.message


def test_paths_are_placed() -> None:
    request = parsed(files=[file("conf/a"), file("/etc/systemd/system/x.service")])
    assert [entry.path for entry in request.files] == ["/opt/dedicated/redis/conf/a", "/etc/systemd/system/x.service"]


def test_secret_contents_are_secret_and_not_in_a_repr() -> None:
    request = parsed(files=[file("a", content=None, content_from="x")], secrets={"x": "canary-1"})
    assert request.files[0].secret
    assert request.files[0].content == b"canary-1"
    assert "canary-1" not in repr(request)


def hashes(request: model.Request, **watched: str) -> tuple[dict[str, str], dict[str, str]]:
    return model.hashes(request, watched, KEY)


def test_a_service_is_hashed_over_what_concerns_it() -> None:
    before = hashes(parsed(files=[file("a", "1", services=["a"]), file("b", "1"), file("c", "1", on_change="none")]))
    only_a = hashes(parsed(files=[file("a", "2", services=["a"]), file("b", "1"), file("c", "1", on_change="none")]))
    both = hashes(parsed(files=[file("a", "1", services=["a"]), file("b", "2"), file("c", "1", on_change="none")]))
    neither = hashes(parsed(files=[file("a", "1", services=["a"]), file("b", "1"), file("c", "2", on_change="none")]))
    assert only_a[0]["a"] != before[0]["a"]
    assert only_a[0]["b"] == before[0]["b"]
    assert both[0]["a"] != before[0]["a"]
    assert both[0]["b"] != before[0]["b"]
    assert neither == before


def test_order_owner_and_mode_do_not_recreate_but_watched_files_do() -> None:
    files = [file("a"), file("b")]
    watch = [{"path": "/etc/dedicated/pki/x/cert.pem", "on_change": "recreate"}]
    one = model.hashes(parsed(files=files, watch=watch), {"/etc/dedicated/pki/x/cert.pem": "1"}, KEY)
    other = [file("b", owner="7", mode="0400"), file("a")]
    assert model.hashes(parsed(files=other, watch=watch), {"/etc/dedicated/pki/x/cert.pem": "1"}, KEY) == one
    assert model.hashes(parsed(files=files, watch=watch), {"/etc/dedicated/pki/x/cert.pem": "2"}, KEY) != one


def test_a_group_is_hashed_and_its_files_recreate_nothing() -> None:
    before = hashes(parsed(files=[file("a", "1", on_change="acl")]))
    after = hashes(parsed(files=[file("a", "2", on_change="acl")]))
    assert before[0] == after[0]
    assert set(before[1]) == {"acl"}
    assert before[1] != after[1]


def test_a_hash_depends_on_the_key() -> None:
    request = parsed(files=[file("a", "short")])
    assert model.hashes(request, {}, b"1")[0] != model.hashes(request, {}, b"2")[0]


def test_seeds_concern_nobody() -> None:
    assert hashes(parsed(files=[file("a", "1", once=True)])) == hashes(parsed(files=[file("a", "2", once=True)]))


def test_state_survives_its_text() -> None:
    state = plan.State({"/a": True, "/b": False}, ("/d",), {"g": "1"}, {"g": "2"}, True)
    assert model.parse_state("x", model.state_text("x", state), "p") == state
    assert model.parse_state("x", None, "p") == plan.State()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"stack": "x"}', '{"stack": "x", "files": [], "directories": 1}']
)
def test_a_damaged_state_is_refused(text: str) -> None:
    refusal = model.parse_state("x", text, "/p")
    assert isinstance(refusal, Refuse)
    assert refusal.code == "unreadable_state"


def test_another_stacks_state_is_refused() -> None:
    refusal = model.parse_state("y", model.state_text("x", plan.State()), "/p")
    assert isinstance(refusal, Refuse)
    assert refusal.code == "other_stack"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/var/lib/dedicated/redis", True),
        ("/run/dedicated/router", True),
        ("/var/lib/dedicated", False),
        ("/run/dedicated", False),
        ("/var/lib", False),
        ("/etc/dedicated/pki", False),
    ],
)
def test_only_data_can_be_purged(path: str, allowed: bool) -> None:
    assert model.purgeable(path) is allowed

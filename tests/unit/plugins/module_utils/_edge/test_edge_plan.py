# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of routes: what is refused, and that its laws hold for whatever is asked."""

from __future__ import annotations

import itertools
import re
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._edge import plan

DENIED = ("/web/database", "/dedicated")


def edge(several: bool = False, inspected: bool = False, denied: tuple[str, ...] = DENIED) -> plan.Edge:
    return plan.Edge(("books.example.com",), denied, several, inspected, {"servers": [{"url": "http://o"}]}, {"x": 1})


def routed(given: dict[str, t.Any], on: plan.Edge | None = None) -> dict[str, t.Any]:
    routes, problems = plan.judge(given)
    assert not problems
    return plan.http(routes, on or edge())


def holds(rule: str, method: str, path: str) -> bool:
    """Traefik's rule, for one request."""
    text = re.sub(r"PathRegexp\(`(.*?)`\)", lambda one: str(bool(re.match(one[1], path))), rule)
    text = re.sub(r"PathPrefix\(`(.*?)`\)", lambda one: str(path.startswith(one[1])), text)
    text = re.sub(r"Method\(`(.*?)`\)", lambda one: str(one[1] == method), text)
    text = re.sub(r"Host\(`.*?`\)", "True", text)
    text = text.replace("&&", " and ").replace("||", " or ").replace("!", " not ")
    assert re.fullmatch(r"(True|False|and|or|not|[() ])*", text), text
    return bool(eval(text))


def taken(http: dict[str, t.Any], method: str, path: str) -> str:
    """The router that takes a request, as Traefik chooses it."""
    routers = http["routers"].items()
    found = [(one["priority"], name) for name, one in routers if holds(one["rule"], method, path)]
    assert found, f"nobody takes {method} {path}"
    return max(found)[1]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", "read"),
        ("POST", "/web/dataset/call_kw", "write"),
        ("PURGE", "/web", "write"),
        ("GET", "/websocket", "websocket"),
        ("GET", "/web/login", "read"),
        ("POST", "/web/login", "login-write"),
        ("POST", "/fr/web/login", "login-write"),
        ("POST", "/pt_BR/web/login/totp", "login-write"),
        ("POST", "/sr@latin/web/reset_password", "login-write"),
        ("POST", "/xmlrpc/2/object", "api-write"),
        ("POST", "/json/2/res.partner/read", "api-write"),
        ("GET", "/json/1/res.partner", "api"),
        ("PURGE", "/jsonrpc", "api-write"),
        ("POST", "/web/hook/4f7c", "integrations-write"),
        ("POST", "/web/database/backup", "denied"),
        ("GET", "/fr/web/database/manager", "denied"),
        ("GET", "/dedicated/page", "denied"),
    ],
)
def test_who_takes_what(method: str, path: str, expected: str) -> None:
    assert taken(routed({}), method, path) == expected


def test_the_longer_path_holds() -> None:
    http = routed({"partners": {"paths": ["/edi"]}, "orders": {"paths": ["/edi/orders"]}})
    assert taken(http, "GET", "/edi/orders/1") == "orders"
    assert taken(http, "POST", "/edi/orders/1") == "orders-write"
    assert taken(http, "GET", "/edi/x") == "partners"


PATHS = ("/a", "/a/b", "/a/b/c", "/a/b/c/d", "/e", "/e/f")


def test_the_longer_path_holds_whatever_else_a_route_names() -> None:
    """Every table of two routes over these paths, against the law itself."""
    routes = [one for size in (1, 2, 3) for one in itertools.combinations(PATHS, size)]
    for mine, theirs in itertools.combinations(routes, 2):
        if set(mine) & set(theirs):
            continue
        for methods in ([], ["POST"]):
            given = {"login": None, "api": None, "integrations": None, "mine": {"paths": list(mine)}}
            http = routed({**given, "theirs": {"paths": list(theirs), "methods": methods}})
            for method, path in itertools.product(("GET", "POST"), (*PATHS, "/a/x", "/x")):
                lengths = {
                    name: max((len(one) for one in paths if path.startswith(one)), default=0)
                    for name, paths in (("mine", mine), ("theirs", theirs if method in (methods or [method]) else ()))
                }
                best = max(lengths, key=lambda name: lengths[name])
                end = "-write" if method == "POST" else ""
                expected = f"{best}{end}" if lengths[best] else ("write" if method == "POST" else "read")
                assert taken(http, method, path) == expected, (mine, theirs, methods, method, path)


def test_a_list_of_sources_below_another_route_is_not_gone_round() -> None:
    routes = {"open": {"paths": ["/edi", "/a-path-that-is-much-longer"]}}
    http = routed({**routes, "closed": {"paths": ["/edi/orders"], "sources": ["192.0.2.0/24"]}})
    assert taken(http, "GET", "/edi/orders/1") == "closed"
    assert taken(http, "POST", "/fr/edi/orders") == "closed-write"
    assert taken(http, "GET", "/edi/other") == "open"


def test_a_path_is_no_pattern() -> None:
    http = routed({"feed": {"paths": ["/feed.xml"]}})
    assert taken(http, "GET", "/feed.xml") == "feed"
    assert taken(http, "GET", "/feedxxml") == "read"


OPTIONS: dict[str, t.Any] = {
    "methods": ["GET", "POST"],
    "sources": ["192.0.2.0/24"],
    "requests_per_minute": 5,
    "body_limit_mb": 1,
    "response_timeout_seconds": 30,
    "authenticate": "http://127.0.0.1:9000/who",
    "backend": ["http://127.0.0.1:3000"],
}


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("inspected", [False, True])
def test_the_laws_hold_for_every_combination(several: bool, inspected: bool) -> None:
    order = ["headers", "unavailable", "x-sources", "x-rate", "inspected", "x-who", "x-body", "body"]
    for size in range(len(OPTIONS) + 1):
        for chosen in itertools.combinations(OPTIONS, size):
            given = {"x": {"paths": ["/web/database", "/x"], **{one: OPTIONS[one] for one in chosen}}}
            http = routed(given, edge(several, inspected))
            # Denied stays denied.
            for method in plan.METHODS:
                assert taken(http, method, "/web/database/manager") == "denied"
            for name, router in http["routers"].items():
                used = [one for one in order if one in router["middlewares"]]
                assert [one for one in router["middlewares"] if one in order] == used, (chosen, name)
                assert router["middlewares"][0] == "headers"
                if name != "denied":
                    assert ("inspected" in router["middlewares"]) == inspected
                reads = "!(Method" not in router["rule"] and not {"POST", "PUT"} & set(
                    re.findall(r"Method\(`(.*?)`\)", router["rule"])
                )
                writes = name == "write" or name.endswith("-write")
                assert "again" not in router["middlewares"] or (reads and not writes)
                assert "elsewhere" not in router["middlewares"] or writes
                # A body is bounded wherever there may be one.
                assert bool({"body", "x-body"} & set(router["middlewares"])) == writes
            mine = http["routers"]["x"]["middlewares"]
            assert ("x-sources" in mine, "x-rate" in mine, "x-who" in mine) == (
                "sources" in chosen,
                "requests_per_minute" in chosen,
                "authenticate" in chosen,
            )
            # What is used is there.
            there = {"headers", "nobody", "unavailable", "inspected", "body", "again", "elsewhere"}
            there |= set(http["middlewares"])
            assert {one for router in http["routers"].values() for one in router["middlewares"]} <= there
            services = {"odoo", "websocket", "any", "page", *http["services"]}
            assert {router["service"] for router in http["routers"].values()} <= services
            if "backend" in chosen:
                assert not {"again", "elsewhere"} & set(mine + http["routers"]["x-write"]["middlewares"])


def test_a_time_of_its_own() -> None:
    http = routed({"slow": {"paths": ["/slow"], "response_timeout_seconds": 30}})
    assert http["routers"]["slow"]["service"] == "slow"
    assert http["services"]["slow"] == {"failover": {"service": "slow-checked", "fallback": "any"}}
    assert http["services"]["slow-checked"]["loadBalancer"]["serversTransport"] == "slow"
    assert http["serversTransports"]["slow"] == {"x": 1, "forwardingTimeouts": {"responseHeaderTimeout": "30s"}}


def test_a_backend_gets_no_certificate_of_ours() -> None:
    http = routed({"graphs": {"paths": ["/graphs"], "backend": ["http://127.0.0.1:3000"]}})
    assert http["services"]["graphs"]["loadBalancer"]["servers"] == [{"url": "http://127.0.0.1:3000"}]
    assert not http["serversTransports"]
    # Its paths have no language.
    assert "PathPrefix(`/graphs`)" in http["routers"]["graphs"]["rule"]


def test_defaults_are_changed_one_by_one_and_switched_off() -> None:
    routes = {one.name: one for one in plan.judge({"login": {"burst": 5}, "api": None})[0]}
    assert (routes["login"].burst, routes["login"].requests_per_minute) == (5, 60)
    assert routes["login"].methods == ("POST",)
    assert set(routes) == {"login", "integrations"}


def test_a_rate_has_a_burst() -> None:
    assert plan.judge({"x": {"paths": ["/x"], "requests_per_minute": 100}})[0][-1].burst == 10
    assert plan.judge({"x": {"paths": ["/x"], "requests_per_minute": 5}})[0][-1].burst == 1


@pytest.mark.parametrize(
    ("given", "code", "subject"),
    [
        (["login"], "invalid-route", "edge_routes"),
        ({"read": {"paths": ["/x"]}}, "invalid-route", "edge_routes.read"),
        ({"Partners": {"paths": ["/x"]}}, "invalid-route", "edge_routes.Partners"),
        ({"api-write": {"paths": ["/x"]}}, "invalid-route", "edge_routes.api-write"),
        ({"odoo-checked": {"paths": ["/x"]}}, "invalid-route", "edge_routes.odoo-checked"),
        ({"x": "/x"}, "invalid-route", "edge_routes.x"),
        ({"x": {}}, "invalid-route", "edge_routes.x.paths"),
        ({"x": {"paths": "/x"}}, "invalid-route", "edge_routes.x.paths"),
        ({"x": {"paths": ["x"]}}, "invalid-route", "edge_routes.x.paths"),
        ({"x": {"paths": ["/"]}}, "invalid-route", "edge_routes.x.paths"),
        ({"x": {"paths": ["/a//b"]}}, "invalid-route", "edge_routes.x.paths"),
        ({"x": {"paths": ["/a/../b"]}}, "invalid-route", "edge_routes.x.paths"),
        ({"x": {"paths": ["/%61"]}}, "invalid-route", "edge_routes.x.paths"),
        ({"x": {"paths": ["/`) || Path(`/"]}}, "invalid-route", "edge_routes.x.paths"),
        ({"x": {"paths": ["/x"], "source": ["192.0.2.1"]}}, "unknown-option", "edge_routes.x"),
        ({"x": {"paths": ["/x"], "sources": ["192.0.2.1/24"]}}, "invalid-route", "edge_routes.x.sources"),
        ({"x": {"paths": ["/x"], "sources": ["office"]}}, "invalid-route", "edge_routes.x.sources"),
        ({"x": {"paths": ["/x"], "methods": ["get"]}}, "invalid-route", "edge_routes.x.methods"),
        ({"x": {"paths": ["/x"], "requests_per_minute": -1}}, "invalid-route", "edge_routes.x.requests_per_minute"),
        ({"x": {"paths": ["/x"], "requests_per_minute": True}}, "invalid-route", "edge_routes.x.requests_per_minute"),
        ({"x": {"paths": ["/x"], "burst": 3}}, "invalid-route", "edge_routes.x.burst"),
        ({"x": {"paths": ["/x"], "authenticate": "who"}}, "invalid-route", "edge_routes.x.authenticate"),
        ({"x": {"paths": ["/x"], "authenticate_headers": ["X-User"]}}, "invalid-route", "edge_routes.x.authenticate_h"),
        ({"x": {"paths": ["/x"], "backend": ["127.0.0.1:1"]}}, "invalid-route", "edge_routes.x.backend"),
        ({"x": {"paths": ["/xmlrpc"]}}, "path-twice", "edge_routes.x.paths"),
    ],
)
def test_what_is_refused(given: t.Any, code: str, subject: str) -> None:
    _routes, problems = plan.judge(given)
    assert [one.code for one in problems] == [code]
    assert problems[0].subject.startswith(subject)
    assert problems[0].subject in problems[0].message


def test_a_misspelt_option_is_named() -> None:
    assert "did you mean sources?" in plan.judge({"x": {"paths": ["/x"], "source": []}})[1][0].message


def test_the_same_path_for_other_methods_is_another_route() -> None:
    assert not plan.judge({"x": {"paths": ["/web/login"], "methods": ["GET"]}})[1]


def test_while_the_page_is_shown_it_is_before_everything() -> None:
    http = plan.maintenance(["books.example.com"], [])
    every = routed({})["routers"].values()
    assert http["routers"]["maintenance"]["priority"] > max(one["priority"] for one in every)
    assert "ClientIP" not in http["routers"]["maintenance"]["rule"]
    assert http["routers"]["maintenance-seen"]["entryPoints"] == ["local"]


def test_who_works_on_it_sees_the_site() -> None:
    rule = plan.maintenance(["books.example.com"], ["192.0.2.0/24", "198.51.100.7"])["routers"]["maintenance"]["rule"]
    assert rule.endswith("&& !(ClientIP(`192.0.2.0/24`) || ClientIP(`198.51.100.7`))")


@pytest.mark.parametrize("value", ["office", "192.0.2.1/24", "", 5, None])
def test_a_source_that_is_none(value: t.Any) -> None:
    assert plan.why_no_source(value)

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an edge lets through, by path: Traefik's routers for a table of routes.

A route names paths, and what holds for them. Laws, driven through every combination in the tests:

* what is denied is denied before any route is asked, and a route never opens a path that is denied;
* of two routes the one with the longer path holds; the same path for the same method twice is refused;
* whoever sends requests meets, in this order: the headers, the list of sources, the rate, the firewall for
  applications, the question who he is, the limit for bodies. So a flood is turned away before anybody is asked;
* Odoo serves its pages below a language too (/fr/web/login): a path of Odoo's holds with and without one;
* only what reads is sent again to another host by a status, what writes only when nobody got it.

Defaults and their reasons:

* login: 60 in a minute and 60 at once from one address. An office behind one address that comes at nine is not turned
  away; whoever tries passwords gets 86,000 a day instead of millions.
* api: 1,200 in a minute and 200 at once. One client with one connection does about 20 calls in a second.
* integrations: 600 in a minute and 100 at once; webhooks come one by one.

Each edge counts for itself: while two serve, an address may do twice as much.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
import typing as t

# Where Odoo has http_routing: /fr/, /pt_BR/, /sr@latin/ before any path.
LANGUAGE = "(/[a-z]{2,3}(_[A-Z]{2})?(@[a-z]+)?)?"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
READS = ("GET", "HEAD")
# What Traefik calls things that are there without any route.
TAKEN = ("denied", "websocket", "write", "read", "local", "odoo", "any", "maintenance", "maintenance-seen", "page")
# By which the names of what a route is made of end.
ENDS = ("-write", "-sources", "-rate", "-who", "-body", "-checked")
# Where HAProxy of an Odoo host has the page that says that there is no Odoo. Nobody gets there from outside.
PAGE = "/dedicated/page"
MAINTENANCE, DENIED, WEBSOCKET, ROUTES, WRITE, READ = 2000, 1000, 900, 600, 500, 100
LONGEST = WEBSOCKET - ROUTES - 1
DEFAULTS: dict[str, dict[str, t.Any]] = {
    "login": {
        "paths": ["/web/login", "/web/session/authenticate", "/web/reset_password", "/web/signup", "/web/webauthn"],
        "methods": ["POST"],
        "requests_per_minute": 60,
        "burst": 60,
    },
    "api": {"paths": ["/xmlrpc", "/jsonrpc", "/json"], "requests_per_minute": 1200, "burst": 200},
    "integrations": {"paths": ["/web/hook", "/mail_plugin"], "requests_per_minute": 600, "burst": 100},
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """What cannot be taken, with a stable code."""

    code: str
    subject: str
    message: str


@dataclasses.dataclass(frozen=True)
class Route:
    name: str
    paths: tuple[str, ...]
    methods: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    requests_per_minute: int = 0
    burst: int = 0
    body_limit_mb: int = 0
    response_timeout_seconds: int = 0
    authenticate: str = ""
    authenticate_headers: tuple[str, ...] = ()
    backend: tuple[str, ...] = ()


OPTIONS = {one.name: one for one in dataclasses.fields(Route) if one.name != "name"}
LISTS = tuple(name for name, one in OPTIONS.items() if "tuple" in str(one.type))
NUMBERS = tuple(name for name, one in OPTIONS.items() if one.type == "int")
URL = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]+(/[^\s`]*)?\Z")
PATH = re.compile(r"/[A-Za-z0-9._~@/-]*\Z")


def judge(given: t.Any) -> tuple[tuple[Route, ...], list[Problem]]:
    """The table of routes, the defaults among them, and all that is wrong with it."""
    if not isinstance(given, t.Mapping):
        return (), [_wrong("edge_routes", "is a mapping of names to routes")]
    problems: list[Problem] = []
    routes: list[Route] = []
    for name in [*DEFAULTS, *(str(one) for one in given if one not in DEFAULTS)]:
        own = given.get(name, {})
        if own is None:  # switched off
            continue
        found, wrong = _route(name, own)
        problems += wrong
        if found is not None:
            routes.append(found)
    problems += _twice(routes)
    return tuple(routes), problems


def _wrong(subject: str, message: str, code: str = "invalid-route") -> Problem:
    return Problem(code, subject, f"{subject}: {message}")


def _route(name: str, own: t.Any) -> tuple[Route | None, list[Problem]]:
    subject = f"edge_routes.{name}"
    if name in TAKEN:
        return None, [_wrong(subject, f"{name} is taken by the edge itself")]
    if name.endswith(ENDS):
        return None, [_wrong(subject, f"{name} could be part of another route: no name ends in {', '.join(ENDS)}")]
    if not re.match(r"[a-z][a-z0-9-]*\Z", name):
        return None, [_wrong(subject, f"{name} is no name of lower case letters, digits and hyphens")]
    if not isinstance(own, t.Mapping):
        return None, [_wrong(subject, "is a mapping of options, or null for none")]
    values: dict[str, t.Any] = {}
    problems = [_unknown(subject, str(option)) for option in own if option not in OPTIONS]
    for option, given in {**DEFAULTS.get(name, {}), **own}.items():
        if option in OPTIONS:
            values[option], why = _value(option, given)
            problems += [_wrong(f"{subject}.{option}", why)] if why else []
    if not problems and not values.get("paths"):
        problems.append(_wrong(f"{subject}.paths", "at least one path is needed"))
    if problems:
        return None, problems
    route = Route(name, **values)
    if route.requests_per_minute and not route.burst:
        route = dataclasses.replace(route, burst=max(1, route.requests_per_minute // 10))
    return route, list(_alone(subject, route))


def _unknown(subject: str, option: str) -> Problem:
    near = difflib.get_close_matches(option, OPTIONS, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(OPTIONS)}"
    return _wrong(subject, f"no option {option}; {hint}", "unknown-option")


def _alone(subject: str, route: Route) -> t.Iterator[Problem]:
    """Options that mean nothing without another one."""
    if route.burst and not route.requests_per_minute:
        yield _wrong(f"{subject}.burst", "means nothing without requests_per_minute")
    if route.authenticate_headers and not route.authenticate:
        yield _wrong(f"{subject}.authenticate_headers", "means nothing without authenticate")


def _value(option: str, value: t.Any) -> tuple[t.Any, str]:
    """The value as a route has it, and why it cannot be taken."""
    if option in LISTS:
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            return (), "is a list of strings"
        texts = tuple(str(one) for one in value)
        whys = [why for one in texts if (why := _text(option, one))]
        return texts, whys[0] if whys else ""
    if option in NUMBERS:
        if isinstance(value, bool) or not re.match(r"[0-9]+\Z", str(value)):
            return 0, "is a whole number, 0 for none"
        return int(value), ""
    if not isinstance(value, str):
        return "", "is a string"
    return str(value), "" if not value or URL.match(value) else f"{value} is no http or https URL"


def _text(option: str, value: str) -> str:
    if option == "paths":
        tidy = PATH.match(value) and "//" not in value and not {".", ".."} & set(value.split("/")) and value != "/"
        return "" if tidy else f"{value} is no path: it begins with /, is more than that, and is not encoded"
    if option == "methods":
        return "" if value in METHODS else f"{value} is none of {', '.join(METHODS)}"
    if option == "sources":
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            return f"{error}; an address, or a network as 192.0.2.0/24"
        return ""
    if option == "backend":
        return "" if URL.match(value) else f"{value} is no http or https URL"
    return "" if re.match(r"[A-Za-z0-9-]+\Z", value) else f"{value} is no name of a header"


def _twice(routes: t.Sequence[Route]) -> t.Iterator[Problem]:
    seen: dict[tuple[str, str], str] = {}
    for route in routes:
        for path in route.paths:
            for method in route.methods or METHODS:
                other = seen.setdefault((path, method), route.name)
                if other != route.name:
                    yield _wrong(
                        f"edge_routes.{route.name}.paths",
                        f"{path} is a path of the route {other} too; which of them holds?",
                        "path-twice",
                    )
                    break


def path_rule(path: str, own: bool) -> str:
    """Traefik's rule for a path and all below it; ``own`` if it is Odoo's."""
    return f"PathRegexp(`^{LANGUAGE}{re.escape(path)}`)" if own else f"PathPrefix(`{path}`)"


def rule(domains: t.Sequence[str], paths: t.Sequence[str], methods: t.Sequence[str] = (), own: bool = True) -> str:
    parts = [
        " || ".join(f"Host(`{one}`)" for one in domains),
        " || ".join(path_rule(one, own) for one in paths),
        " || ".join(f"Method(`{one}`)" for one in methods),
    ]
    return " && ".join(f"({one})" for one in parts if one)


def yields(route: Route, routes: t.Sequence[Route]) -> str:
    """What is another route's, which has a longer path for it. By rules, since one router has one priority only, and
    two routers of a route would each count its rate."""
    parts = []
    for other in routes:
        if other is route:
            continue
        for path in other.paths:
            if not any(path.startswith(one) for one in route.paths):
                continue
            theirs = path_rule(path, not other.backend)
            if other.methods:
                theirs += f" && ({' || '.join(f'Method(`{one}`)' for one in other.methods)})"
            # Unless this one's is longer still.
            back = [path_rule(one, not route.backend) for one in route.paths if one.startswith(path) and one != path]
            parts.append(f"({' || '.join([f'!({theirs})', *back])})")
    return "".join(f" && {one}" for one in parts)


@dataclasses.dataclass(frozen=True)
class Edge:
    """What all routes share. ``pool`` and ``transport`` are Traefik's for Odoo, where a route wants its own time."""

    domains: tuple[str, ...]
    denied: tuple[str, ...]
    several: bool  # there is another host to try
    inspected: bool  # by a firewall for applications
    pool: t.Mapping[str, t.Any]
    transport: t.Mapping[str, t.Any]


def http(routes: t.Sequence[Route], edge: Edge) -> dict[str, t.Any]:
    """Routers, middlewares, services and transports; together with those that are there without any route."""
    denied = _router(rule(edge.domains, edge.denied), DENIED, ["headers", "nobody"], "odoo")
    routers: dict[str, t.Any] = {
        **({"denied": denied} if edge.denied else {}),
        "websocket": _router(
            rule(edge.domains, ("/websocket",), own=False), WEBSOCKET, ["headers", *_inspected(edge)], "websocket"
        ),
        "write": _router(
            f"{rule(edge.domains, ())} && !(Method(`GET`) || Method(`HEAD`))",
            WRITE,
            ["headers", "unavailable", *_inspected(edge), *_writes("body", edge)],
            "odoo",
        ),
        "read": _router(
            rule(edge.domains, ()), READ, ["headers", "unavailable", *_inspected(edge), *_reads(edge)], "odoo"
        ),
    }
    middlewares: dict[str, t.Any] = {}
    services: dict[str, t.Any] = {}
    transports: dict[str, t.Any] = {}
    for route in routes:
        middlewares |= _middlewares(route)
        service, more, transport = _service(route, edge)
        services |= more
        transports |= transport
        before = ["headers", "unavailable"]
        before += [f"{route.name}-{kind}" for kind in ("sources", "rate") if f"{route.name}-{kind}" in middlewares]
        before += _inspected(edge)
        before += [f"{route.name}-who"] if route.authenticate else []
        own = not route.backend
        body = f"{route.name}-body" if route.body_limit_mb else "body"
        priority = ROUTES + min(LONGEST, max(len(one) for one in route.paths))
        reads = [one for one in route.methods or METHODS if one in READS]
        writes = [one for one in route.methods or METHODS if one not in READS]
        beyond = yields(route, routes)
        if reads:
            after = _reads(edge) if own else []
            which = rule(edge.domains, route.paths, reads, own) + beyond
            routers[route.name] = _router(which, priority, [*before, *after], service)
        if writes:
            after = _writes(body, edge) if own else [body]
            # Methods that nobody has thought of are what writes.
            which = rule(edge.domains, route.paths, route.methods and writes, own) + beyond
            which += "" if route.methods else " && !(Method(`GET`) || Method(`HEAD`))"
            routers[f"{route.name}-write"] = _router(which, priority, [*before, *after], service)
    return {
        "routers": routers,
        "middlewares": middlewares,
        "services": services,
        "serversTransports": transports,
    }


def _router(which: str, priority: int, middlewares: list[str], service: str) -> dict[str, t.Any]:
    return {
        "rule": which,
        "priority": priority,
        "entryPoints": ["https"],
        "middlewares": middlewares,
        "service": service,
    }


def _inspected(edge: Edge) -> list[str]:
    return ["inspected"] if edge.inspected else []


def _reads(edge: Edge) -> list[str]:
    return ["again"] if edge.several else []


def _writes(body: str, edge: Edge) -> list[str]:
    return [body, *(["elsewhere"] if edge.several else [])]


def _middlewares(route: Route) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {}
    if route.sources:
        found["sources"] = {"ipAllowList": {"sourceRange": list(route.sources)}}
    if route.requests_per_minute:
        # Whoever has IPv6 has a network of it.
        found["rate"] = {
            "rateLimit": {
                "average": route.requests_per_minute,
                "period": "1m",
                "burst": route.burst,
                "sourceCriterion": {"ipStrategy": {"ipv6Subnet": 64}},
            }
        }
    if route.authenticate:
        found["who"] = {
            "forwardAuth": {"address": route.authenticate, "authResponseHeaders": list(route.authenticate_headers)}
        }
    if route.body_limit_mb:
        found["body"] = body(route.body_limit_mb)
    return {f"{route.name}-{kind}": one for kind, one in found.items()}


def body(limit_mb: int) -> dict[str, t.Any]:
    """Above 2 MiB a body waits on disk."""
    return {
        "buffering": {
            "maxRequestBodyBytes": limit_mb * 1048576,
            "memRequestBodyBytes": 2097152,
            "memResponseBodyBytes": 2097152,
        }
    }


def _service(route: Route, edge: Edge) -> tuple[str, dict[str, t.Any], dict[str, t.Any]]:
    """The name of the route's service, the services that it needs, and its way to them."""
    seconds = route.response_timeout_seconds
    way = dict(edge.transport)
    if seconds:
        way["forwardingTimeouts"] = {**way.get("forwardingTimeouts", {}), "responseHeaderTimeout": f"{seconds}s"}
    transports = {route.name: way} if seconds else {}
    if route.backend:
        pool = {"servers": [{"url": one} for one in route.backend], "passHostHeader": True}
        if seconds:
            transports = {route.name: {"forwardingTimeouts": way["forwardingTimeouts"]}}
            pool["serversTransport"] = route.name
        return route.name, {route.name: {"loadBalancer": pool}}, transports
    if not seconds:
        return "odoo", {}, {}
    checked = f"{route.name}-checked"
    return (
        route.name,
        {
            route.name: {"failover": {"service": checked, "fallback": "any"}},
            checked: {"loadBalancer": {**edge.pool, "serversTransport": route.name}},
        },
        transports,
    )


def maintenance(domains: t.Sequence[str], sources: t.Sequence[str]) -> dict[str, t.Any]:
    """Everybody but ``sources`` gets the page. A second router, for this host alone, tells that Traefik knows it."""
    which = rule(domains, ())
    if sources:
        which += f" && !({' || '.join(f'ClientIP(`{one}`)' for one in sources)})"
    return {
        "routers": {
            "maintenance": _router(which, MAINTENANCE, ["headers", "maintenance"], "page"),
            "maintenance-seen": {**_router(f"Path(`{PAGE}`)", MAINTENANCE, [], "page"), "entryPoints": ["local"]},
        },
        "middlewares": {"maintenance": {"replacePath": {"path": PAGE}}},
    }


def why_no_source(value: t.Any) -> str:
    """Why it is neither an address nor a network; empty when it is one."""
    return _text("sources", value) if isinstance(value, str) else f"{value} is no string"

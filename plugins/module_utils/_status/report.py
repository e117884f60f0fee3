# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a look to what is told of it: a summary for programs, and one screen for people."""

from __future__ import annotations

import datetime
import textwrap
import typing as t

from . import backups, certificates, hosts, plan, serving, views
from .look import (
    EDGE,
    ETCD,
    NOTE,
    ODOO,
    POSTGRES,
    REDIS,
    SEVERITIES,
    WARNING,
    Finding,
    Look,
    age,
    listing,
    mapping,
    number,
    parse_look,
    size,
    words,
)

WIDTH = 100
LABEL = 13


# -- for programs ----------------------------------------------------------------------------------------------------


def _postgres(look: Look) -> dict[str, t.Any]:
    view = look.best(POSTGRES)
    members = listing(view.get("members"))
    leader = views.leader_of(view) if view else None
    return {
        "seen": bool(view),
        "leader": leader,
        "timeline": next((one.get("timeline") for one in members if one.get("name") == leader), None),
        "paused": bool(view.get("paused")),
        "synchronous_mode": view.get("synchronous_mode"),
        "sync_standbys": views.sync_standbys(view) if view else [],
        "members": [{key: one.get(key) for key in ("name", "role", "state", "timeline", "lag")} for one in members],
        "missing": [name for name in look.members[POSTGRES] if name not in [one.get("name") for one in members]],
        "detectors": {
            host.name: mapping(host.part("detector")).get("up") is True
            for host in look.of(POSTGRES)
            if "detector" in host.containers
        },
    }


def _etcd(look: Look) -> dict[str, t.Any]:
    view = look.best(ETCD)
    members = listing(view.get("members"))
    sizes = [number(one.get("db_size")) or 0 for one in members]
    return {
        "seen": bool(view),
        "leader": view.get("leader"),
        "quorum": views.quorum_of(view) if view else None,
        "db_size": max(sizes, default=0),
        "quota_fraction": number(view.get("quota_fraction")),
        "members": [
            {"name": one.get("name"), "reachable": bool(one.get("reachable")), "alarms": list(words(one.get("alarms")))}
            for one in members
        ],
    }


def _redis(look: Look) -> dict[str, t.Any]:
    view = look.best(REDIS)
    master = view.get("master")
    return {
        "seen": bool(view),
        "master": look.name(master) if master else None,
        "quorum": views.quorum_of(view) if view else None,
        "lags": {look.name(address): lag for address, lag in views.lags(view).items()} if view else {},
    }


def _answering(look: Look, layer: str, probe: str) -> list[str]:
    return [host.name for host in look.of(layer) if mapping(mapping(host.part("probes")).get(probe)).get("ok")]


def _routes(look: Look) -> dict[str, dict[str, list[str]]]:
    """By proxy: to whom it goes, and from which hosts."""
    found: dict[str, dict[str, list[str]]] = {}
    for proxy in ("postgres_leader", "redis_master"):
        for host in look.of(ODOO):
            if host.part("router") is not None and host.told:
                to = "+".join(serving.routes(host, proxy)) or "nobody"
                found.setdefault(proxy, {}).setdefault(to, []).append(host.name)
    return found


def _backups(look: Look) -> dict[str, t.Any]:
    told, now = backups.last_backups(look)
    kept = listing(mapping(told).get("backups"))
    leading: t.Mapping[str, t.Any] = next(
        (
            mapping(host.part("database"))
            for host in look.of(POSTGRES)
            if mapping(host.part("database")).get("in_recovery") is False
        ),
        {},
    )

    def last(*kinds: str) -> dict[str, t.Any] | None:
        fitting = [one for one in kept if not kinds or one.get("type") in kinds]
        one = max(fitting, key=lambda each: number(each.get("stop")) or 0, default=None)
        if one is None:
            return None
        return {
            **{key: one.get(key) for key in ("label", "type", "stop", "bytes")},
            "age_seconds": max(0, now - int(number(one.get("stop")) or 0)),
        }

    return {
        "seen": told is not None,
        "code": mapping(told).get("code"),
        "message": mapping(told).get("message"),
        "running": bool(mapping(told).get("running")),
        "count": len(kept),
        "last": last(),
        "last_full": last("full"),
        "rehearsal": _proof(look, backups.REHEARSAL),
        "verification": _proof(look, backups.VERIFICATION),
        "repositories": [_repository(look, one, now) for one in backups.repositories(look)],
        "archive_failing": leading.get("archive_failing"),
        "waiting_wal": leading.get("waiting_wal"),
    }


def _repository(look: Look, one: t.Mapping[str, t.Any], now: int) -> dict[str, t.Any]:
    """One of several; with a single one the list is empty."""
    kept = backups.of_repository(look, one.get("number"))
    last = max((int(number(each.get("stop")) or 0) for each in kept), default=0)
    return {
        **{key: one.get(key) for key in ("number", "code", "message", "reached", "newest_wal")},
        "count": len(kept),
        "age_seconds": max(0, now - last) if last else None,
    }


def _proof(look: Look, proof: backups.Proof) -> dict[str, t.Any]:
    """What the last one that passed has measured, and since when a later one has not."""
    return {
        "passed": dict(backups.last_proof(look, proof.part)),
        "unproven_since": backups.unproven_since(look, proof),
    }


def _proof_words(seen: t.Mapping[str, t.Any], now: int | None) -> str:
    at = number(seen["passed"].get("at"))
    told = "NEVER" if at is None or now is None else f"{age(max(0, now - at))} ago"
    return f"{told}, NOT PASSED since" if seen["unproven_since"] else told


def _certificates(look: Look) -> dict[str, t.Any]:
    """Which ends first, and when the authority does. What is served counts, and files that nobody serves."""
    found = [
        {
            "host": host.name,
            "name": one.get("certificate") or one.get("name"),
            "seconds_left": int(one["not_after"] - (number(host.status.get("now")) or 0)),
            "authority": bool(one.get("authority")),
        }
        for host in look.hosts.values()
        for one in certificates.relevant(host)
        if number(one.get("not_after")) is not None
    ]
    first = {
        kind: min(
            (one for one in found if one["authority"] is kind),
            key=lambda one: t.cast(int, one["seconds_left"]),
            default=None,
        )
        for kind in (False, True)
    }
    served = [{"host": host.name, **one} for host in look.hosts.values() for one in listing(host.part("served"))]
    return {"count": len(found), "first": first[False], "authority": first[True], "served": served}


def _hosts(look: Look) -> dict[str, dict[str, t.Any]]:
    found = {}
    for host in look.hosts.values():
        expected = {*hosts.expected_containers(look, host.name), *host.containers}
        disks = [
            (number(one.get("free_mb")) or 0) / one["total_mb"]
            for one in listing(host.part("disks"))
            if number(one.get("total_mb"))
        ]
        found[host.name] = {
            "address": host.address,
            "answers": host.told,
            "layers": look.layers(host.name),
            "containers": len(expected),
            "containers_well": sum(
                one.get("state") == "running" and one.get("health") in ("healthy", "none")
                for one in host.containers.values()
            ),
            "disk_free_fraction": round(min(disks), 3) if disks else None,
        }
    return found


def summary(look: Look) -> dict[str, t.Any]:
    """What every cluster shows, good or bad."""
    return {
        "postgres": _postgres(look),
        "etcd": _etcd(look),
        "redis": _redis(look),
        "routes": _routes(look),
        "odoo": {"answering": _answering(look, ODOO, "odoo"), "hosts": list(look.members[ODOO])},
        "edge": {
            "answering": _answering(look, EDGE, "traefik"),
            "hosts": list(look.members[EDGE]),
            "address": look.vip or None,
            "holders": serving.holders(look),
        },
        "backups": _backups(look),
        "certificates": _certificates(look),
    }


# -- for people ------------------------------------------------------------------------------------------------------


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{head:<{LABEL}}",
        subsequent_indent=" " * LABEL,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _cells(*texts: t.Any) -> str:
    """Columns, each as wide as what is usual in it."""
    return "".join(f"{'' if text is None else text!s:<{width}}" for text, width in zip(texts, (16, 16, 12, 16, 16)))


def _votes(quorum: t.Mapping[str, t.Any] | None) -> str:
    if not quorum:
        return "nobody answers"
    spare = "none may go" if not quorum["spare"] else f"{quorum['spare']} may go"
    return f"{quorum['answering']} of {quorum['total']} ({quorum['needed']} needed, {spare})"


def _postgres_rows(seen: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    if not seen["seen"]:
        yield from _wrapped("PostgreSQL", "NOT KNOWN: nobody could be asked")
        return
    mode = {"on": "synchronous", "quorum": "synchronous (quorum)", "off": "asynchronous"}.get(
        str(seen["synchronous_mode"]), "mode unknown"
    )
    if len(seen["members"]) + len(seen["missing"]) == 1:
        mode = "alone"
    paused = "  PAUSED" if seen["paused"] else ""
    yield from _wrapped(
        "PostgreSQL", f"leader {seen['leader'] or 'NOBODY'}  timeline {seen['timeline']}  {mode}{paused}"
    )
    for one in seen["members"]:
        lag = "" if one["name"] == seen["leader"] else f"lag {size(one['lag'])}"
        watched = seen["detectors"].get(one["name"])
        detector = "" if watched is None else f"detector {'on' if watched else 'DOWN'}"
        yield from _wrapped("", _cells(one["name"], one["role"], one["state"], lag, detector))
    for name in seen["missing"]:
        yield from _wrapped("", _cells(name, "MISSING"))


def _etcd_rows(seen: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    if not seen["seen"]:
        yield from _wrapped("etcd", "NOT KNOWN: nobody could be asked")
        return
    quota = "" if seen["quota_fraction"] is None else f" ({100 * seen['quota_fraction']:.1f} % of its quota)"
    yield from _wrapped(
        "etcd", f"leader {seen['leader'] or 'NOBODY'}  members {_votes(seen['quorum'])}  {size(seen['db_size'])}{quota}"
    )


def _redis_rows(seen: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    if not seen["seen"]:
        yield from _wrapped("Redis", "NOT KNOWN: nobody could be asked")
        return
    lags = "  ".join(f"{name} lag {size(lag)}" for name, lag in sorted(seen["lags"].items()))
    yield from _wrapped("Redis", f"master {seen['master'] or 'NOBODY'}  Sentinels {_votes(seen['quorum'])}")
    if lags:
        yield from _wrapped("", lags)


def _serving_rows(seen: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    for proxy, by_target in seen["routes"].items():
        told = "  ".join(f"{to} (from {', '.join(names)})" for to, names in sorted(by_target.items()))
        yield from _wrapped("Router" if proxy == "postgres_leader" else "", f"{proxy} to {told}")
    for label, layer in (("Odoo", "odoo"), ("Edge", "edge")):
        names, answering = seen[layer]["hosts"], seen[layer]["answering"]
        if not names:
            continue
        vip = ""
        if layer == "edge" and seen["edge"]["address"]:
            vip = f"  {seen['edge']['address']} on {', '.join(seen['edge']['holders']) or 'NOBODY'}"
        yield from _wrapped(label, f"{len(answering)} of {len(names)} answer{vip}")


def _backup_rows(seen: t.Mapping[str, t.Any], now: int | None) -> t.Iterator[str]:
    if not seen["seen"]:
        yield from _wrapped("Backups", "NOT KNOWN: nobody could ask the repository")
        return
    last, full = seen["last"], seen["last_full"]
    if seen["code"] != 0 or last is None:
        yield from _wrapped("Backups", f"NONE: {seen['message']}")
        return
    running = "  one runs now" if seen["running"] else ""
    yield from _wrapped(
        "Backups",
        f"last {last['type']} {age(last['age_seconds'])} ago ({last['label']})  {seen['count']} kept{running}",
    )
    for one in seen["repositories"]:
        told = f"{one['count']} kept, last {age(one['age_seconds'])} ago" if one["count"] else "NONE"
        reached = "" if one["reached"] else f"  CANNOT BE ASKED: {one['message']}"
        yield from _wrapped("", f"repository {one['number']}: {told}{reached}")
    archive = "WAL archiving not known"
    if seen["archive_failing"] is True:
        archive = "WAL archiving FAILS"
    elif seen["archive_failing"] is False:
        archive = f"WAL archived, {seen['waiting_wal']} segments wait"
    yield from _wrapped("", f"last full {age(full['age_seconds']) + ' ago' if full else 'NEVER'}  {archive}")
    verified, rehearsed = _proof_words(seen["verification"], now), _proof_words(seen["rehearsal"], now)
    yield from _wrapped("", f"verified {verified}  restore rehearsed {rehearsed}")


def _certificate_rows(seen: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    first, authority = seen["first"], seen["authority"]
    if first is None:
        yield from _wrapped("Certificates", "NOT KNOWN")
        return
    until = f"  authority in {age(authority['seconds_left'])}" if authority else ""
    yield from _wrapped(
        "Certificates", f"first to end: {first['name']} of {first['host']} in {age(first['seconds_left'])}{until}"
    )


def _host_rows(look: Look, by_host: t.Mapping[str, t.Mapping[str, t.Any]]) -> t.Iterator[str]:
    label = "Hosts"
    for name, one in by_host.items():
        if not one["answers"]:
            told = "gives no answer" if look.hosts[name].asked else "not asked"
        else:
            free = one["disk_free_fraction"]
            disk = "" if free is None else f"disk {100 * free:.0f} % free"
            told = f"{one['containers_well']} of {one['containers']} containers well  {disk}"
        yield from _wrapped(label, _cells(name) + told)
        label = ""


def _finding_rows(place: int, one: Finding) -> t.Iterator[str]:
    where = f" {one.host}" if one.host and not one.what.startswith(one.host) else ""
    yield from _wrapped(f"{place:>2} {one.severity.upper()}", f"{one.code}{where}: {one.what}")
    yield from _wrapped(f"{'':<{LABEL - 4}}why", one.why)
    # As one line, so that a command can be copied.
    yield f"{'':<{LABEL - 4}}do  {one.do}"


def lines(
    look: Look, seen: t.Mapping[str, t.Any], by_host: t.Mapping[str, t.Any], found: t.Sequence[Finding]
) -> list[str]:
    """One screen: a block for every cluster, then what is wrong and what to do."""
    told = sum(bool(one["answers"]) for one in by_host.values())
    now = look.now
    moment = (
        "" if now is None else f"  {datetime.datetime.fromtimestamp(now, datetime.timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    )
    shown = [
        f"{look.cluster}{moment}  {told} of {len(by_host)} hosts answer  {headline(found)}",
        "-" * WIDTH,
        *(_postgres_rows(seen["postgres"]) if look.members[POSTGRES] else ()),
        *(_etcd_rows(seen["etcd"]) if look.members[ETCD] else ()),
        *(_redis_rows(seen["redis"]) if look.members[REDIS] else ()),
        *_serving_rows(seen),
        *(_backup_rows(seen["backups"], now) if look.members[POSTGRES] else ()),
        *_certificate_rows(seen["certificates"]),
        *_host_rows(look, by_host),
    ]
    roots = [one for one in found if not one.cause]
    if roots:
        shown.append("-" * WIDTH)
    for place, one in enumerate(roots, start=1):
        shown += _finding_rows(place, one)
        shown += _with_it(one, found, roots)
    return shown


def _with_it(root: Finding, found: t.Sequence[Finding], roots: t.Sequence[Finding]) -> list[str]:
    """What a finding explains, in short: what is of the same host, and at the first of its code what is of none."""
    first = next(one for one in roots if one.code == root.code)
    named = {one.host for one in roots if one.code == root.code}
    mine = [
        f"{one.code}{f' {one.host}' if one.host and one.host != root.host else ''}"
        for one in found
        if one.cause == root.code and (one.host == root.host or (root is first and one.host not in named))
    ]
    return _wrapped(f"{'':<{LABEL - 4}}and", ", ".join(dict.fromkeys(mine)))


def headline(found: t.Sequence[Finding]) -> str:
    """All is well, or how much is not."""
    counts = {severity: sum(one.severity == severity for one in found) for severity in SEVERITIES}
    said = [f"{count} {severity}" for severity, count in counts.items() if count]
    return ", ".join(said).upper() if said else "ALL WELL"


def message(found: t.Sequence[Finding]) -> str:
    """What is wrong as one text, for the task that fails: the screen tells the rest."""
    bad = [one for one in found if one.severity != NOTE and not one.cause]
    named = [f"{one.code} {one.host}".rstrip() for one in bad]
    return f"{headline(found)}: {', '.join(named)}" if named else headline(found)


def report(data: t.Any, fail_on: str = WARNING) -> dict[str, t.Any]:
    """Everything that was looked at -> everything that is told. Raises ValueError when the look is none."""
    look = parse_look(data)
    found = plan.findings(look)
    seen, by_host = summary(look), _hosts(look)
    return {
        "ok": plan.is_ok(found, fail_on),
        "cluster": look.cluster,
        "time": look.now,
        "counts": {severity: sum(one.severity == severity for one in found) for severity in SEVERITIES},
        "findings": [one.as_result() for one in found],
        "clusters": seen,
        "hosts": by_host,
        "message": message(found),
        "lines": lines(look, seen, by_host, found),
        "metrics": certificates.metrics(look.hosts.values()),
    }

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the ports of a host serve, beside what lies on its disk. Decides, and asks nobody.

Laws (checked by the tests):

1. a certificate that a port serves is judged as served; a file is judged only where its serial was not seen at a port
   of its own: what no port shows (certificates of clients, the authority), and what waits for a service to take it;
2. no finding while more than the fraction of its life that is left for renewal is left: a site that renews in time has
   none, however short its certificates live. One that lives longer than ours (90 days) has none before 30 days either;
3. one that is due names the narrowest of 30, 14, 7 and 1 days that it has come below, and never becomes milder as time
   goes by;
4. a port with another serial than its file is a service that has not taken its certificate, whatever both say of their
   end;
5. without the host's clock nothing is judged, and that is a finding;
6. an end is told once for a certificate of a host, however many ports serve it.
"""

from __future__ import annotations

import typing as t

from .look import CRITICAL, DAY, NOTE, PLAYBOOK, SITE, WARNING, Finding, Findings, Host, Limits, age, listing, number

STAGES = (1, 7, 14, 30)
# What roles/pki issues at most; renewed at two thirds of it.
LIFE = 90 * DAY
# The layer of rotate_certificates by the name of the certificate.
LAYERS = {"etcd": "etcd", "postgres": "postgres", "redis": "redis", "router": "odoo", "edge": "edge"}
# What the edges serve instead of ours, by ACME or the customer's own.
PUBLIC = "public"
# Another host's clock may be behind by as much when it signs.
SKEW = 300
# A port that answers, and not as it should. What does not answer at all has findings of its own.
_STRANGE = ("no_tls", "malformed", "bad_ca", "bad_client_certificate", "bad_target")

Entry = t.Mapping[str, t.Any]


def is_due(left: float, life: float, fraction: float) -> bool:
    """Law 2."""
    return left <= life * fraction and (life <= LIFE or left <= STAGES[-1] * DAY)


def stage(left: float) -> int | None:
    """Law 3; None: more than the widest."""
    return next((days for days in STAGES if left <= days * DAY), None)


def severity(left: float, limits: Limits) -> str:
    """A week is what is needed to find out why nobody renewed it."""
    return CRITICAL if left <= limits.certificate_seconds else WARNING


def unshown(files: t.Sequence[Entry], served: t.Sequence[Entry]) -> list[Entry]:
    """Law 1: the files that no port of theirs shows."""
    shown = {(str(one.get("certificate")), str(one["serial"])) for one in served if one.get("serial")}
    return [one for one in files if (str(one.get("name")), str(one.get("serial"))) not in shown]


def relevant(host: Host) -> list[Entry]:
    """What counts of the certificates of a host: an end, and whose."""
    files, served = listing(host.part("certificates")), listing(host.part("served"))
    return [*(one for one in served if one.get("serial")), *unshown(files, served)]


def judge(host: Host, limits: Limits) -> Findings:
    """Everything that is wrong with the certificates of one host."""
    files, served = listing(host.part("certificates")), listing(host.part("served"))
    now = number(host.status.get("now"))
    if not now:
        if files or served:
            yield Finding(
                WARNING,
                "certificates-not-judged",
                host.name,
                "its clock was not told",
                "nobody knows how long its certificates last",
                "run again with -vvv",
            )
        return
    told: set[tuple[str, str, str]] = set()
    for one in served:
        name = str(one.get("certificate"))
        serial = str(one.get("serial") or "")
        if not serial:
            yield from _unseen(host, one)
            continue
        # Two authorities may give the same serial.
        which = (name, serial, str(one.get("not_after")))
        if which not in told:
            told.add(which)
            yield from _lasts(host, one, f"{name} (served at {one.get('name')})", now, limits)
        yield from _trusted(host, one, now)
    yield from _not_taken(host, files, served)
    for one in unshown(files, served):
        yield from _file(host, one, now, limits)


def _unseen(host: Host, one: Entry) -> Findings:
    code = str(one.get("code") or "unknown")
    yield Finding(
        WARNING if code in _STRANGE else NOTE,
        "certificate-not-seen",
        host.name,
        f"{one.get('name')} shows no certificate ({code}): {str(one.get('why') or '')[:200]}",
        "nobody knows what it serves and how long that lasts; the file on the disk is judged in its place",
        "mend its service first"
        if code not in _STRANGE
        else f"on {host.name}: openssl s_client -connect {_address(one)} </dev/null",
    )


def _address(one: Entry) -> str:
    return str(one.get("name")).partition("://")[2]


def _lasts(host: Host, one: Entry, name: str, now: float, limits: Limits) -> Findings:
    """Laws 2 and 3, for what is served and for what lies on the disk."""
    since, until = number(one.get("not_before")), number(one.get("not_after"))
    if since is None or until is None:
        return
    left, authority = until - now, bool(one.get("authority"))
    foreign = one.get("protocol") == "s3"
    renew = f"{SITE} (without tags, so that the services take the new one)"
    if authority:
        renew = "plan a new authority: no certificate outlives it"
    elif foreign:
        renew = "tell who runs the object store to renew it"
    elif one.get("certificate") == PUBLIC:
        renew = "journalctl -u dedicated-edge-acme on each edge, or give another: docs/howto/public-certificates.md"
    if since > now + SKEW:
        yield Finding(
            CRITICAL,
            "certificate-not-yet-valid",
            host.name,
            f"the certificate {name} is valid in {age(since - now)} only",
            "connections that need it are refused",
            f"on {host.name}: chronyc tracking; where its clock is right: {renew}",
        )
    elif left <= 0:
        yield Finding(
            CRITICAL,
            "certificate-ended",
            host.name,
            f"the certificate {name} ended {age(-left)} ago",
            "connections that need it are refused",
            f"on {host.name}: chronyc tracking; where its clock is right: {renew}",
        )
    elif left <= limits.authority_seconds if authority else is_due(left, until - since, limits.certificate_fraction):
        days = stage(left)
        yield Finding(
            severity(left, limits),
            "certificate-due",
            host.name,
            f"the certificate {name} ends in {age(left)}{'' if days is None else f' (limit {days} d)'}",
            "after that, connections that need it are refused",
            renew,
        )


def _trusted(host: Host, one: Entry, now: float) -> Findings:
    """Another issuer, or none of the names. An end has its own finding."""
    since, until = number(one.get("not_before")) or 0, number(one.get("not_after")) or 0
    if one.get("verified") is not False or not since <= now < until:
        return
    yield Finding(
        WARNING,
        "certificate-not-trusted",
        host.name,
        f"{one.get('name')} serves a certificate of {one.get('issuer')} that this host does not trust: "
        f"{str(one.get('unverified_because') or '')[:200]}",
        "connections to it are refused",
        "tell who runs the object store, or set the ca of this repository"
        if one.get("protocol") == "s3"
        else _rotate(host, str(one.get("certificate"))),
    )


def _not_taken(host: Host, files: t.Sequence[Entry], served: t.Sequence[Entry]) -> Findings:
    """Law 4."""
    lies = {str(one.get("name")): str(one["serial"]) for one in files if one.get("serial")}
    for name, serial in sorted(lies.items()):
        others = [one for one in served if one.get("certificate") == name and one.get("serial") not in (None, serial)]
        if others:
            yield Finding(
                WARNING,
                "certificate-not-served",
                host.name,
                f"{', '.join(str(one.get('name')) for one in others)} serves {others[0]['serial']}, on the disk lies "
                f"the certificate {name} {serial}",
                "its service has not taken the certificate on the disk; the one that it serves ends all the same",
                _rotate(host, name),
            )


def _rotate(host: Host, name: str) -> str:
    layer = LAYERS.get(name)
    if layer is None:
        return f"{SITE} (without tags, so that the services take the new one)"
    return f"{PLAYBOOK}.rotate_certificates -e layer={layer} -e host={host.name} -e reason=<why>"


def _file(host: Host, one: Entry, now: float, limits: Limits) -> Findings:
    if number(one.get("not_after")) is None or number(one.get("not_before")) is None:
        yield Finding(
            WARNING,
            "certificate-unreadable",
            host.name,
            f"the certificate {one.get('path')}: {one.get('error')}",
            "nobody knows when it ends",
            f"on {host.name}: openssl x509 -noout -dates -in {one.get('path')}",
        )
        return
    yield from _lasts(host, one, str(one.get("name")), now, limits)


# -- for programs ----------------------------------------------------------------------------------------------------


def _label(value: t.Any) -> str:
    """As the text format of Prometheus wants the value of a label."""
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def metrics(hosts: t.Iterable[Host]) -> str:
    """When what is served ends, in the text format of Prometheus."""
    lines = [
        "# HELP dedicated_certificate_not_after_seconds End of the certificate that is served (s since the epoch).",
        "# TYPE dedicated_certificate_not_after_seconds gauge",
    ]
    for host in hosts:
        for one in listing(host.part("served")):
            until = number(one.get("not_after"))
            if until is None:
                continue
            labels = {
                "host": host.name,
                "certificate": one.get("certificate"),
                "endpoint": one.get("name"),
                "serial": one.get("serial"),
            }
            told = ",".join(f'{key}="{_label(value)}"' for key, value in labels.items())
            lines.append(f"dedicated_certificate_not_after_seconds{{{told}}} {until:.0f}")
    return "\n".join(lines) + "\n"

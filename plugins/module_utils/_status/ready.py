# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The readiness gate: what must be there before a ledger that matters may live on a platform.

Laws (checked by the tests):

1. a demand is met by what was found, never by what was not: silence, an unknown number and a time in the future are
   each a demand that is not met;
2. only what a repository holds, and what was proven by reading and restoring it, counts as a backup. A replica is none:
   nothing here looks at how many there are;
3. every demand is told, met or not, with its numbers; the platform is ready when all of them are met.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .look import (
    CRITICAL,
    DAY,
    HOUR,
    PLAYBOOK,
    SITE,
    WARNING,
    age,
    listing,
    mapping,
    number,
    words,
)

# Clocks of the controller, which dates the proofs, and of the hosts may differ by this much.
SKEW = 5 * 60
WIDTH = 22
REHEARSE = f"{PLAYBOOK}.rehearse_restore -e reason=<why>"
VERIFY = f"{PLAYBOOK}.verify_backup -e reason=<why>"
RECORD = f"{PLAYBOOK}.verify_evidence"


@dataclasses.dataclass(frozen=True)
class Limits:
    """Where readiness ends."""

    # As status has them: a backup each night, read through each week, rehearsed each month.
    backup_seconds: int = 26 * HOUR
    verification_seconds: int = 8 * DAY
    rehearsal_seconds: int = 35 * DAY
    # Two weeks to find out why no run renewed one.
    certificate_seconds: int = 14 * DAY


@dataclasses.dataclass(frozen=True)
class Repository:
    """Where backups go. ``at``: the host's name or address, empty for a path; ``shared``: the path is no local disk."""

    number: int
    type: str
    at: str
    shared: bool = False


@dataclasses.dataclass(frozen=True)
class Found:
    """Everything that is judged."""

    report: t.Mapping[str, t.Any]
    rpo_seconds: float
    rto_seconds: float
    repositories: tuple[Repository, ...] = ()
    site: tuple[str, ...] = ()
    retention: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    evidence: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    signatures: bool = False
    limits: Limits = dataclasses.field(default_factory=Limits)

    @property
    def now(self) -> float | None:
        return number(self.report.get("time"))

    @property
    def backups(self) -> t.Mapping[str, t.Any]:
        return mapping(mapping(self.report.get("clusters")).get("backups"))

    def proof(self, name: str) -> t.Mapping[str, t.Any]:
        return mapping(mapping(self.backups.get(name)).get("passed"))

    def unproven(self, name: str) -> float:
        return number(mapping(self.backups.get(name)).get("unproven_since")) or 0


@dataclasses.dataclass(frozen=True)
class Demand:
    """One thing that must be so. ``what`` tells with its numbers what was found."""

    code: str
    met: bool
    what: str
    why: str
    do: str

    def as_result(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)


# -- judges ----------------------------------------------------------------------------------------------------------


def why_not_fresh(at: float | None, now: float | None, limit: int) -> str:
    """Why something of a time is not of late; empty when it is."""
    if now is None:
        return "and no host told the time"
    if at is None or at <= 0:
        return "and nobody knows when"
    if at > now + SKEW:
        return f"and that is {age(at - now)} in the future: a clock is wrong"
    return f"more than {age(limit)}" if now - at > limit else ""


def _age(at: float, now: float | None) -> str:
    return "at an unknown time" if now is None else f"{age(max(0.0, now - at))} ago"


def _status(found: Found) -> Demand:
    bad = [one for one in listing(found.report.get("findings")) if one.get("severity") in (CRITICAL, WARNING)]
    hosts = mapping(found.report.get("hosts"))
    silent = [name for name, one in hosts.items() if mapping(one).get("answers") is not True]
    told = ", ".join(f"{one.get('code')} {one.get('host')}".rstrip() for one in bad if not one.get("cause"))
    if bad:
        what = f"status finds {len(bad)}: {told}"
    elif silent or not hosts:
        what = f"{len(silent)} of {len(hosts)} hosts told nothing: {', '.join(silent) or 'there is none'}"
    else:
        what = f"status finds nothing wrong, and all {len(hosts)} hosts answer"
    why = "what is not well today does not carry a ledger tomorrow"
    return Demand("status-well", not bad and bool(hosts) and not silent, what, why, f"{PLAYBOOK}.status")


def _backup(found: Found) -> Demand:
    last, code = mapping(found.backups.get("last")), found.backups.get("code")
    at, limit = number(last.get("stop")), found.limits.backup_seconds
    if not found.backups.get("seen"):
        problem = what = "no host could ask the repository"
    elif code != 0 or at is None:
        problem = what = f"the repository holds no good backup: {found.backups.get('message')}"
    else:
        problem = why_not_fresh(at, found.now, limit)
        shown = problem or f"limit {age(limit)}"
        what = f"the last backup ended {_age(at, found.now)} ({last.get('label')}), {shown}"
    return Demand(
        "backup-recent",
        not problem,
        what,
        "a replica is no backup: it repeats every mistake at once",
        f"{PLAYBOOK}.backup -e reason=<why>",
    )


def _proof_problem(found: Found, part: str, name: str, limit: int) -> tuple[str, str]:
    """Why there is no proof of late, and what was found."""
    at, begun = number(found.proof(part).get("at")), found.unproven(part)
    if at is None and not begun:
        return "never", f"there was no {name}"
    if begun:
        return "unproven", f"the last {name} began {_age(begun, found.now)} and has not passed"
    problem = why_not_fresh(at, found.now, limit)
    return problem, f"the last {name} passed {_age(at or 0, found.now)}, " + (problem or f"limit {age(limit)}")


def _verified(found: Found) -> Demand:
    problem, what = _proof_problem(found, "verification", "verification", found.limits.verification_seconds)
    proof = found.proof("verification")
    usable, checked = number(proof.get("backups_usable")), number(proof.get("backups_checked"))
    if not problem:
        what += f", {usable if usable is not None else '?'} of {checked if checked is not None else '?'} backups usable"
        if not usable or usable != checked:
            problem = "not all of them usable"
        missing = sorted({one.number for one in found.repositories} - _numbers(proof.get("repositories")))
        if missing:
            problem = "repositories left out"
            what += f"; repository {', '.join(map(str, missing))} was not among them"
    why = "a file that nobody reads is damaged until it is needed"
    return Demand("backups-verified", not problem, what, why, VERIFY)


def _numbers(value: t.Any) -> set[int]:
    return {one for one in value if isinstance(one, int)} if isinstance(value, (list, tuple)) else set()


def _rehearsed(found: Found) -> Demand:
    problem, what = _proof_problem(found, "rehearsal", "rehearsal of a restore", found.limits.rehearsal_seconds)
    proof = found.proof("rehearsal")
    if not problem:
        for name, said in (("reconciled", "its books were not reconciled"), ("neutralized", "it was not neutralized")):
            if proof.get(name) is not True:
                problem = said
                what += f", but {said}"
    why = "only a restore proves a backup, and only its books prove the restore"
    return Demand("restore-rehearsed", not problem, what, why, REHEARSE)


def _targets(found: Found) -> Demand:
    proof = found.proof("rehearsal")
    said, met = [], True
    for name, words_, target in (
        ("rpo_seconds", "recovery point", found.rpo_seconds),
        ("rto_seconds", "back at work after", found.rto_seconds),
    ):
        measured = number(proof.get(name))
        met = met and measured is not None and 0 <= measured <= target
        shown = "not measured" if measured is None else f"{measured:g} s"
        said.append(f"{words_} {shown} (target {target:g} s)")
    why = "what the tier promises was promised to somebody"
    return Demand("restore-targets", met, "  ".join(said), why, f"docs/howto/rehearse-restore.md; {REHEARSE}")


def on_site(repository: Repository, site: t.Collection[str]) -> bool:
    """Whether a repository goes down with the hosts that it is for, as far as its name tells."""
    at = repository.at.strip().lower().rstrip(".").strip("[]")
    if not at:
        return not repository.shared
    return at == "localhost" or at.startswith("127.") or at == "::1" or at in {name.lower() for name in site}


def _elsewhere(found: Found) -> Demand:
    away = [one for one in found.repositories if not on_site(one, found.site)]
    told = [f"{one.number} ({one.type} at {one.at or 'a path'})" for one in found.repositories]
    if away:
        what = f"{len(away)} of {len(told)} repositories are not on hosts of the site: " + ", ".join(
            f"{one.number} ({one.type}{f' at {one.at}' if one.at else ', shared'})" for one in away
        )
    elif told:
        what = f"every repository is on the site's own hosts: {', '.join(told)}"
    else:
        what = "the inventory names no repository"
    why = "what burns with the database is no backup of it"
    return Demand("repository-elsewhere", bool(away), what, why, "let one of pgbackrest_repositories be elsewhere")


def _retention(found: Found) -> Demand:
    told = found.retention
    met = told.get("policy_met") is True
    days = number(told.get("policy_days"))
    if "policy_met" in told:
        effect = ", ".join(
            f"repository {one.get('repository')}: {one.get('number')} "
            f"{'days' if one.get('kind') == 'time' else 'full backups'}"
            for one in listing(told.get("in_effect"))
        )
        what = f"{effect or 'nothing'} kept, {days:g} days promised" if days is not None else f"{effect} kept"
    else:
        what = str(told.get("msg") or "it could not be asked: nobody leads")
    why = "an error in the books is found weeks later"
    return Demand("retention-kept", met, what, why, f"{SITE} --tags pgbackrest; {PLAYBOOK}.retention_report")


def _certificates(found: Found) -> Demand:
    told = mapping(mapping(found.report.get("clusters")).get("certificates"))
    limit = found.limits.certificate_seconds
    parts = {kind: mapping(told.get(kind)) for kind in ("first", "authority")}
    left = {kind: number(one.get("seconds_left")) for kind, one in parts.items()}
    shown = [
        f"{parts[kind].get('name')} of {parts[kind].get('host')} in {age(seconds)}"
        for kind, seconds in left.items()
        if seconds is not None
    ]
    met = left["first"] is not None and all(seconds is None or seconds > limit for seconds in left.values())
    what = f"first to end: {', '.join(shown)} (limit {age(limit)})" if shown else "no certificate was seen"
    why = "where one ends, everybody is locked out at the same second"
    return Demand("certificates-valid", met, what, why, f"{SITE} --tags pki")


def _record(found: Found) -> Demand:
    bad = [where for where, told in found.evidence.items() if mapping(told).get("ok") is not True]
    records = max(
        (int(number(one.get("records")) or 0) for told in found.evidence.values() for one in _copies(told)), default=0
    )
    if bad or not found.evidence:
        what = f"not whole, or not to be read: {', '.join(bad) or 'nobody was asked'}"
    else:
        what = f"{len(found.evidence)} places agree, {records} records"
    met = bool(found.evidence) and not bad
    return Demand("evidence-whole", met, what, "who did what must stay to be seen", RECORD)


def _copies(told: t.Any) -> list[t.Mapping[str, t.Any]]:
    return listing(mapping(told).get("copies"))


def _signed(found: Found) -> Demand:
    copies = [(where, one) for where, told in found.evidence.items() for one in _copies(told)]
    bad = sorted({where for where, one in copies if not number(one.get("signed")) or one.get("checked") is not True})
    if bad:
        what = f"unsigned, or not checked: {', '.join(bad)}"
    elif copies:
        keys = sorted({str(key) for __, one in copies for key in words(one.get("signers"))})
        what = f"{len(copies)} copies are signed with {', '.join(keys)}"
    else:
        what = "there is no record that could be signed"
    why = "whoever can write every copy can write another history, if nobody signed it"
    return Demand("evidence-signed", bool(copies) and not bad, what, why, "docs/howto/evidence.md, Sign it")


# -- all of it -------------------------------------------------------------------------------------------------------


def demands(found: Found) -> tuple[Demand, ...]:
    """Everything that must be so, in the order in which it is best mended."""
    judged = [
        _status(found),
        _backup(found),
        _verified(found),
        _rehearsed(found),
        _targets(found),
        _elsewhere(found),
        _retention(found),
        _certificates(found),
        _record(found),
    ]
    return (*judged, _signed(found)) if found.signatures else tuple(judged)


def lines(cluster: str, judged: t.Sequence[Demand]) -> list[str]:
    """One table for people."""
    shown = [f"{cluster}  {headline(judged)}", "-" * 100]
    for one in judged:
        shown.append(f"{'met' if one.met else 'NOT MET':<9}{one.code:<{WIDTH}}{one.what}")
        if not one.met:
            shown.append(f"{'':<9}{'why':<{WIDTH}}{one.why}")
            shown.append(f"{'':<9}{'do':<{WIDTH}}{one.do}")
    return shown


def headline(judged: t.Sequence[Demand]) -> str:
    missing = sum(not one.met for one in judged)
    if missing:
        return f"NOT READY: {missing} of {len(judged)} demands are not met"
    return f"READY: {len(judged)} demands are met"


def report(found: Found) -> dict[str, t.Any]:
    """Everything that was found -> everything that is told."""
    judged = demands(found)
    missing = [one.code for one in judged if not one.met]
    cluster = str(found.report.get("cluster") or "")
    return {
        "ok": not missing,
        "cluster": cluster,
        "time": found.now,
        "demands": [one.as_result() for one in judged],
        "missing": missing,
        "message": f"{headline(judged)}{': ' + ', '.join(missing) if missing else ''}",
        "lines": lines(cluster, judged),
    }


# -- the border ------------------------------------------------------------------------------------------------------


def _limits(data: t.Mapping[str, t.Any]) -> Limits:
    """The defaults, with what is given instead. Raises ValueError."""
    known = [field.name for field in dataclasses.fields(Limits)]
    for name, value in data.items():
        if name not in known:
            raise ValueError(f"limits: {name} is none of {', '.join(sorted(known))}")
        _seconds(value, f"limits: {name}")
    return Limits(**{name: int(_seconds(value, name)) for name, value in data.items()})


def _seconds(value: t.Any, name: str) -> float:
    # Given on the command line it is a text.
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {value!r} is no number") from None
    if not 0 < seconds < 10 * 365 * DAY:
        raise ValueError(f"{name}: {value!r} is no number of seconds")
    return seconds


def _repository(place: int, one: t.Mapping[str, t.Any]) -> Repository:
    own = number(one.get("number"))
    return Repository(
        int(own) if own else place, str(one.get("type") or "s3"), str(one.get("at") or ""), one.get("shared") is True
    )


def parse_found(data: t.Any) -> Found:
    """What the playbook gathered. Raises ValueError when it is none."""
    given = mapping(data)
    report_ = given.get("report")
    if not isinstance(report_, t.Mapping) or not isinstance(report_.get("findings"), (list, tuple)):
        raise ValueError("report: must be what status_report returned")
    return Found(
        report=report_,
        rpo_seconds=_seconds(given.get("rpo_seconds"), "rpo_seconds"),
        rto_seconds=_seconds(given.get("rto_seconds"), "rto_seconds"),
        repositories=tuple(_repository(place, one) for place, one in enumerate(listing(given.get("repositories")), 1)),
        site=words(given.get("site")),
        retention=mapping(given.get("retention")),
        evidence=mapping(given.get("evidence")),
        signatures=given.get("signatures") is True,
        limits=_limits(mapping(given.get("limits"))),
    )

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pausing Patroni so that nobody can forget it.

While Patroni is paused nobody is promoted, whatever happens. So the pause carries its end, who asked for it and why in
the same write as itself (the key ``dedicated_maintenance`` of the dynamic configuration, which Patroni keeps and does
not read), and a timer of the host's own systemd ends it although nobody runs Ansible any more.

Laws:

1. a pause is never asked for before this host's timer was seen, enabled and active, for that end or a later look; a
   timer that is gone afterwards ends the pause;
2. the timer survives a reboot, looks again every few minutes, and repeats what fails, until the cluster is not paused;
3. it ends a pause only when both its own end and the one in the configuration have passed, so that a host that was away
   while the pause was renewed does not end it too early; and it removes itself only after its own end;
4. ending a pause comes before removing the timer: cut off in between, the timer finds nothing to do and goes;
5. a pause by somebody else with another reason, or by hand without a record, is neither renewed nor ended without
   ``force``.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import typing as t

from .._common.errors import Refuse
from . import plan as cluster_plan

KEY = "dedicated_maintenance"
# The hosts of a cluster reckon the end each on its own.
SLACK = 90
MIN_MINUTES, MAX_MINUTES = 5, 24 * 60

UNIT = "dedicated-patroni-resume"
TIMER_FILE = f"/etc/systemd/system/{UNIT}.timer"
SERVICE_FILE = f"/etc/systemd/system/{UNIT}.service"
SCRIPT_FILE = f"/usr/local/sbin/{UNIT}"
RECORD_FILE = "/etc/dedicated/patroni-maintenance.json"
LOCK_FILE = f"/run/{UNIT}.lock"
# In the order in which they are laid down; the timer comes last.
FILES = (RECORD_FILE, SCRIPT_FILE, SERVICE_FILE, TIMER_FILE)

PAUSED, RESUMED = "paused", "resumed"
LAY, PAUSE, RESUME, REMOVE = "lay", "pause", "resume", "remove"


@dataclasses.dataclass(frozen=True)
class Record:
    """Who paused why, since when and until when (seconds since 1970)."""

    until: int
    since: int
    operator: str
    reason: str

    def as_config(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)

    def said(self) -> str:
        return f"{self.operator} ({self.reason}) since {iso(self.since)} until {iso(self.until)}"


def parse_record(value: t.Any) -> Record | None:
    """What stands beside a pause; None when it is none of ours."""
    if not isinstance(value, t.Mapping):
        return None
    numbers = [value.get("until"), value.get("since")]
    words = [value.get("operator"), value.get("reason")]
    if any(isinstance(one, bool) or not isinstance(one, int) for one in numbers):
        return None
    if not all(isinstance(one, str) for one in words):
        return None
    return Record(value["until"], value["since"], value["operator"], value["reason"])


def iso(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclasses.dataclass(frozen=True)
class Timer:
    """This host's timer. ``sound``: enabled, active, and all its files as they should be."""

    until: int
    sound: bool


@dataclasses.dataclass(frozen=True)
class Look:
    """The cluster and this host at one moment. ``record`` may be left over from a pause that is over."""

    paused: bool
    record: Record | None
    timer: Timer | None

    def as_result(self) -> dict[str, t.Any]:
        record = self.record if self.paused else None
        return {
            "paused": self.paused,
            "operator": None if record is None else record.operator,
            "reason": None if record is None else record.reason,
            "since": None if record is None else iso(record.since),
            "until": None if record is None else iso(record.until),
            "timer": None if self.timer is None or not self.timer.sound else iso(self.timer.until),
        }


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the operator asks for. ``minutes`` counts only for a pause."""

    state: str
    operator: str
    reason: str = ""
    minutes: int = 60
    force: bool = False


@dataclasses.dataclass(frozen=True)
class Step:
    """One change."""

    kind: str
    record: Record | None = None

    def said(self) -> str:
        words = {
            LAY: "lay the timer down that ends the pause at ",
            PAUSE: "pause Patroni until ",
            RESUME: "end the pause",
            REMOVE: "remove the timer from this host",
        }
        return words[self.kind] + (iso(self.record.until) if self.record is not None else "")


def end_of(now: float, minutes: int) -> int:
    """On a full minute, so that all hosts come to the same."""
    return (int(now) + minutes * 60 + 59) // 60 * 60


def why_not_wish(wish: Wish) -> Refuse | None:
    """Whether what was given can be kept and shown."""
    needed = {"operator": wish.operator, **({"reason": wish.reason} if wish.state == PAUSED else {})}
    for name, text in needed.items():
        if not text.strip() or len(text) > 200 or not text.isprintable():
            return Refuse(
                "bad_text",
                f"{name} is {text[:40]!r}",
                "whoever finds the cluster paused has to know",
                f"Give {name} as one line of at most 200 characters.",
            )
    if wish.state == PAUSED and not MIN_MINUTES <= wish.minutes <= MAX_MINUTES:
        return Refuse(
            "bad_expiry",
            f"the pause would last {wish.minutes} minutes",
            f"it lasts {MIN_MINUTES} to {MAX_MINUTES}",
            "Pause again before it ends when it has to last longer.",
        )
    return None


def why_foreign(look: Look, wish: Wish) -> Refuse | None:
    """Whether the pause is somebody else's."""
    if not look.paused or wish.force:
        return None
    record = look.record
    verb = "paused again" if wish.state == PAUSED else "resumed"
    if record is None:
        return Refuse(
            "paused_by_hand",
            f"Patroni is not {verb}",
            "it is paused without a word who did it, why, and until when",
            "Ask who works on the cluster; then give force to take it over.",
        )
    if record.operator == wish.operator or (wish.reason and record.reason == wish.reason):
        return None
    return Refuse(
        "paused_by_another",
        f"Patroni is not {verb}",
        f"it is paused by {record.said()}",
        f"Agree with {record.operator}; then give force to take it over.",
    )


def plan(look: Look, wish: Wish, now: float) -> list[Step] | Refuse:
    """The steps to what is asked for, in their order; empty when it is so."""
    refusal = why_not_wish(wish) or why_foreign(look, wish)
    if refusal is not None:
        return refusal
    return _resume(look) if wish.state == RESUMED else _pause(look, wish, now)


def _resume(look: Look) -> list[Step]:
    steps = [Step(RESUME)] if look.paused or look.record is not None else []
    return steps + ([Step(REMOVE)] if look.timer is not None else [])


def _pause(look: Look, wish: Wish, now: float) -> list[Step]:
    wanted = Record(end_of(now, wish.minutes), int(now), wish.operator, wish.reason)
    present = look.record if look.paused else None
    if present is not None:
        wanted = dataclasses.replace(wanted, since=present.since)
        if agrees(present, wanted):
            wanted = present
    steps = []
    if look.timer is None or not look.timer.sound or abs(look.timer.until - wanted.until) > SLACK:
        steps.append(Step(LAY, wanted))
    if present != wanted:
        steps.append(Step(PAUSE, wanted))
    return steps


def agrees(record: Record | None, wanted: Record) -> bool:
    """Whether this is the pause that is wanted, as another host may have written it a moment ago."""
    return (
        record is not None
        and (record.operator, record.reason) == (wanted.operator, wanted.reason)
        and abs(record.until - wanted.until) <= SLACK
    )


def after(look: Look, steps: t.Sequence[Step]) -> Look:
    """What a look shows when the steps are done."""
    for step in steps:
        if step.kind == LAY and step.record is not None:
            look = dataclasses.replace(look, timer=Timer(step.record.until, True))
        elif step.kind == PAUSE:
            look = dataclasses.replace(look, paused=True, record=step.record)
        elif step.kind == RESUME:
            look = dataclasses.replace(look, paused=False, record=None)
        else:
            look = dataclasses.replace(look, timer=None)
    return look


def is_paused(config: t.Mapping[str, t.Any]) -> bool:
    """Only what Patroni takes for false is no pause."""
    return cluster_plan.normal(config.get("pause", False)) not in (("bool", False), ("number", 0), ("null", None))


def patch_for(step: Step) -> dict[str, t.Any]:
    """The body for ``PATCH /config``."""
    if step.kind == PAUSE and step.record is not None:
        return {"pause": True, KEY: step.record.as_config()}
    return {"pause": None, KEY: None}


# -- the files of the host ---------------------------------------------------------------------------------------------

_HEAD = "# Laid down by the module dedicated.odoo.patroni_maintenance, and removed by itself.\n"

# Read by Python inside of Patroni's container: credentials and certificates are those of its own configuration, read
# when they are needed. Exit 75: not yet.
PROGRAM = """\
import base64, json, ssl, sys, time, urllib.request
import yaml

with open("/etc/patroni/patroni.yml") as file:
    config = yaml.safe_load(file)
rest, ctl = config["restapi"], config.get("ctl") or {}
login = rest.get("authentication") or {}
secure = bool(rest.get("certfile"))
context = None
if secure:
    context = ssl.create_default_context(cafile=ctl.get("cacert"))
    if ctl.get("certfile"):
        context.load_cert_chain(ctl["certfile"], ctl.get("keyfile"))


def ask(method, path, body=None):
    request = urllib.request.Request(
        ("https://" if secure else "http://") + rest["connect_address"] + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    if body is not None and login:
        token = base64.b64encode((login["username"] + ":" + login["password"]).encode()).decode()
        request.add_header("Authorization", "Basic " + token)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with opener.open(request, timeout=15) as answer:
        return json.loads(answer.read())


def look():
    # /cluster reads the store; /config alone may answer from memory.
    cluster = ask("GET", "/cluster")
    record = ask("GET", "/config").get("@KEY@")
    until = record.get("until", 0) if isinstance(record, dict) else 0
    return bool(cluster.get("pause")), until if isinstance(until, int) else 0


paused, until = look()
if not paused:
    print("Patroni is not paused")
    sys.exit(0)
if until > time.time():
    print("the pause was renewed")
    sys.exit(75)
ask("PATCH", "/config", {"pause": None, "@KEY@": None})
if look()[0]:
    print("Patroni is still paused")
    sys.exit(1)
print("the pause is over: Patroni is resumed")
"""

_SCRIPT = """\
#!/bin/sh
@HEAD@# Ends a pause of Patroni that nobody ended, once its time is over.
set -u
exec 9>@LOCK@
# Against the module, which renews or removes this.
flock -w 30 9 || exit 1
until=$(sed -n 's/.*"until": \\([0-9]*\\).*/\\1/p' @RECORD@ 2>/dev/null)
[ "$(date +%s)" -ge "${until:-0}" ] || exit 0
docker exec -i postgres timeout -k 5 90 python3 - 9>&- <<'PROGRAM'
@PROGRAM@PROGRAM
case $? in
0) ;;
75) exit 0 ;;
*) exit 1 ;;
esac
# Nothing is left to do here. The lock's file stays: whoever waits for it holds it open.
systemctl disable @UNIT@.timer
rm -f @TIMER@ @SERVICE@ @RECORD@ @SCRIPT@
systemctl --no-block stop @UNIT@.timer
systemctl daemon-reload
"""

_SERVICE = """\
@HEAD@[Unit]
Description=End a pause of Patroni whose time is over
After=docker.service dedicated-postgres.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=@SCRIPT@
TimeoutStartSec=180
Restart=on-failure
RestartSec=30
"""

_TIMER = """\
@HEAD@[Unit]
Description=When a pause of Patroni ends although nobody ends it

[Timer]
OnCalendar=@WHEN@
# Looks again, after a reboot and where the pause was renewed while this host was away.
OnCalendar=*:0/5
AccuracySec=5s
Persistent=true

[Install]
WantedBy=timers.target
"""


def _fill(text: str, root: str, more: t.Mapping[str, str] | None = None) -> str:
    values = {
        **(more or {}),
        "PROGRAM": PROGRAM,
        "HEAD": _HEAD,
        "KEY": KEY,
        "UNIT": UNIT,
        "LOCK": root + LOCK_FILE,
        "RECORD": root + RECORD_FILE,
        "SCRIPT": root + SCRIPT_FILE,
        "SERVICE": root + SERVICE_FILE,
        "TIMER": root + TIMER_FILE,
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def files(record: Record, root: str = "") -> dict[str, tuple[str, int]]:
    """Content and mode by path, in the order in which they are laid down."""
    when = datetime.datetime.fromtimestamp(record.until, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return {
        RECORD_FILE: (json.dumps(record.as_config(), sort_keys=True) + "\n", 0o644),
        SCRIPT_FILE: (_fill(_SCRIPT, root), 0o755),
        SERVICE_FILE: (_fill(_SERVICE, root), 0o644),
        TIMER_FILE: (_fill(_TIMER, root, {"WHEN": when}), 0o644),
    }

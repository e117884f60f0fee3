# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of what was operated: a chain of lines, each sealed with the one before it.

Law, for a copy of one chain (a text of lines, one JSON object each):

1. Line n has ``seq`` n; its ``prev`` is the ``hash`` of line n - 1, the first one's is 64 zeros.
2. ``hash`` is SHA-256 over the canonical JSON of everything else in the line, ``prev`` included, and the line itself is
   canonical. So whatever is edited, taken out, put in or moved breaks at least one line, save one case.
3. That case: lines missing at the end leave a chain that is whole. Only another copy that is longer shows it, which is
   what ``compare`` is for. Whoever can write every copy can write another history; no hash prevents that, but 6 does.
4. A line counts when its newline is there. What follows the last newline is no record.
5. Lines are only added, and only after the last one of the same chain (``extend``); the same ones again change nothing.
6. A line may be signed: ``key`` names who, ``signature`` is one over ``hash``, and neither is part of what ``hash``
   covers, so signed and unsigned lines have one form. After the first signed line of a chain every line is signed.
   What was signed vouches for all lines before it, too. So where the public keys are known, whoever has not the private
   one can write no other history from there on, not even into every copy; law 3's missing end stays.

Into a line goes only what is named here or what a module of ours returned on purpose. Behind
that are three nets: names of keys (``clean``), values known as secrets (``redact``), and shapes of secrets (``_text``).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
import math
import re
import typing as t

from .._common.errors import Refuse

ZERO = "0" * 64
STARTED, FACTS, CHANGED, FAILED, ENDED = "started", "facts", "changed", "failed", "ended"
CLUSTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CHAIN_NAME = re.compile(r"[0-9a-f]{32}")
HASH = re.compile(r"[0-9a-f]{64}")
CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
KEY_NAME = re.compile(r"[0-9a-f]{16}")
SIGNATURE_BYTES = 64
# What is no part of the hash.
OUTSIDE = ("hash", "key", "signature")

LEFT_OUT = "(left out)"
SECRET = "(secret)"  # noqa: S105 - stands in place of one
SECRET_NAME = re.compile(
    r"passw|passphrase|(?<![a-z])pass(?![a-z])|secret|token|private_?key|api_?key|credential", re.IGNORECASE
)
# Below this a secret is also a word, and masking it would hide what the record is for.
SECRET_LENGTH = 6
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
ADDRESS_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+@")
MAX_DEPTH = 8
MAX_TEXT = 2000
MAX_FACTS = 32 * 1024


@dataclasses.dataclass(frozen=True)
class Head:
    """The last line of a copy. It stands for all lines before it."""

    chain: str
    seq: int
    hash: str

    def as_result(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Anchor:
    """A line that was seen elsewhere, ``where``."""

    chain: str
    seq: int
    hash: str
    where: str = ""


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is wrong with a copy. ``code`` is stable; ``line`` counts from 1, 0 means the copy as a whole."""

    code: str
    line: int
    what: str

    def as_result(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """A run that began and has not told its end: it was cut off, or it is still going on."""

    run: str
    since: str
    operator: str
    playbook: str

    def as_result(self) -> dict[str, str]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Mark:
    """A sound line, and who vouches for it; ``key`` and ``signature`` are empty when nobody does."""

    line: int
    seq: int
    hash: str
    key: str
    signature: str


class Signer(t.Protocol):
    """Whoever vouches for records. ``key`` is the name of the public key."""

    key: str

    def sign(self, digest: str) -> str:
        """The signature over a record's hash, in base64."""


# Of a key, a hash and a signature: whether it is good; None when nobody knows the key.
Check = t.Callable[[str, str, str], t.Optional[bool]]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One copy, judged by itself. ``lines`` are those that can be read, in their order; ``marks`` go with them."""

    lines: tuple[str, ...]
    seqs: tuple[int, ...]
    hashes: tuple[str, ...]
    head: Head | None
    problems: tuple[Problem, ...]
    unfinished: tuple[Unfinished, ...]
    runs: int
    marks: tuple[Mark, ...]

    @property
    def chain(self) -> str:
        return self.head.chain if self.head else ""

    @property
    def signed(self) -> bool:
        """Whether the chain's last line is signed, and with it the whole of it."""
        return bool(self.marks) and self.marks[-1].key != ""


# Lines


def canonical(record: t.Mapping[str, t.Any]) -> str:
    """The one way to write a record: sorted, without spaces, ASCII."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(record: t.Mapping[str, t.Any]) -> str:
    """The hash that a record must carry."""
    return hashlib.sha256(canonical({k: v for k, v in record.items() if k not in OUTSIDE}).encode()).hexdigest()


def seal(body: t.Mapping[str, t.Any], head: Head | None, chain: str, signer: Signer | None = None) -> tuple[str, Head]:
    """The line that follows ``head``, and the new head."""
    record = {
        **body,
        "chain": head.chain if head else chain,
        "seq": head.seq + 1 if head else 1,
        "prev": head.hash if head else ZERO,
    }
    record["hash"] = digest(record)
    if signer:
        record.update(key=signer.key, signature=signer.sign(record["hash"]))
    return canonical(record), Head(record["chain"], record["seq"], record["hash"])


def parse(line: str) -> dict[str, t.Any] | Problem:
    """A record that carries its own hash, or what is wrong with the line (numbered 0)."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return Problem("bad_json", 0, "is no JSON")
    if not isinstance(record, dict):
        return Problem("bad_json", 0, "is no JSON object")
    types = {"chain": str, "prev": str, "hash": str, "kind": str, "run": str, "at": str}
    if not all(isinstance(record.get(name), kind) for name, kind in types.items()):
        return Problem("bad_json", 0, f"lacks one of {', '.join(types)}")
    number = record.get("seq")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        return Problem("bad_json", 0, "has no number of its own")
    try:
        same = canonical(record) == line and digest(record) == record["hash"]
    except ValueError:
        same = False
    if not same:
        return Problem("bad_hash", 0, "is not what was written: its hash does not fit")
    return record if _is_signature(record) else Problem("bad_signature", 0, "carries what is no signature")


def _is_signature(record: t.Mapping[str, t.Any]) -> bool:
    """Whether what is outside of the hash is a signature by its form, or nothing at all."""
    key, signature = record.get("key"), record.get("signature")
    if "key" not in record and "signature" not in record:
        return True
    if not isinstance(key, str) or not KEY_NAME.fullmatch(key) or not isinstance(signature, str):
        return False
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    # One form only: the last character of base64 has bits to spare.
    return len(raw) == SIGNATURE_BYTES and base64.b64encode(raw).decode() == signature


# Judging one copy


def inspect(text: str) -> Verdict:
    """Judge a copy by itself. Every line that breaks the law is named, each with the first reason that applies."""
    lines = text.split("\n")
    rest = lines.pop()
    parsed = [parse(line) for line in lines]
    records = [one for one in parsed if isinstance(one, dict)]
    problems = list(_problems(parsed))
    if text == "":
        # A file is made with its first line.
        problems.append(Problem("empty", 0, "there is not one record: all of them were taken out"))
    if rest:
        what = "does not end with a newline: cut off while it was written, or edited; the next run drops it"
        problems.append(Problem("unfinished_line", len(lines) + 1, what))
    last = records[-1] if records else None
    return Verdict(
        lines=tuple(canonical(one) for one in records),
        seqs=tuple(one["seq"] for one in records),
        hashes=tuple(one["hash"] for one in records),
        head=Head(last["chain"], last["seq"], last["hash"]) if last else None,
        problems=tuple(problems),
        unfinished=_unfinished(records),
        runs=sum(one["kind"] == STARTED for one in records),
        marks=tuple(
            Mark(number, one["seq"], one["hash"], one.get("key", ""), one.get("signature", ""))
            for number, one in enumerate(parsed, 1)
            if isinstance(one, dict)
        ),
    )


def _problems(parsed: t.Sequence[dict[str, t.Any] | Problem]) -> t.Iterator[Problem]:
    """Follow the chain; after a break go on from the line that stands there, so that one break is told once."""
    present = {one["seq"] for one in parsed if isinstance(one, dict)}
    seen: set[str] = set()
    chain = next((one["chain"] for one in parsed if isinstance(one, dict)), "")
    seq, prev = 1, ZERO
    for number, one in enumerate(parsed, 1):
        if isinstance(one, Problem):
            yield Problem(one.code, number, f"line {number} {one.what}")
            seq, prev = seq + 1, ""
            continue
        found = _why_not_next(one, chain, seq, prev, seen, present)
        if found:
            yield Problem(found.code, number, f"line {number} {found.what}")
        seen.add(one["hash"])
        seq, prev = one["seq"] + 1, one["hash"]


def _why_not_next(
    record: t.Mapping[str, t.Any], chain: str, seq: int, prev: str, seen: t.Container[str], present: t.Container[int]
) -> Problem | None:
    """Why a sound record is not the next one. ``prev`` is empty when the line before it cannot be read."""
    number = record["seq"]
    if record["chain"] != chain:
        return Problem("other_chain", 0, f"is of another chain, {record['chain'][:8]}")
    if record["hash"] in seen:
        return Problem("duplicate", 0, f"is record {number} once more")
    if number > seq:
        if seq in present:
            return Problem("reordered", 0, f"is record {number} where {seq} belongs, which stands elsewhere")
        return Problem("gap", 0, f"is record {number}, and {seq} to {number - 1} are missing before it")
    if number < seq:
        return Problem("reordered", 0, f"is record {number}, after {seq - 1}")
    if prev and record["prev"] != prev:
        return Problem("broken_link", 0, f"is record {number}, but follows another one than the line before it")
    return None


def _unfinished(records: t.Iterable[t.Mapping[str, t.Any]]) -> tuple[Unfinished, ...]:
    """Runs without an end, in their order."""
    going: dict[str, Unfinished] = {}
    for one in records:
        if one["kind"] == STARTED:
            operator, playbook = str(one.get("operator", "")), str(one.get("playbook", ""))
            going[one["run"]] = Unfinished(one["run"], one["at"], operator, playbook)
        elif one["kind"] == ENDED:
            going.pop(one["run"], None)
    return tuple(going.values())


# Signatures


def why_not_signed(marks: t.Sequence[Mark], require: bool) -> tuple[Problem, ...]:
    """Law 6, as far as no key is needed for it. With ``require`` there must be a signature at all."""
    first = next((at for at, mark in enumerate(marks) if mark.key), None)
    if first is None:
        what = "no record is signed: whoever can write every copy can write another history"
        return (Problem("unsigned", 0, what),) if require else ()
    return tuple(
        Problem("missing_signature", mark.line, f"line {mark.line} is not signed, and record {marks[first].seq} was")
        for mark in marks[first:]
        if not mark.key
    )


def why_not_authentic(marks: t.Iterable[Mark], check: Check) -> tuple[Problem, ...]:
    """Every signature held against the public keys; a key that nobody knows is told once."""
    problems: list[Problem] = []
    unknown: dict[str, list[int]] = {}
    for mark in marks:
        good = check(mark.key, mark.hash, mark.signature) if mark.key else True
        if good is None:
            unknown.setdefault(mark.key, []).append(mark.line)
        elif not good:
            problems.append(Problem("bad_signature", mark.line, f"line {mark.line} was not signed by key {mark.key}"))
    for key, lines in unknown.items():
        what = f"{len(lines)} records, the first in line {lines[0]}, are signed with key {key}, which is none of yours"
        problems.append(Problem("unknown_key", lines[0], what))
    return tuple(sorted(problems, key=lambda one: one.line))


# Copies among each other


def compare(verdict: Verdict, anchors: t.Iterable[Anchor], complete: bool = False) -> tuple[tuple[Problem, ...], int]:
    """Hold what was seen elsewhere against this copy: what contradicts it, and by how many records it is behind.

    That a copy is shorter is no contradiction, unless it is the one (``complete``) that all others come from.
    """
    problems = []
    behind = 0
    mine = verdict.head.seq if verdict.head else 0
    by_seq = dict(zip(verdict.seqs, verdict.hashes))
    for anchor in anchors:
        if anchor.chain != verdict.chain:
            continue
        where = anchor.where or "another copy"
        if anchor.seq > mine:
            behind = max(behind, anchor.seq - mine)
            if complete:
                what = f"ends with record {mine}, and {where} has record {anchor.seq}: records were taken off its end"
                problems.append(Problem("truncated", 0, what))
        elif by_seq.get(anchor.seq) != anchor.hash:
            what = f"record {anchor.seq} is not the one that {where} has: one of the two was rewritten"
            problems.append(Problem("differs", 0, what))
    return tuple(problems), behind


def absent(here: t.Collection[str], anchors: t.Iterable[Anchor]) -> list[dict[str, t.Any]]:
    """Chains that only others have: those of other controllers, of one that was lost, or of a file that was removed."""
    longest: dict[str, Anchor] = {}
    for anchor in anchors:
        if anchor.chain not in here and anchor.seq > (longest[anchor.chain].seq if anchor.chain in longest else 0):
            longest[anchor.chain] = anchor
    return [{"chain": one.chain, "records": one.seq, "where": one.where} for one in longest.values()]


def why_not_whole(verdict: Verdict, what: str) -> Refuse | None:
    """Why nothing may be added to a copy. A line that was cut off is no hindrance: the writer drops it."""
    problems = [one for one in verdict.problems if one.code not in ("unfinished_line", "empty")]
    if not problems:
        return None
    return broken(what, f"{problems[0].what} ({problems[0].code})")


def unsigned_after_signed(what: str) -> Refuse:
    """Law 6: nobody adds a line without a signature to a chain that has one."""
    return Refuse(
        "signing_key_missing",
        f"{what} is signed, and this run has no key",
        "a record without a signature would look like a forged one",
        "Set DEDICATED_EVIDENCE_SIGNING_KEY to the key's file; or, to go on without, move the record aside: the next "
        "run begins a new chain, and the hosts keep this one",
    )


def broken(what: str, why: str) -> Refuse:
    """Nothing is added to what was tampered with."""
    return Refuse(
        "chain_broken",
        f"{what} is not whole",
        why,
        "Keep it: look at it with verify_evidence, then move the file aside under a name that does not end with .jsonl",
    )


def extend(own: Verdict, lines: t.Sequence[str], where: str) -> tuple[str, ...] | Refuse:
    """Of lines from the controller, those that this copy lacks. Whoever sends may send too much, never too little."""
    refusal = why_not_whole(own, where)
    if refusal:
        return refusal
    sent: list[dict[str, t.Any]] = []
    for line in lines:
        one = parse(line)
        if isinstance(one, Problem):
            return _bad_record(f"a line {one.what}")
        if sent and (one["seq"], one["prev"]) != (sent[-1]["seq"] + 1, sent[-1]["hash"]):
            return _bad_record(f"record {one['seq']} does not follow {sent[-1]['seq']}")
        sent.append(one)
    if not sent:
        return ()
    mine = own.head.seq if own.head else 0
    if sent[0]["seq"] > mine + 1:
        return Refuse(
            "chain_gap",
            f"Record {sent[0]['seq']} cannot follow",
            f"{where} ends with record {mine}",
            f"Send from record {mine + 1} on",
        )
    for one in sent:
        if one["seq"] <= mine:
            fork = one["hash"] != own.hashes[one["seq"] - 1]
        else:
            fork = one["seq"] == mine + 1 and one["prev"] != (own.hashes[-1] if own.hashes else ZERO)
        if fork or (own.head and one["chain"] != own.head.chain):
            return forked(where, one["seq"])
    return tuple(line for line, one in zip(lines, sent) if one["seq"] > mine)


def forked(where: str, seq: int) -> Refuse:
    """Two histories under one name."""
    return Refuse(
        "chain_fork",
        f"{where} is not continued",
        f"it has another record {seq} than the controller, so one of the two was rewritten or put back from a copy",
        "Run the playbook dedicated.odoo.verify_evidence; when the controller's file is the wrong one, move it aside: "
        "the next run begins a new chain, and the hosts keep this one",
    )


def _bad_record(why: str) -> Refuse:
    return Refuse("bad_record", "The records cannot be taken", why, "Check the controller's copy with verify_evidence")


def missing(own: Verdict, there: Head | None, where: str) -> tuple[str, ...] | Refuse:
    """The controller's lines that a host lacks, whose last line is ``there``."""
    refusal = why_not_whole(own, "the controller's record")
    if refusal:
        return refusal
    mine = own.head.seq if own.head else 0
    if there is None:
        return own.lines
    if there.seq > mine:
        return Refuse(
            "chain_ahead",
            f"{where} has records that the controller lacks",
            f"it ends with record {there.seq}, the controller's copy with {mine}, so the latter lost its end",
            "Run the playbook dedicated.odoo.verify_evidence; then move the controller's file aside: the next run "
            "begins a new chain, and the hosts keep this one",
        )
    if own.hashes[there.seq - 1] != there.hash:
        return forked(where, there.seq)
    return own.lines[there.seq :]


# What goes into a line


def body(kind: str, run: str, at: str, fields: t.Mapping[str, t.Any], secrets: t.Sequence[str]) -> dict[str, t.Any]:
    """A record before it is sealed. What this code sets itself is not masked: a secret may be a word like "ended"."""
    return {**redact(fields, secrets), "kind": kind, "run": run, "at": at}


def redact(value: t.Any, secrets: t.Sequence[str]) -> t.Any:
    """Plain data with every known secret masked, in keys as in values."""
    if isinstance(value, t.Mapping):
        return {redact(str(key), secrets): redact(one, secrets) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(one, secrets) for one in value]
    if isinstance(value, str):
        return _text(value, secrets)
    return value


def _text(value: str, secrets: t.Sequence[str]) -> str:
    if PRIVATE_KEY.search(value):
        return LEFT_OUT
    for secret in secrets:
        value = value.replace(secret, SECRET)
    return ADDRESS_PASSWORD.sub(rf"\1:{SECRET}@", value)


def known_secrets(
    values: t.Iterable[tuple[str, t.Any]], plain: t.Callable[[t.Any], t.Any] = lambda value: value
) -> tuple[str, ...]:
    """Of variables, the values that are secrets by their name; the longest first, as one may hold another.

    ``plain`` opens what is vaulted. What is a template is not evaluated.
    """
    found: set[str] = set()
    for name, value in values:
        _collect(value, bool(SECRET_NAME.search(name)), plain, found, 0)
    return tuple(sorted(found, key=lambda one: (-len(one), one)))


def _collect(value: t.Any, secret: bool, plain: t.Callable[[t.Any], t.Any], found: set[str], depth: int) -> None:
    """Everything below the name of a secret is one. Mappings that are no plain ones are Ansible's own, and endless."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, dict):
        for key, one in value.items():
            _collect(one, secret or bool(SECRET_NAME.search(str(key))), plain, found, depth + 1)
    elif isinstance(value, list):
        for one in value:
            _collect(one, secret, plain, found, depth + 1)
    elif secret:
        text = plain(value)
        if isinstance(text, str) and "{{" not in text:
            # A secret of several lines shows as any of them.
            found.update(part for part in (text, *text.splitlines()) if len(part) >= SECRET_LENGTH)


def clean(value: t.Any, depth: int = 0) -> t.Any:
    """What a module returned, as plain JSON: no values under names of secrets, nothing endless, no objects."""
    if depth > MAX_DEPTH:
        return LEFT_OUT
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]}…"
    if isinstance(value, t.Mapping):
        return {
            str(key): LEFT_OUT if SECRET_NAME.search(str(key)) else clean(one, depth + 1) for key, one in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [clean(one, depth + 1) for one in value]
    return LEFT_OUT


def facts(value: t.Any) -> dict[str, t.Any] | Refuse:
    """What a module returned under ``evidence``, fit to be recorded."""
    if not isinstance(value, t.Mapping):
        return Refuse("bad_facts", "Evidence was not recorded", "it is no mapping", "Return a mapping under 'evidence'")
    cleaned: dict[str, t.Any] = clean(value)
    size = len(canonical(cleaned))
    if size > MAX_FACTS:
        why = f"it has {size} bytes, and {MAX_FACTS} is the limit"
        return Refuse("too_large", "Evidence was not recorded", why, "Return numbers and names, not files")
    return cleaned


def reason_of(result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Of a failed result of a module of ours: its code and, when it is a refusal, what was refused and why."""
    told: dict[str, t.Any] = {}
    code = result.get("code")
    if isinstance(code, str) and CODE.fullmatch(code):
        told["code"] = code
    refusal = result.get("refusal")
    if isinstance(refusal, t.Mapping):
        told.update({name: clean(str(refusal[name])) for name in ("what", "why") if refusal.get(name)})
    return told


def inventory_hash(files: t.Iterable[tuple[str, str]]) -> str:
    """One hash for the inventory: over the sorted names of its files and the hash of each one's content."""
    text = "".join(f"{name}\0{content}\n" for name, content in sorted(files))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def why_not_cluster(names: t.Collection[str]) -> str | None:
    """Why a run belongs to no record."""
    if len(names) != 1:
        return f"the inventory names several clusters, {', '.join(sorted(names))}" if names else "it names no cluster"
    name = next(iter(names))
    return None if CLUSTER_NAME.fullmatch(name) else f"{name[:80]!r} cannot be the name of a directory"

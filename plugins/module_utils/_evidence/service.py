# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Adding to a copy of the record, on the controller and on a host, and judging the copies that lie somewhere."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from .._common.errors import DedicatedError, Refuse, Refused
from . import plan
from .io import FileStore, Store, copies

SHOWN = 5


class Chain:
    """The controller's copy: the one that is written first."""

    def __init__(
        self, store: Store, new: str, where: str = "the controller's record", signer: plan.Signer | None = None
    ) -> None:
        self._store = store
        self._new = new
        self._where = where
        self._signer = signer

    def check(self) -> None:
        """Read all of it once. Raises Refused when nothing may be added."""
        verdict = plan.inspect(self._store.read())
        refusal = plan.why_not_whole(verdict, self._where)
        if refusal is None and verdict.signed and self._signer is None:
            refusal = plan.unsigned_after_signed(self._where)
        if refusal:
            raise Refused(refusal)

    def add(self, body: t.Mapping[str, t.Any]) -> plan.Head:
        """One record more, after whatever is the last one by now: another run may have written in between."""
        heads: list[plan.Head] = []

        def decide(text: str) -> t.Sequence[str]:
            line, head = plan.seal(body, self._last(text), self._new, self._signer)
            heads.append(head)
            return (line,)

        self._store.append(decide)
        return heads[0]

    def _last(self, text: str) -> plan.Head | None:
        """The last line alone: the whole was looked at when the run began."""
        end = text.rfind("\n")
        if end < 0:
            return None
        record = plan.parse(text[text.rfind("\n", 0, end) + 1 : end])
        if isinstance(record, plan.Problem):
            raise Refused(plan.broken(self._where, f"its last line {record.what}"))
        if "key" in record and self._signer is None:  # another run has signed meanwhile
            raise Refused(plan.unsigned_after_signed(self._where))
        return plan.Head(record["chain"], record["seq"], record["hash"])


def keep(store: Store, lines: t.Sequence[str], where: str, dry_run: bool) -> tuple[plan.Head | None, int]:
    """Add what is missing to a host's copy: its last line, and how many lines were added. Raises Refused."""
    added: list[str] = []

    def decide(text: str) -> t.Sequence[str]:
        chosen = plan.extend(plan.inspect(text), lines, where)
        if isinstance(chosen, Refuse):
            raise Refused(chosen)
        added.extend(chosen)
        return chosen

    # Before anything is made: a copy that is refused leaves no file.
    wanted = decide(store.read())
    if wanted and not dry_run:
        added.clear()
        store.append(decide)
    # What is on the disk, and not what should be there.
    return plan.inspect(store.read()).head, len(added)


def host_path(directory: str, chain: str) -> str:
    """One file for each chain. Raises DedicatedError when the name is none that we give."""
    if not plan.CHAIN_NAME.fullmatch(chain):
        raise DedicatedError(f"{chain[:80]!r} is no name of a chain", code="bad_record")
    return os.path.join(directory, f"{chain}.jsonl")


def controller_path(directory: str, cluster: str) -> str:
    """Where the controller keeps the record of a cluster."""
    return os.path.join(os.path.expanduser(directory), cluster, "evidence.jsonl")


def verify(
    path: str,
    anchors: t.Sequence[plan.Anchor],
    complete: bool,
    where: str,
    require: bool = False,
    marks: bool = False,
) -> dict[str, t.Any]:
    """Every copy at a place, judged by itself and against what was seen elsewhere.

    With ``marks`` each copy carries its signatures, for ``authenticate``: no library checks them here.
    """
    found: list[dict[str, t.Any]] = []
    for one in copies(path):
        verdict = plan.inspect(FileStore(one).read())
        against, behind = plan.compare(verdict, anchors, complete)
        problems = (*verdict.problems, *plan.why_not_signed(verdict.marks, require), *against)
        signed = [mark for mark in verdict.marks if mark.key]
        found.append(
            {
                "file": one,
                "chain": verdict.chain,
                "records": len(verdict.lines),
                "runs": verdict.runs,
                "head": verdict.head.as_result() if verdict.head else {},
                "behind": behind,
                "ok": not problems,
                "signed": len(signed),
                "signed_from": signed[0].seq if signed else 0,
                "signers": sorted({mark.key for mark in signed}),
                "checked": False,
                "problems": [problem.as_result() for problem in problems],
                "unfinished": [run.as_result() for run in verdict.unfinished],
                **({"signatures": [dataclasses.astuple(mark) for mark in signed]} if marks else {}),
            }
        )
    absent = plan.absent([one["chain"] for one in found], anchors)
    return {
        "ok": all(one["ok"] for one in found),
        "copies": found,
        "heads": [dict(one["head"], where=where) for one in found if one["head"]],
        "absent": absent,
        "summary": _told(found, absent),
    }


def authenticate(found: t.Mapping[str, t.Any], check: plan.Check) -> dict[str, t.Any]:
    """What ``verify`` found with ``marks``, wherever that was, with every signature checked here."""
    judged: list[dict[str, t.Any]] = []
    for one in found["copies"]:
        copy = {key: value for key, value in one.items() if key != "signatures"}
        marks = [plan.Mark(*mark) for mark in one.get("signatures", ())]
        copy["problems"] = [*copy["problems"], *(each.as_result() for each in plan.why_not_authentic(marks, check))]
        # Whoever told less than he has, or more, was not checked.
        copy["checked"] = len(marks) == copy["signed"]
        copy["ok"] = not copy["problems"] and copy["checked"]
        judged.append(copy)
    return {
        **found,
        "ok": all(one["ok"] for one in judged),
        "copies": judged,
        "summary": _told(judged, found["absent"]),
    }


def _told(found: t.Iterable[t.Mapping[str, t.Any]], absent: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    """All of it in lines for a person."""
    return [line for one in found for line in summary(one)] + [
        f"not here: chain {one['chain'][:8]}, {one['records']} records, at {one['where']}" for one in absent
    ]


def _signed(copy: t.Mapping[str, t.Any]) -> str:
    """Who vouches for a copy, in words."""
    if not copy["signed"]:
        return "unsigned"
    since = f" from record {copy['signed_from']} on" if copy["signed_from"] > 1 else ""
    by = f"signed{since} with {', '.join(copy['signers'])}"
    return by if copy["checked"] else f"{by} (not checked: no public keys given)"


def summary(copy: t.Mapping[str, t.Any]) -> list[str]:
    """A copy in lines for a person."""
    state = "whole" if copy["ok"] else "NOT WHOLE"
    behind = f", {copy['behind']} behind the longest copy" if copy["behind"] else ""
    head = copy["head"].get("hash", "")[:16] or "none"
    lines = [
        f"{copy['file']}: {state}, chain {copy['chain'][:8] or 'none'}, {copy['records']} records of {copy['runs']} "
        f"runs, head {head}, {_signed(copy)}{behind}"
    ]
    lines += [f"  {problem['code']}: {problem['what']}" for problem in copy["problems"][:SHOWN]]
    if len(copy["problems"]) > SHOWN:
        lines.append(f"  and {len(copy['problems']) - SHOWN} problems more")
    lines += [
        f"  without an end (cut off, or still going on): {run['playbook']} by {run['operator']} since {run['since']}"
        for run in copy["unfinished"]
    ]
    return lines

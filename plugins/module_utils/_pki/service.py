# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's side: look, stage a key and its request, install what came back.

Every step leaves a state from which the next run goes on: a staged key waits as key.pem.new, a pair that was swapped
by half shows up as a mismatch and is issued again.
"""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, replace

from .._common.errors import DedicatedError, Refuse, Refused
from . import crypto
from .io import Entry, Files, Owned, Reads
from .plan import (
    Authority,
    Found,
    Host,
    Issue,
    Policy,
    Snapshot,
    Wanted,
    plan,
    plan_staging,
    why_not_authority,
)

PIN, CA = "ca.fingerprint", "ca.pem"
KEY, CERT, ALIAS = "key.pem", "cert.pem", "cert.pem.key"
STAGED = ".new"
# Pairs that wait to be taken by their services, and since when; root alone enters this directory.
WAITING, SINCE = ".staged", "since"


@dataclass(frozen=True)
class Ask:
    """What the controller sends along with each visit. `trust_pem`: what ca.pem is to hold, when that is more than the
    one that signs."""

    wanted: tuple[Wanted, ...]
    ca_pem: str
    now: int
    pin: str
    policy: Policy
    trust_pem: str = ""

    @property
    def trust(self) -> str:
        return self.trust_pem or self.ca_pem

    @property
    def authority(self) -> Authority | None:
        return crypto.read_authority(self.ca_pem, self.trust)


def _unfit(what: str) -> DedicatedError:
    return Refused(Refuse("host-disagrees", what, "it does not fit this host, so nothing was touched", "Run it again."))


def _root(mode: int) -> Owned:
    return Owned(os.geteuid(), os.getegid(), mode)


def _leaf(wanted: Wanted, mode: int) -> Owned:
    return Owned(wanted.owner, wanted.group, mode)


def _text(entry: Entry | None) -> str:
    return "" if entry is None else entry.text


def look_at_authority(files: Reads, ask: Ask) -> Host:
    """Which CA does this host follow, and which does it trust? Needs no library."""
    pin, ca = files.read(PIN), files.read(CA)
    drift = (
        files.directory("") != _root(0o755)
        or pin != Entry(crypto.pem_fingerprint(ask.ca_pem) + "\n", _root(0o444))
        or ca != Entry(ask.trust, _root(0o444))
    )
    return Host(_text(pin).strip(), crypto.pem_fingerprints(_text(ca)), (), drift)


def look_at(files: Reads, wanted: Wanted, ask: Ask, library: bool = True) -> Found:
    """What lies here for one name? Without the library a key cannot be read and counts as missing."""
    where = f"{wanted.name}/"
    key, cert = files.read(where + KEY), files.read(where + CERT)
    checks = (
        ("directory", files.directory(wanted.name) == _leaf(wanted, 0o750)),
        (KEY, key is None or key.owned == _leaf(wanted, wanted.mode)),
        (CERT, cert is None or cert.owned == _leaf(wanted, 0o444)),
        (CA, files.read(where + CA) == Entry(ask.trust, _leaf(wanted, 0o444))),
        (ALIAS, files.link(where + ALIAS) == (KEY if wanted.key_alias else "")),
    )
    return Found(
        name=wanted.name,
        leaf=crypto.read_leaf(_text(cert), ask.ca_pem) if library else None,
        key=crypto.key_id(_text(key)) if library else "",
        drift=tuple(name for name, right in checks if not right),
        leftovers=any(files.read(where + one + STAGED) is not None for one in (KEY, CERT)),
    )


def inspect(files: Files, ask: Ask, stage: bool, library: bool = True) -> dict[str, t.Any]:
    """Report what is here and, where a certificate is due and `stage` is set, stage a key and return its request.

    The decision comes from the same planner that the controller uses; the controller decides again for itself.
    """
    host = look_at_authority(files, ask)
    found = tuple(look_at(files, one, ask, library) for one in ask.wanted)
    requests: dict[str, str] = {}
    authority = ask.authority if library and ask.ca_pem else None
    if authority is not None and stage:
        requests = _stage(files, ask, authority, replace(host, found=found))
    return {
        "pin": host.pin,
        "trusts": list(host.trusts),
        "authority_drift": host.authority_drift,
        "library": library,
        "certificates": [
            {
                "name": one.name,
                "cert": _text(files.read(f"{one.name}/{CERT}")),
                "key": one.key,
                "drift": list(one.drift),
                "leftovers": one.leftovers,
                "csr": requests.get(one.name, ""),
            }
            for one in found
        ],
    }


def _stage(files: Files, ask: Ask, authority: Authority, host: Host) -> dict[str, str]:
    decision = plan(Snapshot(authority, host, ask.wanted, ask.now, ask.pin, ask.policy), "the controller")
    # A refusal has none, so nothing is staged.
    return _requests(files, getattr(decision, "issue", ()))


def _requests(files: Files, issue: t.Iterable[Issue]) -> dict[str, str]:
    requests = {}
    for one in issue:
        name = one.wanted.name
        if one.wanted.shared:  # its key comes from the controller
            continue
        staged = _text(files.read(f"{name}/{KEY}{STAGED}"))
        if not crypto.key_id(staged):
            staged = crypto.new_key()
            if files.directory("") is None:
                files.make_directory("", _root(0o755))
            files.make_directory(name, _leaf(one.wanted, 0o750))
            files.write(f"{name}/{KEY}{STAGED}", staged, _root(0o400))
        requests[name] = crypto.new_request(staged, one.wanted.common_name)
    return requests


def install(files: Files, ask: Ask, issued: t.Mapping[str, str], keys: t.Mapping[str, str] | None = None) -> None:
    """Check everything that arrived, then put it in place. `keys` are those of shared certificates."""
    keys = keys or {}
    _check(files, ask, issued, keys)
    files.make_directory("", _root(0o755))
    # The pin is the promise, so it comes first; another one was judged above, and is trusted already.
    pin = crypto.pem_fingerprint(ask.ca_pem) + "\n"
    if _text(files.read(PIN)) != pin:
        files.write(PIN, pin, _root(0o444))
    files.settle(PIN, _root(0o444))
    if files.read(CA) != Entry(ask.trust, _root(0o444)):
        files.write(CA, ask.trust, _root(0o444))
    for wanted in ask.wanted:
        files.make_directory(wanted.name, _leaf(wanted, 0o750))
        if wanted.name in issued:
            pem = issued[wanted.name]
            leaf = crypto.read_leaf(pem, ask.ca_pem)
            if wanted.shared:
                files.write(f"{wanted.name}/{KEY}{STAGED}", keys[wanted.name], _root(0o400))
            _swap(files, wanted, pem, "" if leaf is None else leaf.public_key)
        _mend(files, wanted, ask)


def _check(
    files: Files, ask: Ask, issued: t.Mapping[str, str], keys: t.Mapping[str, str], aside: Files | None = None
) -> None:
    """`aside`: where the keys lie, when that is not where the authority does."""
    authority = ask.authority
    if authority is None:
        raise _unfit("the CA certificate that came from the controller cannot be read")
    refusal = why_not_authority(
        Snapshot(authority, look_at_authority(files, ask), ask.wanted, ask.now, ask.pin, ask.policy),
        "the controller",
    )
    if refusal is not None:
        raise Refused(refusal)
    wanted = {one.name: one for one in ask.wanted}
    for name, pem in issued.items():
        reason = "nobody asked for it" if name not in wanted else _why_not(aside or files, wanted[name], pem, ask, keys)
        if reason is not None:
            raise _unfit(f"the certificate for {name}: {reason}")


def _why_not(files: Files, wanted: Wanted, pem: str, ask: Ask, sent: t.Mapping[str, str]) -> str | None:
    leaf = crypto.read_leaf(pem, ask.ca_pem)
    if leaf is None or not leaf.trusted:
        return "it is not signed by the CA"
    if (leaf.common_name, leaf.sans, leaf.usages) != (wanted.common_name, wanted.sans, wanted.usages):
        return "its names or usages are not those asked for"
    if not leaf.not_before <= ask.now < leaf.not_after:
        return "it is not valid now"
    if wanted.shared:
        fits = leaf.public_key == crypto.key_id(sent.get(wanted.name, ""))
        return None if fits else "the key that came with it is another one"
    keys = [crypto.key_id(_text(files.read(f"{wanted.name}/{one}"))) for one in (KEY + STAGED, KEY)]
    return None if leaf.public_key in keys else "it is for another key; another run may be at work on this host"


def _swap(files: Files, wanted: Wanted, pem: str, public_key: str) -> None:
    """Bring in the new pair. Both files are complete before the first of two renames, one right after the other."""
    where = f"{wanted.name}/"
    files.write(where + CERT + STAGED, pem, _leaf(wanted, 0o444))
    # When a parallel run has already landed the key, only the certificate is left to do.
    if crypto.key_id(_text(files.read(where + KEY + STAGED))) == public_key:
        files.settle(where + KEY + STAGED, _leaf(wanted, wanted.mode))
        files.rename(where + KEY + STAGED, where + KEY)
    files.rename(where + CERT + STAGED, where + CERT)


def _mend(files: Files, wanted: Wanted, ask: Ask) -> None:
    where = f"{wanted.name}/"
    for one in look_at(files, wanted, ask).drift:
        if one in (KEY, CERT):
            files.settle(where + one, _leaf(wanted, wanted.mode if one == KEY else 0o444))
        elif one == CA:
            files.write(where + CA, ask.trust, _leaf(wanted, 0o444))
        elif one == ALIAS and wanted.key_alias:
            files.make_link(where + ALIAS, KEY)
        elif one == ALIAS:
            files.remove(where + ALIAS)
    for one in (KEY, CERT):
        if files.read(where + one + STAGED) is not None:
            files.remove(where + one + STAGED)


# -- staging ---------------------------------------------------------------------------------------------------------


def waiting(files: Files) -> Files:
    """Where staged pairs lie, laid out as the live ones."""
    return Files(files.path(WAITING))


def inspect_staging(files: Files, ask: Ask, since: int, stage: bool, library: bool = True) -> dict[str, t.Any]:
    """Report the live and the staged certificates and, where `stage` is set, make keys for those that are to be issued.

    Nothing is written beside the directory of the staged ones.
    """
    host = look_at_authority(files, ask)
    aside = waiting(files)
    found = tuple(look_at(files, one, ask, library) for one in ask.wanted)
    staged = tuple(look_at(aside, one, ask, library) for one in ask.wanted)
    requests: dict[str, str] = {}
    authority = ask.authority if library else None
    if authority is not None and stage:
        snapshot = Snapshot(authority, replace(host, found=found), ask.wanted, ask.now, ask.pin, ask.policy)
        decision = plan_staging(snapshot, staged, since, "the controller")
        issue = getattr(decision, "issue", ())
        if issue:
            aside.make_directory("", _root(0o700))
            requests = _requests(aside, issue)
    return {
        "pin": host.pin,
        "trusts": list(host.trusts),
        "authority_drift": host.authority_drift,
        "certificates": [
            {
                "name": one.name,
                "cert": _text(files.read(f"{one.name}/{CERT}")),
                "key": one.key,
                "drift": [],
                "leftovers": False,
            }
            for one in found
        ],
        "staged": [
            {
                "name": one.name,
                "cert": _text(aside.read(f"{one.name}/{CERT}")),
                "key": one.key,
                "csr": requests.get(one.name, ""),
            }
            for one in staged
        ],
    }


def install_staging(
    files: Files,
    ask: Ask,
    since: int,
    issued: t.Mapping[str, str],
    keys: t.Mapping[str, str] | None = None,
    drop: t.Sequence[str] = (),
) -> None:
    """Lay down beside the live ones what arrived, as complete pairs, and note when the rotation was begun."""
    keys = keys or {}
    aside = waiting(files)
    _check(files, ask, issued, keys, aside)
    aside.make_directory("", _root(0o700))
    if _text(aside.read(SINCE)) != f"{since}\n":
        aside.write(SINCE, f"{since}\n", _root(0o400))
    for wanted in ask.wanted:
        where = f"{wanted.name}/"
        if wanted.name in drop:
            for one in (CERT, KEY, CA, ALIAS, KEY + STAGED, CERT + STAGED):
                aside.remove(where + one)
        if wanted.name not in issued:
            continue
        aside.make_directory(wanted.name, _leaf(wanted, 0o750))
        leaf = crypto.read_leaf(issued[wanted.name], ask.ca_pem)
        if wanted.shared:
            aside.write(where + KEY + STAGED, keys[wanted.name], _root(0o400))
        # Without a certificate there is no pair: an old one goes before the key changes.
        aside.remove(where + CERT)
        if aside.read(where + CA) != Entry(ask.trust, _leaf(wanted, 0o444)):
            aside.write(where + CA, ask.trust, _leaf(wanted, 0o444))
        _swap(aside, wanted, issued[wanted.name], "" if leaf is None else leaf.public_key)
        _mend(aside, replace(wanted, key_alias=False), ask)

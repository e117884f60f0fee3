# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A consumer takes the pair that was staged for it, or keeps the one that it has.

Laws (`check_invariants` proves the first four of every step):

1. Nothing is touched for a staged pair that does not fit: another key or authority, names that are missing, a time that
   is over, has not begun, or ends sooner.
2. While the live pair is replaced, a whole one that was served lies beside it as the former.
3. The staged pair goes only when it lies live and every endpoint was seen to serve it.
4. The former pair goes only when every endpoint was seen to serve what lies live.
5. Whatever a run was interrupted by, run again it ends in one of two ways: the new pair is live and served, and nothing
   lies beside it; or the former is, the staged one still waits, and a refusal says why.

Everything is told by what lies there: a former pair that is whole says that a rotation is under way, for it is begun
before the live one is touched. There is no journal that could say something else than the files.

Certificate and key are two files, and no system call swaps both: between the two renames, which follow each other, who
opens them finds a key that does not fit. Whoever reads them when told to (PostgreSQL, Patroni's own port, HAProxy,
Traefik) is told after the second. etcd, and who connects to it (Patroni, the failure detector), read them at every
handshake: one in that moment fails, and is tried again. A run that is killed in that very moment leaves those without
new connections until it is run again; who reads when told is not touched until it restarts. The order of the two does
not matter: each leaves the same gap.

Pure: standard library and our own error type only, no clock, no files, no network.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from .._common.errors import Refuse
from .parse import Certificate
from .plan import DAY, full, san_mismatch

KEEP, LAND, RELOAD, PROVE, GIVE_UP = "keep", "land", "reload", "prove", "give_up"
DROP_STAGED, DROP_FORMER = "drop_staged", "drop_former"
NEW, OLD = "new", "former"
# More than any run takes: a planner that circles is told from one that waits.
MAX_STEPS = 30
UNTOUCHED = "so nothing was touched"
AGAIN = "Stage it again (playbook rotate_certificates does)."


@dataclasses.dataclass(frozen=True)
class Pair:
    """What lies in one directory. `text`, `key`, `ca`: digests of the files, empty where there is none.

    `fits`: the key is that of the certificate. The digests never leave the process.
    """

    text: str = ""
    key: str = ""
    ca: str = ""
    certificate: Certificate | None = None
    fits: bool = False

    @property
    def there(self) -> bool:
        return bool(self.text)

    @property
    def whole(self) -> bool:
        return self.certificate is not None and self.fits

    def same(self, other: Pair) -> bool:
        return (self.text, self.key) == (other.text, other.key)


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the staged pair must be. `serial`: the one that the caller means, empty for any."""

    names: tuple[str, ...] = ()
    serial: str = ""
    fewer_names: bool = False
    shorter_lived: bool = False


@dataclasses.dataclass(frozen=True)
class View:
    """What lies there, and what this run has seen.

    `trusted`: whether the live authority stands behind the staged certificate, null when nobody could judge.
    `told`: digest of the certificate for which the consumer was last reloaded. `proof`: None when nobody was asked
    since, empty when every endpoint serves what lies live, otherwise why not. `failed`: why the new pair was given up.
    """

    live: Pair
    staged: Pair
    former: Pair
    wish: Wish
    now: float
    trusted: bool | None = True
    untrusted: str = ""
    told: str = ""
    proof: str | None = None
    failed: str | None = None


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing to do. `pair`: which pair it is about."""

    action: str
    pair: str = NEW

    def as_result(self) -> dict[str, str]:
        return {"action": self.action, "pair": self.pair}


# -- may the staged pair be taken? -----------------------------------------------------------------------------------


def told(moment: int) -> str:
    """A time as refusals show it."""
    return datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown(pair: Pair) -> dict[str, t.Any]:
    """Serial and dates: what results and diffs tell of a pair."""
    if pair.certificate is None:
        return {}
    found = pair.certificate
    return {
        "serial": found.serial,
        "not_before": told(found.not_before),
        "not_after": told(found.not_after),
    }


def days_left(pair: Pair, now: float) -> int | None:
    return None if pair.certificate is None else int((pair.certificate.not_after - now) // DAY)


def _refuse(code: str, what: str, why: str, do: str = AGAIN) -> Refuse:
    return Refuse(code, what, f"{why}, {UNTOUCHED}", do)


def why_not(view: View) -> Refuse | None:
    """Why the staged pair is not to be taken; null when it is."""
    staged = view.staged
    if not staged.there:
        return _refuse("nothing-staged", "No pair is staged", "there is nothing to change to")
    if staged.certificate is None:
        return _refuse("unreadable", "The staged certificate cannot be read", "nobody could serve it")
    if view.wish.serial not in ("", staged.certificate.serial):
        return _refuse(
            "other-staged",
            f"The staged certificate is {staged.certificate.serial}, and {view.wish.serial} is meant",
            "somebody has staged another one since",
            "Run the operation again, from its beginning.",
        )
    if not staged.fits:
        return _refuse("wrong-key", "The staged key is not that of the staged certificate", "nobody could serve it")
    return _why_not_chain(view) or _why_not_times(view, staged.certificate) or _why_not_names(view, staged.certificate)


def _why_not_chain(view: View) -> Refuse | None:
    if view.staged.ca != (view.former if view.former.whole else view.live).ca:
        return _refuse(
            "wrong-chain",
            "The authority beside the staged certificate is another one than that in use",
            "peers would not trust what it signs",
            "An authority is not changed by a rotation.",
        )
    if view.trusted is not True:
        why = view.untrusted or "nobody could tell"
        return _refuse("wrong-chain", "The authority in use does not stand behind the staged certificate", why)
    return None


def _why_not_times(view: View, staged: Certificate) -> Refuse | None:
    if staged.not_before > view.now:
        return _refuse(
            "not-yet-valid",
            f"The staged certificate is valid from {told(staged.not_before)}",
            f"now it is {told(int(view.now))}",
            "Compare the clocks of this host and the controller (timedatectl).",
        )
    if staged.not_after <= view.now:
        return _refuse("expired", f"The staged certificate ended {told(staged.not_after)}", "it is of no use")
    served = (view.former if view.former.whole else view.live).certificate
    if served is not None and staged.not_after < served.not_after and not view.wish.shorter_lived:
        return _refuse(
            "shorter-lived",
            f"The staged certificate ends {told(staged.not_after)}, the live one {told(served.not_after)}",
            "it would not last as long",
            "If that is meant, say so (shorter_lived).",
        )
    return None


def _why_not_names(view: View, staged: Certificate) -> Refuse | None:
    carried = full([staged], True, view.now)
    missing = san_mismatch(carried, list(view.wish.names))["missing"] if view.wish.names else []
    served = (view.former if view.former.whole else view.live).certificate
    if served is not None and not view.wish.fewer_names:
        sans = full([served], True, view.now)["sans"]
        names = [f"{kind}:{one}" for kind in ("dns", "ip", "uri", "email") for one in sans[kind]]
        missing = sorted({*missing, *(san_mismatch(carried, names)["missing"] if names else [])})
    if not missing:
        return None
    return _refuse(
        "missing-name",
        f"The staged certificate lacks {', '.join(missing)}",
        "whoever asks by that name would not trust it",
        "If a name is given up on purpose, say so (fewer_names).",
    )


# -- what is next? ---------------------------------------------------------------------------------------------------


def next_step(view: View) -> Step | Refuse | None:
    """The one thing to do now, a refusal, or None when there is nothing left."""
    if not view.former.whole:
        return _begin(view)
    if view.failed is None and (why_not(view) is None or _was_done(view)):
        return _forward(view)
    return _back(view)


def _was_done(view: View) -> bool:
    """The staged pair is gone, and another one than the former lies live: only the former is left to go."""
    return not view.staged.there and view.live.whole and not view.live.same(view.former)


def _begin(view: View) -> Step | Refuse | None:
    if view.failed is not None:
        return not_served(view.failed)
    live = view.live
    if not view.staged.there and view.wish.serial and live.certificate and live.certificate.serial == view.wish.serial:
        return None
    refusal = why_not(view)
    if refusal is not None:
        return refusal
    if live.same(view.staged):
        # Somebody else has laid it live already, and nobody knows the former.
        return _settle(view, NEW) or (Step(DROP_STAGED) if not view.proof else not_served(view.proof))
    if not live.whole:
        return _refuse(
            "live-unusable",
            "The live certificate and key do not belong together, or are not there",
            "there would be no way back",
            "Mend them first: site.yml --tags pki, then the consumer's own tag.",
        )
    return Step(KEEP, OLD)


def _forward(view: View) -> Step | Refuse | None:
    if view.staged.there and not view.live.same(view.staged):
        return Step(LAND)
    step = _settle(view, NEW)
    if step is not None:
        return step
    if view.proof:
        return Step(GIVE_UP)
    return Step(DROP_STAGED if view.staged.there else DROP_FORMER)


def _back(view: View) -> Step | Refuse | None:
    if not view.live.same(view.former):
        return Step(LAND, OLD)
    step = _settle(view, OLD)
    if step is not None:
        return step
    if view.proof:
        return Refuse(
            "former-not-served",
            f"The new pair was given up ({view.failed or 'it does not fit'}), and the former one is not served either",
            view.proof,
            "See to the consumer (playbook status), then run it again: it goes on with the staged pair.",
        )
    return Step(DROP_FORMER, OLD)


def _settle(view: View, pair: str) -> Step | None:
    """The consumer is told, then looked at."""
    if view.told != view.live.text:
        return Step(RELOAD, pair)
    return Step(PROVE, pair) if view.proof is None else None


def not_served(why: str) -> Refuse:
    return Refuse(
        "not-served",
        "The new certificate was not served",
        f"{why}; the former one is live again, and the new one is still staged",
        "See why the consumer did not take it (its log), then run it again.",
    )


# -- check mode ------------------------------------------------------------------------------------------------------


def after(view: View, step: Step) -> View:
    """The view when a step has gone well."""
    absent = Pair()
    if step.action == KEEP:
        return dataclasses.replace(view, former=view.live)
    if step.action == LAND:
        return dataclasses.replace(view, live=view.staged if step.pair == NEW else view.former, proof=None)
    if step.action == RELOAD:
        return dataclasses.replace(view, told=view.live.text, proof=None)
    if step.action == PROVE:
        return dataclasses.replace(view, proof="")
    if step.action == GIVE_UP:
        return dataclasses.replace(view, failed=view.proof, proof=None)
    if step.action == DROP_STAGED:
        return dataclasses.replace(view, staged=absent)
    return dataclasses.replace(view, former=absent)


def foresee(view: View) -> tuple[tuple[Step, ...], Refuse | None]:
    """All steps, if each goes well, and the refusal at their end."""
    steps: list[Step] = []
    while len(steps) < MAX_STEPS:
        step = next_step(view) if not finished(view, steps) else None
        if step is None or isinstance(step, Refuse):
            return tuple(steps), step
        steps.append(step)
        view = after(view, step)
    raise AssertionError(f"no end: {steps[-4:]}")


def finished(view: View, steps: t.Sequence[Step]) -> bool:
    """A new pair was proven, and nothing lies beside it any more."""
    done = any(one.action in (DROP_STAGED, DROP_FORMER) and one.pair == NEW for one in steps)
    return done and not view.staged.there and not view.former.whole


def check_invariants(view: View, step: Step) -> None:
    """Raises AssertionError when a step breaks a law."""
    failed = []
    if step.action == KEEP and (why_not(view) is not None or not view.live.whole):
        failed.append("1: begun with a pair that does not fit, or without a way back")
    if step.action == LAND and not view.former.whole:
        failed.append("2: the live pair is replaced, and no former one lies beside it")
    if step.action == LAND and step.pair == NEW and why_not(view) is not None:
        failed.append("1: a pair that does not fit lands")
    if step.action == DROP_STAGED and (view.proof != "" or not view.live.same(view.staged)):
        failed.append("3: the staged pair goes before it is served")
    if step.action == DROP_FORMER and (view.proof != "" or not view.live.whole):
        failed.append("4: the former pair goes before the live one is served")
    if failed:
        raise AssertionError("; ".join(failed))

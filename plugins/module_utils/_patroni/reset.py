# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""After a restore in place: what the store says of the old data must not keep the restored member from leading.

The law.

* Only while every member is stopped, which is seen by the leader's and the members' keys: they run out by themselves.
* Only for the cluster that was restored: its identifier is the one in the store.
* What goes is what speaks of the old data: how far the WAL was (a member that is behind it may not lead), who was
  synchronous, the history of timelines, orders that were left. The dynamic configuration stays, and so does the
  identifier, which keeps a member with an empty data directory from founding a cluster of its own.
* It goes in one transaction, which fails when a leader appears meanwhile.
"""

from __future__ import annotations

import base64
import typing as t

from .._common.errors import Refuse, Refused
from .._common.waiting import Clock, Seen, wait_until

STALE = ("failover", "failsafe", "history", "leader", "optime/leader", "status", "sync")


def alive(names: t.Iterable[str]) -> list[str]:
    """Members that still tell of themselves, and the leader's key."""
    return sorted(one for one in names if one == "leader" or one.startswith("members/"))


def judge(identifier: str | None, system_id: str, scope: str) -> Refuse | None:
    if identifier in (None, "", system_id):
        return None
    return Refuse(
        "other_system",
        f"the store of {scope} belongs to the cluster {identifier}",
        f"what was restored is of the cluster {system_id}",
        "Restore from the repository of this cluster.",
    )


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(value: str) -> str:
    return base64.b64decode(value).decode("utf-8", "replace")


class ResetService:
    """``call`` is one request to etcd (``_etcd.io.Client.call``)."""

    def __init__(self, call: t.Callable[..., dict[str, t.Any]], clock: Clock, scope: str, namespace: str) -> None:
        self._call, self._clock, self._scope = call, clock, scope
        self._prefix = f"/{namespace.strip('/')}/{scope}/"

    def keys(self) -> dict[str, str]:
        """What the store holds of this cluster, by name without the prefix."""
        end = self._prefix[:-1] + chr(ord("/") + 1)
        found = self._call("/v3/kv/range", {"key": _b64(self._prefix), "range_end": _b64(end)})
        return {_text(one["key"])[len(self._prefix) :]: _text(one.get("value", "")) for one in found.get("kvs") or []}

    def reset(self, system_id: str, timeout: float, check: bool) -> list[str]:
        """Which keys went, or would."""

        def probe() -> Seen[dict[str, str]]:
            found = self.keys()
            still = alive(found)
            return Seen(found, f"{', '.join(still)} in the store: a member runs" if still else None)

        keys = self.keys() if check else wait_until(probe, self._clock, timeout, 1.0, "the end of every member")
        refusal = judge(keys.get("initialize"), system_id, self._scope)
        if refusal is not None:
            raise Refused(refusal)
        stale = sorted(name for name in keys if name in STALE)
        if stale and not check:
            leader = _b64(self._prefix + "leader")
            answer = self._call(
                "/v3/kv/txn",
                {
                    "compare": [{"key": leader, "target": "CREATE", "createRevision": "0", "result": "EQUAL"}],
                    "success": [{"requestDeleteRange": {"key": _b64(self._prefix + name)}} for name in stale],
                },
            )
            if not answer.get("succeeded"):
                raise Refused(
                    Refuse(
                        "leader_appeared",
                        "nothing was taken out of the store",
                        "a leader appeared meanwhile",
                        "Stop PostgreSQL on every member, and run it again.",
                    )
                )
        return stale

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Observe a cluster, bring members in and out, and reconcile users and roles."""

from __future__ import annotations

import base64
import dataclasses
import typing as t

from .._common.errors import DedicatedError, Refuse, Refused
from .._common.waiting import Clock, Seen, wait_until
from . import plan
from .io import Client, EtcdFailure, EtcdUnreachable, Transport

Connect = t.Callable[[str], Client]


def connector(transport: t.Callable[[str], Transport], username: str | None, password: str | None) -> Connect:
    """One client for each address, so that its login lasts."""
    known: dict[str, Client] = {}

    def connect(url: str) -> Client:
        url = url.rstrip("/")
        if url not in known:
            known[url] = Client(transport(url), username, password)
        return known[url]

    return connect


def _parsed(parse: t.Callable[[t.Any], t.Any], data: t.Any) -> t.Any:
    try:
        return parse(data)
    except ValueError as exc:
        raise DedicatedError(str(exc), code="bad_answer") from exc


# -- observing -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Observation:
    """A view with the judgement on it, or the reason why there is none."""

    view: plan.View | None
    reasons: tuple[str, ...]
    quota: int | None = None

    def as_result(self) -> dict[str, t.Any]:
        view = self.view
        shown: dict[str, t.Any] = {
            "changed": False,
            "reachable": view is not None,
            "cluster_id": None,
            "leader": None,
            "members": [],
            "quorum": None,
            "quota_fraction": None,
            "healthy": not self.reasons,
            "reasons": list(self.reasons),
        }
        if view is None:
            return shown
        leader = view.leader
        fractions = [one for one in (self._quota_fraction(status) for status in view.statuses.values()) if one]
        answering = sum(member.id in view.statuses for member in view.voters)
        return {
            **shown,
            "cluster_id": plan.hex_id(view.cluster_id),
            "leader": None if leader is None else leader.label,
            "members": [self._member(view, member) for member in view.members],
            "quorum": {
                "voters": len(view.voters),
                "needed": view.quorum,
                "answering": answering,
                "spare": answering - view.quorum,
            },
            "quota_fraction": max(fractions, default=None),
        }

    def _quota_fraction(self, status: plan.Status | None) -> float | None:
        return round(status.db_size / self.quota, 4) if status is not None and self.quota else None

    def _member(self, view: plan.View, member: plan.Member) -> dict[str, t.Any]:
        status = view.statuses.get(member.id)
        shown: dict[str, t.Any] = {
            "name": member.name,
            "id": plan.hex_id(member.id),
            "peer_urls": list(member.peer_urls),
            "client_urls": list(member.client_urls),
            "learner": member.learner,
            "started": member.started,
            "reachable": status is not None,
            "leader": status is not None and status.leader == member.id,
            "alarms": list(view.alarms_of(member.id)),
            "quota_fraction": self._quota_fraction(status),
            "fragmentation": None,
        }
        numbers = ("db_size", "db_size_in_use", "version", "raft_index", "raft_term")
        shown.update({name: None if status is None else getattr(status, name) for name in numbers})
        if status is not None and status.db_size:
            shown["fragmentation"] = round(1 - status.db_size_in_use / status.db_size, 4)
        return shown


class ClusterService:
    """The cluster, seen through every address that answers."""

    def __init__(self, connect: Connect, urls: t.Sequence[str], clock: Clock, own: str | None = None) -> None:
        self._connect = connect
        self._urls = list(dict.fromkeys(url.rstrip("/") for url in urls))
        self._clock = clock
        self._own = None if own is None else own.rstrip("/")
        self._busy = False

    def _ask(self, url: str, silence: dict[str, str]) -> list[plan.Answer]:
        client = self._connect(url)
        try:
            # This member's own knowledge, which it has without a quorum too.
            cluster_id, members = _parsed(plan.parse_members, client.call("/v3/cluster/member/list"))
            status = _parsed(plan.parse_status, client.call("/v3/maintenance/status"))
        except (EtcdUnreachable, EtcdFailure) as exc:
            silence[url] = exc.msg
            # Somebody may be there, only not able to answer now, or not to be understood.
            self._busy = self._busy or (url != self._own and not (isinstance(exc, EtcdUnreachable) and exc.quiet))
            return []
        return [plan.Answer(url, cluster_id, members, status, own=url == self._own)]

    def look(self) -> tuple[plan.View | None, dict[str, str]]:
        """One view, and what became of the addresses that did not answer."""
        silence: dict[str, str] = {}
        self._busy = False
        answers = [answer for url in self._urls for answer in self._ask(url, silence)]
        view = plan.assemble(answers, silence)
        if view is None:
            return None, silence
        # Members that nobody gave an address of.
        asked = set(self._urls)
        for member in view.members:
            for url in member.client_urls if member.id not in view.statuses else ():
                if url.rstrip("/") not in asked:
                    asked.add(url.rstrip("/"))
                    answers += self._ask(url.rstrip("/"), silence)
        view = plan.assemble(answers, silence)
        if view is None:
            raise AssertionError("there are no fewer answers than before")
        return dataclasses.replace(view, alarms=self._alarms(view, answers)), silence

    @property
    def busy(self) -> bool:
        """Whether another member was there in the last look and could not answer."""
        return self._busy

    def _alarms(self, view: plan.View, answers: t.Sequence[plan.Answer]) -> tuple[plan.Alarm, ...] | None:
        if not view.leader_id:
            # It would take seconds to be told that there is no quorum.
            return None
        for answer in answers:
            if answer.cluster_id != view.cluster_id or answer.status.leader != view.leader_id:
                continue
            try:
                alarms: tuple[plan.Alarm, ...] = _parsed(
                    plan.parse_alarms, self._connect(answer.url).call("/v3/maintenance/alarm")
                )
            except (EtcdUnreachable, EtcdFailure):
                continue
            return alarms
        return None

    def observe(
        self,
        expected: t.Sequence[str] = (),
        excepted: t.Sequence[str] = (),
        max_lag: int = 1000,
        quota: int | None = None,
    ) -> Observation:
        """One look, judged."""
        view, silence = self.look()
        if view is None:
            return Observation(None, tuple(silence.values()) or ("no address was given",))
        return Observation(view, tuple(plan.why_not_healthy(view, expected, excepted, max_lag)), quota)

    def wait(
        self,
        goal: str,
        timeout: float,
        poll_interval: float,
        expected: t.Sequence[str] = (),
        excepted: t.Sequence[str] = (),
        max_lag: int = 1000,
        quota: int | None = None,
    ) -> Observation:
        """Look until the cluster is ``healthy``; ``none`` looks once."""

        def probe() -> Seen[Observation]:
            seen = self.observe(expected, excepted, max_lag, quota)
            return Seen(seen, "; ".join(seen.reasons) or None)

        if goal == "none":
            return probe().value
        return wait_until(probe, self._clock, timeout, poll_interval, "a healthy cluster")


# -- members -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class MemberOutcome:
    """What was done, or would be, and how the host is to start."""

    decision: plan.Decision
    done: tuple[str, ...]
    before: tuple[plan.Member, ...]
    after: tuple[plan.Member, ...]
    leader: str | None
    wish: plan.MemberWish

    def as_result(self) -> dict[str, t.Any]:
        member = plan.find(dataclasses.replace(EMPTY, members=self.after), self.wish)
        return {
            "changed": bool(self.done),
            "msg": "; ".join(self.done) or "nothing to do",
            "plan": list(self.done),
            "bootstrap": self.decision.bootstrap,
            "join": self.decision.join,
            "initial_cluster": plan.initial_cluster(self.after, self.wish),
            "initial_cluster_state": "new" if self.decision.bootstrap else "existing",
            "member_id": plan.hex_id(member.id) if member is not None and member.id else None,
            "leader": self.leader,
            "before": plan.membership(self.before, self.wish),
            "after": plan.membership(self.after, self.wish),
        }


EMPTY = plan.View(0, (), {}, 0)


class MemberService:
    """One step, then a new look: what was planned before may no longer be right."""

    def __init__(
        self, cluster: ClusterService, connect: Connect, clock: Clock, timeout: float, poll_interval: float,
        check_mode: bool = False,
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._connect = connect
        self._clock = clock
        self._timeout = timeout
        self._poll_interval = poll_interval
        self._check_mode = check_mode

    def reconcile(self, wish: plan.MemberWish) -> MemberOutcome:
        """Make the wish true."""
        deadline = self._clock.monotonic() + (0 if self._check_mode else self._timeout)
        first, decision = self._decide(wish, deadline)
        if self._check_mode:
            done = tuple(step.text for step in decision.steps)
            after = plan.predicted(first.members, decision.steps, wish)
            return MemberOutcome(decision, done, first.members, after, self._leader(first), wish)
        view, texts = first, []
        while decision.steps:
            step = decision.steps[0]
            failed = self._act(view, step)
            if failed is None:
                texts.append(step.text)
            elif self._clock.monotonic() >= deadline:
                raise failed
            else:
                self._clock.sleep(self._poll_interval)
            if len(texts) > 12:
                raise DedicatedError(
                    f"etcd accepts each change and none comes true: {'; '.join(texts)}. Look into etcd's log.",
                    code="not_taken",
                )
            # A change has a deadline of its own to become visible.
            deadline = max(deadline, self._clock.monotonic() + (self._timeout if failed is None else 0))
            view, decision = self._decide(wish, deadline)
            if failed is not None and step not in decision.steps:
                # It was done, only the answer was lost.
                texts.append(step.text)
            elif failed is None and step in decision.steps:
                self._clock.sleep(self._poll_interval)
        return MemberOutcome(decision, tuple(texts), first.members, view.members, self._leader(view), wish)

    @staticmethod
    def _leader(view: plan.View) -> str | None:
        return None if view.leader is None else view.leader.label

    def _decide(self, wish: plan.MemberWish, deadline: float) -> tuple[plan.View, plan.Decision]:
        while True:
            view, answer = self._judge(wish)
            if isinstance(answer, plan.Decision):
                return view or EMPTY, answer
            left = deadline - self._clock.monotonic()
            if answer.code not in plan.MAY_PASS or left <= 0:
                raise Refused(answer)
            self._clock.sleep(min(self._poll_interval, left))

    def _judge(self, wish: plan.MemberWish) -> tuple[plan.View | None, plan.Judged]:
        view, silence = self._cluster.look()
        if view is None and self._cluster.busy:
            return view, Refuse(
                "no_quorum",
                f"the membership of {wish.name or 'the cluster'} is not decided",
                "members are there and cannot answer: " + "; ".join(silence.values()),
                "Bring a quorum of them back.",
            )
        return view, plan.plan_member(view, wish)

    def _act(self, view: plan.View, step: plan.Step) -> DedicatedError | None:
        """Take one step. An error that may pass is returned, so that the next look decides again."""
        requests: dict[str, tuple[str, dict[str, t.Any]]] = {
            "add": ("/v3/cluster/member/add", {"peerURLs": [step.peer_url]}),
            "remove": ("/v3/cluster/member/remove", {"ID": str(step.member_id)}),
            "transfer": ("/v3/maintenance/transfer-leadership", {"targetID": str(step.to)}),
            "defragment": ("/v3/maintenance/defragment", {}),
            "disarm": (
                "/v3/maintenance/alarm",
                {"action": "DEACTIVATE", "memberID": str(step.member_id), "alarm": "NOSPACE"},
            ),
        }
        try:
            self._client(view, step).call(*requests[step.kind])
        except EtcdUnreachable as exc:
            # Nobody knows whether it was done. The next look does.
            return exc
        except EtcdFailure as exc:
            # An id is made of address and second, so that one that was just removed cannot be added in the same second.
            if exc.may_pass or "member not found" in exc.said or "already exists" in exc.said.lower():
                return exc
            raise
        return None

    def _client(self, view: plan.View, step: plan.Step) -> Client:
        """The leader, which alone can hand over; but a member that goes is not asked to do it itself, and what stands
        still for its defragmentation is asked for that."""
        able = sorted(
            view.addresses,
            key=lambda one: (
                one == step.member_id and step.kind == "remove",
                one != step.member_id and step.kind == "defragment",
                one != view.leader_id,
                one,
            ),
        )
        return self._connect(view.addresses[able[0]])


# -- users and roles -----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class AuthOutcome:
    """What was done, or would be. ``before`` None: nobody answered (check mode)."""

    before: plan.AuthView | None
    after: plan.AuthView
    steps: tuple[plan.AuthStep, ...]
    wish: plan.AuthWish

    def as_result(self) -> dict[str, t.Any]:
        return {
            "changed": bool(self.steps),
            "msg": f"{len(self.steps)} changes" if self.steps else "nothing to do",
            "reachable": self.before is not None,
            "enabled": self.after.enabled,
            "plan": [step.text for step in self.steps],
            "before": {} if self.before is None else plan.auth_shown(self.before, self.wish),
            "after": plan.auth_shown(self.after, self.wish),
        }


class AuthService:
    """Users and roles, through the first member that answers.

    ``passwords`` by user, root's among them; ``login`` is another user's name and password for the case that root's
    does not fit yet.
    """

    def __init__(
        self,
        transports: t.Sequence[Transport],
        passwords: t.Mapping[str, str],
        login: tuple[str, str] | None,
        clock: Clock,
        timeout: float,
        poll_interval: float,
        check_mode: bool = False,
    ) -> None:
        self._transports = transports
        self._passwords = passwords
        self._login = login
        self._clock = clock
        self._timeout = timeout
        self._poll_interval = poll_interval
        self._check_mode = check_mode

    def reconcile(self, wish: plan.AuthWish) -> AuthOutcome:
        """Make the wish true, and see it true."""
        if self._check_mode:
            seen = self._look(wish)
            before = None if seen.why_not is not None else seen.value[1]
            steps = plan.plan_auth(before or plan.AuthView(), wish)
            return AuthOutcome(before, _after(before or plan.AuthView(), steps), tuple(steps), wish)
        client, before = self._wait(wish)
        steps = plan.plan_auth(before, wish)
        for step in steps:
            self._act(client, step)
            if step.kind == "set_password":
                # A new password ends the user's logins, perhaps the one that is used here.
                client.renew(step.name, self._passwords[step.name])
        if not steps:
            return AuthOutcome(before, before, (), wish)
        after = self._wait(wish)[1]
        # Without authentication nobody can tell whether a password was taken.
        left = plan.plan_auth(after, wish)
        if left:
            raise DedicatedError(
                f"etcd accepted everything, and still differs: {'; '.join(step.text for step in left)}. "
                "Something else changes users and roles; run again when it is done.",
                code="not_taken",
            )
        return AuthOutcome(before, after, tuple(steps), wish)

    def _wait(self, wish: plan.AuthWish) -> tuple[Client, plan.AuthView]:
        found = wait_until(
            lambda: self._look(wish), self._clock, self._timeout, self._poll_interval, "an answer of etcd"
        )
        return t.cast("tuple[Client, plan.AuthView]", found)

    def _look(self, wish: plan.AuthWish) -> Seen[tuple[Client | None, plan.AuthView]]:
        silent = []
        for transport in self._transports:
            try:
                client = self._entered(transport)
                return Seen((client, self._read(client, wish)))
            except EtcdUnreachable as exc:
                silent.append(exc.msg)
            except EtcdFailure as exc:
                if not exc.may_pass:
                    raise
                silent.append(exc.msg)
        return Seen((None, plan.AuthView()), "; ".join(silent) or "no address was given")

    def _entered(self, transport: Transport) -> Client:
        """A client that may read users and roles."""
        root = Client(transport, plan.ROOT, self._passwords[plan.ROOT])
        if root.accepts(plan.ROOT, self._passwords[plan.ROOT]) is not False:
            return root
        if self._login is not None and root.accepts(*self._login):
            return Client(transport, *self._login)
        raise Refused(
            Refuse(
                "root_password_differs",
                "users and roles are not touched",
                "authentication is on, and root has another password than root_password"
                + ("" if self._login is None else f"; that of {self._login[0]} does not fit either"),
                "Give root's present password as username and password, and it is changed to root_password.",
            )
        )

    def _read(self, client: Client, wish: plan.AuthWish) -> plan.AuthView:
        enabled = bool(client.call("/v3/auth/status").get("enabled"))
        users = client.call("/v3/auth/user/list").get("users") or []
        roles = client.call("/v3/auth/role/list").get("roles") or []
        wanted = [plan.ROOT, *(user.name for user in wish.users)]
        present = [name for name in wanted if name in users]
        return plan.AuthView(
            enabled=enabled,
            users={
                name: frozenset(client.call("/v3/auth/user/get", {"name": name}).get("roles") or ()) for name in present
            },
            roles={
                name: _parsed(plan.parse_permissions, client.call("/v3/auth/role/get", {"role": name}))
                for name in roles
                if name in wish.roles or name == plan.ROOT
            },
            passwords={name: client.accepts(name, self._passwords[name]) for name in present},
        )

    def _act(self, client: Client, step: plan.AuthStep) -> None:
        try:
            client.call(*self._request(step))
        except EtcdFailure as exc:
            # Somebody else was first; whether with the same in mind, the look after all steps tells.
            if step.kind in ("add_role", "add_user") and "already exists" in exc.said:
                return
            raise
        except EtcdUnreachable as exc:
            # pylint does not follow the import of the class that this one stands on.
            raise DedicatedError(  # pylint: disable=bad-exception-cause
                f"{exc.msg}, during: {step.text}. What was done before is kept; run again.", code="interrupted"
            ) from exc

    def _request(self, step: plan.AuthStep) -> tuple[str, dict[str, t.Any]]:
        wanted = step.range or plan.Range(b"")
        span = {"key": base64.b64encode(wanted.key).decode(), "range_end": base64.b64encode(wanted.end).decode()}
        password = self._passwords.get(step.name, "")
        requests: dict[str, tuple[str, dict[str, t.Any]]] = {
            "add_role": ("role/add", {"name": step.name}),
            "grant": ("role/grant", {"name": step.name, "perm": {"permType": step.type.upper(), **span}}),
            "revoke": ("role/revoke", {"role": step.name, **span}),
            "add_user": ("user/add", {"name": step.name, "password": password}),
            "set_password": ("user/changepw", {"name": step.name, "password": password}),
            "grant_role": ("user/grant", {"user": step.name, "role": step.role}),
            "revoke_role": ("user/revoke", {"name": step.name, "role": step.role}),
            "enable": ("enable", {}),
            "disable": ("disable", {}),
        }
        path, data = requests[step.kind]
        return f"/v3/auth/{path}", data


def _after(view: plan.AuthView, steps: t.Iterable[plan.AuthStep]) -> plan.AuthView:
    for step in steps:
        view = plan.auth_after(view, step)
    return view

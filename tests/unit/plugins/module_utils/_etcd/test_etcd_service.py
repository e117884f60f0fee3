# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cluster, members, users and roles through a fake etcd that keeps state, loses answers and may lie; the gateway over
HTTP; and the modules from their arguments to their output."""

from __future__ import annotations

import base64
import dataclasses
import http.server
import json
import threading
import typing as t

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.dedicated.odoo.plugins.doc_fragments.etcd import ModuleDocFragment
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DeadlineError,
    DedicatedError,
    Refuse,
    Refused,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._etcd import plan
from ansible_collections.dedicated.odoo.plugins.module_utils._etcd.arguments import etcd_arguments
from ansible_collections.dedicated.odoo.plugins.module_utils._etcd.io import (
    Client,
    EtcdFailure,
    EtcdUnreachable,
    GatewayTransport,
    Reply,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._etcd.service import (
    AuthService,
    ClusterService,
    MemberService,
    connector,
)
from ansible_collections.dedicated.odoo.plugins.modules import etcd_auth, etcd_cluster_info, etcd_member

CANARY = "canary-77c1"


@dataclasses.dataclass
class FakeClock:
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        assert self.now < 10_000, "waits without end"


class Cut(Exception):
    """The run dies here."""


def peer(name: str) -> str:
    return f"https://{name}:2380"


def client(name: str) -> str:
    return f"https://{name}:2379"


@dataclasses.dataclass
class FakeNode:
    id: int
    name: str
    peer_url: str
    started: bool = True
    up: bool = True
    size: int = 100
    used: int | None = None


Answer = tuple[int, dict[str, t.Any]]
WRITES = (
    "member/add",
    "member/remove",
    "transfer-leadership",
    "defragment",
    "role/",
    "user/",
    "auth/enable",
    "auth/disable",
)


@dataclasses.dataclass
class FakeEtcd:
    """A cluster. ``cut_at`` kills the run at the n-th writing call, before or after it takes effect; ``lost`` writing
    calls take effect and are not answered; ``grumpy`` writing calls are refused for now."""

    nodes: dict[int, FakeNode] = dataclasses.field(default_factory=dict)
    leader: int = 1
    alarms: list[dict[str, str]] = dataclasses.field(default_factory=list)
    next_id: int = 100
    auth: bool = False
    users: dict[str, tuple[str, set[str]]] = dataclasses.field(default_factory=dict)
    roles: dict[str, dict[tuple[str, str], str]] = dataclasses.field(default_factory=dict)
    tokens: dict[str, str] = dataclasses.field(default_factory=dict)
    issued: int = 0
    writes: list[str] = dataclasses.field(default_factory=list)
    calls: int = 0
    cut_at: int | None = None
    cut_after: bool = False
    lost: int = 0
    grumpy: int = 0
    deaf: bool = False
    defragmented: list[str] = dataclasses.field(default_factory=list)

    def quorum(self) -> bool:
        return sum(node.up for node in self.nodes.values()) > len(self.nodes) / 2

    def answer(self, node: FakeNode, path: str, data: t.Mapping[str, t.Any], token: str | None) -> Reply:
        self.calls += 1
        short = path.removeprefix("/v3/")
        writing = any(word in short for word in WRITES) and not short.endswith(("/get", "/list"))
        after = False
        if writing:
            self.writes.append(short)
            if self.grumpy:
                self.grumpy -= 1
                return _reply((503, {"code": 14, "message": "etcdserver: unhealthy cluster"}))
            if self.cut_at is not None and len(self.writes) > self.cut_at:
                if not self.cut_after:
                    raise Cut
                after = True
        if self.deaf and writing:
            return _reply((200, {"header": {}}))
        reply = _reply(self._do(node, short, data, token))
        if after:
            raise Cut
        if writing and self.lost:
            self.lost -= 1
            raise EtcdUnreachable("the answer is lost")
        return reply

    def _do(self, node: FakeNode, short: str, data: t.Mapping[str, t.Any], token: str | None) -> Answer:
        if short == "cluster/member/list":
            return 200, {"header": self._header(node), "members": [_listed(one) for one in self.nodes.values()]}
        if short == "maintenance/status":
            leader = {"leader": str(self.leader)} if self.quorum() else {"errors": ["etcdserver: no leader"]}
            return 200, {
                "header": self._header(node),
                "version": "3.5.16",
                "dbSize": str(node.size),
                "dbSizeInUse": str(node.size // 2 if node.used is None else node.used),
                "raftIndex": "10",
                "raftTerm": "2",
                **leader,
            }
        if not self.quorum():
            return 503, {"code": 14, "message": "etcdserver: request timed out"}
        if short.startswith("auth/") or short.startswith("cluster/"):
            refused = self._guard(short, data, token)
            if refused is not None:
                return refused
        handler = getattr(self, "_" + short.replace("/", "_").replace("-", "_"))
        return t.cast("Answer", handler(node, data))

    def _maintenance_defragment(self, node: FakeNode, _data: t.Mapping[str, t.Any]) -> Answer:
        self.defragmented.append(node.name)
        node.size = node.size // 2 if node.used is None else node.used
        return 200, {"header": self._header(node)}

    def _header(self, node: FakeNode) -> dict[str, str]:
        return {"cluster_id": "7", "member_id": str(node.id)}

    def _guard(self, short: str, data: t.Mapping[str, t.Any], token: str | None) -> Answer | None:
        if not self.auth or short == "auth/authenticate":
            return None
        if token is None:
            return 400, {"code": 3, "message": "etcdserver: user name is empty"}
        user = self.tokens.get(token)
        if user is None:
            return 401, {"code": 16, "message": "etcdserver: invalid auth token"}
        if "root" not in self.users[user][1]:
            return 403, {"code": 7, "message": "etcdserver: permission denied"}
        return None

    # -- members, with etcd's own rules and ours asserted

    def _cluster_member_add(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        assert all(node.up and node.started for node in self.nodes.values()), "added while others are not well"
        self.next_id += 1
        self.nodes[self.next_id] = FakeNode(self.next_id, "", data["peerURLs"][0], started=False, up=False)
        return 200, {}

    def _cluster_member_remove(self, node: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        gone = int(data["ID"])
        if gone not in self.nodes:
            return 404, {"code": 5, "message": "etcdserver: member not found"}
        left = [one for one in self.nodes.values() if one.id != gone]
        assert left, "removed the last"
        assert all(one.up for one in left), "removed while others are not well"
        assert gone != self.leader, "removed the leader"
        assert node.id != gone, "asked it to remove itself"
        del self.nodes[gone]
        return 200, {}

    def _maintenance_transfer_leadership(self, node: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        if node.id != self.leader:
            return 400, {"code": 9, "message": "etcdserver: not leader"}
        assert self.nodes[int(data["targetID"])].up
        self.leader = int(data["targetID"])
        return 200, {}

    def _maintenance_alarm(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        if data.get("action") == "DEACTIVATE":
            self.alarms = [one for one in self.alarms if one["memberID"] != data["memberID"]]
        return 200, {"header": {}, **({"alarms": self.alarms} if self.alarms else {})}

    # -- users and roles

    def _auth_authenticate(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        if not self.auth:
            return 400, {"code": 9, "message": "etcdserver: authentication is not enabled"}
        if self.users.get(data["name"], ("",))[0] != data["password"]:
            return 400, {"code": 3, "message": "etcdserver: authentication failed, invalid user ID or password"}
        self.issued += 1
        self.tokens[f"token.{self.issued}"] = data["name"]
        return 200, {"header": {}, "token": f"token.{self.issued}"}

    def _auth_status(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        return 200, {"header": {}, **({"enabled": True} if self.auth else {})}

    def _auth_user_list(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        return 200, {"header": {}, **({"users": sorted(self.users)} if self.users else {})}

    def _auth_role_list(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        return 200, {"header": {}, **({"roles": sorted(self.roles)} if self.roles else {})}

    def _auth_user_get(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        return 200, {"header": {}, "roles": sorted(self.users[data["name"]][1])}

    def _auth_role_get(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        permissions = []
        for (key, end), kind in self.roles[data["role"]].items():
            permissions.append({"key": key, "range_end": end, **({} if kind == "READ" else {"permType": kind})})
        return 200, {"header": {}, "perm": permissions}

    def _auth_role_add(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        if data["name"] in self.roles:
            return 400, {"code": 9, "message": "etcdserver: role name already exists"}
        self.roles[data["name"]] = {}
        return 200, {}

    def _auth_role_grant(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        wanted = data["perm"]
        self.roles[data["name"]][(wanted["key"], wanted["range_end"])] = wanted["permType"]
        return 200, {}

    def _auth_role_revoke(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        del self.roles[data["role"]][(data["key"], data["range_end"])]
        return 200, {}

    def _auth_user_add(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        if data["name"] in self.users:
            return 400, {"code": 9, "message": "etcdserver: user name already exists"}
        self.users[data["name"]] = (data["password"], set())
        return 200, {}

    def _auth_user_changepw(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        self.users[data["name"]] = (data["password"], self.users[data["name"]][1])
        self.tokens = {token: user for token, user in self.tokens.items() if user != data["name"]}
        return 200, {}

    def _auth_user_grant(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        self.users[data["user"]][1].add(data["role"])
        return 200, {}

    def _auth_user_revoke(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        self.users[data["name"]][1].remove(data["role"])
        return 200, {}

    def _auth_enable(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        assert "root" in self.users["root"][1]
        self.auth = True
        return 200, {}

    def _auth_disable(self, _: FakeNode, data: t.Mapping[str, t.Any]) -> Answer:
        self.auth = False
        self.tokens = {}
        return 200, {}


def _reply(answer: Answer) -> Reply:
    return Reply(answer[0], json.dumps(answer[1]).encode())


def _listed(node: FakeNode) -> dict[str, t.Any]:
    shown: dict[str, t.Any] = {"ID": str(node.id), "peerURLs": [node.peer_url]}
    if node.name:
        shown["name"] = node.name
    return {**shown, "clientURLs": [client(node.name)]} if node.started else shown


@dataclasses.dataclass
class FakeTransport:
    etcd: FakeEtcd
    url: str

    def request(self, path: str, data: t.Mapping[str, t.Any], token: str | None = None) -> Reply:
        for node in self.etcd.nodes.values():
            if node.up and node.name and client(node.name) == self.url:
                return self.etcd.answer(node, path, data, token)
        raise EtcdUnreachable(f"{self.url}: no answer")


def three(**changes: t.Any) -> FakeEtcd:
    return FakeEtcd(nodes={one: FakeNode(one, f"n{one}", peer(f"n{one}")) for one in (1, 2, 3)}, **changes)


NAMES = ("n1", "n2", "n3")


def cluster(etcd: FakeEtcd, names: t.Sequence[str] = NAMES, clock: FakeClock | None = None) -> ClusterService:
    connect = connector(lambda url: FakeTransport(etcd, url), None, None)
    return ClusterService(connect, [client(name) for name in names], clock or FakeClock())


# Observing


def test_a_look_at_the_cluster() -> None:
    etcd = three()
    etcd.nodes[2].size = 500
    result = cluster(etcd).observe(NAMES, quota=1000).as_result()
    assert (result["healthy"], result["reasons"], result["leader"]) == (True, [], "n1")
    assert result["quorum"] == {"voters": 3, "needed": 2, "answering": 3, "spare": 1}
    assert result["quota_fraction"] == 0.5
    assert [(one["name"], one["leader"], one["fragmentation"]) for one in result["members"]] == [
        ("n1", True, 0.5),
        ("n2", False, 0.5),
        ("n3", False, 0.5),
    ]
    assert json.dumps(result)


def test_members_that_nobody_gave_an_address_of_are_asked_too() -> None:
    assert cluster(three(), ["n2"]).observe(NAMES).as_result()["healthy"]


def test_a_dead_member_is_told_with_what_its_address_said() -> None:
    etcd = three()
    etcd.nodes[3].up = False
    result = cluster(etcd).observe().as_result()
    assert result["reasons"] == ["n3 does not answer: https://n3:2379: no answer"]
    assert result["members"][2]["reachable"] is False
    assert result["members"][2]["db_size"] is None
    assert cluster(etcd).observe(NAMES, ["n3"]).as_result()["healthy"]


def test_without_a_quorum_it_is_reachable_and_ill() -> None:
    etcd = three()
    etcd.nodes[2].up = etcd.nodes[3].up = False
    result = cluster(etcd).observe().as_result()
    assert (result["reachable"], result["healthy"], result["leader"]) == (True, False, None)
    assert "there is no leader" in result["reasons"]


def test_a_silent_cluster_is_an_answer_when_nothing_is_waited_for() -> None:
    result = cluster(FakeEtcd()).wait("none", 5, 1).as_result()
    assert (result["reachable"], result["healthy"], result["members"]) == (False, False, [])
    assert "https://n1:2379: no answer" in result["reasons"]


@dataclasses.dataclass
class Waking(FakeClock):
    etcd: FakeEtcd = dataclasses.field(default_factory=three)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.now >= 3:
            for node in self.etcd.nodes.values():
                node.up = node.started = True


def test_waiting_for_health_and_a_deadline_that_tells_what_was_seen() -> None:
    clock = Waking()
    clock.etcd.nodes[2].up = False
    assert cluster(clock.etcd, clock=clock).wait("healthy", 10, 1, NAMES).as_result()["healthy"]
    assert clock.now == 3
    etcd = three()
    etcd.nodes[2].up = False
    with pytest.raises(DeadlineError, match=r"a healthy cluster did not come within 10 s; last seen: n2 does not"):
        cluster(etcd).wait("healthy", 10, 1, NAMES)


# Members


def member_service(
    etcd: FakeEtcd, own: str | None = "n3", clock: FakeClock | None = None, check_mode: bool = False
) -> MemberService:
    connect = connector(lambda url: FakeTransport(etcd, url), "root", "r")
    clock = clock or FakeClock()
    urls = [client(name) for name in sorted({*NAMES, *([own] if own else [])})]
    seen = ClusterService(connect, urls, clock, client(own) if own else None)
    return MemberService(seen, connect, clock, timeout=20, poll_interval=1, check_mode=check_mode)


def wish(name: str, state: str = "present", **changes: t.Any) -> plan.MemberWish:
    return plan.MemberWish(state, name, peer(name), **changes)


WHOLE = "n1=https://n1:2380,n2=https://n2:2380,n3=https://n3:2380"


def test_a_lost_member_is_replaced_and_the_second_run_changes_nothing() -> None:
    etcd = three()
    etcd.nodes[3].up = False
    predicted = member_service(etcd, check_mode=True).reconcile(wish("n3")).as_result()
    assert etcd.writes == []
    done = member_service(etcd).reconcile(wish("n3")).as_result()
    assert etcd.writes == ["cluster/member/remove", "cluster/member/add"]
    assert done.pop("member_id") == "65"
    predicted.pop("member_id")
    assert predicted == done
    assert (done["join"], done["bootstrap"], done["initial_cluster"]) == (True, False, WHOLE)
    assert (done["initial_cluster_state"], done["changed"]) == ("existing", True)
    again = member_service(etcd).reconcile(wish("n3")).as_result()
    assert (again["changed"], again["join"], again["initial_cluster"]) == (False, True, WHOLE)
    etcd.nodes[101].name, etcd.nodes[101].started, etcd.nodes[101].up = "n3", True, True
    running = member_service(etcd).reconcile(wish("n3", data_present=True)).as_result()
    assert (running["changed"], running["join"], running["member_id"]) == (False, False, "65")


@pytest.mark.parametrize("cut_after", [False, True])
@pytest.mark.parametrize("cut_at", [0, 1])
def test_a_replacement_may_be_interrupted_anywhere(cut_at: int, cut_after: bool) -> None:
    etcd = three(cut_at=cut_at, cut_after=cut_after)
    etcd.nodes[3].up = False
    with pytest.raises(Cut):
        member_service(etcd).reconcile(wish("n3"))
    etcd.cut_at = None
    done = member_service(etcd).reconcile(wish("n3")).as_result()
    assert (done["join"], done["initial_cluster"], len(etcd.nodes)) == (True, WHOLE, 3)


@pytest.mark.parametrize("state", ["present", "absent"])
def test_lost_answers_and_refusals_that_pass_end_in_the_same(state: str) -> None:
    for lost, grumpy in ((1, 0), (0, 3), (2, 2)):
        etcd = three(lost=lost, grumpy=grumpy, leader=2)
        etcd.nodes[3].up = state != "present"
        name, own = ("n3", "n3") if state == "present" else ("n2", None)
        done = member_service(etcd, own).reconcile(wish(name, state, allow_even=True)).as_result()
        assert done["changed"]
        assert len(done["plan"]) == 2
        assert sorted(node.peer_url for node in etcd.nodes.values()) == [
            peer(one) for one in NAMES if state == "present" or one != "n2"
        ]


def test_others_that_are_still_ill_are_waited_for_and_then_refused() -> None:
    clock = Waking()
    clock.etcd.nodes[2].up = False
    done = member_service(clock.etcd, "n4", clock).reconcile(wish("n4")).as_result()
    assert (done["plan"], clock.now >= 3) == (["add n4 with https://n4:2380"], True)
    etcd = three()
    etcd.nodes[2].up = False
    for check_mode in (True, False):
        with pytest.raises(Refused) as caught:
            member_service(etcd, "n4", check_mode=check_mode).reconcile(wish("n4"))
        assert caught.value.refusal.code == "others_not_healthy"
    assert etcd.writes == []


def test_a_new_cluster_needs_true_silence() -> None:
    assert member_service(FakeEtcd()).reconcile(wish("n3")).as_result() == {
        "changed": False,
        "msg": "nothing to do",
        "plan": [],
        "bootstrap": True,
        "join": False,
        "initial_cluster": "",
        "initial_cluster_state": "new",
        "member_id": None,
        "leader": None,
        "before": {},
        "after": {},
    }


@pytest.mark.parametrize(
    "fault",
    [EtcdUnreachable("TLS", quiet=False), EtcdFailure("timed out", "timed out", 503, may_pass=True)],
)
def test_somebody_who_is_there_and_does_not_understand_is_no_silence(fault: DedicatedError) -> None:
    class Mute:
        url = client("n1")

        def request(self, path: str, data: t.Any, token: str | None = None) -> Reply:
            raise fault

    connect = connector(lambda _: Mute(), None, None)
    clock = FakeClock()
    seen = ClusterService(connect, [client("n1")], clock, client("n3"))
    with pytest.raises(Refused) as caught:
        MemberService(seen, connect, clock, 5, 1).reconcile(wish("n3"))
    assert caught.value.refusal.code == "no_quorum"


def test_a_leader_leaves_after_it_has_handed_over() -> None:
    etcd = three(leader=1)
    predicted = member_service(etcd, None, check_mode=True).reconcile(wish("n1", "absent", allow_even=True))
    done = member_service(etcd, None).reconcile(wish("n1", "absent", allow_even=True)).as_result()
    assert etcd.writes == ["maintenance/transfer-leadership", "cluster/member/remove"]
    assert done["plan"] == predicted.as_result()["plan"]
    assert done["after"] == {"n2": [peer("n2")], "n3": [peer("n3")]} == predicted.as_result()["after"]
    assert not member_service(etcd, None).reconcile(wish("n1", "absent")).as_result()["changed"]


def test_changes_that_never_come_true_are_an_error() -> None:
    with pytest.raises(DedicatedError, match="none comes true"):
        member_service(three(deaf=True), None).reconcile(wish("n3", "absent", allow_even=True))


MIB = 1024**2


def fragmented(**changes: t.Any) -> FakeEtcd:
    etcd = three(leader=1, **changes)
    for number, (size, used) in {1: (90, 40), 2: (60, 55), 3: (30, 20)}.items():
        etcd.nodes[number].size, etcd.nodes[number].used = size * MIB, used * MIB
    return etcd


def test_free_space_is_given_back_one_by_one_and_the_leader_is_last() -> None:
    etcd = fragmented(alarms=[{"memberID": "1", "alarm": "NOSPACE"}])
    wished = plan.MemberWish("defragmented")
    predicted = member_service(etcd, None, check_mode=True).reconcile(wished).as_result()
    assert etcd.defragmented == []
    done = member_service(etcd, None).reconcile(wished).as_result()
    assert etcd.defragmented == ["n3", "n1"]
    assert done["plan"] == predicted["plan"]
    assert f"{10 * MIB} of {30 * MIB} bytes" in done["plan"][0]
    assert not member_service(etcd, None).reconcile(wished).as_result()["changed"]


def test_nobody_stands_still_while_another_is_away() -> None:
    etcd = fragmented()
    etcd.nodes[2].up = False
    with pytest.raises(Refused, match="n2 does not answer"):
        member_service(etcd, None).reconcile(plan.MemberWish("defragmented"))
    assert etcd.defragmented == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("done", [0, 1])
def test_a_defragmentation_that_is_cut_off_goes_on(done: int, after: bool) -> None:
    etcd = fragmented(cut_at=done, cut_after=after)
    with pytest.raises(Cut):
        member_service(etcd, None).reconcile(plan.MemberWish("defragmented"))
    etcd.cut_at = None
    member_service(etcd, None).reconcile(plan.MemberWish("defragmented"))
    assert etcd.defragmented == ["n3", "n1"]


def test_a_defragmentation_whose_answer_is_lost_is_not_made_twice() -> None:
    etcd = fragmented(lost=1)
    done = member_service(etcd, None).reconcile(plan.MemberWish("defragmented")).as_result()
    assert etcd.defragmented == ["n3", "n1"]
    assert len(done["plan"]) == 2


@pytest.mark.parametrize(
    ("size", "used", "worth"), [(100, 91, False), (100, 90, True), (5, 4, True), (1, 0.5, False), (9, 8, False)]
)
def test_who_is_left_alone(size: float, used: float, worth: bool) -> None:
    status = plan.Status(1, 1, "3.5.16", int(size * MIB), int(used * MIB), 10, 2)
    assert plan.worth_defragmenting(status) == worth


def test_disarming() -> None:
    etcd = three(alarms=[{"memberID": "2", "alarm": "NOSPACE"}])
    etcd.nodes[2].size = 1000
    with pytest.raises(Refused, match="Compact and defragment first"):
        member_service(etcd, None).reconcile(plan.MemberWish("disarmed", quota=1000))
    etcd.nodes[2].size = 900
    assert member_service(etcd, None).reconcile(plan.MemberWish("disarmed", quota=1000)).as_result()["changed"]
    assert etcd.alarms == []
    assert not member_service(etcd, None).reconcile(plan.MemberWish("disarmed", quota=1000)).as_result()["changed"]


def test_with_authentication_a_login_is_made_where_it_is_asked_for() -> None:
    etcd = three(auth=True, users={"root": ("r", {"root"})}, roles={"root": {}})
    etcd.nodes[3].up = False
    assert member_service(etcd).reconcile(wish("n3")).as_result()["changed"]
    assert etcd.issued == 1


# Users and roles

ROLES = [{"name": "patroni", "permissions": [{"prefix": "/service/", "type": "readwrite"}]}]
USERS = [{"name": "patroni", "password": CANARY, "roles": ["patroni"]}]


def auth(
    etcd: FakeEtcd,
    root: str = "r",
    users: t.Sequence[t.Mapping[str, t.Any]] = USERS,
    roles: t.Sequence[t.Mapping[str, t.Any]] = ROLES,
    enabled: bool = True,
    login: tuple[str, str] | None = None,
    check_mode: bool = False,
    names: t.Sequence[str] = NAMES,
) -> dict[str, t.Any]:
    wanted = plan.auth_wish(users, roles, enabled, root)
    assert not isinstance(wanted, Refuse)
    passwords = {"root": root, **{user["name"]: user["password"] for user in users}}
    transports = [FakeTransport(etcd, client(name)) for name in names]
    result = AuthService(transports, passwords, login, FakeClock(), 5, 1, check_mode).reconcile(wanted).as_result()
    assert CANARY not in json.dumps(result)
    return result


def test_from_nothing_to_authentication_and_the_second_run_changes_nothing() -> None:
    etcd = three()
    predicted = auth(etcd, check_mode=True)
    assert etcd.writes == []
    first = auth(etcd)
    assert predicted == first
    assert etcd.auth
    assert etcd.users == {"root": ("r", {"root"}), "patroni": (CANARY, {"patroni"})}
    span = (base64.b64encode(b"/service/").decode(), base64.b64encode(b"/service0").decode())
    assert etcd.roles["patroni"] == {span: "READWRITE"}
    count = len(etcd.writes)
    second = auth(etcd)
    assert (second["changed"], second["before"], len(etcd.writes)) == (False, first["after"], count)


@pytest.mark.parametrize("cut_after", [False, True])
def test_it_may_be_interrupted_at_every_call(cut_after: bool) -> None:
    for cut_at in range(len(auth(three())["plan"])):
        etcd = three(cut_at=cut_at, cut_after=cut_after, users={"patroni": ("old", set())})
        with pytest.raises(Cut):
            auth(etcd)
        etcd.cut_at = None
        auth(etcd)
        assert (etcd.auth, etcd.users["patroni"], etcd.users["root"]) == (True, (CANARY, {"patroni"}), ("r", {"root"}))
        assert not auth(etcd)["changed"]


def test_changed_passwords_are_seen_and_set() -> None:
    etcd = three()
    auth(etcd)
    etcd.users["patroni"] = ("stolen", {"patroni"})
    assert auth(etcd)["plan"] == ["set the password of patroni"]
    assert etcd.users["patroni"][0] == CANARY


def test_another_root_password_is_refused_and_changed_on_request() -> None:
    etcd = three()
    auth(etcd)
    count = len(etcd.writes)
    for login in (None, ("root", "wrong")):
        with pytest.raises(Refused) as caught:
            auth(etcd, root="new", login=login)
        assert caught.value.refusal.code == "root_password_differs"
    assert len(etcd.writes) == count
    more = [*USERS, {"name": "watch", "password": "w", "roles": []}]
    done = auth(etcd, root="new", login=("root", "r"), users=more)
    assert done["plan"] == ["add user watch", "set the password of root"]
    assert etcd.users["root"][0] == "new"
    assert not auth(etcd, root="new", users=more)["changed"]


def test_a_new_password_of_the_user_that_is_logged_in_does_not_end_the_run() -> None:
    etcd = three()
    admin = {"name": "admin", "password": "a", "roles": ["root"]}
    auth(etcd, users=[admin])
    changed = [{**admin, "password": "b"}, {"name": "z", "password": "z", "roles": []}]
    done = auth(etcd, root="new", users=changed, login=("admin", "a"))
    assert done["plan"] == ["set the password of admin", "add user z", "set the password of root"]


def test_turning_it_off_and_then_no_password_is_compared() -> None:
    etcd = three()
    auth(etcd)
    assert auth(etcd, enabled=False)["plan"] == ["disable authentication"]
    etcd.users["patroni"] = ("other", {"patroni"})
    quiet = auth(etcd, enabled=False)
    assert not quiet["changed"]
    assert "cannot be compared" in quiet["after"]["users"]["patroni"]["password_state"]


def test_check_mode_takes_a_silent_cluster_for_one_that_is_still_to_come() -> None:
    result = auth(FakeEtcd(), check_mode=True)
    assert (result["changed"], result["reachable"], result["before"]) == (True, False, {})
    with pytest.raises(DeadlineError, match="an answer of etcd did not come"):
        auth(FakeEtcd())


def test_another_member_is_asked_when_the_first_is_silent() -> None:
    etcd = three()
    etcd.nodes[1].up = False
    assert auth(etcd)["changed"]


def test_what_is_accepted_and_does_not_come_true_is_an_error() -> None:
    with pytest.raises(DedicatedError, match="still differs: add role root"):
        auth(three(deaf=True))


# The gateway


class Handler(http.server.BaseHTTPRequestHandler):
    seen: t.ClassVar[list[tuple[str, str | None, t.Any]]] = []
    script: t.ClassVar[list[tuple[int, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append((self.path, self.headers.get("Authorization"), json.loads(body)))
        status, answer = self.script.pop(0) if self.script else (200, b"{}")
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def url() -> t.Iterator[str]:
    Handler.seen.clear()
    Handler.script.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


EMPTY_USER = (400, b'{"code":3, "message":"etcdserver: user name is empty"}')
TOKEN = (200, b'{"header":{}, "token":"HicYFBoUvHblalAt.44"}')
INVALID = (401, b'{"code":16, "message":"etcdserver: invalid auth token"}')


def test_a_token_is_fetched_on_demand_and_again_when_it_is_lost(url: str) -> None:
    login = {"name": "root", "password": "pw"}
    Handler.script[:] = [(200, b"{}"), EMPTY_USER, TOKEN, (200, b'{"a": 1}'), INVALID, TOKEN, (200, b"{}")]
    found = Client(GatewayTransport({}, url + "/"), "root", "pw")
    assert found.call("/v3/x") == {}
    assert found.call("/v3/x", {"k": "v"}) == {"a": 1}
    found.call("/v3/x")
    token = "HicYFBoUvHblalAt.44"
    assert Handler.seen == [
        ("/v3/x", None, {}),
        ("/v3/x", None, {"k": "v"}),
        ("/v3/auth/authenticate", None, login),
        ("/v3/x", token, {"k": "v"}),
        ("/v3/x", token, {}),
        ("/v3/auth/authenticate", None, login),
        ("/v3/x", token, {}),
    ]


@pytest.mark.parametrize(
    ("script", "user", "code"),
    [
        ([EMPTY_USER], None, "login_needed"),
        ([EMPTY_USER, (400, b'{"message":"etcdserver: authentication failed, invalid"}')], "root", "bad_login"),
        ([(400, b"CommonName of client sending a request against gateway will be ignored\n")], "root",
         "certificate_has_common_name"),
        ([(403, b'{"code":7, "message":"etcdserver: permission denied"}'), TOKEN,
          (403, b'{"code":7, "message":"etcdserver: permission denied"}')], "root", "etcd_refused"),
        ([(200, b"oops")], "root", "bad_answer"),
        ([(200, b"[]")], "root", "bad_answer"),
    ],
)  # fmt: skip
def test_refusals_have_a_code_and_no_password(
    url: str, script: list[tuple[int, bytes]], user: str | None, code: str
) -> None:
    Handler.script[:] = script
    with pytest.raises(DedicatedError) as caught:
        Client(GatewayTransport({}, url), user, CANARY if user else None).call("/v3/x")
    assert caught.value.details["code"] == code
    assert CANARY not in caught.value.msg
    assert Handler.script == []


@pytest.mark.parametrize(
    ("status", "body", "may_pass"),
    [
        (503, b'{"code":14, "message":"etcdserver: unhealthy cluster"}', True),
        (504, b'{"code":4, "message":"context deadline exceeded"}', True),
        (500, b'{"message":"etcdserver: re-configuration failed due to not enough started members"}', True),
        (404, b'{"code":5, "message":"etcdserver: member not found"}', False),
        (403, b'{"code":7, "message":"etcdserver: permission denied"}', False),
    ],
)
def test_what_may_pass_is_told_from_what_does_not(url: str, status: int, body: bytes, may_pass: bool) -> None:
    Handler.script[:] = [(status, body), TOKEN, (status, body)]
    with pytest.raises(EtcdFailure) as caught:
        Client(GatewayTransport({}, url), "root", "pw").call("/v3/x")
    assert caught.value.may_pass is may_pass


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(TOKEN, True), ((400, b'{"message":"authentication is not enabled"}'), None),
     ((400, b'{"message":"etcdserver: authentication failed, invalid user ID or password"}'), False)],
)  # fmt: skip
def test_a_password_is_tried(url: str, answer: tuple[int, bytes], expected: bool | None) -> None:
    Handler.script[:] = [answer]
    assert Client(GatewayTransport({}, url)).accepts("a", "b") is expected


def test_silence_is_told_from_somebody_who_does_not_understand(url: str) -> None:
    with pytest.raises(EtcdUnreachable, match="no answer") as caught:
        GatewayTransport({}, "http://127.0.0.1:1", 2).request("/v3/x", {})
    assert caught.value.quiet
    for params, where in (({}, url.replace("http:", "https:")), ({"ca_path": "/no/such/file"}, "https://127.0.0.1:1")):
        with pytest.raises(EtcdUnreachable, match="no answer") as caught:
            GatewayTransport(params, where, 2).request("/v3/x", {})
        assert not caught.value.quiet


# The modules


def call(module: t.Any, capsys: pytest.CaptureFixture[str], **arguments: t.Any) -> dict[str, t.Any]:
    given = {"_ansible_syslog_facility": "", "_ansible_diff": True, "timeout": 0, **arguments}
    with patch_module_args(given), pytest.raises(SystemExit):
        module.main()
    return t.cast("dict[str, t.Any]", json.loads(capsys.readouterr().out))


NOBODY = "http://127.0.0.1:1"


def test_the_modules_say_what_they_see_of_a_silent_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    looked = call(etcd_cluster_info, capsys, url=NOBODY)
    assert (looked["reachable"], looked["changed"]) == (False, False)
    assert call(etcd_cluster_info, capsys, url=NOBODY, wait_for="healthy")["code"] == "deadline"
    assert not call(etcd_cluster_info, capsys, url=NOBODY, wait_for="healthy", _ansible_check_mode=True)["reachable"]
    assert call(etcd_member, capsys, url=NOBODY, name="n1", peer_url="https://n1:2380/")["bootstrap"]
    assert call(etcd_member, capsys, url=NOBODY, state="absent", name="n1")["code"] == "no_answer"
    refused = call(etcd_member, capsys, url=NOBODY, name="a", peer_url="x", members_with_data=["a", "b"])
    assert refused["code"] == "cluster_is_silent"
    assert call(etcd_auth, capsys, url=NOBODY, root_password=CANARY)["code"] == "deadline"


def test_what_is_missing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "peer_url" in call(etcd_member, capsys, url=NOBODY, name="n1")["msg"]
    assert "quota_bytes" in call(etcd_member, capsys, url=NOBODY, state="disarmed")["msg"]
    assert "password" in call(etcd_auth, capsys, url=NOBODY, root_password=CANARY, username="root")["msg"]
    refused = call(etcd_auth, capsys, url=NOBODY, root_password=CANARY, roles=[{"name": "root"}])
    assert refused["code"] == "reserved_name"


def test_a_prediction_shows_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    users = [{"name": "patroni", "password": CANARY, "roles": ["patroni"]}]
    result = call(
        etcd_auth, capsys, url=NOBODY, root_password=CANARY, users=users, roles=ROLES, _ansible_check_mode=True
    )
    assert result["changed"]
    assert result["diff"]["after"]["roles"] == {"patroni": {"/service/": "readwrite"}}
    result.pop("invocation", None)
    assert CANARY not in json.dumps(result)


def test_fragment_documents_the_arguments() -> None:
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    specified = etcd_arguments()
    assert list(documented) == list(specified)
    for name, option in specified.items():
        shown = {key: value for key, value in documented[name].items() if key != "description"}
        assert shown == {key: value for key, value in option.items() if key != "no_log"}, name


@pytest.mark.parametrize("module", [etcd_auth, etcd_cluster_info, etcd_member])
def test_modules_document_their_arguments(module: t.Any) -> None:
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    own = {name: option for name, option in module.ARGUMENTS.items() if name not in etcd_arguments()}
    assert set(own) == set(documented) - {"username"}
    for name, option in own.items():
        for key in ("type", "elements", "choices", "default", "required"):
            assert documented[name].get(key) == option.get(key), (name, key)

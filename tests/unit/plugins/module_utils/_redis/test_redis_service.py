# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Redis and Sentinel as fakes with state, and the command that reaches the real ones."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DeadlineError,
    DedicatedError,
    Refused,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import Completed
from ansible_collections.dedicated.odoo.plugins.module_utils._redis import plan
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.io import (
    Answer,
    DockerConnection,
    RedisUnreachable,
    Target,
    build_argv,
    parse,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._redis.service import RedisService, Wish

CANARY = "canary-77"


@dataclasses.dataclass
class FakeClock:
    now: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclasses.dataclass
class FakeRedis:
    """A server with settings in memory and in its file; ``refused`` settings are answered with an error."""

    role: str = "master"
    memory: dict[str, str] = dataclasses.field(default_factory=dict)
    file: dict[str, str] = dataclasses.field(default_factory=dict)
    master: dict[str, str] = dataclasses.field(default_factory=dict)
    refused: str | None = None
    stubborn: bool = False
    silent: int = 0
    loading: int = 0
    calls: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    def run(self, commands: t.Sequence[t.Sequence[str]]) -> list[Answer]:
        if self.silent:
            self.silent -= 1
            raise RedisUnreachable("connection refused")
        return [self.answer(tuple(words)) for words in commands]

    def answer(self, words: tuple[str, ...]) -> Answer:
        self.calls.append(words)
        if words == ("ROLE",):
            if self.loading:
                self.loading -= 1
                return Answer(error="LOADING Redis is loading the dataset in memory")
            return Answer([self.role])
        if words == ("CONFIG", "REWRITE"):
            self.file = dict(self.memory)
            return Answer("OK")
        if words == ("ACL", "LOAD"):
            return Answer("OK")
        if words[:2] == ("SENTINEL", "MASTER"):
            return Answer({"name": "odoo", "flags": "master", **self.master})
        verb = words[1] if words[0] == "CONFIG" else words[2] if words[:2] == ("SENTINEL", "CONFIG") else "SET"
        if verb == "GET":
            return Answer({words[-1]: self.memory[words[-1]]} if words[-1] in self.memory else {})
        start = 2 if words[0] == "CONFIG" else 3
        store = self.master if words[:2] == ("SENTINEL", "SET") else self.memory
        return self.set(store, dict(zip(words[start::2], words[start + 1 :: 2])))

    def set(self, store: dict[str, str], pairs: dict[str, str]) -> Answer:
        if self.refused in pairs:
            return Answer(error=f"ERR CONFIG SET failed (argument '{self.refused}') - bad value {pairs[self.refused]}")
        if not self.stubborn:
            store.update(pairs)
        return Answer("OK")

    def changes(self) -> list[tuple[str, ...]]:
        return [words for words in self.calls if "SET" in words or "REWRITE" in words or "LOAD" in words]


def settings(plain: dict[str, t.Any], secret: dict[str, t.Any] | None = None) -> tuple[plan.Setting, ...]:
    wanted = plan.settings(plain, secret or {})
    assert isinstance(wanted, tuple), wanted
    return wanted


def reconcile(redis: FakeRedis, wish: Wish, check_mode: bool = False) -> dict[str, t.Any]:
    return RedisService(redis, FakeClock(), "redis port 6379", 10, 1, check_mode).reconcile(wish).as_result()


def test_what_differs_is_set_in_one_command_and_written() -> None:
    redis = FakeRedis(memory={"maxmemory": "0", "appendonly": "yes", "hz": "10"})
    wish = Wish(settings({"maxmemory": "1kb", "appendonly": True, "hz": 20}))
    result = reconcile(redis, wish)
    assert result["changed"]
    assert result["rewritten"]
    assert redis.changes() == [("CONFIG", "SET", "hz", "20", "maxmemory", "1kb"), ("CONFIG", "REWRITE")]
    assert redis.file["maxmemory"] == "1kb"
    assert not reconcile(redis, wish)["changed"]


def test_check_mode_predicts_and_sets_nothing() -> None:
    redis = FakeRedis(memory={"maxmemory": "0"})
    wish = Wish(settings({"maxmemory": "1kb"}), acl_load=True)
    predicted = reconcile(redis, wish, check_mode=True)
    assert redis.changes() == []
    real = reconcile(redis, wish)
    assert {**real, "rewritten": False} == predicted


def test_check_mode_takes_a_silent_server_for_one_that_is_still_to_come() -> None:
    result = reconcile(FakeRedis(silent=9), Wish(settings({"hz": 20}, {"masterauth": CANARY})), check_mode=True)
    assert result["changed"]
    assert not result["reachable"]
    assert CANARY not in str(result)


def test_secrets_are_set_and_not_shown() -> None:
    redis = FakeRedis(memory={"masterauth": "old-" + CANARY})
    result = reconcile(redis, Wish(settings({}, {"masterauth": CANARY})))
    assert redis.memory["masterauth"] == CANARY
    assert CANARY not in str(result)


def test_a_refused_secret_is_not_in_the_error() -> None:
    redis = FakeRedis(memory={"masterauth": ""}, refused="masterauth")
    with pytest.raises(DedicatedError, match="setting masterauth was refused") as caught:
        reconcile(redis, Wish(settings({}, {"masterauth": CANARY})))
    assert CANARY not in caught.value.msg


def test_a_value_that_was_accepted_and_not_taken_is_an_error() -> None:
    with pytest.raises(DedicatedError, match="accepted hz and shows another value"):
        reconcile(FakeRedis(memory={"hz": "10"}, stubborn=True), Wish(settings({"hz": 20})))


def test_an_unknown_setting_is_refused_before_anything_is_set() -> None:
    redis = FakeRedis(memory={"hz": "10"})
    with pytest.raises(Refused):
        reconcile(redis, Wish(settings({"hz": 20, "hzz": 20})))
    assert redis.changes() == []


def test_a_server_that_starts_is_waited_for_and_one_that_does_not_is_reported() -> None:
    assert not reconcile(FakeRedis(memory={"hz": "10"}, silent=2, loading=2), Wish(settings({"hz": 10})))["changed"]
    with pytest.raises(DeadlineError, match="last seen: connection refused"):
        reconcile(FakeRedis(silent=99), Wish())


def test_acl_load() -> None:
    redis = FakeRedis()
    assert reconcile(redis, Wish(acl_load=True))["acl_loaded"]
    assert redis.changes() == [("ACL", "LOAD")]


# Sentinel


def sentinel() -> FakeRedis:
    return FakeRedis(
        "sentinel", {"resolve-hostnames": "no"}, master={"down-after-milliseconds": "30000", "quorum": "2"}
    )


def test_a_sentinels_own_settings_and_those_of_its_master() -> None:
    redis = sentinel()
    wish = Wish(settings({"resolve-hostnames": True}), "odoo", settings({"down-after-milliseconds": 5000, "quorum": 2}))
    result = reconcile(redis, wish)
    assert redis.changes() == [
        ("SENTINEL", "CONFIG", "SET", "resolve-hostnames", "yes"),
        ("SENTINEL", "SET", "odoo", "down-after-milliseconds", "5000"),
    ]
    assert result["before"] == {"resolve-hostnames": "no", "down-after-milliseconds": "30000"}
    assert not result["rewritten"]
    assert not reconcile(redis, wish)["changed"]


def test_secrets_of_a_master_cannot_be_read_and_are_set_as_asked() -> None:
    redis = sentinel()
    result = reconcile(redis, Wish(master="odoo", master_secrets=settings({}, {"auth-pass": CANARY})))
    assert result["changed"]
    assert redis.master["auth-pass"] == CANARY
    assert CANARY not in str(result)


def test_an_option_that_cannot_be_read_back_is_refused() -> None:
    with pytest.raises(Refused):
        reconcile(sentinel(), Wish(master="odoo", master_settings=settings({"auth-user": "x"})))


@pytest.mark.parametrize(("redis", "wish"), [(FakeRedis(), Wish(master="odoo")), (sentinel(), Wish())])
def test_a_server_of_the_other_kind_is_refused(redis: FakeRedis, wish: Wish) -> None:
    with pytest.raises(Refused) as caught:
        reconcile(redis, wish)
    assert caught.value.refusal.code == "wrong_kind"


# The way into the container

# Captured from redis-cli 8.0.2 --json, commands on standard input.
OUTPUT = """{"maxmemory":"0","save":"3600 1 300 100 60 10000"}
{}
"OK"
error:"ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"
{"masterauth":"a \\"x"}
["master",0,[]]
"""


def test_captured_output() -> None:
    answers = parse(OUTPUT)
    assert [answer.value for answer in answers] == [
        {"maxmemory": "0", "save": "3600 1 300 100 60 10000"},
        {},
        "OK",
        None,
        {"masterauth": 'a "x'},
        ["master", 0, []],
    ]
    assert answers[3].error == "ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"


def test_output_that_is_not_json_is_an_error() -> None:
    with pytest.raises(DedicatedError, match="line 2 is not JSON"):
        parse('"OK"\nwhat\n')


@dataclasses.dataclass
class FakeRunner:
    done: Completed
    docker: bool = True
    calls: list[tuple[t.Any, ...]] = dataclasses.field(default_factory=list)

    def find(self, program: str) -> str | None:
        return "/usr/bin/docker" if self.docker else None

    def run(
        self,
        argv: t.Sequence[str],
        env: t.Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> Completed:
        self.calls.append((tuple(argv), dict(env or {}), stdin))
        return self.done


TARGET = Target("redis", username="admin", password=CANARY)


def done(stdout: str = "", stderr: str = "", rc: int = 0) -> Completed:
    return Completed((), rc, stdout, stderr)


def test_no_secret_is_part_of_an_argument_list() -> None:
    runner = FakeRunner(done('"OK"\n"OK"\n'))
    DockerConnection(runner, TARGET).run([["CONFIG", "SET", "masterauth", CANARY], ["CONFIG", "REWRITE"]])
    argv, env, stdin = runner.calls[0]
    assert not any(CANARY in word for word in argv)
    assert env == {"REDISCLI_AUTH": CANARY}
    assert stdin == f'"CONFIG" "SET" "masterauth" "{CANARY}"\n"CONFIG" "REWRITE"\n'
    assert argv == tuple(build_argv(TARGET))
    assert argv[:5] == ("docker", "exec", "--interactive", "--env", "REDISCLI_AUTH")
    assert CANARY not in repr(TARGET)


def test_a_failed_login_is_an_error_although_the_client_goes_on() -> None:
    stderr = "AUTH failed: WRONGPASS invalid username-password pair or user is disabled.\n"
    with pytest.raises(DedicatedError, match="admin cannot log in on port 6379") as caught:
        DockerConnection(FakeRunner(done('"PONG"\n', stderr)), TARGET).run([["PING"]])
    assert not isinstance(caught.value, RedisUnreachable)


@pytest.mark.parametrize(
    ("runner", "said"),
    [
        (FakeRunner(done(stderr="Error response from daemon: No such container: redis", rc=1)), "No such container"),
        (FakeRunner(done(stderr="Could not connect to Redis at 127.0.0.1:1: Connection refused", rc=1)), "refused"),
        (FakeRunner(done()), "no output"),
        (FakeRunner(done(), docker=False), "docker is not installed"),
    ],
)
def test_nobody_there(runner: FakeRunner, said: str) -> None:
    with pytest.raises(RedisUnreachable, match=said):
        DockerConnection(runner, TARGET).run([["PING"]])

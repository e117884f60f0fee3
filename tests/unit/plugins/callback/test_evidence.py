# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run leaves: told step by step by a small stand-in for Ansible, and once by Ansible itself."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import subprocess
import sys
import types
import typing as t

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ansible_collections.dedicated.odoo.plugins.callback import evidence
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence import plan, service, signing

CANARY = "canary-9c1e"
COLLECTIONS = next(
    path for path in map(pathlib.Path, sys.path) if (path / "ansible_collections/dedicated/odoo").is_dir()
)


# Ansible, as small as it can be


class Screen:
    """Keeps what is shown."""

    verbosity = 0

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.lines: list[str] = []

    def error(self, msg: str, wrap_text: bool = True) -> None:
        self.errors.append(msg)

    def display(self, msg: str) -> None:
        self.lines.append(msg)


class Named(str):
    def get_name(self) -> str:
        return str(self)


class Site:
    """An inventory, one playbook run against it, and a callback that watches."""

    def __init__(self, root: pathlib.Path, variables: dict[str, dict[str, t.Any]], **options: t.Any) -> None:
        self.file = root / "acme" / "evidence.jsonl"
        self.screen = Screen()
        self.variables = variables
        self.sent: list[set[str]] = []
        self.answer: dict[str, str] = {}
        site = self

        class Watching(evidence.CallbackModule):
            def _send(self, unreachable: t.Collection[str]) -> dict[str, str]:
                site.sent.append(set(unreachable))
                return dict(site.answer)

        self.callback = Watching(display=self.screen)
        given = {"mode": "on", "directory": str(root), "operator": "ann", "keep_on_hosts": False}
        given |= {"signing_key": None, "signing_passphrase_file": None}
        self.callback._plugin_options = given | options
        self.callback.v2_playbook_on_start(types.SimpleNamespace(_file_name="/x/site.yml"))

    def play(self, name: str = "Play") -> None:
        hosts = [Named(host) for host in self.variables]
        inventory = types.SimpleNamespace(get_hosts=lambda **_limits: hosts)
        manager = types.SimpleNamespace(_inventory=inventory, get_vars=lambda play, host: self.variables[host])
        loader = DataLoader()
        self.callback.v2_playbook_on_play_start(
            types.SimpleNamespace(
                get_variable_manager=lambda: manager, get_loader=lambda: loader, get_name=lambda: name
            )
        )

    def task(self) -> None:
        self.callback.v2_playbook_on_task_start(None, False)

    def end(self, **hosts: dict[str, int]) -> None:
        none = dict.fromkeys(evidence.COUNTS, 0)
        totals = {host: none | count for host, count in (hosts or {"n1": {"ok": 1}}).items()}
        self.callback.v2_playbook_on_stats(types.SimpleNamespace(processed=totals, summarize=lambda host: totals[host]))

    def records(self) -> list[dict[str, t.Any]]:
        if not self.file.exists():
            return []
        text = self.file.read_text()
        assert plan.inspect(text).problems == ()
        return [json.loads(line) for line in text.splitlines()]

    def kinds(self) -> list[str]:
        return [one["kind"] for one in self.records()]


def result(
    task: str = "Task", action: str = "dedicated.odoo.some", host: str = "n1", no_log: bool = False, **data: t.Any
) -> t.Any:
    return types.SimpleNamespace(
        host=Named(host),
        task=types.SimpleNamespace(get_name=lambda: task, action=action, no_log=no_log),
        result=data,
        is_changed=lambda: bool(data.get("changed")),
    )


@pytest.fixture
def site(tmp_path: pathlib.Path) -> Site:
    return Site(
        tmp_path, {"n1": {"dedicated_cluster": "acme", "x_password": CANARY}, "n2": {"dedicated_cluster": "acme"}}
    )


def test_a_run_tells_who_what_and_how_it_ended(site: Site) -> None:
    site.play("One")
    site.callback.v2_runner_on_ok(result("Install", "ansible.builtin.apt", "n2", changed=True))
    site.callback.v2_runner_on_ok(result("Install", "ansible.builtin.apt", "n1", changed=True))
    site.callback.v2_runner_on_ok(result("Look", "ansible.builtin.stat", "n1"))
    site.play("Two")
    site.play("Two")
    site.end(n1={"ok": 2, "changed": 1}, n2={"ok": 1, "changed": 1})
    started, changed, ended = site.records()
    assert (started["kind"], started["operator"], started["playbook"]) == ("started", "ann", "site.yml")
    assert started["hosts"] == ["n1", "n2"]
    assert {"controller", "limit", "tags", "check", "ansible"} <= set(started)
    assert len(started["inventory"]["hash"]) == 64
    assert (
        started["collection"]["version"] == yaml.safe_load((evidence.COLLECTION / "galaxy.yml").read_text())["version"]
    )
    assert (changed["task"], changed["module"], changed["hosts"]) == ("Install", "ansible.builtin.apt", ["n1", "n2"])
    assert ended["result"] == "ok"
    assert [one["play"] for one in ended["plays"]] == ["One", "Two"]
    assert ended["hosts"]["n2"] == dict.fromkeys(evidence.COUNTS, 0) | {"ok": 1, "changed": 1}
    assert len({one["run"] for one in site.records()}) == 1


def test_a_run_that_is_cut_off_has_told_all_but_its_last_task(site: Site) -> None:
    site.play()
    site.callback.v2_runner_on_ok(result("First", changed=True))
    site.task()
    site.callback.v2_runner_on_ok(result("Second", changed=True))
    assert site.kinds() == ["started", "changed"]
    assert len(plan.inspect(site.file.read_text()).unfinished) == 1


def test_facts_are_taken_from_our_modules_alone_and_at_once(site: Site) -> None:
    facts = {"measured": {"seconds": 2.5}, "note": f"with {CANARY}", "db_password": CANARY}
    site.play()
    site.callback.v2_runner_on_ok(result("A", evidence=facts))
    site.callback.v2_runner_item_on_ok(result("B", evidence=facts))
    site.callback.v2_runner_on_failed(result("C", evidence=facts, code="too_slow"), ignore_errors=True)
    site.callback.v2_runner_on_ok(result("D", "other.collection.module", evidence=facts))
    site.callback.v2_runner_on_ok(result("E", no_log=True, evidence=facts))
    taken = site.records()[1:]
    assert [(one["kind"], one["task"]) for one in taken] == [("facts", "A"), ("facts", "B"), ("facts", "C")]
    assert taken[0]["facts"] == {"measured": {"seconds": 2.5}, "note": "with (secret)", "db_password": "(left out)"}
    assert CANARY not in site.file.read_text()


def test_facts_that_cannot_be_taken_leave_a_trace(site: Site) -> None:
    site.play()
    site.callback.v2_runner_on_ok(result("A", evidence={"a": ["x" * 1000] * 40}))
    assert site.records()[-1]["facts"] == {"refused": "too_large"}
    assert "too" in site.records()[-1]["facts"]["refused"]
    assert len(site.screen.errors) == 1


def test_of_failures_the_code_is_told_and_no_message(site: Site) -> None:
    refusal = {"code": "lag", "what": "n2 cannot lead", "why": f"9 MB behind {CANARY}", "do": "wait"}
    site.play()
    site.callback.v2_runner_on_failed(result("A", msg=CANARY, stderr=CANARY, code="lag", refusal=refusal))
    site.callback.v2_runner_on_failed(result("B", "ansible.builtin.command", msg=CANARY, code="x", refusal=refusal))
    site.callback.v2_runner_on_failed(result("C", no_log=True, msg=CANARY, code="lag", refusal=refusal))
    site.callback.v2_runner_on_failed(result("D"), ignore_errors=True)
    site.callback.v2_runner_on_unreachable(result("E", host="n2", msg=CANARY))
    a, b, c, e = site.records()[1:]
    assert (a["code"], a["what"], a["why"]) == ("lag", "n2 cannot lead", "9 MB behind (secret)")
    for one in (b, c, e):
        assert not {"code", "what", "why", "msg"} & set(one)
    assert (e["host"], e["unreachable"], c["unreachable"]) == ("n2", True, False)
    assert CANARY not in site.file.read_text()


@pytest.mark.parametrize(
    ("count", "ended"),
    [
        ({"ok": 3}, "ok"),
        ({"failures": 1}, "failed"),
        ({"unreachable": 1}, "unreachable"),
        ({"failures": 1, "unreachable": 1}, "failed"),
        ({"rescued": 1, "ignored": 1}, "ok"),
    ],
)
def test_the_result_of_a_run(site: Site, count: dict[str, int], ended: str) -> None:
    site.play()
    site.end(n1={"ok": 1}, n2=count)
    assert site.records()[-1]["result"] == ended


def test_two_playbooks_of_one_call_are_two_runs(site: Site) -> None:
    site.play()
    site.end(n1={"ok": 2, "failures": 1})
    site.callback.v2_playbook_on_start(types.SimpleNamespace(_file_name="/x/other.yml"))
    site.play()
    site.end(n1={"ok": 5, "failures": 1})
    records = site.records()
    assert [one["kind"] for one in records] == ["started", "ended"] * 2
    assert len({one["run"] for one in records}) == 2
    assert (records[3]["hosts"]["n1"]["ok"], records[3]["result"]) == (3, "ok")


# When nothing can be written


def test_a_record_that_cannot_be_written_is_said_at_once_and_at_the_end(site: Site, tmp_path: pathlib.Path) -> None:
    (tmp_path / "acme").write_text("in the way")
    site.play()
    assert len(site.screen.errors) == 1
    site.callback.v2_runner_on_ok(result("A", changed=True, evidence={"a": 1}))
    site.end()
    assert len(site.screen.errors) == 2
    assert all("EVIDENCE" in line and "acme" in line for line in site.screen.errors)
    assert site.screen.lines == []


def test_required_ends_the_run_before_its_first_task(tmp_path: pathlib.Path) -> None:
    (tmp_path / "acme").write_text("in the way")
    site = Site(tmp_path, {"n1": {"dedicated_cluster": "acme"}}, mode="required")
    with pytest.raises(SystemExit) as caught:
        site.play()
    assert caught.value.code == evidence.NOT_RECORDED


def test_a_failure_in_the_middle_leaves_a_run_without_an_end(site: Site) -> None:
    site.play()
    site.file.chmod(0o600)
    site.file.rename(site.file.with_suffix(".aside"))
    site.file.mkdir()
    site.callback.v2_runner_on_ok(result("A", evidence={"a": 1}))
    site.file.rmdir()
    site.file.with_suffix(".aside").rename(site.file)
    site.callback.v2_runner_on_ok(result("B", evidence={"a": 1}))
    site.end()
    # A record with a hole that looks complete would be worse than one that shows it.
    assert site.kinds() == ["started"]
    assert len(site.screen.errors) == 2


def test_a_tampered_record_is_not_continued(site: Site) -> None:
    site.play()
    site.end()
    site.file.write_text(site.file.read_text().replace("ann", "bob"))
    before = site.file.read_text()
    site.callback.v2_playbook_on_start(types.SimpleNamespace(_file_name="/x/site.yml"))
    site.play()
    site.end()
    assert site.file.read_text() == before
    assert "verify_evidence" in site.screen.errors[0]


@pytest.mark.parametrize(
    ("variables", "mode", "errors"),
    [
        ({"n1": {}}, "on", 0),
        ({}, "on", 0),
        ({"n1": {"dedicated_cluster": "acme"}}, "off", 0),
        ({"n1": {"dedicated_cluster": "acme"}, "n2": {"dedicated_cluster": "other"}}, "on", 2),
        ({"n1": {"dedicated_cluster": "../acme"}}, "on", 2),
    ],
)
def test_what_is_not_one_cluster_of_ours_is_not_recorded(
    tmp_path: pathlib.Path, variables: dict[str, t.Any], mode: str, errors: int
) -> None:
    site = Site(tmp_path, variables, mode=mode)
    site.play()
    site.callback.v2_runner_on_ok(result("A", changed=True, evidence={"a": 1}))
    site.end()
    assert list(tmp_path.rglob("*.jsonl")) == []
    assert len(site.screen.errors) == errors


@pytest.mark.parametrize("playbook", evidence.NO_OPERATIONS, ids=lambda path: path.name)
def test_looking_at_the_record_does_not_add_to_it(site: Site, playbook: pathlib.Path) -> None:
    assert playbook.is_file()
    site.callback.v2_playbook_on_start(types.SimpleNamespace(_file_name=str(playbook)))
    site.play()
    site.end()
    assert site.records() == []


# Signatures


def private_key(place: pathlib.Path, passphrase: bytes | None = None) -> tuple[pathlib.Path, str]:
    """A key as openssl makes it, and its public half."""
    private = Ed25519PrivateKey.generate()
    secret = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    path = place / "signing.pem"
    path.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    path.chmod(0o600)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return path, public.decode()


@pytest.mark.parametrize("passphrase", [None, b"opens it"])
def test_every_record_of_a_run_is_signed(tmp_path: pathlib.Path, passphrase: bytes | None) -> None:
    key, public = private_key(tmp_path, passphrase)
    (tmp_path / "passphrase").write_text("opens it\n")
    (tmp_path / "passphrase").chmod(0o400)
    given = {"signing_passphrase_file": str(tmp_path / "passphrase")} if passphrase else {}
    site = Site(tmp_path, {"n1": {"dedicated_cluster": "acme"}}, signing_key=str(key), **given)
    site.play()
    site.callback.v2_runner_on_ok(result("A", changed=True, evidence={"a": 1}))
    site.end()
    marks = plan.inspect(site.file.read_text()).marks
    assert site.kinds() == ["started", "facts", "changed", "ended"]
    assert {mark.key for mark in marks} != {""}
    assert plan.why_not_signed(marks, require=True) == ()
    assert plan.why_not_authentic(marks, signing.checker([public])) == ()
    assert key.read_text().splitlines()[1] not in site.file.read_text() + "".join(site.screen.lines)


@pytest.mark.parametrize("mode", ["on", "required"])
def test_a_key_that_others_can_read_records_nothing(tmp_path: pathlib.Path, mode: str) -> None:
    key, __ = private_key(tmp_path)
    key.chmod(0o640)
    site = Site(tmp_path, {"n1": {"dedicated_cluster": "acme"}}, signing_key=str(key), mode=mode)
    if mode == "required":
        with pytest.raises(SystemExit):
            site.play()
    else:
        site.play()
    assert "signing_key_mode" in site.screen.errors[0]
    assert site.records() == []


def test_a_signed_chain_takes_no_run_without_a_key(tmp_path: pathlib.Path) -> None:
    key, __ = private_key(tmp_path)
    for signing_key, errors in ((str(key), 0), (None, 2), (str(key), 0)):
        site = Site(tmp_path, {"n1": {"dedicated_cluster": "acme"}}, signing_key=signing_key)
        before = len(site.records())
        site.play()
        site.end()
        assert (len(site.screen.errors), len(site.records()) - before) == (errors, 0 if errors else 2)
        assert all("signing_key_missing" in one for one in site.screen.errors)


# The hosts' copies


def test_hosts_that_answered_get_the_record_and_the_others_are_named(tmp_path: pathlib.Path) -> None:
    variables = {"n1": {"dedicated_cluster": "acme"}, "n2": {"dedicated_cluster": "acme"}}
    site = Site(tmp_path, variables, keep_on_hosts=True)
    site.answer = {"n1": "chain_fork"}
    site.play()
    site.callback.v2_runner_on_unreachable(result("A", host="n2"))
    site.end(n1={"ok": 1}, n2={"unreachable": 1})
    assert site.sent == [{"n2"}]
    assert [("n1" in line, "n2" in line) for line in site.screen.errors] == [(True, False), (False, True)]
    assert "chain_fork" in site.screen.errors[0]
    head = site.records()[-1]["hash"]
    assert head in site.screen.lines[0]
    assert "keep_evidence" in site.screen.lines[1]


def test_what_goes_wrong_with_the_hosts_does_not_hurt_the_run(tmp_path: pathlib.Path) -> None:
    site = Site(tmp_path, {"n1": {"dedicated_cluster": "acme"}}, keep_on_hosts=True, mode="required")

    class Odd(dict[str, str]):
        def __iter__(self) -> t.Iterator[str]:
            raise RuntimeError("odd")

        keys = __iter__  # type: ignore[assignment]

    site.answer = Odd()
    site.play()
    site.end()
    assert site.kinds() == ["started", "ended"]
    assert "odd" in site.screen.errors[0]


# Ansible itself

PLAYBOOK = """
- name: Changes
  hosts: all
  gather_facts: false
  tasks:
    - name: A command with {{ odoo_admin_password }}
      ansible.builtin.command: echo {{ odoo_admin_password }} {{ vaulted_word }}
    - name: A file and its difference
      ansible.builtin.copy:
        content: "pw={{ odoo_admin_password }} {{ vaulted_word }}"
        dest: "{{ scratch }}/{{ inventory_hostname }}.conf"
        mode: "0600"
    - name: Hidden
      ansible.builtin.command: echo {{ plain_word }}
      no_log: true
    - name: Variables
      ansible.builtin.set_fact:
        copied: "{{ plain_word }}"
    - name: Ours, hidden
      dedicated.odoo.evidence_record:
        facts: {word: "{{ plain_word }}"}
      no_log: true
      run_once: true
    - name: Ours
      dedicated.odoo.evidence_record:
        facts:
          planned: {leader: n2}
          measured: {seconds: 2.5}
          text: "{{ odoo_admin_password }} and {{ vault_secret }}"
          password: "{{ plain_word }}"
      run_once: true
    - name: Ours in a loop
      dedicated.odoo.evidence_record:
        facts: {step: "{{ item }}"}
      loop: [1, 2]
      run_once: true
- name: Fails
  hosts: n2
  gather_facts: false
  tasks:
    - name: Ignored
      ansible.builtin.fail: {msg: "{{ plain_word }}"}
      ignore_errors: true
    - name: Fails
      ansible.builtin.command: sh -c "echo {{ plain_word }} >&2; exit 3"
"""


class Real:
    """One run of ansible-playbook over two hosts that are this machine."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        vault = VaultLib([("default", VaultSecret(b"opens"))])
        (root / "vault").write_text("opens\n")
        group = root / "group_vars" / "all"
        group.mkdir(parents=True)
        (group / "secrets.yml").write_bytes(vault.encrypt(yaml.safe_dump({"vault_secret": f"{CANARY}-vaulted-file"})))
        word = vault.encrypt(f"{CANARY}-vaulted-word").decode().replace("\n", "\n  ")
        (group / "words.yml").write_text(f"vaulted_word: !vault |\n  {word}\n")
        shared = {
            "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False,
            "dedicated_cluster": "acme", "scratch": str(root), "odoo_admin_password": f"{CANARY}-plain-password",
            "plain_word": f"{CANARY}-word", "__evidence_directory": str(root / "kept-{{ inventory_hostname }}"),
            "__evidence_cluster_file": str(root / "cluster"),
        }  # fmt: skip
        (root / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": shared, "hosts": {"n1": {}, "n2": {}}}}))
        (root / "cluster").write_text("acme\n")
        (root / "play.yml").write_text(PLAYBOOK)
        self.key, self.public = private_key(root)
        (root / "ansible.cfg").write_text("[defaults]\ncallbacks_enabled = dedicated.odoo.evidence\n")
        self.done = self("play.yml", "--diff", "-e", f"more={CANARY}-extra")
        self.text = (root / "state" / "acme" / "evidence.jsonl").read_text()
        self.records = [json.loads(line) for line in self.text.splitlines()]

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE", "DEDICATED"))},
            "ANSIBLE_CONFIG": str(self.root / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_HOME": str(self.root / "home"), "DEDICATED_EVIDENCE_DIR": str(self.root / "state"),
            "DEDICATED_EVIDENCE_SIGNING_KEY": str(self.key), "DEDICATED_OPERATOR": "ann", "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        base = [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.yml", "--vault-password-file", "vault"]
        return subprocess.run(
            [*base, *arguments],
            cwd=self.root,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    return Real(tmp_path_factory.mktemp("real"))


def test_ansible_leaves_a_whole_record(real: Real) -> None:
    assert real.done.returncode == 2, real.done.stderr
    verdict = plan.inspect(real.text)
    assert (verdict.problems, verdict.unfinished, verdict.runs) == ((), (), 1)
    assert [one["kind"] for one in real.records] == [
        "started", "changed", "changed", "changed", "facts", "facts", "facts", "failed", "ended",
    ]  # fmt: skip
    assert [one["hosts"] for one in real.records if one["kind"] == "changed"] == [["n1", "n2"]] * 3
    failed, ended = real.records[-2:]
    assert (failed["task"], failed["host"], failed["module"]) == ("Fails", "n2", "ansible.builtin.command")
    assert ended["result"] == "failed"
    assert [real.records[0][name] for name in ("operator", "playbook", "check")] == ["ann", "play.yml", False]


def test_ansible_shows_secrets_on_the_screen_and_none_of_them_is_recorded(real: Real) -> None:
    # That the run did handle them is what makes the second line worth something.
    assert real.done.stdout.count(CANARY) >= 5
    assert CANARY not in real.text
    first = next(one for one in real.records if one["kind"] == "facts")
    assert first["facts"] == {
        "planned": {"leader": "n2"}, "measured": {"seconds": 2.5},
        "text": "(secret) and (secret)", "password": "(left out)",
    }  # fmt: skip
    assert not {"msg", "stdout", "stderr", "invocation", "diff", "rc"} & set(itertools.chain(*real.records))


def test_a_run_that_failed_is_kept_on_every_host_to_its_end(real: Real) -> None:
    chain = real.records[0]["chain"]
    for host in ("n1", "n2"):
        assert (real.root / f"kept-{host}" / f"{chain}.jsonl").read_text() == real.text, real.done.stderr


def test_the_playbook_finds_what_was_taken_off_the_end(real: Real) -> None:
    own = pathlib.Path(service.controller_path(str(real.root / "state"), "acme"))
    assert own.read_text() == real.text
    shorter = "".join(real.text.splitlines(keepends=True)[:-1])
    own.write_text(shorter)
    try:
        done = real(str(evidence.KEEP.with_name("verify_evidence.yml")))
        assert own.read_text() == shorter
    finally:
        own.write_text(real.text)
    assert done.returncode == 2
    assert "truncated" in done.stdout
    # The hosts' copies are found, and found whole.
    assert done.stdout.count(": whole, chain") == 2


def forge(real: Real) -> str:
    """The same history with another operator, whole by itself: what somebody without the key can write everywhere."""
    lines: list[str] = []
    head = None
    for record in real.records:
        told = {name: value for name, value in record.items() if name not in (*plan.OUTSIDE, "chain", "seq", "prev")}
        body = {**told, **({"operator": "eve"} if record["kind"] == plan.STARTED else {})}
        line, head = plan.seal(body, head, record["chain"])
        lines.append(line)
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(
    ("forged", "demanded", "words"),
    [(False, True, "signed with"), (True, True, "unsigned: no record is signed"), (True, False, "unsigned")],
)
def test_the_playbook_finds_what_was_forged_everywhere(real: Real, forged: bool, demanded: bool, words: str) -> None:
    own = pathlib.Path(service.controller_path(str(real.root / "state"), "acme"))
    copies = [own, *(real.root / f"kept-{host}" / f"{real.records[0]['chain']}.jsonl" for host in ("n1", "n2"))]
    kept = [copy.read_text() for copy in copies]
    given = {"evidence_public_keys": [real.public], "evidence_require_signature": demanded}
    try:
        for copy in copies if forged else ():
            copy.write_text(forge(real))
        done = real(str(evidence.KEEP.with_name("verify_evidence.yml")), "-e", json.dumps(given))
    finally:
        for copy, text in zip(copies, kept, strict=True):
            copy.write_text(text)
    assert done.returncode == (2 if forged and demanded else 0), done.stdout + done.stderr
    # On the controller and on both hosts.
    assert done.stdout.count(words) >= 3
    assert "not checked" not in done.stdout
    assert real.key.read_text().splitlines()[1] not in done.stdout + done.stderr + real.text

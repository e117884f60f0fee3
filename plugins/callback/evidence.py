# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every run leaves records in a chain on the controller, and at its end on the hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: evidence
type: aggregate
short_description: Records every run in a chain of hashes, on the controller and on the hosts
version_added: "0.1.0"
author: dedicated.odoo contributors (@dedicated-odoo)
description:
  - Writes for every run of a playbook against a cluster of ours (variable C(dedicated_cluster)) who ran what, when,
    from which commit and inventory, which tasks changed which hosts, what failed, what operations planned and measured,
    and how it ended.
  - Each record carries the hash of the one before it, so that M(dedicated.odoo.verify_evidence) finds whatever was
    edited, taken out or moved. At the end of the run every host that answers gets what it lacks, so that losing the
    controller does not lose the record.
  - Of tasks only names, modules and hosts are recorded, never arguments, results or differences. Modules of this
    collection may return a mapping under the key C(evidence), which is recorded unless the task has C(no_log); of their
    failures the C(code) and, of a refusal, what was refused and why.
  - Values under names like C(password) are left out, and values of variables with such names are masked wherever they
    would show.
  - A run that is cut off leaves a record of its start without one of its end.
  - With O(signing_key) every record is signed on the controller, so that whoever can write all copies still cannot
    write another history. A chain that was signed takes no unsigned records.
  - Not recorded are the playbooks C(keep_evidence), C(verify_evidence), C(status) and C(ready), and runs against an
    inventory without C(dedicated_cluster).
requirements:
  - enable in configuration, see the example
  - cryptography on the controller, for O(signing_key)
options:
  mode:
    description:
      - V(on) records, and says loudly when it cannot.
      - V(required) also ends the run with exit code 4 when it cannot, before the first task if it shows by then.
      - V(off) records nothing.
    type: str
    choices: ["on", required, "off"]
    default: "on"
    env:
      - name: DEDICATED_EVIDENCE
    ini:
      - section: callback_evidence
        key: mode
  directory:
    description: Where the record lies on the controller, in a directory for each cluster.
    type: path
    default: ~/.local/state/dedicated-odoo
    env:
      - name: DEDICATED_EVIDENCE_DIR
    ini:
      - section: callback_evidence
        key: directory
  operator:
    description: Who operates. Without it the login name.
    type: str
    default: ""
    env:
      - name: DEDICATED_OPERATOR
    ini:
      - section: callback_evidence
        key: operator
  keep_on_hosts:
    description: Whether the hosts get the record when the run ends. Not in check mode.
    type: bool
    default: true
    env:
      - name: DEDICATED_EVIDENCE_KEEP
    ini:
      - section: callback_evidence
        key: keep_on_hosts
  signing_key:
    description:
      - File on the controller with a private Ed25519 key (PEM, PKCS#8), with mode 0600 or 0400. Without it records are
        not signed.
      - It never leaves the controller. Other modes, other kinds of keys and a missing passphrase count as a record that
        cannot be written, see O(mode).
    type: path
    env:
      - name: DEDICATED_EVIDENCE_SIGNING_KEY
    ini:
      - section: callback_evidence
        key: signing_key
  signing_passphrase_file:
    description: File on the controller with the passphrase of O(signing_key), when that is encrypted. Same modes.
    type: path
    env:
      - name: DEDICATED_EVIDENCE_SIGNING_PASSPHRASE_FILE
    ini:
      - section: callback_evidence
        key: signing_passphrase_file
"""

EXAMPLES = r"""
example: >
  In ansible.cfg:
    [defaults]
    callbacks_enabled = dedicated.odoo.evidence
"""

import datetime
import getpass
import os
import pathlib
import signal
import socket
import time
import typing as t
import uuid

from ansible import context
from ansible.playbook import Playbook
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as ansible_version
from ansible.template import Templar

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError, Refuse
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import SubprocessRunner
from ansible_collections.dedicated.odoo.plugins.module_utils._evidence import io, plan, service, signing

OURS = "dedicated.odoo."
COLLECTION = pathlib.Path(__file__).parents[2]
KEEP = COLLECTION / "playbooks" / "keep_evidence.yml"
# Whoever only looks, or sends the record, does not add to it.
NO_OPERATIONS = (KEEP, KEEP.with_name("verify_evidence.yml"), KEEP.with_name("status.yml"), KEEP.with_name("ready.yml"))
NOT_RECORDED = 4
# Ansible's own variables, which hold all others once more.
MAGIC = ("hostvars", "vars", "groups")
COUNTS = ("ok", "changed", "unreachable", "failures", "skipped", "rescued", "ignored")


def utc(seconds: float) -> str:
    """A time as records have it."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Collected(CallbackBase):
    """Of the run that sends the record: which hosts did not take it, and why."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "dedicated.odoo.evidence_collected"

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, str] = {}
        # ansible-core 2.21 calls only what it has listed; before, there was no list.
        getattr(self, "_init_callback_methods", lambda: None)()

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        self.refused[result.host.get_name()] = str(result.result.get("msg", "failed"))

    def v2_runner_on_unreachable(self, result: t.Any) -> None:
        self.refused[result.host.get_name()] = "gives no answer"


class Run:
    """One run: the chain that it is written into, and what its end will tell."""

    def __init__(self, chain: service.Chain, secrets: t.Sequence[str], run: str, clock: t.Callable[[], float]) -> None:
        self._chain = chain
        self._secrets = secrets
        self._id = run
        self._clock = clock
        self._began = clock()
        self._plays: list[tuple[str, float]] = []
        self._changed: dict[tuple[str, str], list[str]] = {}
        self.head: plan.Head | None = None

    def write(self, kind: str, **fields: t.Any) -> None:
        """Raises DedicatedError."""
        self.head = self._chain.add(plan.body(kind, self._id, utc(self._clock()), fields, self._secrets))

    def play(self, name: str) -> None:
        self.flush()
        if not self._plays or self._plays[-1][0] != name:  # a play in turns starts once for each turn
            self._plays.append((name, self._clock()))

    def changed(self, task: str, module: str, host: str) -> None:
        self._changed.setdefault((task, module), []).append(host)

    def flush(self) -> None:
        """Write what changed since the last time: a run that is cut off has told all but its last task."""
        changed, self._changed = self._changed, {}
        for (task, module), hosts in changed.items():
            self.write(plan.CHANGED, task=task, module=module, hosts=sorted(set(hosts)))

    def end(self, hosts: t.Mapping[str, t.Mapping[str, int]]) -> None:
        self.flush()
        now = self._clock()
        ends = [began for __, began in self._plays[1:]] + [now]
        bad = {name for count in hosts.values() for name in ("failures", "unreachable") if count[name]}
        self.write(
            plan.ENDED,
            result="failed" if "failures" in bad else "unreachable" if bad else "ok",
            seconds=round(now - self._began, 3),
            plays=[
                {"play": name, "seconds": round(end - began, 3)}
                for (name, began), end in zip(self._plays, ends, strict=True)
            ],
            hosts=hosts,
        )


class CallbackModule(CallbackBase):
    """Entry point. Whatever goes wrong here is said, and never hidden in a warning among others."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "dedicated.odoo.evidence"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self._playbook = ""
        self._play: t.Any = None
        self._passwords: dict[str, t.Any] = {}
        self._run: Run | None = None
        self._counted: dict[str, dict[str, int]] = {}
        self._silent: set[str] = set()
        self._lost = ""

    # What Ansible tells

    def set_play_context(self, play_context: t.Any) -> None:
        self._passwords = {"conn_pass": play_context.password, "become_pass": play_context.become_pass}

    def v2_playbook_on_start(self, playbook: t.Any) -> None:
        self._playbook = str(playbook._file_name)
        self._play = self._run = None
        self._silent = set()
        self._lost = ""

    def v2_playbook_on_play_start(self, play: t.Any) -> None:
        first, self._play = self._play is None, play
        no_operation = any(os.path.realpath(self._playbook) == os.path.realpath(one) for one in NO_OPERATIONS)
        if first and self.get_option("mode") != "off" and not no_operation:
            self._guarded(lambda: self._begin(play))
        self._recorded(lambda run: run.play(play.get_name()))

    def v2_playbook_on_task_start(self, task: t.Any, is_conditional: bool) -> None:
        self._recorded(lambda run: run.flush())

    def v2_playbook_on_handler_task_start(self, task: t.Any) -> None:
        self._recorded(lambda run: run.flush())

    def v2_runner_on_ok(self, result: t.Any) -> None:
        if result.is_changed():
            name = result.host.get_name()
            self._recorded(lambda run: run.changed(result.task.get_name(), str(result.task.action), name))
        self._take(result)

    def v2_runner_item_on_ok(self, result: t.Any) -> None:
        self._take(result)

    def v2_runner_item_on_failed(self, result: t.Any) -> None:
        self._take(result)

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            told = plan.reason_of(result.result) if self._ours(result) else {}
            self._failed(result, unreachable=False, **told)
        self._take(result)

    def v2_runner_on_unreachable(self, result: t.Any) -> None:
        self._silent.add(result.host.get_name())
        self._failed(result, unreachable=True)

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        totals = {host: {name: int(n) for name, n in stats.summarize(host).items()} for host in sorted(stats.processed)}
        # Ansible counts on when one call runs several playbooks.
        hosts = {
            host: {name: count.get(name, 0) - self._counted.get(host, {}).get(name, 0) for name in COUNTS}
            for host, count in totals.items()
        }
        self._counted = totals
        self._recorded(lambda run: run.end(hosts))
        if self._run and not self._lost and self._run.head:
            head = self._run.head
            self._display.display(f"Evidence: record {head.seq} of chain {head.chain}, head {head.hash}")
            if self.get_option("keep_on_hosts") and not context.CLIARGS.get("check"):
                self._keep(self._silent)
        if self._lost:
            self._shout(f"This run is not recorded, or not to its end: {self._lost}")
            self._stop()

    # What becomes of it

    def _recorded(self, act: t.Callable[[Run], object]) -> None:
        run = self._run
        if run and not self._lost:
            self._guarded(lambda: act(run))

    def _guarded(self, act: t.Callable[[], object]) -> None:
        """Ansible would turn an exception into one warning more. After the first one nothing is written any more."""
        try:
            act()
        except Exception as exc:
            self._lost = _why(exc)
            self._shout(f"This run cannot be recorded: {self._lost}")
            self._stop()

    def _stop(self) -> None:
        if self.get_option("mode") == "required":
            self._shout("The run ends here, as DEDICATED_EVIDENCE is 'required'. Mend that, or set it to 'on'.")
            raise SystemExit(NOT_RECORDED)

    def _shout(self, text: str) -> None:
        self._display.error(f"EVIDENCE: {text}", wrap_text=False)

    @staticmethod
    def _ours(result: t.Any) -> bool:
        return str(result.task.action).startswith(OURS) and result.task.no_log is not True

    def _take(self, result: t.Any) -> None:
        """Facts that a module of ours returned on purpose."""
        if not self._ours(result) or "evidence" not in result.result:
            return
        facts = plan.facts(result.result["evidence"])
        if isinstance(facts, Refuse):
            # What is missing must show in the record too.
            self._shout(f"{result.task.get_name()}: {facts.message}")
            facts = {"refused": facts.code}
        self._recorded(
            lambda run: run.write(
                plan.FACTS,
                host=result.host.get_name(),
                task=result.task.get_name(),
                module=str(result.task.action),
                facts=facts,
            )
        )

    def _failed(self, result: t.Any, **told: t.Any) -> None:
        where = {"host": result.host.get_name(), "task": result.task.get_name(), "module": str(result.task.action)}
        self._recorded(lambda run: run.write(plan.FAILED, **where, **told))

    def _begin(self, play: t.Any) -> None:
        """Find out which cluster this is about, and write the first record. Raises DedicatedError."""
        manager = play.get_variable_manager()
        inventory = manager._inventory
        hosts = inventory.get_hosts(ignore_limits=True, ignore_restrictions=True)
        variables = [manager.get_vars(play=play, host=host) for host in hosts]
        names = {
            str(Templar(loader=play.get_loader(), variables=one).template(one["dedicated_cluster"]))
            for one in variables
            if "dedicated_cluster" in one
        }
        why = plan.why_not_cluster(names)
        if why:
            if names or self.get_option("mode") == "required":
                raise DedicatedError(why)
            return  # no cluster of ours
        path = service.controller_path(str(self.get_option("directory")), names.pop())
        chain = service.Chain(io.FileStore(path), uuid.uuid4().hex, path, self._signer())
        chain.check()
        given = [*self._passwords.items(), *(pair for one in variables for pair in one.items() if pair[0] not in MAGIC)]
        secrets = plan.known_secrets(given, _plain)
        self._run = Run(chain, secrets, uuid.uuid4().hex, time.time)
        limited = [host.get_name() for host in inventory.get_hosts(ignore_restrictions=True)]
        self._run.write(plan.STARTED, **self._origin(), hosts=sorted(limited))

    def _signer(self) -> plan.Signer | None:
        """Raises DedicatedError: with a key that does not work nothing is recorded, rather than unsigned."""
        path = self.get_option("signing_key")
        return signing.load(str(path), str(self.get_option("signing_passphrase_file") or "")) if path else None

    def _origin(self) -> dict[str, t.Any]:
        """Who, where, what, from which state of the sources."""
        given = context.CLIARGS
        sources = [str(one) for one in given.get("inventory") or ()]
        first = sources[0] if sources else "."
        runner = SubprocessRunner()
        return {
            "operator": str(self.get_option("operator")) or _login(),
            "controller": socket.gethostname(),
            "playbook": os.path.basename(self._playbook),
            "limit": str(given.get("subset") or ""),
            "tags": sorted(str(one) for one in given.get("tags") or ()),
            "skip_tags": sorted(str(one) for one in given.get("skip_tags") or ()),
            "start_at_task": str(given.get("start_at_task") or ""),
            "check": bool(given.get("check")),
            "inventory": {
                "hash": plan.inventory_hash(io.inventory_files(sources)),
                "git": io.commit(runner, first if os.path.isdir(first) else os.path.dirname(first) or "."),
            },
            "collection": {"version": _version(), "git": io.commit(runner, str(COLLECTION), own=True)},
            "ansible": ansible_version,
        }

    # The hosts' copies

    def _keep(self, unreachable: t.Collection[str]) -> None:
        """Run playbooks/keep_evidence.yml with the connections, passwords and variables of this run."""
        try:
            refused = self._send(unreachable)
        except Exception as exc:
            refused = {"all hosts": f"{type(exc).__name__}: {exc}"}
        refused.update(dict.fromkeys(unreachable, "gave no answer in this run"))
        for host, why in sorted(refused.items()):
            self._shout(f"the record is not kept on {host}: {why}")
        if refused:
            self._display.display(
                "The record is whole on this controller. The next run sends the rest, or: "
                "ansible-playbook dedicated.odoo.keep_evidence"
            )

    def _send(self, unreachable: t.Collection[str]) -> dict[str, str]:
        # Here, as it imports what loads callbacks.
        from ansible.executor.task_queue_manager import TaskQueueManager

        manager, loader = self._play.get_variable_manager(), self._play.get_loader()
        inventory = manager._inventory
        inventory.remove_restriction()
        hosts = [host for host in inventory.get_hosts() if host.get_name() not in unreachable]
        if not hosts:
            return {}
        inventory.restrict_to_hosts(hosts)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        collected = Collected()
        queue = TaskQueueManager(
            inventory=inventory,
            variable_manager=manager,
            loader=loader,
            passwords=self._passwords,
            run_additional_callbacks=False,
            forks=context.CLIARGS.get("forks"),
        )
        queue._callback_plugins = [collected]
        queue._start_at_done = True
        try:
            for play in Playbook.load(str(KEEP), variable_manager=manager, loader=loader).get_plays():
                queue.run(play)
        finally:
            queue.cleanup()
            inventory.remove_restriction()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return collected.refused


def _plain(value: t.Any) -> t.Any:
    """A variable's value as it stands; what is vaulted is opened, what is a template is not evaluated."""
    if type(value).__name__ == "EncryptedString":
        try:
            return str(value)
        except Exception:
            return None
    return value


def _why(exc: Exception) -> str:
    """In one line, with the stable code where there is one."""
    if not isinstance(exc, DedicatedError):
        return f"{type(exc).__name__}: {exc}"
    return f"{exc.details['code']}: {exc.msg}" if "code" in exc.details else exc.msg


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _version() -> str:
    """From the archive's manifest, or from the checkout."""
    for name, marker in (("MANIFEST.json", '"version": "'), ("galaxy.yml", "version: ")):
        try:
            text = (COLLECTION / name).read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.strip().startswith(marker):
                return line.strip()[len(marker) :].strip('",')
    return ""

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the repository comes back: to a moment between two commits, into a quarantine, with the same books."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sys
import tarfile
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret
from labtools import Host, Lab, run, unique, wait_until

# Appended: that folder has a conftest of its own.
sys.path.append(str(Path(__file__).resolve().parents[1] / "ha"))

from operating import archive, begin, now, operate, refusals, slay


@dataclasses.dataclass(frozen=True)
class Marker:
    """Two committed rows, and where between them the site was."""

    moment: str
    lsn: str
    name: str
    xid: str


@pytest.fixture(scope="module")
def marker(lab: Lab) -> Marker:
    leader, database = lab.leader(), lab.database
    name = unique("between").lower().replace(" ", "-")
    leader.sql("CREATE TABLE IF NOT EXISTS dedicated_marker (word text)", database)
    leader.sql("TRUNCATE dedicated_marker", database)
    leader.sql("INSERT INTO dedicated_marker VALUES ('first')", database)
    lsn = leader.sql("SELECT pg_current_wal_lsn()")[0][0]
    moment = now(leader)
    leader.sql(f"SELECT pg_create_restore_point('{name}')")
    second = "INSERT INTO dedicated_marker VALUES ('second') RETURNING pg_current_xact_id()"
    xid = leader.sql(second, database)[0][0]
    archive(leader)
    return Marker(moment, lsn, name, xid)


def place(lab: Lab) -> Host:
    return lab.of("postgres")[-1]


def rows(lab: Lab, name: str, query: str) -> list[str]:
    argv = ["psql", "-h", "/run/postgresql", "-U", "postgres", "-d", lab.database, "-XAtc", query]
    return place(lab).inside(f"restore-{name}", argv).stdout.split()


def left(lab: Lab) -> list[str]:
    """What there is of places on any host: containers and directories."""
    found = []
    for host in lab.of("postgres"):
        found += host.out("docker ps --all --filter label=dedicated.restore --format '{{.Names}}'").split()
        found += host.out("ls /var/lib/dedicated/restore 2>/dev/null || true").split()
    return found


def refused(output: str, code: str) -> None:
    assert code in refusals(output), output[-3000:]


@pytest.fixture
def clean(lab: Lab) -> t.Iterator[None]:
    yield
    for name in set(left(lab)):
        if not name.startswith("restore-"):
            operate(lab, "restore_aside", "-e", f"place={name}", "-e", "state=absent", "-e", "reason=test")
    assert not left(lab)


def made_from(lab: Lab, name: str) -> dict[str, bytes]:
    """What lies sealed beside the data of a place, opened with the password of the inventory."""
    [directory] = rows(lab, name, "SHOW data_directory")
    sealed = place(lab).inside(f"restore-{name}", ["cat", f"{directory}/dedicated/site.vault"]).stdout
    assert not [one for one in lab.secrets.values() if len(one) > 5 and one in sealed]
    vault = VaultLib([("default", VaultSecret((lab.build / "vault-password").read_bytes().strip()))])
    with tarfile.open(fileobj=io.BytesIO(vault.decrypt(sealed.encode()))) as tar:
        return {one.name: t.cast("t.IO[bytes]", tar.extractfile(one)).read() for one in tar}


def dynamic(lab: Lab) -> dict[str, t.Any]:
    """The cluster's settings in etcd."""
    argv = ["timeout", "20", "patronictl", "-c", "/etc/patroni/patroni.yml", "show-config"]
    return dict(yaml.safe_load(lab.leader().inside("postgres", argv).stdout))


@pytest.mark.parametrize("kind", ["time", "lsn", "xid"])
def test_a_moment_between_two_commits(lab: Lab, marker: Marker, clean: None, kind: str) -> None:
    """The first is there, the second not; and the site has both as before."""
    # Just before the second's own transaction, or at the last moment without it.
    target = {"time": marker.moment, "lsn": marker.lsn, "xid": marker.xid}[kind]
    words = {"place": f"marker-{kind}", "target_type": kind, "target": target, "exclusive": kind == "xid"}
    operate(lab, "restore_aside", "-e", json.dumps(words), "-e", "reason=test")
    assert rows(lab, f"marker-{kind}", "SELECT word FROM dedicated_marker") == ["first"]
    assert lab.leader().sql("SELECT word FROM dedicated_marker", lab.database) == [["first"], ["second"]]
    inspected = json.loads(place(lab).out(["docker", "inspect", f"restore-marker-{kind}"]))[0]
    assert inspected["HostConfig"]["NetworkMode"] == "none"
    assert not [one for one in inspected["Mounts"] if one["Destination"] == "/etc/pgbackrest"]
    # The copy lives on a timeline of its own, and archives nothing of it.
    assert rows(lab, f"marker-{kind}", "SHOW archive_mode") == ["off"]
    # Whoever has the password has the site again, not its data alone.
    found, inventory = made_from(lab, f"marker-{kind}"), Path(lab.data["inventory"])
    for file in [inventory / "hosts.yml", *(inventory / "group_vars").rglob("*.yml")]:
        assert found[f"inventory/{file.relative_to(inventory)}"] == file.read_bytes()
    assert found["pki/ca.key"] == (lab.build / "pki" / "ca.key").read_bytes()
    # And so is the state that etcd holds: Patroni keeps a copy with the data.
    [directory] = rows(lab, f"marker-{kind}", "SHOW data_directory")
    kept = place(lab).inside(f"restore-marker-{kind}", ["cat", f"{directory}/patroni.dynamic.json"]).stdout
    assert json.loads(kept) == dynamic(lab)


def test_out_of_reach_is_refused_with_the_range(lab: Lab) -> None:
    output = operate(lab, "restore_aside", "-e", "place=never", "-e", json.dumps({"target": "2020-01-01 00:00:00Z"}),
                     "-e", "reason=test", fails=True)  # fmt: skip
    said = refusals(output)
    assert "the repository reaches from" in said
    assert "2020-01-01" in said
    assert not left(lab)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"target": "2026-01-01 00:00:00"}, "it has no zone"),
        ({"backup": "20200101-000000F"}, "there is no good backup"),
        ({"restore_host": "nowhere"}, "not in group postgres"),
    ],
)
def test_words_that_mean_nothing(lab: Lab, words: dict[str, str], why: str) -> None:
    asked = {"place": "never", "reason": "test", **words}
    output = operate(lab, "restore_aside", "--check", "-e", json.dumps(asked), fails=True)
    assert why in refusals(output)


@pytest.fixture
def other_keys(lab: Lab) -> t.Iterator[t.Callable[[str], str]]:
    """pgBackRest's configuration with one line changed, in a directory of its own."""
    host, folder = place(lab), "/var/lib/dedicated/other-keys"

    def make(change: str) -> str:
        host.run(f"rm -rf {folder} && cp -a /opt/dedicated/pgbackrest/conf {folder}")
        host.run(["sed", "-i", change, f"{folder}/pgbackrest.conf"])
        return folder

    yield make
    host.run(f"rm -rf {folder}")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("s/^repo1-cipher-pass=.*/repo1-cipher-pass=wrong/", "wrong_key"),
        ("s/^repo1-s3-key-secret=.*/repo1-s3-key-secret=wrong/", "bad_credentials"),
    ],
)
def test_keys_that_do_not_fit(lab: Lab, other_keys: t.Callable[[str], str], change: str, code: str) -> None:
    output = operate(lab, "restore_aside", "-e", "place=never", "-e", f"restore_config={other_keys(change)}",
                     "-e", "reason=test", fails=True)  # fmt: skip
    assert re.search(rf"code: {code}\b", output), refusals(output)
    assert not left(lab)


def test_cut_off_by_kill_9_it_goes_on(lab: Lab, marker: Marker, clean: None) -> None:
    words = ["-e", "place=cut", "-e", "target_type=name", "-e", f"target={marker.name}", "-e", "reason=test"]
    process = begin(lab, "restore_aside", *words)
    try:
        # At any of its steps: whichever container is there first.
        wait_until("it works", lambda: "restore-cut-fetch" in left(lab), 120, 0.1)
    finally:
        slay(process)
    assert "cut" in left(lab)
    operate(lab, "restore_aside", *words)
    assert rows(lab, "cut", "SELECT word FROM dedicated_marker") == ["first"]
    other = operate(lab, "restore_aside", "-e", "place=cut", "-e", "reason=test", fails=True)
    assert "belongs to another restore" in refusals(other)


def keeper(place: Path) -> tuple[dict[str, str], str]:
    """A keeper's certificate and key, somebody else's key, and what opens the first."""
    secret = unique("keeper").replace(" ", "-")
    made = {name: str(place / f"{name}.pem") for name in ("certificate", "key", "other")}
    common = ["openssl", "req", "-x509", "-newkey", "rsa:3072", "-days", "2", "-subj", "/CN=keeper"]
    env = {"KEEPER": secret}
    run([*common, "-keyout", made["key"], "-passout", "env:KEEPER", "-out", made["certificate"]], env)
    run([*common, "-keyout", made["other"], "-noenc", "-out", str(place / "unused.pem")])
    return made, secret


def test_the_ledger_comes_back_with_the_same_books(lab: Lab, tmp_path: Path) -> None:
    """The rehearsal, with nothing but what a keeper has: restored, Odoo in quarantine, a user, the books. Then nothing
    is left of it."""
    words, secret = keeper(tmp_path)
    sealed = {"escrow": str(tmp_path / "escrow.pem"), "reason": "test"}
    assert "bad-argument" in operate(lab, "escrow", "-e", json.dumps(sealed), fails=True)
    operate(lab, "escrow", "-e", json.dumps({**sealed, "keepers": [words["certificate"]]}))
    text = Path(sealed["escrow"]).read_text()
    assert not [one for one in lab.secrets.values() if len(one) > 5 and one in text]
    asked = {**sealed, "escrow_key": words["key"], "rpo_seconds": 300}
    # Somebody who has the file and not the key has nothing.
    refused_ = operate(lab, "rehearse_restore", "-e", json.dumps({**asked, "escrow_key": words["other"]}), fails=True)
    assert "not-opened" in refused_
    assert not left(lab)
    output = operate(lab, "rehearse_restore", "-e", json.dumps(asked), DEDICATED_ESCROW_PASSPHRASE=secret)
    assert "restored and reconciled" in output
    assert not [one for one in [secret, *lab.secrets.values()] if len(one) > 5 and one in output]
    known = json.loads(lab.leader().out(["cat", "/var/lib/dedicated/restore-rehearsed.json"]))
    assert known["reconciled"] is True
    assert known["neutralized"] is True
    # The inventory, the authority and the password to both.
    assert known["escrow"] > 5
    assert {one["name"]: one["rows"] > 0 for one in known["reports"]}["trial balance"]
    assert not left(lab)
    # Odoo of the site is no neutralized one.
    assert not lab.leader().sql(
        "SELECT 1 FROM ir_config_parameter WHERE key = 'database.is_neutralized' AND value = 'true'", lab.database
    )


def test_what_is_held_does_not_expire(lab: Lab) -> None:
    """By what pgBackRest itself takes for its retention: no backup of a lab grows old enough to go."""
    there = lab.leader().inside("postgres", ["pgbackrest", "--output=json", "info"]).stdout
    label = json.loads(there)[0]["backup"][0]["label"]

    def given(held: str) -> tuple[str, str]:
        hold = [{"backup": held, "reason": "audit"}]
        first, *others = lab.repositories
        return "-e", json.dumps({"pgbackrest_repositories": [{**first, "hold": hold}, *others]})

    try:
        assert "no-such-backup" in operate(lab, "site", "--tags", "pgbackrest", *given("20200101-000000F"), fails=True)
        operate(lab, "site", "--tags", "pgbackrest", *given(label))
        output = operate(lab, "retention_report", *given(label))
        assert "number: 9999" in output
        assert label in output.partition("held:")[2]
        assert "no-such-backup" in operate(lab, "retention_report", *given("20200101-000000F"), fails=True)
    finally:
        operate(lab, "site", "--tags", "pgbackrest")
    assert "number: 30" in operate(lab, "retention_report")

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which repositories are refused, and what pgBackRest is told of those that are not."""

from __future__ import annotations

import base64
import typing as t

import pytest

from ansible_collections.dedicated.odoo.plugins.module_utils._repositories import plan, policy

CA = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret-of-sftp\n-----END OPENSSH PRIVATE KEY-----\n"
SECRETS = ("secret-of-cipher", "secret-of-s3", "secret-of-sftp")
STORE: dict[str, t.Any] = {"endpoint": "s3.test", "bucket": "backup", "key": "k", "key_secret": "secret-of-s3"}
SERVER: dict[str, t.Any] = {"host": "vault.test", "user": "erp", "private_key": KEY, "host_fingerprint": "ab" * 32}


def s3(number: int = 1, **changes: t.Any) -> dict[str, t.Any]:
    store = {**STORE, "key_secret": f"secret-of-s3-{number}", **changes.pop("s3", {})}
    one = {"number": number, "type": "s3", "path": f"/p{number}", "cipher_pass": f"secret-of-cipher-{number}"}
    return {**one, "s3": store, **changes}


def sftp(number: int = 1, **changes: t.Any) -> dict[str, t.Any]:
    one = {"number": number, "type": "sftp", "path": "/srv/backup", "cipher_pass": f"secret-of-cipher-{number}"}
    return {**one, "sftp": {**SERVER, **changes.pop("sftp", {})}, **changes}


def posix(number: int = 1, **changes: t.Any) -> dict[str, t.Any]:
    one = {"number": number, "type": "posix", "path": "/mnt/backup", "cipher_pass": f"secret-of-cipher-{number}"}
    return {**one, "shared": True, **changes}


def codes(*repositories: t.Any) -> list[str]:
    found = plan.judge(list(repositories))[1]
    assert not [secret for secret in SECRETS if secret in repr(found)]
    return [one.code for one in found]


def lines(one: dict[str, t.Any]) -> dict[str, str]:
    (repository,), problems = plan.judge([one])
    assert problems == []
    assert not [secret for secret in SECRETS if secret in repr(repository)]
    assert not [secret for secret in SECRETS if secret in repr(repository.public())]
    return dict(line.partition("=")[::2] for line in repository.lines())


def test_good_ones_in_the_order_of_their_numbers() -> None:
    found, problems = plan.judge([posix(3), s3(1), sftp(2)])
    assert problems == []
    assert [one.number for one in found] == [1, 2, 3]
    assert [one.at for one in found] == ["s3.test", "vault.test", ""]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"number": 1}, "is a list"),
        ([], "it is empty"),
        (["one"], "is no mapping"),
        ([s3(5)], "number is 5"),
        ([s3(True)], "number is True"),
        ([s3(type="gcs")], "type is 'gcs'"),
        ([s3(path="pgbackrest")], "path is 'pgbackrest'"),
        ([s3(path="/a/../b")], "path is"),
        ([s3(path="/")], "path is"),
        ([s3(generation=0)], "generation is 0"),
        ([s3(retention_days="long")], "retention_days is 'long'"),
        ([s3(hold="20260131-013000F")], "hold is a list of backups, each with its reason"),
        ([s3(hold=["20260131-013000F"])], "hold 1: it is no mapping with backup, reason"),
        ([s3(hold=[{"backup": "20260131-013000F"}])], "hold 1: reason is missing"),
        ([s3(hold=[{"backup": "20260131-013000F", "reason": ""}])], "hold 1: reason is '', and has to be why"),
        ([s3(hold=[{"backup": "2026-01-31", "reason": "audit"}])], "hold 1: backup is '2026-01-31', and has to be"),
        ([s3(hold=[{"backup": "20260131-013000F", "reason": "audit", "until": "2027"}])], "hold 1: until is unknown"),
        ([s3(cipher_pass=None)], "cipher_pass is missing"),
        ([s3(cipher_pass="secret-of-cipher\nrepo1-type=posix")], "cipher_pass has to be one plain line"),
        ([s3(chipher_pass="x")], "did you mean cipher_pass?"),
        ([s3(s3={"endpoint": "https://s3.test"})], "without https:// and port"),
        ([s3(s3={"endpoint": "s3.test:8333"})], "without https:// and port"),
        ([s3(s3={"bucket": None})], "bucket is missing"),
        ([s3(s3={"uri_style": "virtual"})], "uri_style is 'virtual'"),
        ([s3(s3={"ca": "/etc/ca.pem"})], "ca has to be the PEM text"),
        ([s3(s3={"key_secret": " secret-of-s3"})], "key_secret has to be one plain line"),
        ([s3(sftp=SERVER)], "its type is s3, and it has sftp"),
        ([{**s3(), "s3": None}], "s3: it is no mapping"),
        ([s3(shared=True)], "shared is for a path"),
        ([posix(shared="yes")], "shared is 'yes'"),
        ([sftp(sftp={"host_fingerprint": ""})], "either host_fingerprint or known_hosts"),
        ([sftp(sftp={"known_hosts": "vault.test ssh-ed25519 AAAA"})], "either host_fingerprint or known_hosts"),
        ([sftp(sftp={"host_fingerprint": "SHA256:short"})], "host_fingerprint is"),
        ([sftp(sftp={"host_fingerprint": "", "known_hosts": "AAAA"})], "known_hosts has to be"),
        ([sftp(sftp={"private_key": "/root/.ssh/id"})], "private_key has to be the text"),
        ([sftp(sftp={"port": 70000})], "port is 70000"),
    ],
)
def test_what_is_no_repository(given: t.Any, words: str) -> None:
    _found, problems = plan.judge(given)
    assert [one.code for one in problems] == ["invalid-repository"]
    assert words in problems[0].message
    assert not [secret for secret in SECRETS if secret in repr(problems)]


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert codes(s3(7, path="x"), posix(2, shared=False), s3(3, cypher="x")) == [
        *["invalid-repository"] * 3,
        "repository-on-data-host",
    ]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (s3(1, path="/other"), ["duplicate-repository"]),
        (s3(2, path="/p1"), ["duplicate-repository"]),
        (s3(2, path="/p1", s3={"endpoint": "S3.TEST"}), ["duplicate-repository"]),
        (s3(2, path="/p1/1/below"), ["duplicate-repository"]),
        (s3(2, path="/p1", generation=2), []),
        (s3(2, path="/p1", s3={"bucket": "other"}), []),
        (s3(2, path="/p1", s3={"port": 8333}), []),
        (s3(2), []),
        (s3(2, cipher_pass="secret-of-cipher-1"), ["shared-secret"]),
        (s3(2, s3={"key_secret": "secret-of-s3-1"}), ["shared-secret"]),
        # The name of a key is the same at many providers.
        (s3(2, s3={"key": "k"}), []),
        (posix(2, cipher_pass="secret-of-cipher-1"), ["shared-secret"]),
        (posix(2, shared=False), ["repository-on-data-host"]),
    ],
)
def test_a_second_repository_is_one_of_its_own(other: dict[str, t.Any], expected: list[str]) -> None:
    assert codes(s3(1), other) == expected


def test_a_new_generation_is_a_new_directory() -> None:
    assert lines(s3())["repo1-path"] == "/p1/1"
    assert lines(s3(generation=2))["repo1-path"] == "/p1/2"
    assert lines(posix(4, generation=3))["repo4-path"] == "/var/lib/pgbackrest/4/3"


def test_what_pgbackrest_is_told_of_an_object_store() -> None:
    found = lines(s3(2, retention_days=90, s3={"port": 8333, "region": "lab", "ca": CA}))
    assert found == {
        "repo2-type": "s3",
        "repo2-s3-endpoint": "s3.test",
        "repo2-storage-port": "8333",
        "repo2-s3-bucket": "backup",
        "repo2-s3-region": "lab",
        "repo2-s3-uri-style": "path",
        "repo2-s3-key": "k",
        "repo2-s3-key-secret": "secret-of-s3-2",
        "repo2-storage-ca-file": "/etc/pgbackrest/s3-ca-2.pem",
        "repo2-storage-verify-tls": "y",
        "repo2-path": "/p2/1",
        "repo2-cipher-type": "aes-256-cbc",
        "repo2-cipher-pass": "secret-of-cipher-2",
        "repo2-bundle": "y",
        "repo2-block": "y",
        "repo2-retention-full-type": "time",
        "repo2-retention-full": "90",
    }
    assert "repo1-storage-ca-file" not in lines(s3())


def test_what_pgbackrest_is_told_of_a_server() -> None:
    digest = bytes(range(32))
    printed = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    found = lines(sftp(sftp={"host_fingerprint": printed}))
    assert found["repo1-sftp-host-fingerprint"] == digest.hex()
    assert found["repo1-sftp-host-key-check-type"] == "fingerprint"
    known = sftp(sftp={"host_fingerprint": "", "known_hosts": "vault.test ssh-ed25519 AAAA\n"})
    found = lines(known)
    assert found["repo1-sftp-host-key-check-type"] == "strict"
    assert found["repo1-sftp-known-host"] == "/etc/pgbackrest/sftp-1.known_hosts"
    assert plan.judge([known])[0][0].files() == [
        ("sftp-1.key", KEY, True),
        ("sftp-1.known_hosts", "vault.test ssh-ed25519 AAAA\n", False),
    ]
    assert plan.judge([s3(s3={"ca": CA})])[0][0].files() == [("s3-ca-1.pem", CA, False)]
    assert plan.judge([posix()])[0][0].files() == []


# What is promised


def test_the_defaults_are_a_policy() -> None:
    found, problems = policy.read_policy({})
    assert problems == []
    assert found is not None
    assert found.calendars == {"full": "Sun *-*-* 01:30:00", "diff": "Mon..Sat *-*-* 01:30:00"}
    assert found.rpo_seconds == 60
    again, _none = policy.read_policy({}, 300)
    assert again is not None
    assert again.rpo_seconds == 300


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "is a mapping"),
        ({"daily": "x"}, "daily is none of"),
        ({"full": ""}, "full is empty"),
        ({"full": 130}, "no calendar"),
        ({"diff": "nightly"}, "'nightly' is no day of the week"),
        ({"incr": "*-*-* 12:00\n[Install]"}, "no calendar"),
        ({"rpo_seconds": 0}, "rpo_seconds is 0"),
        ({"rpo_seconds": "soon"}, "rpo_seconds is 'soon'"),
        ({"rpo_seconds": True}, "rpo_seconds is True"),
        ({"rpo_seconds": 120}, "there is one promise"),
    ],
)
def test_a_policy_that_is_none(given: t.Any, words: str) -> None:
    problems = policy.judge_policy(given, rpo_seconds=60)
    assert [one.code for one in problems] == ["invalid-policy"]
    assert words in problems[0].message


@pytest.mark.parametrize(("timeout", "kept"), [(30, True), ("60", True), (61, False), (0, False), (None, True)])
def test_segments_have_to_close_within_the_recovery_point(timeout: t.Any, kept: bool) -> None:
    problems = policy.judge_policy({}, archive_timeout=timeout)
    assert [one.code for one in problems] == ([] if kept else ["rpo-not-kept"])


def test_no_backup_in_a_peak() -> None:
    peaks = [{"days": ["mon..fri"], "from": "08:00", "to": "18:00"}, {"days": [-1], "from": "00:00", "to": "24:00"}]
    problems = policy.judge_policy({"incr": "*-*-* 12:00"}, peaks)
    assert [(one.code, one.subject) for one in problems] == [
        ("backup-in-peak", "pgbackrest_policy.incr"),
        *(("backup-in-peak", f"pgbackrest_policy.{kind}") for kind in ("full", "diff", "incr")),
    ]
    assert "12:00" in problems[0].message
    assert policy.judge_policy({}, peaks[:1]) == []


@pytest.mark.parametrize(
    ("calendar", "zone", "expected"),
    [
        ("Mon 12:00 Europe/Berlin", "Europe/Berlin", ["backup-in-peak"]),
        ("Mon 02:00 Europe/Berlin", "Europe/Berlin", []),
        ("Mon 02:00 Europe/Berlin", "", ["invalid-policy"]),
        ("Mon 02:00", "Europe/Berlin", ["invalid-policy"]),
    ],
)
def test_zones_are_not_converted(calendar: str, zone: str, expected: list[str]) -> None:
    peak = {"days": ["mon"], "from": "08:00", "to": "18:00", "zone": zone}
    problems = policy.judge_policy({"full": calendar, "diff": ""}, [peak])
    assert [one.code for one in problems] == expected


@pytest.mark.parametrize("peaks", ["mon", [{"from": "08:00"}], {"days": ["mon"]}])
def test_peaks_that_are_none(peaks: t.Any) -> None:
    assert [one.code for one in policy.judge_policy({}, peaks)] == ["invalid-policy"]


def test_while_one_is_held_nothing_expires_in_its_repository() -> None:
    held = [{"backup": "20260131-013000F_20260201-013000D", "reason": "audit 2026"}]
    assert lines(s3(1, retention_days=30))["repo1-retention-full"] == "30"
    assert lines(s3(1, retention_days=30, hold=held))["repo1-retention-full"] == "9999"
    assert lines(s3(1, retention_days=30, hold=[]))["repo1-retention-full"] == "30"
    found, problems = plan.judge([s3(1, hold=held), sftp(2)])
    assert problems == []
    assert [one.public()["hold"] for one in found] == [held, []]
    # What is promised stays what was promised.
    assert found[0].public()["retention_days"] == plan.RETENTION_DAYS

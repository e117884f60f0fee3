# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What does not answer, and why; and that nothing waits for ever."""

from __future__ import annotations

import json

import pytest
from pgbackrest_lab import Lab, captured, code_of, entry, pgbackrest

from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import DedicatedError
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import Completed
from ansible_collections.dedicated.odoo.plugins.module_utils._pgbackrest import io, service


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ("info_unreachable.json", "store_unreachable", "Connection refused"),
        ("info_bad_credentials.json", "bad_credentials", "InvalidAccessKeyId"),
        ("info_bad_certificate.json", "bad_certificate", "unable to get local issuer certificate"),
        ("info_wrong_key.json", "wrong_key", "passphrase"),
    ],
)
def test_a_repository_that_cannot_be_asked_is_an_error(answer: str, code: str, words: str) -> None:
    with pytest.raises(DedicatedError) as caught:
        service.show(pgbackrest(Lab(entry(answer))))
    assert code_of(caught.value) == code
    assert words in caught.value.msg
    assert "\n" not in caught.value.msg
    assert len(caught.value.msg) < 500


def test_neither_requests_nor_decrypted_rubbish_are_shown() -> None:
    told = io.plain(entry("info_wrong_key.json")["repo"][0]["status"]["message"])
    assert told.isprintable()
    assert told.endswith("at line 1")
    told = io.plain(entry("info_bad_credentials.json")["repo"][0]["status"]["message"])
    assert told == "HTTP request failed with 403 (Forbidden): InvalidAccessKeyId"


def test_one_dead_repository_beside_a_good_one_has_its_error() -> None:
    lab = Lab(entry("info_repo2_dead.json"))
    seen = service.show(pgbackrest(lab))
    assert [(one["key"], one["error"]) for one in seen["repositories"]] == [(1, None), (2, "store_unreachable")]
    assert seen["recoverable"]["earliest"] == 1795370041
    assert [one[2:] for one in lab.ran if "repo-ls" in one] != []
    assert not any("--repo=2" in one for one in lab.ran)


def test_the_stores_words_for_wrong_credentials_and_buckets() -> None:
    assert io.meaning("HTTP request failed with 403 (Forbidden)") == "bad_credentials"
    assert io.meaning("HTTP request failed with 404 (Not Found): <Code>NoSuchBucket</Code>") == "no_bucket"
    assert io.meaning("HTTP request failed with 503 (Service Unavailable)") == "store_unreachable"
    assert io.meaning("[CryptoError] unable to flush") == "wrong_key"
    assert io.meaning("'x' is not a valid option") == "pgbackrest_failed"


@pytest.mark.parametrize(
    ("verb", "failing", "code"),
    [
        ("info", (124, ""), "timed_out"),
        ("info", (137, ""), "timed_out"),
        ("repo-ls", (124, ""), "timed_out"),
        ("psql", (124, ""), "timed_out"),
        ("psql", DedicatedError("docker did not end within 80 s"), "timed_out"),
        ("psql", (1, "Error response from daemon: No such container: postgres"), "no_container"),
        ("psql", (1, "Error response from daemon: container 1a2b is not running"), "no_container"),
        ("psql", (1, "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."), "no_container"),
        ("psql", (127, 'exec: "psql": executable file not found in $PATH'), "no_container"),
        ("psql", (2, "psql: error: connection to server on socket failed"), "no_server"),
        ("repo-ls", (49, "ERROR: [049]: unable to get address for 'dead.test': [-3] Temporary"), "store_unreachable"),
        ("info", (27, "ERROR: [027]: option x"), "pgbackrest_failed"),
    ],
)
def test_commands_that_fail(verb: str, failing: tuple[int, str] | Exception, code: str) -> None:
    with pytest.raises(DedicatedError) as caught:
        service.show(pgbackrest(Lab(fails={verb: failing})))
    assert code_of(caught.value) == code


def test_another_error_of_the_runner_is_passed_on() -> None:
    failing = DedicatedError("docker cannot be started: No such file or directory")
    with pytest.raises(DedicatedError, match="cannot be started"):
        service.show(pgbackrest(Lab(fails={"psql": failing})))


def test_what_is_not_understood_is_an_error() -> None:
    lab = Lab()
    del lab.stanza["status"]
    with pytest.raises(DedicatedError) as caught:
        service.show(pgbackrest(lab))
    assert code_of(caught.value) == "not_understood"


def test_each_question_ends_in_time_and_tells_before() -> None:
    """pgBackRest gives up before it is stopped, so that its reason is heard."""
    lab = Lab()
    service.show(pgbackrest(lab, timeout=45))
    assert lab.timeouts == [45.0, 45.0, 45.0]
    assert all("--io-timeout=3" in one for one in lab.ran if one[0] == "pgbackrest")
    assert all("--log-level-console=off" in one for one in lab.ran if one[0] == "pgbackrest")


def test_the_error_of_a_command() -> None:
    said = "WARN: something\nERROR: [055]: unable to load info file '/repo/x':\n       HINT: has a stanza been made?"
    error = io.failure(Completed(("pgbackrest", "backup"), 55, "", said))
    assert error.msg == "pgbackrest backup failed (55): unable to load info file '/repo/x':."
    assert error.details == {"code": "pgbackrest_failed", "exit_code": 55}


def test_captured_answers_are_json() -> None:
    for name in ("ls_timelines.json", "info_timelines.json", "server_standby.json"):
        assert json.loads(captured(name))

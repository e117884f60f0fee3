# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""pgBackRest and PostgreSQL inside their container. Each command ends in time: in the container too, where killing
``docker exec`` ends nothing.
"""

from __future__ import annotations

import re
import typing as t

from .._common.errors import DedicatedError
from .._common.runner import Completed, Runner
from . import parse
from .parse import OTHER, Info, Repository, Server

# The user postgres of the image (images/postgres/contract.yml).
UID = "10010"
# What the command timeout ends with when it had to act, and when it had to kill.
TIMED_OUT = (124, 137)
LOCKED, NO_PRIMARY, NO_WAL = 50, 56, 82
# Beyond the deadline in the container: five seconds until it kills, and the engine's own time.
GRACE = 20
# Without it, a repository that does not answer is tried for minutes before pgBackRest says so.
PATIENCE = 15
_LENGTH = 300

# What the words of pgBackRest mean, the more special first. Its exit codes do not tell, and info always ends well.
_MEANS = (
    ("store_unreachable", re.compile(r"HostConnectError|unable to connect to|unable to get address")),
    ("bad_certificate", re.compile(r"verify certificate|certificate verify|unable to find hostname")),
    ("bad_credentials", re.compile(r"HTTP request failed with 40[13]|InvalidAccessKeyId|SignatureDoesNotMatch")),
    ("no_bucket", re.compile(r"NoSuchBucket")),
    ("store_unreachable", re.compile(r"HTTP request failed with 5\d\d|timeout|Timeout|unable to read|FileReadError")),
    (
        "wrong_key",
        re.compile(r"unable to (?:load|open) info file[^\n]*[\s\S]*?(?:FormatError|CryptoError)|CryptoError"),
    ),
)
_DO = {
    "store_unreachable": "Look whether the object store runs and this host reaches it.",
    "bad_certificate": "Give the authority that signed the store's certificate (s3.ca of the repository).",
    "bad_credentials": "Correct the store's access key and secret, and what they may do.",
    "no_bucket": "Create the bucket, or correct its name.",
    "wrong_key": "Give the passphrase with which this repository was made (cipher_pass of the repository).",
}


def meaning(said: str) -> str:
    """The code of an error of pgBackRest."""
    return next((code for code, words in _MEANS if words.search(said)), "pgbackrest_failed")


def plain(said: str) -> str:
    """The words for the operator: without requests, answers of the store, and what a wrong key decrypts to."""
    lines: list[str] = []
    for line in (one.strip() for one in said.splitlines()):
        if line.startswith("*** ") or (lines and "retr" in line):
            break
        # A line of the content of a file, which is not readable or not to be shown.
        line = re.sub(r"( at line \d+): .*", r"\1", line)
        if line and not line.startswith("HINT"):
            lines.append(re.sub(r"^(?:P\d+\s+)?(?:ERROR: )?\[\w+\]:? ?", "", line))
    code = re.search(r"<Code>(\w+)</Code>", said)
    text = " ".join(dict.fromkeys(lines)) + (f" {code[1]}" if code else "")
    return "".join(char for char in text if char.isprintable())[:_LENGTH]


def unasked(repository: Repository) -> DedicatedError | None:
    """Why a repository could not be asked; a missing stanza is an answer."""
    if repository.code != OTHER:
        return None
    code = meaning(repository.message)
    said = f"repository {repository.key} cannot be asked: {plain(repository.message)}."
    return DedicatedError(f"{said} {_DO.get(code, '')}".strip(), code=code)


class PgBackRest:
    """One stanza, seen from one container."""

    def __init__(self, runner: Runner, container: str, stanza: str, timeout: int) -> None:
        self._runner = runner
        self._container = container
        self._stanza = stanza
        self._timeout = timeout

    # -- questions ---------------------------------------------------------------------------------------------------

    def info(self) -> Info:
        return _parsed(parse.info, self._asked(["--output=json", "info"]).stdout, self._stanza)

    def archived(self, repository: int, archive_id: str) -> dict[str, int]:
        """The segments in one archive, and when each came there."""
        path = f"archive/{self._stanza}/{archive_id}"
        argv = [f"--repo={repository}", "--output=json", "--recurse", "repo-ls", path]
        return _parsed(parse.archived, self._asked(argv).stdout)

    def server(self) -> Server:
        argv = ["psql", "-h", "/run/postgresql", "-d", "postgres", "-XAtqc", " ".join(parse.SERVER_SQL.split())]
        done = self._inside(argv, self._timeout)
        if done.rc != 0:
            raise DedicatedError(
                f"PostgreSQL in {self._container} does not answer: {_last(done)}. Look whether the member is up.",
                code="no_server",
            )
        return _parsed(parse.server, done.stdout)

    # -- orders ------------------------------------------------------------------------------------------------------

    def backup(self, kind: str, repository: int, annotation: t.Mapping[str, str], timeout: int) -> Completed:
        notes = [f"--annotation={key}={value}" for key, value in sorted(annotation.items())]
        return self._run([f"--type={kind}", f"--repo={repository}", *notes, "backup"], timeout)

    def verify(self, repository: int, timeout: int) -> parse.Verified:
        """One repository; without its number pgBackRest looks at the first one only."""
        argv = [f"--repo={repository}", "--output=text", "--verbose", "verify"]
        return parse.verified(self._judged(self._run(argv, timeout)).stdout)

    def stanza(self, verb: str) -> None:
        self._judged(self._run([f"stanza-{verb}"], self._timeout))

    def check(self, timeout: int) -> None:
        """Switches to a new segment and waits until it has arrived."""
        wait = max(1, min(60, timeout - 10))
        self._judged(self._run([f"--archive-timeout={wait}", "check"], timeout))

    def expire(self, dry_run: bool, timeout: int) -> parse.Expiry:
        argv = [*(["--dry-run"] if dry_run else []), "expire"]
        done = self._judged(self._run(argv, timeout, level="info"))
        return _parsed(parse.expiry, done.stderr)

    # -- running -----------------------------------------------------------------------------------------------------

    def _asked(self, argv: t.Sequence[str]) -> Completed:
        patience = max(1, self._timeout // PATIENCE)
        return self._judged(self._run([f"--io-timeout={patience}", *argv], self._timeout))

    def _run(self, argv: t.Sequence[str], timeout: int, level: str = "warn") -> Completed:
        """Messages go to the standard error, so that the answer stands alone."""
        log = ["--log-level-console=off", f"--log-level-stderr={level}"]
        return self._inside(["pgbackrest", f"--stanza={self._stanza}", *log, *argv], timeout)

    def _inside(self, argv: t.Sequence[str], timeout: int) -> Completed:
        prefix = ["docker", "exec", "--user", UID, self._container, "timeout", "-k", "5", str(timeout)]
        try:
            done = self._runner.run([*prefix, *argv], timeout=timeout + GRACE)
        except DedicatedError as exc:
            raise self._late(argv, timeout) if "did not end" in exc.msg else exc from exc
        if done.rc in TIMED_OUT:
            raise self._late(argv, timeout)
        if done.rc in (1, 125) and re.search(r"No such container|is not running|daemon", done.stderr):
            raise DedicatedError(
                f"the container {self._container} cannot be asked: {_last(done)}. Start it, or correct container.",
                code="no_container",
            )
        if done.rc in (126, 127) and "executable file not found" in done.stdout + done.stderr:
            raise DedicatedError(f"{argv[0]} is not in the container {self._container}", code="no_container")
        return done

    def _late(self, argv: t.Sequence[str], timeout: int) -> DedicatedError:
        verb = next((one for one in reversed(argv) if not one.startswith(("-", "archive/"))), argv[0])
        what = "psql" if argv[0] == "psql" else f"pgbackrest {verb}"
        return DedicatedError(
            f"{what} did not end within {timeout} s and was stopped. Look whether the repositories answer, or give it "
            "more time.",
            code="timed_out",
        )

    def _judged(self, done: Completed) -> Completed:
        """A command that ended well; otherwise its error."""
        if done.rc != 0:
            raise failure(done)
        return done


def failure(done: Completed) -> DedicatedError:
    """What a command of pgBackRest that failed means."""
    said = done.stderr or done.stdout
    errors = said[said.find("ERROR:") :] if "ERROR:" in said else said
    code = {LOCKED: "backup_running", NO_PRIMARY: "not_leader", NO_WAL: "archiving_broken"}.get(done.rc) or meaning(
        errors
    )
    text = f"pgbackrest {done.argv[-1]} failed ({done.rc}): {plain(errors)}. {_DO.get(code, '')}".strip()
    return DedicatedError(text, code=code, exit_code=done.rc)


def _last(done: Completed) -> str:
    lines = (done.stderr or done.stdout).strip().splitlines()
    return lines[0][:_LENGTH] if lines else f"it ended with {done.rc}"


T = t.TypeVar("T")


def _parsed(parser: t.Callable[..., T], *words: str) -> T:
    try:
        return parser(*words)
    except ValueError as exc:
        raise DedicatedError(str(exc), code="not_understood") from exc

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request for a certificate, by lego. Each directory has its own account, which stays on this edge."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import typing as t
from pathlib import Path
from urllib.parse import quote, quote_plus

from . import account

SECONDS = 600
# The server has forgotten us, as one does that was set up anew: lego registers when no account is noted.
FORGOTTEN = "urn:ietf:params:acme:error:accountDoesNotExist"


class OrderError(Exception):
    """Refused, or nobody answered. ``wait``: seconds that the server asked for."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


@dataclasses.dataclass(frozen=True)
class Lego:
    """``listen``: where HTTP-01 is answered. ``environment``: the DNS provider's. ``eab_*``: who vouches for us."""

    home: Path
    email: str
    key_type: str
    listen: str
    provider: str = ""
    resolvers: tuple[str, ...] = ()
    ca_file: str = ""
    eab_kid: str = ""
    eab_hmac: str = dataclasses.field(default="", repr=False)
    environment: t.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    ask: t.Callable[[str], account.Ask] = account.asker

    def argv(self, directory: str, domains: t.Sequence[str], path: Path) -> list[str]:
        words = ["lego", "--accept-tos", "--server", directory, "--email", self.email, "--path", str(path),
                 "--key-type", self.key_type]  # fmt: skip
        for domain in domains:
            words += ["--domains", domain]
        if self.provider:
            words += ["--dns", self.provider]
            for resolver in self.resolvers:
                words += ["--dns.resolvers", resolver]
        else:
            words += ["--http", "--http.port", self.listen]
        if self.eab_kid:
            # Without this word lego does not talk to such a server at all. It registers nobody: the account is there.
            words.append("--eab")
        return [*words, "run"]

    def obtain(self, directory: str, domains: t.Sequence[str]) -> tuple[str, str]:
        """Chain and key, as PEM. Raises OrderError."""
        path = self.home / hashlib.sha256(directory.encode()).hexdigest()[:16]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = path / "certificates"
        shutil.rmtree(made, ignore_errors=True)
        environment = {**os.environ, **self.environment}
        if self.ca_file:
            environment["LEGO_CA_CERTIFICATES"] = self.ca_file
        try:
            done = self._run(directory, domains, path, environment)
            if done.returncode and FORGOTTEN in done.stdout + done.stderr:
                (account.folder(path, directory, self.email) / "account.json").unlink(missing_ok=True)
                done = self._run(directory, domains, path, environment)
            if done.returncode:
                raise OrderError(*told(done.stdout + done.stderr, [*self.environment.values(), self.eab_hmac]))
            # A wildcard's file is named by "_".
            name = domains[0].replace("*", "_")
            return (made / f"{name}.crt").read_text("ascii"), (made / f"{name}.key").read_text("ascii")
        except account.BindError as exc:
            raise OrderError(f"no account: {exc}") from exc
        except subprocess.TimeoutExpired as exc:
            raise OrderError(f"lego did not end within {SECONDS} s") from exc
        except OSError as exc:
            raise OrderError(f"lego: {exc}") from exc
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _run(
        self, directory: str, domains: t.Sequence[str], path: Path, environment: t.Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        if self.eab_kid:
            account.bind(self.ask(self.ca_file), path, directory, self.email, self.eab_kid, self.eab_hmac)
        return subprocess.run(
            self.argv(directory, domains, path),
            env=environment, capture_output=True, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip


def told(output: str, secrets: t.Iterable[str] = ()) -> tuple[str, float]:
    """The last words, and how long to wait: lego 4.9 passes no Retry-After on, only the kind of refusal.

    Some providers' credentials are part of addresses, which error messages show.
    """
    for secret in sorted((one for one in secrets if one), key=len, reverse=True):
        for form in {secret, quote(secret, safe=""), quote_plus(secret)}:
            output = output.replace(form, "***")
    lines = [line for line in output.splitlines() if line.strip()]
    limited = re.search(r"urn:ietf:params:acme:error:rateLimited", output)
    return (" | ".join(lines[-3:])[:600] or "lego said nothing"), 24 * 3600.0 if limited else 0.0

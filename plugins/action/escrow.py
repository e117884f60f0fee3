# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seals, opens and proves what is kept elsewhere. All of it here. Documentation: plugins/modules/escrow.py."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
import tempfile
import typing as t

from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.plugins.action import ActionBase

from ansible_collections.dedicated.odoo.plugins.action.site_copy import secret_of
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import Refuse, Refused
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import Runner, SubprocessRunner
from ansible_collections.dedicated.odoo.plugins.module_utils._escrow import seal
from ansible_collections.dedicated.odoo.plugins.module_utils._site_copy import bundle
from ansible_collections.dedicated.odoo.plugins.modules.escrow import ARGUMENTS, RULES

ABOUT, VAULT, CONFIGURATION = "about.json", "vault-password", "pgbackrest/"


class ActionModule(ActionBase):
    """Entry point."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False
    _runner: Runner = SubprocessRunner()

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(ARGUMENTS, **RULES)
        try:
            if args["state"] == "sealed":
                return {**result, **self._seal(args)}
            return {**result, **self._open(args)}
        except Refused as exc:
            return {**result, "failed": True, "msg": exc.msg, **exc.details}

    def _seal(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        keepers = {seal.keeper(self._runner, path): path for path in args["keepers"]}
        secret = secret_of(str(args["site_passphrase"] or ""))
        if secret is None:
            raise Refused(
                Refuse(
                    "no-secret",
                    "Nothing was sealed",
                    "this run has no vault password, so that it could not be kept either",
                    "Give --vault-password-file or --vault-id.",
                )
            )
        files = {name: base64.b64decode(text) for name, text in args["files"].items()}
        if not files:
            raise Refused(
                Refuse("no-files", "Nothing was sealed", "there is no file of a configuration", "Give files.")
            )
        about = {**args["about"], "cluster": args["cluster"], "keepers": sorted(keepers)}
        entries = [
            bundle.Entry(ABOUT, 0o600, json.dumps(about, sort_keys=True).encode()),
            bundle.Entry(VAULT, 0o600, secret.bytes),
            *(bundle.Entry(f"{CONFIGURATION}{name}", 0o600, content) for name, content in files.items()),
        ]
        sealed = seal.close(self._runner, entries, list(keepers.values()))
        if not self._task.check_mode:
            _write(args["path"], sealed)
        digest = hashlib.sha256(sealed.encode()).hexdigest()
        return {"changed": True, "sha256": digest, "keepers": sorted(keepers), "names": sorted(files)}

    def _open(self, args: dict[str, t.Any]) -> dict[str, t.Any]:
        try:
            with open(args["path"], encoding="ascii") as file:
                sealed = file.read()
        except (OSError, UnicodeDecodeError) as exc:
            raise Refused(
                Refuse("no-file", f"There is no {args['path']}", str(exc), "Give the path of the escrow.")
            ) from exc
        found = seal.unseal(self._runner, sealed, str(args["key"]), str(args["key_passphrase"] or ""))
        about = json.loads(found.get(ABOUT, b"{}"))
        if about.get("cluster") != args["cluster"]:
            raise Refused(
                Refuse(
                    "other-cluster",
                    f"{args['path']} is the escrow of {about.get('cluster') or 'nobody'}",
                    f"the inventory is that of {args['cluster']}",
                    "Take the escrow of this cluster.",
                )
            )
        if args["state"] == "proven":
            return {"changed": False, "about": about, "proven": self._proven(found[VAULT], str(args["copy"]))}
        files = {
            name.removeprefix(CONFIGURATION): base64.b64encode(content).decode()
            for name, content in found.items()
            if name.startswith(CONFIGURATION)
        }
        return {"changed": False, "about": about, "files": files}

    @staticmethod
    def _proven(secret: bytes, copy: str) -> list[str]:
        """What a copy of a site holds (module site_copy), opened with the password from escrow."""
        try:
            packed = VaultLib([("default", VaultSecret(secret))]).decrypt(base64.b64decode(copy))
            with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
                return sorted(tar.getnames())
        except (AnsibleError, tarfile.TarError, ValueError) as exc:
            raise Refused(
                Refuse(
                    "password-does-not-fit",
                    "The vault password in escrow does not open the copy of the site in the backup",
                    "it was changed since",
                    "Make a new escrow (playbook escrow).",
                )
            ) from exc


def _write(path: str, content: str) -> None:
    """Whole or not at all."""
    folder = os.path.dirname(os.path.abspath(path))
    try:
        handle, aside = tempfile.mkstemp(dir=folder, prefix=".escrow.")
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as exc:
        raise Refused(
            Refuse("not-written", f"{path} was not written", str(exc), "Give a path in a directory that is there.")
        ) from exc

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look: acme-client. Settings are /etc/acme/client.json, the DNS provider's environment /etc/acme/provider.json."""

from __future__ import annotations

import json
import signal
import ssl
import sys
import time
from pathlib import Path

from . import plan
from .etcd import Etcd, EtcdError
from .lego import Lego
from .seal import Seal, SealError
from .service import Service


def main() -> int:
    # As the first process of its container nothing ends it unless it says so; lease and lego end with it.
    signal.signal(signal.SIGTERM, lambda *_told: sys.exit(143))
    given = json.loads(Path("/etc/acme/client.json").read_text("utf-8"))
    provider = Path("/etc/acme/provider.json")
    environment = json.loads(provider.read_text("utf-8")) if provider.exists() else {}
    settings = plan.Settings(**{**given["settings"], "domains": tuple(given["settings"]["domains"])})
    pki = Path(given.get("pki", "/etc/dedicated/pki/edge-acme"))
    context = None
    if given["etcd"]["urls"][0].startswith("https"):
        context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
        context.load_cert_chain(pki / "cert.pem", pki / "key.pem")
    store = Etcd(given["etcd"]["urls"], context, given["etcd"].get("user", ""), given["etcd"].get("password", ""))
    lego = Lego(Path("/var/lib/acme/lego"), **{**given["lego"], "environment": environment})
    service = Service(
        settings, given["name"], given["prefix"], (pki / "cert.pem").read_text("ascii"), Path("/var/lib/acme"),
        Path("/etc/traefik/dynamic/acme.yml"), store, Seal(pki), lego, time.time, print,
        given["edges"],
    )  # fmt: skip
    try:
        last = service.run()
    except (EtcdError, SealError, OSError) as exc:
        print(f"acme-client: {exc}", file=sys.stderr)
        return 1
    # An ill state is the unit's failure, so that monitoring sees it.
    return 1 if isinstance(last, plan.Wait) and last.code not in ("other-leads",) else 0


if __name__ == "__main__":
    sys.exit(main())

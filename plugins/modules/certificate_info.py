#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_info
short_description: Look at certificates in files, and at those that ports serve
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Returns what certificates say, from files of the host and from ports that the host can reach. What a port serves is
    what counts; the file that it was loaded from may be newer.
  - A port is asked by a TLS handshake of its own, and nothing else is sent. PostgreSQL and PgBouncer are asked to start
    TLS first.
  - Whatever has no certificate is an answer with its code, and no failure of the module.
  - Keys are only handed to OpenSSL for a handshake. None is ever returned, not even one that stands in a file beside a
    certificate.
  - Needs the standard library only. Files are verified by the program C(openssl), where the host has it.
attributes:
  check_mode:
    support: full
    description: This module does not modify state.
  diff_mode:
    support: N/A
    description: This module does not modify state.
  idempotent:
    support: full
    description: This module does not modify state.
options:
  files:
    description: Files with certificates as PEM text. Of each the first certificate counts, the others are its chain.
    type: list
    elements: path
    default: []
  targets:
    description: Ports that serve a certificate.
    type: list
    elements: dict
    default: []
    suboptions:
      protocol:
        description: What is spoken there. All but V(postgresql) begin with TLS, as V(tls) does.
        type: str
        choices: [https, postgresql, redis, etcd, patroni, s3, tls]
        required: true
      host:
        description: Address or name to connect to.
        type: str
        required: true
      port:
        description: Port to connect to.
        type: int
        required: true
      server_name:
        description:
          - Name that is asked for (SNI), and that the certificate must carry to be verified. It may be an address,
            which is not sent. Empty means O(targets[].host).
        type: str
        default: ""
      client_cert:
        description: File with a certificate to present when the server wants one, with its chain.
        type: path
        default: ""
      client_key:
        description: Key of O(targets[].client_cert). Empty when it stands in the same file. It must not be encrypted.
        type: path
        default: ""
      ca:
        description: File with the authorities that the served certificate is verified against. Empty means O(ca).
        type: path
        default: ""
  ca:
    description: File with the authorities that certificates are verified against. Empty means that nothing is verified.
    type: path
    default: ""
  timeout:
    description: Seconds that a port, or C(openssl) for a file, may take. All are asked at the same time.
    type: float
    default: 5.0
seealso:
  - plugin: dedicated.odoo.expiring
    plugin_type: filter
  - plugin: dedicated.odoo.san_mismatch
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Look at what this database host serves
  dedicated.odoo.certificate_info:
    ca: /etc/dedicated/pki/ca.pem
    files:
      - /etc/dedicated/pki/postgres/cert.pem
    targets:
      - {protocol: postgresql, host: "{{ dedicated_address }}", port: 5432}
      - protocol: etcd
        host: "{{ dedicated_address }}"
        port: 2379
        client_cert: /etc/dedicated/pki/etcd/cert.pem
        client_key: /etc/dedicated/pki/etcd/key.pem
  register: seen

- name: Everything serves a certificate that lasts two weeks
  ansible.builtin.assert:
    that:
      - seen.missing | length == 0
      - seen.certificates | dedicated.odoo.expiring(days=14) | length == 0
"""

RETURN = r"""
certificates:
  description: What was found, files first, each in the order that they were asked for.
  returned: success
  type: list
  elements: dict
  contains:
    source:
      description: V(file) or V(port).
      type: str
    name:
      description: Path, or for example V(https://192.0.2.10:443).
      type: str
    path:
      description: The file, null for a port.
      type: str
    protocol:
      description: What is spoken at the port, null for a file.
      type: str
    host:
      description: Where it was asked, null for a file.
      type: str
    port:
      description: Port that was asked, null for a file.
      type: int
    server_name:
      description: Name that was asked for, null for a file.
      type: str
    code:
      description:
        - Empty, or what went wrong after the certificate was seen, which is V(client_certificate_required),
          V(client_certificate_refused) or V(handshake_failed). That PostgreSQL misses a certificate is not seen,
          because it judges that only when somebody logs in.
      type: str
    why:
      description: What belongs to RV(certificates[].code).
      type: str
    subject:
      description: Subject as RFC 4514 writes it.
      type: str
    issuer:
      description: Issuer as RFC 4514 writes it.
      type: str
    serial:
      description: Serial number, lower-case hex without leading zeros.
      type: str
    sans:
      description: Alternative names by kind, lists of C(dns), C(ip), C(uri), C(email), and in C(other) kinds only.
      type: dict
    not_before:
      description: Seconds since the epoch from which it is valid.
      type: int
    not_after:
      description: Seconds since the epoch until which it is valid.
      type: int
    days_left:
      description: Full days until then, negative once it has ended.
      type: int
    key:
      description: C(type) is V(rsa), V(ec), V(ed25519), V(ed448) or a number; C(bits) and C(curve) may be null.
      type: dict
    signature_algorithm:
      description: How its issuer signed it.
      type: str
      sample: ecdsa-with-SHA256
    fingerprint:
      description: SHA-256 of the certificate, hex.
      type: str
    public_key:
      description: SHA-256 of its public key, hex. Two certificates of one key have the same.
      type: str
    version:
      description: Version of X.509.
      type: int
    usages:
      description: Extended key usages, V(server), V(client) or their numbers.
      type: list
      elements: str
    is_ca:
      description: Whether it may sign others.
      type: bool
    self_signed:
      description: Whether it names itself as its issuer. The signature itself is not looked at.
      type: bool
    name_constraints:
      description: Names that an authority may sign (C(permitted)) and may not (C(excluded)), by kind, or null.
      type: dict
    chain:
      description:
        - The certificates behind it, with C(subject), C(issuer), C(serial), C(not_before), C(not_after), C(days_left),
          C(key), C(signature_algorithm), C(fingerprint), C(self_signed) and C(is_ca).
        - Null for a port when the host's Python is older than 3.13, which does not tell.
      type: list
      elements: dict
    verified:
      description: Whether it leads to the given authority, is in its time, and at a port carries the name. May be null.
      type: bool
    unverified_because:
      description: Why not, or why it is not known. Empty when it is verified.
      type: str
missing:
  description: Files and ports without a certificate.
  returned: success
  type: list
  elements: dict
  contains:
    source:
      description: As in RV(certificates), like every value here that is not named.
      type: str
    name:
      description: As in RV(certificates).
      type: str
    code:
      description:
        - Of a port V(refused), V(timed_out), V(unreachable), V(no_tls), V(client_certificate_required),
          V(client_certificate_refused), V(handshake_failed), V(bad_ca), V(bad_client_certificate), V(bad_target) or
          V(malformed).
        - Of a file V(no_file), V(unreadable), V(too_large), V(no_certificate) or V(malformed).
      type: str
    why:
      description: The same in words.
      type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.arguments import (
    target_arguments,
    targets,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.service import (
    HostEyes,
    InfoService,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import (
    SubprocessRunner,
)

TARGET = target_arguments()
ARGUMENTS: dict[str, t.Any] = {
    "files": {"type": "list", "elements": "path", "default": []},
    "targets": {"type": "list", "elements": "dict", "default": [], "options": TARGET},
    "ca": {"type": "path", "default": ""},
    "timeout": {"type": "float", "default": 5.0},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    if params["timeout"] <= 0:
        module.fail_json(msg=f"timeout is {params['timeout']:g}: nobody could answer", code="bad_input")
    try:
        service = InfoService(HostEyes(SubprocessRunner(), params["timeout"]))
        result = service.look(params["files"], targets(params["targets"], params["ca"]), params["ca"])
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()

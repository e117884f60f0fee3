#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: pki_certificates
short_description: Leaf certificates of a host, signed by the internal CA on the controller
version_added: "0.1.0"
description:
  - Issues, renews and repairs the leaf certificates that the services of a host use among each other.
  - The CA is made on first use. Its key stays, encrypted, in O(ca_dir) on the controller. Private keys of leaf
    certificates are made on the host and never leave it; only signing requests and certificates travel.
  - With O(certificates[].shared=true) all hosts have the same certificate and key. That pair is made on the controller
    and kept in O(ca_dir), its key encrypted with O(passphrase); it is renewed once, and each host of the run gets it.
  - A certificate is issued again when it is missing, signed by another CA, does not match its key, differs in subject,
    names or usages, has expired, or has used up two thirds of its life. Files are replaced by renaming inside the
    directory of the certificate, so containers must mount the directory.
  - A host follows one CA for ever. The action refuses, and touches nothing, when the CA on the controller is not the
    one that O(pin) names or the one that the host carries (V(other-ca)), when hosts carry a CA that the controller has
    lost (V(ca-missing)), when O(passphrase) does not open the key (V(wrong-passphrase)), when the CA has expired
    (V(ca-expired)) or is damaged (V(ca-broken)), and when a first CA would be made under C(--limit) (V(ca-unsure)).
  - Interrupted at any point and run again it converges.
author:
  - dedicated.odoo contributors (@dedicated-odoo)
requirements:
  - cryptography >= 3.4 on the host (Debian package python3-cryptography) and on the controller
attributes:
  check_mode:
    support: full
    description: Says what would be issued and changes nothing, not even staging a key. Works before the first run.
  diff_mode:
    support: full
    description: Shows subject, names, usages, end of life and serial number, never a key.
options:
  certificates:
    description: The certificates of this host.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the directory below O(directory), unique on the host.
        type: str
        required: true
      common_name:
        description:
          - The subject's common name, at most 64 characters.
          - May be empty, for a client of etcd's gateway, which refuses named certificates once users are enabled.
            The identity is then in O(certificates[].sans).
        type: str
        required: true
      sans:
        description: Subject alternative names, each V(dns:NAME) or V(ip:ADDRESS). A server needs at least one.
        type: list
        elements: str
        default: []
      usages:
        description: What the certificate is for.
        type: list
        elements: str
        choices: [server, client]
        required: true
      owner:
        description: Numeric user id that owns the files, that of the service in its container.
        type: int
        required: true
      group:
        description: Numeric group id of the files.
        type: int
        required: true
      mode:
        description: Mode of the private key. Quote it.
        type: str
        choices: ["0400", "0440", "0600", "0640"]
        default: "0400"
      key_alias:
        description: Also make V(cert.pem.key) a link to V(key.pem), where HAProxy looks for the key of V(cert.pem).
        type: bool
        default: false
      shared:
        description:
          - One certificate and key for all hosts that name it, instead of one for each.
          - Names and usages must be the same on all of them. A run under C(--limit) leaves the hosts outside with the
            previous pair, which stays good until it expires.
        type: bool
        default: false
  ca_dir:
    description: Directory of the CA on the controller, an absolute path. Back it up.
    type: path
    required: true
  ca_name:
    description: Common name of the CA, used once when it is made.
    type: str
    default: internal CA
  ca_domains:
    description:
      - Names of DNS at or below which the CA that is made may sign, as constraints in its certificate. Empty for all.
      - Whoever gets hold of its key can then deceive nobody about other names, also where browsers trust it.
    type: list
    elements: str
    default: []
  passphrase:
    description: Passphrase of the CA's key. Needed unless O(survey=true). It never leaves the controller.
    type: str
  valid_days:
    description: Life of a certificate in days, 1 to 90.
    type: int
    default: 90
  renew_before_fraction:
    description: Renew when this share of the life, or less, is left.
    type: float
    default: 0.3333
  pin:
    description: SHA-256 fingerprint that the CA must have. Empty pins nothing beyond what the host carries.
    type: str
    default: ""
  directory:
    description: Directory of the certificates on the host.
    type: path
    default: /etc/dedicated/pki
  survey:
    description:
      - Only refuse if this host carries another CA than the controller has. Issues nothing.
      - Run it on all hosts, with C(any_errors_fatal), before the run that may make the first CA.
    type: bool
    default: false
  stage:
    description:
      - Leave the live certificates as they are, and lay new ones beside them, in C(.staged/) below O(directory), where
        only root can enter, for M(dedicated.odoo.certificate_rotate) to bring in.
      - A certificate is staged when the live one was issued before O(since). One that is staged already, was issued
        since and fits is kept, so an interrupted run goes on. Needs O(since).
      - A shared certificate is issued anew by the controller and kept there at once; the next ordinary run would give
        it to every host that has the former one.
    type: bool
    default: false
  since:
    description: When the rotation was begun, in seconds since the epoch. It is noted in C(.staged/since) on the host.
    type: int
    default: 0
  request:
    description: Set by the action plugin on its way to the host. Do not set it.
    type: dict
  shared_keys:
    description: Private keys of shared certificates, set by the action plugin on its way to the host. Do not set it.
    type: dict
"""

EXAMPLES = r"""
- name: Issue and renew the certificates of this host
  dedicated.odoo.pki_certificates:
    ca_dir: "{{ inventory_dir }}/pki"
    ca_name: "{{ dedicated_cluster }} internal CA"
    passphrase: "{{ pki_ca_passphrase }}"
    certificates:
      - name: etcd
        common_name: "{{ inventory_hostname }}"
        usages: [server, client]
        sans: &sans
          - "ip:{{ dedicated_address }}"
          - ip:127.0.0.1
          - "dns:{{ inventory_hostname }}"
          - dns:localhost
        owner: 10020
        group: 10020
      - name: postgres
        common_name: "{{ inventory_hostname }}"
        usages: [server, client]
        sans: *sans
        owner: 10010
        group: 10010
      - name: redis
        common_name: "{{ inventory_hostname }}"
        usages: [server, client]
        sans: *sans
        owner: 10030
        group: 10030
      - name: router
        common_name: router
        usages: [client]
        owner: 10040
        group: 10040
        key_alias: true
      - name: edge
        shared: true
        common_name: "{{ dedicated_domain }}"
        usages: [server]
        sans: ["dns:{{ dedicated_domain }}"]
        owner: 10060
        group: 10060
"""

RETURN = r"""
issued:
  description: What was issued, or would be in check mode.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the certificate.
      type: str
    reason:
      description:
        - One of V(missing), V(wrong-ca), V(key-missing), V(key-mismatch), V(subject-differs), V(san-differs),
          V(usages-differ), V(lives-too-long), V(not-yet-valid), V(expired), V(expiring).
      type: str
    serial:
      description: Serial number in hexadecimal, empty in check mode.
      type: str
    not_after:
      description: End of life.
      type: str
  sample: [{name: etcd, reason: expiring, serial: 5f2c, not_after: "2026-03-01T00:00:00Z"}]
copied:
  description: >-
    Shared certificates that this host got, or would get, from the controller. In check mode one that is due is in
    RV(issued) instead.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the certificate.
      type: str
    reason:
      description: One of V(missing), V(shared-differs), V(key-missing), V(key-mismatch).
      type: str
  sample: [{name: edge, reason: shared-differs}]
repaired:
  description: Certificates that stayed, but whose files were set right.
  returned: success
  type: list
  elements: dict
  sample: [{name: etcd, reason: "owner, mode or content of key.pem"}]
certificates:
  description: All certificates as they are now. What check mode cannot know is empty.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the certificate.
      type: str
    common_name:
      description: Common name of its subject.
      type: str
    sans:
      description: Its alternative names.
      type: list
      elements: str
    usages:
      description: What it is for.
      type: list
      elements: str
    serial:
      description: Serial number in hexadecimal.
      type: str
    not_before:
      description: Begin of life.
      type: str
    not_after:
      description: End of life.
      type: str
    fingerprint:
      description: SHA-256 of the certificate.
      type: str
staged:
  description:
    - Pairs that wait beside the live ones, each with C(name), C(serial) (empty where check mode cannot know),
      C(not_after), and as C(live) the serial of the live one.
  returned: with O(stage=true)
  type: list
  elements: dict
  sample: [{name: etcd, serial: 5f2d, not_after: "2026-03-01T00:00:00Z", live: 5f2c}]
ca:
  description: The CA that signs.
  returned: success
  type: dict
  contains:
    fingerprint:
      description: SHA-256 of its certificate, to be pinned in the inventory. Empty while there is none.
      type: str
    not_after:
      description: End of life.
      type: str
    created:
      description: Whether this host's task made it.
      type: bool
code:
  description: Stable code of a refusal.
  returned: refusal
  type: str
  sample: other-ca
refusal:
  description: The refusal in parts, C(code), C(what), C(why) and C(do).
  returned: refusal
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils._common.errors import DedicatedError, Refuse
from ..module_utils._pki import crypto, service
from ..module_utils._pki.io import Files
from ..module_utils._pki.plan import Policy, normalise

CERTIFICATE_SPEC: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "common_name": {"type": "str", "required": True},
    "sans": {"type": "list", "elements": "str", "default": []},
    "usages": {"type": "list", "elements": "str", "choices": ["server", "client"], "required": True},
    "owner": {"type": "int", "required": True},
    "group": {"type": "int", "required": True},
    "mode": {"type": "str", "choices": ["0400", "0440", "0600", "0640"], "default": "0400"},
    "key_alias": {"type": "bool", "default": False, "no_log": False},
    "shared": {"type": "bool", "default": False},
}
ARGUMENT_SPEC: dict[str, t.Any] = {
    "certificates": {"type": "list", "elements": "dict", "required": True, "options": CERTIFICATE_SPEC},
    "ca_dir": {"type": "path", "required": True},
    "ca_name": {"type": "str", "default": "internal CA"},
    "ca_domains": {"type": "list", "elements": "str", "default": []},
    "passphrase": {"type": "str", "no_log": True},
    "valid_days": {"type": "int", "default": 90},
    "renew_before_fraction": {"type": "float", "default": 0.3333},
    "pin": {"type": "str", "default": ""},
    "directory": {"type": "path", "default": "/etc/dedicated/pki"},
    "survey": {"type": "bool", "default": False},
    "stage": {"type": "bool", "default": False},
    "since": {"type": "int", "default": 0},
    "request": {"type": "dict"},
    "shared_keys": {"type": "dict", "no_log": True},
}


def staging(
    files: Files, ask: service.Ask, params: t.Mapping[str, t.Any], may: bool, library: bool = True
) -> dict[str, t.Any]:
    """The host's half of O(stage)."""
    request = params["request"]
    if request["phase"] == "install":
        if may:
            service.install_staging(
                files, ask, params["since"], request["issued"], params["shared_keys"], request.get("drop") or ()
            )
        return {"changed": True}
    return {"changed": False, "host": service.inspect_staging(files, ask, params["since"], may, library)}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    request = params["request"]
    if not request:
        module.fail_json(msg="This module is the host's half of the action dedicated.odoo.pki_certificates; use that.")
    library = crypto.CRYPTOGRAPHY_ERROR is None
    if not (library or module.check_mode or params["survey"]):
        module.fail_json(
            msg=missing_required_lib("cryptography", reason="to make keys; install the package python3-cryptography"),
            exception=crypto.CRYPTOGRAPHY_ERROR,
        )
    wanted = normalise(params["certificates"])
    if isinstance(wanted, Refuse):
        module.fail_json(msg=wanted.message, code=wanted.code, refusal=wanted.as_result())
    policy = Policy(params["valid_days"], params["renew_before_fraction"])
    ask = service.Ask(
        wanted, request["ca_pem"], int(request["now"]), params["pin"], policy, str(request.get("trust_pem") or "")
    )
    files = Files(params["directory"])
    try:
        if params["stage"]:
            module.exit_json(**staging(files, ask, params, not module.check_mode, library))
        if request["phase"] == "install" and not module.check_mode:
            service.install(files, ask, request["issued"], params["shared_keys"])
            module.exit_json(changed=True)
        stage = not module.check_mode and not params["survey"]
        module.exit_json(changed=False, host=service.inspect(files, ask, stage, library))
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, **exc.details)
    except OSError as exc:
        module.fail_json(msg=f"Cannot keep certificates in {params['directory']}: {exc}.", exception=exc)


if __name__ == "__main__":
    main()

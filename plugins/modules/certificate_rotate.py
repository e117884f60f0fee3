#!/usr/bin/python
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_rotate
short_description: A service takes the certificate that was staged for it, or keeps the one that it has
version_added: "0.1.0"
author:
  - dedicated.odoo contributors (@dedicated-odoo)
description:
  - Judges a staged certificate and its key, puts them in the place of those that a service uses, has the service read
    them, and sees that every endpoint serves the new serial. When one does not, the former pair is put back, the
    service reads it, and every endpoint is seen to serve that.
  - A staged pair that does not fit is refused before anything is touched.
  - Interrupted at any point and run again it goes on, or goes back. What lies there tells how far it was; a former pair
    says that a rotation is under way.
  - The two files are swapped one right after the other. Who opens them in this very moment finds a key that does not
    fit. That is a matter of etcd and its clients, which read them at every handshake, fail that one and try again;
    every other service reads them only when it is told to, which is later.
  - Keys are moved on the host, and never shown.
  - The chain is judged by the program C(openssl), or where the host has none, by the Python library C(cryptography).
attributes:
  check_mode:
    support: full
    description: Says which steps would be taken, or refuses, and changes nothing.
  diff_mode:
    support: full
    description: Shows serial and dates of the certificate, never a key.
  idempotent:
    support: partial
    description: >-
      A second run finds nothing staged and refuses (V(nothing-staged)); with O(serial) it finds that one live and
      changes nothing.
options:
  directory:
    description: Directory of the live pair, with C(cert.pem), C(key.pem) and the authority C(ca.pem).
    type: path
    required: true
  staged:
    description: Directory of the staged pair, with the same names. It is emptied and removed at the end.
    type: path
    required: true
  former:
    description:
      - Directory in which the former pair is kept until the new one is proven. Only root can enter it.
      - The default is C(.former/) with the name of O(directory), beside O(directory).
    type: path
  names:
    description: Names that the staged certificate must carry, as V(dns:NAME), V(ip:ADDRESS) or without their kind.
    type: list
    elements: str
    default: []
  serial:
    description:
      - The serial that is meant. Another one that is staged is refused (V(other-staged)).
      - When nothing is staged and the live certificate has it, there is nothing to do.
    type: str
    default: ""
  fewer_names:
    description: Whether the staged certificate may lack names that the live one has.
    type: bool
    default: false
  shorter_lived:
    description: Whether the staged certificate may end before the live one.
    type: bool
    default: false
  endpoints:
    description:
      - Ports at which the service serves the certificate. Without one nothing is proven, as for a certificate that is
        only shown to others.
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
        description: Name that is asked for (SNI). Empty means O(endpoints[].host).
        type: str
        default: ""
      client_cert:
        description:
          - File with a certificate to present when the server wants one. The serial is seen without it, too.
        type: path
        default: ""
      client_key:
        description: Key of O(endpoints[].client_cert). Empty when it stands in the same file.
        type: path
        default: ""
      ca:
        description: File with authorities. It decides nothing here; the serial does.
        type: path
        default: ""
  reload:
    description:
      - Commands, each a list of words, that make the service read the pair again; the first that fails counts as a
        service that does not take it. Empty for a service that reads it at every handshake.
    type: list
    elements: list
    default: []
  reload_timeout:
    description: Seconds that one command may take.
    type: float
    default: 60.0
  timeout:
    description: Seconds within which every endpoint must serve the new certificate.
    type: float
    default: 60.0
  poll_interval:
    description: Seconds between two looks.
    type: float
    default: 0.5
seealso:
  - module: dedicated.odoo.certificate_info
  - module: dedicated.odoo.pki_certificates
  - plugin: dedicated.odoo.rotation_plan
    plugin_type: filter
"""

EXAMPLES = r"""
- name: PostgreSQL takes its new certificate
  dedicated.odoo.certificate_rotate:
    directory: /etc/dedicated/pki/postgres
    staged: /etc/dedicated/pki/.staged/postgres
    names: ["ip:{{ dedicated_address }}", "dns:{{ inventory_hostname }}"]
    endpoints:
      - {protocol: postgresql, host: "{{ dedicated_address }}", port: 5432}
      - {protocol: patroni, host: "{{ dedicated_address }}", port: 8008}
    reload: [[docker, exec, postgres, sh, -c, "kill -HUP 1"]]
"""

RETURN = r"""
msg:
  description: Old and new serial, or that there was nothing to do.
  returned: success
  type: str
plan:
  description: The steps that were taken, or would be in check mode, with the pair that each is about.
  returned: always
  type: list
  elements: dict
  sample: [{action: keep, pair: former}, {action: land, pair: new}, {action: reload, pair: new}]
before:
  description: C(serial), C(not_before) and C(not_after) of the certificate that was served.
  returned: always
  type: dict
after:
  description: The same of the certificate that is served now.
  returned: success
  type: dict
days_left:
  description: Full days until the new one ends.
  returned: success
  type: int
served:
  description: What the endpoints served when they were last asked, each with C(name), C(serial) and C(code).
  returned: always
  type: list
  elements: dict
staged:
  description: C(serial), C(not_before) and C(not_after) of the staged certificate.
  returned: refusal
  type: dict
rolled_back:
  description: Whether the former pair was put back.
  returned: refusal
  type: bool
code:
  description:
    - Why it was refused before anything was touched, V(nothing-staged), V(unreadable), V(other-staged), V(wrong-key),
      V(wrong-chain), V(not-yet-valid), V(expired), V(shorter-lived), V(missing-name) or V(live-unusable).
    - Or, when the consumer did not take it, V(not-served) if the former one is served again, and V(former-not-served)
      if even that is not.
  returned: refusal
  type: str
refusal:
  description: The refusal in parts, C(code), C(what), C(why) and C(do).
  returned: refusal
  type: dict
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.arguments import (
    target_arguments,
    targets,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.rotate_io import (
    CA,
    CERT,
    HostPlaces,
    RotateEyes,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.rotate_plan import (
    Wish,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._certificate.rotate_service import (
    Consumer,
    Patience,
    RotateService,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.errors import (
    DedicatedError,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._common.runner import (
    SubprocessRunner,
)
from ansible_collections.dedicated.odoo.plugins.module_utils._pki.io import Files

# Seconds for one look at a port, or one judgement of a chain.
LOOK = 5.0
TARGET = target_arguments()
ARGUMENTS: dict[str, t.Any] = {
    "directory": {"type": "path", "required": True},
    "staged": {"type": "path", "required": True},
    "former": {"type": "path"},
    "names": {"type": "list", "elements": "str", "default": []},
    "serial": {"type": "str", "default": ""},
    "fewer_names": {"type": "bool", "default": False},
    "shorter_lived": {"type": "bool", "default": False},
    "endpoints": {"type": "list", "elements": "dict", "default": [], "options": TARGET},
    "reload": {"type": "list", "elements": "list", "default": []},
    "reload_timeout": {"type": "float", "default": 60.0},
    "timeout": {"type": "float", "default": 60.0},
    "poll_interval": {"type": "float", "default": 0.5},
}


def consumer(params: t.Mapping[str, t.Any]) -> Consumer:
    """Whoever serves the pair."""
    return Consumer(
        os.path.join(params["staged"], CERT),
        os.path.join(params["directory"], CA),
        tuple(targets(params["endpoints"])),
        tuple(tuple(str(word) for word in argv) for argv in params["reload"]),
    )


def places(params: t.Mapping[str, t.Any]) -> HostPlaces:
    """Where the three pairs lie."""
    parent, name = os.path.split(os.path.normpath(params["directory"]))
    former = params["former"] or os.path.join(parent, ".former", name)
    return HostPlaces(Files(params["directory"]), Files(params["staged"]), Files(former))


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    if min(params["timeout"], params["reload_timeout"], params["poll_interval"]) <= 0:
        module.fail_json(msg="timeout, reload_timeout and poll_interval must be above 0.", code="bad_input")
    runner = SubprocessRunner()
    patience = Patience(params["reload_timeout"], params["timeout"], params["poll_interval"])
    service = RotateService(places(params), RotateEyes(runner, LOOK), runner, patience)
    wish = Wish(tuple(params["names"]), params["serial"], params["fewer_names"], params["shorter_lived"])
    try:
        outcome = service.rotate(consumer(params), wish, module.check_mode)
    except DedicatedError as exc:
        module.fail_json(msg=exc.msg, exception=exc, **exc.details)
    except (OSError, ValueError) as exc:
        module.fail_json(msg=f"{params['directory']} cannot be rotated: {exc}. Run it again.", exception=exc)
    result = outcome.as_result()
    if module._diff:
        result["diff"] = {"before": outcome.before, "after": outcome.after}
    module.exit_json(**result)


if __name__ == "__main__":
    main()

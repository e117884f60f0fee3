# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verifier is the one that libpq's own function computes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.dedicated.odoo.plugins.filter.postgres_scram import postgres_scram

PASSWORD, SALT = "correct horse battery", "another random text"


def test_a_client_proof_is_accepted_against_it() -> None:
    made = postgres_scram(PASSWORD, SALT)
    found = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$([^:]+):(.+)", made)
    assert found is not None
    salt, stored = base64.b64decode(found[2]), base64.b64decode(found[3])
    # RFC 5802: the client sends ClientKey XOR HMAC(StoredKey, message); the server hashes what it gets back.
    message = b"n=odoo,r=x,r=xy,s=z,i=4096,c=biws,r=xy"
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, int(found[1]))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(stored, message, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    back = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    assert hashlib.sha256(back).digest() == stored


def test_it_is_the_same_every_time_and_differs_by_salt() -> None:
    assert postgres_scram(PASSWORD, SALT) == postgres_scram(PASSWORD, SALT)
    assert postgres_scram(PASSWORD, SALT) != postgres_scram(PASSWORD, SALT + "x")


@pytest.mark.parametrize(("password", "salt"), [("short", SALT), (PASSWORD, ""), (None, SALT), ("ä" * 20, SALT)])
def test_what_is_refused_is_named_and_not_shown(password: object, salt: str) -> None:
    with pytest.raises(AnsibleFilterError, match="must") as caught:
        postgres_scram(password, salt)
    assert "ää" not in str(caught.value)

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hash is what passlib, and so Odoo, accepts."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from passlib.hash import pbkdf2_sha512

from ansible_collections.dedicated.odoo.plugins.filter.odoo_master_hash import odoo_master_hash

PASSWORD, SALT = "correct horse battery", "another random text"


def test_passlib_verifies_it() -> None:
    made = odoo_master_hash(PASSWORD, SALT, rounds=1000)
    assert pbkdf2_sha512.verify(PASSWORD, made)
    assert not pbkdf2_sha512.verify(PASSWORD + "x", made)


def test_it_is_the_same_every_time_and_differs_by_salt() -> None:
    assert odoo_master_hash(PASSWORD, SALT, 1000) == odoo_master_hash(PASSWORD, SALT, 1000)
    assert odoo_master_hash(PASSWORD, SALT, 1000) != odoo_master_hash(PASSWORD, SALT + "x", 1000)


@pytest.mark.parametrize(
    ("password", "salt"), [("short", SALT), (PASSWORD, ""), (None, SALT), (12345678901234567, SALT)]
)
def test_what_is_refused_is_named_and_not_shown(password: object, salt: str) -> None:
    with pytest.raises(AnsibleFilterError, match="16 characters") as caught:
        odoo_master_hash(password, salt)
    assert "1234567" not in str(caught.value)

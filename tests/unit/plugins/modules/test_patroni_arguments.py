# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared options and their documentation say the same."""

from __future__ import annotations

import yaml

from ansible_collections.dedicated.odoo.plugins.doc_fragments.patroni import ModuleDocFragment
from ansible_collections.dedicated.odoo.plugins.module_utils._patroni.arguments import patroni_arguments


def test_fragment_documents_the_arguments() -> None:
    documented = yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]
    specified = patroni_arguments()
    assert list(documented) == list(specified)
    for name, option in specified.items():
        shown = {key: value for key, value in documented[name].items() if key != "description"}
        assert shown == {key: value for key, value in option.items() if key != "no_log"}, name

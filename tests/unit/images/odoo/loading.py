# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads a file of the Odoo image by path: add-ons and commands are no importable package here."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import typing as t
from pathlib import Path

IMAGE = Path(__file__).resolve().parents[4] / "images" / "odoo"


def load(relative: str) -> t.Any:
    name = "odoo_image_" + relative.replace("/", "_").replace("-", "_").replace(".", "_")
    loader = importlib.machinery.SourceFileLoader(name, str(IMAGE / relative))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    was, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = was
    return module

# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand in for the pip bootstrap script that ansible-test would download: Python's own ensurepip does it.

tools/sanity copies this file to the name under which ansible-test looks for its cached download.
"""

from __future__ import annotations

import ensurepip
import os
import runpy
import sys

settings = dict(os.environ)
ensurepip.bootstrap()
# ensurepip turns pip's configuration off for the whole process; what follows needs its index and certificates.
os.environ.clear()
os.environ.update(settings)
arguments = [argument for argument in sys.argv[1:] if argument not in {"--no-setuptools", "--no-wheel"}]
sys.argv = ["pip", "install", *arguments]
runpy.run_module("pip", run_name="__main__", alter_sys=True)

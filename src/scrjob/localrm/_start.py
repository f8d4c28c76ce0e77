# SPDX-License-Identifier: BSD-3-Clause
"""Starts a helper program of this subpackage with the least that Python can do: ``-I -S`` on this file.

    python -I -S .../localrm/_start.py PROGRAM ARGUMENT...

Neither site-packages nor the user's PYTHON* settings are looked at; only the standard library and
scrjob itself are there, so a helper is up in a third of the usual time and no user module shadows it.
"""

from __future__ import annotations

import importlib
import os
import sys


def command(python: str, program: str, *arguments: str) -> list[str]:
    """Return the argument list that starts ``program`` of this subpackage under ``python``."""
    return [python, "-I", "-S", os.path.abspath(__file__), program, *arguments]


if __name__ == "__main__":
    # Appended, for scrjob may lie among other packages that must not hide the standard library.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    module = importlib.import_module(f"scrjob.localrm.{sys.argv[1]}")
    sys.exit(module.main(sys.argv[2:], os.environb))

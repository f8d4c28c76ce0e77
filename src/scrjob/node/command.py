# SPDX-License-Identifier: BSD-3-Clause
"""How the programs of this subpackage are started on a node."""

from __future__ import annotations

import sys

START = (
    "import sys; sys.path[:1] = filter(None, sys.path[:1]); "
    "from scrjob.node.__main__ import main; sys.exit(main())"
)
"""As ``python -m scrjob.node``, but without the current directory on Python's path: a user's own
``copy.py`` or ``json.py`` there would take the place of the standard library's."""


def node_command(program: str, *arguments: str) -> list[str]:
    """Return the argument list that starts a program of ``scrjob.node``, e.g. "copy"."""
    return [sys.executable, "-c", START, program, *arguments]

# SPDX-License-Identifier: BSD-3-Clause
"""How the programs of this subpackage are started on a node."""

from __future__ import annotations

import os
import sys

START = (
    "import sys; sys.path[:1] = filter(None, sys.path[:1]); "
    "from scrjob.node.__main__ import main; sys.exit(main())"
)
"""As ``python -m scrjob.node``, but without the current directory on Python's path: a user's own
``copy.py`` or ``json.py`` there would take the place of the standard library's."""

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKED = os.path.join(_PACKAGE, "scrjob-node.pyz")
"""All modules that the programs need, in one file; an editable install has none."""


def node_command(program: str, *arguments: str, packed: str = PACKED) -> list[str]:
    """Return the argument list that starts a program of ``scrjob.node``, e.g. "copy".

    Args:
        program: its name.
        arguments: its arguments.
        packed: the file to start it from, if it is there and was made for this Python; else the package.
    """
    if not _fits(packed):
        return [sys.executable, "-c", START, program, *arguments]
    # Without the site's modules (-S), whose search and hooks take a third of the start. What may be
    # wanted of them (isal, psutil) lies beside the package or, if that is one of a source tree, where
    # packages are installed: these are the last places to look.
    import sysconfig  # noqa: PLC0415 - most commands start nothing on a node

    last = [os.path.dirname(_PACKAGE), sysconfig.get_path("platlib")]
    start = (
        f"import sys; sys.path[:] = [{packed!r}, *sys.path, *{last!r}]; "
        "from scrjob.node.__main__ import main; sys.exit(main())"
    )
    return [sys.executable, "-I", "-S", "-c", start, program, *arguments]


def _fits(packed: str) -> bool:
    tag = str(sys.implementation.cache_tag).encode("ascii")
    try:
        with open(packed, "rb") as file:
            file.seek(-len(tag), os.SEEK_END)
            return file.read() == tag
    except OSError:
        return False

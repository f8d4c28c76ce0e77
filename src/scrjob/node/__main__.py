# SPDX-License-Identifier: BSD-3-Clause
"""``python -m scrjob.node PROGRAM [ARGUMENTS]``: what scrjob starts on a compute node.

Programs: ``cached`` (what is in cache), ``check`` (scr_check_node), ``condition`` (memory kills, free
space), ``copy`` (scr_copy), ``growth`` (do files in cache change), ``inspect``
(scr_inspect_cache), ``stacks`` (what hung processes do).
"""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Optional, Sequence

PROGRAMS = {
    "cached": "scrjob.node.cached",
    "check": "scrjob.node.check",
    "condition": "scrjob.node.condition",
    "copy": "scrjob.node.copy_main",
    "growth": "scrjob.node.growth",
    "inspect": "scrjob.node.inspect",
    "stacks": "scrjob.node.stacks",
}
EXIT_USAGE = 64
OBJECTS_A_COLLECTION = 50_000
"""A copy of many files keeps very many objects for a while, without cycles to be found among them."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the named program with the rest of the arguments; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    home = PROGRAMS.get(words[0]) if words else None
    if home is None:
        sys.stderr.write(f"usage: python -m scrjob.node {{{','.join(PROGRAMS)}}} [ARGUMENTS]\n")
        return EXIT_USAGE
    gc.set_threshold(OBJECTS_A_COLLECTION, *gc.get_threshold()[1:])
    return int(importlib.import_module(home).main(words[1:]))


if __name__ == "__main__":
    sys.exit(main())

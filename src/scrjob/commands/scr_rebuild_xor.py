# SPDX-License-Identifier: BSD-3-Clause
"""``scr_rebuild_xor [--relocate OLD=NEW] map|xor FILE...``: make a group of scheme XOR whole.

Run it in the dataset's hidden directory. The files are the redundancy files of the group that exist.
``map`` rebuilds filemaps, any other word application files, whose places the filemaps tell; so ``map``
comes first. ``--relocate`` (may be repeated): recorded paths below OLD are really below NEW. Exit code
0: done, or nothing was lost; 1: failed, nothing was changed.
"""

from __future__ import annotations

import sys
from typing import Optional, Sequence

from scrjob.commands._rebuild import main_for


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit code."""
    return main_for("xor", argv)


if __name__ == "__main__":
    sys.exit(main())

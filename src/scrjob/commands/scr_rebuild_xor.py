# SPDX-License-Identifier: BSD-3-Clause
"""``scr_rebuild_xor [--relocate OLD=NEW] map|xor FILE...``: make one XOR group of a dataset whole.

Run it in the dataset's hidden directory. The files are the redundancy files of the group that exist.
``map`` rebuilds filemaps, any other word application files, whose places the filemaps tell; so ``map``
comes first. ``--relocate`` (may be repeated): recorded paths below OLD are really below NEW. Exit code
0: done, or nothing was lost; 1: failed, nothing was changed.
"""

from __future__ import annotations

import os
import sys
from typing import Optional, Sequence

from scrjob.commands._shared import EXIT_FAILURE, run_command

SCHEME = "xor"
USAGE = "Usage: scr_rebuild_xor [--relocate OLD=NEW] <map|xor> <redundancy file> ..."
_WORDS = 2  # what kind, and at least one file
_OPTION = "--relocate"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit code."""
    return run_command("scr_rebuild_xor", _run, argv)


def _run(argv: list[str]) -> int:
    moves = []
    while argv[:1] == [_OPTION]:
        moves += argv[1:2]
        argv = argv[2:]
    if len(argv) < _WORDS:
        print(USAGE)
        return EXIT_FAILURE
    from scrjob.errors import FormatError, UnrecoverableError  # noqa: PLC0415 - usage needs none
    from scrjob.formats.redset_header import DATA_SET, MAP_SET  # noqa: PLC0415 - usage needs none
    from scrjob.redundancy.paths import PrefixGuard, parse_relocation  # noqa: PLC0415 - usage needs none
    from scrjob.redundancy.rebuild import rebuild_files  # noqa: PLC0415 - usage needs none

    word, names = argv[0], argv[1:]
    set_name = MAP_SET if word == "map" else DATA_SET
    for name in names:
        if not name.startswith(f"{set_name}.er.") or f".{SCHEME}." not in name:
            raise FormatError(f"not a {SCHEME.upper()} file of set {set_name}", path=name)
    directory = os.getcwd()
    # The hidden directory is <prefix>/.scr/scr.dataset.<id>: nothing outside of the prefix is written.
    guard = PrefixGuard(
        os.path.dirname(os.path.dirname(directory)), [parse_relocation(move) for move in moves]
    )
    try:
        rebuild_files(directory, names, guard)
    except UnrecoverableError as error:
        print(f"SCR v3.1.0 ERROR: {os.uname().nodename}: {error}")
        return EXIT_FAILURE
    return 0


if __name__ == "__main__":
    sys.exit(main())

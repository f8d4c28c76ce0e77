# SPDX-License-Identifier: BSD-3-Clause
"""What ``scr_rebuild_partner``, ``scr_rebuild_xor`` and ``scr_rebuild_rs`` have in common: all but a word."""

from __future__ import annotations

import os
from typing import Optional, Sequence

from scrjob.commands._shared import EXIT_FAILURE, complain, run_command

_WORDS = 2  # what kind, and at least one file
_OPTION = "--relocate"


def main_for(scheme: str, argv: Optional[Sequence[str]]) -> int:
    """Run the command that rebuilds groups of a scheme; returns its exit code.

    Args:
        scheme: as in file names.
        argv: the arguments; None for those of the process.
    """
    return run_command(f"scr_rebuild_{scheme}", lambda words: _run(scheme, words), argv)


def _run(scheme: str, argv: list[str]) -> int:
    moves = []
    while argv[:1] == [_OPTION]:
        moves += argv[1:2]
        argv = argv[2:]
    prog = f"scr_rebuild_{scheme}"
    if len(argv) < _WORDS:
        print(f"Usage: {prog} [{_OPTION} OLD=NEW] <map|{scheme}> <redundancy file> ...")
        return EXIT_FAILURE
    from scrjob.errors import FormatError, UnrecoverableError  # noqa: PLC0415 - usage needs none
    from scrjob.formats.redset_header import DATA_SET, MAP_SET  # noqa: PLC0415 - usage needs none
    from scrjob.redundancy.paths import PrefixGuard, parse_relocation  # noqa: PLC0415 - usage needs none
    from scrjob.redundancy.rebuild import INSUFFICIENT, rebuild_files  # noqa: PLC0415 - usage needs none

    word, names = argv[0], argv[1:]
    set_name = MAP_SET if word == "map" else DATA_SET
    for name in names:
        if not name.startswith(f"{set_name}.er.") or f".{scheme}." not in name:
            raise FormatError(f"not a {scheme.upper()} file of set {set_name}", path=name)
    directory = os.getcwd()
    # The hidden directory is <prefix>/.scr/scr.dataset.<id>: nothing outside of the prefix is written.
    guard = PrefixGuard(
        os.path.dirname(os.path.dirname(directory)), [parse_relocation(move) for move in moves]
    )
    try:
        rebuild_files(directory, names, guard)
    except UnrecoverableError as error:
        print(INSUFFICIENT)
        complain(prog, str(error))
        return EXIT_FAILURE
    return 0

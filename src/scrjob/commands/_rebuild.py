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
    from scrjob._clock import SystemClock  # noqa: PLC0415 - usage needs none
    from scrjob.errors import ScrError, UnrecoverableError  # noqa: PLC0415 - usage needs none
    from scrjob.redundancy.lock import one_at_a_time, process  # noqa: PLC0415 - usage needs none
    from scrjob.redundancy.paths import PrefixGuard, parse_relocation  # noqa: PLC0415 - usage needs none
    from scrjob.redundancy.rebuild import INSUFFICIENT, rebuild_files  # noqa: PLC0415 - usage needs none

    directory = os.getcwd()
    try:
        names = _names(scheme, argv[0], argv[1:], directory)
        # The hidden directory is <prefix>/.scr/scr.dataset.<id>: nothing outside of the prefix is written.
        guard = PrefixGuard(
            os.path.dirname(os.path.dirname(directory)), [parse_relocation(move) for move in moves]
        )
        host = os.uname().nodename
        with one_at_a_time(
            directory,
            clock=SystemClock(),
            who=f"{prog} {process(host, os.getpid())}",
            say=lambda _line: None,
            wait_s=0.0,
            parent=process(host, os.getppid()),
            shared=True,  # SCR's scr_index rebuilds all groups at the same time
        ):
            rebuild_files(directory, names, guard)
    except ScrError as error:
        if isinstance(error, UnrecoverableError):
            print(INSUFFICIENT)
        complain(prog, str(error))
        return EXIT_FAILURE
    return 0


def _names(scheme: str, word: str, files: Sequence[str], directory: str) -> list[str]:
    """Return the names of redundancy files in ``directory`` from what the user calls them.

    Raises:
        FormatError: one lies elsewhere, or is not of the scheme and the set.
    """
    from scrjob.errors import FormatError  # noqa: PLC0415 - usage needs none
    from scrjob.formats.redset_header import DATA_SET, MAP_SET, parse_name  # noqa: PLC0415 - same

    set_name = MAP_SET if word == "map" else DATA_SET
    names = []
    for file in files:
        where, name = os.path.split(file)
        found = parse_name(name)
        if found is None or (found.set_name, found.type) != (set_name, scheme):
            raise FormatError(f"not a {scheme.upper()} file of set {set_name}", path=file)
        if os.path.realpath(where) != directory:
            raise FormatError(
                f"expected a file in {directory!r}, where this was started", path=file
            )
        names.append(name)
    return names

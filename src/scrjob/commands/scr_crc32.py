# SPDX-License-Identifier: BSD-3-Clause
"""``scr_crc32 FILE``: print a file's CRC32, lowercase hexadecimal without 0x or leading zeros.

Exit code 0; 1: the file cannot be read, which is told on stdout, or not one file was named.
"""

from __future__ import annotations

import os
from typing import Optional, Sequence

from scrjob._crc import rest_of
from scrjob.commands._scrtool import scr_error
from scrjob.commands._shared import EXIT_FAILURE, one_line, printable, run_command

PROG = "scr_crc32"
USAGE = f"Usage: {PROG} <file>"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    if len(argv) != 1:
        print(USAGE)
        return EXIT_FAILURE
    try:
        crc = _crc_of(argv[0])
    except OSError as error:
        scr_error(printable(f"{PROG}: Failed to read file {one_line(error)}"))
        if argv[0].startswith("-"):
            print(USAGE)  # there are no options; a file may have such a name
        return EXIT_FAILURE
    print(f"{crc:x}")
    return 0


def _crc_of(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return rest_of(fd)
        finally:
            os.close(fd)
    except OSError as error:
        error.filename = path  # an error of reading does not say
        raise

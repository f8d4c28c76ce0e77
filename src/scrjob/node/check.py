# SPDX-License-Identifier: BSD-3-Clause
"""Is this node fit to hold control and cache data? What ``scr_check_node`` does.

Runs on the node itself, so its imports are few.
"""

from __future__ import annotations

import os
import sys
from typing import Optional, Sequence

from scrjob._configfile import parse_bytes

PROG = "scr_check_node"
USAGE = f"""\
Usage: {PROG} [--free] [--cntl DIR[:BYTES],...] [--cache DIR[:BYTES],...]

Each directory must exist, take a file and give it back, and be on a file system of so many bytes.
Prints PASS, or FAIL with the first reason; exit code 0 or 1.

  --cntl LIST   directories for control data
  --cache LIST  directories for cached datasets
  --free        the bytes must be free, not only there
  -h, --help    print this
"""

_PROBE = os.urandom(4096)


def parse_directories(text: str) -> list[tuple[str, Optional[int]]]:
    """Return (directory, bytes wanted or None) of a list ``DIR[:BYTES],...``.

    What follows the last colon counts as a size only if it is one.
    """
    wanted: list[tuple[str, Optional[int]]] = []
    for entry in filter(None, text.split(",")):
        directory, colon, size = entry.rpartition(":")
        try:
            wanted.append((directory, parse_bytes(size)) if colon else (entry, None))
        except ValueError:
            wanted.append((entry, None))
    return wanted


def find_fault(directory: str, wanted_bytes: Optional[int], *, free: bool) -> Optional[str]:
    """Return why a directory is not fit, in one line; None if it is.

    Args:
        directory: must exist; a file is written, read back and removed.
        wanted_bytes: size that its file system must have; None: any.
        free: ``wanted_bytes`` must be available now, not only be its size.
    """
    try:
        if wanted_bytes is not None:
            status = os.statvfs(directory)
            found = status.f_frsize * (status.f_bavail if free else status.f_blocks)
            if found < wanted_bytes:
                return (
                    f"Insufficient space in directory: {directory}, "
                    f"expected {wanted_bytes}, found {found}"
                )
        _try_file(directory)
    except OSError as error:
        return f"Cannot use directory: {directory}: {error.strerror or error}"
    return None


def first_fault(lists: Sequence[str], *, free: bool) -> Optional[str]:
    """Return the first fault of all directories in ``DIR[:BYTES],...`` lists, None if there is none."""
    for text in lists:
        for directory, wanted in parse_directories(text):
            fault = find_fault(directory, wanted, free=free)
            if fault:
                return fault
    return None


def main(argv: Sequence[str]) -> int:
    """Check as told by the arguments (without the program's name); returns 0 fit, 1 not fit or bad usage."""
    import getopt  # noqa: PLC0415 - a tenth of argparse's start-up time

    try:
        options, rest = getopt.gnu_getopt(list(argv), "h", ["free", "cntl=", "cache=", "help"])
    except getopt.GetoptError as error:
        sys.stderr.write(f"{PROG}: {error}\n{USAGE}")
        return 1
    chosen = dict(options)
    if "-h" in chosen or "--help" in chosen:
        sys.stdout.write(USAGE)
        return 0
    if rest:
        sys.stderr.write(f"{PROG}: unexpected argument {rest[0]!r}\n{USAGE}")
        return 1
    fault = first_fault(
        [value for name, value in options if name in ("--cntl", "--cache")],
        free="--free" in chosen,
    )
    line = f"{PROG}: FAIL: {fault}" if fault else f"{PROG}: PASS"
    # One line, whatever a directory's name holds: the caller reads lines.
    sys.stdout.write(line.replace("\n", "?") + "\n")
    return 1 if fault else 0


def _try_file(directory: str) -> None:
    path = os.path.join(directory, f".{PROG}.{os.getpid()}.{os.urandom(8).hex()}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        written = os.write(fd, _PROBE)
        os.fsync(fd)
        back = os.pread(fd, len(_PROBE), 0)
    finally:
        os.close(fd)
        os.unlink(path)
    if back != _PROBE:
        raise OSError(f"wrote {written} of {len(_PROBE)} bytes, which do not read back")

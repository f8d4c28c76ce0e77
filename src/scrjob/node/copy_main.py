# SPDX-License-Identifier: BSD-3-Clause
"""The command line of scr_copy: options, stdout and exit code of the C tool, and a few more.

::

    scr_copy -c|--cntldir DIR -i|--id ID -d|--prefix DIR [-b|--buf BYTES] [-r|--crc]
             [--relocate OLD=NEW] [--nocrc] [--resume] [--only-created MICROSECONDS] [--json]

``--relocate`` (may be repeated): recorded paths below OLD are really below NEW, for a prefix or a
cache that was moved or is mounted elsewhere. ``--nocrc``: no checksums, the kernel may copy by
itself. ``--resume``: keep a journal, copy nothing twice. ``--only-created``: only a dataset that was created
at this moment (since the epoch), no other of its number. ``--json``: one more last line on stdout, an
object with node, dataset, rc, files, bytes, skipped, errors and the CRC32 of each file.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Optional, Sequence

from scrjob._getopt import Option, getopt_long
from scrjob.errors import UsageError
from scrjob.node.copy import DEFAULT_BUFFER_BYTES, PROG, CopyResult, copy_dataset, error_line
from scrjob.redundancy.paths import parse_relocation

OPTIONS = (
    Option("cntldir", "c", takes=True),
    Option("id", "i", takes=True),
    Option("prefix", "d", takes=True),
    Option("buf", "b", takes=True),
    Option("crc", "r"),
    Option("help", "h"),
    Option("relocate", takes=True),
    Option("nocrc"),
    Option("resume"),
    Option("only-created", takes=True),
    Option("json"),
)
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([kmgtpe]?)b?\s*", re.IGNORECASE)
_POWERS = " kmgtpe"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Copy as the options say; returns 0 if all is well, else 1."""
    words = sys.argv[1:] if argv is None else argv
    host = os.uname().nodename
    given: dict[str, str] = {}
    moves: list[str] = []

    for name, value in getopt_long(PROG, words, OPTIONS):
        if name == "help":
            return 1
        if name == "relocate":
            moves.append(value)
        given[name] = value

    problems = []
    if "cntldir" not in given:
        problems.append("Must specify control directory via '--dir <cntl_dir>'")
    dataset_id = _number(given.get("id", ""))
    if "id" not in given:
        problems.append("Must specify dataset id via '--id <id>'")
    elif dataset_id <= 0:
        problems.append(f"Dataset id must be positive '--id {given['id']}'")
    if "prefix" not in given:
        problems.append("Must specify prefix directory via '--prefix <dir>'")
    buffer_bytes = parse_size(given["buf"]) if "buf" in given else DEFAULT_BUFFER_BYTES
    if not buffer_bytes:
        problems.append(f"Invalid value for buffer size '--buf {given['buf']}'")
    try:
        relocations = [parse_relocation(text) for text in moves]
    except UsageError as error:
        relocations = []
        problems.append(str(error))

    if problems:
        for problem in problems:
            _emit(error_line(host, f"{PROG}: {problem}"))
        _emit(f"{PROG}: {host}: Return code: 1")
        return 1
    result = copy_dataset(
        given["cntldir"],
        dataset_id,
        os.path.abspath(given["prefix"]),
        host=host,
        emit=_emit,
        buffer_bytes=buffer_bytes or DEFAULT_BUFFER_BYTES,
        moves=relocations,
        checksum="nocrc" not in given,
        resume="resume" in given,
        created_us=_number(given["only-created"]) if "only-created" in given else None,
    )
    if "json" in given:
        _emit(_json_line(host, dataset_id, result))
    sys.stdout.flush()
    return result.rc


def parse_size(text: str) -> Optional[int]:
    """Return a number of bytes such as ``1048576``, ``1MB`` or ``2k``; None if it is no positive one."""
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    return int(float(match[1]) * 1024 ** _POWERS.index(match[2].lower() or " ")) or None


def _number(text: str) -> int:
    match = re.match(r"\s*[+-]?[0-9]{1,18}", text)
    return int(match[0]) if match else 0


def _json_line(host: str, dataset_id: int, result: CopyResult) -> str:
    import json  # noqa: PLC0415 - only for this option

    return json.dumps(
        {
            "node": host,
            "dataset": dataset_id,
            "rc": result.rc,
            "files": result.files,
            "bytes": result.bytes,
            "skipped": result.skipped,
            "errors": list(result.errors),
            "crc": result.crcs,
        },
        separators=(",", ":"),
    )


def _emit(line: str) -> None:
    sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")


if __name__ == "__main__":
    sys.exit(main())

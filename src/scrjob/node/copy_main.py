# SPDX-License-Identifier: BSD-3-Clause
"""The command line of scr_copy: options, stdout and exit code of the C tool, and a few more.

::

    scr_copy -c|--cntldir DIR -i|--id ID -d|--prefix DIR [-b|--buf BYTES] [-r|--crc]
             [--relocate OLD=NEW] [--nocrc] [--resume] [--shared]
             [--only-created MICROSECONDS] [--bw BYTES] [--progress] [--json] [--identify]

``--relocate`` (may be repeated): recorded paths below OLD are really below NEW, for a prefix or a
cache that was moved or is mounted elsewhere. ``--nocrc``: no checksums, the kernel may copy by
itself. ``--resume``: keep a journal, copy nothing twice, and end a copy of the same dataset that a dead
supervisor left at work on this node. ``--shared``: other nodes see this cache, too: with ``--resume`` their
journals count as well. ``--only-created``: only a dataset that was created
at this moment (since the epoch), no other of its number. ``--bw``: so many bytes a second at most.
``--progress``: keep ``scrjob.progress.<host>`` in the dataset's directory in the prefix while copying: a JSON
object with total_bytes, done_bytes, total_files, done_files, updated (Unix seconds).

``--json``: one more last line on stdout, an object with node, dataset, rc, files, bytes, skipped, errors and
crc, the CRC32 of each file by its path; crc is empty with ``--resume``, for the journal has it (not so what
could not be written there).

``--identify``: copy nothing; the only line on stdout is an object with node, dataset, token, bytes and
files. Nodes with the same token share this cache, so the dataset needs to be copied by one of them only;
bytes and files are what a copy would read. On a node that holds nothing: what the copy says, exit code 1.
"""

from __future__ import annotations

import math
import os
import re
import select
import sys
from typing import Optional, Sequence

from scrjob._clock import SystemClock
from scrjob._getopt import Option, getopt_long
from scrjob.errors import UsageError
from scrjob.node.copy import (
    DEFAULT_BUFFER_BYTES,
    PROG,
    CopyOptions,
    CopyResult,
    copy_dataset,
    error_line,
    one_line,
)
from scrjob.redundancy.paths import parse_relocation

OPTIONS = (
    Option("cntldir", "c", takes=True),
    Option("id", "i", takes=True),
    Option("prefix", "d", takes=True),
    Option("buf", "b", takes=True),
    Option("crc", "r"),
    Option("help", "h"),
    Option("relocate", takes=True, whole=True),
    Option("nocrc", whole=True),
    Option("resume", whole=True),
    Option("shared", whole=True),
    Option("only-created", takes=True, whole=True),
    Option("bw", takes=True, whole=True),
    Option("progress", whole=True),
    Option("json", whole=True),
    Option("identify", whole=True),
)
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([kmgtpe]?)b?\s*", re.IGNORECASE)
_POWERS = " kmgtpe"
_STDOUT = 1


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Copy as the options say; returns 0 if all is well, else 1."""
    try:
        rc = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody to tell; without this the interpreter would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), _STDOUT)
        return 1
    return rc


def _run(words: Sequence[str]) -> int:
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
    bytes_per_s = parse_size(given["bw"]) if "bw" in given else None
    if "bw" in given and not bytes_per_s:
        problems.append(f"Invalid value for bandwidth '--bw {given['bw']}'")
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
    options = CopyOptions(
        buffer_bytes=buffer_bytes or DEFAULT_BUFFER_BYTES,
        moves=relocations,
        checksum="nocrc" not in given,
        resume="resume" in given,
        shared="shared" in given,
        created_us=_number(given["only-created"]) if "only-created" in given else None,
        bytes_per_s=bytes_per_s,
        progress="progress" in given,
        is_alone=_nobody_listens,
    )
    if "identify" in given:
        return _identify(host, given["cntldir"], dataset_id, options)
    result = copy_dataset(
        given["cntldir"],
        dataset_id,
        os.path.abspath(given["prefix"]),
        host=host,
        clock=SystemClock(),
        emit=_emit,
        options=options,
    )
    if "json" in given:
        _emit(_json_line(host, dataset_id, result))
    return result.rc


def parse_size(text: str) -> Optional[int]:
    """Return a number of bytes such as ``1048576``, ``1MB`` or ``2k``; None if it is no positive one."""
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    size = float(match[1]) * 1024 ** _POWERS.index(match[2].lower() or " ")
    return None if math.isinf(size) else int(size) or None


def _number(text: str) -> int:
    match = re.match(r"\s*[+-]?[0-9]{1,18}", text)
    return int(match[0]) if match else 0


def _identify(host: str, cntldir: str, dataset_id: int, options: CopyOptions) -> int:
    import json  # noqa: PLC0415 - only for this option

    from scrjob.node._cached_files import locate  # noqa: PLC0415 - same
    from scrjob.node.identify import identify  # noqa: PLC0415 - same

    cache = locate(cntldir, dataset_id, options.moves, options.created_us)
    problem = cache.damage or cache.problem
    if cache.path is not None:
        try:
            found = identify(cache.path)
        except OSError as error:
            problem = f"Failed to read cache: {error}"
        else:
            answer = {"node": host, "dataset": dataset_id, **found._asdict()}
            _emit(json.dumps(answer, separators=(",", ":")))
            return 0
    _emit(f"{PROG}: {host}: {one_line(problem)}")
    return 1


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


def _nobody_listens() -> bool:
    """Tell whether the other end of stdout is closed: who has started us is gone."""
    poll = select.poll()
    poll.register(_STDOUT, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


if __name__ == "__main__":
    sys.exit(main())

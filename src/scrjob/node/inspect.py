# SPDX-License-Identifier: BSD-3-Clause
"""scr_inspect_cache: which ranks' files are whole on this node, and which redundancy protects them.

One line for each rank of each dataset whose files are all there, as it is named in SCR's documents::

    DSET=<id> RANK=<rank> TYPE=<type> GROUPS=<groups> GROUP_ID=<group> GROUP_SIZE=<n> GROUP_RANK=<i> FILES=1

With ``--json`` one object: ``datasets``, each with ``id``, ``descriptor`` (kvtree image in hexadecimal
digits), ``bypass`` and ``ranks``. A rank has ``rank``, ``job`` (number of ranks), ``filemap`` (it can be
read), ``whole`` (all files are right), ``why`` (if not) and ``sets``: name of a redundancy set -> place in
its group (the fields of ``redset_header.Descriptor``) and ``told``, pairs of group rank and world rank.
Files are looked at, not read.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from typing import Any, Iterator, NamedTuple, Optional, Sequence

from scrjob._fsio import check_private_dir, read_bounded
from scrjob._getopt import Option, getopt_long
from scrjob.errors import FormatError, ScrError, UsageError
from scrjob.formats import cindex, filemap, kvtree, paths, redset_header
from scrjob.formats.places import Reader
from scrjob.formats.redset_header import DATA_SET, MAP_SET
from scrjob.redundancy.paths import Relocation, parse_relocation, relocate
from scrjob.redundancy.usable import fileless, told_by, usable_header

PROG = "scr_inspect_cache"
OPTIONS = (Option("json"), Option("relocate", takes=True), Option("help", "h"))
USAGE = f"""
  Usage: {PROG} [--json] [--relocate OLD=NEW] <cache index file or control directory>...
"""


class Held(NamedTuple):
    """One rank's part of a dataset on this node; see the module's text."""

    rank: int
    job: Optional[int]
    has_filemap: bool
    why: str
    sets: dict[str, dict[str, Any]]

    @property
    def is_whole(self) -> bool:
        """Tell whether filemap and files are right."""
        return self.has_filemap and not self.why


def main(argv: Sequence[str]) -> int:
    """List the ranks of these cache indexes; returns 0, or 1 if one cannot be read or the call is wrong."""
    where: list[str] = []
    moves: list[Relocation] = []
    as_json = False
    try:
        for name, value in getopt_long(PROG, argv, OPTIONS, where):
            if name == "relocate":
                moves.append(parse_relocation(value))
            elif name == "json":
                as_json = True
            else:
                where = []
                break
    except UsageError as error:
        sys.stderr.write(f"{PROG}: {error}\n")
        return 1
    if not where:
        sys.stdout.write(USAGE)
        return 1
    code = 0
    rows: list[dict[str, Any]] = []
    for path in where:
        try:
            # A node may have lost its directories; what a person names must be there.
            if not as_json:
                os.stat(path)
            rows += list(inspect_index(path, moves))
        except (ScrError, OSError) as error:
            why = f"{path!r}: {error.strerror}" if isinstance(error, OSError) else str(error)
            sys.stderr.write(f"{PROG}: {why}\n")
            code = 1
    if as_json:
        sys.stdout.write(json.dumps({"datasets": rows}) + "\n")
    else:
        sys.stdout.writelines(lines_of(rows))
    return code


def lines_of(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Give the established lines, newline included."""
    for row in rows:
        for rank in row["ranks"]:
            place = rank["sets"].get(MAP_SET if row["bypass"] else DATA_SET)
            if rank["whole"] and place is not None:
                yield (
                    f"DSET={row['id']} RANK={rank['rank']} TYPE={place['type'].upper()} "
                    f"GROUPS={place['groups']} GROUP_ID={place['group']} "
                    f"GROUP_SIZE={place['ranks']} GROUP_RANK={place['rank']} FILES=1\n"
                )


def inspect_index(path: str, moves: Sequence[Relocation] = ()) -> Iterator[dict[str, Any]]:
    """Give what is held of each dataset, by ascending id.

    Args:
        path: a cache index, or the control directory that it is in. None there: nothing is held.
        moves: relocations of recorded paths.

    Raises:
        UnsafePathError: the directory is somebody else's.
        FormatError, OSError: the index cannot be read.
    """
    directory = path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))
    try:
        # In a shared place somebody else could have made it.
        check_private_dir(directory, uid=os.geteuid())
    except FileNotFoundError:  # as on a spare node
        return
    if os.path.isdir(path):
        path = os.path.join(path, paths.CINDEX_NAME)
    try:
        tree = kvtree.read(path)
    except FileNotFoundError:
        return
    for dataset_id, held in cindex.datasets(tree).items():
        ranks = [] if held.path is None else look_at(relocate(held.path, moves), moves)
        yield {
            "id": dataset_id,
            "descriptor": kvtree.encode(held.descriptor or kvtree.KVTree()).hex(),
            "bypass": held.is_bypass,
            "ranks": [
                {
                    "rank": rank.rank,
                    "job": rank.job,
                    "filemap": rank.has_filemap,
                    "whole": rank.is_whole,
                    "why": rank.why,
                    "sets": rank.sets,
                }
                for rank in ranks
            ],
        }


def look_at(directory: str, moves: Sequence[Relocation] = ()) -> list[Held]:
    """Return what a dataset's cache directory holds, by ascending rank; nothing if it cannot be listed."""
    hidden = os.path.join(directory, ".scr")
    filemaps: list[int] = []
    sets: dict[int, dict[str, dict[str, Any]]] = {}
    try:
        names = os.listdir(hidden)
    except OSError:
        return []
    for name in names:
        rank = filemap.rank_of(name)
        found = redset_header.parse_name(name)
        if rank is not None:
            filemaps.append(rank)
        elif found is not None:
            place = _redundancy(os.path.join(hidden, name), found)
            if place is not None:
                sets.setdefault(found.rank, {})[found.set_name] = place
    reader = Reader()
    held = []
    for rank in sorted({*filemaps, *sets}):
        path = os.path.join(hidden, filemap.file_name(rank))
        job, has_filemap, why = _files(reader, path, moves)
        held.append(Held(rank, job, has_filemap, why, sets.get(rank, {})))
    return held


def _files(
    reader: Reader, path: str, moves: Sequence[Relocation]
) -> tuple[Optional[int], bool, str]:
    """Return size of the job, whether the filemap can be read, and what is wrong with the files."""
    try:
        listed = reader.read(read_bounded(path), path)
    except (FormatError, OSError) as error:
        return None, False, str(error)
    job = None
    for cached, place in listed.items():
        if place is None:
            return job, True, f"no record of {cached!r}"
        job = place.ranks if job is None else job
        try:
            status = os.lstat(relocate(cached, moves))
        except (OSError, ValueError) as error:
            return job, True, str(error)
        if not place.complete:
            return job, True, f"{cached!r} is not complete"
        if not stat.S_ISREG(status.st_mode) or status.st_size != place.size_bytes:
            return job, True, f"{cached!r} is not a file of {place.size_bytes} bytes"
    return job, True, ""


def _redundancy(path: str, name: redset_header.RedsetName) -> Optional[dict[str, Any]]:
    """Return the place of a redundancy file's member in its group, None if the file cannot be used."""
    header = usable_header(path, name)
    if header is None:
        return None
    place = header.members[name.member].descriptor
    return {
        **place._asdict(),
        "told": sorted(told_by(header).items()),
        "fileless": sorted(fileless(header)) if name.set_name == redset_header.MAP_SET else [],
    }

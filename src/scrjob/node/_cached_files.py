# SPDX-License-Identifier: BSD-3-Clause
"""What lies in a node's cache of one dataset, and whether it is what its records say."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Iterable, NamedTuple, Optional, Union

from scrjob._fsio import check_private_dir
from scrjob.errors import FormatError, ScrError, UnsafePathError
from scrjob.formats import cindex, filemap, kvtree, paths
from scrjob.node._transfer import Source
from scrjob.redundancy.paths import Relocation, relocate

if TYPE_CHECKING:
    from scrjob.formats.filemap import FileMeta

NOTHING_CACHED = "Failed to find cache directory"
"""What the C tool says on a node that holds no part of the dataset: a spare, most of the time."""

_REDSET = re.compile(
    r"reddesc(?:map)?\.er\.[0-9]+(?:\.[a-z]+\.grp_[0-9]+_of_[0-9]+\.mem_[0-9]+_of_[0-9]+)?\.redset"
)


class UntrustedError(ScrError):
    """A file in cache is not what its record says."""


class Located(NamedTuple):
    """Where a dataset lies in cache.

    Attributes:
        path: its directory; None: it is not here.
        problem: why not, or "".
        damage: what is wrong with the cache index, or "".
    """

    path: Optional[str]
    problem: str = ""
    damage: str = ""


def locate(
    cntldir: str, dataset_id: int, moves: Iterable[Relocation], created_us: Optional[int]
) -> Located:
    """Return where the cache index says that a dataset is.

    Args:
        cntldir: control directory with the cache index.
        dataset_id: which dataset.
        moves: relocations of recorded paths.
        created_us: when it was created, microseconds since the epoch; None: any.
    """
    tree = kvtree.KVTree()
    damage = ""
    try:
        # In a shared place somebody else could have made it, to have files of his taken for ours.
        check_private_dir(cntldir, uid=os.geteuid())
        tree = kvtree.read(os.path.join(cntldir, paths.CINDEX_NAME))
    except FileNotFoundError:
        pass  # nothing was ever cached here
    except (UnsafePathError, FormatError, OSError) as error:
        damage = f"Failed to read cache index: {reason(error)}"
    entry = cindex.datasets(tree).get(dataset_id)
    if entry is None or entry.path is None:
        return Located(None, f"{NOTHING_CACHED} for dataset id {dataset_id}", damage)
    held = None if entry.details is None else entry.details.created_us
    if None not in (held, created_us) and held != created_us:
        return Located(None, f"Another dataset of id {dataset_id} is cached here: it is not copied")
    return Located(relocate(entry.path, moves))


def reason(error: Exception, told: str = "") -> str:
    """Return why something failed, in words for people: the file unless ``told`` has it, and the reason."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    # A temporary file is named relative to its directory: nobody knows it.
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    return (
        f"{path}: {error.strerror}" if path.startswith("/") and path not in told else error.strerror
    )


def is_copied(name: str) -> bool:
    """Tell whether a file of the hidden directory in cache belongs in that of the prefix."""
    return filemap.rank_of(name) is not None or _REDSET.fullmatch(name) is not None


def open_trusted(
    recorded: str, path: str, meta: Optional[FileMeta]
) -> tuple[Union[Source, Exception], FileMeta]:
    """Return a file of a filemap, open, and its record; or why it cannot be copied although it can be read.

    Args:
        recorded: its path in the filemap, for messages.
        path: where it is.
        meta: its record, None if there is none.

    Raises:
        UntrustedError: it cannot be read, or is not complete.
    """
    found: Union[Source, Exception]
    size: Optional[int]
    try:
        found = Source.open(path)
        size = found.size_bytes
    except (FormatError, OSError) as error:
        found = error
        try:
            size = os.path.getsize(path) if os.access(path, os.R_OK) else None
        except OSError:
            size = None
        if size is None:
            raise UntrustedError(f"Do not have read access to file: {recorded}") from error
    if meta is None:
        problem = f"Failed to read meta data for file: {recorded}"
    elif not meta.complete:
        problem = f"File is marked as incomplete: {recorded}"
    elif meta.stat.size_bytes != size:
        problem = f"Filesize is incorrect, currently {size} for {recorded}"
    else:
        return found, meta
    if isinstance(found, Source):
        found.close()
    raise UntrustedError(problem)

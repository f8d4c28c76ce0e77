# SPDX-License-Identifier: BSD-3-Clause
"""What a scavenge leaves in a dataset's directory, and what it finds there.

Source: docs/scavenge.md, "journals".
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from scrjob._fsio import atomic_write, fsync_dir, read_bounded
from scrjob.errors import FormatError
from scrjob.formats import dataset, filemap, kvtree, paths, rank2file, redset_header, summary
from scrjob.formats.index import Index
from scrjob.redundancy import renewed
from scrjob.scavenge.progress import PROGRESS_FILE

if TYPE_CHECKING:
    from scrjob.scavenge.answers import NodeCopy

logger = logging.getLogger(__name__)

JOURNAL = "scrjob.scavenge.json"
JOURNAL_VERSION = 1
PRUNING = "scrjob.pruning.json"
_AGE = ("summary.scr", JOURNAL)  # either tells when the dataset was made


class Found(NamedTuple):
    """A dataset that is complete in the prefix: number of its files, and their sizes together."""

    files: int
    bytes: int


def write(directory: str, content: dict[str, Any]) -> None:
    """Replace the journal; its schema is in docs/scavenge.md.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps({"version": JOURNAL_VERSION, **content}, indent=1) + "\n"
    atomic_write(os.path.join(directory, JOURNAL), text.encode("ascii"))


def restored(directory: str, prefix: str, created_us: Optional[int]) -> dict[str, int]:
    """Return path -> CRC32 of what earlier attempts at this dataset made anew; {} if that is not known."""
    with contextlib.suppress(OSError, FormatError, ValueError, AttributeError, RecursionError):
        told = json.loads(read_bounded(os.path.join(directory, JOURNAL)))
        if created_us is not None and told.get("created") == created_us:
            return {
                os.path.join(prefix, path): crc
                for path, crc in told.get("rebuilt").items()
                if isinstance(crc, int)
            }
    return {}


def of_node(copy: NodeCopy) -> dict[str, Any]:
    """Return what the journal says of a node; the checksums are in the node's own journal."""
    told: dict[str, Any] = {
        "rc": copy.rc,
        "files": copy.files,
        "bytes": copy.bytes,
        "skipped": copy.skipped,
        "errors": list(copy.errors),
        "seconds": round(copy.seconds, 3),
    }
    if copy.shares:
        told["shares"] = copy.shares
    return told


def clear_other_dataset(prefix: str, dataset_id: int, created_us: Optional[int]) -> None:
    """Remove what an older dataset of the same number left in the hidden directory.

    Raises:
        OSError: it cannot be removed.
    """
    directory = paths.dataset_dir(prefix, dataset_id)
    found = _created(prefix, dataset_id)
    if found is None or created_us is None or found == created_us:
        return
    logger.warning("%s holds an older dataset: its metadata is removed", directory)
    # What tells its age goes last, or a KILL would leave filemaps that pass for those of the new one.
    names = sorted(filter(is_metadata, os.listdir(directory)), key=_AGE.__contains__)
    for name in names:
        if name in _AGE:
            fsync_dir(directory)
        os.unlink(os.path.join(directory, name))


def _created(prefix: str, dataset_id: int) -> Optional[int]:
    """Return when the dataset that the directory is of was made, None unknown."""
    with contextlib.suppress(OSError, FormatError):
        tree = summary.parse(kvtree.read(paths.summary_file(prefix, dataset_id)))
        if tree.descriptor is not None:
            return dataset.parse(tree.descriptor).created_us
    with contextlib.suppress(OSError, FormatError, ValueError, AttributeError, RecursionError):
        path = os.path.join(paths.dataset_dir(prefix, dataset_id), JOURNAL)
        created = json.loads(read_bounded(path)).get("created")
        return created if isinstance(created, int) else None
    return None


def is_metadata(name: str) -> bool:
    """Tell whether a name in the hidden directory is one that a copy or build writes."""
    return (
        name in ("summary.scr", "rank2file", JOURNAL, PRUNING, renewed.NAME)
        or name.startswith(("rank2file.", "scrjob.copy.", PROGRESS_FILE))
        or filemap.rank_of(name) is not None
        or redset_header.parse_name(name) is not None
        or redset_header.parse_copies_name(name) is not None
    )


def complete_files(prefix: str, dataset_id: int) -> Optional[Found]:
    """Return what there is of a dataset whose summary says that it is complete; None if that is not true."""
    with contextlib.suppress(OSError, FormatError):
        found = summary.parse(kvtree.read(paths.summary_file(prefix, dataset_id)))
        if found.complete and found.descriptor is not None:
            there = _listed_files(prefix, dataset_id)
            wanted = dataset.parse(found.descriptor)
            if wanted.files in (None, there.files) and wanted.size_bytes in (None, there.bytes):
                return there
    return None


def _listed_files(prefix: str, dataset_id: int) -> Found:
    """Return number and total size of the files in rank2file, all of which exist."""
    sizes = [
        os.stat(os.path.join(prefix, name)).st_size
        for tree in rank2file.read(paths.rank2file(prefix, dataset_id)).entries.values()
        for name in rank2file.files(tree)
    ]
    return Found(len(sizes), sum(sizes))


def drop_failed_summary(prefix: str, dataset_id: int) -> None:
    """Remove a summary that a build left which failed: it would keep any further one from looking.

    Raises:
        OSError: it cannot be removed.
    """
    path = paths.summary_file(prefix, dataset_id)
    try:
        is_good = bool(summary.parse(kvtree.read(path)).complete)
    except FileNotFoundError:
        return
    except FormatError:
        is_good = False
    if not is_good or complete_files(prefix, dataset_id) is None:
        os.unlink(path)


def current(prefix: str) -> Optional[str]:
    """Return the name of the checkpoint to restart from, None if there is none or it cannot be read."""
    with contextlib.suppress(OSError, FormatError):
        return Index.read(paths.index_file(prefix), to_change=False).current()
    return None

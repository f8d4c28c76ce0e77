# SPDX-License-Identifier: BSD-3-Clause
"""Datasets that an asynchronous flush was writing: is it alive, has it finished, or did it die?

``FLUSHING`` in flush.scr is set when such a flush begins and removed when the library has seen its end.
A job that dies in between leaves it there, whatever became of the files.

Source: docs/scavenge.md, "asynchronous flush"; docs/formats/flush.md.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Optional

from scrjob.errors import ScavengeError, ScrError
from scrjob.formats import flush, kvtree, paths, summary
from scrjob.poststage import check_files, listed_files

if TYPE_CHECKING:
    from scrjob.formats.flush import FlushEntry
    from scrjob.protocols import JobEnvironment

LOOK_S = 2.0  # files that grow or are made are seen to in this time
MARKS = (flush.FLUSHING, flush.SYNC_FLUSHING)


def refuse_if_alive(
    jobenv: JobEnvironment, entry: FlushEntry, prefix: str, *, flush_ended: bool
) -> Optional[str]:
    """Return None if no asynchronous flush was at work, else a line that says why it is taken for dead.

    Args:
        jobenv: the job.
        entry: the dataset's in flush.scr.
        prefix: the prefix directory.
        flush_ended: no program of the job runs any more.

    Raises:
        ScavengeError: it is at work, or may be.
    """
    if flush.FLUSHING not in entry.locations:
        return None
    head = f"dataset {entry.id} is being flushed asynchronously: it is not touched; "
    if (jobenv.param.get("SCR_FLUSH_POSTSTAGE") or "0") != "0":
        raise ScavengeError(
            f"{head}with SCR_FLUSH_POSTSTAGE a flush goes on after the job: scr_poststage completes it"
        )
    if not flush_ended:
        raise ScavengeError(
            f"{head}when the job's program has ended, scr_postrun or scr_scavenge --flush-ended save it"
        )
    before = _evidence(prefix, entry)
    jobenv.context.clock.sleep(LOOK_S)
    if _evidence(prefix, entry) != before:
        raise ScavengeError(f"{head}its files have changed within the last {LOOK_S:g} s")
    return (
        f"FLUSHING of dataset {entry.id} was left by a dead job: no program of it runs, and nothing "
        f"has moved for {LOOK_S:g} s"
    )


def _evidence(prefix: str, entry: FlushEntry) -> dict[str, tuple[int, int]]:
    """Return path -> size and time of what a flush of this dataset would be seen to change."""
    found: dict[str, tuple[int, int]] = {}
    places = [paths.dataset_dir(prefix, entry.id)]
    if entry.name and "\0" not in entry.name:
        places.append(
            os.path.join(prefix, entry.name.lstrip("/"))
        )  # where many programs put its files
    with contextlib.suppress(OSError, ScrError):
        places += {os.path.dirname(path) for _, path in listed_files(prefix, entry.id)}
    for place in places:
        with contextlib.suppress(OSError), os.scandir(place) as rows:
            for row in rows:
                with contextlib.suppress(OSError):
                    status = row.stat(follow_symlinks=False)
                    found[row.path] = (status.st_size, status.st_mtime_ns)
    return found


def finish(prefix: str, entry: FlushEntry) -> bool:
    """Write the summary of a dataset whose flush had finished; False if that cannot be told from its files.

    See ``poststage.check_files``.

    Raises:
        OSError: it cannot be written.
    """
    if entry.descriptor is None or not set(MARKS).intersection(entry.locations):
        return False
    try:
        check_files(prefix, entry.id, entry.descriptor)
    except (ScrError, OSError):
        return False
    kvtree.write(
        paths.summary_file(prefix, entry.id), summary.build(entry.descriptor, complete=True)
    )
    return True


def mark_flushed(prefix: str, dataset_id: int) -> None:
    """Say in flush.scr what the library would have: in the prefix, and no flush at work.

    Raises:
        FormatError, OSError: it cannot be read or written.
    """
    path = paths.flush_file(prefix)
    tree = kvtree.read(path)
    flush.add_location(tree, dataset_id, flush.PFS)
    for mark in MARKS:
        flush.remove_location(tree, dataset_id, mark)
    kvtree.write(path, tree)

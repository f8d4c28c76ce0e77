# SPDX-License-Identifier: BSD-3-Clause
"""What the prefix directory tells about a run: datasets, halt reasons, full storage."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import tempfile
from typing import TYPE_CHECKING, Any, Optional, Sequence

from scrjob.errors import ConfigError, FormatError
from scrjob.formats import flush, halt, kvtree
from scrjob.formats.index import Index
from scrjob.prerun import unknown_halt

if TYPE_CHECKING:
    from scrjob.nodetests.nodetests import BrokenTest
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

PROBE_BYTES = 64 << 10
FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT)
MICROSECONDS = 1e6


def _path(jobenv: JobEnvironment, name: str) -> str:
    return os.path.join(jobenv.dir_scr(), name)


def read_flush(jobenv: JobEnvironment) -> kvtree.KVTree:
    """Return the flush file's tree, empty if there is none or it is damaged (told in the log)."""
    try:
        return kvtree.read(_path(jobenv, "flush.scr"))
    except FileNotFoundError:
        return kvtree.KVTree()
    except (OSError, FormatError) as error:
        logger.warning("the flush file cannot be read, it counts as empty: %s", error)
        return kvtree.KVTree()


def read_index(jobenv: JobEnvironment) -> Index:
    """Return the index, empty if there is none or it is damaged (told in the log)."""
    try:
        return Index.read(_path(jobenv, "index.scr"))
    except FileNotFoundError:
        return Index()
    except (OSError, FormatError) as error:
        logger.warning("the index cannot be read, it counts as empty: %s", error)
        return Index()


def newest_dataset(jobenv: JobEnvironment) -> int:
    """Return the largest id of a complete dataset, 0 if there is none."""
    complete = [entry.id for entry in read_index(jobenv).entries() if entry.is_valid]
    return max([flush.latest(read_flush(jobenv)) or 0, *complete])


def lost_since_dataset(jobenv: JobEnvironment, run: dict[str, Any]) -> float:
    """Return the seconds of a run that will have to be computed again.

    That is from the creation of its newest complete dataset to its end; without one, all of it. The
    creation time is in the descriptor, in microseconds since the epoch (docs/formats/dataset.md).
    """
    newest = run["started"]
    tree = read_flush(jobenv)
    for dataset_id in flush.ids(tree):
        descriptor = tree.child("DATASET", dataset_id, "DSETDESC")
        created = (descriptor.int64("CREATED") or 0) / MICROSECONDS if descriptor else 0.0
        if newest < created <= run["ended"]:
            newest = created
    return float(max(0.0, run["ended"] - newest))


def stored_halt_reason(jobenv: JobEnvironment) -> str:
    """Return the exit reason in halt.scr, "" if there is none or the file is damaged."""
    return _conditions(jobenv).reason or ""


def standing_halt_reason(jobenv: JobEnvironment) -> str:
    """Return why the program should have stopped: the stored reason, else the condition that holds.

    A program that is through, or was stopped by a counter or a time, leaves SCR_FINALIZE_CALLED: then
    the counter or the time is the better answer.
    """
    found = _conditions(jobenv)
    if found.reason and found.reason != halt.FINALIZE_CALLED:
        return found.reason
    hits = halt.retries_hits(
        found._replace(reason=None),
        now=jobenv.context.clock.now(),
        halt_seconds=jobenv.param.get_int("SCR_HALT_SECONDS"),
    )
    return hits[0].reason if hits else found.reason or ""


def _conditions(jobenv: JobEnvironment) -> halt.Conditions:
    try:
        return halt.conditions(halt.read(_path(jobenv, "halt.scr")))
    except FileNotFoundError:
        return halt.Conditions()
    except (OSError, FormatError) as error:
        logger.warning("the halt file cannot be read, it counts as empty: %s", error)
        return halt.Conditions()


def check_halt_file(jobenv: JobEnvironment) -> None:
    """Refuse a halt file that is there but cannot be read: whether the job is halted is not known.

    A damaged one is something else: by SCR's rule it holds no conditions.

    Raises:
        ConfigError: names the file and what to do.
    """
    path = _path(jobenv, "halt.scr")
    try:
        halt.read(path)
    except (FileNotFoundError, FormatError):
        return
    except OSError as error:
        raise unknown_halt(path, error) from error


def write_halt_reason(jobenv: JobEnvironment, reason: str) -> None:
    """Ask the program to stop by itself; a reason that is there already stays.

    A finished program's SCR_FINALIZE_CALLED is no request and is replaced.
    """

    def change(tree: kvtree.KVTree) -> None:
        if (halt.conditions(tree).reason or halt.FINALIZE_CALLED) == halt.FINALIZE_CALLED:
            halt.apply(tree, {halt.REASON: reason})

    try:
        halt.update(_path(jobenv, "halt.scr"), change)
    except (OSError, FormatError) as error:
        logger.warning("the halt file cannot be written: %s", error)


def full_storage(jobenv: JobEnvironment) -> str:
    """Return what shows that the prefix's file system is full, "" if a file can be written."""
    try:
        with tempfile.TemporaryFile(dir=jobenv.dir_scr()) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in FULL_ERRORS:
            return f"{jobenv.dir_prefix()}: {error.strerror}"
    return ""


def written_since(jobenv: JobEnvironment, name: str, when: float) -> bool:
    """Tell whether a file of SCR was written after a moment (Unix seconds)."""
    with contextlib.suppress(OSError):
        return os.stat(_path(jobenv, name)).st_mtime >= when
    return False


def refuse_broken_tests(broken: Sequence[BrokenTest]) -> None:
    """Before the first launch a test that fails most nodes is an error of the configuration.

    Raises:
        ConfigError: names the test and what it said.
    """
    for test in broken:
        if test.nodes:
            raise ConfigError(
                f"node test {test.test} {test.why}; correct what it complains about, or leave it out "
                "of SCR_NODE_TESTS"
            )


def fold(nodes: Sequence[str]) -> str:
    """Return node names in short for a line to a user."""
    from scrjob.hostlist import compress_hosts  # noqa: PLC0415 - for messages only

    return compress_hosts(list(nodes))


def checkpoint_in_prefix(jobenv: JobEnvironment) -> Optional[str]:
    """Return the checkpoint that a program would fetch: CURRENT, else the newest usable one."""
    index = read_index(jobenv)
    current = index.current()
    if current:
        return current
    latest = index.latest_usable()
    return latest.descriptor.name if latest else None

# SPDX-License-Identifier: BSD-3-Clause
"""Bring a dataset that only exists in the caches of the nodes to the prefix directory, for good.

Copy on every node that is up, rebuild what other nodes held, verify, and only then call the dataset
complete and list it. Whatever fails, or is killed, leaves the datasets that were safe before as they
are, and can be done again: what was copied and is proved by a journal is not copied twice.

Source: docs/scavenge.md.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence, Union

from scrjob.errors import ScavengeError
from scrjob.node._cached_files import reason
from scrjob.scavenge.answers import NodeCopy, ScavengeResult, problems

if TYPE_CHECKING:
    from scrjob.cached import Held
    from scrjob.protocols import JobEnvironment
    from scrjob.scavenge.progress import Progress

__all__ = ["NodeCopy", "ScavengeResult", "scavenge", "scavenge_dataset", "scavenge_files"]

logger = logging.getLogger(__name__)

Say = Callable[[str], None]


def scavenge(
    jobenv: JobEnvironment,
    nodes: Sequence[str],
    dataset_id: Union[int, str],
    cntldir: str,
    log: Any = None,
    verbose: bool = False,
) -> None:
    """Bring a dataset to the prefix, rebuild what is missing, verify it and list it in the index.

    Args:
        jobenv: the job.
        nodes: the nodes to copy from, those that are up.
        dataset_id: which dataset.
        cntldir: control directory on the nodes.
        log: an SCRLog for its events, or None.
        verbose: log each step as information.

    Raises:
        UnrecoverableError, ScavengeError: the dataset is not safe; what was safe before still is.
    """
    scavenge_dataset(jobenv, nodes, dataset_id, cntldir, log=log, say=_teller(verbose))


def scavenge_files(
    jobenv: JobEnvironment,
    nodes: Sequence[str],
    dataset_id: Union[int, str],
    cntldir: str,
    nodes_down: Optional[Sequence[str]] = None,
    log: Any = None,
    verbose: bool = False,
) -> None:
    """Only copy a dataset's files from the nodes to the prefix; ``nodes_down`` are left out.

    Raises:
        ScavengeError: no node could copy anything, or an asynchronous flush is at work.
    """
    from scrjob.scavenge.transaction import Transaction  # noqa: PLC0415 - with something to save

    down = set(nodes_down or ())
    job = Transaction(jobenv, dataset_id, cntldir, log, _teller(verbose))
    job.refuse_running_flush()
    try:
        with job.alone():
            job.clear_other_dataset()
            copies = job.copy([node for node in nodes if node not in down], None)
    except OSError as error:
        raise ScavengeError(f"dataset {dataset_id}: {reason(error)}") from error
    if not any(copy.brought_any for copy in copies):
        raise ScavengeError(f"no file of dataset {dataset_id} was copied: {problems(copies)}")


def scavenge_dataset(
    jobenv: JobEnvironment,
    nodes: Sequence[str],
    dataset_id: Union[int, str],
    cntldir: str,
    *,
    log: Any = None,
    say: Say = logger.debug,
    deadline_s: Optional[float] = None,
    relocations: Sequence[str] = (),
    verify: Optional[bool] = None,
    flush_ended: bool = False,
    held: Optional[Held] = None,
    progress: Optional[Progress] = None,
) -> ScavengeResult:
    """Do what ``scavenge`` does and return what was done.

    Args:
        jobenv: the job.
        nodes: the nodes to copy from.
        dataset_id: which dataset.
        cntldir: control directory on the nodes.
        log: an SCRLog, or None.
        say: gets each line that the command prints when it is verbose.
        deadline_s: seconds that the copy may take; default: from the end of the allocation.
        relocations: ``OLD=NEW``: recorded paths below OLD are really below NEW.
        verify: read all back and check the redundancy; default: SCR_SCAVENGE_VERIFY.
        flush_ended: no program of the job runs, so nobody can be flushing, whatever flush.scr says.
        held: what the nodes said of their caches; default: they are asked.
        progress: is shown how far the copy is.

    Raises:
        UnrecoverableError: more is lost than redundancy covers.
        ScavengeError: the dataset is not safe for another reason.
        NotSupportedError: files are lost and the redundancy scheme is not known.
    """
    from scrjob.scavenge.transaction import Transaction  # noqa: PLC0415 - with something to save

    job = Transaction(
        jobenv,
        dataset_id,
        cntldir,
        log,
        say,
        relocations,
        verify=verify,
        flush_ended=flush_ended,
        held=held,
        progress=progress,
    )
    try:
        return job.run(nodes, deadline_s)
    except OSError as error:
        raise ScavengeError(
            f"dataset {job.dataset_id} could not be brought to {job.prefix}: {reason(error)}"
        ) from error


def _teller(verbose: bool) -> Say:
    level = logging.INFO if verbose else logging.DEBUG
    return lambda line: logger.log(level, "%s", line)

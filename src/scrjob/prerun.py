# SPDX-License-Identifier: BSD-3-Clause
"""Before the first run in an allocation: checks, directories, and what a former job left behind."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Optional

from scrjob.errors import ConfigError
from scrjob.formats import halt
from scrjob.nodetests.prefix import note_blind
from scrjob.remoteexec.auto import remember
from scrjob.supervisor.sharing import settle_and_find_blind
from scrjob.supervisor.state import (
    await_former_start,
    begin_start,
    known_start,
    put_aside,
    refuse_other_supervisors,
)
from scrjob.test_runtime import TestRuntime

if TYPE_CHECKING:
    from scrjob.formats.kvtree import KVTree
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

OWN_REASONS = ("SCRJOB_SIGNAL", "SCRJOB_TIME_LIMIT")
"""Halt reasons that the supervisor writes; a new job takes them out of halt.scr."""

STALE_REASONS = ("SCR_FINALIZE_CALLED", "TIME_LIMIT", *OWN_REASONS)
"""Halt reasons of a former job that say nothing about a new one. JOB_HALTED is a user's word: it stays."""


def prerun(jobenv: Optional[JobEnvironment] = None, verbose: bool = False) -> None:
    """Prepare the prefix and the allocation for the first run. SCR_ENABLE=0: does nothing.

    In a new job (no state directory of its id in the prefix yet), and in one that was requeued under
    the same id, flush.scr and nodes.scr of the former job or start are removed, and halt reasons
    that were only about it.

    Raises:
        ScrError: something needed is missing; a RuntimeError, as published.
    """
    if jobenv is None:
        from scrjob.jobenv import JobEnv  # noqa: PLC0415 - only for direct callers

        jobenv = JobEnv()
    if jobenv.param.get("SCR_ENABLE") == "0":
        return
    TestRuntime(jobenv)
    refuse_other_supervisors(jobenv)
    jobenv.resmgr.prerun()
    known, restarts = known_start(jobenv), jobenv.resmgr.restart_count()
    # A shell that was started beside the job may lack the count: fewer restarts are no new start.
    if known is None or restarts > known:
        blind = settle_and_find_blind(jobenv)
        await_former_start(jobenv)
        put_aside(jobenv)
        forget_former_job(jobenv)
        # Last: a prerun that was killed before this point does its work again.
        begin_start(jobenv, restarts)
        remember(jobenv.dir_job(), jobenv.rexec.name)
        note_blind(jobenv.dir_job(), blind)
    if verbose:
        logger.info("prerun done for job %s in %s", jobenv.job_id(), jobenv.dir_prefix())


def forget_former_job(jobenv: JobEnvironment) -> None:
    """Remove what a former job's files would make this one believe."""
    for name in ("flush.scr", "nodes.scr"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(jobenv.dir_scr(), name))
    drop_halt_reasons(jobenv, STALE_REASONS)


def drop_halt_reasons(jobenv: JobEnvironment, reasons: tuple[str, ...]) -> None:
    """Take the exit reason out of halt.scr if it is one of ``reasons``.

    Raises:
        ConfigError: the file is there and cannot be read or written.
    """
    path = os.path.join(jobenv.dir_scr(), "halt.scr")

    def change(tree: KVTree) -> None:
        if halt.conditions(tree).reason in reasons:
            halt.apply(tree, {halt.REASON: None})

    if not os.path.exists(path):
        return
    try:
        halt.update(path, change, on_damage=lambda error: logger.warning("%s", error))
    except OSError as error:
        raise unknown_halt(path, error) from error


def unknown_halt(path: str, error: OSError) -> ConfigError:
    """Return the error of a halt file that is there and cannot be used."""
    return ConfigError(
        f"{path}: {error.strerror}: whether the job is halted cannot be known; remove or mend it"
    )

# SPDX-License-Identifier: BSD-3-Clause
"""Do the nodes see the prefix directory? Asked once a start, with the trial of remote execution."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Iterator, Sequence

from scrjob.errors import ConfigError
from scrjob.hostlist import show_hosts
from scrjob.remoteexec.trial import blind_nodes, settle

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment
    from scrjob.remoteexec.trial import Trial


def settle_and_find_blind(jobenv: JobEnvironment) -> list[str]:
    """Settle how nodes are reached, and return those that say that they do not see the prefix.

    A file is made in SCR's directory for that. A node without an answer is none of them.

    Raises:
        ConfigError: no node can be reached, or none but this host sees the prefix.
    """
    with _marker(jobenv) as marker:
        trial = settle(jobenv, marker)
        blind = blind_nodes(trial, marker, jobenv) if trial else []
    if trial and blind:
        _refuse_lonely_host(jobenv, trial, blind)
    return blind


def _refuse_lonely_host(jobenv: JobEnvironment, trial: Trial, blind: Sequence[str]) -> None:
    here, without = jobenv.context.hostname, set(blind)
    if any(host != here for node, host in trial.hosts.items() if node not in without):
        return
    raise ConfigError(
        f"prefix directory {jobenv.dir_prefix()!r} of {here} is not seen by {len(blind)} of "
        f"{len(trial.hosts)} nodes ({show_hosts(blind)}) and by no other host: datasets could not be saved; "
        "set SCR_PREFIX to a directory on a file system that all nodes share"
    )


@contextlib.contextmanager
def _marker(jobenv: JobEnvironment) -> Iterator[str]:
    """Make a file of a name that no node can have seen or missed before, for a while."""
    path = os.path.join(jobenv.dir_scr(), f"scrjob.marker.{os.urandom(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        os.close(os.open(path, flags, 0o600))
    except OSError as error:
        raise ConfigError(
            f"{jobenv.dir_scr()!r} cannot be written: {error.strerror}; make room there, or set "
            "SCR_PREFIX to another directory"
        ) from error
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)

# SPDX-License-Identifier: BSD-3-Clause
"""The settings of the run loop, read once at its start, so that a bad one is told before a launch."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, NamedTuple, Optional

from scrjob._parameters import misspelt
from scrjob.scavenge.settings import ScavengeSettings
from scrjob.should_exit import min_nodes
from scrjob.supervisor.heartbeat import Pace
from scrjob.watchdog import Limits

if TYPE_CHECKING:
    from scrjob.jobenv import JobEnv
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)

UNLIMITED = -1
PROGRESS_ATTEMPTS = 3  # runs without a new dataset before the loop gives up
AT_ONCE_S = 60.0  # a program that makes no datasets at all is judged only if it fails sooner
DEFAULT_GRACE_S = 60.0
DEFAULT_SETTLE_S = 30.0
DEFAULT_PING_S = 1.0
DEFAULT_ECHO_S = 30.0
DEFAULT_PATIENCE_S = 3.0
LEAST_PATIENCE_S = 1.0  # no remote execution is faster on a busy node
RESERVE_SHARE = 0.1  # of the time left at the start is kept for the end ...
RESERVE_MOST_S = 120.0  # ... but not more than this


class Settings(NamedTuple):
    """What the user set. Times in seconds.

    Attributes:
        runs: launches allowed, UNLIMITED for no limit.
        min_nodes: nodes that a run needs; None: see the loop.
        watchdog: limits of the hang detector; None: it is off.
        halt_grace_s: how long a program may take to end after it was asked to.
        settle_s: the longest wait between two runs for steps and nodes to settle.
        heartbeat: how often the nodes of a run are asked whether they are alive; None: it is off.
        reserve_s: kept at the end of the allocation for halting and scavenging; None: a share of it.
    """

    runs: int
    min_nodes: Optional[int]
    watchdog: Optional[Limits]
    halt_grace_s: float
    settle_s: float
    heartbeat: Optional[Pace]
    reserve_s: Optional[float]

    @classmethod
    def from_param(cls, jobenv: JobEnvironment) -> Settings:
        """Read all of them.

        Raises:
            ConfigError: one is not of its kind; names it and its source.
        """
        param = jobenv.param
        ScavengeSettings.from_param(param)  # looked at now: at the end the data would be at stake
        runs = param.get_int("SCR_RUNS", param.get_int("SCR_RETRIES", 0) + 1)
        if runs < 1 and runs != UNLIMITED:
            logger.warning("SCR_RUNS=%d is taken as 1; -1 is no limit", runs)
        return cls(
            runs=runs if runs == UNLIMITED else max(1, runs),
            min_nodes=min_nodes(jobenv),
            watchdog=Limits.from_param(param) if param.get_bool("SCR_WATCHDOG") else None,
            halt_grace_s=param.get_seconds("SCR_HALT_GRACE", DEFAULT_GRACE_S),
            settle_s=param.get_seconds("SCR_RUN_SETTLE_SECONDS", DEFAULT_SETTLE_S),
            heartbeat=heartbeat_pace(jobenv),
            reserve_s=param.get_seconds("SCR_RESERVE_SECONDS", 0.0) or None,
        )

    def reserve(self, left_at_start_s: Optional[float]) -> float:
        """Return the seconds to keep free at the end of an allocation that had so many at the start."""
        if self.reserve_s is not None:
            return self.reserve_s
        if left_at_start_s is None:
            return 0.0
        return min(RESERVE_MOST_S, RESERVE_SHARE * left_at_start_s)


def warn_of_odd_settings(jobenv: JobEnv) -> None:
    """Tell in the log what the environment sets without effect, probably by mistake."""
    for name, known in misspelt(jobenv.context.environ).items():
        logger.warning(
            "%s in the environment is no setting that is known; is %s meant?", name, known
        )
    path = jobenv.param.user_file
    if jobenv.context.environ.get("SCR_CONF_FILE") and not os.path.lexists(path):
        logger.warning("SCR_CONF_FILE: there is no file %r, so no settings are read from it", path)


def heartbeat_pace(jobenv: JobEnvironment) -> Optional[Pace]:
    """Return how often nodes are asked whether they are alive, None for never.

    Raises:
        ConfigError: a setting is not of its kind.
    """
    param = jobenv.param
    if not param.get_bool("SCR_HEARTBEAT", default=True):
        return None
    return Pace(
        ping_s=param.get_seconds("SCR_HEARTBEAT_PING", DEFAULT_PING_S),
        echo_s=param.get_seconds("SCR_HEARTBEAT_ECHO", DEFAULT_ECHO_S),
        patience_s=max(
            LEAST_PATIENCE_S, param.get_seconds("SCR_HEARTBEAT_PATIENCE", DEFAULT_PATIENCE_S)
        ),
    )

# SPDX-License-Identifier: BSD-3-Clause
"""How often to checkpoint: what one costs and how often runs fail, from the SCR log.

The cost of a checkpoint is the time that the program stood still for it: ``CHECKPOINT_END`` and, shared
among all checkpoints, the flushes that the program waited for (``FLUSH_SUCCESS``, ``FLUSH_FAIL``).

A run lasts from ``RUN_START`` to ``RUN_END``, or, without a supervisor, from the library's ``START`` to
its last record. It failed if the job had to start another one, or if a node failed at its end. It did
not if it halted (``HALT``), nor if it is the job's last and no node failed: that is the end of the
allocation, which no checkpoint interval prevents.

Source: J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17 (1974)
530; J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", FGCS 22
(2006) 303, equation 37.
"""

from __future__ import annotations

import math
from typing import Any, Iterable, Mapping, NamedTuple, Optional

DEFAULT_COST_S = 60.0
"""Assumed cost of a checkpoint while the log shows none."""

PRIOR_TIME_S = 86400.0
"""Assumed time with one failure, added to what was seen: it decides while there is little data."""

_FLUSHES = ("FLUSH_SUCCESS", "FLUSH_FAIL")
_RESTARTS_FAILED = ("RESTART_FAIL", "RESTART_FAILURE")  # the library's label, and an older tool's


class Observed(NamedTuple):
    """What a log shows. Times in seconds.

    ``checkpoint_s`` and ``flush_s`` are sums; ``run_s`` is the time of all runs.
    """

    checkpoints: int = 0
    checkpoint_s: float = 0.0
    flush_s: float = 0.0
    runs: int = 0
    run_s: float = 0.0
    failures: int = 0
    restarts: int = 0
    failed_restarts: int = 0

    @property
    def cost_s(self) -> Optional[float]:
        """Return the mean cost of a checkpoint, None if there was none."""
        if not self.checkpoints:
            return None
        return (self.checkpoint_s + self.flush_s) / self.checkpoints

    @property
    def mtbf_s(self) -> float:
        """Return the mean time between failures, with one failure in PRIOR_TIME_S assumed on top."""
        return (self.run_s + PRIOR_TIME_S) / (self.failures + 1)


def young(cost_s: float, mtbf_s: float) -> float:
    """Return Young's interval, in seconds of computing between two checkpoints."""
    return math.sqrt(2.0 * cost_s * mtbf_s)


def daly(cost_s: float, mtbf_s: float) -> float:
    """Return Daly's interval, in seconds of computing between two checkpoints."""
    if cost_s >= 2.0 * mtbf_s:
        return mtbf_s
    share = cost_s / (2.0 * mtbf_s)
    return young(cost_s, mtbf_s) * (1.0 + math.sqrt(share) / 3.0 + share / 9.0) - cost_s


MODELS = {"young": young, "daly": daly}


def interval(observed: Observed, model: str = "daly") -> float:
    """Return the interval in seconds that a model (a key of MODELS) gives; always > 0."""
    cost_s = observed.cost_s
    # A cost of 0 would ask for checkpoints without pause: a clock tick is the least we believe.
    cost_s = DEFAULT_COST_S if cost_s is None else max(cost_s, 0.001)
    return MODELS[model](cost_s, observed.mtbf_s)


def overhead_percent(observed: Observed, interval_s: float) -> float:
    """Return the share of the time that checkpoints take, the unit of SCR_CHECKPOINT_OVERHEAD."""
    cost_s = DEFAULT_COST_S if observed.cost_s is None else observed.cost_s
    return 100.0 * cost_s / (cost_s + interval_s)


def observe(records: Iterable[Mapping[str, Any]]) -> Observed:
    """Return what the records of a log show, as ``scrlog.parse_file`` gives them; several jobs may mix."""
    jobs: dict[str, _Job] = {}
    for record in records:
        if record.get("type") == "event":
            jobs.setdefault(record.get("jobid", ""), _Job()).take(record)
    parts = [job.observed() for job in jobs.values()]
    return Observed(*(sum(column) for column in zip(*parts))) if parts else Observed()


class _Run:
    """One run of a job: when it began and was last heard of, and whether it halted or lost a node."""

    def __init__(self, began: float) -> None:
        self.began = self.last = began
        self.seconds: Optional[float] = None
        self.halted = self.lost_node = False


class _Job:
    """Collects the records of one job in their order."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._supervised = False
        self._checkpoints: list[float] = []
        self._flush_s = 0.0
        self._restarts = self._failed_restarts = 0

    def take(self, record: Mapping[str, Any]) -> None:
        label, secs = record["label"], record.get("secs", 0.0)
        when = record["timestamp"].timestamp()
        if label == "RUN_START" or (label == "START" and not self._supervised):
            if label == "RUN_START":
                self._supervised = True
            self._runs.append(_Run(when))
        elif label == "CHECKPOINT_END":
            self._checkpoints.append(secs)
        elif label in _FLUSHES:
            self._flush_s += secs
        elif label == "RESTART_SUCCESS":
            self._restarts += 1
        elif label in _RESTARTS_FAILED:
            self._failed_restarts += 1
        if self._runs:
            self._about_run(self._runs[-1], label, when, record)

    @staticmethod
    def _about_run(run: _Run, label: str, when: float, record: Mapping[str, Any]) -> None:
        if run.seconds is None:
            run.last = max(run.last, when)
        if label == "RUN_END":
            run.seconds = record.get("secs")
        elif label == "HALT":
            run.halted = True
        elif label == "NODE_FAIL":
            run.lost_node = True

    def observed(self) -> Observed:
        failures = sum(
            not run.halted and (run.lost_node or run is not self._runs[-1]) for run in self._runs
        )
        return Observed(
            checkpoints=len(self._checkpoints),
            checkpoint_s=sum(self._checkpoints),
            flush_s=self._flush_s,
            runs=len(self._runs),
            run_s=sum(
                run.last - run.began if run.seconds is None else run.seconds for run in self._runs
            ),
            failures=failures,
            restarts=self._restarts,
            failed_restarts=self._failed_restarts,
        )

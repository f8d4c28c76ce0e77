# SPDX-License-Identifier: BSD-3-Clause
"""How much time the allocation has left."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Optional

from scrjob.errors import ScrError
from scrjob.model import END_NO_LIMIT, END_UNKNOWN

if TYPE_CHECKING:
    from scrjob.protocols import JobEnvironment

logger = logging.getLogger(__name__)


def time_left(jobenv: JobEnvironment) -> Optional[float]:
    """Return the seconds until the end of the allocation, None if there is none or it is not known."""
    end = _end(jobenv)
    return None if end <= 0 else end - jobenv.context.clock.now()


def has_no_end(jobenv: JobEnvironment) -> bool:
    """Tell whether the allocation goes on until somebody ends it; not if that is not known."""
    return _end(jobenv) == END_NO_LIMIT


def _end(jobenv: JobEnvironment) -> float:
    try:
        return float(jobenv.resmgr.end_time() or END_UNKNOWN)
    except ScrError as error:
        logger.warning("the end of the allocation could not be asked: %s", error)
        return END_UNKNOWN

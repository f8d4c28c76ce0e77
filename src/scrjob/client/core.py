# SPDX-License-Identifier: BSD-3-Clause
"""What all parts of the client share, made once by ``init``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from scrjob.client.cache import Cache
    from scrjob.client.layout import Layout
    from scrjob.client.prefix import Prefix
    from scrjob.client.scheme import Scheme
    from scrjob.client.settings import Settings
    from scrjob.client.team import Team
    from scrjob.protocols import Clock
    from scrjob.scrlog import EventLog


class Core(NamedTuple):
    """The client's parts. ``log`` records on rank 0 and does nothing elsewhere."""

    team: Team
    settings: Settings
    layout: Layout
    cache: Cache
    prefix: Prefix
    scheme: Scheme
    log: EventLog
    clock: Clock

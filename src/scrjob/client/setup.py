# SPDX-License-Identifier: BSD-3-Clause
"""What ``init`` does: settings, directories, the team, and what the last run left in cache."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Optional

from scrjob.client import scheme
from scrjob.client.cache import Cache
from scrjob.client.core import Core
from scrjob.client.flush import flush_dataset
from scrjob.client.inplace import restore_cache
from scrjob.client.layout import Layout
from scrjob.client.prefix import Prefix
from scrjob.client.settings import Settings, prefix_of, read_settings
from scrjob.client.team import Team
from scrjob.param import Param
from scrjob.scrlog import EventLog, open_log

if TYPE_CHECKING:
    from scrjob.client.settings import ProgramConfig
    from scrjob.client.team import Communicator
    from scrjob.protocols import Context

PROBE = ".probe"


def start(comm: Communicator, context: Context, program: ProgramConfig, cwd: str) -> Optional[Core]:
    """Make the client's parts; None if a file switches SCR off. Collective.

    Raises:
        ScrError: on all ranks: a setting is wrong, a directory cannot be made or must not be used.
    """
    team = Team(comm, context.hostname)

    def read() -> Settings:
        prefix = prefix_of(context, program.scalars(), cwd)
        Prefix(prefix, context.clock).prepare(program.text())
        return read_settings(context, prefix)

    settings: Settings = team.on_first("reading the settings", read)
    if not settings.enable:
        team.close()
        return None
    log = EventLog()
    if team.is_first:
        log = open_log(
            Param(environ=context.environ, prefix=settings.prefix),
            context,
            prefix=settings.prefix,
            jobid=settings.job_id,
            user=settings.user,
        )
    with team.together("making the directories of this job"):
        places = Layout.create(
            settings.cntl_base, settings.cache_base, settings.user, settings.job_id
        )
    find_shared_storage(team, places.cache)
    return Core(
        team=team,
        settings=settings,
        layout=places,
        cache=Cache(team, places),
        prefix=Prefix(settings.prefix, context.clock),
        scheme=scheme.form(team, settings.scheme),
        log=log,
        clock=context.clock,
    )


def find_shared_storage(team: Team, directory: str) -> None:
    """Make one failure domain of nodes that see each other's files in ``directory``. Collective."""
    token = team.comm.bcast(f"{PROBE}.{os.getpid()}.{id(team)}")
    own = os.path.join(directory, f"{token}.{team.rank}")
    seen: list[int] = []
    try:
        with team.together("writing to the cache"):
            if team.is_leader:
                with open(own, "wb"):
                    pass
        with team.together("looking into the cache"):
            if team.is_leader:
                found = [name for name in os.listdir(directory) if name.startswith(f"{token}.")]
                seen = [int(name.rpartition(".")[2]) for name in found]
        lowest = team.comm.allgather(min(seen, default=None))
    finally:
        with contextlib.suppress(OSError):
            os.unlink(own)
    merged = []
    for rank in range(team.size):
        leader = team.leader_of(team.hosts[rank])
        first = lowest[leader]
        merged.append(team.hosts[leader if first is None else first])
    if merged != team.hosts:
        team.merge_domains(merged)


def recover(core: Core) -> None:
    """Take over what is in cache, and record this run. Collective."""
    settings = core.settings
    if settings.cache_purge or not settings.distribute:
        core.cache.load()
        for number in list(core.cache.datasets):
            core.cache.remove(number)
        core.team.on_first("updating the flush file", lambda: core.prefix.match_cache([]))
    else:
        restore_cache(core)
    count = core.team.node_count
    core.team.on_first("recording the nodes", lambda: core.prefix.write_nodes(count))
    if settings.flush_on_restart:
        ids = list(core.cache.datasets)
        done = core.team.on_first("reading the flush file", lambda: core.prefix.flushed(ids))
        for entry in list(core.cache.datasets.values()):
            if entry.id not in done:
                flush_dataset(core, entry)


def numbers(core: Core) -> tuple[int, int]:
    """Return the highest dataset id and checkpoint counter used so far, in cache or prefix. Collective."""

    def look() -> tuple[int, int]:
        last_id, last_ckpt, _ = core.prefix.index().max_ids()
        return last_id, last_ckpt

    last_id, last_ckpt = core.team.on_first("reading the index", look)
    for entry in core.cache.datasets.values():
        last_id = max(last_id, entry.id)
        last_ckpt = max(last_ckpt, (entry.details.ckpt if entry.details else None) or 0)
    return last_id, last_ckpt

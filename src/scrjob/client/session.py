# SPDX-License-Identifier: BSD-3-Clause
"""One run of a program with checkpoints: the operations of the interface, in the order they may come.

All of them are collective except ``route_file`` and ``config``. What each does to the files of cache and
prefix, and in which order, is in docs/howto/python-client.md, "Life of a dataset".
"""

from __future__ import annotations

import logging
import os
from typing import IO, TYPE_CHECKING, Optional

from scrjob.client import setup, stacks, writing
from scrjob.client.fetch import fetch_newest
from scrjob.client.flush import flush_dataset
from scrjob.client.halting import Halting
from scrjob.client.layout import absolute_in_prefix, filemap_path
from scrjob.client.policy import CheckpointClock
from scrjob.errors import DatasetError, UsageError
from scrjob.formats import filemap, halt, kvtree

if TYPE_CHECKING:
    from scrjob.client.core import Core
    from scrjob.client.opened import Output
    from scrjob.formats.cindex import CachedDataset
    from scrjob.protocols import Context

logger = logging.getLogger(__name__)


class Session:
    """What ``init`` makes and ``finalize`` ends.

    Args:
        core: the client's parts, as ``setup.start`` makes them.
        context: the outside world.

    Raises:
        ScrError: on all ranks.
    """

    def __init__(self, core: Core, context: Context) -> None:
        self._core = core
        self._stacks: Optional[IO[str]] = None
        stack_dir = context.environ.get("SCR_STACK_DIR")
        if stack_dir:
            self._stacks = _arm(stack_dir, context.hostname, core.team.rank, core.team.size)
        self._halting = Halting(core)
        self._output: Optional[Output] = None
        self._restart: Optional[CachedDataset] = None
        self._places: Optional[dict[str, str]] = None
        self._is_restarting = False
        self._may_fetch = core.settings.fetch
        core.log.started(core.team.size, core.team.node_count)
        setup.recover(core)
        self._numbers = setup.numbers(core)
        self._clock = CheckpointClock(core.settings.rules, context.clock.monotonic())
        self._monotonic = context.clock.monotonic
        self._exit_if_halted(0)
        self._compute_start = core.clock.now()
        core.log.event("COMPUTE_START")

    def config(self, name: str) -> Optional[str]:
        """Return the value of a setting, None if it has none."""
        return self._core.settings.values.get(name)

    # Restart.

    def have_restart(self) -> Optional[str]:
        """Return the name of the checkpoint that a restart would use, None for a fresh start."""
        self._expect_idle("have_restart")
        entry = self._core.cache.newest_checkpoint()
        if entry is None and self._may_fetch:
            entry = fetch_newest(self._core)
            self._may_fetch = entry is not None
            self._numbers = setup.numbers(self._core)
        self._restart = entry
        return _name(entry) if entry is not None else None

    def start_restart(self) -> str:
        """Begin to read the checkpoint that ``have_restart`` has named; returns its name."""
        self._expect_idle("start_restart")
        if self._restart is None:
            raise UsageError("start_restart: have_restart has named no checkpoint")
        self._is_restarting = True
        self._places = None
        return _name(self._restart)

    def complete_restart(self, valid: bool = True) -> bool:
        """End it; True if every rank could read its files. Else that checkpoint is given up."""
        if not self._is_restarting or self._restart is None:
            raise UsageError("complete_restart: no restart was started")
        entry, self._restart, self._is_restarting = self._restart, None, False
        if self._core.team.all_true(valid):
            return True
        core = self._core
        name = _name(entry)
        core.team.on_first("marking a failed restart", lambda: core.prefix.fail(entry.id, name))
        writing.discard(core, entry.id)
        return False

    # Output.

    def need_checkpoint(self) -> bool:
        """Tell whether the program should write a checkpoint now."""
        self._expect_idle("need_checkpoint")
        hits = self._halting.hits()
        needed = self._clock.needed(self._monotonic())
        return bool(self._core.team.comm.bcast(bool(hits) or needed))

    def start_output(self, name: Optional[str], *, is_ckpt: bool, is_output: bool) -> str:
        """Open a dataset; returns its name."""
        self._expect_idle("start_output")
        core = self._core
        now = core.clock.now()
        if is_ckpt:
            core.log.event("COMPUTE_END", secs=now - self._compute_start)
            self._clock.started(self._monotonic())
        last_id, last_ckpt = self._numbers
        self._numbers = (last_id + 1, last_ckpt + is_ckpt)
        request = writing.Request(
            id=last_id + 1,
            name=name or f"scr.dataset.{last_id + 1}",
            ckpt=last_ckpt + 1 if is_ckpt else None,
            is_output=is_output,
        )
        self._output = writing.begin(core, request, now)
        return request.name

    def complete_output(self, valid: bool = True) -> bool:
        """Close the dataset; True if it is complete and protected, else it is gone."""
        if self._output is None:
            raise UsageError("complete_output: no output was started")
        output, self._output = self._output, None
        core = self._core
        details = output.entry.details
        is_ckpt = details is not None and details.is_ckpt
        good = writing.finish(core, output, valid)
        if is_ckpt:
            self._clock.ended(self._monotonic())
        if good:
            writing.flush_at_once(core, output.entry.id)
            if is_ckpt:
                self._exit_if_halted(1)
            writing.flush_in_turn(core, output.entry.id)
            writing.make_room(core, room=0)
        if is_ckpt:
            self._compute_start = core.clock.now()
            core.log.event("COMPUTE_START")
        return good

    def route_file(self, path: str) -> str:
        """Return where to write or read a file. Not collective."""
        if self._output is not None:
            return self._output.route(path, os.getcwd())
        if self._is_restarting and self._restart is not None:
            return self._restored(self._restart, path)
        raise UsageError("route_file: no output or restart was started")

    def _restored(self, entry: CachedDataset, path: str) -> str:
        """Return where a file of the restart lies; by its place in the prefix, else by its name."""
        if self._places is None:
            tree = kvtree.read(filemap_path(entry.path or "", self._core.team.rank))
            files = [
                (place, meta) for place, meta in filemap.parse(tree).items() if meta is not None
            ]
            # Full names begin with a slash, so the two kinds do not meet.
            self._places = {meta.name or "": place for place, meta in reversed(files)}
            self._places.update((meta.destination or "", place) for place, meta in reversed(files))
        target = absolute_in_prefix(path, self._core.settings.prefix, os.getcwd())
        found = self._places.get(target) or self._places.get(os.path.basename(target))
        if found is not None:
            return found
        raise DatasetError(f"{path}: this rank has no such file in {_name(entry)}")

    # Others.

    def should_exit(self) -> bool:
        """Tell whether a halt condition holds."""
        return bool(self._halting.hits())

    def current(self, name: str) -> None:
        """Say which checkpoint the program has restarted from by its own means."""
        core = self._core

        def change() -> None:
            index = core.prefix.index()
            number = index.id_of(name)
            entry = None if number is None else index.entry(number)
            if entry is None or not entry.descriptor.is_ckpt:
                return
            index.set_current(name)
            if core.settings.drop_after_current:
                index.remove_later(entry.id)
            core.prefix.change_index(lambda changed: setattr(changed, "tree", index.tree))

        core.team.on_first("setting the current checkpoint", change)

    def drop(self, name: str) -> None:
        """Take a dataset out of the index; its files stay."""
        core = self._core
        core.team.on_first(
            "dropping a dataset",
            lambda: core.prefix.change_index(lambda index: index.remove(name)),
        )

    def finalize(self) -> None:
        """End the run: record why, flush what SCR_FLUSH wants flushed. The cache stays as it is."""
        if self._output is not None:
            logger.warning("finalize: an output was never completed; it is given up")
            self.complete_output(valid=False)
        self._halting.record(halt.FINALIZE_CALLED)
        self._flush_rest()
        self._core.scheme.comm.Free()
        self._core.team.close()
        if self._stacks is not None:
            stacks.disarm(self._stacks)

    def _flush_rest(self) -> None:
        core = self._core
        newest = core.cache.newest_checkpoint()
        for entry in _not_flushed(self):
            details = entry.details
            is_output = details is not None and details.is_output
            if is_output or (core.settings.flush > 0 and entry is newest):
                flush_dataset(core, entry)

    def _exit_if_halted(self, decrement: int) -> None:
        """Count off a checkpoint; with SCR_HALT_EXIT=1 end the program if a condition holds."""
        hits = self._halting.hits(decrement)
        if not hits or not self._core.settings.halt_exit:
            return
        for hit in hits:
            if self._core.team.is_first:
                logger.warning("Job exiting: %s", hit.text)
            self._halting.record(hit.reason)
        self._flush_rest()
        raise SystemExit(0)

    def _expect_idle(self, call: str) -> None:
        if self._output is not None:
            raise UsageError(f"{call}: complete_output comes first")
        if self._is_restarting:
            raise UsageError(f"{call}: complete_restart comes first")


def _not_flushed(session: Session) -> list[CachedDataset]:
    core = session._core  # noqa: SLF001 - the other half of the class
    ids = list(core.cache.datasets)
    done = core.team.on_first("reading the flush file", lambda: core.prefix.flushed(ids))
    return [entry for entry in core.cache.datasets.values() if entry.id not in done]


def _name(entry: CachedDataset) -> str:
    details = entry.details
    return (details.name if details is not None else None) or f"scr.dataset.{entry.id}"


def _arm(directory: str, hostname: str, rank: int, size: int) -> Optional[IO[str]]:
    try:
        return stacks.arm(directory, hostname, rank, size)
    except (OSError, ValueError, RuntimeError) as error:
        logger.warning("cannot prepare for stack traces: %s", error)
        return None

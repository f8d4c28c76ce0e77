# SPDX-License-Identifier: BSD-3-Clause
"""Checkpoints for parallel Python programs, over mpi4py.

::

    import scrjob.client as scr

    scr.init()
    with scr.restart() as old:
        if old:
            load(old.route("state.npy"))
    for step in range(1, 1000):
        compute()
        if scr.need_checkpoint():
            with scr.checkpoint(f"step.{step}") as new:
                save(new.route(f"step.{step}/rank_{rank}.npy"))
        if scr.should_exit():
            break
    scr.finalize()

Files go to node-local storage, are protected against the loss of a node, and every so often reach the
prefix directory. Names, meanings and files are those of the SCR library, so its tools and all commands
here work on them. Every function but ``config`` and ``route_file`` is collective: all ranks call it, and
an error on one of them is raised on all. docs/howto/python-client.md is the guide.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Iterator, Optional, Union

from scrjob.client.settings import ProgramConfig
from scrjob.errors import ScrError, UsageError

if TYPE_CHECKING:
    from scrjob.client.off import Off
    from scrjob.client.session import Session
    from scrjob.client.team import Communicator
    from scrjob.protocols import Context

    StrPath = Union[str, "os.PathLike[str]"]

__all__ = [
    "SCR_FLAG_CHECKPOINT",
    "SCR_FLAG_NONE",
    "SCR_FLAG_OUTPUT",
    "Dataset",
    "ScrError",
    "checkpoint",
    "complete_checkpoint",
    "complete_output",
    "complete_restart",
    "config",
    "current",
    "drop",
    "finalize",
    "have_restart",
    "init",
    "need_checkpoint",
    "output",
    "restart",
    "route_file",
    "should_exit",
    "start_checkpoint",
    "start_output",
    "start_restart",
]

SCR_FLAG_NONE = 0
SCR_FLAG_CHECKPOINT = 1
"""The program can restart from this dataset."""
SCR_FLAG_OUTPUT = 2
"""The user wants this dataset: it goes to the prefix in any case."""


class _State:
    """The one run of this process."""

    session: Optional[Union[Session, Off]] = None
    program = ProgramConfig()


def init(comm: Optional[Communicator] = None, *, context: Optional[Context] = None) -> None:
    """Start: read the settings, and complete what an earlier run of this job left in cache.

    Args:
        comm: the ranks of the program; default MPI.COMM_WORLD.
        context: the outside world (environment, host name, clock); default the real one.

    Raises:
        UsageError: called twice.
        ScrError: see the message.
    """
    if _State.session is not None:
        raise UsageError("init: called for the second time")
    if context is None:
        from scrjob._context import system_context  # noqa: PLC0415 - only without a given one

        context = system_context()
    if comm is None:
        from mpi4py import MPI  # noqa: PLC0415 - starts MPI

        comm = MPI.COMM_WORLD
    _State.session = _start(comm, context)


def finalize() -> None:
    """End: record that the program ended by itself, flush the last checkpoint if SCR_FLUSH is on.

    Raises:
        ScrError: see the message.
    """
    session = _session("finalize")
    _State.session = None
    _State.program = ProgramConfig()
    session.finalize()


def config(text: str) -> Optional[str]:
    """Ask for a setting (``NAME``), or change one before ``init`` (``NAME=VALUE``, ``NAME=``).

    All ranks must make the same changes. The environment and the user's file go before the program's word.
    Before ``init`` there are no answers yet: None.

    Raises:
        UsageError: it cannot be understood, or a change comes after ``init``.
    """
    if "=" in text:
        if _State.session is not None:
            raise UsageError(f"config({text!r}): settings are changed before init")
        _State.program.change(text)
        return None
    return None if _State.session is None else _State.session.config(text)


def have_restart() -> Optional[str]:
    """Return the name of the checkpoint to restart from, None for a fresh start.

    The newest in cache; if there is none, the one that the prefix's index says is fetched to the cache.

    Raises:
        ScrError: see the message.
    """
    return _session("have_restart").have_restart()


def start_restart() -> str:
    """Begin to read that checkpoint; returns its name. ``route_file`` now tells where its files are.

    Raises:
        UsageError: ``have_restart`` has named none.
    """
    return _session("start_restart").start_restart()


def complete_restart(valid: bool = True) -> bool:
    """End reading.

    Args:
        valid: this rank could read all of its files.

    Returns:
        True if all ranks could. If not, the checkpoint is given up; ask ``have_restart`` for an older one.
    """
    return _session("complete_restart").complete_restart(valid)


def need_checkpoint() -> bool:
    """Tell whether to write a checkpoint now.

    By SCR_CHECKPOINT_INTERVAL, _SECONDS and _OVERHEAD, and always when the program should end; always
    yes when none of them is set.
    """
    return _session("need_checkpoint").need_checkpoint()


def start_output(name: Optional[str] = None, flags: int = SCR_FLAG_CHECKPOINT) -> str:
    """Open a dataset.

    Args:
        name: the same on all ranks; default ``scr.dataset.<id>``.
        flags: SCR_FLAG_CHECKPOINT, SCR_FLAG_OUTPUT or both (``|``).

    Returns:
        its name.

    Raises:
        ScrError: see the message.
    """
    return _session("start_output").start_output(
        name,
        is_ckpt=bool(flags & SCR_FLAG_CHECKPOINT),
        is_output=bool(flags & SCR_FLAG_OUTPUT),
    )


def complete_output(valid: bool = True) -> bool:
    """Close the dataset.

    Args:
        valid: this rank has written all of its files.

    Returns:
        True if all ranks have, and the dataset is protected. If not, it was deleted from the cache, and
        the program can go on with the checkpoints that it had before.
    """
    return _session("complete_output").complete_output(valid)


def start_checkpoint(name: Optional[str] = None) -> str:
    """Open a checkpoint: ``start_output`` with SCR_FLAG_CHECKPOINT."""
    return start_output(name, SCR_FLAG_CHECKPOINT)


def complete_checkpoint(valid: bool = True) -> bool:
    """Close a checkpoint: ``complete_output``."""
    return complete_output(valid)


def route_file(path: StrPath) -> str:
    """Return where this rank is to write, or will find, a file. Not collective.

    Args:
        path: where the file belongs, in the prefix directory; relative names start at the current
            directory.

    Raises:
        UsageError: it is outside of the prefix, or nothing was started.
        DatasetError: at a restart, the checkpoint has no such file of this rank.
        OSError: it could not be noted.
    """
    return _session("route_file").route_file(os.fspath(path))


def should_exit() -> bool:
    """Tell whether the program should end: somebody asked for it, or the time is nearly up."""
    return _session("should_exit").should_exit()


def current(name: str) -> None:
    """Say that the program has restarted from this checkpoint by its own means."""
    _session("current").current(name)


def drop(name: str) -> None:
    """Take a dataset out of the prefix's index; its files stay."""
    _session("drop").drop(name)


class Dataset:
    """What the context managers give: a dataset that is being written or read.

    Attributes:
        name: its name; "" if there is nothing to restart from, then the object is false.
        valid: set it to False when this rank could not do its part; after the block: what all ranks said.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.valid = True

    def __bool__(self) -> bool:
        return bool(self.name)

    def route(self, path: StrPath) -> str:
        """Return where to write or read a file: ``route_file``."""
        return route_file(path)


@contextlib.contextmanager
def output(name: Optional[str] = None, flags: int = SCR_FLAG_OUTPUT) -> Iterator[Dataset]:
    """Write a dataset: ``start_output`` before the block, ``complete_output`` after it.

    An exception in the block makes the dataset invalid on all ranks and goes on.
    """
    found = Dataset(start_output(name, flags))
    try:
        yield found
    except BaseException:
        found.valid = False
        raise
    finally:
        found.valid = complete_output(found.valid)


@contextlib.contextmanager
def checkpoint(name: Optional[str] = None) -> Iterator[Dataset]:
    """Write a checkpoint: ``output`` with SCR_FLAG_CHECKPOINT."""
    with output(name, SCR_FLAG_CHECKPOINT) as found:
        yield found


@contextlib.contextmanager
def restart() -> Iterator[Dataset]:
    """Read the checkpoint to restart from; the object is false if there is none.

    Set ``valid`` to False for a checkpoint that cannot be read: it is given up on all ranks. An exception
    in the block goes on and gives nothing up; it may be the program's fault, or an interrupt, and the
    checkpoint the only one.
    """
    if have_restart() is None:
        yield Dataset("")
        return
    found = Dataset(start_restart())
    try:
        yield found
    finally:
        found.valid = complete_restart(found.valid)


def _start(comm: Communicator, context: Context) -> Union[Session, Off]:
    from scrjob.client.off import Off  # noqa: PLC0415 - not before it is needed

    if context.environ.get("SCR_ENABLE", "").strip() == "0":
        return Off(comm, _State.program)  # no file is touched
    from scrjob.client import setup  # noqa: PLC0415 - NumPy, 70 ms
    from scrjob.client.session import Session  # noqa: PLC0415 - as above

    core = setup.start(comm, context, _State.program, os.getcwd())
    return Off(comm, _State.program) if core is None else Session(core, context)


def _session(call: str) -> Union[Session, Off]:
    if _State.session is None:
        raise UsageError(f"{call}: init comes first")
    return _State.session

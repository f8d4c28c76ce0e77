# SPDX-License-Identifier: BSD-3-Clause
"""halt.scr: the conditions under which a job should stop.

Written by the library and by scr_halt_cntl, **in place under flock(2)** on the file itself: a rename
would leave waiters with a lock on a dead inode. Updates take the exclusive lock, readers the shared
one; the C library updates under a shared lock, so a reader can meet a torn file.

Source: docs/formats/halt.md.
"""

from __future__ import annotations

import os
import time
from typing import Callable, List, Mapping, NamedTuple, Optional, Union

from scrjob._fsio import METADATA_LIMIT_BYTES, locked, overwrite
from scrjob.errors import FormatError
from scrjob.formats.kvtree import KVTree, decode, encode

REASON = "ExitReason"
CHECKPOINTS = "CheckpointsLeft"
BEFORE = "ExitBefore"
AFTER = "ExitAfter"
SECONDS = "HaltSeconds"
KEYS = (REASON, CHECKPOINTS, BEFORE, AFTER, SECONDS)  # the order in which scr_halt_cntl stores them

JOB_HALTED = "JOB_HALTED"  # what scr_halt writes
FINALIZE_CALLED = "SCR_FINALIZE_CALLED"
TIME_LIMIT = "TIME_LIMIT"

_UINT32 = 0xFFFFFFFF
_UNSET = -1

Change = Mapping[str, Union[int, str, None]]


class Conditions(NamedTuple):
    """What a halt file says; None: not in the file. Times are Unix seconds.

    ``seconds``: stop that long before the end of the allocation, and before ``before``.
    """

    reason: Optional[str] = None
    checkpoints: Optional[int] = None
    before: Optional[int] = None
    after: Optional[int] = None
    seconds: Optional[int] = None


class Hit(NamedTuple):
    """One condition that holds: the reason to record, and a sentence for people."""

    reason: str
    text: str


def conditions(tree: KVTree) -> Conditions:
    """Return the conditions in a tree."""
    return Conditions(
        tree.text(REASON),
        tree.integer(CHECKPOINTS),
        tree.integer(BEFORE),
        tree.integer(AFTER),
        tree.integer(SECONDS),
    )


def read(path: str) -> KVTree:
    """Return the tree of a halt file, read under the shared lock.

    Raises:
        FormatError and children: it is damaged.
        OSError: it cannot be read; FileNotFoundError if absent.
    """
    with locked(path, exclusive=False) as file:
        return decode(file.read(METADATA_LIMIT_BYTES), os.fspath(path))


def update(
    path: str,
    change: Callable[[KVTree], Optional[KVTree]],
    *,
    on_damage: Optional[Callable[[FormatError], None]] = None,
) -> KVTree:
    """Change a halt file under the exclusive lock, in place, creating it if need be; blocks for the lock.

    Args:
        path: the file; its directory must exist.
        change: gets the present tree; changes it, or returns another one to be written.
        on_damage: is told when the present content is damaged; it then counts as empty.

    Returns:
        the tree that was written.

    Raises:
        OSError: the file cannot be opened, locked or written.
    """
    with locked(path, exclusive=True, create=True) as file:
        try:
            tree = decode(file.read(METADATA_LIMIT_BYTES), os.fspath(path))
        except FormatError as error:
            tree = KVTree()
            if on_damage is not None:
                on_damage(error)
        result = change(tree)
        tree = tree if result is None else result
        overwrite(file, encode(tree))
    return tree


def apply(tree: KVTree, change: Change) -> None:
    """Set and unset conditions: key -> value, or None to unset; negative numbers wrap to 32 bits."""
    for key in KEYS:
        if key not in change:
            continue
        value = change[key]
        if value is None:
            tree.unset(key)
        else:
            tree.put(key, value & _UINT32 if isinstance(value, int) else value)


def changes_text(change: Change) -> str:
    """Return the lines that scr_halt_cntl prints before it changes the file, without a final newline."""
    return "\n".join(
        f"{'Unsetting' if change[key] is None else 'Setting'} {key}"
        for key in (CHECKPOINTS, AFTER, BEFORE, SECONDS, REASON)
        if key in change
    )


def program_update(path: str, memory: KVTree, *, decrement: int = 0) -> KVTree:
    """Do what the library does at each check; returns its new copy of the file's content.

    A file that exists wins over ``memory``, except that a reason in memory survives when the file has
    none. Then ``decrement`` checkpoints are counted off, not below 0.

    Raises:
        OSError: the file cannot be opened, locked or written.
    """
    existed = os.path.exists(path)

    def change(found: KVTree) -> KVTree:
        tree = found if existed else memory.copy()
        reason = memory.value(REASON)
        if tree.value(REASON) is None and reason is not None:
            tree.put(REASON, reason)
        left = tree.integer(CHECKPOINTS)
        if left is not None:
            tree.put(CHECKPOINTS, max(0, left - decrement))
        return tree

    return update(path, change)


def program_hits(found: Conditions, *, now: float, end_time: Optional[float] = None) -> List[Hit]:
    """Return the conditions by which the library stops a job, in its order; [] means go on.

    Args:
        found: what the halt file says.
        now: Unix seconds.
        end_time: when the allocation ends, Unix seconds; None or <= 0: not known.
    """
    hits = []
    seconds = found.seconds or 0
    if seconds > 0 and end_time is not None and end_time > 0:
        left = max(0, int(end_time - now))
        if left <= seconds:
            text = (
                f"Reached time limit: (seconds remaining = {left})"
                f" <= (SCR_HALT_SECONDS = {seconds})."
            )
            hits.append(Hit(TIME_LIMIT, text))
    if found.reason and found.reason != FINALIZE_CALLED:
        hits.append(Hit(found.reason, f"Reason: {found.reason}."))
    if found.checkpoints == 0:
        hits.append(Hit("NO_CHECKPOINTS_LEFT", "No more checkpoints remaining."))
    return hits + _time_hits(found, now, seconds)


def retries_hits(found: Conditions, *, now: float, halt_seconds: int = 0) -> List[Hit]:
    """Return the conditions by which a job is not launched again, in scr_retries_halt's order.

    Any reason counts here, also that of a regular end. ``halt_seconds`` is the parameter
    SCR_HALT_SECONDS, used when the file has no value of its own.
    """
    hits = []
    if found.reason:
        hits.append(Hit(found.reason, f"Reason: {found.reason}."))
    if found.checkpoints == 0:
        hits.append(Hit("NO_CHECKPOINTS_LEFT", "No checkpoints remaining."))
    seconds = halt_seconds if found.seconds is None else found.seconds
    return hits + _time_hits(found, now, seconds)


def _time_hits(found: Conditions, now: float, seconds: int) -> List[Hit]:
    hits = []
    here = date_text(now)
    if found.before is not None and now >= found.before - seconds:
        limit = date_text(found.before - seconds)
        text = f"Current time ({here}) is past ExitBefore-HaltSeconds time ({limit})."
        hits.append(Hit("EXIT_BEFORE_TIME", text))
    if found.after is not None and now >= found.after:
        text = f"Current time ({here}) is past ExitAfter time ({date_text(found.after)})."
        hits.append(Hit("EXIT_AFTER_TIME", text))
    return hits


def date_text(seconds: float) -> str:
    """Return a time as C's ``asctime(localtime())`` shows it."""
    return time.asctime(time.localtime(int(seconds)))


def settings_text(path: str, found: Conditions) -> str:
    """Return the block that scr_halt_cntl prints, without a final newline."""
    lines = [f"Halt file settings for {path}:"]
    if found.reason is not None:
        lines.append(f"  ExitReason:      {found.reason}")
    if found.checkpoints is not None:
        lines.append(f"  CheckpointsLeft: {found.checkpoints}")
    if found.after is not None:
        lines.append(f"  ExitAfter:       {date_text(found.after)}")
    if found.before is not None:
        lines.append(f"  ExitBefore:      {date_text(found.before)}")
    if found.seconds is not None:
        lines.append(f"  HaltSeconds:     {found.seconds}")
    if found.before not in (None, _UNSET) and found.seconds not in (None, _UNSET):
        limit = date_text((found.before or 0) - (found.seconds or 0))
        lines.append(f"  ExitBefore - HaltSeconds: {limit}")
    return "\n".join(lines if len(lines) > 1 else [*lines, "  None"])

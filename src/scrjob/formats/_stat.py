# SPDX-License-Identifier: BSD-3-Clause
"""A file's size, owner, mode and times, as filemaps and redundancy headers record them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Dict, NamedTuple, Optional, Sequence

from scrjob.formats import _numbers

if TYPE_CHECKING:
    import os

    from scrjob.formats.kvtree import KVTree

_SECOND_NS = 1_000_000_000
KEYS = (
    *(b"SIZE", b"MODE", b"UID", b"GID"),
    *(b"ATIME_SECS", b"ATIME_NSECS", b"CTIME_SECS", b"CTIME_NSECS", b"MTIME_SECS", b"MTIME_NSECS"),
)
PLAIN = dict.fromkeys(KEYS, _numbers.PLAIN_LONG)
"""The patterns of values that ``of_plain`` takes."""


class FileStat(NamedTuple):
    """All times are nanoseconds since the epoch; ``mode`` includes the type bits. None: not recorded."""

    size_bytes: Optional[int] = None
    mode: Optional[int] = None
    uid: Optional[int] = None
    gid: Optional[int] = None
    atime_ns: Optional[int] = None
    ctime_ns: Optional[int] = None
    mtime_ns: Optional[int] = None

    @classmethod
    def from_os(cls, status: os.stat_result) -> FileStat:
        """Take it from what ``os.stat`` returned."""
        return cls(
            status.st_size,
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_atime_ns,
            status.st_ctime_ns,
            status.st_mtime_ns,
        )


def parse(tree: KVTree) -> FileStat:
    """Return the recorded fields of a subtree."""
    return FileStat(
        tree.unsigned("SIZE"),
        tree.unsigned("MODE"),
        tree.unsigned("UID"),
        tree.unsigned("GID"),
        _time(tree, "ATIME"),
        _time(tree, "CTIME"),
        _time(tree, "MTIME"),
    )


def _time(tree: KVTree, key: str) -> Optional[int]:
    seconds = tree.unsigned(f"{key}_SECS")
    if seconds is None:
        return None
    return seconds * _SECOND_NS + (tree.unsigned(f"{key}_NSECS") or 0)


_shared = lru_cache(maxsize=64)(int)  # for what the files of a rank mostly have in common


def of_plain(values: Sequence[Optional[bytes]]) -> FileStat:
    """Return the fields whose values are given in the order of ``KEYS``, None for one that is absent.

    There can be very many: the values are plain numbers, for there is no time to look at them twice.
    """
    size, mode, uid, gid, atime, atime_part, ctime, ctime_part, mtime, mtime_part = values
    return FileStat(
        None if size is None else int(size),
        None if mode is None else _shared(mode),
        None if uid is None else _shared(uid),
        None if gid is None else _shared(gid),
        None if atime is None else _shared(atime) * _SECOND_NS + int(atime_part or 0),
        None if ctime is None else _shared(ctime) * _SECOND_NS + int(ctime_part or 0),
        None if mtime is None else _shared(mtime) * _SECOND_NS + int(mtime_part or 0),
    )


def fields(stat: FileStat) -> Dict[str, int]:
    """Return the keys and values to record, size excepted, in SCR's order."""
    found = {"MODE": stat.mode, "UID": stat.uid, "GID": stat.gid}
    for name, value in (
        ("ATIME", stat.atime_ns),
        ("CTIME", stat.ctime_ns),
        ("MTIME", stat.mtime_ns),
    ):
        if value is not None:
            found[f"{name}_SECS"], found[f"{name}_NSECS"] = divmod(value, _SECOND_NS)
    return {key: value for key, value in found.items() if value is not None}

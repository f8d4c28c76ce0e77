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
    return of_values([tree.value(key) for key in KEYS])


def of_values(values: Sequence[Optional[bytes]]) -> FileStat:
    """Return the fields whose values are given in the order of ``KEYS``, None for one that is absent."""
    size, mode, uid, gid, atime, atime_part, ctime, ctime_part, mtime, mtime_part = values
    return FileStat(
        unsigned(size),
        _shared(mode),
        _shared(uid),
        _shared(gid),
        _time(atime, atime_part),
        _time(ctime, ctime_part),
        _time(mtime, mtime_part),
    )


def unsigned(value: Optional[bytes]) -> Optional[int]:
    """Return an unsigned 64-bit scalar; None for None."""
    return None if value is None else _numbers.strtoul(value)


def _time(seconds: Optional[bytes], nanoseconds: Optional[bytes]) -> Optional[int]:
    whole = _shared(seconds)
    return None if whole is None else whole * _SECOND_NS + (unsigned(nanoseconds) or 0)


_shared = lru_cache(maxsize=64)(unsigned)  # for what the files of a rank mostly have in common


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

# SPDX-License-Identifier: BSD-3-Clause
"""Put back what SCR records of a file beside its bytes: owner, mode, times.

Source: docs/formats/cache.md, "filemap".
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrjob.formats.filemap import FileStat

MODE_BITS = 0o7777


def apply_attributes(fd: int, recorded: FileStat) -> tuple[str, ...]:
    """Set owner, mode and times of an open file; returns one line for each that was refused.

    Fields that were not recorded are left alone. Call it after the last write, which would change the
    times again.
    """
    return set_attributes(fd, recorded)[0]


def set_attributes(fd: int, recorded: FileStat) -> tuple[tuple[str, ...], os.stat_result]:
    """Do as ``apply_attributes``; returns also the file's size and times as they are then.

    Owner and mode in it are those from before.
    """
    complaints = []
    refused_times = ""
    if recorded.mtime_ns is not None:
        atime_ns = recorded.mtime_ns if recorded.atime_ns is None else recorded.atime_ns
        try:
            os.utime(fd, ns=(atime_ns, recorded.mtime_ns))
        except (OSError, OverflowError) as error:
            refused_times = f"setting times: {error}"
    status = os.fstat(fd)
    mode = status.st_mode & MODE_BITS
    uid, gid = recorded.uid, recorded.gid
    if uid is not None and gid is not None and (uid, gid) != (status.st_uid, status.st_gid):
        mode = -1  # changing the owner may clear bits
        try:
            os.fchown(fd, uid, gid)
        except (OSError, OverflowError) as error:
            complaints.append(f"chown to {uid}:{gid}: {error}")
    if recorded.mode is not None and mode != recorded.mode & MODE_BITS:
        try:
            os.fchmod(fd, recorded.mode & MODE_BITS)
        except (OSError, OverflowError) as error:
            complaints.append(f"chmod to {recorded.mode:o}: {error}")
    if refused_times:
        complaints.append(refused_times)
    return tuple(complaints), status

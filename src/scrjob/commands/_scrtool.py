# SPDX-License-Identifier: BSD-3-Clause
"""What the stand-ins for SCR's small executables share: messages as C has them.

SCR's tools print errors on stdout. The `` @ file:line`` tail of SCR's
messages names places in its sources and is left out.

Source: docs/howto/scr-tools.md.
"""

from __future__ import annotations

import os
import struct
from typing import Optional

from scrjob._clock import SystemClock
from scrjob._fsio import read_bounded
from scrjob.errors import ChecksumError, FormatError, UnsupportedVersionError
from scrjob.formats import kvtree

_LENGTH = struct.Struct(">Q")
_LENGTH_OFFSET = 8


def scr_error(text: str) -> None:
    """Print an error as SCR's tools do: on stdout, with their version and this host's name."""
    print(f"SCR v3.1.0 ERROR: {_host()}: {text}")


def kvtree_error(path: str, error: FormatError) -> None:
    """Print what KVTree prints when it cannot use a file."""
    print(f"KVTree 1.5.0 ERROR: {_host()}: {_complaint(path, error)}")


def _host() -> str:
    return os.uname().nodename  # as gethostname(), without importing socket


def _complaint(path: str, error: FormatError) -> str:
    if isinstance(error, ChecksumError):
        return f"CRC32 mismatch detected in {path}"
    if isinstance(error, UnsupportedVersionError):
        return f"File header does not match expected values in {path}"
    try:
        data = read_bounded(path)
    except (FormatError, OSError):
        return str(error)
    header = kvtree.HEADER.size
    if len(data) < header:
        return f"Invalid header: read {len(data)} bytes but expected {header} in {path}"
    (size,) = _LENGTH.unpack_from(data, _LENGTH_OFFSET)
    if size < header:
        return f"Invalid file size stored in {path}"
    if size > len(data):
        read, expected = len(data) - header, size - header
        return f"Failed to read file {path} (read {read} bytes but expected {expected}: filesize {size})"
    return str(error)


def read_tree(path: str) -> Optional[kvtree.KVTree]:
    """Return the tree in a file; None if it is absent (silently) or damaged (with KVTree's line)."""
    try:
        return kvtree.read_settled(path, SystemClock())
    except FormatError as error:
        kvtree_error(path, error)
    except OSError:
        pass  # KVTree says nothing of a file that it cannot open; each tool does
    return None

# SPDX-License-Identifier: BSD-3-Clause
"""Unpacking the recorded archives, on Python versions with and without extraction filters."""

from __future__ import annotations

import tarfile
from typing import Any, Iterable, Optional

# Filters came with 3.12 and with patch releases of older versions, but not to Debian's 3.9 and 3.11.
TRUSTED: dict[str, Any] = {"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {}


def unpack(
    archive: tarfile.TarFile, target: Any, members: Optional[Iterable[tarfile.TarInfo]] = None
) -> None:
    """Unpack a trusted archive, or some of it, with modes and times as recorded."""
    archive.extractall(target, members=members, **TRUSTED)

# SPDX-License-Identifier: BSD-3-Clause
"""Files that several threads read or write here and there, with few of them open at a time.

A group may have 256 members with 10,000 files each; a process may have 1,024 descriptors.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Callable, Optional

LIMIT = 64
"""Descriptors that are kept; more are open only while so many are in use at the same moment."""


class _Open:
    """A descriptor and how many are using it."""

    __slots__ = ("fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0


class OpenFiles:
    """Opens files when they are used, and closes those that were not used for longest.

    Every ``take`` needs its ``give``. A path is either read or written, not both.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Open] = OrderedDict()  # the last is the one used last

    def take(self, path: str, opener: Callable[[str], int]) -> int:
        """Return a descriptor of a file, opened by ``opener`` if need be.

        Raises:
            Whatever ``opener`` does.
        """
        with self._lock:
            found = self._use(path)
        if found is None:
            fd = opener(path)  # may take long on a slow file system: not under the lock
            unwanted = []
            with self._lock:
                found = self._use(path)
                if found is None:
                    found = self._open[path] = _Open(fd)
                    found.users = 1
                    unwanted = self._surplus()
                else:  # another thread was faster
                    unwanted = [fd]
            for one in unwanted:
                os.close(one)
        return found.fd

    def give(self, path: str) -> None:
        """Say that a descriptor got by ``take`` is not in use any more."""
        with self._lock:
            self._open[path].users -= 1

    def close(self) -> None:
        """Close all; none may be in use."""
        with self._lock:
            found = list(self._open.values())
            self._open.clear()
        for one in found:
            os.close(one.fd)

    def _use(self, path: str) -> Optional[_Open]:
        found = self._open.get(path)
        if found is not None:
            found.users += 1
            self._open.move_to_end(path)
        return found

    def _surplus(self) -> list[int]:
        """Take out what is over the limit and not in use; returns the descriptors to be closed."""
        closing: list[int] = []
        excess = len(self._open) - self._limit
        for path in list(self._open) if excess > 0 else ():
            if len(closing) == excess:
                break
            if self._open[path].users == 0:
                closing.append(self._open.pop(path).fd)
        return closing

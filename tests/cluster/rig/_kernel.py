# SPDX-License-Identifier: BSD-3-Clause
"""The few system calls that Python before 3.12 lacks: namespaces and mounts."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Callable, Iterable

NEW_MOUNT = 0x00020000
NEW_UTS = 0x04000000
NEW_IPC = 0x08000000
NEW_PID = 0x20000000
NEW_NET = 0x40000000
NEW_ALL = NEW_MOUNT | NEW_UTS | NEW_IPC | NEW_PID | NEW_NET

MS_RDONLY = 1
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    _check(
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            kind.encode(),
            ctypes.c_ulong(flags),
            options.encode(),
        ),
        f"mount {source} on {target}",
    )


def bind(source: str, target: str) -> None:
    mount(source, target, flags=MS_BIND | MS_REC)


def tmpfs(target: str, size_bytes: int, mode: str = "1777") -> None:
    mount("rig", target, "tmpfs", options=f"size={size_bytes},mode={mode}")


def cover(target: str, put: Callable[[], None], shared: Iterable[str]) -> None:
    """Mount something on a directory by ``put``, but keep the shared paths beneath it visible."""
    beneath = [path for path in shared if path.startswith(target + "/")]
    held = [(path, os.open(path, os.O_PATH)) for path in beneath]
    put()
    for path, descriptor in held:
        os.makedirs(path, exist_ok=True)
        bind(f"/proc/self/fd/{descriptor}", path)
        os.close(descriptor)


def fork(child: Callable[[], None]) -> int:
    """Run a function in a child process, which never returns; return the child's id."""
    number = os.fork()
    if number:
        return number
    try:
        child()
    except BaseException:  # noqa: BLE001 - a child must not run its parent's code, whatever happens
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def reap_for_ever() -> None:
    """Be a good init process."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            signal.pause()

# SPDX-License-Identifier: BSD-3-Clause
"""Calls of the C library that fail, or at which the process is killed: ``faults.c``, built when first used.

For child processes: their environment gets what ``faults.environ`` returns. ``faults.c`` has the language of
the rules, for instance ``write:/out/:3:ENOSPC``, ``sync:rank_0$:1:EIO``, ``change:/prefix/:17:KILL``.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, Optional

SOURCE = Path(__file__).with_name("faults.c")


def missing() -> Optional[str]:
    """Return why there can be no faults here."""
    return None if shutil.which("gcc") else "gcc is not installed"


@functools.cache
def library() -> str:
    """Return the path of the library; it goes away with this process."""
    directory = tempfile.mkdtemp(prefix="scrjob-faults-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    os.chmod(directory, 0o755)  # noqa: S103 - other users' processes load it, too
    path = os.path.join(directory, "faults.so")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", path, str(SOURCE), "-ldl"],
        check=True,
        timeout=60,
    )
    return path


def environ(*rules: str, count: Optional[Path] = None) -> Dict[str, str]:
    """Return the variables that bring faults into a process; ``count`` gets the calls of the first rule."""
    found = {"LD_PRELOAD": library(), "SCRJOB_FAULTS": ";".join(rules)}
    if count is not None:
        found["SCRJOB_FAULTS_COUNT"] = str(count)
    return found

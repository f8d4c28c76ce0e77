# SPDX-License-Identifier: BSD-3-Clause
"""``python -m scrjob COMMAND [ARGUMENTS]``: any console command without its script.

For a shared file system where the package lies but was never installed.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys


def main() -> int:
    """Run the command named by the first argument; returns its exit code, 64 if there is none."""
    from scrjob import commands  # noqa: PLC0415 - only this entry needs the list

    names = sorted(m.name for m in pkgutil.iter_modules(commands.__path__) if m.name[0] != "_")
    if len(sys.argv) < 2 or sys.argv[1] not in names:  # noqa: PLR2004 - program and command
        sys.stderr.write(
            f"usage: python -m scrjob COMMAND [ARGUMENTS]\ncommands: {' '.join(names)}\n"
        )
        return 64
    name = sys.argv.pop(1)
    sys.argv[0] = name
    return int(importlib.import_module(f"scrjob.commands.{name}").main())


if __name__ == "__main__":
    sys.exit(main())

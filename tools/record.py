# SPDX-License-Identifier: BSD-3-Clause
"""Record what a real tool says: ``record.py CASE_DIRECTORY [VARIABLE=VALUE ...] -- TOOL ARGUMENTS``.

Writes the files that scrjob.testing.recorded replays. The variables are noted as part of the case: it
is replayed only where they are set so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """Run the tool once and write its case."""
    split = sys.argv.index("--")
    directory, *settings = sys.argv[1:split]
    argv = sys.argv[split + 1 :]
    env = dict(setting.split("=", 1) for setting in settings)
    result = subprocess.run(
        argv,
        env={**os.environ, **env, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    case = Path(directory)
    case.mkdir(parents=True, exist_ok=True)
    case.joinpath("argv").write_text(json.dumps(argv[1:]) + "\n", "utf-8")
    case.joinpath("env").write_text(json.dumps(env) + "\n", "utf-8")
    case.joinpath("stdout").write_bytes(result.stdout)
    case.joinpath("stderr").write_bytes(result.stderr)
    case.joinpath("rc").write_text(f"{result.returncode}\n", "ascii")
    when = time.strftime("%Y-%m-%d", time.gmtime())
    case.joinpath("NOTE").write_text(f"recorded {when} by tools/record.py\n", "utf-8")


if __name__ == "__main__":
    main()

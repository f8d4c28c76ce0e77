# SPDX-License-Identifier: BSD-3-Clause
"""scr_run: keep a parallel program alive until it is done."""

from __future__ import annotations

import sys
import time
from typing import Callable, Optional, Sequence

from scrjob.commands._shared import run_command, tell

EXIT_USAGE = 64
HELP = """\
Runs PROGRAM through the launcher, again and again if nodes die or the program hangs, until it is
done, halted, out of time, out of nodes, or makes no progress; then brings its datasets home.

  -rc, --run-cmd CMD       appended to the launcher's arguments
  -rs, --restart-cmd CMD   used in its place when there is a checkpoint, SCR_CKPT_NAME in it is its name
  -h, --help               as the first word: this text
  --version                as the first word: the version

Settings are SCR_* variables, the main ones: SCR_RUNS (launches, -1 no limit), SCR_PREFIX,
SCR_MIN_NODES, SCR_EXCLUDE_NODES, SCR_NODE_TESTS, SCR_WATCHDOG, SCR_HALT_GRACE, SCR_ENABLE.
Exit code: 0 done, 64 usage, 69 too few nodes, 73 newest data not safe, 75 requeue, 78 configuration,
93 no progress, else that of the program.
"""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run as the command line says; returns the exit code of docs/exit-codes.md."""
    return run_with_launcher("scr_run", "", argv)


def run_with_launcher(prog: str, launcher: str, argv: Optional[Sequence[str]]) -> int:
    """Run the command ``prog`` whose launcher is fixed, "" if it is the first word."""

    def body(words: list[str]) -> int:
        return _run(prog, launcher, words)

    return run_command(prog, body, argv, usage_exit=EXIT_USAGE)


def _run(prog: str, launcher: str, words: list[str]) -> int:
    import logging  # noqa: PLC0415 - with the heavy part

    from scrjob import __version__, run  # noqa: PLC0415 - the heavy part
    from scrjob.commands._progress import progress  # noqa: PLC0415 - with it
    from scrjob.supervisor.signals import SignalWatch  # noqa: PLC0415 - with it

    if words[:1] == ["--version"]:
        print(f"{prog} {__version__}")
        return 0
    if words[:1] in (["-h"], ["--help"]):
        print(run.print_usage(launcher) + "\n" + HELP, end="")
        return 0
    # What the library warns of looks like the lines of ours; with SCR_DEBUG the log is set up already.
    logging.basicConfig(
        level=logging.WARNING, format=f"{prog}: %(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    name, args, run_cmd, restart_cmd, restart_args = run.parseargs(words, launcher)
    say = teller(prog)
    return run.run(
        *(name, args, run_cmd, restart_cmd, restart_args),
        say=say,
        signals=SignalWatch(ends_process=True),
        progress=progress(say),
    )


def teller(prog: str) -> Callable[[str], None]:
    """Return what tells the user a line on stderr, with the time of day."""

    def say(line: str) -> None:
        text = line.encode("utf-8", "backslashreplace").decode("utf-8").replace("\n", "\\n")
        tell(f"{prog}: {time.strftime('%H:%M:%S')} {text}")

    return say


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: BSD-3-Clause
"""What all console commands share: from an exception to one line and an exit code, common options.

A command module is::

    def main(argv: Optional[Sequence[str]] = None) -> int:
        return run_command("scr_name", _run, argv)

    def _run(argv: list[str]) -> int: ...

Imports here are those of every command's start, so argparse and logging come in only when used.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Callable, Optional, Sequence

from scrjob.errors import ScrError, UsageError

if TYPE_CHECKING:
    import argparse

EXIT_FAILURE = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell shows it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


def run_command(
    prog: str,
    func: Callable[[list[str]], int],
    argv: Optional[Sequence[str]] = None,
    *,
    usage_exit: int = EXIT_FAILURE,
) -> int:
    """Return the exit code of ``func(argv)``, with every expected error as one line on stderr.

    Args:
        prog: the command's name, in front of messages.
        func: gets the arguments without the program's name, returns the exit code.
        argv: the arguments; None for those of the process.
        usage_exit: exit code for ``UsageError``; SCR's commands have 1, scr_run 64.

    A reader that closed our stdout ends the command quietly. With SCR_DEBUG set (and not 0) errors
    also show their traceback, and the library's log goes to stderr.
    """
    debug = _debug_level(os.environ.get("SCR_DEBUG", ""))  # noqa: TID251 - before any context exists
    _prepare_streams()
    if debug:
        _show_log(debug)
    try:
        code = func(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except SystemExit as stop:  # argparse: --help, --version, usage errors
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_stdout()
        return EXIT_BROKEN_PIPE
    except (ScrError, OSError) as error:
        if debug:
            import traceback  # noqa: PLC0415 - only for debugging

            traceback.print_exc()
        complain(prog, one_line(error))
        _settle_stdout()
        if isinstance(error, UsageError):
            return usage_exit
        return error.exit_code if isinstance(error, ScrError) else EXIT_FAILURE
    return code


def complain(prog: str, message: str) -> None:
    """Write ``prog: message`` to stderr as one line, whatever characters the message has."""
    tell(f"{prog}: {printable(message)}")


def printable(text: str) -> str:
    """Return a text as one line: what would break or garble it is escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def tell(line: str) -> None:
    """Write a line to stderr. That nobody hears it, on a closed pipe or a lost terminal, is no error."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        # What is left in its buffer would change the exit code when the interpreter ends.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end


def narrate(line: str) -> None:
    """Write a line to stdout that tells what is done. That nobody can read it must not end the work."""
    try:
        print(line, flush=True)
    except OSError:  # a reader that went away, as of a pipe to ``head``, or a full disk
        _drop_stdout()


def environ() -> dict[str, str]:
    """Return a copy of the process's environment, for commands too light to need a whole context."""
    return dict(os.environ)  # noqa: TID251 - commands are where the environment comes in


def make_parser(
    prog: str, description: str, *, usage_exit: int = EXIT_FAILURE
) -> argparse.ArgumentParser:
    """Return a parser with ``--version`` whose usage errors end with ``usage_exit``, not argparse's 2."""
    import argparse  # noqa: PLC0415 - costs 10 ms

    from scrjob import __version__  # noqa: PLC0415 - only parsers show it

    class Parser(argparse.ArgumentParser):
        def exit(self, status: int = 0, message: Optional[str] = None) -> None:  # type: ignore[override]
            super().exit(usage_exit if status else 0, message)

    parser = Parser(prog=prog, description=description)
    parser.add_argument("--version", action="version", version=f"{prog} (scrjob) {__version__}")
    return parser


def add_prefix(parser: argparse.ArgumentParser) -> None:
    """Add ``-p/--prefix DIR``; absent means SCR_PREFIX, else the current directory."""
    parser.add_argument(
        "-p", "--prefix", metavar="DIR", help="prefix directory (default: SCR_PREFIX, else here)"
    )


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Add ``-v/--verbose``."""
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is done")


def _debug_level(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return int(bool(text))


def one_line(error: Exception) -> str:
    """Return what an error says, an OSError as ``file: reason``."""
    if isinstance(error, OSError) and error.strerror:
        names = [str(n) for n in (error.filename, error.filename2) if n is not None]
        return ": ".join([*names, error.strerror])
    return str(error)


def _prepare_streams() -> None:
    """Let names that are no valid UTF-8 pass to stdout as the bytes they are."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="surrogateescape")


def _show_log(level: int) -> None:
    import logging  # noqa: PLC0415 - only for debugging

    logging.basicConfig(
        level=logging.DEBUG if level > 1 else logging.INFO,
        format="%(asctime)s %(name)s: %(message)s",
    )


def _settle_stdout() -> None:
    """Write what was printed before an error; what cannot be written was that error, and is dropped."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop_stdout()


def _drop_stdout() -> None:
    """Point stdout at /dev/null, or the interpreter complains when it flushes at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # stdout is no file of the process
    finally:
        os.close(null)

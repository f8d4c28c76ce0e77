# SPDX-License-Identifier: BSD-3-Clause
"""What the wrappers share: the choice of the back end, and running an executable of SCR."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Optional, Union

from scrjob import config
from scrjob.errors import CommandNotFoundError, ConfigError, FormatError, UsageError

if TYPE_CHECKING:
    from scrjob._process import CommandResult
    from scrjob.protocols import Clock, Context

QUERY_TIMEOUT_S = 60.0  # reading one small file, on a slow file system
ERROR_MARK = " ERROR: "  # in every error line of SCR's and KVTree's, all of them on stdout


class Tool:
    """One executable of a real SCR installation.

    Args:
        name: of the executable.
        bin_dir: the directory that holds it.
        context: whose runner starts it; default: the real world.
        verbose: say what is run at INFO rather than at DEBUG.
    """

    def __init__(
        self, name: str, bin_dir: str, *, context: Optional[Context] = None, verbose: bool = False
    ) -> None:
        self.name = name
        self.path = os.path.join(bin_dir, name)
        self._context = context
        self._verbose = verbose

    def run(self, *args: str, timeout_s: float = QUERY_TIMEOUT_S) -> CommandResult:
        """Return what the executable said to these arguments.

        Raises:
            ConfigError: there is no such executable.
            CommandTimeoutError: it did not answer in time.
        """
        if self._context is None:
            from scrjob._context import system_context  # noqa: PLC0415 - native needs none

            self._context = system_context()
        if self._verbose:
            import logging  # noqa: PLC0415 - rarely needed

            logging.getLogger(__name__).info("running %s %s", self.path, " ".join(args))
        env = self._context.environ
        try:
            return self._context.runner.run([self.path, *args], timeout_s=timeout_s, env=env)
        except CommandNotFoundError as error:
            raise ConfigError(
                f"{self.path} cannot be run; SCR_BIN_DIR must name the directory of SCR's executables, or "
                "be empty to do without"
            ) from error

    def answer(self, path: str, *args: str) -> Optional[str]:
        """Return stdout of a question about ``path``, None if the answer is no (exit code not 0).

        A file that is not there has no answers; one that is there and cannot be used is an error.

        Raises:
            FormatError: the executable complains about an existing file.
            ConfigError, CommandTimeoutError: see ``run``.
        """
        result = self.run(*args)
        if result.returncode == 0:
            return result.stdout
        if ERROR_MARK in result.stdout and os.path.exists(path):
            said = " | ".join(result.stdout.split("\n")).strip(" |")
            raise FormatError(f"{self.name} says: {said}", path=path)
        return None


def choose(
    name: str, bin_dir: Optional[str], context: Optional[Context], *, verbose: bool
) -> Optional[Tool]:
    """Return the executable to use, None for the native back end.

    ``bin_dir`` decides, else SCR_BIN_DIR in the context's environment (without a context, that of the
    process), else the site's constant; "" means native.
    """
    if bin_dir is None:
        if context is None:
            from scrjob._context import system_context  # noqa: PLC0415 - only without a given one

            context = system_context()
        bin_dir = context.environ.get("SCR_BIN_DIR", config.SCR_BIN_DIR)
    return Tool(name, bin_dir, context=context, verbose=verbose) if bin_dir else None


class Wrapper:
    """What the wrappers of one file or tool have in common: how they are made.

    Args:
        prefix: the prefix directory.
        verbose: log what is done.
        context: the outside world.
        bin_dir: directory of SCR's own executables, "" to work without them; default: the site's.
    """

    _executable = ""  # name of the executable that the class stands for

    def __init__(
        self,
        prefix: str,
        verbose: bool = False,
        *,
        context: Optional[Context] = None,
        bin_dir: Optional[str] = None,
    ) -> None:
        self.prefix = os.fspath(prefix)
        self._context = context
        self._tool = choose(self._executable, bin_dir, context, verbose=verbose)
        self._prepare()

    def _prepare(self) -> None:
        """Make what a class has beyond this."""


def clock_of(context: Optional[Context]) -> Clock:
    """Return the context's clock, else the machine's."""
    if context is not None:
        return context.clock
    from scrjob._clock import SystemClock  # noqa: PLC0415 - only without a given one

    return SystemClock()


def dataset_id(d: Union[int, str]) -> int:
    """Return a dataset id given as number or text.

    Raises:
        UsageError: it is no number.
    """
    try:
        return int(d)
    except ValueError:
        raise UsageError(f"dataset id {d!r} is no number") from None


def warn(text: str, *args: object) -> None:
    """Log a warning; logging is loaded only now, for the commands must start quickly."""
    import logging  # noqa: PLC0415 - see above

    logging.getLogger("scrjob.cli").warning(text, *args)

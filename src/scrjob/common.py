# SPDX-License-Identifier: BSD-3-Clause
"""Small helpers under their published names, for site code; scrjob itself uses what they stand on.

No shell is ever started: commands are argument lists, a text is split into words as a shell would.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Sequence, Union

from scrjob.errors import CommandError, CommandTimeoutError, NotSupportedError

if TYPE_CHECKING:
    from scrjob._process import CommandResult
    from scrjob.protocols import CommandRunner, Process

    Argv = Union[str, Sequence[str]]
    Output = Union[None, str, tuple[str, str]]

RUN_LIMIT_S = 3600.0
"""A command whose output is collected is ended after so many seconds."""

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))")


def tracefunction(frame: Any, event: str, arg: Any) -> Callable[..., Any]:  # noqa: ARG001 - settrace's
    """Log each call inside scrjob at level DEBUG; for ``sys.settrace``. Returns itself."""
    code = frame.f_code
    if event == "call" and f"{os.sep}scrjob{os.sep}" in code.co_filename:
        import logging  # noqa: PLC0415 - only while tracing

        logging.getLogger(__name__).debug(
            "%s:%d %s", code.co_filename, frame.f_lineno, code.co_name
        )
    return tracefunction


def interpolate_variables(
    varstr: Optional[str], *, environ: Optional[Mapping[str, str]] = None, cwd: Optional[str] = None
) -> str:
    """Return a path as scripts write it with its parts filled in.

    ``~`` and ``~/`` become HOME, a first component ``.`` or ``..`` is taken from the current directory,
    ``$NAME`` and ``${NAME}`` from the environment (undefined: nothing), one ``/`` at the end goes.
    Anything else, such as ``.hidden``, ``~bob`` of an unknown bob, or a relative name, stays.
    """
    if not varstr:
        return ""
    environ = _environ() if environ is None else environ
    path = _VARIABLE.sub(lambda found: environ.get(found[1] or found[2], ""), varstr)
    first, slash, rest = path.partition("/")
    if first == "~" and environ.get("HOME"):
        path = environ["HOME"] + slash + rest
    elif first.startswith("~"):
        path = os.path.expanduser(path)
    elif first in (".", ".."):
        path = os.path.normpath(os.path.join(cwd or os.getcwd(), path))
    return path[:-1] if len(path) > 1 and path.endswith("/") else path


def scr_prefix(*, environ: Optional[Mapping[str, str]] = None) -> str:
    """Return the prefix directory, absolute: SCR_PREFIX, else the current directory."""
    environ = _environ() if environ is None else environ
    return os.path.abspath(interpolate_variables(environ.get("SCR_PREFIX"), environ=environ) or ".")


def choose_bindir() -> str:
    """Return the directory of SCR's executables: the site's SCR installation, else our own commands."""
    import sysconfig  # noqa: PLC0415 - slow to import

    from scrjob import config  # noqa: PLC0415 - as above

    return config.SCR_BIN_DIR or sysconfig.get_path("scripts")


def runproc(
    argv: Argv,
    wait: bool = True,
    getstdout: bool = False,
    getstderr: bool = False,
    verbose: bool = False,
    shell: bool = False,
    *,
    runner: Optional[CommandRunner] = None,
) -> tuple[Any, Any]:
    """Run a command; returns (output, exit code).

    Args:
        argv: words, or a text that is split as a shell would.
        wait: False returns at once, with (process, process).
        getstdout: output is what it wrote to stdout (text); else stdout is ours.
        getstderr: output is what it wrote to stderr; with both, the pair of texts.
        verbose: log the command at level INFO.
        shell: accepted; the text is split, and refused if it needs a real shell.
        runner: starts the command; default: the real one.

    The output is None if neither stream is asked for. The exit code is -N after signal N, None if the
    command could not be started or did not end within RUN_LIMIT_S while its output was collected.

    Raises:
        NotSupportedError: ``shell`` is set and the text has pipes, redirections or the like.
    """
    words = _words(argv, shell=shell)
    if not words:
        return None, None
    if verbose:
        import logging  # noqa: PLC0415 - on request

        logging.getLogger(__name__).info("running %s", words)
    runner = runner or _runner()
    try:
        if wait and (getstdout or getstderr):
            result = runner.run(words, timeout_s=RUN_LIMIT_S)
            return _output(result, getstdout, getstderr), result.returncode
        process: Process = runner.start(words)
    except CommandTimeoutError as error:
        return _output(error, getstdout, getstderr), None
    except CommandError:
        return None, None
    if not wait:
        return process, process
    return None, process.wait()


def pipeproc(
    argvs: Sequence[Argv],
    wait: bool = True,
    getstdout: bool = False,
    getstderr: bool = False,
    *,
    runner: Optional[CommandRunner] = None,
) -> tuple[Output, Optional[int]]:
    """Run commands one after another, each reading what the one before wrote; see ``runproc``.

    The output and the exit code are the last command's. One that cannot be started ends the line.

    Raises:
        NotSupportedError: ``wait`` is False.
    """
    if not wait:
        raise NotSupportedError(
            "pipeproc: wait=False is not supported; start the commands with runproc"
        )
    runner = runner or _runner()
    result: Optional[CommandResult] = None
    for argv in argvs:
        feed = result.stdout.encode("utf-8", "surrogateescape") if result is not None else None
        try:
            result = runner.run(_words(argv, shell=False), timeout_s=RUN_LIMIT_S, stdin=feed)
        except CommandError:
            return None, None
    if result is None:
        return None, None
    return _output(result, getstdout, getstderr), result.returncode


def _words(argv: Argv, *, shell: bool) -> list[str]:
    if not isinstance(argv, str):
        return [str(word) for word in argv]
    import shlex  # noqa: PLC0415 - only for texts

    if shell:
        lexer = shlex.shlex(argv, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        operators = [word for word in lexer if word and not word.strip("();<>|&")]
        if operators:
            raise NotSupportedError(
                f"runproc: no shell is started, {operators[0]!r} has no meaning: {argv}"
            )
    return shlex.split(argv)


def _output(result: Any, getstdout: bool, getstderr: bool) -> Output:
    if getstdout and getstderr:
        return result.stdout, result.stderr
    if getstdout:
        return str(result.stdout)
    return str(result.stderr) if getstderr else None


def _environ() -> Mapping[str, str]:
    from scrjob._context import system_context  # noqa: PLC0415 - only without a given one

    return system_context().environ


def _runner() -> CommandRunner:
    from scrjob._context import system_context  # noqa: PLC0415 - only without a given one

    return system_context().runner

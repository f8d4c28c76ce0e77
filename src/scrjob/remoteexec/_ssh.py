# SPDX-License-Identifier: BSD-3-Clause
"""How ssh, pdsh and ClusterShell all reach a node: program, options, and which names are host names."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING, Optional, Sequence

from scrjob.errors import ConfigError
from scrjob.remoteexec import _wrapper
from scrjob.remoteexec.remoteexec import not_on_path

if TYPE_CHECKING:
    from scrjob.protocols import Context, JobEnvironment
    from scrjob.remoteexec.remoteexec import RemoteExecResult

DEFAULT_FANOUT = 128
LONGEST_CONNECT_S = 30
LONGEST_SILENCE_S = 15  # two of them without a sign of life, and a connection is given up

# ssh takes a leading dash for an option and `user@` for another user; pdsh and ClusterShell have meanings
# for , [ ] ^ / ! & * @ : and blanks.
HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")


def options(timeout_s: float) -> list[str]:
    """Return ssh's options for a call of so many seconds.

    Nobody is there to type a password; nothing of the caller's session is lent to the node; an unreachable
    node is given up at half of the time, one that falls silent a little later. The user's own configuration
    holds for all the rest.

    Source: ssh(1), ssh_config(5), OpenSSH 9.2.
    """
    half = max(1, int(timeout_s / 2))
    return [
        *("-x", "-a", "-T"),
        "-oBatchMode=yes",
        "-oControlMaster=no",
        "-oLogLevel=ERROR",
        f"-oConnectTimeout={min(half, LONGEST_CONNECT_S)}",
        f"-oServerAliveInterval={min(half, LONGEST_SILENCE_S)}",
        "-oServerAliveCountMax=2",
    ]


def reach(setting: Optional[str], timeout_s: float) -> list[str]:
    """Return the words before node and command.

    ``setting`` is SCR_SSH: program and options as in a shell. Our options follow, so the user's own come
    first and win, unless the program is not called ssh: then it is asked as it stands.

    Raises:
        ConfigError: the setting cannot be split into words.
    """
    try:
        words = shlex.split(setting or "ssh")
    except ValueError as error:
        raise ConfigError(f"SCR_SSH={setting}: {error}") from error
    if not words:
        raise ConfigError("SCR_SSH is blank")
    return words + (options(timeout_s) if os.path.basename(words[0]) == "ssh" else [])


def words_for(jobenv: JobEnvironment, timeout_s: float) -> list[str]:
    """Return the words before node and command as the job's settings have it."""
    return reach(jobenv.param.get("SCR_SSH"), timeout_s)


def fanout(jobenv: JobEnvironment) -> int:
    """Return how many nodes are asked at the same time.

    Raises:
        ConfigError: SCR_SSH_FANOUT is no positive number.
    """
    setting = jobenv.param.get("SCR_SSH_FANOUT") or str(DEFAULT_FANOUT)
    if not setting.isdecimal() or int(setting) < 1:
        raise ConfigError(f"SCR_SSH_FANOUT={setting}: must be a number of nodes, at least 1")
    return int(setting)


def missing(context: Context) -> Optional[str]:
    """Return why nodes cannot be reached: no such program on PATH. None if it is there."""
    program = reach(context.environ.get("SCR_SSH"), 1.0)[0]
    return not_on_path(program, context)


def reachable(result: RemoteExecResult, pattern: re.Pattern[str] = HOST_NAME) -> list[str]:
    """Return the result's nodes that can be given to ssh, and enter into it why the others cannot."""
    found = []
    for node in result.nodes():
        if pattern.fullmatch(node):
            found.append(node)
        else:
            result.set_failure(node, f"{node!r} cannot be used as a host name")
    return found


def text_for(argv: Sequence[str], jobenv: JobEnvironment, timeout_s: float) -> str:
    """Return the text that runs ``argv`` on a node, in the caller's directory if it is there too."""
    environ = _wrapper.passed_environ(jobenv.context.environ)
    return _wrapper.node_text(argv, timeout_s, environ, _wrapper.here())

# SPDX-License-Identifier: BSD-3-Clause
"""What the user set, checked: rank 0 reads it, all ranks get the same values."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Mapping, NamedTuple, Optional

from scrjob._parameters import PARAMETERS
from scrjob.client.policy import CheckpointRules
from scrjob.client.scheme import Wish
from scrjob.errors import ConfigError, UsageError
from scrjob.formats.paths import reduce_path
from scrjob.identity import DEFAULT_JOB_ID, path_part, user_name
from scrjob.param import Param

if TYPE_CHECKING:
    from scrjob.protocols import Context

JOB_ID_VARIABLES = (
    "SLURM_JOBID",
    "SLURM_JOB_ID",
    "FLUX_JOB_ID",
    "LSB_JOBID",
    "PBS_JOBID",
)
SCHEMES = ("SINGLE", "PARTNER", "XOR", "RS")
MESSAGE_LIMIT_BYTES = 1 << 30  # MPI counts in 32 bits


class Settings(NamedTuple):
    """The client's settings; names as in docs/configuration.md without ``SCR_``.

    ``values`` has the text of every known setting, for ``config()``.
    """

    prefix: str
    user: str
    job_id: str
    job_name: Optional[str]
    cluster_name: Optional[str]
    cntl_base: str
    cache_base: str
    cache_size: int
    cache_bypass: bool
    cache_purge: bool
    enable: bool
    scheme: Wish
    rules: CheckpointRules
    halt_seconds: int
    halt_exit: bool
    end_time: Optional[float]
    mpi_buf_size: int
    file_buf_size: int
    copy_metadata: bool
    distribute: bool
    fetch: bool
    fetch_bypass: bool
    current: Optional[str]
    flush: int
    flush_on_restart: bool
    drop_after_current: bool
    values: Mapping[str, Optional[str]]


def prefix_of(context: Context, program: Mapping[str, str], cwd: str) -> str:
    """Return the prefix directory, absolute and reduced: the environment's, the program's, else ``cwd``.

    Raises:
        ConfigError: it holds a NUL byte.
    """
    given = context.environ.get("SCR_PREFIX") or program.get("SCR_PREFIX") or ""
    if "\0" in given:
        raise ConfigError(f"SCR_PREFIX: {given!r} holds a NUL byte")
    return reduce_path(os.path.join(cwd, os.path.expanduser(given)))


def read_settings(context: Context, prefix: str) -> Settings:
    """Return the settings, from all sources; ``app.conf`` must have been written before.

    Raises:
        ConfigError: a value is wrong or asks for what this version does not have.
    """
    param = Param(environ=context.environ, prefix=prefix)
    settings = Settings(
        prefix=prefix,
        user=user_name(param.get("SCR_USER_NAME"), context.environ),
        job_id=_job_id(param, context.environ),
        job_name=param.get("SCR_JOB_NAME") or None,
        cluster_name=param.get("SCR_CLUSTER_NAME") or None,
        cntl_base=_directory(param, "SCR_CNTL_BASE"),
        cache_base=_directory(param, "SCR_CACHE_BASE"),
        cache_size=param.get_int("SCR_CACHE_SIZE", 1),
        cache_bypass=param.get_bool("SCR_CACHE_BYPASS"),
        cache_purge=param.get_bool("SCR_CACHE_PURGE"),
        enable=param.get_bool("SCR_ENABLE"),
        scheme=_scheme(param),
        rules=CheckpointRules(
            param.get_int("SCR_CHECKPOINT_INTERVAL"),
            param.get_seconds("SCR_CHECKPOINT_SECONDS"),
            param.get_seconds("SCR_CHECKPOINT_OVERHEAD"),
        ),
        halt_seconds=param.get_int("SCR_HALT_SECONDS"),
        halt_exit=param.get_bool("SCR_HALT_EXIT"),
        end_time=_end_time(context.environ),
        mpi_buf_size=min(_positive(param, "SCR_MPI_BUF_SIZE"), MESSAGE_LIMIT_BYTES),
        file_buf_size=_positive(param, "SCR_FILE_BUF_SIZE"),
        copy_metadata=param.get_bool("SCR_COPY_METADATA"),
        distribute=param.get_bool("SCR_DISTRIBUTE"),
        fetch=param.get_bool("SCR_FETCH"),
        fetch_bypass=param.get_bool("SCR_FETCH_BYPASS"),
        current=param.get("SCR_CURRENT") or None,
        flush=param.get_int("SCR_FLUSH"),
        flush_on_restart=param.get_bool("SCR_FLUSH_ON_RESTART"),
        drop_after_current=param.get_bool("SCR_DROP_AFTER_CURRENT"),
        values={name: param.get(name) for name in PARAMETERS},
    )
    if settings.cache_size < 1:
        raise ConfigError(
            f"SCR_CACHE_SIZE={settings.cache_size} ({param.source('SCR_CACHE_SIZE')}): "
            "expected 1 or more"
        )
    own = {"SCR_PREFIX": prefix, "SCR_USER_NAME": settings.user, "SCR_JOB_ID": settings.job_id}
    return settings._replace(values={**settings.values, **own})


def _directory(param: Param, name: str) -> str:
    path = param.get(name) or ""
    if not os.path.isabs(path) or "\0" in path:
        raise ConfigError(f"{name}={path!r} ({param.source(name)}): expected an absolute path")
    return reduce_path(path)


def _positive(param: Param, name: str) -> int:
    size = param.get_bytes(name)
    if size < 1:
        raise ConfigError(f"{name}={size} ({param.source(name)}): expected 1 byte or more")
    return size


def _scheme(param: Param) -> Wish:
    given = param.get("SCR_COPY_TYPE") or ""
    if given.upper() not in SCHEMES:
        raise ConfigError(
            f"SCR_COPY_TYPE={given} ({param.source('SCR_COPY_TYPE')}): expected one of "
            f"{', '.join(SCHEMES)}"
        )
    wish = Wish(given.upper(), param.get_int("SCR_SET_SIZE"), param.get_int("SCR_SET_FAILURES"))
    if wish.copy_type == "RS" and wish.set_failures < 1:
        raise ConfigError(
            f"SCR_SET_FAILURES={wish.set_failures} ({param.source('SCR_SET_FAILURES')}): expected 1 "
            "or more with SCR_COPY_TYPE=RS"
        )
    return wish


def _end_time(environ: Mapping[str, str]) -> Optional[float]:
    text = environ.get("SCR_END_TIME", "").strip()
    seconds = int(text) if text.isdecimal() else 0
    return float(seconds) if seconds > 0 else None  # 0 and -1: not known, no limit


def _job_id(param: Param, environ: Mapping[str, str]) -> str:
    known = (environ[name] for name in JOB_ID_VARIABLES if environ.get(name))
    return path_part("job id", param.get("SCR_JOB_ID") or next(known, DEFAULT_JOB_ID))


class ProgramConfig:
    """What the program sets by ``config()`` before ``init()``: ends up in ``app.conf``."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[str, str]] = {}  # key -> value -> its children as text

    def change(self, text: str) -> None:
        """Take ``KEY=VALUE``, ``KEY=VALUE SUB=VALUE ...`` (several values collect), or ``KEY=`` (unset).

        Raises:
            UsageError: it is none of these.
        """
        words = text.split(" ")
        pairs = [word.partition("=") for word in words if word]
        if not pairs or not text.isprintable() or not all(key and sign for key, sign, _ in pairs):
            raise UsageError(f"config({text!r}): expected KEY, KEY=, or KEY=VALUE [SUB=VALUE ...]")
        (key, _, value), *children = pairs
        if not value and not children:
            self._lines.pop(key, None)
        elif value and all(below for _, _, below in children):
            # A key with children is a list of descriptors; a plain one has one value, the last.
            kept = self._lines.get(key, {}) if children else {}
            kept[value] = "".join(f" {name}={below}" for name, _, below in children)
            self._lines[key] = kept
        else:
            raise UsageError(f"config({text!r}): a value is missing")

    def scalars(self) -> dict[str, str]:
        """Return key -> the value set last."""
        return {key: list(values)[-1] for key, values in self._lines.items()}

    def text(self) -> str:
        """Return the content of ``app.conf``: one line for each value, newest first."""
        lines = [
            f"{key}={value}{children}\n"
            for key, values in self._lines.items()
            for value, children in values.items()
        ]
        return "".join(reversed(lines))

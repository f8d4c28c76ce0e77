# SPDX-License-Identifier: BSD-3-Clause
"""Whose job is this? User and job id as they stand in SCR's paths; supervisor and client must agree.

Source: docs/decisions/005-identity.md.
"""

from __future__ import annotations

import os
from typing import Mapping, Optional

from scrjob.errors import ConfigError

DEFAULT_JOB_ID = "defjobid"  # what the C library uses outside of an allocation


def user_name(setting: Optional[str], environ: Mapping[str, str]) -> str:
    """Return the user's name: SCR_USER_NAME (``setting``), else USER, else that of the uid, else the uid.

    Raises:
        ConfigError: it would lead out of the user's own directory.
    """
    name = setting or environ.get("USER")
    if not name:
        import pwd  # noqa: PLC0415 - rarely needed

        uid = os.getuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = str(uid)
    return path_part("user name", name)


def path_part(what: str, name: str) -> str:
    """Return a name that becomes part of a directory's path; it may hold slashes, as job arrays have.

    Raises:
        ConfigError: it would lead out of the job's own directories.
    """
    if name == "." or "\0" in name or name.startswith("/") or ".." in name.split("/"):
        raise ConfigError(f"{what} {name!r} cannot be part of a directory's name")
    return name

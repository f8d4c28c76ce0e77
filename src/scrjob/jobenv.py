# SPDX-License-Identifier: BSD-3-Clause
"""The composition root: one job's settings, plugins, clock and environment, and its directories."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Optional, Union

from scrjob.errors import ConfigError
from scrjob.identity import DEFAULT_JOB_ID, path_part, user_name

if TYPE_CHECKING:
    from scrjob.launchers.joblauncher import JobLauncher
    from scrjob.nodetests.nodetests import NodeTests
    from scrjob.param import Param
    from scrjob.protocols import Context
    from scrjob.remoteexec.remoteexec import RemoteExec
    from scrjob.resmgrs.resourcemanager import ResourceManager


class JobEnv:
    """All that a job's commands work with. Parts are made when they are first used.

    Args:
        prefix: the prefix directory; default SCR_PREFIX, else the current directory. Made absolute,
            symbolic links stay as they are.
        param: the settings; default: read from the environment and SCR's configuration files.
        resmgr: the resource manager; default: SCR_RESOURCE_MANAGER, else detected.
        launcher: the launcher's name, or the object.
        context: the outside world; default: the real one.

    Raises:
        ConfigError: the prefix is no usable path.
    """

    def __init__(
        self,
        prefix: Optional[str] = None,
        param: Optional[Param] = None,
        resmgr: Optional[ResourceManager] = None,
        launcher: Optional[Union[str, JobLauncher]] = None,
        *,
        context: Optional[Context] = None,
    ) -> None:
        if context is None:
            from scrjob._context import system_context  # noqa: PLC0415 - only without a given one

            context = system_context()
        self.context = context
        self.prefix = resolve_prefix(prefix or _prefix_setting(context))
        if param is not None:
            self.param = param
        if resmgr is not None:
            self.resmgr = resmgr
        if launcher is not None and not isinstance(launcher, str):
            self.launcher = launcher
        self._launcher_name = launcher if isinstance(launcher, str) else None

    def __getattr__(self, name: str) -> Any:
        # Only called for attributes that are not there yet: makes the part, once.
        maker = _PARTS.get(name)
        if maker is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        part = maker(self)
        setattr(self, name, part)
        return part

    if TYPE_CHECKING:
        param: Param
        resmgr: ResourceManager
        launcher: JobLauncher
        nodetests: NodeTests
        rexec: RemoteExec

    def user(self) -> str:
        """Return the user's name: SCR_USER_NAME, else USER, else that of the uid, else the uid."""
        return user_name(self.param.get("SCR_USER_NAME"), self.context.environ)

    def job_id(self) -> str:
        """Return SCR_JOB_ID, else the resource manager's id, else "defjobid"."""
        found = self.param.get("SCR_JOB_ID") or self.resmgr.job_id() or DEFAULT_JOB_ID
        return path_part("job id", str(found))

    def node_list(self) -> list[str]:
        """Return the nodes of SCR_NODELIST (any list syntax), [] if unset."""
        from scrjob.hostlist import expand_hosts  # noqa: PLC0415 - few commands need it

        return list(dict.fromkeys(expand_hosts(self.param.get("SCR_NODELIST") or "")))

    def job_nodes(self) -> list[str]:
        """Return the job's nodes in order: SCR_NODELIST, else the resource manager's; [] unknown."""
        return self.node_list() or managers_nodes(self.resmgr)

    def dir_prefix(self) -> str:
        """Return the absolute prefix directory."""
        return self.prefix

    def dir_scr(self) -> str:
        """Return the directory of SCR's files in the prefix."""
        return os.path.join(self.prefix, ".scr")

    def dir_job(self) -> str:
        """Return the directory of the job's own state in the prefix."""
        return os.path.join(self.dir_scr(), f"scrjob.{self.job_id()}")

    def dir_dset(self, d: Union[int, str]) -> str:
        """Return the hidden directory of dataset ``d`` in the prefix."""
        return os.path.join(self.dir_scr(), f"scr.dataset.{d}")

    def _append_userjob(self, dirs: list[str]) -> list[str]:
        tail = os.path.join(self.user(), f"scr.{self.job_id()}")
        return [os.path.join(base, tail) for base in dirs]

    def dir_cache(self, base: bool = False) -> list[str]:
        """Return the job's cache directories on a node, or only their bases."""
        stores = self.param.get_hash("CACHE")
        bases = list(stores) if stores else [self.param.get("SCR_CACHE_BASE") or ""]
        return bases if base else self._append_userjob(bases)

    def dir_control(self, base: bool = False) -> list[str]:
        """Return the job's control directories on a node, or only their bases."""
        bases = [self.param.get("SCR_CNTL_BASE") or ""]
        return bases if base else self._append_userjob(bases)

    def runnode_count(self) -> int:
        """Return the number of nodes of the last run as nodes.scr has it, 0 if unknown."""
        from scrjob.cli import SCRNodesFile  # noqa: PLC0415 - few commands need it

        return SCRNodesFile(self.prefix, context=self.context).last_num_nodes() or 0


def managers_nodes(resmgr: ResourceManager) -> list[str]:
    """Return the nodes that a manager names; a list as text or None is what published ones may give."""
    nodes: Any = resmgr.job_nodes() or []
    if isinstance(nodes, str):
        from scrjob.hostlist import expand_hosts  # noqa: PLC0415 - few commands need it

        nodes = expand_hosts(nodes)
    return [str(node) for node in nodes]


def _prefix_setting(context: Context) -> str:
    from scrjob._configfile import expand_variables  # noqa: PLC0415 - only without a given prefix

    return expand_variables(context.environ.get("SCR_PREFIX", ""), context.environ)


def resolve_prefix(prefix: Optional[str]) -> str:
    """Return the prefix as an absolute, lexically reduced path; None or "" is the current directory.

    A leading ``~`` is expanded, as scripts expect. Symbolic links are not followed: the names in
    SCR's files are those that the application used.

    Raises:
        ConfigError: it holds a NUL byte.
    """
    path = os.path.expanduser(prefix) if prefix else "."
    if "\0" in path:
        raise ConfigError(f"SCR_PREFIX: {prefix!r} holds a NUL byte")
    return os.path.abspath(path)


def _make_param(env: JobEnv) -> Any:
    from scrjob.param import Param  # noqa: PLC0415 - made when used

    return Param(environ=env.context.environ, prefix=env.prefix)


def _make_resmgr(env: JobEnv) -> Any:
    from scrjob.resmgrs.auto import choose_resource_manager  # noqa: PLC0415 - made when used

    return choose_resource_manager(env.context, env.param.get("SCR_RESOURCE_MANAGER"))


def _make_launcher(env: JobEnv) -> Any:
    from scrjob.launchers.auto import choose_launcher  # noqa: PLC0415 - made when used

    launcher = choose_launcher(env.context, env._launcher_name)  # noqa: SLF001 - our own
    launcher.hostfile = os.path.join(env.dir_scr(), "hostfile")
    launcher.heeds_messages = env.param.get("SCR_LAUNCHER_MESSAGES") != "0"
    return launcher


def _make_rexec(env: JobEnv) -> Any:
    from scrjob.remoteexec.auto import choose_remote_exec, remembered  # noqa: PLC0415 - made when used

    offered = env.resmgr.remote_exec
    proved = remembered(env.dir_job()) if len(offered) > 1 else None
    return choose_remote_exec(env.context, offered, env.param.get("SCR_REMOTE_EXEC"), proved)


def _make_nodetests(env: JobEnv) -> Any:
    from scrjob.nodetests.nodetests import NodeTests  # noqa: PLC0415 - made when used

    named = env.param.get("SCR_NODE_TESTS")
    names = named.replace(",", " ").split() if named else env.resmgr.node_tests
    tests = NodeTests()
    tests.load(names, env.context, None)
    return tests


_PARTS = {
    "param": _make_param,
    "resmgr": _make_resmgr,
    "launcher": _make_launcher,
    "rexec": _make_rexec,
    "nodetests": _make_nodetests,
}

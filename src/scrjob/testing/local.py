# SPDX-License-Identifier: BSD-3-Clause
"""A real allocation of virtual nodes for tests, as a context manager.

::

    with allocation(nodes=5, cwd=tmp_path) as here:
        done = here.run(["scr_run", "local", "-N", "4", "./program"])
        here.fail("node2")
        here.wait_state("node2", "dead")
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any, Iterator, Mapping, Optional, Sequence, Union

from scrjob._clock import SystemClock, wait_for
from scrjob.localrm import boot, faults
from scrjob.localrm.client import Allocation, NodeStatus
from scrjob.localrm.front import ALWAYS_PRIVATE

StrPath = Union[str, "os.PathLike[str]"]

END_LIMIT_S = 30.0
STATE_LIMIT_S = 15.0
_HOLDER = "import json, os, sys; print(json.dumps(dict(os.environ)), flush=True); sys.stdin.read()"


class HeldAllocation:
    """An allocation that lives until the ``with`` block ends.

    Attributes:
        environ: environment of a command in it.
        process: the ``scr_local alloc`` process.
        client: talks to it.
        nodes: names, in order.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], environ: Mapping[str, str], cwd: str
    ) -> None:
        self.process = process
        self.environ = dict(environ)
        self.cwd = cwd
        self.client = Allocation.of_environment(environ)
        self.nodes = list(self.client.info.nodes)
        self.job_id = self.client.info.job_id

    def run(
        self, argv: Sequence[str], *, timeout: float = 60.0, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in the allocation, outside its nodes; output is captured unless told otherwise."""
        return subprocess.run(
            argv, **{**self._defaults(), **_captured(options)}, timeout=timeout, check=False
        )

    def start(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in the allocation, outside its nodes; output is captured unless told otherwise."""
        return subprocess.Popen(argv, **{**self._defaults(), **_captured(options)})

    def on(
        self, node: str, argv: Sequence[str], **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command on a node."""
        return self.run(
            [sys.executable, "-m", "scrjob", "scr_local", "exec", node, *argv], **options
        )

    def node(self, name: str) -> NodeStatus:
        """Return the state of a node."""
        return self.client.node(name)

    def wait_state(self, name: str, state: str, limit_s: float = STATE_LIMIT_S) -> NodeStatus:
        """Return the state of a node once it is ``state`` (up, silent, dead); fails after ``limit_s``."""
        wait_for(
            lambda: self.node(name).state == state,
            clock=SystemClock(),
            limit_s=limit_s,
            poll_s=0.02,
        )
        found = self.node(name)
        assert found.state == state, f"{name} is {found.state} ({found.reason}), not {state}"
        return found

    def fail(self, node: str) -> None:
        """Kill a node."""
        faults.fail(self.client, node)

    def hang(self, node: str) -> None:
        """Stop a node."""
        faults.hang(self.client, node)

    def wipe(self, node: str) -> None:
        """Empty a node's storage."""
        faults.wipe(self.client, node)

    def revive(self, node: str) -> NodeStatus:
        """Let a node go on, or boot it anew."""
        return faults.revive(self.client, node)

    def _defaults(self) -> dict[str, Any]:
        return {"env": self.environ, "cwd": self.cwd}


def _captured(options: Mapping[str, Any]) -> dict[str, Any]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if "input" not in options:
        streams["stdin"] = subprocess.DEVNULL
    return {**streams, **options}


@contextlib.contextmanager
def allocation(
    nodes: Union[int, Sequence[str]] = 5,
    *,
    share: Sequence[StrPath] = (),
    cwd: Optional[StrPath] = None,
    environ: Optional[Mapping[str, str]] = None,
    options: Sequence[str] = (),
) -> Iterator[HeldAllocation]:
    """Hold an allocation while the block runs.

    Args:
        nodes: how many, or their names.
        share: directories that the nodes must see although they lie below /tmp.
        cwd: directory of its command, always shared; None for the current one.
        environ: environment; None for that of the process.
        options: more options of ``scr_local alloc``.

    Raises:
        RuntimeError: it could not be made; says what it said.
    """
    words = ["-N", str(nodes)] if isinstance(nodes, int) else ["-w", ",".join(nodes)]
    # The test's own directory too: programs started from here work in it.
    for directory in [os.getcwd(), *share]:
        words += ["--share", os.fspath(directory)]
    directory = os.getcwd() if cwd is None else os.fspath(cwd)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "scrjob", "scr_local", "alloc", *words, *options, "--"),
            *(sys.executable, "-I", "-S", "-c", _HOLDER),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=directory,
        env=None if environ is None else dict(environ),
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                code = process.wait(END_LIMIT_S)
                raise RuntimeError(f"scr_local alloc ended with {code}; see its stderr")
            yield HeldAllocation(process, json.loads(line), directory)
        finally:
            process.stdin.close()
            try:
                process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def namespaces_refused() -> Optional[str]:
    """Return why this machine cannot have nodes with private storage, None if it can."""
    return boot.refusal(ALWAYS_PRIVATE, "")

# SPDX-License-Identifier: BSD-3-Clause
"""The driver: runs the tests in order, doubts surprising verdicts, keeps who said what and when."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Iterable, NamedTuple, Optional, Sequence

from scrjob._plugins import Plugin, Registry
from scrjob.errors import ConfigError, NotInAllocationError, ScrError
from scrjob.model import NodeDown
from scrjob.nodetests.nodetest import DEFAULT_TIMEOUT_S, NodeTest

if TYPE_CHECKING:
    from scrjob.protocols import Context, JobEnvironment

logger = logging.getLogger(__name__)

NODE_TESTS = Registry(
    "node test",
    "scrjob.nodetests",
    {
        "scr_exclude_nodes": "scrjob.nodetests.scr_exclude_nodes:SCRExcludeNodes",
        "resmgr": "scrjob.nodetests.resmgr:ResMgrDown",
        "prefix": "scrjob.nodetests.prefix:Prefix",
        "ping": "scrjob.nodetests.ping:Ping",
        "echo": "scrjob.nodetests.echo:Echo",
        "dir_capacity": "scrjob.nodetests.dir_capacity:DirCapacity",
    },
)
ALWAYS = ("scr_exclude_nodes", "resmgr", "prefix")
SPECIFIED = "Specified as down"
DEFAULT_SHARE = 0.5


class BrokenTest(NamedTuple):
    """A test whose word was not taken: what it said about how many nodes, or why it did not run."""

    test: str
    why: str
    nodes: Sequence[str] = ()


class NodeTests(Plugin):
    """Runs node tests over the nodes of a job.

    ``tests`` is the list of NodeTest objects, in order; site code may change it. A node that failed
    one test is not given to the next.

    A test may be wrong. A node that fails a measuring test is tested a second time before it is
    condemned, and a test that fails more than ``share`` of the nodes it was given is taken to be
    broken: it condemns none, and is listed in ``broken`` with its reasons. That is told in the log, unless
    ``tells`` is false, as for a caller that makes an error of it.
    """

    def __init__(self) -> None:
        self.tests: list[NodeTest] = []
        self.share = DEFAULT_SHARE
        self.tells = True
        self.broken: list[BrokenTest] = []

    def load(self, names: Iterable[str], context: Context, timeout_s: Optional[float]) -> None:
        """Fill ``tests``: always those of ``ALWAYS``, then ``names``.

        Raises:
            PluginError: a name is unknown; the message lists the known ones.
        """
        wanted = [*ALWAYS, *(name for name in names if name not in ALWAYS)]
        self.tests = []
        for name in wanted:
            test: NodeTest = NODE_TESTS.load(name)()
            test.name = name
            test.timeout_s = timeout_s or DEFAULT_TIMEOUT_S
            test.bind(context)
            self.tests.append(test)

    def execute(
        self, nodes: Sequence[str], jobenv: JobEnvironment, down: Optional[Sequence[str]] = None
    ) -> dict[str, str]:
        """Return the failed nodes with reasons. ``down``: taken as down without testing."""
        return {n: verdict.reason for n, verdict in self.examine(nodes, jobenv, down).items()}

    def examine(
        self, nodes: Sequence[str], jobenv: JobEnvironment, down: Optional[Sequence[str]] = None
    ) -> dict[str, NodeDown]:
        """Return the failed nodes with the whole verdict; ``broken`` holds the tests not believed.

        Raises:
            ConfigError: a setting of a test is wrong.
            NotInAllocationError: the allocation has ended.
        """
        self.broken = []
        clock = jobenv.context.clock
        named = set(down or ())
        verdicts = {
            node: NodeDown(node, SPECIFIED, "user", clock.now()) for node in nodes if node in named
        }
        for test in self.tests:
            left = [node for node in nodes if node not in verdicts]
            if left:
                verdicts.update(self._run(test, left, jobenv))
        return verdicts

    def _run(
        self, test: NodeTest, nodes: Sequence[str], jobenv: JobEnvironment
    ) -> dict[str, NodeDown]:
        clock = jobenv.context.clock
        name = test.name or type(test).__name__
        began = clock.monotonic()
        try:
            failed = test.execute(nodes, jobenv) or {}
            if failed and not test.authoritative:
                suspects = [node for node in nodes if node in failed]
                failed = test.execute(suspects, jobenv) or {}
        except (ConfigError, NotInAllocationError):
            raise  # no doubt about the test: a setting is wrong, or there is nothing left to be tested
        except (ScrError, OSError) as error:
            self._distrust(BrokenTest(name, f"could not be run: {error}"))
            return {}
        took = clock.monotonic() - began
        if not test.authoritative and len(failed) > self.share * len(nodes):
            first = next(iter(failed.values()))
            self._distrust(
                BrokenTest(
                    name, f"failed {len(failed)} of {len(nodes)} nodes: {first}", list(failed)
                )
            )
            return {}
        return {
            node: NodeDown(node, failed[node], name, clock.now(), took, failed[node])
            for node in nodes
            if node in failed
        }

    def _distrust(self, broken: BrokenTest) -> None:
        self.broken.append(broken)
        if self.tells or not broken.nodes:
            logger.warning("node test %s is not believed: it %s", broken.test, broken.why)

# SPDX-License-Identifier: BSD-3-Clause
"""``scr_nodes_file`` as a class: how many nodes the last run used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Optional

from scrjob.cli import _tool
from scrjob.errors import FormatError
from scrjob.formats import kvtree, nodes, paths

if TYPE_CHECKING:
    from scrjob.protocols import Context


class SCRNodesFile:
    """The question about ``<prefix>/.scr/nodes.scr``.

    Args:
        prefix: the prefix directory.
        verbose: log what is done.
        context: the outside world.
        bin_dir: directory of SCR's own executables, "" to work without them; default: the site's.
    """

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
        self._tool = _tool.choose("scr_nodes_file", bin_dir, context, verbose=verbose)

    def last_num_nodes(self) -> Optional[int]:
        """Return the number of nodes, None if it is not known, be the file absent or damaged."""
        if self._tool is not None:
            result = self._tool.run("--dir", self.prefix)
            text = result.stdout.strip()
            return int(text) if result.returncode == 0 and text.isdigit() else None
        path = paths.nodes_file(self.prefix)
        try:
            return nodes.count(kvtree.read_settled(path, _tool.clock_of(self._context)))
        except FileNotFoundError:
            return None
        except (FormatError, OSError) as error:
            _tool.warn("the number of nodes of the last run is not known: %s", error)
            return None

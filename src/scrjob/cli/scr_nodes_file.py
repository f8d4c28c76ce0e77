# SPDX-License-Identifier: BSD-3-Clause
"""``scr_nodes_file`` as a class: how many nodes the last run used."""

from __future__ import annotations

from typing import Optional

from scrjob.cli import _tool
from scrjob.errors import FormatError
from scrjob.formats import kvtree, nodes, paths


class SCRNodesFile(_tool.Wrapper):
    """The question about ``<prefix>/.scr/nodes.scr``.

    Constructed as ``_tool.Wrapper``.
    """

    _executable = "scr_nodes_file"

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

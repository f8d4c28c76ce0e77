# SPDX-License-Identifier: BSD-3-Clause
"""What the user set for a scavenge."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Optional

from scrjob.errors import ConfigError

if TYPE_CHECKING:
    from scrjob.param import Param

DEFAULT_WIDTH = 256
DEFAULT_STALL_S = 120.0


class ScavengeSettings(NamedTuple):
    """The SCR_SCAVENGE_* settings and what else counts.

    Attributes:
        width: nodes that copy at the same time.
        bandwidth: bytes per second of all nodes together, None for no limit.
        stall_s: seconds without progress after which a node is given up; 0: never.
        verify: read everything back and check the redundancy.
        checksum: compute checksums while copying.
        keep: checkpoints that stay in the prefix; 0: all.
    """

    width: int = DEFAULT_WIDTH
    bandwidth: Optional[int] = None
    stall_s: float = DEFAULT_STALL_S
    verify: bool = False
    checksum: bool = True
    keep: int = 0

    @classmethod
    def from_param(cls, param: Param) -> ScavengeSettings:
        """Read all of them.

        Raises:
            ConfigError: one is not of its kind; names it.
        """
        width = param.get_int("SCR_SCAVENGE_WIDTH", DEFAULT_WIDTH)
        if width < 1:
            raise ConfigError(f"SCR_SCAVENGE_WIDTH={width}: expected a number of nodes above 0")
        return cls(
            width=width,
            bandwidth=param.get_bytes("SCR_SCAVENGE_BW", 0) or None,
            stall_s=max(0.0, param.get_seconds("SCR_SCAVENGE_STALL", DEFAULT_STALL_S)),
            verify=param.get_bool("SCR_SCAVENGE_VERIFY"),
            checksum=param.get_bool("SCR_CRC_ON_FLUSH", default=True),
            keep=max(0, param.get_int("SCR_PREFIX_SIZE", 0)),
        )

    def node_bandwidth(self, nodes: int) -> Optional[int]:
        """Return the bytes per second of each of ``nodes`` nodes, None for no limit."""
        if self.bandwidth is None:
            return None
        return max(1, self.bandwidth // max(1, min(self.width, nodes)))

# SPDX-License-Identifier: BSD-3-Clause
"""Golden cases of the data path laid out in a scratch directory, and comparisons with them."""

from __future__ import annotations

import os
import re
import stat
import tarfile
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Sequence, Tuple

from archives import unpack
from scrjob.redundancy.paths import Relocation

if TYPE_CHECKING:
    from pathlib import Path

GOOD_CASES = [
    ("single_4", "none"),
    ("partner_4", "node2"),
    ("partner_4", "node2+node4"),
    ("partner_8", "node3"),
    ("partner_8", "node2+node4"),
    ("nofile_partner_4", "node2"),
    ("xor_4", "none"),
    ("xor_4", "node3"),
    ("xor_8", "node2"),
    ("xor_8", "node4"),
    ("uneven_xor_7", "node3"),
    ("many_xor_4", "node2"),
    ("nofile_xor_4", "node2"),
    ("nofile_xor_4", "node3"),
    ("rebuilt_xor_4", "node2"),
    ("rebuilt_xor_4", "node3"),
    ("bypass_xor_4", "node3"),
    ("rs_4", "node3"),
    ("rs_4", "node1+node4"),
    ("rs_4", "node2+node3"),
    ("rs_8", "node3"),
    ("rs_8", "node1+node4"),
    ("nofile_rs_4", "node2+node1"),
    ("rebuilt_rs_4", "node2+node4"),
    ("testapi_single_4", "none"),
    ("testapi_xor_4", "node4"),
]
"""Cases and lost nodes in which all can be had back."""

HOPELESS_CASES = [
    ("single_4", "node3"),
    ("xor_4", "node2+node3"),
    ("partner_4", "node2+node3"),
    ("rs_4", "node1+node2+node4"),
]
"""The other ones."""

NODES = ("node1", "node2", "node3", "node4")


class Case(NamedTuple):
    """One case: where its parts lie now, and what was recorded."""

    name: str
    home: Path
    recorded_prefix: str
    job: str
    dataset: int

    def unpack(self, archive: str, target: Path) -> Path:
        target.mkdir(parents=True, exist_ok=True)
        with tarfile.open(self.home / f"{archive}.tar") as file:
            unpack(file, target)
        return target

    def node(self, node: str, scratch: Path) -> Tuple[Path, Path]:
        """Unpack a node's storage; returns its root and its control directory."""
        root = self.unpack(f"cache_{node}", scratch / node)
        (index,) = root.rglob("cindex.scrinfo")
        return root, index.parent

    def moves(self, prefix: Path, root: Path | None = None) -> List[Relocation]:
        moves = [Relocation(self.recorded_prefix, str(prefix))]
        if root is not None:
            moves.append(Relocation("/dev/shm", f"{root}/dev/shm"))
        return moves


def load(home: Path) -> Case:
    info = (home / "INFO").read_text()
    found = dict(re.findall(r"(\w+)=(\S+)", info.splitlines()[0]))
    return Case(home.name, home, found["prefix"], found["jobid"], int(found.get("dataset", 1)))


def survivors(lost: str) -> List[str]:
    return [node for node in NODES if node not in lost.split("+")]


def tree(root: Path, skip: Sequence[str] = ()) -> Dict[str, Tuple[object, ...]]:
    """Return path -> (kind, mode, mtime in s, bytes) of all below; directories without their times."""
    found: Dict[str, Tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if any(re.fullmatch(pattern, name) for pattern in skip):
            continue
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        if path.is_dir():
            found[name] = ("dir", mode)
        else:
            found[name] = ("file", mode, path.read_bytes())
    return found


def truth(case: Case, prefix: Path) -> Dict[str, bytes]:
    """Return file name -> bytes of the application files that are in the prefix now."""
    return {
        path.name: path.read_bytes()
        for path in prefix.rglob("*")
        if path.is_file() and ".scr" not in path.relative_to(prefix).parts
    }


def times(prefix: Path) -> Dict[str, int]:
    """Return application file -> modification time in seconds: what archives keep of it."""
    return {
        str(path.relative_to(prefix)): os.stat(path).st_mtime_ns // 10**9
        for path in prefix.rglob("*")
        if path.is_file() and ".scr" not in path.relative_to(prefix).parts
    }

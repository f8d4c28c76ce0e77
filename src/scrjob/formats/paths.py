# SPDX-License-Identifier: BSD-3-Clause
"""Where SCR keeps its files under a prefix directory, and SCR's lexical reduction of paths.

Source: docs/formats/kvtree.md, "files in the prefix".
"""

from __future__ import annotations

import os
import re
from typing import Optional

SCR_DIR = ".scr"
CINDEX_NAME = "cindex.scrinfo"
_DATASET_DIR = re.compile(r"scr\.dataset\.([0-9]+)")


def scr_dir(prefix: str) -> str:
    """Return the directory of SCR's metadata in a prefix."""
    return os.path.join(prefix, SCR_DIR)


def halt_file(prefix: str) -> str:
    """Return the path of the halt file."""
    return os.path.join(prefix, SCR_DIR, "halt.scr")


def flush_file(prefix: str) -> str:
    """Return the path of the flush file."""
    return os.path.join(prefix, SCR_DIR, "flush.scr")


def nodes_file(prefix: str) -> str:
    """Return the path of the nodes file."""
    return os.path.join(prefix, SCR_DIR, "nodes.scr")


def index_file(prefix: str) -> str:
    """Return the path of the index file."""
    return os.path.join(prefix, SCR_DIR, "index.scr")


def dataset_dir(prefix: str, dataset_id: int) -> str:
    """Return the directory of a dataset's metadata in a prefix."""
    return os.path.join(prefix, SCR_DIR, f"scr.dataset.{dataset_id}")


def summary_file(prefix: str, dataset_id: int) -> str:
    """Return the path of a dataset's summary."""
    return os.path.join(dataset_dir(prefix, dataset_id), "summary.scr")


def rank2file(prefix: str, dataset_id: int) -> str:
    """Return the path of the root file of a dataset's map from ranks to files."""
    return os.path.join(dataset_dir(prefix, dataset_id), "rank2file")


def dataset_dir_id(name: str) -> Optional[int]:
    """Return the id in a directory's name ``scr.dataset.<id>``, None for another name."""
    match = _DATASET_DIR.fullmatch(name)
    return int(match[1]) if match else None


def reduce_path(path: str) -> str:
    """Return a path without ``.``, empty parts and ``x/..``; purely of the text, links are not followed.

    ``..`` stays at the front of a relative path and at the root. The current directory becomes "".
    """
    kept: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part == ".." and kept and kept[-1] != "..":
            kept.pop()
        else:
            kept.append(part)
    return "/" * path.startswith("/") + "/".join(kept)

# SPDX-License-Identifier: BSD-3-Clause
"""Which datasets does this node hold, and where? Prints the cache index as JSON, one object for each dataset.

Keys: ``id``; ``descriptor`` (the kvtree image in hexadecimal digits); ``path``, the dataset's directory;
``token``: nodes with the same token see the same directory. It is made of the numbers and times of change
of the filemaps: a rank's files lie on one node, so that two nodes that see the same filemaps share them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from typing import Any, Sequence

from scrjob._fsio import check_private_dir
from scrjob.errors import FormatError, UnsafePathError
from scrjob.formats import cindex, filemap, kvtree, paths


def main(argv: Sequence[str]) -> int:
    """``cached CNTLDIR...``: list the cached datasets of these control directories; returns 0, or 1.

    A directory without an index holds nothing; one that cannot be read is told on stderr.
    """
    code = 0
    rows: list[dict[str, Any]] = []
    for directory in argv:
        try:
            check_private_dir(directory, uid=os.geteuid())
            tree = kvtree.read(os.path.join(directory, paths.CINDEX_NAME))
        except FileNotFoundError:
            continue
        except (UnsafePathError, OSError, FormatError) as error:
            sys.stderr.write(f"{error}\n")
            code = 1
            continue
        for dataset_id, held in cindex.datasets(tree).items():
            if held.descriptor is not None:
                image = kvtree.encode(held.descriptor).hex()
                path = held.path or ""
                rows.append(
                    {"id": dataset_id, "descriptor": image, "path": path, "token": token_of(path)}
                )
    sys.stdout.write(json.dumps(rows) + "\n")
    return code


def token_of(directory: str) -> str:
    """Return what tells a dataset's cache directory from all others, "" if it has no files of any rank."""
    seen = []
    with contextlib.suppress(OSError), os.scandir(os.path.join(directory, ".scr")) as rows:
        for row in rows:
            if filemap.rank_of(row.name) is not None:
                status = row.stat(follow_symlinks=False)
                seen.append(f"{row.name} {status.st_ino} {status.st_ctime_ns}")
    return hashlib.sha256("\n".join(sorted(seen)).encode("utf-8")).hexdigest() if seen else ""

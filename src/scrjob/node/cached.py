# SPDX-License-Identifier: BSD-3-Clause
"""Which datasets does this node hold, and where? Prints the cache index as JSON, one object for each dataset.

Keys: ``id``; ``descriptor`` (the kvtree image in hexadecimal digits); ``path``, the dataset's directory;
``token``: nodes with the same one see the same directory.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Sequence

from scrjob._fsio import check_private_dir
from scrjob.errors import FormatError, UnsafePathError
from scrjob.formats import cindex, kvtree, paths
from scrjob.node.identify import identify


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
                    {"id": dataset_id, "descriptor": image, "path": path, "token": _token(path)}
                )
    sys.stdout.write(json.dumps(rows) + "\n")
    return code


def _token(directory: str) -> str:
    """Return what tells a dataset's cache directory from all others, "" if it cannot be read."""
    try:
        return identify(directory).token
    except OSError:
        return ""

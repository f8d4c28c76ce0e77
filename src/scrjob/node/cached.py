# SPDX-License-Identifier: BSD-3-Clause
"""Which datasets does this node hold? Prints the cache index as JSON, one object for each dataset."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Sequence

from scrjob._fsio import check_private_dir
from scrjob.errors import FormatError, UnsafePathError
from scrjob.formats import cindex, kvtree, paths


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
                rows.append({"id": dataset_id, "descriptor": image})
    sys.stdout.write(json.dumps(rows) + "\n")
    return code

# SPDX-License-Identifier: BSD-3-Clause
"""The dataset descriptor: the same subtree in the index, flush file, cache index and summary.

Source: docs/formats/flush.md, "descriptor".
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from scrjob.formats.kvtree import KVTree


class Descriptor(NamedTuple):
    """What SCR knows of one dataset.

    ``created_us`` is microseconds since the epoch, ``size_bytes`` the sum over ``files`` files.
    ``files``, ``size_bytes`` and ``complete`` are None until the dataset is complete; ``ckpt``, the
    checkpoint counter, is None for pure output.
    """

    id: int
    name: Optional[str]
    is_ckpt: bool = False
    is_output: bool = False
    created_us: Optional[int] = None
    user: Optional[str] = None
    job_name: Optional[str] = None
    job_id: Optional[str] = None
    cluster: Optional[str] = None
    ckpt: Optional[int] = None
    files: Optional[int] = None
    size_bytes: Optional[int] = None
    complete: Optional[bool] = None


def parse(tree: KVTree) -> Descriptor:
    """Return the descriptor in a subtree; a missing id is 0, other missing fields are None."""
    complete = tree.integer(b"COMPLETE")
    return Descriptor(
        id=tree.integer(b"ID") or 0,
        name=tree.text(b"NAME"),
        is_ckpt=bool(tree.integer(b"FLAG_CKPT")),
        is_output=bool(tree.integer(b"FLAG_OUTPUT")),
        created_us=tree.int64(b"CREATED"),
        user=tree.text(b"USER"),
        job_name=tree.text(b"JOBNAME"),
        job_id=tree.text(b"JOBID"),
        cluster=tree.text(b"CLUSTER"),
        ckpt=tree.integer(b"CKPT"),
        files=tree.integer(b"FILES"),
        size_bytes=tree.unsigned(b"SIZE"),
        complete=None if complete is None else complete == 1,
    )


def build(descriptor: Descriptor) -> KVTree:
    """Return the subtree of a descriptor, in the order in which the library writes it."""
    fields = {
        "ID": descriptor.id,
        "NAME": descriptor.name,
        "FLAG_CKPT": int(descriptor.is_ckpt),
        "FLAG_OUTPUT": int(descriptor.is_output),
        "CREATED": descriptor.created_us,
        "USER": descriptor.user,
        "JOBNAME": descriptor.job_name,
        "JOBID": descriptor.job_id,
        "CLUSTER": descriptor.cluster,
        "CKPT": descriptor.ckpt,
        "FILES": descriptor.files,
        "SIZE": descriptor.size_bytes,
        "COMPLETE": None if descriptor.complete is None else int(descriptor.complete),
    }
    return KVTree.of({key: value for key, value in fields.items() if value is not None})

# SPDX-License-Identifier: BSD-3-Clause
"""Steps that several operations on a dataset in cache share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from scrjob.client import layout
from scrjob.client.encode import Place, protect
from scrjob.formats.redset_header import DATA_SET, MAP_SET

if TYPE_CHECKING:
    from scrjob.client.core import Core
    from scrjob.formats.cindex import CachedDataset


def encode_sets(core: Core, entry: CachedDataset, files: Sequence[str]) -> None:
    """Protect a dataset's filemaps and, unless in bypass mode, its files; log it. Collective.

    Args:
        core: the client.
        entry: the dataset; its filemaps are final.
        files: this rank's files in cache.

    Raises:
        ScrError: on all ranks; the dataset is not protected.
    """
    path = entry.path or ""
    piece = core.settings.mpi_buf_size
    start = core.clock.now()
    filemap = layout.filemap_path(path, core.team.rank)
    protect(core.team, core.scheme, Place(path, MAP_SET), [filemap], piece)
    if not entry.is_bypass:
        protect(core.team, core.scheme, Place(path, DATA_SET), files, piece)
    details = entry.details
    core.log.transfer(
        "ENCODE",
        from_=core.settings.cache_base,
        to=path,
        dset=entry.id,
        start=start,
        secs=core.clock.now() - start,
        nbytes=None if details is None else details.size_bytes,
        files=None if details is None else details.files,
    )

# SPDX-License-Identifier: BSD-3-Clause
"""Is a dataset in the prefix what it should be: number of files, sizes, checksums.

Source: docs/scavenge.md, "verification".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Optional

from scrjob.errors import ScavengeError
from scrjob.formats import dataset
from scrjob.redundancy.logical import file_crc

if TYPE_CHECKING:
    from scrjob.redundancy.build import Built


class DamagedFilesError(ScavengeError):
    """Files have other bytes than were written to them. Attribute ``damaged``: their paths."""

    def __init__(self, message: str, damaged: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.damaged = damaged


def verify_dataset(built: Built, crcs: Mapping[str, int], *, checksum: bool = True) -> None:
    """Return if every file of a dataset is there with the right size and, if known, checksum.

    Args:
        built: what the build found.
        crcs: path -> CRC32 of what was copied; checksums of rebuilt files and those that SCR
            recorded are known from ``built``.
        checksum: read the files and compare; without, only numbers and sizes count.

    Raises:
        DamagedFilesError: the checksum of a file is not the known one.
        ScavengeError: the number of files or their size is not what the descriptor says.
        OSError: a file cannot be read.
    """
    files = built.scan.files()
    size = sum(files.values())
    if built.descriptor is not None:
        wanted = dataset.parse(built.descriptor)
        _same(f"files of dataset {wanted.id}", wanted.files, len(files))
        _same(f"bytes of dataset {wanted.id}", wanted.size_bytes, size)
    if not checksum:
        return
    known = {**built.scan.crcs, **crcs, **built.rebuilt}
    damaged = tuple(path for path in files if path in known and file_crc(path) != known[path])
    if damaged:
        raise DamagedFilesError(
            f"{len(damaged)} files have other bytes than were written, the first is {damaged[0]!r}",
            damaged,
        )


def _same(what: str, wanted: Optional[int], got: int) -> None:
    if wanted is not None and wanted != got:
        raise ScavengeError(f"{what}: expected {wanted}, got {got}")

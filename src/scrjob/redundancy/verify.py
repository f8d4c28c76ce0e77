# SPDX-License-Identifier: BSD-3-Clause
"""Is a dataset in the prefix what it should be: number of files, sizes, checksums, redundancy.

Source: docs/scavenge.md, "verification".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Mapping, NamedTuple, Optional

from scrjob.errors import FormatError, ScavengeError, UnrecoverableError
from scrjob.formats import dataset, redset_header
from scrjob.redundancy.audit import audit_files
from scrjob.redundancy.logical import file_crc
from scrjob.redundancy.rebuild import rebuild_files

if TYPE_CHECKING:
    from scrjob.redundancy.audit import Finding
    from scrjob.redundancy.build import Built
    from scrjob.redundancy.scan import GroupKey

SHOWN = 9  # groups in a message


class DamagedFilesError(ScavengeError):
    """Files have other bytes than were written to them. Attribute ``damaged``: their paths."""

    def __init__(self, message: str, damaged: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.damaged = damaged


class Verified(NamedTuple):
    """What a verification did.

    Attributes:
        repaired: path -> CRC32 of the files that had wrong bytes and were made anew from redundancy.
        notes: one line for each damage that was found and for each group that could not be checked.
    """

    repaired: Dict[str, int]
    notes: List[str]


def verify_dataset(
    built: Built, crcs: Mapping[str, int], *, checksum: bool = True, parity: bool = False
) -> Verified:
    """Return if every file of a dataset is there with the right size and, if known, checksum.

    Args:
        built: what the build found.
        crcs: path -> CRC32 of what was copied; checksums of rebuilt files and those that SCR
            recorded are known from ``built``.
        checksum: read the files and compare; without, only numbers and sizes count.
        parity: check that the redundancy fits the files, which finds wrong bytes of the right size
            without any checksum, and repair what it can tell to be damaged.

    Raises:
        DamagedFilesError: the checksum of a file is not the known one. With ``parity``: and it cannot
            be repaired, or was copied and so can be copied again.
        ScavengeError: the number of files or their size is not what the descriptor says; with ``parity``:
            files and redundancy of a group do not fit together, and nothing tells which is damaged.
        OSError: a file cannot be read.
    """
    files = built.scan.files()
    size = sum(files.values())
    if built.descriptor is not None:
        wanted = dataset.parse(built.descriptor)
        _same(f"files of dataset {wanted.id}", wanted.files, len(files))
        _same(f"bytes of dataset {wanted.id}", wanted.size_bytes, size)
    known = {**built.scan.crcs, **crcs, **built.rebuilt}
    damaged: List[str] = []
    if checksum:
        damaged = [path for path in files if path in known and file_crc(path) != known[path]]
        if damaged and not (parity and set(damaged).isdisjoint(crcs)):
            raise _damaged(damaged)
    if not parity:
        return Verified({}, [])
    audit = _Audit(built)
    for key in sorted(built.scan.groups, key=lambda key: key[0] != redset_header.MAP_SET):
        audit.group(key, {path: known[path] for path in damaged})
    if audit.undecided:
        raise ScavengeError("; ".join(audit.undecided[:SHOWN]))
    left = [path for path in damaged if audit.repaired.get(path) != known[path]]
    if left:
        raise _damaged(left)
    if audit.unchecked:
        others = len(set(audit.unchecked)) - 1
        more = f"; the same for {others} more groups" if others else ""
        audit.notes.append(audit.unchecked[0] + more)
    return Verified(audit.repaired, audit.notes)


class _Audit:
    """Looks at the groups of a dataset and repairs them."""

    def __init__(self, built: Built) -> None:
        self.built = built
        self.repaired: Dict[str, int] = {}
        self.notes: List[str] = []
        self.undecided: List[str] = []
        self.unchecked: List[str] = []

    def group(self, key: GroupKey, crcs: Mapping[str, int]) -> None:
        """Check a group; ``crcs``: known checksums beside those of the filemaps."""
        names = [str(name) for name in self.built.scan.groups[key]]
        where = f"group {key[2] + 1} ({key[0]}) in {self.built.directory}"
        try:
            finding = self._audit(names, crcs)
        except (FormatError, UnrecoverableError) as error:
            # Its files are all there, or there would be nothing to verify: only redundancy is gone.
            self.notes.append(f"{where} cannot be checked: {error}")
            return
        if finding is None:
            return
        if not finding.damaged:
            self.undecided.append(finding.why)
            return
        try:
            written = rebuild_files(
                self.built.directory,
                names,
                self.built.guard,
                distrusted=finding.paths,
                renewed=self.built.renewed,
            )
            again = self._audit(names, crcs)
        except (FormatError, UnrecoverableError) as error:
            self.undecided.append(f"{finding.why}, and it cannot be repaired: {error}")
            return
        if again is not None:
            self.undecided.append(again.why)
            return
        self.notes.append(f"{finding.why}: repaired")
        self.repaired.update(written)

    def _audit(self, names: List[str], crcs: Mapping[str, int]) -> Optional[Finding]:
        return audit_files(
            self.built.directory,
            names,
            self.built.guard,
            crcs=crcs,
            echoes=self.built.renewed,
            on_unchecked=self.unchecked.append,
        )


def _damaged(paths: List[str]) -> DamagedFilesError:
    return DamagedFilesError(
        f"{len(paths)} files have other bytes than were written, the first is {paths[0]!r}",
        tuple(paths),
    )


def _same(what: str, wanted: Optional[int], got: int) -> None:
    if wanted is not None and wanted != got:
        raise ScavengeError(f"{what}: expected {wanted}, got {got}")

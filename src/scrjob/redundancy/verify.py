# SPDX-License-Identifier: BSD-3-Clause
"""Is a dataset in the prefix what it should be: number of files, sizes, checksums, redundancy.

Source: docs/scavenge.md, "verification".
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Dict, List, Mapping, NamedTuple, Optional, Set

from scrjob.errors import FormatError, ScavengeError, ScrError, UnrecoverableError
from scrjob.formats import dataset, redset_header
from scrjob.redundancy.audit import audit_files
from scrjob.redundancy.logical import file_crc
from scrjob.redundancy.plan import plan_group
from scrjob.redundancy.rebuild import locator, rebuild_files, renew_redundancy
from scrjob.redundancy.survivors import DamagedFilesError

if TYPE_CHECKING:
    from scrjob.redundancy.audit import Finding
    from scrjob.redundancy.build import Built
    from scrjob.redundancy.scan import GroupKey

SHOWN = 9  # groups in a message


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
            files and redundancy of a group do not fit together, and nothing tells which is damaged; then
            no group was changed.
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
            raise DamagedFilesError(damaged)
    if not parity:
        return Verified(dict(built.repaired), list(built.notes))
    audit = _Audit(built, {path: known[path] for path in damaged})
    for key in sorted(built.scan.groups, key=lambda key: key[0] != redset_header.MAP_SET):
        audit.decide(key)
    if audit.undecided:
        raise ScavengeError("; ".join(audit.undecided[:SHOWN]))
    left = [path for path in damaged if path not in audit.covered]
    if left:
        raise DamagedFilesError(left)
    audit.repair()
    audit.renew()
    return audit.result()


class _Audit:
    """Looks at the groups of a dataset; repairs them only when it is known what is to be done with each.

    Args:
        built: the dataset.
        damaged: path -> CRC32 that it should have, of files that are known to have wrong bytes.
    """

    def __init__(self, built: Built, damaged: Mapping[str, int]) -> None:
        self.built = built
        self.damaged = damaged
        self.undecided: List[str] = []
        self.covered: Set[str] = set()
        self._repaired = dict(built.repaired)
        self._notes = list(built.notes)
        self._unchecked: List[str] = []
        self._found: Dict[GroupKey, Finding] = {}

    def decide(self, key: GroupKey) -> None:
        """Find out what is to be done with a group; changes nothing."""
        try:
            finding = self._audit(key)
        except (FormatError, UnrecoverableError) as error:
            # Its files are all there, or there would be nothing to verify: only redundancy is gone.
            self._notes.append(
                f"group {key[2] + 1} ({key[0]}) in {self.built.directory} cannot be checked: {error}"
            )
            return
        if finding is None:
            return
        if not finding.damaged:
            self.undecided.append(finding.why)
            return
        directory, names = self.built.directory, self._names(key)
        locate = locator(directory, names, self.built.guard)
        try:
            plan = plan_group(directory, names, locate, distrusted=finding.paths)
        except (FormatError, UnrecoverableError) as error:
            self._cannot(finding, error)
            return
        self._found[key] = finding
        self.covered.update(part.path for i in plan.lost for part in plan.parts[i])

    def repair(self) -> None:
        """Make anew what was found damaged, one group after the other.

        Raises:
            ScavengeError: a group cannot be repaired after all; those before it were.
        """
        for key, finding in self._found.items():
            try:
                written = rebuild_files(
                    self.built.directory,
                    self._names(key),
                    self.built.guard,
                    distrusted=finding.paths,
                    crcs=self.damaged,
                    renewed=self.built.renewed,
                )
                again = self._audit(key)
            except (FormatError, UnrecoverableError) as error:
                self._cannot(finding, error)
            else:
                if again is not None:
                    self.undecided.append(again.why)
                self._notes.append(f"{finding.why}: repaired")
                self._repaired.update(written)
            if self.undecided:
                raise ScavengeError(self.undecided[0])

    def renew(self) -> None:
        """Make anew redundancy files that are lost or cannot be used, of groups that have enough left."""
        for key in self.built.scan.groups:
            if key in self._found:
                continue  # done by the repair
            with contextlib.suppress(FormatError, UnrecoverableError):  # it was told why
                done = renew_redundancy(
                    self.built.directory,
                    self._names(key),
                    self.built.guard,
                    renewed=self.built.renewed,
                )
                self._notes += [f"{path}: made anew: {why}" for path, why in done.items()]

    def result(self) -> Verified:
        """Return what was done."""
        if self._unchecked:
            others = len(set(self._unchecked)) - 1
            more = f"; the same for {others} more groups" if others else ""
            self._notes.append(self._unchecked[0] + more)
        return Verified(self._repaired, self._notes)

    def _cannot(self, finding: Finding, error: ScrError) -> None:
        self.undecided.append(f"{finding.why}, and it cannot be repaired: {error}")

    def _names(self, key: GroupKey) -> List[str]:
        return [str(name) for name in self.built.scan.groups[key]]

    def _audit(self, key: GroupKey) -> Optional[Finding]:
        return audit_files(
            self.built.directory,
            self._names(key),
            self.built.guard,
            crcs=self.damaged,
            echoes=self.built.renewed.paths,
            on_unchecked=self._unchecked.append,
        )


def _same(what: str, wanted: Optional[int], got: int) -> None:
    if wanted is not None and wanted != got:
        raise ScavengeError(f"{what}: expected {wanted}, got {got}")

# SPDX-License-Identifier: BSD-3-Clause
"""Can the survivors of a group be trusted? Asked before anything is restored from them.

What is restored from a file with wrong bytes is wrong, and afterwards fits it: then nobody can see any more
which of them was right.

Source: docs/formats/redundancy.md, "audit".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Collection, Mapping, NamedTuple, Sequence

from scrjob.errors import ScavengeError
from scrjob.redundancy.audit import audit_group
from scrjob.redundancy.logical import file_crc
from scrjob.redundancy.plan import plan_group
from scrjob.redundancy.rebuild import locator
from scrjob.redundancy.redset_file import read_head

if TYPE_CHECKING:
    from scrjob.redundancy.paths import PrefixGuard
    from scrjob.redundancy.plan import GroupPlan
    from scrjob.redundancy.redset_file import ReadHead


class DamagedFilesError(ScavengeError):
    """Files have other bytes than were written to them. Attribute ``damaged``: their paths."""

    def __init__(self, damaged: Sequence[str]) -> None:
        super().__init__(
            f"{len(damaged)} files have other bytes than were written, the first is {damaged[0]!r}"
        )
        self.damaged = tuple(damaged)


class Suspects(NamedTuple):
    """Which survivors are damaged.

    Attributes:
        distrusted: paths for ``rebuild_files``.
        files: paths of all files of the damaged members.
        why: a line for people; "" if none is.
    """

    distrusted: frozenset[str]
    files: frozenset[str]
    why: str


def check_survivors(
    directory: str,
    names: Sequence[str],
    guard: PrefixGuard,
    *,
    crcs: Mapping[str, int],
    distrusted: Collection[str] = (),
    read: ReadHead = read_head,
) -> Suspects:
    """Return which survivors of a group must not be believed, by checksums and spare redundancy.

    Args:
        directory: the dataset's directory.
        names: names of the group's redundancy files that exist; at least one.
        guard: decides where files belong.
        crcs: path -> CRC32 of what was copied, beside those that the filemaps record.
        distrusted: paths that count as lost anyhow.
        read: gives what is in a redundancy file.

    Raises:
        DamagedFilesError: some have other bytes than were copied; they can be copied again.
        ScavengeError: the survivors do not fit together, and nothing tells which is damaged.
        UnrecoverableError, FormatError, OSError: as ``plan_group`` does.
    """
    locate = locator(directory, names, guard)
    plan = plan_group(directory, names, locate, distrusted=distrusted, read=read)
    known = {**locate.crcs, **crcs}
    wrong = {
        part.path: i
        for i, parts in enumerate(plan.parts)
        if i not in plan.lost
        for part in parts
        if part.path in known and file_crc(part.path) != known[part.path]
    }
    copied = [path for path in wrong if path in crcs]
    if copied:
        raise DamagedFilesError(copied)
    found = {*distrusted, *wrong}
    if wrong:
        plan = plan_group(directory, names, locate, distrusted=found, read=read)
    damaged = set(wrong.values())
    # What was copied has the checksum of the bytes in the cache: that they were right there only
    # recorded checksums tell.
    finding = audit_group(plan, crcs=locate.crcs)
    if finding is not None:
        if not finding.damaged:
            raise ScavengeError(finding.why)
        damaged.update(finding.damaged)
        found.update(finding.paths)
    return Suspects(frozenset(found), _files(plan, damaged), _told(plan, damaged))


def _files(plan: GroupPlan, members: Collection[int]) -> frozenset[str]:
    return frozenset(part.path for i in members for part in plan.parts[i])


def _told(plan: GroupPlan, members: Collection[int]) -> str:
    if not members:
        return ""
    told = ", ".join(str(i + 1) for i in sorted(members))
    return f"{plan.where}: damaged without a change of size: member {told} of {plan.shape.n}"

# SPDX-License-Identifier: BSD-3-Clause
"""Is every byte of a group what it was when its redundancy was made? Sizes say nothing about that.

Redundancy tells that a group does not fit together. Which member is the damaged one it can tell as well if
there is enough of it: RS with k parity blocks finds k/2 of them, PARTNER with two replicas has a
majority. Else recorded checksums decide, and where there are none it is said that nobody can know.

Nothing is changed here: ``rebuild_files`` repairs, with the finding's paths as ``distrusted``.

Source: docs/formats/redundancy.md, "audit".
"""

from __future__ import annotations

import contextlib
from itertools import combinations
from math import comb
from typing import (
    TYPE_CHECKING,
    Callable,
    Collection,
    Iterable,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
)

from scrjob.redundancy import combine
from scrjob.redundancy.combine import Span, Target, Task
from scrjob.redundancy.logical import file_crc
from scrjob.redundancy.openfiles import OpenFiles
from scrjob.redundancy.partner import Partner, replica_offset
from scrjob.redundancy.plan import plan_group
from scrjob.redundancy.rebuild import locator, shares_of
from scrjob.redundancy.striped import Striped, span_of

if TYPE_CHECKING:
    from scrjob.redundancy.paths import PrefixGuard
    from scrjob.redundancy.plan import GroupPlan
    from scrjob.redundancy.shape import Share

MOST_GUESSES = 1000
"""Sets of members that are tried, each by reading the stripes that do not fit."""


class Finding(NamedTuple):
    """A group that does not fit together.

    Attributes:
        damaged: group ranks of the members that must be made anew; empty if nobody can tell which.
        suspects: group ranks of those that may be damaged; the same if it can be told.
        paths: the redundancy files of the damaged members: ``distrusted`` for ``rebuild_files``.
        why: one line.
    """

    damaged: tuple[int, ...]
    suspects: tuple[int, ...]
    paths: tuple[str, ...]
    why: str


def audit_files(
    directory: str,
    names: Sequence[str],
    guard: PrefixGuard,
    *,
    crcs: Optional[Mapping[str, int]] = None,
    echoes: Collection[str] = (),
    on_unchecked: Callable[[str], None] = lambda _line: None,
    workers: Optional[int] = None,
) -> Optional[Finding]:
    """Check one group of a dataset in the prefix; None if all fits together, as far as can be told.

    Args:
        directory: the dataset's directory.
        names: names of the group's redundancy files that exist; at least one.
        guard: decides where files belong.
        crcs: known CRC32 by path, beside those that the filemaps record.
        echoes: paths of the redundancy files of members that were rebuilt from the others. They say nothing
            about these: wrong bytes of one of them come back, and must not be a majority.
        on_unchecked: gets a line if nothing is left by which some of the bytes could be checked.
        workers: threads that work at the same time; by default one for each processor.

    Raises:
        UnrecoverableError, FormatError, OSError: as ``plan_group`` does.
    """
    locate = locator(directory, names, guard)
    plan = plan_group(directory, names, locate)
    known = {**locate.crcs, **(crcs or {})}
    rebuilt = tuple(
        i for i in range(plan.shape.n) if i not in plan.lost and plan.redset_path(i) in echoes
    )
    witnesses = plan._replace(lost={**plan.lost, **dict.fromkeys(rebuilt, "rebuilt")})
    found = audit_group(witnesses, crcs=known, workers=workers)
    if found is not None:
        return found
    is_unchecked = _is_left_unchecked(witnesses)
    if is_unchecked:
        on_unchecked(
            f"{plan.where}: nothing is left to check it by; members were lost or rebuilt: "
            f"{', '.join(str(i + 1) for i in sorted(witnesses.lost))} of {plan.shape.n}"
        )
    if not rebuilt:
        return None
    # The witnesses fit together; what was made from them may have been damaged since.
    found = audit_group(plan, crcs=known, workers=workers)
    if found is None or found.damaged or is_unchecked:
        return found
    return _damaged(plan, rebuilt)


def audit_group(
    plan: GroupPlan, *, crcs: Mapping[str, int], workers: Optional[int] = None
) -> Optional[Finding]:
    """Check whether the members of a group that are there fit together; None if they do.

    Where members are lost the others are checked as far as their redundancy goes; that may be not at all.

    Args:
        plan: from ``plan_group``.
        crcs: known CRC32 by path of the file.
        workers: threads that work at the same time; by default one for each processor.

    Raises:
        FormatError: a file is shorter than recorded.
        OSError: reading failed.
    """
    with contextlib.ExitStack() as stack:
        files = OpenFiles()
        stack.callback(files.close)
        shares = shares_of(plan, files)
        audit = _Audit(plan, shares, crcs, workers)
        if isinstance(plan.scheme, Striped):
            damaged = audit.striped(plan.scheme)
        elif isinstance(plan.scheme, Partner):
            damaged = audit.partner()
        else:
            return None
    if damaged is None:
        return None
    if damaged:
        return _damaged(plan, damaged)
    why = (
        f"{plan.where}: data and redundancy do not fit together, and nothing tells which is damaged"
    )
    return Finding((), tuple(shares), (), why)


def _damaged(plan: GroupPlan, members: tuple[int, ...]) -> Finding:
    told = ", ".join(str(i + 1) for i in members)
    why = f"{plan.where}: damaged without a change of size: member {told} of {plan.shape.n}"
    # Who was rebuilt from them has to be rebuilt, too.
    again = sorted({*members, *plan.lost})
    return Finding(members, members, tuple(map(plan.redset_path, again)), why)


def _is_left_unchecked(plan: GroupPlan) -> bool:
    """Tell whether bytes of the group are there of which, as members are lost, nothing else tells."""
    n, descriptor = plan.shape.n, plan.shape.descriptor
    if not plan.lost:
        return False
    if isinstance(plan.scheme, Striped):
        return len(plan.lost) >= plan.scheme.parity(descriptor)
    held = [
        (i not in plan.lost)
        + sum((i + t) % n not in plan.lost for t in range(1, descriptor.copies + 1))
        for i in range(n)
    ]
    return min(held) < 2  # noqa: PLR2004 - the one and something to compare it with


class _Alarm:
    """A sink for what must be zero."""

    def __init__(self) -> None:
        self.rang = False

    def write(self, offset: int, view: memoryview) -> None:
        """Look for a byte that is not zero."""
        import numpy as np  # noqa: PLC0415 - 70 ms, only for those who combine bytes

        del offset
        self.rang = self.rang or bool(np.frombuffer(view, dtype=np.uint8).any())


class _Check(NamedTuple):
    """A sum that must be zero: of which stripe, and which member's block completes it."""

    stripe: int
    member: int
    alarm: _Alarm


class _Audit:
    """Members of one group under audit. The methods give the damaged ones: None for none, () for unknown."""

    def __init__(
        self,
        plan: GroupPlan,
        shares: Mapping[int, Share],
        crcs: Mapping[str, int],
        workers: Optional[int],
    ) -> None:
        self.plan = plan
        self.shares = shares
        self.crcs = crcs
        self.workers = workers

    def data_is_right(self, i: int) -> Optional[bool]:
        """Tell by checksums whether a member's files are what they were; None if that is not known."""
        parts = self.plan.parts[i]
        if any(
            part.path in self.crcs and file_crc(part.path) != self.crcs[part.path] for part in parts
        ):
            return False
        return True if all(part.path in self.crcs or not part.size for part in parts) else None

    def striped(self, scheme: Striped) -> Optional[tuple[int, ...]]:
        n = self.plan.shape.n
        wrong = [check for check in self._checks(scheme, range(n), ()) if check.alarm.rang]
        if not wrong:
            return None
        right = {i: self.data_is_right(i) for i in self.shares}
        if False in right.values():
            return tuple(i for i, is_right in right.items() if is_right is False)
        if None not in right.values():
            return tuple(sorted({check.member for check in wrong}))
        stripes = sorted({check.stripe for check in wrong})
        spare = scheme.parity(self.plan.shape.descriptor) - (n - len(self.shares))
        for count in range(1, spare // 2 + 1):
            if comb(len(self.shares), count) > MOST_GUESSES:
                break
            for guess in combinations(self.shares, count):
                if self._explains(scheme, stripes, guess):  # no other so small does too
                    return guess
        return ()

    def _explains(self, scheme: Striped, stripes: Sequence[int], guess: Collection[int]) -> bool:
        """Tell whether all else fits together without these members."""
        return not any(check.alarm.rang for check in self._checks(scheme, stripes, guess))

    def _checks(
        self, scheme: Striped, stripes: Iterable[int], without: Collection[int]
    ) -> list[_Check]:
        """Check the blocks of stripes against each other, those of some members left out."""
        members = [i for i in self.shares if i not in without]
        tasks = []
        checks = []
        for stripe in stripes:
            places = scheme.places(self.plan.shape, stripe)
            known = scheme.known(places, members)
            others = sorted((places[i].point, i) for i in members if i not in known.values())
            if not others:
                continue
            mine = [_Check(stripe, member, _Alarm()) for _, member in others]
            targets = [
                Target(
                    check.alarm,
                    0,
                    [
                        *scheme.restoring(places, known, point),
                        *(int(other == point) for other, _ in others),
                    ],
                )
                for check, (point, _) in zip(mine, others)
            ]
            sources = [
                span_of(self.shares[i], places[i])
                for i in (*known.values(), *(member for _, member in others))
            ]
            tasks.append(Task(self.plan.shape.chunk, sources, targets))
            checks += mine
        combine.run(tasks, workers=self.workers)
        return checks

    def partner(self) -> Optional[tuple[int, ...]]:
        replicas = self.plan.shape.descriptor.copies
        damaged: set[int] = set()
        is_clear = True
        for i in range(self.plan.shape.n):
            copies = {}
            for t in range(1, replicas + 1):
                keeper = (i + t) % self.plan.shape.n
                if keeper in self.shares:
                    offset = replica_offset(self.plan.shape, keeper, t)
                    copies[keeper] = Span(self.shares[keeper].payload, offset)
            who = i
            if i in self.shares:
                original = Span(self.shares[i].data, 0)
            elif copies:  # of a lost member there may be several copies, to compare with each other
                who = next(iter(copies))
                original = copies.pop(who)
            different = self._different(i, original, copies) if copies else []
            if different:
                right = self.data_is_right(i) if i in self.shares else None
                found = self._judge(who, i, right, copies, different)
                is_clear = is_clear and bool(found)
                damaged.update(found)
        if not is_clear:
            return ()
        return tuple(sorted(damaged)) or None

    def _judge(
        self,
        who: int,
        i: int,
        right: Optional[bool],
        copies: Mapping[int, Span],
        different: Collection[int],
    ) -> Collection[int]:
        """Return who is damaged of those who have the data of a member; none if that is open.

        Args:
            who: has what the copies were compared with.
            i: whose data it is.
            right: what checksums say of what ``who`` has.
            copies: the copies, by who keeps them.
            different: who keeps a copy that is different.
        """
        if right is not None:
            return different if right else (who,)
        agreeing = len(copies) - len(different)
        if agreeing >= len(different):  # the original and they are more
            return different
        first, *others = different
        rest = {keeper: copies[keeper] for keeper in others}
        if not agreeing and others and not self._different(i, copies[first], rest):
            return (who,)
        return ()

    def _different(self, i: int, original: Span, copies: Mapping[int, Span]) -> list[int]:
        """Return the keepers whose copies of a member's data are not the original."""
        alarms = {keeper: _Alarm() for keeper in copies}
        size = self.plan.shape.sizes[i]
        combine.run(
            [
                Task(size, [original, copy], [Target(alarms[keeper], 0, (1, 1))])
                for keeper, copy in copies.items()
            ],
            workers=self.workers,
        )
        return [keeper for keeper, alarm in alarms.items() if alarm.rang]

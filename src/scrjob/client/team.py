# SPDX-License-Identifier: BSD-3-Clause
"""The ranks of the program as a team: who runs on which node, and how all of them agree.

The rule of this package: whatever goes wrong on one rank goes wrong on all of them, at the same call.
A rank that met an error keeps taking part in the communication of that step; ``Team.agree`` at its
end raises the error everywhere. So no rank waits for one that has left.
"""

from __future__ import annotations

import contextlib
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Iterator,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    TypeVar,
)

from scrjob.errors import ConfigError, ScrError, UnrecoverableError, UnsafePathError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

T = TypeVar("T")

EXPECTED = (OSError, ScrError)
"""What may go wrong on one rank alone; anything else is a bug and ends the rank at once."""

_KINDS = (UnsafePathError, ConfigError, UnrecoverableError, UsageError, ScrError)


class Communicator(Protocol):
    """The part of ``mpi4py.MPI.Intracomm`` that is used here; all collective but send and recv."""

    @property
    def rank(self) -> int:
        """Return this process's rank."""
        ...

    @property
    def size(self) -> int:
        """Return the number of ranks."""
        ...

    def Dup(self) -> Any:  # noqa: N802 - MPI's name
        """Return a communicator with the same ranks whose messages meet no others."""
        ...

    def Split(self, color: int = 0, key: int = 0) -> Any:  # noqa: N802 - MPI's name
        """Return the communicator of the ranks with the same color, in order of key, then rank."""
        ...

    def Free(self) -> None:  # noqa: N802 - MPI's name
        """Give the communicator back."""
        ...

    def bcast(self, obj: Any, root: int = 0) -> Any:
        """Return the root's object."""
        ...

    def gather(self, sendobj: Any, root: int = 0) -> Optional[list[Any]]:
        """Return all objects on the root, None elsewhere."""
        ...

    def scatter(self, sendobj: Optional[Sequence[Any]], root: int = 0) -> Any:
        """Return this rank's object of the root's sequence."""
        ...

    def allgather(self, sendobj: Any) -> list[Any]:
        """Return all objects."""
        ...

    def allreduce(self, sendobj: int) -> int:
        """Return the sum."""
        ...

    def barrier(self) -> None:
        """Wait for all."""
        ...

    def send(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Send an object."""
        ...

    def recv(self, *, source: int, tag: int = 0) -> Any:
        """Return a received object."""
        ...

    def Send(self, buf: Any, dest: int, tag: int = 0) -> None:  # noqa: N802 - MPI's name
        """Send bytes."""
        ...

    def Recv(self, buf: Any, source: int, tag: int = 0) -> None:  # noqa: N802 - MPI's name
        """Receive bytes."""
        ...

    def Sendrecv(  # noqa: N802 - MPI's name
        self,
        sendbuf: Any,
        dest: int,
        sendtag: int = 0,
        recvbuf: Any = None,
        source: int = 0,
        recvtag: int = 0,
    ) -> None:
        """Send bytes to one rank and receive bytes from another."""
        ...


class FirstError:
    """Keeps the first expected error of a step, so that its later parts are skipped but not its messages."""

    def __init__(self) -> None:
        self.error: Optional[Exception] = None

    def run(self, function: Callable[..., object], *args: object) -> None:
        """Call the function unless something went wrong before."""
        self.get(function, *args)

    def get(self, function: Callable[..., T], *args: object) -> Optional[T]:
        """Return what the function returns; None, without a call, if something went wrong before."""
        if self.error is None:
            try:
                return function(*args)
            except EXPECTED as error:
                self.error = error
        return None

    def add(self, error: Optional[Exception]) -> None:
        """Take the error of a part of the step, if it is the first."""
        self.error = self.error or error


class _Complaint(NamedTuple):
    kind: int  # index in _KINDS: classes themselves would need to be picklable
    text: str


class Team:
    """The ranks of the program.

    Args:
        comm: all ranks; it is duplicated, so the program's own messages are never met.
        hostname: name of the node that this rank runs on: the failure domain.

    Attributes:
        hosts: node name of each rank.
        node: communicator of the ranks on this node.
    """

    def __init__(self, comm: Communicator, hostname: str) -> None:
        self.comm: Communicator = comm.Dup()
        self.rank: int = self.comm.rank
        self.size: int = self.comm.size
        self.hostname = hostname
        self.hosts: list[str] = self.comm.allgather(hostname)
        self.domains = list(self.hosts)
        self._split()

    def _split(self) -> None:
        first = {name: rank for rank, name in reversed(list(enumerate(self.domains)))}
        self._first = first
        self.node: Communicator = self.comm.Split(first[self.domains[self.rank]], self.rank)

    def merge_domains(self, merged: Sequence[str]) -> None:
        """Take new failure domains, one name for each rank: nodes turned out to share their storage."""
        self.domains = list(merged)
        self.node.Free()
        self._split()

    @property
    def is_first(self) -> bool:
        """Tell whether this is rank 0, which keeps the files in the prefix."""
        return self.rank == 0

    @property
    def is_leader(self) -> bool:
        """Tell whether this is the lowest rank of its node, which keeps the node's own files."""
        return self.node.rank == 0

    @property
    def node_count(self) -> int:
        """Return the number of different host names."""
        return len(set(self.hosts))

    @property
    def domain_count(self) -> int:
        """Return the number of storages that fail independently."""
        return len(self._first)

    def leader_of(self, domain: str) -> int:
        """Return the lowest rank on a node."""
        return self._first[domain]

    def domain_names(self) -> list[str]:
        """Return the nodes in order of their lowest rank."""
        return sorted(self._first, key=self._first.__getitem__)

    def all_true(self, claim: bool) -> bool:
        """Tell whether the claim holds on every rank. Collective."""
        refusals: int = self.comm.allreduce(int(not claim))
        return refusals == 0

    def agree(self, what: str, error: Optional[Exception] = None) -> None:
        """Raise on all ranks if any rank met an error; what the lowest such rank says is told. Collective.

        Raises:
            ScrError: or the child of it that says what kind of error it was.
        """
        if self.all_true(error is None):
            return
        complaints = self.comm.allgather(None if error is None else self._complaint(what, error))
        worst = next(complaint for complaint in complaints if complaint is not None)
        raise _KINDS[worst.kind](worst.text) from error

    def _complaint(self, what: str, error: Exception) -> _Complaint:
        kind = next(
            (i for i, known in enumerate(_KINDS) if isinstance(error, known)), len(_KINDS) - 1
        )
        where = f"rank {self.rank} on {self.hostname}"
        return _Complaint(kind, f"{where}: {what}: {error}")

    @contextlib.contextmanager
    def together(self, what: str) -> Iterator[None]:
        """Run a block on all ranks that communicates nothing itself; an error in one is an error in all."""
        error: Optional[Exception] = None
        try:
            yield
        except EXPECTED as caught:
            error = caught
        self.agree(what, error)

    def on_first(self, what: str, function: Callable[[], Any]) -> Any:
        """Return on all ranks what the function returned on rank 0, the only one to call it. Collective."""
        answer = None
        with self.together(what):
            if self.is_first:
                answer = function()
        return self.comm.bcast(answer)

    def close(self) -> None:
        """Give the communicators back. Collective."""
        self.node.Free()
        self.comm.Free()

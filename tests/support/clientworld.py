# SPDX-License-Identifier: BSD-3-Clause
"""Programs that use the client, with threads for ranks, in a scratch directory.

All ranks see one storage, so the redundancy is SINGLE; XOR over real nodes is in tests/local.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence

import threadcomm
from scrjob import scrlog
from scrjob._context import RealContext
from scrjob.client import setup
from scrjob.client.session import Session
from scrjob.client.settings import ProgramConfig
from scrjob.formats import flush, halt, kvtree, paths
from scrjob.formats.flush import FlushEntry
from scrjob.formats.index import Index
from scrjob.testing.fakes import FakeClock

if TYPE_CHECKING:
    from pathlib import Path

    from scrjob.formats.kvtree import KVTree

Program = Callable[["Session", "Rank"], Any]


class Rank:
    """What a program knows of its rank: number, number of ranks, and the world that it runs in."""

    def __init__(self, comm: threadcomm.ThreadComm, world: ClientWorld) -> None:
        self.number = comm.rank
        self.size = comm.size
        self.comm = comm
        self.world = world

    def name(self, dataset: str) -> str:
        """Return the path of this rank's file in a dataset."""
        return f"{self.world.prefix}/{dataset}/rank_{self.number}.dat"

    def content(self, dataset: str) -> bytes:
        """Return what belongs into it: of another length on each rank, nothing on the last."""
        return (
            f"{dataset} of {self.number}\n".encode("utf-8", "surrogateescape")
            * 100
            * (self.size - 1 - self.number)
        )


class ClientWorld:
    """A prefix, a node's storage, and settings."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.prefix = str(base / "prefix")
        self.shm = str(base / "shm")
        os.makedirs(self.prefix)
        self.clock = FakeClock()
        self.settings = {
            "SCR_PREFIX": self.prefix,
            "SCR_USER_NAME": "alice",
            "SCR_JOB_ID": "77",
            "SCR_CACHE_BASE": self.shm,
            "SCR_CNTL_BASE": self.shm,
            "SCR_CACHE_BYPASS": "0",
            "SCR_FLUSH": "0",
            "SCR_LOG_ENABLE": "1",
            "SCR_LOG_SYSLOG_ENABLE": "0",
        }

    @property
    def cache(self) -> str:
        return f"{self.shm}/alice/scr.77"

    def context(self, host: str = "node1", **settings: Optional[str]) -> RealContext:
        environ = {**self.settings, **settings}
        kept = {key: value for key, value in environ.items() if value is not None}
        return RealContext(kept, None, self.clock, host)

    def run_any(
        self,
        program: Program,
        ranks: int = 2,
        hosts: Optional[Sequence[str]] = None,
        config: Sequence[str] = (),
        **settings: Optional[str],
    ) -> list[Any]:
        """Return what the program returned or raised on each rank; it runs between init and finalize."""

        def body(comm: threadcomm.ThreadComm) -> Any:
            host = "node1" if hosts is None else hosts[comm.rank]
            set_by_program = ProgramConfig()
            for text in config:
                set_by_program.change(text)
            context = self.context(host, **settings)
            core = setup.start(comm, context, set_by_program, os.getcwd())
            assert core is not None
            session = Session(core, context)
            answer = program(session, Rank(comm, self))
            session.finalize()
            return answer

        return threadcomm.run(ranks, body)

    def run(self, program: Program, ranks: int = 2, **options: Any) -> list[Any]:
        """Return what the program returned on each rank; raises the first error of any."""
        answers = self.run_any(program, ranks, **options)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    # What is on disk.

    def log(self) -> list[str]:
        """Return the labels in the log."""
        return [record["label"] for record in self.records()]

    def records(self) -> list[dict[str, Any]]:
        return list(scrlog.iter_file(scrlog.log_path(self.prefix)))

    def index(self) -> Index:
        return Index.read(paths.index_file(self.prefix))

    def flush(self) -> dict[int, FlushEntry]:
        tree = kvtree.read(paths.flush_file(self.prefix))
        entries = [flush.entry(tree, number) for number in flush.ids(tree)]
        return {entry.id: entry for entry in entries if entry is not None}

    def halt(self) -> halt.Conditions:
        return halt.conditions(halt.read(paths.halt_file(self.prefix)))

    def set_halt(self, **change: Any) -> None:
        os.makedirs(paths.scr_dir(self.prefix), exist_ok=True)
        halt.update(paths.halt_file(self.prefix), lambda tree: halt.apply(tree, change))

    def forget_halt(self) -> None:
        os.unlink(paths.halt_file(self.prefix))

    def cindex(self) -> KVTree:
        return kvtree.read(f"{self.cache}/cindex.scrinfo")

    def cached(self) -> list[int]:
        """Return the ids of the datasets that lie in cache."""
        names = os.listdir(self.cache)
        return sorted(int(name.rpartition(".")[2]) for name in names if name.startswith("scr.d"))


def write(
    session: Session,
    rank: Rank,
    name: str,
    *,
    is_ckpt: bool = True,
    is_output: bool = False,
    valid: bool = True,
) -> bool:
    """Write one dataset; returns what complete_output says."""
    session.start_output(name, is_ckpt=is_ckpt, is_output=is_output)
    with open(session.route_file(rank.name(name)), "wb") as file:
        file.write(rank.content(name))
    return session.complete_output(valid)


def read_back(session: Session, rank: Rank) -> Optional[str]:
    """Restart; returns the checkpoint's name, its content checked, None for a fresh start."""
    if session.have_restart() is None:
        return None
    name = session.start_restart()
    with open(session.route_file(rank.name(name)), "rb") as file:
        assert file.read() == rank.content(name)
    assert session.complete_restart(True)
    return name

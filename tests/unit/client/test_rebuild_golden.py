# SPDX-License-Identifier: BSD-3-Clause
"""Caches that SCR's own library has written, made whole in place by the client: any scheme, any loss.

The recorded paths are those of the nodes; the headers are written anew with those of this test.
"""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Callable

import pytest

from datapath import GOOD_CASES, HOPELESS_CASES, NODES, Case, load
from scrjob.client.encode import Place
from scrjob.client.rebuild import make_whole
from scrjob.client.team import Team
from scrjob.errors import UnrecoverableError
from scrjob.formats import filemap, kvtree, redset_header
from scrjob.formats.redset_header import Header
from threadcomm import ThreadComm, run

Golden = Callable[[str], Path]
PIECE = 1000
SETS = (redset_header.MAP_SET, redset_header.DATA_SET)


class Caches:
    """Four nodes' caches of one dataset."""

    def __init__(self, case: Case, scratch: Path) -> None:
        self.hosts: dict[int, str] = {}
        self.dataset: dict[str, str] = {}
        for node in NODES:
            root, _ = case.node(node, scratch)
            (hidden,) = root.rglob(f"scr.dataset.{case.dataset}/.scr")
            self.dataset[node] = str(hidden.parent)
            ranks = [filemap.rank_of(name) for name in os.listdir(hidden)]
            self.hosts.update((rank, node) for rank in ranks if rank is not None)
        for name in self.names():
            found = redset_header.parse_name(name)
            if found is not None:
                node = self.hosts[found.rank]
                relocate(f"{self.dataset[node]}/.scr/{name}", scratch, self.hosts)

    def names(self) -> list[str]:
        return [name for path in self.dataset.values() for name in os.listdir(f"{path}/.scr")]

    def wipe(self, node: str) -> None:
        shutil.rmtree(self.dataset[node])
        os.makedirs(f"{self.dataset[node]}/.scr")

    def snapshot(self) -> dict[str, object]:
        """Return path -> what is in a file; for those that are protected the mode, too."""
        found: dict[str, object] = {}
        for dataset in self.dataset.values():
            for base, _, names in os.walk(dataset):
                for path in (os.path.join(base, name) for name in names):
                    if redset_header.parse_name(os.path.basename(path)) is not None:
                        found[path] = described(path)
                    elif ".er." not in path:
                        found[path] = (read(path), os.stat(path).st_mode)
                    elif not path.endswith(".shuffile"):  # has the nodes' own paths
                        found[path] = read(path)
        return found

    def make_whole(self) -> list[object]:
        """Return what went wrong on each rank."""
        sets = [s for s in SETS if any(name.startswith(f"{s}.er.") for name in self.names())]

        def program(comm: ThreadComm) -> None:
            node = self.hosts[comm.rank]
            team = Team(comm, node)
            for set_name in sets:
                make_whole(team, Place(self.dataset[node], set_name), PIECE)

        return run(len(self.hosts), program)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def parts(path: str) -> tuple[Header, bytes]:
    """Return header and payload of a redundancy file."""
    image = read(path)
    tree, start = kvtree.read_image(io.BytesIO(image))
    return redset_header.decode(tree), image[start:]


def described(path: str) -> object:
    """Return what a redundancy file says, without what SCR's rebuild in place leaves in too much."""
    header, payload = parts(path)
    name = redset_header.parse_name(os.path.basename(path))
    assert name is not None
    copies = header.members[name.member].descriptor.copies
    own = {(name.member - t) % name.members for t in range(copies + 1)}
    members = {i: member for i, member in header.members.items() if i in own}
    return header._replace(rank=name.member, members=members), payload


def relocate(path: str, scratch: Path, hosts: dict[int, str]) -> None:
    """Write a header anew with the paths that the files of its members have here."""
    header, payload = parts(path)
    members = {}
    for i, member in header.members.items():
        root = scratch / hosts[member.descriptor.world_rank]
        files = tuple(file._replace(path=f"{root}{file.path}") for file in member.files)
        members[i] = member._replace(files=files)
    tree = redset_header.encode(header._replace(members=members))
    with open(path, "wb") as file:
        file.write(kvtree.encode(tree) + payload)


@pytest.mark.parametrize(("name", "lost"), GOOD_CASES)
def test_what_scr_wrote_is_made_whole(name: str, lost: str, golden: Golden, tmp_path: Path):
    caches = Caches(load(golden(name)), tmp_path)
    before = caches.snapshot()
    for node in set(lost.split("+")) & set(NODES):
        caches.wipe(node)
    assert caches.make_whole() == [None] * len(caches.hosts)
    assert caches.snapshot() == before


@pytest.mark.parametrize(("name", "lost"), HOPELESS_CASES)
def test_what_is_too_much_is_left_as_it_is(name: str, lost: str, golden: Golden, tmp_path: Path):
    caches = Caches(load(golden(name)), tmp_path)
    for node in lost.split("+"):
        caches.wipe(node)
    left = caches.snapshot()
    answers = caches.make_whole()
    assert [type(answer) for answer in answers] == [UnrecoverableError] * len(caches.hosts)
    assert caches.snapshot() == left

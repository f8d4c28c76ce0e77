# SPDX-License-Identifier: BSD-3-Clause
"""Encoding the files that the real library protected gives its redundancy files, byte for byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import datapath
from scrjob.formats import redset_header
from scrjob.redundancy.encode import encode_group
from scrjob.redundancy.groups import form_groups, single_groups
from scrjob.redundancy.paths import Relocation, relocate
from scrjob.redundancy.redset_file import RedsetReader

CASES = sorted({name for name, _ in datapath.GOOD_CASES if not name.startswith("rebuilt")})
"""A rebuild in place by the library leaves other headers; see test_payloads_after_a_rebuild_in_place."""


class Cached:
    """All nodes of a case, and where a path of the cache lies for each world rank."""

    def __init__(self, case, scratch: Path) -> None:
        self.groups: dict[tuple, dict[int, str]] = {}
        self.roots: dict[int, Path] = {}
        self.domains: dict[int, str] = {}
        self.prefix = case.unpack(
            next(iter(sorted(p.stem for p in case.home.glob("prefix_2*")))), scratch / "prefix"
        )
        self.moves = [Relocation(case.recorded_prefix, str(self.prefix))]
        for node in datapath.NODES:
            root, _ = case.node(node, scratch)
            for path in root.rglob("*.redset"):
                name = redset_header.parse_name(path.name)
                if name is not None:
                    key = (name.set_name, name.type, name.group)
                    self.groups.setdefault(key, {})[name.member] = str(path)
                    self.roots[name.rank] = root
                    self.domains[name.rank] = node

    def place(self, world_rank: int, path: str) -> str:
        moves = [*self.moves, Relocation("/dev/shm", f"{self.roots[world_rank]}/dev/shm")]
        return relocate(path, moves)


def encode_again(cached: Cached, set_name: str, paths: dict[int, str], tmp_path: Path) -> list[str]:
    members = []
    owner = {}
    for i in sorted(paths):
        reader = RedsetReader(paths[i])
        reader.close()
        members.append(reader.header.members[i])
        rank = members[i].descriptor.world_rank
        owner.update({file.path: rank for file in members[i].files})
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    return encode_group(
        members,
        set_name,
        locate=lambda path: cached.place(owner[path], path),
        directory=lambda _i: str(out),
    )


@pytest.mark.parametrize("name", CASES)
def test_redundancy_files_are_those_of_the_library(name, golden, tmp_path):
    cached = Cached(datapath.load(golden(name)), tmp_path)
    assert cached.groups
    for (set_name, _, _), paths in cached.groups.items():
        made = encode_again(cached, set_name, paths, tmp_path)
        for i, path in enumerate(made):
            assert os.path.basename(path) == os.path.basename(paths[i])
            assert Path(path).read_bytes() == Path(paths[i]).read_bytes()
            assert Path(path).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", CASES)
def test_groups_are_those_of_the_library(name, golden, tmp_path):
    cached = Cached(datapath.load(golden(name)), tmp_path)
    domains = [cached.domains[rank] for rank in range(len(cached.domains))]
    made = single_groups(len(domains)) if "single" in name else form_groups(domains, 8)
    for (_, _, number), paths in cached.groups.items():
        ranks = [redset_header.parse_name(os.path.basename(paths[i])).rank for i in sorted(paths)]
        assert made[number] == (number, tuple(ranks))


@pytest.mark.parametrize("name", ["rebuilt_xor_4", "rebuilt_rs_4"])
def test_payloads_after_a_rebuild_in_place(name, golden, tmp_path):
    """The library leaves other headers then, but the payload is that of an encoding."""
    cached = Cached(datapath.load(golden(name)), tmp_path)
    assert cached.groups
    for (set_name, _, _), paths in cached.groups.items():
        made = encode_again(cached, set_name, paths, tmp_path)
        for i, path in enumerate(made):
            assert payload(path) == payload(paths[i])


def payload(path) -> bytes:
    reader = RedsetReader(str(path))
    data = bytearray(reader.payload_bytes)
    reader.readinto(0, memoryview(data))
    reader.close()
    return bytes(data)

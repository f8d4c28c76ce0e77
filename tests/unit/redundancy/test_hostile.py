# SPDX-License-Identifier: BSD-3-Clause
"""Metadata that would have files written elsewhere: refused, and nothing outside of the prefix is touched."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import pytest

from groupmaker import make_dataset
from scrjob.errors import ScrError
from scrjob.formats import filemap, kvtree, redset_header
from scrjob.redundancy.build import build_dataset
from scrjob.redundancy.groups import form_groups
from scrjob.redundancy.redset_file import RedsetReader

SIZES = [[100], [200, 50], [30], [40]]
VICTIM = 1

Snapshot = Dict[str, Tuple[object, ...]]


class Hostile:
    """A dataset beside which there is something that must stay as it is."""

    def __init__(self, base: Path) -> None:
        self.outside = base / "outside"
        self.outside.mkdir()
        (self.outside / "precious").write_bytes(b"precious")
        (self.outside / "empty").mkdir()
        groups = form_groups(range(4), 8)
        self.made = make_dataset(base / "p", SIZES, groups, kind="rs", copies=2)
        self.files = [path for path in self.made.parts[VICTIM] if path.parent.name == "out"]
        self.before = self.snapshot()

    @property
    def prefix(self) -> Path:
        return self.made.prefix

    def snapshot(self) -> Snapshot:
        found: Snapshot = {}
        for path in [self.outside, *self.outside.rglob("*")]:
            status = path.lstat()
            data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_ino, data)
        return found

    def record(self, directory: str, name: str) -> None:
        """Have the victim's filemap say that its first file belongs there, and lose the file."""
        path = self.made.hidden / f"filemap_{VICTIM}"
        listed = filemap.parse(kvtree.read(str(path)))
        changed = {}
        for cached, meta in listed.items():
            assert meta is not None
            is_it = meta.name == self.files[0].name
            changed[cached] = meta._replace(directory=directory, name=name) if is_it else meta
        path.write_bytes(kvtree.encode(filemap.build(changed)))
        self.files[0].unlink()
        for redundant in self.made.hidden.glob("reddescmap.*"):
            redundant.unlink()  # or the true filemap would come back

    def build(self) -> Tuple[bool, List[str]]:
        said: List[str] = []
        done = False
        try:
            done = build_dataset(str(self.prefix), 1, now=0.0, host="h", on_message=said.append)
        except (ScrError, OSError) as error:
            said.append(str(error))
        assert self.snapshot() == self.before
        return done, said


@pytest.fixture
def hostile(tmp_path: Path) -> Hostile:
    return Hostile(tmp_path)


PLACES: Dict[str, Callable[[Hostile], Tuple[str, str]]] = {
    "absolute": lambda h: (str(h.outside), "new"),
    "existing": lambda h: (str(h.outside), "precious"),
    "dots": lambda h: (f"{h.prefix}/../outside", "new"),
    "many dots": lambda h: (f"{h.prefix}/a/b/../../../outside", "new"),
    "dots in the name": lambda h: (str(h.prefix), "../outside/new"),
    "name is dots": lambda h: (str(h.prefix), ".."),
    "no name": lambda h: (str(h.prefix), ""),
    "relative": lambda _h: ("out", "new"),
    "sibling of like name": lambda h: (f"{h.prefix}x", "new"),
    "root": lambda _h: ("/", "new"),
    "long name": lambda h: (str(h.prefix), "n" * 256),
    "long path": lambda h: (f"{h.prefix}/" + "d/" * 2100, "new"),
    "long directory": lambda h: (f"{h.prefix}/{'d' * 256}", "new"),
}


@pytest.mark.parametrize("which", PLACES)
def test_a_place_outside_is_refused(hostile: Hostile, which: str) -> None:
    hostile.record(*PLACES[which](hostile))
    done, said = hostile.build()
    assert not done
    assert said
    assert all("\n" not in line for line in said)
    assert not (hostile.made.hidden / "summary.scr").exists()


@pytest.mark.parametrize("depth", ["", "/deep/er"])
def test_a_link_among_the_parents_is_refused(hostile: Hostile, depth: str) -> None:
    (hostile.prefix / "link").symlink_to(hostile.outside)
    hostile.record(f"{hostile.prefix}/link{depth}", "new")
    done, said = hostile.build()
    assert not done
    assert any("through a symbolic link" in line for line in said)


def fifo(path: Path, outside: Path) -> None:
    del outside
    os.mkfifo(path)


def device(path: Path, outside: Path) -> None:
    del outside
    if os.getuid():
        pytest.skip("only root makes devices")
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))


def link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "precious")


def dangling(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "new")


def directory(path: Path, outside: Path) -> None:
    del outside
    path.mkdir()


@pytest.mark.parametrize("make", [fifo, device, link, dangling, directory])
def test_what_is_no_file_under_a_files_name(
    hostile: Hostile, make: Callable[[Path, Path], None]
) -> None:
    """It counts as a lost file and is replaced, not followed or opened; a directory stays."""
    path = hostile.files[0]
    data = path.read_bytes()
    path.unlink()
    make(path, hostile.outside)
    done, _ = hostile.build()
    assert done == (make is not directory)
    if done:
        assert not path.is_symlink()
        assert path.read_bytes() == data


@pytest.mark.parametrize("make", [fifo, link, dangling, directory])
@pytest.mark.parametrize("which", ["filemap_0", "filemap_1", "reddesc.er.0", "reddescmap.er.0"])
def test_what_is_no_file_among_the_metadata(
    hostile: Hostile, make: Callable[[Path, Path], None], which: str
) -> None:
    path = next(path for path in hostile.made.hidden.iterdir() if path.name.startswith(which))
    path.unlink()
    make(path, hostile.outside)
    hostile.files[0].unlink()
    hostile.build()


def test_a_name_with_a_newline_is_a_name(hostile: Hostile) -> None:
    """A file may have it; a line of the report does not."""
    victim = hostile.files[0]
    assert "\n" in victim.name
    victim.unlink()
    done, said = hostile.build()
    assert done
    assert all("\n" not in line for line in said)


def rewrite(path: Path, change: Callable[[redset_header.Header], redset_header.Header]) -> None:
    """Change the header of a redundancy file and keep its payload."""
    reader = RedsetReader(str(path))
    payload = bytearray(reader.payload_bytes)
    reader.readinto(0, memoryview(payload))
    reader.close()
    path.write_bytes(kvtree.encode(redset_header.encode(change(reader.header))) + bytes(payload))


def renaming(new: str) -> Callable[[redset_header.Header], redset_header.Header]:
    """Have all headers say that the victim's first protected file is another one."""

    def change(header: redset_header.Header) -> redset_header.Header:
        members = dict(header.members)
        if VICTIM in members:
            first, *others = members[VICTIM].files
            members[VICTIM] = members[VICTIM]._replace(files=(first._replace(path=new), *others))
        return header._replace(members=members)

    return change


@pytest.mark.parametrize(
    "name", ["/cache/.scr/filemap_0", "/cache/.scr/../../outside/new", "/etc/passwd", "filemap_1x"]
)
def test_a_header_that_names_another_filemap(hostile: Hostile, name: str) -> None:
    for path in hostile.made.hidden.glob("reddescmap.er.*_of_*.redset"):
        rewrite(path, renaming(name))
    (hostile.made.hidden / f"filemap_{VICTIM}").unlink()
    other = (hostile.made.hidden / "filemap_0").read_bytes()
    assert not hostile.build()[0]
    assert (hostile.made.hidden / "filemap_0").read_bytes() == other


@pytest.mark.parametrize("name", ["/cache/unknown", "/etc/passwd", "../../outside/new"])
def test_a_header_that_names_a_file_of_no_filemap(hostile: Hostile, name: str) -> None:
    for path in hostile.made.hidden.glob("reddesc.er.*_of_*.redset"):
        rewrite(path, renaming(name))
    hostile.files[0].unlink()
    assert not hostile.build()[0]


def test_sizes_beyond_all_bounds(hostile: Hostile) -> None:
    """Nothing is allocated, or written, on the word of a header."""

    def change(header: redset_header.Header) -> redset_header.Header:
        members = dict(header.members)
        if VICTIM in members:
            first, *others = members[VICTIM].files
            huge = first._replace(stat=first.stat._replace(size_bytes=(1 << 63) - 1))
            members[VICTIM] = members[VICTIM]._replace(files=(huge, *others))
        return header._replace(members=members)

    for path in hostile.made.hidden.glob("reddesc.er.*_of_*.redset"):
        rewrite(path, change)
    hostile.files[0].unlink()
    assert not hostile.build()[0]


@pytest.mark.parametrize("ranks", [1 << 24, (1 << 24) + 1, (1 << 31) - 1, 0])
def test_an_impossible_number_of_ranks(tmp_path: Path, ranks: int) -> None:
    hostile = Hostile(tmp_path)
    for path in hostile.made.hidden.glob("filemap_*"):
        listed = filemap.parse(kvtree.read(str(path)))
        changed = {k: m._replace(ranks=ranks) for k, m in listed.items() if m is not None}
        path.write_bytes(kvtree.encode(filemap.build(changed)))
    done, said = hostile.build()
    assert not done
    assert "number of ranks" in said[-1]


@pytest.mark.parametrize(
    "name",
    [
        "reddesc.er.1.xor.grp_1_of_1.mem_1_of_99999999999999999999.redset",
        "reddesc.er.1.rs.grp_99999999999_of_999999999999.mem_1_of_2.redset",
        "reddescmap.er." + "9" * 100 + ".partner.grp_1_of_1.mem_1_of_2.redset",
        "filemap_" + "9" * 200,
    ],
)
def test_names_with_impossible_numbers(hostile: Hostile, name: str) -> None:
    (hostile.made.hidden / name).write_bytes(b"")
    hostile.files[0].unlink()
    hostile.build()

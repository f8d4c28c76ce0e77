# SPDX-License-Identifier: BSD-3-Clause
"""Redundancy files: their names, and the KVTree header in front of the binary payload.

``<set>.er.<rank>.<type>.grp_<g>_of_<G>.mem_<m>_of_<n>.redset`` holds a header and the redundancy
data of one member; ``<set>.er.<rank>.redset`` only copies of descriptors. ``g`` and ``m`` count from
1. The payload begins where the header's image ends. Every level of a header is sorted by bytes.

Source: docs/formats/redundancy-header.md.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Dict, Mapping, NamedTuple, Optional, Tuple

from scrjob.errors import FormatError
from scrjob.formats import _stat
from scrjob.formats._stat import FileStat
from scrjob.formats.kvtree import KVTree, as_text

__all__ = [
    "DATA_SET",
    "MAP_SET",
    "Descriptor",
    "FileStat",
    "Header",
    "Member",
    "ProtectedFile",
    "RedsetName",
    "copies_name",
    "decode",
    "decode_copies",
    "encode",
    "encode_copies",
    "parse_copies_name",
    "parse_name",
]

DATA_SET = "reddesc"
MAP_SET = "reddescmap"
TYPES = ("single", "partner", "xor", "rs")

_NAME = re.compile(
    r"(reddesc|reddescmap)\.er\.([0-9]+)\.(single|partner|xor|rs)"
    r"\.grp_([0-9]+)_of_([0-9]+)\.mem_([0-9]+)_of_([0-9]+)\.redset"
)
_COPIES = re.compile(r"(reddesc|reddescmap)\.er\.([0-9]+)\.redset")
_SIZE_LIMIT = 1 << 63
_MAX_DIGITS = 10  # enough for any rank; int() of thousands would be slow, or refused


class RedsetName(NamedTuple):
    """A typed file name. ``group`` and ``member`` count from 0, unlike the numbers in the name."""

    set_name: str
    rank: int
    type: str
    group: int
    groups: int
    member: int
    members: int

    def __str__(self) -> str:
        """Return the file name."""
        return (
            f"{self.set_name}.er.{self.rank}.{self.type}.grp_{self.group + 1}_of_{self.groups}"
            f".mem_{self.member + 1}_of_{self.members}.redset"
        )


def parse_name(name: str) -> Optional[RedsetName]:
    """Return the parts of a typed file name, None for another name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    set_name, rank, kind, group, groups, member, members = match.groups()
    parsed = RedsetName(
        set_name, int(rank), kind, int(group) - 1, int(groups), int(member) - 1, int(members)
    )
    inside = 0 <= parsed.group < parsed.groups and 0 <= parsed.member < parsed.members
    return parsed if inside else None


def copies_name(set_name: str, rank: int) -> str:
    """Return the name of the file with a rank's copies of descriptors."""
    return f"{set_name}.er.{rank}.redset"


def parse_copies_name(name: str) -> Optional[Tuple[str, int]]:
    """Return set and rank of a file of descriptor copies, None for another name."""
    match = _COPIES.fullmatch(name)
    return (match[1], int(match[2])) if match else None


class Descriptor(NamedTuple):
    """A member's place: ``type`` in lower case, group ``group`` of ``groups``, member ``rank`` of ``ranks``.

    ``world_rank`` of ``world_ranks``; ``replicas`` for partner, ``parity`` (k) for rs.
    """

    type: str
    groups: int
    group: int
    ranks: int
    rank: int
    world_rank: int
    world_ranks: int
    replicas: Optional[int] = None
    parity: Optional[int] = None

    def file_name(self, set_name: str) -> str:
        """Return the name of this member's typed file."""
        name = RedsetName(
            set_name, self.world_rank, self.type, self.group, self.groups, self.rank, self.ranks
        )
        return str(name)

    @property
    def copies(self) -> int:
        """Return of how many left neighbours a member keeps the entries (k')."""
        if self.type == "partner":
            return self.replicas or 1
        return {"single": 0, "xor": 1}.get(self.type, self.parity or 0)


class ProtectedFile(NamedTuple):
    """A file by its absolute path in cache; ``stat.size_bytes`` is always set."""

    path: str
    stat: FileStat

    @property
    def size_bytes(self) -> int:
        """Return the recorded size."""
        return self.stat.size_bytes or 0


class Member(NamedTuple):
    """What a header knows of one member; files in the order of their concatenation."""

    descriptor: Descriptor
    files: Tuple[ProtectedFile, ...]

    @property
    def size_bytes(self) -> int:
        """Return the length of the member's logical file."""
        return sum(file.size_bytes for file in self.files)


class Header(NamedTuple):
    """A typed file's header.

    ``rank`` is the group rank as recorded: after a rebuild in place it may be wrong, the file's name
    is not. ``members``: group rank -> entry. ``chunk_bytes`` and ``world_ranks`` (group rank -> world
    rank) exist for xor and rs only.
    """

    rank: Optional[int]
    members: Dict[int, Member]
    chunk_bytes: Optional[int] = None
    world_ranks: Optional[Dict[int, int]] = None


def decode(
    tree: KVTree,
    path: str = "",
    *,
    files: Mapping[int, Tuple[ProtectedFile, ...]] = MappingProxyType({}),
) -> Header:
    """Return the header in a tree.

    Args:
        tree: what was read.
        path: for messages.
        files: group rank -> files of members that were read already; the tree says only how many.

    Raises:
        FormatError: a needed field is missing or contradicts another.
    """
    members = {}
    for key, below in (tree.child("DESC") or KVTree()).items():
        number = _index(key, path)
        members[number] = _member(below, path, files.get(number))
    chunk = tree.unsigned("CHUNK")
    if chunk is not None and chunk >= _SIZE_LIMIT:
        raise FormatError(f"impossible chunk size {chunk}", path=path)
    group = tree.child("GROUP", "RANK")
    world = None
    if group is not None:
        world = {_index(key, path): _scalar(group, as_text(key), path) for key, _ in group.items()}
        wanted = tree.child("GROUP")
        if wanted is None or wanted.integer("RANKS") != len(world):
            raise FormatError(f"GROUP lists {len(world)} ranks but says otherwise", path=path)
    return Header(tree.integer("RANK"), dict(sorted(members.items())), chunk, world)


def _member(tree: KVTree, path: str, known: Optional[Tuple[ProtectedFile, ...]] = None) -> Member:
    found = tree.child("DESC")
    if found is None:
        raise FormatError("a member has no DESC", path=path)
    count = _scalar(tree, "FILES", path)
    if known is not None and len(known) == count:
        return Member(_descriptor(found, path), known)
    below = tree.child("FILE") or KVTree()
    files = {_index(key, path): _file(entry, path) for key, entry in below.items()}
    if len(files) != count or sorted(files) != list(range(count)):
        raise FormatError(f"a member says {count} files but lists {sorted(files)[:9]}", path=path)
    return Member(_descriptor(found, path), tuple(files[number] for number in range(count)))


def _file(tree: KVTree, path: str) -> ProtectedFile:
    names = list(tree)
    if len(names) != 1:
        raise FormatError(f"expected one path per file, got {len(names)}", path=path)
    stat = _stat.parse(tree.child(names[0]) or KVTree())
    if not is_possible_size(stat.size_bytes):
        raise FormatError(f"{as_text(names[0])!r} has no possible SIZE", path=path)
    return ProtectedFile(as_text(names[0]), stat)


def is_possible_size(size_bytes: Optional[int]) -> bool:
    """Tell whether a file can be so large; None: not recorded."""
    return size_bytes is not None and size_bytes < _SIZE_LIMIT


def _descriptor(tree: KVTree, path: str) -> Descriptor:
    kind = (tree.text("TYPE") or "").lower()
    if kind not in TYPES:
        raise FormatError(f"unknown redundancy type {kind!r}", path=path)
    found = Descriptor(
        type=kind,
        groups=_scalar(tree, "GROUPS", path),
        group=_scalar(tree, "GROUP", path),
        ranks=_scalar(tree, "RANKS", path),
        rank=_scalar(tree, "RANK", path),
        world_rank=_scalar(tree, "WRANK", path),
        world_ranks=_scalar(tree, "WRANKS", path),
        replicas=_scalar(tree, "REPLICAS", path) if kind == "partner" else None,
        parity=_scalar(tree, "CKSUM", path) if kind == "rs" else None,
    )
    if not (
        found.group < found.groups
        and found.rank < found.ranks
        and found.world_rank < found.world_ranks
    ):
        raise FormatError(f"impossible place in a redundancy group: {found}", path=path)
    return found


def _scalar(tree: KVTree, key: str, path: str) -> int:
    value = tree.integer(key)
    if value is None or value < 0:
        raise FormatError(f"expected a number under {key}, got {value}", path=path)
    return value


def _index(key: bytes, path: str) -> int:
    if not key.isdigit() or len(key) > _MAX_DIGITS:
        raise FormatError(f"expected a number as key, got {as_text(key)[:20]!r}", path=path)
    return int(key)


def encode(header: Header, *, files: bool = True) -> KVTree:
    """Return the tree of a header, sorted as the library sorts it.

    ``files=False``: only the number of files is told of each member, ``FILE`` is empty.
    """
    tree = KVTree()
    if header.rank is not None:
        tree.put("RANK", header.rank)
    for number, member in header.members.items():
        entry = tree.add("DESC", number)
        entry.set("DESC", _descriptor_tree(member.descriptor))
        entry.put("FILES", len(member.files))
        below = entry.set("FILE")
        for position, file in enumerate(member.files if files else ()):
            fields = {"SIZE": file.size_bytes, **_stat.fields(file.stat)}
            below.add(position).set(file.path, KVTree.of(fields))
    if header.chunk_bytes is not None:
        tree.put("CHUNK", header.chunk_bytes)
    if header.world_ranks is not None:
        group = tree.set("GROUP")
        group.put("RANKS", len(header.world_ranks))
        for number, world_rank in header.world_ranks.items():
            group.add("RANK").put(number, world_rank)
    tree.sort_all()
    return tree


def _descriptor_tree(descriptor: Descriptor) -> KVTree:
    fields = {
        "ENABLED": 1,
        "TYPE": descriptor.type.upper(),
        "GROUPS": descriptor.groups,
        "GROUP": descriptor.group,
        "RANKS": descriptor.ranks,
        "RANK": descriptor.rank,
        "WRANK": descriptor.world_rank,
        "WRANKS": descriptor.world_ranks,
        "REPLICAS": descriptor.replicas,
        "CKSUM": descriptor.parity,
    }
    return KVTree.of({key: value for key, value in fields.items() if value is not None})


def decode_copies(tree: KVTree, path: str = "") -> Dict[int, Descriptor]:
    """Return world rank -> descriptor of a file of descriptor copies.

    Raises:
        FormatError: an entry is damaged.
    """
    found = {}
    for key, below in tree.items():
        rank = _index(key, path)
        copy = below.child("DESC")
        if copy is None:
            raise FormatError(f"rank {rank} has no DESC", path=path)
        found[rank] = _descriptor(copy, path)
    return dict(sorted(found.items()))


def encode_copies(descriptors: Mapping[int, Descriptor]) -> KVTree:
    """Return the tree of a file of descriptor copies: world rank -> descriptor, sorted."""
    tree = KVTree()
    for rank, descriptor in descriptors.items():
        tree.add(rank).set("DESC", _descriptor_tree(descriptor))
    tree.sort_all()
    return tree

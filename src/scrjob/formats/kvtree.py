# SPDX-License-Identifier: BSD-3-Clause
"""KVTree: the container of nearly all files of SCR.

A node is an ordered list of (key, node) pairs; a scalar ``K = v`` is key ``K``, below it key ``v``,
below that nothing. Keys are bytes without NUL. On disk, all integers big-endian:

====== ==== ========================================================
offset size field
====== ==== ========================================================
0      4    magic ``95 1f c3 f5``
4      2    file type, 1
6      2    version, 1
8      8    length of the image: header, tree and CRC
16     4    flags; bit 0: a CRC32 ends the image
20     ...  tree: u32 number of pairs, then per pair key, NUL, tree
end-4  4    CRC32 (zlib's) of all bytes before it
====== ==== ========================================================

Bytes after the image are somebody else's (redundancy files put their payload there); an empty file
is an empty tree. Limits of this reader: ``MAX_DEPTH`` levels, 1 GiB.

Inside, a node is a plain dict whose *last* key is the head of SCR's list, because SCR inserts at the
head and a dict appends cheaply; ``KVTree`` is a thin handle on such a dict. Files are written by
replacement unless the module of the file says otherwise.

Source: docs/formats/kvtree.md.
"""

from __future__ import annotations

import gc
import os
import re
import struct
import zlib
from typing import (
    TYPE_CHECKING,
    Any,
    BinaryIO,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Tuple,
    TypeVar,
    Union,
)

from scrjob._fsio import METADATA_LIMIT_BYTES, atomic_write, read_bounded
from scrjob.errors import ChecksumError, FormatError, TruncatedError, UnsupportedVersionError
from scrjob.formats import _numbers
from scrjob.formats._cursor import Cursor

if TYPE_CHECKING:
    from scrjob.protocols import Clock

Made = TypeVar("Made")
Node = Dict[bytes, "Node"]
Key = Union[bytes, str, int]

MAGIC = 0x951FC3F5
FILE_TYPE = 1
VERSION = 1
FLAG_CRC = 1
HEADER = struct.Struct(">IHHQI")
MAX_DEPTH = 256
SETTLE_ATTEMPTS = 10
SETTLE_PAUSE_S = 0.01

_COUNT = struct.Struct(">I")
_ZERO = _COUNT.pack(0)
_ONE = _COUNT.pack(1)
_LEAF_END = b"\0" + _ZERO
# After the root's count the packed tree is a flat run of (key, NUL, count), and most of it are scalars:
# (key, NUL, 1) (value, NUL, 0). re splits it in C. Groups: key, value of a scalar, count if no scalar.
# The last branch takes what can be left over, so that nothing is ever skipped.
_PAIRS = re.compile(rb"([^\0]*)\0(?:\0\0\0\x01([^\0]*)\0\0\0\0\0|(.{4}))|\0{1,4}\Z", re.DOTALL)
_EMPTY_SCALAR = b"\0" + _ONE + _LEAF_END


def as_key(key: Key) -> bytes:
    """Return the bytes of a key: text as UTF-8 (undecodable bytes kept), integers in decimal."""
    if isinstance(key, str):
        return key.encode("utf-8", "surrogateescape")
    return key if isinstance(key, bytes) else b"%d" % key


def as_text(key: bytes) -> str:
    """Return a key or value as text; ``as_key`` gives the same bytes back."""
    return key.decode("utf-8", "surrogateescape")


class KVTree:
    """A handle on one node of a tree; handles of the same node see each other's changes.

    Iteration gives the keys in SCR's list order, head first. Keys may be given as bytes, text or int.
    """

    __slots__ = ("_node",)

    def __init__(self, node: Optional[Node] = None) -> None:
        self._node: Node = {} if node is None else node

    @classmethod
    def of(cls, content: Mapping[Any, Any]) -> KVTree:
        """Return a tree in the order of a nested mapping: ``{"K": value, "L": {"a": {}, "b": {}}}``.

        A value that is no mapping makes its key a scalar.
        """
        tree = cls()
        for key in reversed(list(content)):
            below = content[key]
            tree.set(key, cls.of(below if isinstance(below, Mapping) else {below: {}}))
        return tree

    def __len__(self) -> int:
        return len(self._node)

    def __bool__(self) -> bool:
        return bool(self._node)

    def __contains__(self, key: Key) -> bool:
        return as_key(key) in self._node

    def __iter__(self) -> Iterator[bytes]:
        return reversed(self._node)

    def __eq__(self, other: object) -> bool:
        """Compare content; the order of keys has no meaning to any reader."""
        return isinstance(other, KVTree) and self._node == other._node

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"KVTree({self._node!r})"

    # Structure: the rules of SCR's own functions, see docs/formats/kvtree.md, "order".

    def child(self, *path: Key) -> Optional[KVTree]:
        """Return the node under a path of keys, None if there is none."""
        node = self._node
        for key in path:
            below = node.get(as_key(key))
            if below is None:
                return None
            node = below
        return KVTree(node)

    def items(self) -> Iterator[Tuple[bytes, KVTree]]:
        """Iterate over (key, node) in list order."""
        for key in self:
            yield key, KVTree(self._node[key])

    def add(self, *path: Key) -> KVTree:
        """Return the node under a path; what is missing is created at the head, what exists stays put."""
        node = self._node
        for key in path:
            node = node.setdefault(as_key(key), {})
        return KVTree(node)

    def set(self, key: Key, child: Optional[KVTree] = None) -> KVTree:
        """Put ``child`` (default: a new empty node) under ``key`` at the head; an old one is dropped."""
        raw = as_key(key)
        self._node.pop(raw, None)
        below = {} if child is None else child._node  # noqa: SLF001 - a node of our own kind
        self._node[raw] = below
        return KVTree(below)

    def extend(self, keys: Iterable[Key]) -> None:
        """Add many keys with nothing below them, each at the head unless it exists."""
        for raw in map(as_key, keys):
            self._node.setdefault(raw, {})

    def put(self, key: Key, value: Key) -> None:
        """Make ``key`` a scalar: drop whatever it had, insert it at the head with this one value."""
        self.set(key).add(value)

    def unset(self, key: Key) -> None:
        """Remove a key and all below it; absent is fine."""
        self._node.pop(as_key(key), None)

    def unset_kv(self, key: Key, value: Key) -> None:
        """Remove one value of a key, and the key when nothing is left under it."""
        below = self._node.get(as_key(key))
        if below is not None:
            below.pop(as_key(value), None)
            if not below:
                self.unset(key)

    def merge(self, source: KVTree) -> None:
        """Add all of ``source``; into an empty node this reverses the order at every level."""
        stack = [(self._node, source._node)]
        while stack:
            mine, theirs = stack.pop()
            stack.extend((mine.setdefault(key, {}), theirs[key]) for key in reversed(theirs))

    def copy(self) -> KVTree:
        """Return an independent copy in the same order."""
        root: Node = {}
        stack = [(root, self._node)]
        while stack:
            mine, theirs = stack.pop()
            stack.extend((mine.setdefault(key, {}), below) for key, below in theirs.items())
        return KVTree(root)

    def reversed(self) -> KVTree:
        """Return a copy with the order reversed at every level: a merge into an empty tree."""
        return KVTree(without_gc(_turned, self._node))

    def sort_all(self) -> None:
        """Sort every level by the bytes of the keys, smallest first."""
        stack = [self._node]
        while stack:
            node = stack.pop()
            pairs = sorted(node.items(), key=_first, reverse=True)
            node.clear()
            node.update(pairs)
            stack.extend(node.values())

    # Values.

    def ints(self) -> List[int]:
        """Return the keys as C ints, ascending."""
        return sorted(map(_numbers.atoi, self._node))

    def values(self, key: Key) -> List[bytes]:
        """Return all values of a key in list order; [] if the key is absent or empty."""
        return list(reversed(self._node.get(as_key(key), {})))

    def value(self, key: Key) -> Optional[bytes]:
        """Return the value of a scalar; None unless the key has exactly one."""
        below = self._node.get(as_key(key))
        if below is None or len(below) != 1:
            return None
        for value in below:  # quicker than next(iter())
            return value
        return None

    def text(self, key: Key) -> Optional[str]:
        """Return a scalar as text; None unless the key has exactly one value."""
        value = self.value(key)
        return None if value is None else value.decode("utf-8", "surrogateescape")

    def integer(self, key: Key) -> Optional[int]:
        """Return the first value as a C int (32 bits); None if there is none. Several are tolerated."""
        below = self._node.get(as_key(key))
        if below:
            for value in reversed(below):
                return _numbers.atoi(value)
        return None

    def unsigned(self, key: Key) -> Optional[int]:
        """Return a byte count, CRC or other unsigned 64-bit scalar; None unless exactly one value."""
        value = self.value(key)
        return None if value is None else _numbers.strtoul(value)

    def int64(self, key: Key) -> Optional[int]:
        """Return a signed 64-bit scalar; None unless the key has exactly one value."""
        value = self.value(key)
        return None if value is None else _numbers.strtoll(value)

    def real(self, key: Key) -> Optional[float]:
        """Return a double; None unless the key has exactly one value."""
        value = self.value(key)
        return None if value is None else _numbers.strtod(value)


def _turned(node: Node) -> Node:
    # Recursion, because it is the fastest; the codec bounds the depth.
    return {key: _turned(node[key]) if node[key] else {} for key in reversed(node)}


def _first(pair: Tuple[bytes, Node]) -> bytes:
    return pair[0]


def crc_text(crc: int) -> bytes:
    """Return a CRC32 as SCR stores it: C's ``%#x``."""
    return b"%#x" % crc if crc else b"0"


def encode(tree: KVTree) -> bytes:
    """Return the image of a tree, pairs in list order, with CRC.

    Raises:
        FormatError: a key contains NUL, or the tree is deeper than ``MAX_DEPTH``.
    """
    root = tree._node  # noqa: SLF001 - the codec is the other half of the class
    _check_depth(root, "")
    parts = [_COUNT.pack(len(root))]
    todo = list(root.items())
    while todo:
        key, node = todo.pop()
        if b"\0" in key:
            raise FormatError(f"a key may not contain NUL: {key!r}")
        parts.append(key)
        if node:
            parts.append(b"\0" + _COUNT.pack(len(node)))
            todo.extend(node.items())
        else:
            parts.append(_LEAF_END)
    return wrap(b"".join(parts))


def wrap(body: bytes) -> bytes:
    """Return the image of a packed tree, with CRC."""
    header = HEADER.pack(MAGIC, FILE_TYPE, VERSION, HEADER.size + len(body) + 4, FLAG_CRC)
    return header + body + _COUNT.pack(zlib.crc32(body, zlib.crc32(header)))


def decode(data: bytes, path: str = "") -> KVTree:
    """Return the tree of the image at the start of ``data``; no bytes at all are an empty tree.

    Raises:
        TruncatedError, ChecksumError, UnsupportedVersionError, FormatError.
    """
    return decode_image(data, path)[0]


def decode_image(data: bytes, path: str = "") -> Tuple[KVTree, int]:
    """Return the tree and the length of its image in bytes (0 for no bytes).

    Args:
        data: bytes that begin with an image; what follows it is ignored.
        path: for messages.

    Raises:
        TruncatedError: the bytes end before the image does.
        ChecksumError: the CRC differs.
        UnsupportedVersionError: no KVTree file, or of another type or version.
        FormatError: the tree does not fit the image.
    """
    if not data:
        return KVTree(), 0
    size, end = _check(data, path)
    return KVTree(without_gc(_tree, data[HEADER.size : end], path)), size


def packed(data: bytes, path: str = "") -> memoryview:
    """Return the packed tree of an image, checked as by ``decode_image`` but not read; b"" for no bytes.

    Raises:
        TruncatedError, ChecksumError, UnsupportedVersionError, FormatError: as ``decode_image``.
    """
    if not data:
        return memoryview(b"")
    _, end = _check(data, path)
    return memoryview(data)[HEADER.size : end]


def image_bytes(data: bytes) -> int:
    """Return the length that a checked image has, header and checksum included; 0 for no bytes."""
    return int(HEADER.unpack_from(data)[3]) if data else 0


def _check(data: bytes, path: str) -> Tuple[int, int]:
    """Return length of the image and end of its tree, both in bytes."""
    cursor = Cursor(data, path)
    size, flags = _header(cursor, path)
    cursor.need(size - HEADER.size, "tree")
    end = size
    if flags & FLAG_CRC:
        end -= _COUNT.size
        (stored,) = Cursor(data, path, end).unpack(_COUNT, "checksum")
        actual = zlib.crc32(memoryview(data)[:end])
        if stored != actual:
            raise ChecksumError(
                f"CRC32 mismatch: expected {stored:#010x}, got {actual:#010x}", path=path
            )
    return size, end


def _header(cursor: Cursor, path: str) -> Tuple[int, int]:
    magic, kind, version, size, flags = cursor.unpack(HEADER, "header")
    if magic != MAGIC:
        raise UnsupportedVersionError(
            f"no KVTree file: expected magic {MAGIC:#x}, got {magic:#x}", path=path, offset=0
        )
    if (kind, version) != (FILE_TYPE, VERSION):
        raise UnsupportedVersionError(
            f"expected type {FILE_TYPE} version {VERSION}, got type {kind} version {version}",
            path=path,
            offset=4,
        )
    least = HEADER.size + _COUNT.size + (_COUNT.size if flags & FLAG_CRC else 0)
    if size < least:
        raise FormatError(
            f"impossible length {size}, expected at least {least}", path=path, offset=8
        )
    return size, flags


def without_gc(build: Callable[..., Made], *args: Any) -> Made:
    """Make very many objects while the cycle collector rests: it costs half of the time and finds nothing."""
    active = gc.isenabled()
    gc.disable()
    try:
        return build(*args)
    finally:
        if active:
            gc.enable()


def _tree(body: bytes, path: str) -> Node:
    """Build the nodes from the packed tree; ``body`` has at least the root's count.

    The pairs are taken from the last to the first: a node's children then lie on the stack in just
    the order that its dict wants, and no recursion is needed.
    """
    (wanted,) = _COUNT.unpack_from(body)
    pairs = _split(body, path)
    stack: List[Tuple[bytes, Node]] = []
    push = stack.append
    try:
        for key, value, count in reversed(pairs):
            if not count:
                push((key, {value: {}}))
            elif count == _ZERO:
                push((key, {}))
            else:
                push((key, _take(stack, int.from_bytes(count, "big"))))
        root = _take(stack, wanted)
    except IndexError:
        raise TruncatedError(
            "the tree has fewer pairs than its counts say",
            path=path,
            offset=HEADER.size + len(body),
        ) from None
    if stack:
        raise _leftover(HEADER.size + _tree_length(wanted, pairs), path)
    _check_depth(root, path)
    return root


def _split(body: bytes, path: str) -> List[Tuple[bytes, bytes, bytes]]:
    if len(body) == _COUNT.size:
        return []
    # A tree ends with a leaf. Without this check the scan could be quadratic, and skip bytes.
    if not body.endswith(_LEAF_END):
        raise TruncatedError(
            "the tree does not end where its image does", path=path, offset=HEADER.size
        )
    pairs: List[Tuple[bytes, bytes, bytes]] = _PAIRS.findall(body, _COUNT.size)
    if pairs[-1] == (b"", b"", b"") and not body.endswith(_EMPTY_SCALAR):
        raise _leftover(HEADER.size + len(body.rstrip(b"\0")), path)
    return pairs


def _leftover(offset: int, path: str) -> FormatError:
    return FormatError("bytes are left over after the tree", path=path, offset=offset)


def _take(stack: List[Tuple[bytes, Node]], count: int) -> Node:
    """Remove the last ``count`` pairs from the stack and return them as a node."""
    if count == 0:
        return {}
    pairs = stack[-count:]
    if len(pairs) != count:
        raise IndexError
    del stack[-count:]
    node = dict(pairs)
    if len(node) != count:  # only a file made by hand: fold equal keys as SCR's merge does
        node = {}
        for key, below in pairs:
            KVTree(node.setdefault(key, {})).merge(KVTree(below).reversed())
    return node


def _tree_length(wanted: int, pairs: List[Tuple[bytes, bytes, bytes]]) -> int:
    """Return how many bytes the tree has, that of the root's count included."""
    length = _COUNT.size
    for key, value, count in pairs:
        if not wanted:
            break
        length += len(key) + len(_LEAF_END)
        if count:
            wanted += int.from_bytes(count, "big") - 1
        else:
            wanted -= 1
            length += len(value) + len(_LEAF_END)
    return length


def _check_depth(root: Node, path: str) -> None:
    level = [root]
    for _ in range(MAX_DEPTH):
        level = [below for node in level for below in node.values() if below]
        if not level:
            return
    raise FormatError(f"tree deeper than {MAX_DEPTH} levels", path=path)


def read(path: str) -> KVTree:
    """Return the tree in a file.

    Raises:
        FormatError and children: the file is damaged.
        OSError: it cannot be read; FileNotFoundError if absent.
    """
    return decode(read_bounded(path), os.fspath(path))


def read_settled(path: str, clock: Clock, *, attempts: int = SETTLE_ATTEMPTS) -> KVTree:
    """Return the tree in a file that a C program may be rewriting in place at this moment.

    Such a file is empty or torn for a moment. It is read again, ``SETTLE_PAUSE_S`` later, until it is
    whole and not empty; the last of ``attempts`` answers stands, be it an error or an empty tree.

    Raises:
        FormatError and children: the file stays damaged.
        OSError: it cannot be read.
    """
    for _ in range(attempts - 1):
        try:
            data = read_bounded(path)
            if data:
                return decode(data, os.fspath(path))
        except FormatError:
            pass  # the last attempt, below, lets it out
        clock.sleep(SETTLE_PAUSE_S)
    return read(path)


def read_image(file: BinaryIO, path: str = "") -> Tuple[KVTree, int]:
    """Return the tree at the start of an open file and the offset at which its payload begins.

    Raises:
        FormatError and children: as for ``decode_image``; also if the image is larger than 1 GiB.
    """
    return decode_image(read_image_bytes(file, path), path)


def read_image_bytes(file: BinaryIO, path: str = "") -> bytes:
    """Return the bytes of the image at the start of an open file; its tree was not looked at.

    Only the image is read, so the payload may be of any size.

    Raises:
        FormatError and children: they are not there; also if the image is larger than 1 GiB.
    """
    file.seek(0, os.SEEK_END)
    available = file.tell()
    file.seek(0)
    head = file.read(HEADER.size)
    if not head:
        return head
    size, _ = _header(Cursor(head, path), path)
    if size > available:
        raise TruncatedError(
            f"truncated image: expected {size} bytes, got {available}", path=path, offset=available
        )
    if size > METADATA_LIMIT_BYTES:
        raise FormatError(f"image of {size} bytes is too large for a header", path=path, offset=8)
    return head + file.read(size - HEADER.size)


def write(path: str, tree: KVTree, *, mode: int = 0o666) -> None:
    """Replace or create a file so that readers see the old tree or the new one; ``mode`` & ~umask."""
    atomic_write(path, encode(tree), mode=mode)

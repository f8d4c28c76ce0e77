# SPDX-License-Identifier: BSD-3-Clause
"""Where a file of a dataset belongs: paths recorded in SCR's files, checked and relocated.

SCR records absolute paths. They come from files that anybody with a write mistake can spoil, so
nothing is created or replaced outside the prefix directory on their word.
"""

from __future__ import annotations

import os
import stat
from typing import Iterable, NamedTuple, Set, Tuple

from scrjob._fsio import fsync_dir
from scrjob.errors import FormatError, UsageError


class Relocation(NamedTuple):
    """Recorded paths below ``old`` are really below ``new``; see ``relocate``."""

    old: str
    new: str


def parse_relocation(text: str) -> Relocation:
    """Return the relocation that an option ``OLD=NEW`` names; both are absolute directories.

    Raises:
        UsageError: there is no ``=``, or a side is not absolute.
    """
    old, equals, new = text.partition("=")
    if not equals or not old.startswith("/") or not new.startswith("/"):
        raise UsageError(f"--relocate {text!r}: expected OLD=NEW, two absolute directories")
    return Relocation(os.path.normpath(old), os.path.normpath(new))


def relocate(path: str, moves: Iterable[Relocation]) -> str:
    """Return where a recorded path really is: the longest ``old`` that it lies below is replaced."""
    if not moves:
        return path
    best = max(
        (move for move in moves if is_below(path, move.old)),
        key=lambda move: len(move.old),
        default=None,
    )
    return path if best is None else best.new.rstrip("/") + path[len(best.old.rstrip("/")) :]


def is_below(path: str, directory: str) -> bool:
    """Tell, by the text alone, whether ``path`` is ``directory`` or lies below it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def check_name(name: str) -> None:
    """Refuse what is no name of a file in a directory.

    Raises:
        FormatError: it is not.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise FormatError(f"{name!r} is no file name")


class PrefixGuard:
    """Decides whether a destination is inside the prefix directory.

    Args:
        prefix: absolute prefix directory.
        moves: relocations of recorded paths.
    """

    def __init__(self, prefix: str, moves: Iterable[Relocation] = ()) -> None:
        self.prefix = os.path.normpath(prefix)
        self.moves: Tuple[Relocation, ...] = tuple(moves)
        self._real = os.path.realpath(self.prefix)
        self._metadata = os.path.join(self.prefix, ".scr")
        self._start = os.path.join(self.prefix, "")
        self._trusted: Set[str] = set()

    def destination(self, directory: str, name: str) -> str:
        """Return the path of file ``name`` in a recorded ``directory``, relocated.

        Raises:
            FormatError: the name is none, or the directory is not one of the prefix.
        """
        check_name(name)
        return os.path.join(self.directory(directory), name)

    def directory(self, recorded: str) -> str:
        """Return the place of a recorded directory in the prefix, relocated.

        Raises:
            FormatError: it is not absolute, has ``..``, is not inside the prefix, or is that of SCR's own
                files: a dataset has none there, and index and maps must not be overwritten by one.
        """
        where = self._inside(recorded)
        if is_below(where, self._metadata):
            raise FormatError(f"{where!r} is for SCR's own files")
        return where

    def _inside(self, recorded: str) -> str:
        where = relocate(recorded, self.moves)
        if not where.startswith("/") or ".." in where.split("/") or "\0" in where:
            raise FormatError(f"{where!r} is no absolute path without '..'")
        where = os.path.normpath(where)
        if where.startswith("//"):
            where = where[1:]
        if is_below(where, self.prefix):
            return where
        real = os.path.realpath(where)
        if is_below(real, self._real):  # the job knew the prefix by another name
            return os.path.normpath(os.path.join(self.prefix, os.path.relpath(real, self._real)))
        raise FormatError(
            f"{where!r} is outside of the prefix directory {self.prefix!r}; "
            "if the prefix was moved, use --relocate OLD=NEW"
        )

    def check_real(self, path: str) -> None:
        """Refuse a path whose existing parents lead out of the prefix through symbolic links.

        Raises:
            FormatError: they do.
        """
        self.check_real_dir(os.path.dirname(path))

    def check_real_dir(self, directory: str) -> None:
        """Refuse a directory that is reached, or whose existing parents are, through links that lead out.

        Raises:
            FormatError: it is.
        """
        if directory in self._trusted:
            return
        if is_below(directory, self.prefix) and self._has_no_links(directory):
            return
        if not is_below(os.path.realpath(directory), self._real):
            raise FormatError(
                f"{directory!r} leads out of the prefix directory {self.prefix!r} "
                "through a symbolic link"
            )

    def _has_no_links(self, directory: str) -> bool:
        """Tell whether all below the prefix on the way to a directory are directories, or absent.

        Those that exist are asked once only: very many ranks can have a directory each.
        """
        found = []
        while directory != self.prefix and directory not in self._trusted:
            try:
                mode = os.lstat(directory).st_mode
            except FileNotFoundError:
                pass  # whoever makes it asks again
            except OSError:
                return False
            else:
                if not stat.S_ISDIR(mode):
                    return False
                found.append(directory)
            directory = os.path.dirname(directory)
        self._trusted.update(found)
        return True

    def relative(self, path: str) -> str:
        """Return a destination as rank2file has it: relative to the prefix."""
        if path.startswith(self._start):  # as all are that ``destination`` gives
            return path[len(self._start) :]
        return os.path.relpath(path, self.prefix)


def sync_dirs(directories: Iterable[str], top: str) -> None:
    """Make the entries of directories, and of those between them and ``top``, durable.

    Raises:
        OSError: one cannot be.
    """
    todo = {top}
    for lowest in directories:
        directory = lowest
        while directory not in todo and is_below(directory, top):
            todo.add(directory)
            directory = os.path.dirname(directory)
    for directory in todo:
        fsync_dir(directory)


def make_dirs(path: str, mode: int) -> None:
    """Create a directory and its missing parents, each with ``mode`` & ~umask.

    Raises:
        OSError: one cannot be created, or is no directory.
    """
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        parent = os.path.dirname(path)
        if parent == path:
            break
        path = parent
    for directory in reversed(missing):
        _make_dir(directory, mode)


def _make_dir(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:  # another node was faster
        if not os.path.isdir(path):
            raise

# SPDX-License-Identifier: BSD-3-Clause
"""``scr_copy`` as a class: what a node is told to run, and what its answer means."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from scrjob.cli import _tool
from scrjob.errors import NotSupportedError
from scrjob.node.copy import NOTHING_CACHED, PROG, one_line

if TYPE_CHECKING:
    from scrjob.remoteexec.remoteexec import RemoteExecResult

DatasetId = Union[int, str]

BUFFER_BYTES = 1048576  # what SCR's own scavenge gives
SAID_CHARS = 200  # of what is no report, in an error

_TAIL = re.compile(r" @ \S+:[0-9]+\Z")  # where in SCR's sources
_HEAD = re.compile(
    r"(?:SCR v\S+ ERROR: [^:]*: (?:scr_copy: )?|KVTree \S+ ERROR: [^:]*: |scr_copy: [^:]*: )"
)
_PLAIN = re.compile(r"(?:SCR|KVTree) v?[0-9.]+: ")  # what is told and is no error
_RETURN_CODE = re.compile(r"Return code: -?[0-9]+\Z")
_MISMATCH = "CRC32 mismatch detected when flushing file "
_TO = " to "


class CopyReport(NamedTuple):
    """What one node did.

    Attributes:
        rc: exit code of the copy, 0 all well; None if the node gave no answer in time.
        files: application files of this node that are complete in the prefix, None if not told.
        bytes: their sizes together, None if not told.
        skipped: files of any kind that an earlier attempt had copied.
        errors: one line for each thing that went wrong.
        crcs: path relative to the prefix -> CRC32 of what it copied, as far as told.
        damaged: files in the prefix that have other bytes than were recorded; SCR's own tool leaves them
            there.
    """

    rc: Optional[int]
    files: Optional[int] = None
    bytes: Optional[int] = None
    skipped: int = 0
    errors: Tuple[str, ...] = ()
    crcs: Dict[str, int] = {}  # noqa: RUF012 - never changed
    damaged: Tuple[str, ...] = ()

    @property
    def is_spare(self) -> bool:
        """Tell whether the node holds no part of the dataset, and nothing else is wrong."""
        return bool(self.errors) and all(e.startswith(NOTHING_CACHED) for e in self.errors)


class SCRCopy(_tool.Wrapper):
    """The copy of a cached dataset to the prefix, which each node does for itself.

    Constructed as ``_tool.Wrapper``; the prefix is made absolute, for the nodes have other directories.
    ``is_native``: our own program is run, not the site's executable.
    """

    _executable = PROG

    def _prepare(self) -> None:
        self.prefix = os.path.abspath(self.prefix)
        self.is_native = self._tool is None

    def command(
        self,
        cntldir: str,
        dset: DatasetId,
        *,
        checksum: bool = True,
        relocations: Sequence[str] = (),
        hints: Sequence[str] = (),
    ) -> List[str]:
        """Return the argument list that copies what a node holds of a dataset.

        Args:
            cntldir: the node's control directory.
            dset: dataset id.
            checksum: compute the CRC32 of each file.
            relocations: ``OLD=NEW``: recorded paths below OLD are really below NEW.
            hints: further words for our own program; the site's executable knows none of
                them and does without.

        Raises:
            NotSupportedError: the site's executable cannot relocate.
        """
        number = str(_tool.dataset_id(dset))
        where = ["--cntldir", cntldir, "--id", number, "--prefix", self.prefix]
        if self._tool is not None:
            if relocations:
                raise NotSupportedError(
                    f"{self._tool.path} cannot relocate paths; unset SCR_BIN_DIR to have it done"
                )
            return [
                self._tool.path,
                *where,
                "--buf",
                str(BUFFER_BYTES),
                *(["--crc"] if checksum else []),
            ]
        from scrjob.node.command import node_command  # noqa: PLC0415 - not for an executable

        moves = [word for move in relocations for word in ("--relocate", move)]
        return node_command(
            "copy", *where, "--json", *([] if checksum else ["--nocrc"]), *moves, *hints
        )

    def report(self, result: RemoteExecResult, node: str) -> CopyReport:
        """Return what a node's answer means. A copy that failed, or did not tell, has an error."""
        rc = result.rc(node)
        if rc is None:
            return CopyReport(None, errors=(result.failure(node) or "no answer",))
        stdout = result.stdout(node)
        found = _told(stdout) if self.is_native else _overheard(stdout)
        if found is not None and (rc == 0 or found.errors):
            return found._replace(rc=rc)
        said = (result.stderr(node).strip() or stdout.strip() or "nothing").splitlines()[-1][
            :SAID_CHARS
        ]
        return CopyReport(rc, errors=(f"exit code {rc} and no report; it said: {one_line(said)}",))


def without_report(stdout: str) -> str:
    """Return what the copy said to people: all but the line for programs."""
    return "".join(line for line in stdout.splitlines(keepends=True) if not line.startswith("{"))


def _told(stdout: str) -> Optional[CopyReport]:
    """Return the report that our own program gives in its last line, None without one."""
    import json  # noqa: PLC0415 - only for an answer

    last = stdout.rstrip("\n").rpartition("\n")[2]
    try:
        told: Any = json.loads(last)
        return CopyReport(
            rc=int(told["rc"]),
            files=int(told["files"]),
            bytes=int(told["bytes"]),
            skipped=int(told["skipped"]),
            errors=tuple(str(error) for error in told["errors"]),
            crcs={str(path): int(crc) for path, crc in told["crc"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _overheard(stdout: str) -> Optional[CopyReport]:
    """Return what can be known from what SCR's tool prints, None if this is not its output."""
    texts = _messages(stdout)
    errors = [text for text in texts if not _RETURN_CODE.match(text)]
    if not texts:
        return None
    damaged = tuple(path for path in map(_mismatched, errors) if path is not None)
    return CopyReport(0, errors=tuple(map(one_line, errors)), damaged=damaged)


def _messages(stdout: str) -> List[str]:
    """Return what SCR's tool prints, without the names of tool, host and source file.

    It does not escape names: one with a newline makes a message of several lines.
    """
    found: List[str] = []
    for line in stdout.removesuffix("\n").split("\n"):
        head = _HEAD.match(line)
        if head is not None:
            found.append(line[head.end() :])
        elif found and not _PLAIN.match(line):
            found[-1] += "\n" + line
    return [_TAIL.sub("", text) for text in found]


def _mismatched(error: str) -> Optional[str]:
    """Return the copy that an error says has the wrong checksum, None if it is another error."""
    if not error.startswith(_MISMATCH):
        return None
    words = error[len(_MISMATCH) :].split(_TO)
    # " to " may be part of a name; but the copy has the name of its source.
    for at in range(1, len(words)):
        source, target = _TO.join(words[:at]), _TO.join(words[at:])
        if target.startswith("/") and os.path.basename(source) == os.path.basename(target):
            return target
    return None

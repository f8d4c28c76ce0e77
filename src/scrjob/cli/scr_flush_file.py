# SPDX-License-Identifier: BSD-3-Clause
"""``scr_flush_file`` as a class: which datasets exist, and where they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Union

from scrjob.cli import _tool
from scrjob.errors import DatasetError, FormatError
from scrjob.formats import flush, kvtree, paths, summary

if TYPE_CHECKING:
    from scrjob.formats.kvtree import KVTree
    from scrjob.protocols import Context

DatasetId = Union[int, str]
RESUME_TIMEOUT_S = 3600.0  # waits for a whole transfer


class SCRFlushFile(_tool.Wrapper):
    """Questions about ``<prefix>/.scr/flush.scr``. Without that file there are no datasets.

    Constructed as ``_tool.Wrapper``.

    Raises (all methods):
        FormatError: the file is damaged, also after several looks.
        OSError: it cannot be read.
    """

    _executable = "scr_flush_file"

    def _prepare(self) -> None:
        self._back: Union[_Native, _Executable] = (
            _Native(self.prefix, self._context)
            if self._tool is None
            else _Executable(self.prefix, self._tool)
        )

    @property
    def can_resume(self) -> bool:
        """Tell whether ``resume`` can work: only SCR's own executable knows its transfer library."""
        return self._tool is not None

    def list_dsets_output(self) -> List[str]:
        """Return the ids of output datasets, ascending."""
        return self._back.list_output()

    def list_dsets_ckpt(self, before: Optional[DatasetId] = None) -> List[str]:
        """Return the ids of checkpoints, descending; only those below ``before`` if given."""
        return self._back.list_ckpt(0 if before is None else _tool.dataset_id(before))

    def need_flush(self, d: DatasetId) -> bool:
        """Tell whether a dataset is listed and not yet in the prefix."""
        return self._back.need_flush(_tool.dataset_id(d))

    def name(self, d: DatasetId) -> Optional[str]:
        """Return a dataset's name, None if it is not known."""
        return self._back.name(_tool.dataset_id(d))

    def latest(self) -> Optional[str]:
        """Return the largest id of any kind, None if there are no datasets."""
        return self._back.latest()

    def location(self, d: DatasetId) -> Optional[str]:
        """Return the state that a dataset got last, e.g. ``CACHE`` or ``PFS``; None if not known."""
        return self._back.location(_tool.dataset_id(d))

    def resume(self, d: DatasetId) -> bool:
        """Finish an asynchronous transfer, and tell whether that worked.

        Only the executable can: the state of such a transfer belongs to SCR's transfer library.
        """
        return self._back.resume(_tool.dataset_id(d))

    def write_summary(self, d: DatasetId) -> bool:
        """Declare a transfer finished: write the dataset's summary and drop its entry here."""
        return self._back.write_summary(_tool.dataset_id(d))


class _Native:
    """Answers in this process."""

    def __init__(self, prefix: str, context: Optional[Context]) -> None:
        self._prefix = prefix
        self._context = context

    def _read(self) -> KVTree:
        try:
            path = paths.flush_file(self._prefix)
            return kvtree.read_settled(path, _tool.clock_of(self._context))
        except FileNotFoundError:
            return kvtree.KVTree()

    def list_output(self) -> List[str]:
        return [str(number) for number in flush.list_output(self._read())]

    def list_ckpt(self, before: int) -> List[str]:
        return [str(number) for number in flush.list_ckpt(self._read(), before)]

    def need_flush(self, dataset_id: int) -> bool:
        return flush.need_flush(self._read(), dataset_id)

    def name(self, dataset_id: int) -> Optional[str]:
        entry = flush.entry(self._read(), dataset_id)
        return None if entry is None else entry.name

    def latest(self) -> Optional[str]:
        number = flush.latest(self._read())
        return None if number is None else str(number)

    def location(self, dataset_id: int) -> Optional[str]:
        return flush.location(self._read(), dataset_id)

    def resume(self, dataset_id: int) -> bool:
        _tool.warn("dataset %d: resuming a transfer needs SCR's own scr_flush_file", dataset_id)
        return False

    def write_summary(self, dataset_id: int) -> bool:
        try:
            finish_transfer(self._prefix, self._read(), dataset_id)
        except (DatasetError, OSError) as error:
            _tool.warn("cannot write the summary of dataset %d: %s", dataset_id, error)
            return False
        return True


def finish_transfer(prefix: str, tree: KVTree, dataset_id: int) -> None:
    """Write a dataset's summary, then drop its entry from the flush file.

    SCR drops the entry even if the summary could not be written; then nobody knows of the dataset any
    more, so here it stays.

    Args:
        prefix: the prefix directory.
        tree: the flush file as read; changed.
        dataset_id: whose transfer has ended.

    Raises:
        DatasetError: there is no entry, or it has no descriptor.
        OSError: a file could not be written.
    """
    entry = flush.entry(tree, dataset_id)
    if entry is None or entry.descriptor is None:
        raise DatasetError(f"No flush file entry for dataset {dataset_id}")
    content = summary.build(entry.descriptor, complete=True)
    kvtree.write(paths.summary_file(prefix, dataset_id), content)
    flush.remove(tree, dataset_id)
    kvtree.write(paths.flush_file(prefix), tree)


class _Executable:
    """Asks SCR's scr_flush_file."""

    def __init__(self, prefix: str, tool: _tool.Tool) -> None:
        self._prefix = prefix
        self._path = paths.flush_file(prefix)
        self._tool = tool

    def _ask(self, *args: str) -> Optional[str]:
        return self._tool.answer(self._path, "--dir", self._prefix, *args)

    def list_output(self) -> List[str]:
        return (self._ask("--list-output") or "").split()

    def list_ckpt(self, before: int) -> List[str]:
        extra = ("--before", str(before)) if before else ()
        return (self._ask("--list-ckpt", *extra) or "").split()

    def need_flush(self, dataset_id: int) -> bool:
        return self._ask("--need-flush", str(dataset_id)) is not None

    def name(self, dataset_id: int) -> Optional[str]:
        return _line(self._ask("--name", str(dataset_id)))

    def latest(self) -> Optional[str]:
        return _line(self._ask("--latest"))

    def location(self, dataset_id: int) -> Optional[str]:
        return _line(self._ask("--location", str(dataset_id)))

    def resume(self, dataset_id: int) -> bool:
        return self._finish("--resume", dataset_id, RESUME_TIMEOUT_S)

    def write_summary(self, dataset_id: int) -> bool:
        return self._finish("--summary", dataset_id, _tool.QUERY_TIMEOUT_S)

    def _finish(self, option: str, dataset_id: int, timeout_s: float) -> bool:
        args = ("--dir", self._prefix, option, "--name", str(dataset_id))
        return self._tool.run(*args, timeout_s=timeout_s).returncode == 0


def _line(said: Optional[str]) -> Optional[str]:
    """Return an answer without its final newline; names may end in blanks or have newlines inside."""
    if said is None:
        return None
    if not said.endswith("\n"):
        raise FormatError(f"scr_flush_file gave an unfinished line: {said[-80:]!r}")
    return said[:-1]

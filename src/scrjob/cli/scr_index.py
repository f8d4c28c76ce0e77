# SPDX-License-Identifier: BSD-3-Clause
"""``scr_index`` as a class: the datasets in the prefix and the one to restart from."""

from __future__ import annotations

import contextlib
import os
from typing import (
    TYPE_CHECKING,
    Callable,
    ContextManager,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from scrjob.cli import _tool
from scrjob.errors import DatasetError, FormatError, ScrError
from scrjob.formats import dataset, index, kvtree, paths, summary

if TYPE_CHECKING:
    from scrjob.formats.index import Index
    from scrjob.formats.kvtree import KVTree
    from scrjob.protocols import Context
    from scrjob.redundancy.build import Built

DatasetId = Union[int, str]
BUILD_TIMEOUT_S = 24 * 3600.0  # rebuilds all lost files of a dataset


class SCRIndex(_tool.Wrapper):
    """The index of ``<prefix>``, ``.scr/index.scr``.

    Constructed as ``_tool.Wrapper``; the prefix is made absolute, for names are stored relative to it.
    ``is_native``: the work is done in this process, not by the site's executable.
    """

    _executable = "scr_index"

    def _prepare(self) -> None:
        self.is_native = self._tool is None
        self.prefix = paths.reduce_path(os.path.abspath(self.prefix))
        self._native = Native(self.prefix, self._context)

    def list(self) -> Optional[str]:
        """Return the table of checkpoints, None if the index is absent or cannot be read."""
        if self._tool is not None:
            result = self._tool.run("--prefix", self.prefix, "--list")
            return result.stdout if result.returncode == 0 else None
        try:
            return index.table_text(self._native.read(to_change=False)) + "\n"
        except FileNotFoundError:
            return None
        except (FormatError, OSError) as error:
            _tool.warn("cannot list the index: %s", error)
            return None

    def current(self, name: str) -> bool:
        """Make a checkpoint the one to restart from, and tell whether that worked."""
        return self._do("--current", name, lambda: self._native.set_current(name))

    def add(self, dset: str) -> bool:
        """Add a dataset by name, which needs its summary, and tell whether that worked."""
        return self._do("--add", dset, lambda: self._native.add(dset))

    def build(self, dset: DatasetId) -> bool:
        """Check and if need be rebuild a scavenged dataset, index it, and tell whether it is complete."""
        number = _tool.dataset_id(dset)
        return self._do("--build", str(number), lambda: self._native.build(number))

    def _do(self, option: str, value: str, native: Callable[[], object]) -> bool:
        if self._tool is not None:
            timeout_s = BUILD_TIMEOUT_S if option == "--build" else _tool.QUERY_TIMEOUT_S
            # One word, or a name that begins with "-" would be taken as an option.
            result = self._tool.run(
                "--prefix", self.prefix, f"{option}={value}", timeout_s=timeout_s
            )
            if result.returncode != 0:
                _tool.warn("scr_index %s %s: %s", option, value, result.stdout.strip())
            return result.returncode == 0
        try:
            return native() is not False
        except (ScrError, OSError) as error:
            _tool.warn("index of %s, %s %s: %s", self.prefix, option, value, error)
            return False


def _silent(text: str) -> None:
    """Take a message and forget it."""


class Native:
    """The operations in this process; also behind the command ``scr_index``.

    Args:
        prefix: absolute.
        context: whose clock is used; default: the machine's.
    """

    def __init__(self, prefix: str, context: Optional[Context] = None) -> None:
        self.prefix = prefix
        self.path = paths.index_file(prefix)
        self._context = context

    def read(self, *, to_change: bool = True) -> Index:
        """Return the index; ``to_change=False`` when it is only looked at.

        Raises:
            FormatError and children, OSError: see ``Index.read``.
        """
        return index.Index.read(self.path, to_change=to_change)

    def set_current(self, name: str) -> None:
        """Make a checkpoint the one to restart from.

        Raises:
            DatasetError: it is not listed, or no checkpoint.
            FormatError, OSError: the index cannot be read or written.
        """
        found = self.read()
        found.set_current(name)
        found.write(self.path)

    def drop(self, names: List[str]) -> List[str]:
        """Remove datasets from the index, all or none; returns the names that are not listed.

        Raises:
            FormatError, OSError: the index cannot be read or written.
        """
        found = self.read()
        unknown = [name for name in dict.fromkeys(names) if not found.remove(name)]
        if not unknown:
            found.write(self.path)
        return unknown

    def drop_after(self, name: str) -> List[str]:
        """Remove all datasets with a larger id than this one; returns [name] if it is not listed.

        Raises:
            FormatError, OSError: the index cannot be read or written.
        """
        found = self.read()
        number = found.id_of(name)
        if number is None:
            return [name]
        found.remove_later(number)
        found.write(self.path)
        return []

    def add(self, name: str, on_message: Callable[[str], None] = _silent) -> None:
        """Add the dataset of that name whose summary is found under the prefix.

        Raises:
            DatasetError: no such dataset, or more than one.
            FormatError: there is an index that cannot be read: it is not overwritten.
            OSError: the index cannot be written.
        """
        found = []
        for directory, descriptor, complete in self._summaries():
            if descriptor.text("NAME") == name:
                number = dataset.parse(descriptor).id
                on_message(f"Found `{name}' as dataset {number} at {directory}")
                found.append((number, descriptor, complete))
        if not found:
            raise DatasetError(f"No dataset found for `{name}'")
        if len(found) > 1:
            raise DatasetError(
                f"More than one dataset found for `{name}', use --build <id> to select one"
            )
        on_message(f"Adding `{name}' to index")
        number, descriptor, complete = found[0]
        try:
            listed = self.read()
        except FileNotFoundError:
            listed = index.Index()
        when = index.timestamp(_tool.clock_of(self._context).now())
        listed.put_complete(number, name, descriptor, complete=complete, when=when)
        listed.write(self.path)

    def _summaries(self) -> Iterator[Tuple[str, KVTree, bool]]:
        base = paths.scr_dir(self.prefix)
        try:
            names = sorted(os.listdir(base))
        except FileNotFoundError:
            return
        for name in names:
            directory = os.path.join(base, name)
            if not name.startswith("scr.dataset.") or os.path.islink(directory):
                continue
            try:
                found = summary.parse(kvtree.read(os.path.join(directory, "summary.scr")))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (FormatError, OSError) as error:
                _tool.warn("%s: cannot read its summary: %s", directory, error)
                continue
            if found.descriptor is not None:
                yield directory, found.descriptor, bool(found.complete)

    def build(
        self,
        dataset_id: int,
        on_message: Callable[[str], None] = _silent,
        *,
        relocations: Sequence[str] = (),
        force: bool = False,
        verify: Optional[bool] = None,
    ) -> bool:
        """Check and if need be rebuild a scavenged dataset, index it, and tell whether it is complete.

        ``on_message`` gets the lines that SCR's tool prints, without their newline. ``relocations``
        (``OLD=NEW``): recorded paths below OLD are really below NEW. ``force``: check all files although
        a summary says that they are there. ``verify``: do so, read them too, check recorded checksums and
        redundancy, and repair what has wrong bytes; None: if SCR_SCAVENGE_VERIFY says so.

        Raises:
            ScrError, OSError: see ``scrjob.redundancy.build.build_dataset``.
            ScavengeError: a scavenge or another build of the dataset is at work.
        """
        from scrjob.param import Param  # noqa: PLC0415 - for this only
        from scrjob.redundancy.build import build_dataset  # noqa: PLC0415 - heavy, for this only
        from scrjob.redundancy.paths import parse_relocation  # noqa: PLC0415 - same

        def check(built: Built) -> None:
            from scrjob.redundancy.verify import verify_dataset  # noqa: PLC0415 - heavy

            done = verify_dataset(built, {}, parity=True)
            for note in done.notes:
                on_message(f"scr_index: {note}")
            for path in done.repaired:
                on_message(f"scr_index: repaired {path}")

        if verify is None:
            environ = None if self._context is None else self._context.environ
            verify = Param(environ=environ, prefix=self.prefix).get_bool("SCR_SCAVENGE_VERIFY")
        host = os.uname().nodename if self._context is None else self._context.hostname
        moves = [parse_relocation(move) for move in relocations]
        with self._alone(dataset_id, host):
            return build_dataset(
                self.prefix,
                dataset_id,
                now=_tool.clock_of(self._context).now(),
                host=host,
                on_message=on_message,
                moves=moves,
                force=force or verify,
                verify=check if verify else None,
                audit={} if verify else None,
            )

    def _alone(self, dataset_id: int, host: str) -> ContextManager[None]:
        """Return what keeps out scavenges and other builds of a dataset."""
        from scrjob.redundancy.lock import one_at_a_time, process  # noqa: PLC0415 - for this only

        directory = paths.dataset_dir(self.prefix, dataset_id)
        if not os.path.isdir(directory):
            return contextlib.nullcontext()  # nothing to build
        return one_at_a_time(
            directory,
            clock=_tool.clock_of(self._context),
            who=f"a build {process(host, os.getpid())}",
            say=_silent,
            wait_s=0.0,
            # A scavenge runs the scr_index of SCR_BIN_DIR, which may be this one.
            parent=process(host, os.getppid()),
        )

# SPDX-License-Identifier: BSD-3-Clause
"""Finding plugins by name: a literal table for our own, entry points for everybody else's.

Entry points are scanned only when a name is not built in, because importlib.metadata costs tens of
milliseconds. Nobody can take the name of a built-in plugin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Optional

from scrjob.errors import PluginError, PluginLoadError

if TYPE_CHECKING:
    from scrjob.protocols import Context


class Plugin:
    """What all plugins share: the outside world is handed to them, not taken.

    The job environment calls ``bind`` after construction. A plugin that somebody constructs alone
    works on the real world.
    """

    _context: Optional[Context] = None

    @property
    def context(self) -> Context:
        """Return the environment, runner, clock and host name that this plugin may use."""
        if self._context is None:
            from scrjob._context import system_context  # noqa: PLC0415 - only for unbound plugins

            self._context = system_context()
        return self._context

    def bind(self, context: Context) -> None:
        """Use ``context`` from now on."""
        self._context = context


class PluginInfo(NamedTuple):
    """One known plugin: where it comes from and, if it could not be loaded, why."""

    name: str
    target: str
    origin: str
    error: Optional[str] = None


class Registry:
    """The plugins of one kind.

    Args:
        kind: for messages, e.g. "launcher".
        group: entry point group, e.g. "scrjob.launchers".
        builtin: name -> "module:Class"; names are matched without regard to case.
        hints: name -> what to install when the plugin does not import.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        builtin: Mapping[str, str],
        hints: Optional[Mapping[str, str]] = None,
    ) -> None:
        self.kind = kind
        self.group = group
        self._builtin = dict(builtin)
        self._hints = dict(hints or {})

    def names(self) -> list[str]:
        """Return all known names, built-in ones first."""
        return list(self._builtin) + sorted(set(self._external()) - set(self._builtin))

    def load(self, name: str) -> Any:
        """Return the plugin's class.

        Raises:
            PluginError: no plugin, or two outside plugins, of that name.
            PluginLoadError: it does not import; says what is missing.
        """
        wanted = name.lower()
        target = self._builtin.get(wanted)
        if target is None:
            found = {t for n, t in self._external_pairs() if n.lower() == wanted}
            if not found:
                raise PluginError(
                    f"unknown {self.kind} {name!r}; known: {', '.join(self.names()) or 'none'}"
                )
            if len(found) > 1:
                raise PluginError(
                    f"two packages offer {self.kind} {name!r}: {', '.join(sorted(found))}"
                )
            (target,) = found
        return self._import(name, target)

    def describe(self) -> list[PluginInfo]:
        """Return all plugins, each tried: its target, origin and the reason if it does not load."""
        rows = []
        pairs = [(n, t, "scrjob") for n, t in self._builtin.items()]
        pairs += [
            (n, t, "entry point")
            for n, t in sorted(self._external().items())
            if n not in self._builtin
        ]
        for name, target, origin in pairs:
            error = None
            try:
                self._import(name, target)
            except PluginLoadError as problem:
                error = str(problem)
            rows.append(PluginInfo(name, target, origin, error))
        return rows

    def _import(self, name: str, target: str) -> Any:
        module, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            hint = self._hints.get(name.lower(), "")
            raise PluginLoadError(
                f"{self.kind} {name!r} ({target}) cannot be loaded: {error}"
                + (f"; {hint}" if hint else "")
            ) from error

    def _external(self) -> dict[str, str]:
        return dict(self._external_pairs())

    def _external_pairs(self) -> list[tuple[str, str]]:
        from importlib import metadata  # noqa: PLC0415 - see the module docstring

        points: Any = metadata.entry_points()
        # 3.9 returns a dict of groups, newer versions an object with select().
        chosen = (
            points.select(group=self.group)
            if hasattr(points, "select")
            else points.get(self.group, ())
        )
        return sorted({(p.name, p.value) for p in chosen})

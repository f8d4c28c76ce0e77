# SPDX-License-Identifier: BSD-3-Clause
"""The published names of the established package stay importable with the same parameters."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

API = Path(__file__).parents[1] / "data" / "compat" / "api.txt"
LATER = {
    "launchers/aprun",
    "launchers/flux",
    "launchers/jsrun",
    "launchers/lrun",
    "launchers/mpirun",
    "remoteexec/flux",
    "resmgrs/flux",
    "resmgrs/lsf",
    "resmgrs/pbsalps",
    "resmgrs/pmix",
}
"""Systems whose plugins do not exist yet; an entry goes when its module comes."""


class Entry(NamedTuple):
    """One published function, or method if ``owner`` is set."""

    module: str
    owner: str
    name: str
    parameters: str

    def __str__(self) -> str:
        return f"{self.module}:{self.owner}{'.' if self.owner else ''}{self.name}"


def entries() -> list[Entry]:
    found = []
    module = owner = ""
    for line in API.read_text("utf-8").splitlines():
        if line.startswith("scrjob/"):
            module, owner = line[len("scrjob/") : -len(".py")], ""
        elif line.startswith("  class "):
            owner = re.split(r"[(]", line[len("  class ") :])[0]
        elif match := re.match(r"( +)(\w+)\((.*)\)$", line):
            if len(match[1]) == 2:
                owner = ""
            found.append(Entry(module, owner, match[2], match[3]))
    return found


ENTRIES = entries()
MODULES = sorted({entry.module for entry in ENTRIES})


def published(name: str) -> bool:
    return not name.startswith("_") or name in ("__init__", "__new__")


def parameters_of(text: str) -> list[tuple[str, Any]]:
    """Return names and defaults, ``inspect.Parameter.empty`` for none."""
    function = ast.parse(f"def f({text}): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    names = [argument.arg for argument in function.args.args]
    defaults = [ast.literal_eval(default) for default in function.args.defaults]
    empty = inspect.Parameter.empty
    return list(zip(names, [empty] * (len(names) - len(defaults)) + defaults))


def same_default(ours: Any, theirs: Any) -> bool:
    if theirs in ([], {}):  # a default that one call could change for the next
        return ours is None or ours == ()
    return bool(ours == theirs)


def test_the_list_is_whole() -> None:
    assert len(ENTRIES) > 100
    assert set(MODULES) > LATER - {"resmgrs/pmix"}


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if e.module not in LATER and published(e.name)], ids=str
)
def test_a_published_name_keeps_its_parameters(entry: Entry) -> None:
    target: Any = importlib.import_module(f"scrjob.{entry.module.replace('/', '.')}")
    if entry.owner:
        target = getattr(target, entry.owner)
    if entry.name == "__init__":
        signature = inspect.signature(target)
    else:
        signature = inspect.signature(getattr(target, entry.name))
    ours = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    theirs = parameters_of(entry.parameters)
    assert [p.name for p in ours[: len(theirs)]] == [name for name, _ in theirs]
    for parameter, (name, default) in zip(ours, theirs):
        assert same_default(parameter.default, default), f"{name}={parameter.default!r}"
        assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    for parameter in ours[len(theirs) :]:
        optional = parameter.default is not inspect.Parameter.empty
        assert optional or parameter.kind is inspect.Parameter.VAR_POSITIONAL, parameter.name


@pytest.mark.parametrize("module", sorted(LATER))
def test_what_comes_later_is_not_there_yet(module: str) -> None:
    """Nothing fake stands in for it, and the list above is kept true."""
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"scrjob.{module.replace('/', '.')}")

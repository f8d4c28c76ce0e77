# SPDX-License-Identifier: BSD-3-Clause
"""The tree of errors: one line each, picklable, with the documented exit codes."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import pytest

from scrjob import errors

PARTS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "CommandError": (
        (["srun", "-n", "2"],),
        {"returncode": 3, "stderr": "no\nway\n", "seconds": 1.5},
    ),
    "CommandNotFoundError": ((["srun"],), {"why": "No such file or directory"}),
    "CommandTimeoutError": ((["srun"],), {"why": "no answer within 5 s", "stdout": "half"}),
    "OutputParseError": (("sinfo", "garbage", "no columns"), {}),
    "RemoteExecError": (("cannot copy", {"n1": "dead"}), {}),
    "FormatError": (("wrong magic",), {"path": "/p/halt.scr", "offset": 4}),
    "TruncatedError": (("ends early",), {"path": "/p/halt.scr"}),
    "ChecksumError": (("crc",), {}),
    "UnsupportedVersionError": (("version 9",), {"path": "x", "offset": 0}),
}
ALL = [getattr(errors, name) for name in errors.__all__]


def make(kind: type[errors.ScrError]) -> errors.ScrError:
    arguments, options = PARTS.get(kind.__name__, (("what, where, what to do",), {}))
    return kind(*arguments, **options)


def test_every_error_is_listed() -> None:
    public = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException) and name[0] != "_"
    }
    assert public == set(errors.__all__)


@pytest.mark.parametrize("kind", ALL)
def test_pickles_with_all_its_parts(kind: type[errors.ScrError]) -> None:
    error = make(kind)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("kind", ALL)
def test_is_one_line_and_of_the_published_type(kind: type[errors.ScrError]) -> None:
    error = make(kind)
    assert isinstance(error, RuntimeError)
    assert str(error).splitlines() == [str(error)]
    assert isinstance(error.exit_code, int)


@pytest.mark.parametrize("kind", ALL)
def test_the_tree_in_the_docstring_has_it_with_its_code(kind: type[errors.ScrError]) -> None:
    lines = [line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__}" in line]
    assert len(lines) == 1
    (parent,) = kind.__bases__
    inherited = getattr(parent, "exit_code", None)
    if kind.exit_code != inherited:
        assert f"({kind.exit_code})" in lines[0]


def test_a_command_error_shows_the_end_of_what_was_said() -> None:
    error = errors.CommandError(["tool"], returncode=2, stderr="x" * 1000 + "\nthe cause\n")
    assert str(error).startswith("command failed: tool: exit code 2: ...x")
    assert str(error).endswith("x | the cause")
    assert len(str(error)) < 500


def test_a_remote_error_names_three_nodes_and_counts_the_rest() -> None:
    error = errors.RemoteExecError("cannot copy", {f"n{i}": "dead" for i in range(5)})
    assert str(error) == "cannot copy: n0: dead; n1: dead; n2: dead and 2 more"


def test_a_format_error_says_where() -> None:
    assert str(make(errors.FormatError)) == "/p/halt.scr: wrong magic at byte 4"
    assert str(errors.FormatError("wrong magic")) == "wrong magic"

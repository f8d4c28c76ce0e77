# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

import getopt
from typing import Optional, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrjob.errors import UsageError
from scrjob.launchers import _srun_options as options
from scrjob.launchers._srun_options import Part, node_range, number, parse, parse_help

PYXIS_HELP = """\
Usage: srun [OPTIONS(0)... [executable(0) [args(0)...]]]
  -N, --nodes=N               number of nodes on which to run (N = min[-max])
      --shiny[=level]         new in some release

Options provided by plugins:
      --container-image=[USER@][REGISTRY#]IMAGE[:TAG]|PATH
                              [pyxis] the image to use for the container
      --container-mount-home  [pyxis] bind mount the user's home directory
"""


def no_help() -> str:
    raise AssertionError("the help was asked for")


def one(*args: str, help_text: Optional[str] = None) -> Part:
    (part,) = parse(args, no_help if help_text is None else lambda: help_text)
    return part


@pytest.mark.parametrize(
    ("args", "name", "value"),
    [
        (["-N2", "prog"], "nodes", "2"),
        (["-N", "2", "prog"], "nodes", "2"),
        (["--nodes=2", "prog"], "nodes", "2"),
        (["--nodes", "2", "prog"], "nodes", "2"),
        (["--node=2", "prog"], "nodes", None),  # ambiguous: srun refuses it
        (["--ntasks-per-n=2", "prog"], "ntasks-per-node", "2"),
        (["--tasks-per-node=2", "prog"], "ntasks-per-node", "2"),
        (["-lvN2", "prog"], "nodes", "2"),
        (["-lvN", "2", "prog"], "nodes", "2"),
        (["-N1", "-N2", "prog"], "nodes", "2"),
        (["-v", "prog", "-N2"], "nodes", None),
        (["--", "prog", "-N2"], "nodes", None),
        (["-K0", "prog"], "kill-on-bad-exit", "0"),
        (["-K", "prog"], "kill-on-bad-exit", ""),
        (["-K", "0"], "kill-on-bad-exit", ""),
        (["--exclusive=user", "prog"], "exclusive", "user"),
        (["--exclusive", "prog"], "exclusive", ""),
        (["-xn1,n2", "prog"], "exclude", "n1,n2"),
        (["--nodelist=", "prog"], "nodelist", ""),
        (["-J", ":", "prog"], "job-name", ":"),
        (["-", "-N2"], "nodes", None),
        (["-N"], "nodes", ""),
    ],
)
def test_an_option_is_read_as_srun_reads_it(
    args: list[str], name: str, value: Optional[str]
) -> None:
    assert one(*args).value(name) == value


@pytest.mark.parametrize(
    ("args", "program"),
    [
        (["-n4", "-c", "2", "prog", "-x", "n1"], ["prog", "-x", "n1"]),
        (["--mpi", "pmix", "--cpu-bind", "none", "-v", "prog"], ["prog"]),
        (["--kill-on-bad-exit", "0", "prog"], ["0", "prog"]),
        (["--x11", "prog"], ["prog"]),
        (["--export=ALL,A=--b", "prog"], ["prog"]),
        (["--chdir", "-n", "prog"], ["prog"]),
        (["-lvo", "out", "prog"], ["prog"]),
        (["--multi-prog", "conf"], ["conf"]),
        (["--", "-prog"], ["-prog"]),
        (["-n2"], []),
    ],
)
def test_the_program_begins_behind_the_last_option(args: list[str], program: list[str]) -> None:
    assert list(one(*args).program) == program


def test_what_the_table_lacks_is_asked_of_srun() -> None:
    args = ["--container-image", "ubuntu", "--container-mount-home", "prog", "--container-image"]
    part = one(*args, help_text=PYXIS_HELP)
    assert part.value("container-image") == "ubuntu"
    assert list(part.program) == ["prog", "--container-image"]


def test_a_whole_name_is_no_abbreviation_of_a_longer_one() -> None:
    """--wait-for-children has no value."""
    part = one("--wait", "5", "prog")
    assert (part.value("wait"), list(part.program)) == ("5", ["prog"])


def test_an_abbreviation_of_a_sites_option_is_known_too() -> None:
    assert list(one("--container-im", "ubuntu", "prog", help_text=PYXIS_HELP).program) == ["prog"]


def test_what_nobody_knows_has_no_value() -> None:
    part = one("--surprise", "-N2", "prog", help_text=PYXIS_HELP)
    assert part.value("nodes") == "2"
    assert list(part.program) == ["prog"]


def test_with_an_equals_sign_nobody_needs_to_know_it() -> None:
    assert list(one("--container-image=ubuntu", "prog").program) == ["prog"]


def test_the_help_tells_values() -> None:
    assert parse_help(PYXIS_HELP) == {
        "nodes": options.NEEDED,
        "shiny": options.OPTIONAL,
        "container-image": options.NEEDED,
        "container-mount-home": options.NONE,
    }


def test_parts_are_joined_by_a_colon_wherever_it_stands() -> None:
    first, second, third = parse(
        ["-N1", "a", "x", ":", "-N2", ":", "-N3", "b", "-w", "n1"], no_help
    )
    assert [part.value("nodes") for part in (first, second, third)] == ["1", "2", "3"]
    assert [list(part.program) for part in (first, second, third)] == [
        ["a", "x"],
        [],
        ["b", "-w", "n1"],
    ]


@pytest.mark.parametrize(
    ("args", "left"),
    [
        (["-lx", "n1", "-N2"], ["-l", "-N2"]),
        (["-lvxn1"], ["-l", "-v"]),
        (["-lK1", "--exclude=n1"], ["-lK1"]),
        (["-x", "n1", "--exclud", "n2", "--mpi=none"], ["--mpi=none"]),
    ],
)
def test_options_are_left_out_and_their_neighbours_stay(args: list[str], left: list[str]) -> None:
    assert one(*args, "prog").without("exclude") == left


WORD = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        [
            "-N2",
            "-N",
            "--nodes=3",
            "--mpi",
            "-K",
            "-lv",
            "--",
            "-",
            "--exact",
            "prog",
            "--x",
            "",
            ":",
        ]
    ),
)


@given(st.lists(WORD, max_size=12))
def test_every_word_comes_back_as_it_was(args: list[str]) -> None:
    rebuilt: list[str] = []
    for at, part in enumerate(parse(args, lambda: "")):
        rebuilt += [*([":"] if at else []), *part.without(), *part.program]
    assert rebuilt == args


@given(st.lists(WORD, max_size=12))
def test_left_out_options_take_nothing_else_along(args: list[str]) -> None:
    for part in parse(args, lambda: ""):
        left = part.without("exclude", "nodelist")
        assert set("".join(left)) <= set("".join(args)) | {"-"}
        (again,) = parse([*left, "--"], lambda: "") or [None]
        assert again is None or not again.has("exclude", "nodelist")


LETTERS = "lvsXN:n:x:c:"
NAMES = ["nodes=", "exclude=", "exact", "contiguous", "ntasks=", "label"]
PLAIN = st.sampled_from(
    [
        "-l",
        "-lv",
        "-N2",
        "-N",
        "-lN",
        "-xn1",
        "--nodes",
        "--nodes=1",
        "--exact",
        "--contig",
        "2",
        "a",
        "--",
    ]
)


@given(st.lists(PLAIN, max_size=8))
def test_the_program_is_where_getopt_has_it(args: Sequence[str]) -> None:
    """Python's getopt is the oracle, for options with and without value."""
    try:
        _, rest = getopt.getopt(list(args), LETTERS, NAMES)
    except getopt.GetoptError:
        return  # srun says so
    assert list(one(*args).program) == rest


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4", (4, 4)), ("2-4", (2, 4)), ("1k", (1024, 1024)), ("1K-2k", (1024, 2048)), ("+3", (3, 3))],
)
def test_numbers_of_nodes(text: str, expected: tuple[int, int]) -> None:
    assert node_range(text) == expected


@pytest.mark.parametrize("text", ["", "x", "0", "4-2", "-2", "2-", "1,2", "=4", "٣"])
def test_what_is_no_number_of_nodes(text: str) -> None:
    with pytest.raises(UsageError, match="--nodes="):
        node_range(text)


def test_numbers_of_tasks() -> None:
    assert number("ntasks", None) is None
    assert number("ntasks", "12") == 12
    for text in ("", "0", "=4", "four"):
        with pytest.raises(UsageError, match="--ntasks="):
            number("ntasks", text)

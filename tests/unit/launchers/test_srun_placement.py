# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence

import pytest

from scrjob.errors import UsageError
from scrjob.launchers import _srun_placement as placement
from scrjob.launchers._srun_options import Part, parse

NODES = ["n1", "n2", "n3", "n4", "n5"]
FIVE = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NODELIST": "n[1-5]",
    "SLURM_JOB_CPUS_PER_NODE": "4(x5)",
    "SLURM_NNODES": "5",
}
FILES = {"./list": "n3\nn[4-5]\n"}


def parts(text: str) -> list[Part]:
    return parse(text.split(), lambda: "")


def nodes_of(
    text: str, candidates: Sequence[str] = NODES, environ: Optional[Mapping[str, str]] = None
) -> list[list[str]]:
    placed = placement.place(
        parts(text), candidates, {**FIVE, **(environ or {})}, FILES.__getitem__
    )
    return [one.nodes for one in placed]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("-N2 a", 2),
        ("-N2-3 a", 3),
        ("-N2-9 a", 5),
        ("-N4 -n2 a", 2),  # as srun does: "can't run 2 processes on 4 nodes"
        ("-n1 a", 1),
        ("-n4 a", 1),
        ("-n5 a", 2),
        ("-n20 a", 5),
        ("-n6 -c2 a", 3),
        ("-n8 --ntasks-per-node=2 a", 4),
        ("-n3 --hint=nomultithread a", 3),  # only Slurm knows what fits
        ("-n40 -O a", 5),
        ("-n99 a", 5),  # srun says that it is too much
        ("a", 5),
        ("--ntasks-per-node=2 a", 5),
    ],
)
def test_a_step_takes_the_first_nodes(text: str, count: int) -> None:
    assert nodes_of(text) == [NODES[:count]]


def test_candidates_keep_their_order() -> None:
    assert nodes_of("-N2 a", ["n4", "n2", "n1"]) == [["n4", "n2"]]


def test_nodes_with_few_cpus_are_more_nodes() -> None:
    environ = {"SLURM_JOB_CPUS_PER_NODE": "1(x2),8,4(x2)"}
    assert nodes_of("-n8 a", environ=environ) == [["n1", "n2", "n3"]]


def test_nodes_whose_cpus_are_not_known_are_taken_as_srun_does() -> None:
    assert nodes_of("-n3 a", environ={"SLURM_JOB_CPUS_PER_NODE": "many"}) == [NODES[:3]]
    assert nodes_of("-n3 a", ["n1", "m1", "m2", "m3"]) == [["n1", "m1", "m2"]]


@pytest.mark.parametrize(
    ("environ", "text", "count"),
    [
        ({"SRUN_CPUS_PER_TASK": "4"}, "-n3 a", 3),
        ({"SLURM_CPUS_PER_TASK": "4"}, "-n3 a", 3),  # of salloc: an option of older sruns
        ({"SLURM_CPUS_PER_TASK": "4"}, "-n3 -c1 a", 1),
        ({"SLURM_NTASKS_PER_NODE": "1"}, "-n3 a", 3),
        ({"SLURM_NTASKS": "3"}, "a", 3),
        ({"SLURM_NTASKS": "3"}, "-N4 a", 3),
        ({"SLURM_NTASKS": "10"}, "-N4 a", 4),
    ],
)
def test_sruns_variables_count_as_its_options_do(
    environ: dict[str, str], text: str, count: int
) -> None:
    assert nodes_of(text, environ=environ) == [NODES[:count]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-w n4,n2 a", ["n4", "n2"]),
        ("-w n[4-5] -N1 a", ["n4"]),
        ("-w n4 -N3 a", ["n4", "n1", "n2"]),
        ("-w n2,n2,n4*2 a", ["n2", "n4"]),
        ("-w ./list a", ["n3", "n4", "n5"]),
        ("-x n1,n3 -N3 a", ["n2", "n4", "n5"]),
        ("-x ./list a", ["n1", "n2"]),
        ("-w n1 -x n1 -N1 a", ["n2"]),
    ],
)
def test_the_users_own_lists(text: str, expected: list[str]) -> None:
    assert nodes_of(text) == [expected]


def test_another_node_stands_in_for_a_bad_one_that_the_user_named() -> None:
    assert nodes_of("-w n4,n2 a", ["n1", "n2", "n3"]) == [["n2", "n1"]]


@pytest.mark.parametrize("text", ["-N6 a", "-N6-7 a", "-w n1,n2,n3 -x n1,n2,n3 a", "-x n[1-5] a"])
def test_too_few_nodes(text: str) -> None:
    with pytest.raises(UsageError, match=r"nodes wanted, [025] can be used"):
        nodes_of(text)


def test_parts_of_a_step_share_no_node() -> None:
    assert nodes_of("-N2 a : -n8 b : -N1 -w n1 c") == [["n1", "n2"], ["n3", "n4"], ["n5"]]
    with pytest.raises(UsageError, match="each part of a step"):
        nodes_of("-N2 a : b")
    with pytest.raises(UsageError, match="2 nodes wanted, 1 can be used"):
        nodes_of("-N4 a : -N2 b")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("-N2 a", 2),
        ("-N2-4 a", 2),
        ("-n8 a", 2),
        ("a", None),
        ("-N2 a : -n8 b", 4),
        ("-N2 a : b", None),
        ("-w n1 a", None),
    ],
)
def test_what_the_user_asks_for_is_told(text: str, wanted: Optional[int]) -> None:
    assert placement.nodes_wanted(parts(text), FIVE) == wanted


def test_without_an_allocation_only_plain_numbers_of_nodes_are_told() -> None:
    assert placement.nodes_wanted(parts("-n8 a"), {}) is None
    assert placement.nodes_wanted(parts("-N2 a"), {}) == 2


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("-r2 a", "--relative: scr_run chooses"),
        ("-F list a", "--nodefile: scr_run chooses"),
        ("--het-group=1 a", "--het-group: only jobs of one"),
        ("--pack-group=1 a", "--het-group: only jobs of one"),
        ("-Z a", "--no-allocate"),
        ("-m arbitrary a", "--distribution=arbitrary"),
        ("--jobid=8 a", "--jobid=8"),
        ("-w n[4-6],login a", r"--nodelist: n6,login not in this allocation of n\[1-5\]"),
        ("-N2", "no program"),
        ("a : -N2", "no program"),
    ],
)
def test_what_cannot_avoid_nodes_is_refused(text: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        placement.check(parts(text), FIVE, FILES.__getitem__)


def test_what_is_not_refused() -> None:
    read = FILES.__getitem__
    placement.check(parts("--jobid=7 -m block:cyclic --multi-prog a"), FIVE, read)
    placement.check(parts("-N1 : -N1 a"), {**FIVE, "SLURM_HET_SIZE": "1"}, read)
    placement.check(parts("-w ./list a"), FIVE, read)
    placement.check(parts("-w n9 a"), {"SLURM_JOB_ID": "7"}, read)


def test_a_heterogeneous_job_is_refused() -> None:
    with pytest.raises(UsageError, match="heterogeneous job"):
        placement.check(parts("a"), {**FIVE, "SLURM_HET_SIZE": "2"}, FILES.__getitem__)


def words(text: str, environ: Optional[Mapping[str, str]] = None, **how: Any) -> list[str]:
    placed = placement.Placed(parts(text)[0], ["n1", "n2"])
    given = {"overlap": False, "nodelist": "n[1-2]", "exclude": "n[3-5]", **how}
    extra = placement.extra_words(placed, {**FIVE, **(environ or {})}, **given)
    return [*extra, *placement.user_words(placed, overlap=given["overlap"])]


def test_both_lists_are_on_the_command_line() -> None:
    """Lesson B2: nodes to use and nodes to avoid reach srun."""
    assert words("-N2 -l a -x") == [
        "--nodelist=n[1-2]",
        "--exclude=n[3-5]",
        "--kill-on-bad-exit=1",
        *["-N2", "-l", "a", "-x"],
    ]


def test_the_users_lists_do_not_replace_ours() -> None:
    assert words("-N2 -w n1 -lx n4 a")[3:] == ["-N2", "-l", "a"]


def test_without_a_number_of_nodes_srun_would_take_the_allocations() -> None:
    assert words("a")[0] == "--nodes=2"
    assert not any(word.startswith("--nodes=") for word in words("-N1-2 a"))


def test_an_empty_list_is_no_option() -> None:
    assert not any(word.startswith("--exclude") for word in words("a", exclude=""))


@pytest.mark.parametrize("text", ["-K0 a", "-K a", "-k a", "--no-kill=off a", "-W30 a"])
def test_who_says_when_a_step_ends_is_obeyed(text: str) -> None:
    assert "--kill-on-bad-exit=1" not in words(text)


@pytest.mark.parametrize("name", ["SLURM_KILL_BAD_EXIT", "SLURM_NO_KILL", "SLURM_WAIT"])
def test_a_variable_says_when_a_step_ends_too(name: str) -> None:
    assert "--kill-on-bad-exit=1" not in words("a", {name: "0"})


def test_overlapping() -> None:
    assert "--overlap" not in words("a")
    assert words("-l a", overlap=True)[-3:] == ["--overlap", "-l", "a"]


def test_exclusive_and_overlapping_are_refused_by_srun() -> None:
    assert words("--exclusive -l a", overlap=True)[-4:] == ["--overlap", "--exact", "-l", "a"]
    assert words("--exclusive -l a")[-3:] == ["--exclusive", "-l", "a"]
    assert "--exact" in words("a", {"SLURM_EXCLUSIVE": ""}, overlap=True)
    clean = placement.clean_environ({"SLURM_EXCLUSIVE": ""}, parts("a"), overlap=True)
    assert clean == {}
    assert placement.clean_environ({"SLURM_EXCLUSIVE": ""}, parts("a")) == {"SLURM_EXCLUSIVE": ""}


SHAPE = {
    "SLURM_NTASKS": "1",
    "SLURM_NPROCS": "1",
    "SLURM_DISTRIBUTION": "cyclic",
    "SLURM_CPU_BIND": "quiet",
    "SLURM_CPU_BIND_LIST": "0x1",
    "SLURM_MEM_BIND_TYPE": "none",
}


def test_the_shape_of_an_enclosing_step_is_not_ours() -> None:
    stays = {"SLURM_NTASKS_PER_NODE": "2", "SLURM_MPI_TYPE": "pmix", "HOME": "/"}
    inside = {**SHAPE, **stays, "SLURM_STEP_ID": "3"}
    assert placement.clean_environ(inside, parts("a")) == {**stays, "SLURM_STEP_ID": "3"}


@pytest.mark.parametrize("step", [{}, {"SLURM_STEP_ID": "4294967290"}])
def test_the_shape_of_the_allocation_is_ours(step: dict[str, str]) -> None:
    assert placement.clean_environ({**SHAPE, **step}, parts("a")) == {**SHAPE, **step}


def test_tasks_that_were_counted_for_all_nodes_are_counted_anew() -> None:
    """A job with spare nodes: five nodes of two tasks are ten tasks, and srun wants them on four."""
    counted = {**FIVE, "SLURM_NTASKS": "10", "SLURM_NPROCS": "10", "SLURM_NTASKS_PER_NODE": "2"}
    clean = placement.clean_environ(counted, parts("-N4 a"))
    assert clean == {**FIVE, "SLURM_NTASKS_PER_NODE": "2"}
    assert placement.clean_environ(counted, parts("-n8 a")) == counted
    ordered = {**counted, "SLURM_NTASKS": "9"}
    assert placement.clean_environ(ordered, parts("-N4 a")) == ordered
    assert nodes_of("-N4 a", environ=counted) == [NODES[:4]]


def test_the_allocation_of_the_environment() -> None:
    assert placement.allocated_nodes(FIVE) == NODES
    assert placement.allocated_nodes({"SLURM_NODELIST": "n1"}) == ["n1"]
    assert placement.allocated_nodes({}) == []
    cpus = placement.allocated_cpus({**FIVE, "SLURM_JOB_CPUS_PER_NODE": "72(x2),36(x3)"})
    assert list(cpus.values()) == [72, 72, 36, 36, 36]
    assert placement.allocated_cpus({}) == {}

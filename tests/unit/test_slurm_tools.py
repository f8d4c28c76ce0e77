# SPDX-License-Identifier: BSD-3-Clause
"""What all calls of Slurm's tools have in common."""

from __future__ import annotations

import pytest

from scrjob._slurm import fits, fold_nodes, tool_environ


def test_a_users_own_settings_of_the_tools_are_left_out() -> None:
    typed = {
        "SQUEUE_FORMAT": "%i",
        "SQUEUE_PARTITION": "debug",
        "SINFO_FORMAT": "%N",
        "SCONTROL_FEDERATION": "1",
        "SCANCEL_INTERACTIVE": "1",
    }
    kept = {"PATH": "/bin", "SLURM_CONF": "/etc/slurm.conf", "SLURM_JOB_ID": "1"}
    assert tool_environ({**typed, **kept}) == kept


def test_of_several_clusters_the_jobs_own_is_asked() -> None:
    environ = {"SLURM_CLUSTERS": "red,green", "SLURM_CLUSTER_NAME": "green"}
    assert tool_environ(environ)["SLURM_CLUSTERS"] == "green"
    assert "SLURM_CLUSTERS" not in tool_environ({"SLURM_CLUSTERS": "red"})
    assert "SLURM_CLUSTERS" not in tool_environ({"SLURM_CLUSTER_NAME": "green"})


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["n3", "n1", "n2"], "n[1-3]"),
        (["n08", "n09", "n10"], "n[08-10]"),
        (["r1n1", "r1n2", "r2n1", "r2n2"], "r[1-2]n[1-2]"),
        (["n1-ib", "n2-ib", "m1"], "m1,n1-ib,n2-ib"),
        (["x1c0s0b0n0", "x1c1s0b0n0"], "x1c0s0b0n0,x1c1s0b0n0"),
        (["a-b.c"], "a-b.c"),
        ([], ""),
    ],
)
def test_lists_are_such_as_slurm_understands(names: list[str], text: str) -> None:
    """``scontrol show hostnames 'n[1-2]-ib'``: Invalid hostlist (22.05)."""
    assert fold_nodes(names) == text


def test_a_list_must_fit_into_an_argument() -> None:
    assert fits(fold_nodes(f"frontier{number:05}" for number in range(10_000)))
    assert not fits("n" * 100_000)
    assert not fits("\u00e9" * 60_000)

# SPDX-License-Identifier: BSD-3-Clause
"""prerun, should_exit, list_down_nodes and postrun as functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripted_cluster import Cluster
from scrjob.errors import ConfigError, NotInAllocationError, SupervisorActiveError
from scrjob.list_down_nodes import list_down_nodes
from scrjob.model import NodeDown
from scrjob.prerun import prerun
from scrjob.should_exit import exit_reason, nodes_needed, nodes_remaining, should_exit
from scrjob.supervisor.state import RUNNING, JobState

NODES = ["n1", "n2", "n3", "n4"]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    (tmp_path / ".scr").mkdir()
    return Cluster(tmp_path, NODES, [])


def files(cluster: Cluster) -> set[str]:
    return {path.name for path in (cluster.prefix / ".scr").iterdir()}


def write_nodes(cluster: Cluster, count: int) -> None:
    from scrjob.formats import kvtree, nodes

    kvtree.write(str(cluster.prefix / ".scr" / "nodes.scr"), nodes.build(count))


class TestPrerun:
    def test_a_new_job_forgets_the_former_ones_files(self, cluster: Cluster) -> None:
        cluster.dataset(1)
        write_nodes(cluster, 3)
        prerun(cluster.jobenv())
        assert files(cluster) == {"scrjob.42"}

    def test_a_second_start_in_the_same_job_keeps_them(self, cluster: Cluster) -> None:
        """Lesson B10 and the second scr_run in one allocation."""
        prerun(cluster.jobenv())
        cluster.dataset(1)
        write_nodes(cluster, 3)
        cluster.halt_with("SCR_FINALIZE_CALLED")
        prerun(cluster.jobenv())
        assert {"flush.scr", "nodes.scr"} <= files(cluster)
        assert cluster.halt_reason() == "SCR_FINALIZE_CALLED"

    def test_a_requeued_job_starts_anew(self, cluster: Cluster) -> None:
        """It has the same id, but other nodes and no running step."""
        cluster.restart_count = lambda: 1  # type: ignore[method-assign]
        before = Cluster(cluster.prefix, NODES, [])
        prerun(before.jobenv())
        with JobState(before.jobenv()) as state:
            state.condemn(NodeDown("n1", "gone"))
            state.save(RUNNING)
        cluster.dataset(1)
        write_nodes(cluster, 3)
        cluster.halt_with("SCRJOB_SIGNAL")
        prerun(cluster.jobenv())
        assert files(cluster) == {"scrjob.42", "halt.scr"}
        assert cluster.halt_reason() is None
        with JobState(cluster.jobenv()) as state:
            assert not state.known
            assert state.bad_nodes() == {}
            assert state.former_start() == (
                "job 42 was requeued: its supervisor on login1 was lost in phase 'running'"
            )
            state.save(RUNNING)
        cluster.dataset(1)
        prerun(cluster.jobenv())  # a second start within the requeued job
        assert "flush.scr" in files(cluster)
        with JobState(cluster.jobenv()) as state:
            assert state.known
            assert state.former_start() == ""

    def test_a_directory_without_a_count_is_of_a_first_start(self, cluster: Cluster) -> None:
        """An earlier version of scrjob wrote none."""
        prerun(cluster.jobenv())
        (cluster.prefix / ".scr/scrjob.42/restart_count").unlink()
        cluster.dataset(1)
        prerun(cluster.jobenv())
        assert "flush.scr" in files(cluster)
        cluster.restart_count = lambda: 1  # type: ignore[method-assign]
        prerun(cluster.jobenv())
        assert "flush.scr" not in files(cluster)

    def test_a_shell_without_the_count_is_no_new_start(self, cluster: Cluster) -> None:
        cluster.restart_count = lambda: 2  # type: ignore[method-assign]
        prerun(cluster.jobenv())
        cluster.dataset(1)
        cluster.restart_count = lambda: 0  # type: ignore[method-assign]
        prerun(cluster.jobenv())
        assert "flush.scr" in files(cluster)

    def test_a_supervisor_of_the_former_start_is_not_pushed_aside(self, cluster: Cluster) -> None:
        with JobState(cluster.jobenv()) as state:
            state.save(RUNNING)
            cluster.dataset(1)
            cluster.restart_count = lambda: 1  # type: ignore[method-assign]
            with pytest.raises(SupervisorActiveError, match="start before still holds"):
                prerun(cluster.jobenv())
        assert "flush.scr" in files(cluster)

    def test_the_lock_of_a_dead_batch_host_is_waited_for(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file server keeps it until the lease of the host is over."""
        holder = JobState(cluster.jobenv())
        sleep = cluster.clock.sleep

        def lease(seconds: float) -> None:
            sleep(seconds)
            if cluster.clock.monotonic() > 90.0:
                holder.__exit__()

        monkeypatch.setattr(cluster.clock, "sleep", lease)
        with holder:
            cluster.dataset(1)
            cluster.restart_count = lambda: 1  # type: ignore[method-assign]
            prerun(cluster.jobenv())
        assert cluster.clock.monotonic() > 90.0
        assert "flush.scr" not in files(cluster)

    def test_excluded_nodes_that_are_not_of_the_job_are_told(
        self, cluster: Cluster, caplog: pytest.LogCaptureFixture
    ) -> None:
        prerun(cluster.jobenv(SCR_EXCLUDE_NODES="n2 n[07-09]"))
        names = "SCR_EXCLUDE_NODES names nodes that are not of this allocation: n[07-09]"
        assert caplog.messages == [names]
        caplog.clear()
        # n4 is of the allocation, though not one of those to use
        prerun(cluster.jobenv(SCR_EXCLUDE_NODES="n4", SCR_NODELIST="n[1-3]"))
        assert caplog.messages == []

    def test_excluded_nodes_that_make_no_sense_are_refused(self, cluster: Cluster) -> None:
        with pytest.raises(ConfigError, match="SCR_EXCLUDE_NODES: host list"):
            prerun(cluster.jobenv(SCR_EXCLUDE_NODES="n[1"))

    @pytest.mark.parametrize("reason", ["SCR_FINALIZE_CALLED", "TIME_LIMIT", "SCRJOB_SIGNAL"])
    def test_a_new_job_is_not_halted_by_a_former_one(self, cluster: Cluster, reason: str) -> None:
        cluster.halt_with(reason)
        prerun(cluster.jobenv())
        assert cluster.halt_reason() is None

    def test_a_users_halt_stays(self, cluster: Cluster) -> None:
        cluster.halt_with("JOB_HALTED")
        prerun(cluster.jobenv())
        assert cluster.halt_reason() == "JOB_HALTED"

    def test_disabled_does_nothing(self, cluster: Cluster) -> None:
        cluster.dataset(1)
        prerun(cluster.jobenv(SCR_ENABLE="0"))
        assert files(cluster) == {"flush.scr"}

    def test_no_allocation_is_one_clear_line(self, cluster: Cluster) -> None:
        cluster.nodes = []
        with pytest.raises(NotInAllocationError, match="scr_local alloc"):
            prerun(cluster.jobenv())

    def test_nodes_that_are_not_of_the_allocation(self, cluster: Cluster) -> None:
        with pytest.raises(ConfigError, match=r"SCR_NODELIST.* n9"):
            prerun(cluster.jobenv(SCR_NODELIST="n1,n9"))

    def test_another_job_that_is_alive_in_the_prefix(self, cluster: Cluster) -> None:
        """Lesson B10: what a living job has written is not a former job's."""
        prerun(cluster.jobenv())
        cluster.dataset(1)
        with JobState(cluster.jobenv()), pytest.raises(SupervisorActiveError, match="SCR_PREFIX"):
            prerun(cluster.jobenv(SCR_JOB_ID="other"))
        assert "flush.scr" in files(cluster)
        prerun(cluster.jobenv(SCR_JOB_ID="other"))
        assert "flush.scr" not in files(cluster)

    def test_a_prefix_that_cannot_be_made(self, cluster: Cluster) -> None:
        cluster.prefix = cluster.prefix / "file" / "below"
        (cluster.prefix.parent).write_text("no directory")
        with pytest.raises(ConfigError, match="set SCR_PREFIX"):
            prerun(cluster.jobenv())


class TestShouldExit:
    def test_nothing_speaks_against_a_run(self, cluster: Cluster) -> None:
        assert exit_reason(cluster.jobenv()) is None
        assert should_exit(cluster.jobenv()) is False

    def test_a_halt_condition_stops(self, cluster: Cluster) -> None:
        cluster.halt_with("JOB_HALTED")
        assert "JOB_HALTED" in (exit_reason(cluster.jobenv()) or "")
        assert should_exit(cluster.jobenv()) is True

    def test_too_few_nodes_stop(self, cluster: Cluster) -> None:
        reason = exit_reason(cluster.jobenv(), ["n2", "n3"])
        assert reason == "nodes_remaining=2 < nodes_needed=4"

    def test_unknown_nodes_are_an_error(self, cluster: Cluster) -> None:
        cluster.nodes = []
        with pytest.raises(RuntimeError, match="SCR_NODELIST"):
            should_exit(cluster.jobenv())

    def test_nodes_needed_in_order_of_sources(self, cluster: Cluster) -> None:
        assert nodes_needed(cluster.jobenv(), NODES) == 4
        write_nodes(cluster, 3)
        assert nodes_needed(cluster.jobenv(), NODES) == 3
        assert nodes_needed(cluster.jobenv(SCR_MIN_NODES="2"), NODES) == 2

    @pytest.mark.parametrize("text", ["many", "0", "-1", "2.5"])
    def test_a_bad_number_of_nodes_is_an_error(self, cluster: Cluster, text: str) -> None:
        with pytest.raises(ConfigError, match="SCR_MIN_NODES"):
            nodes_needed(cluster.jobenv(SCR_MIN_NODES=text), NODES)

    def test_nodes_are_counted_once(self) -> None:
        assert nodes_remaining(["n1", "n2", "n2"], ["n2", "n9"]) == 1


class Log:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def event(self, label: str, **fields: Any) -> bool:
        self.events.append((label, fields))
        return True


class TestListDownNodes:
    def test_reasons_and_list_have_their_own_types(self, cluster: Cluster) -> None:
        """Lesson A4: the type of the answer depends on the flag only."""
        cluster.down = {"n3": "drained"}
        cluster.silent = {"n2"}
        assert list_down_nodes(cluster.jobenv()) == ["n2", "n3"]
        assert list_down_nodes(cluster.jobenv(), reason=True) == {
            "n3": "drained",
            "n2": "Failed to echo: no answer within 15 s",
        }

    def test_each_is_logged(self, cluster: Cluster) -> None:
        """Lesson A4: logging does not change the answer."""
        cluster.down = {"n3": "drained", "n1": "down"}
        log = Log()
        assert list_down_nodes(cluster.jobenv(), log=log, secs=5) == ["n1", "n3"]
        assert [fields["note"] for _, fields in log.events] == ["n1: down", "n3: drained"]
        assert {fields["secs"] for _, fields in log.events} == {5}

    def test_known_ones_are_not_tested(self, cluster: Cluster) -> None:
        found = list_down_nodes(cluster.jobenv(), nodes_down=["n2"], reason=True)
        assert found == {"n2": "Specified as down"}

    def test_excluded_by_the_user(self, cluster: Cluster) -> None:
        found = list_down_nodes(cluster.jobenv(SCR_EXCLUDE_NODES="n[2-3]"))
        assert found == ["n2", "n3"]

    def test_no_nodes_is_a_runtime_error(self, cluster: Cluster) -> None:
        cluster.nodes = []
        with pytest.raises(RuntimeError):
            list_down_nodes(cluster.jobenv())

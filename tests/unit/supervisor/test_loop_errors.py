# SPDX-License-Identifier: BSD-3-Clause
"""What goes wrong in the middle of the loop: no answer, odd plugins, signals at bad moments."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from scripted_cluster import Cluster, Launcher, Step
from scripted_job import Job
from scrjob.errors import CommandTimeoutError, NotInAllocationError, ScrError, UsageError
from scrjob.formats import kvtree, nodes
from scrjob.run import run

NO_ANSWER = CommandTimeoutError(["ask"], why="no answer within 5 s")


def fails(what: str, error: Exception = NO_ANSWER) -> Callable[[Cluster], None]:
    return lambda cluster: cluster.failing.update({what: error})


def report(job: Job) -> Any:
    return json.loads((job.cluster.prefix / ".scr" / "scrjob.42" / "report.json").read_text())


def run_with(job: Job, launcher: Any, **environ: str) -> int:
    jobenv = job.cluster.jobenv(**environ)
    jobenv.launcher = launcher
    signals = job.cluster.signals
    return run("scripted", ["./app"], jobenv=jobenv, say=job.told.append, signals=signals)


class TestManagerWithoutAnswer:
    def test_an_unknown_end_does_not_end_the_job(self, tmp_path: Path) -> None:
        """Unknown is not "over": neither at the start, nor between runs."""
        job = Job(tmp_path, [Step(5, 7), Step()])
        job.cluster.failing["end_time"] = NO_ANSWER
        assert job.run(SCR_RUNS="2") == 0
        assert job.cluster.environs[1]["SCR_END_TIME"] == "0"

    def test_the_last_known_end_holds(self, tmp_path: Path) -> None:
        job = Job(tmp_path, [Step(5, 7, at={1: fails("end_time")}), Step()])
        job.cluster.end = int(job.cluster.clock.now()) + 10_000
        assert job.run(SCR_RUNS="2") == 0
        assert job.cluster.environs[1]["SCR_END_TIME"] == str(job.cluster.end)

    def test_down_nodes_that_cannot_be_asked(self, tmp_path: Path) -> None:
        job = Job(tmp_path, [Step(5, 7, at={1: fails("down_nodes")}), Step()])
        assert job.run(SCR_RUNS="2") == 0
        assert job.state()["bad_nodes"] == {}

    def test_a_chosen_set_of_nodes_is_believed_until_the_ranks_report(self, tmp_path: Path) -> None:
        """A spare that dies is none of the run's business, however few nodes the ranks took."""

        class Choosing(Launcher):
            def chosen_nodes(self, jobstep: Any) -> Any:
                return ["n1", "n2"]

        job = Job(tmp_path, [Step(10, at={5: lambda c: c.kill_node("n5")})], wanted=0)
        assert run_with(job, Choosing(job.cluster)) == 0
        assert job.causes() == ["success"]

    def test_an_end_that_becomes_known_late_leaves_time_to_save(self, tmp_path: Path) -> None:
        """Lesson B8: the end was unknown at the start; the reserve is a share of what is left then."""

        def limit(cluster: Cluster) -> None:
            cluster.end = int(cluster.clock.now()) + 1000

        job = Job(tmp_path, [Step(None, at={100: limit}, ends_on_halt=True)])
        assert job.run() == 75
        assert job.cluster.clock.now() < job.cluster.end - 60


class TestSavesAndEndsTheStep:
    @pytest.mark.parametrize("error", [ScrError("odd"), OSError(5, "odd"), KeyError("odd")])
    def test_an_error_while_a_step_runs(self, tmp_path: Path, error: Exception) -> None:
        """The step does not outlive its supervisor, and what is in cache is saved all the same."""

        class Odd(Launcher):
            def wait_run(self, proc: Any = None, timeout: Optional[float] = None) -> Any:
                raise error

        job = Job(tmp_path, [Step(None)])
        with pytest.raises(type(error), match="odd"):
            run_with(job, Odd(job.cluster))
        assert job.cluster.kills == 1
        assert job.state()["phase"] == "done"
        assert report(job)["newest_safe"] is True
        # Who catches the error tells it, so that it is said once.
        assert "stopped by an error; saving what is in cache" in job.told
        assert not [line for line in job.told if "odd" in line]

    @pytest.mark.parametrize("before", [0, 1])
    def test_before_anything_ran_an_error_is_all_that_is_said(
        self, tmp_path: Path, before: int
    ) -> None:
        """Also in a second scr_run of the same job."""
        job = Job(tmp_path, [Step()] * before)
        for _ in range(before):
            job.run()
        job.told.clear()
        job.cluster.failing["launch_run"] = UsageError("odd")
        with pytest.raises(UsageError, match="odd"):
            job.run()
        assert job.state()["phase"] == "done"
        assert job.told == []

    def test_a_dataset_that_was_saved_then_is_told_all_the_same(self, tmp_path: Path) -> None:
        job = Job(tmp_path, [Step()])

        def refuse(self: Any, *_: Any, **__: Any) -> Any:
            job.cluster.dataset(1)
            raise UsageError("odd")

        refusing = type("Refusing", (Launcher,), {"launch_run": refuse})
        with pytest.raises(UsageError, match="odd"):
            run_with(job, refusing(job.cluster))
        assert job.told[0].startswith("checkpoint ckpt.1 (dataset 1): ")
        assert job.told[1] == "summary:"
        assert not [line for line in job.told if "odd" in line]

    @pytest.mark.parametrize("error", [OSError(28, "No space left"), FileNotFoundError(2, "gone")])
    def test_a_launcher_that_cannot_write(self, tmp_path: Path, error: OSError) -> None:
        job = Job(tmp_path, [Step()])
        job.cluster.failing["launch_run"] = error
        assert job.run() == 1
        assert job.causes() == ["launch failed"]

    def test_a_published_launcher_that_could_not_start(self, tmp_path: Path) -> None:
        """``runproc(wait=False)`` gives (None, None) for a program that cannot be started."""

        class Published(Launcher):
            def launch_run(self, args: Any, nodes: Any = None, down_nodes: Any = None) -> Any:
                return None, None

        job = Job(tmp_path, [])
        assert run_with(job, Published(job.cluster)) == 1
        assert job.causes() == ["launch failed"]

    def test_a_signal_finds_a_damaged_halt_file(self, tmp_path: Path) -> None:
        def damage(cluster: Cluster) -> None:
            (tmp_path / ".scr" / "halt.scr").write_bytes(b"junk")
            cluster.send(signal.SIGTERM)

        job = Job(tmp_path, [Step(None, at={5: damage})])
        assert job.run(SCR_HALT_GRACE="7") == 75
        assert job.cluster.kills == 1

    def test_nodes_that_the_manager_forgot_are_asked_for_their_data(self, tmp_path: Path) -> None:
        def forgets(cluster: Cluster) -> None:
            cluster.dataset(1)
            cluster.nodes.clear()

        job = Job(tmp_path, [Step(5, 0, at={5: forgets})])
        assert job.run() == 0
        assert [row["safe"] for row in report(job)["datasets"]] == [True]

    def test_a_cache_that_cannot_be_asked_keeps_nothing_from_being_saved(
        self, tmp_path: Path
    ) -> None:
        def deaf(cluster: Cluster) -> None:
            cluster.dataset(1)
            cluster.failing["rexec"] = UsageError("a node is named twice")

        job = Job(tmp_path, [Step(5, 0, at={5: deaf})])
        assert job.run() == 0
        assert [row["safe"] for row in report(job)["datasets"]] == [True]

    def test_a_flush_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        """The report is written and our halt condition taken back, whatever the saving says."""

        def unreadable(cluster: Cluster) -> None:
            (tmp_path / ".scr" / "flush.scr").mkdir()
            cluster.send(signal.SIGTERM)

        job = Job(tmp_path, [Step(None, at={5: unreadable}, ends_on_halt=True)])
        assert job.run() == 73
        assert job.cluster.halt_reason() is None
        assert report(job)["newest_safe"] is False
        assert any("could not be saved" in line for line in job.told)
        assert "not safe" in job.told[-1]


class TestSignals:
    def test_one_that_the_program_got_too(self, tmp_path: Path) -> None:
        """A scheduler signals step and supervisor at once; the step is gone before we look."""
        step = Step(5, 143, at={5: lambda c: c.send(signal.SIGTERM)})
        job = Job(tmp_path, [step])
        assert job.run() == 75
        assert job.causes() == ["signal to supervisor"]

    def test_one_that_comes_with_success(self, tmp_path: Path) -> None:
        job = Job(tmp_path, [Step(5, 0, at={5: lambda c: c.send(signal.SIGTERM)})])
        assert job.run() == 0

    def test_during_the_node_tests_nothing_is_launched(self, tmp_path: Path) -> None:
        job = Job(tmp_path, [Step()])
        down_nodes = job.cluster.down_nodes

        def interrupted() -> Any:
            job.cluster.send(signal.SIGTERM)
            return down_nodes()

        job.cluster.down_nodes = interrupted  # type: ignore[method-assign]
        assert job.run() == 75
        assert job.cluster.launches == []


class TestVerdicts:
    def test_a_program_that_ends_with_0_because_we_ended_it_has_not_finished(
        self, tmp_path: Path
    ) -> None:
        class Polite(Launcher):
            def kill_run(self, jobstep: Any = None) -> None:
                jobstep.code = 0

        job = Job(tmp_path, [Step(None, at={5: lambda c: c.kill_node("n2")}), Step()])
        assert run_with(job, Polite(job.cluster), SCR_RUNS="2") == 0
        assert job.causes() == ["node down", "success"]

    def test_nodes_of_the_last_run_are_believed_without_the_launchers_word(
        self, tmp_path: Path
    ) -> None:
        """nodes.scr written since the launch counts, also if the launcher cannot tell the nodes."""

        def two_nodes(cluster: Cluster) -> None:
            kvtree.write(str(tmp_path / ".scr" / "nodes.scr"), nodes.build(2))
            cluster.kill_node("n2")

        job = Job(tmp_path, [Step(None, at={5: two_nodes}), Step()], wanted=0)
        job.cluster.clock.advance(0)
        assert job.run(SCR_RUNS="2") == 0
        assert len(job.cluster.launches) == 2

    def test_the_managers_down_nodes_are_not_asked_for_data(self, tmp_path: Path) -> None:
        """Lesson A12: a node that went silent after the last look does not hold up the scavenge."""
        asked: list[str] = []

        def deed(cluster: Cluster) -> None:
            cluster.down["n5"] = "silent"

        job = Job(tmp_path, [Step(5, 0, at={5: deed})])
        jobenv = job.cluster.jobenv()
        rexec = type(jobenv.rexec)

        class Listening(rexec):  # type: ignore[misc, valid-type]
            def rexec(self, argv: Any, nodes: Any, env: Any) -> Any:
                if "cached" in argv:
                    asked.extend(nodes)
                return super().rexec(argv, nodes, env)

        jobenv.rexec = Listening(job.cluster)
        signals = job.cluster.signals
        assert run("scripted", ["./app"], jobenv=jobenv, say=job.told.append, signals=signals) == 0
        assert asked == ["n1", "n2", "n3", "n4"]


class TestPublishedLaunchers:
    def test_only_the_published_methods(self, tmp_path: Path) -> None:
        """A launcher whose process and step are its own objects, known to its wait_run alone."""

        class Published(Launcher):
            def launch_run(self, args: Any, nodes: Any = None, down_nodes: Any = None) -> Any:
                _, step = super().launch_run(args, nodes, down_nodes)
                return "f1234", step

            def wait_run(self, proc: Any = None, timeout: Optional[float] = None) -> Any:
                assert proc == "f1234"
                self._cluster.clock.advance(1)
                return True, len(self._cluster.launches) > 1

            exit_status = vars(Launcher.__mro__[1])["exit_status"]

        job = Job(tmp_path, [Step(), Step()])
        assert run_with(job, Published(job.cluster), SCR_RUNS="2") == 0
        assert job.causes() == ["application error", "success"]
        assert job.state()["runs"][0]["exit_code"] == 1


class TestAllocationThatEnds:
    def test_under_a_run(self, tmp_path: Path) -> None:
        over = NotInAllocationError("allocation 42 has ended: killed")
        job = Job(tmp_path, [Step(5, 137, at={1: fails("down_nodes", over)}), Step()])
        assert job.run(SCR_RUNS="3") == 69
        assert job.causes() == ["node down"]
        assert "allocation 42 has ended" in job.state()["runs"][0]["evidence"][0]
        assert job.state()["bad_nodes"] == {}


class TestBetweenRuns:
    @pytest.mark.parametrize("reason", ["TIME_LIMIT", "SCRJOB_SIGNAL"])
    def test_a_halt_that_is_not_the_users_asks_for_a_requeue(
        self, tmp_path: Path, reason: str
    ) -> None:
        job = Job(tmp_path, [Step(5, 7, at={4: lambda c: c.kill_node("n2")}), Step()])
        deed = job.cluster.down_nodes
        job.cluster.down_nodes = lambda: (  # type: ignore[method-assign]
            job.cluster.halt_with(reason) if job.cluster.down else None,
            deed(),
        )[1]
        assert job.run(SCR_RUNS="3") == 75
        assert len(job.cluster.launches) == 1

    def test_nodes_without_storage_of_their_own_are_saved_before_each_relaunch(
        self, tmp_path: Path
    ) -> None:
        job = Job(tmp_path, [Step(5, 7, at={4: lambda c: c.dataset(1)}), Step()])
        job.cluster.own_storage = False
        assert job.run(SCR_RUNS="2") == 0
        said = [line for line in job.told if "is in the prefix already" in line]
        launched = [line for line in job.told if "launched on" in line]
        assert job.told.index(said[0]) < job.told.index(launched[1])

    def test_datasets_in_the_prefix_are_progress_too(self, tmp_path: Path) -> None:
        """A program that writes straight to the prefix may leave no flush file behind."""

        def makes(number: int) -> Step:
            return Step(5, 7, at={4: lambda c: c.index(*range(1, number + 1))})

        job = Job(tmp_path, [makes(1), makes(2), makes(3), makes(4), Step()])
        assert job.run(SCR_RUNS="-1") == 0

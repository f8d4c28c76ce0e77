# SPDX-License-Identifier: BSD-3-Clause
"""scr_run on virtual nodes with plain programs: real deaths, hangs, signals and kills."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from scrjob._clock import SystemClock, wait_for
from scrjob.testing.local import HeldAllocation, allocation

pytestmark = pytest.mark.local
LIMIT_S = 20.0


class Job:
    """An allocation with a prefix directory, and scr_run in it."""

    def __init__(self, here: HeldAllocation, prefix: Path) -> None:
        self.here = here
        self.prefix = prefix
        self.environ = {**here.environ, "SCR_PREFIX": str(prefix), "SCR_JOB_ID": "job"}

    def run(self, *args: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
        return self.here.run(["scr_run", *args], env={**self.environ, **environ})

    @contextlib.contextmanager
    def started(self, *args: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
        process = self.here.start(["scr_run", *args], env={**self.environ, **environ})
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                stream.close()  # a step without its supervisor may still hold the other end

    def state(self, job_id: str = "job") -> Any:
        path = self.prefix / ".scr" / f"scrjob.{job_id}" / "state.json"
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return {"phase": None, "runs": []}

    def runs(self) -> list[Any]:
        runs: list[Any] = self.state()["runs"]
        return runs

    def wait_lines(self, name: str, count: int) -> list[str]:
        """Wait until a file in the prefix has so many lines."""
        path = self.prefix / name

        def lines() -> list[str]:
            return path.read_text().splitlines() if path.exists() else []

        wait_for(lambda: len(lines()) >= count, clock=SystemClock(), limit_s=LIMIT_S, poll_s=0.02)
        assert len(lines()) >= count, f"{name}: {lines()}"
        return lines()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    with allocation(3, cwd=tmp_path) as here:
        yield Job(here, prefix)


def shell(text: str, nodes: int = 2, ranks: int = 2) -> list[str]:
    """Return the words that run a shell text without MPI."""
    return ["local", "-N", str(nodes), "-n", str(ranks), "--mpi=none", "sh", "-c", text]


ONCE_MORE = (
    'echo $(hostname) >> "$SCR_PREFIX/started"; '
    '[ $(wc -l < "$SCR_PREFIX/started") -gt 2 ] && exit 0; '
)


def test_a_node_dies_and_the_spare_takes_over(job: Job) -> None:
    """Lessons B7, B13, A23: control is back within 3 s of the death, the relaunch 2 s later."""
    with job.started(*shell(ONCE_MORE + "sleep 60"), SCR_RUNS="2") as process:
        job.wait_lines("started", 2)
        died = time.time()
        job.here.fail("node2")
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    first, second = job.runs()
    assert first["cause"] == "node down"
    assert first["ended"] - died < 3
    assert second["launched"] - first["ended"] < 2
    assert second["nodes"] == ["node1", "node3"]
    assert second["avoided"] == ["node2"]
    assert b"node2" in err


def test_a_death_by_hand_is_noticed_too(job: Job) -> None:
    with job.started(*shell(ONCE_MORE + "sleep 60"), SCR_RUNS="2") as process:
        job.wait_lines("started", 2)
        os.kill(job.here.node("node1").pid, signal.SIGKILL)
        assert process.wait(LIMIT_S) == 0
    assert [run["cause"] for run in job.runs()] == ["node down", "success"]


@pytest.mark.parametrize("who", ["all", "one"])
def test_the_programs_exit_code_is_ours(job: Job, who: str) -> None:
    """Lesson A1."""
    text = "exit 7" if who == "all" else '[ "$SCR_LOCAL_RANK" = 1 ] && exit 7; exec sleep 60'
    assert job.run(*shell(text)).returncode == 7
    assert job.runs()[0]["cause"] == "application error"


def test_a_signal_that_ends_the_program_is_told(job: Job) -> None:
    done = job.run(*shell('[ "$SCR_LOCAL_RANK" = 1 ] && kill -SEGV $$; exec sleep 60'))
    assert done.returncode == 128 + signal.SIGSEGV


def test_no_progress_gives_93(job: Job) -> None:
    """Lesson B11."""
    assert job.run(*shell("exit 3"), SCR_RUNS="-1").returncode == 93
    assert len(job.runs()) == 3


def test_too_few_nodes_give_69(job: Job) -> None:
    with job.started(*shell("sleep 60", 3, 3), SCR_RUNS="-1") as process:
        wait_for(lambda: len(job.runs()) == 1, clock=SystemClock(), limit_s=LIMIT_S)
        wait_for(lambda: len(job.runs()[0]["nodes"]) == 3, clock=SystemClock(), limit_s=LIMIT_S)
        job.here.fail("node1")
        assert process.wait(LIMIT_S) == 69


POLITE = 'echo x >> "$SCR_PREFIX/started"; until scr_retries_halt --dir "$SCR_PREFIX"; do sleep 0.1; done'


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_stops_the_program_politely_and_a_new_job_runs(job: Job, name: str) -> None:
    """Lesson A13."""
    with job.started(*shell(POLITE), SCR_RUNS="5") as process:
        job.wait_lines("started", 2)
        process.send_signal(signal.Signals[name])
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 75, err
    assert b"SCRJOB_SIGNAL" in out
    again = job.run(*shell("true"), SCR_JOB_ID="requeued")
    assert again.returncode == 0, again.stderr
    assert job.state("requeued")["runs"][0]["cause"] == "success"


def test_a_signal_at_the_very_end_does_not_change_the_exit_code(job: Job) -> None:
    with job.started(*shell(POLITE)) as process:
        job.wait_lines("started", 2)
        while process.poll() is None:
            process.send_signal(signal.SIGUSR1)
            time.sleep(0.001)
        assert process.returncode == 75


def test_a_killed_supervisor_is_continued(job: Job) -> None:
    with job.started(*shell(ONCE_MORE + "exec sleep 61.25"), SCR_RUNS="1") as process:
        job.wait_lines("started", 2)
        wait_for(lambda: job.state()["phase"] == "running", clock=SystemClock(), limit_s=LIMIT_S)
        process.kill()
        process.wait()
    done = job.run(*shell(ONCE_MORE + "exec sleep 61.25"), SCR_RUNS="1")
    assert done.returncode == 0, done.stderr
    assert [run["cause"] for run in job.runs()] == ["supervisor lost", "success"]
    for node in ("node1", "node2"):
        assert b"61.25" not in job.here.on(node, ["ps", "-eo", "args"]).stdout


def test_a_hung_program_is_ended_with_its_stacks_and_relaunched(job: Job) -> None:
    """Lessons A9, A10, B4."""
    code = "import time\ndef stuck_here():\n    time.sleep(60)\nstuck_here()\n"
    (job.prefix / "hang.py").write_text(code)
    text = ONCE_MORE + f"exec {sys.executable} {job.prefix}/hang.py"
    environ = {"SCR_WATCHDOG": "1", "SCR_WATCHDOG_STARTUP": "1.5", "SCR_RUNS": "2"}
    done = job.run(*shell(text), **environ)
    assert done.returncode == 0, done.stderr
    assert [run["cause"] for run in job.runs()] == ["hang", "success"]
    stacks = (job.prefix / ".scr" / "scrjob.job" / "stacks.run1.txt").read_text()
    assert "#### node node1" in stacks
    assert stacks.count("hang.py") >= 2


def test_a_stopped_node_is_found_and_left_out(job: Job) -> None:
    """Lesson A12: one hung node delays nothing past its deadline; its ranks are looked at."""
    with job.started(*shell(ONCE_MORE + "sleep 60"), SCR_RUNS="2") as process:
        job.wait_lines("started", 2)
        job.here.hang("node2")
        assert process.wait(LIMIT_S) == 0
    first, second = job.runs()
    assert first["cause"] == "node down"
    assert second["avoided"] == ["node2"]
    stacks = (job.prefix / ".scr" / "scrjob.job" / "stacks.run1.txt").read_text()
    assert "#### node node2" in stacks
    assert "(stopped)" in stacks
    assert "node1" not in stacks


def test_output_is_live_and_stdin_is_the_users(job: Job) -> None:
    """Lessons A19, B9."""
    process = job.here.start(
        ["scr_run", *shell("echo first; read line; echo got $line", 1, 1)],
        env=job.environ,
        stdin=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"first\n"
    out, _ = process.communicate(b"a line\n", timeout=LIMIT_S)
    assert out == b"got a line\n"
    assert process.returncode == 0


def test_without_user_in_the_environment(job: Job) -> None:
    """Lesson A21."""
    environ = {key: value for key, value in job.environ.items() if key not in ("USER", "LOGNAME")}
    done = job.here.run(["scr_run", *shell("true")], env=environ)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["with blank", "quo'te\"s", "new\nline", "$HOME", "-dash", "ünï"])
def test_odd_prefixes_work(job: Job, name: str) -> None:
    prefix = job.prefix / name
    done = job.run(*shell('[ -d "$SCR_PREFIX/.scr" ]'), SCR_PREFIX=str(prefix).replace("$", "\\$"))
    if "$" in name:
        return  # $HOME is expanded, as in SCR's own files
    assert done.returncode == 0, done.stderr
    assert (prefix / ".scr" / "scrjob.job" / "report.json").exists()


def test_a_relative_and_a_linked_prefix(job: Job, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(job.prefix)
    text = 'case "$SCR_PREFIX" in /*) exit 0;; *) exit 9;; esac'
    for prefix in ("prefix", str(tmp_path / "link")):
        done = job.run(*shell(text), SCR_PREFIX=prefix, SCR_JOB_ID=prefix[-4:])
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (["nosuch", "./app"], 78, b"known: local"),
        ([], 64, b"no launcher"),
        (["local"], 64, b"nothing to run: name a program, or give --run-cmd\n"),
        (["hostname"], 64, b"nothing to run: .* as in: scr_run srun hostname\n"),
        (["./my app", "input"], 78, b"known: local.* as in: scr_run srun './my app'\n"),
        (["local", "-N", "many", "true"], 64, b"-N many"),
        (["local", "--mpi=none", "-rc"], 64, b"-rc"),
    ],
)
def test_a_wrong_call_is_one_line(job: Job, args: list[str], code: int, word: bytes) -> None:
    done = job.run(*args)
    assert done.returncode == code
    assert re.search(word, done.stderr)
    assert done.stderr.count(b"\n") == 1
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("launcher", "environ", "word"),
    [
        ("local", {"SCR_EXCLUDE_NODES": "n[1"}, b"SCR_EXCLUDE_NODES: host list 'n[1'"),
        ("local", {"SCR_CACHE_BASE": "/nosuch"}, b"node test dir_capacity failed"),
        ("local", {"SCR_RUNS": "some"}, b"SCR_RUNS='some' (environment)"),
        ("srun", {}, b"SLURM_JOB_ID is not set"),  # found at the first launch
    ],
)
def test_what_is_wrong_before_anything_ran_is_said_once(
    job: Job, launcher: str, environ: dict[str, str], word: bytes
) -> None:
    done = job.run(launcher, "-n", "1", "true", **environ)
    assert done.returncode == 78
    assert word in done.stderr
    assert done.stderr.count(b"\n") == 1, done.stderr


def test_a_faulty_line_of_the_configuration_is_said_once(job: Job) -> None:
    (job.prefix / ".scrconf").write_text("SCR_FLUSH\n", "ascii")
    done = job.run(*shell("true"))
    assert done.returncode == 0
    assert done.stderr.count(b"SCR_FLUSH") == 1, done.stderr
    assert f"{job.prefix}/.scrconf:1: ".encode() in done.stderr


def test_no_allocation_is_one_line(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "scrjob", "scr_run", "local", "true"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 78
    assert b"scr_local alloc" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_disabled_passes_through(job: Job) -> None:
    done = job.run(*shell("exit 5"), SCR_ENABLE="0")
    assert done.returncode == 5
    assert not (job.prefix / ".scr").exists()


def test_more_nodes_than_there_are(job: Job) -> None:
    done = job.run(*shell("true", 9, 9))
    assert done.returncode == 69
    assert b"needed: 9" in done.stderr


def test_stop_at_once_on_request(job: Job) -> None:
    """Lesson A14: scr_halt --immediate ends the step."""
    with job.started(*shell('echo x >> "$SCR_PREFIX/started"; exec sleep 60')) as process:
        job.wait_lines("started", 2)
        halted = job.here.run(["scr_halt", "-i", str(job.prefix)], env=job.environ)
        assert halted.returncode == 0, halted.stderr
        assert process.wait(LIMIT_S) == 0
    assert job.runs()[0]["cause"] == "halt condition"


def test_the_job_goes_on_when_nobody_hears_it(job: Job) -> None:
    """Lesson A13: the reader of stderr is gone, as after a lost login: the data is saved all the same."""
    process = job.here.start(["scr_run", *shell(ONCE_MORE + "exit 3")], env=job.environ)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(LIMIT_S) == 3
    process.stdout.close()
    assert job.state()["phase"] == "done"


def test_a_step_is_ended_also_if_its_record_was_never_written(job: Job) -> None:
    killer = Path(__file__).parents[1] / "support" / "killing_supervisor.py"
    text = shell("exec sleep 61.26")
    done = job.here.run(
        [sys.executable, str(killer), "before running", *text],
        env=job.environ,
        stdout=subprocess.DEVNULL,  # the step, which lives on, would hold the other end of a pipe
        stderr=subprocess.DEVNULL,
    )
    assert done.returncode == -signal.SIGKILL
    wait_for(
        lambda: b"61.26" in job.here.on("node2", ["ps", "-eo", "args"]).stdout,
        clock=SystemClock(),
        limit_s=LIMIT_S,
    )
    again = job.run(*shell("true"))
    assert again.returncode == 0, again.stderr
    for node in ("node1", "node2"):
        assert b"61.26" not in job.here.on(node, ["ps", "-eo", "args"]).stdout


def test_a_spare_that_dies_does_not_end_a_run_of_few_ranks(job: Job) -> None:
    words = ["local", "-n", "2", "--mpi=none", "sh", "-c"]
    text = 'echo x >> "$SCR_PREFIX/started"; until [ -e "$SCR_PREFIX/go" ]; do sleep 0.1; done'
    with job.started(*words, text) as process:
        job.wait_lines("started", 2)
        job.here.fail("node3")
        job.here.wait_state("node3", "dead")
        time.sleep(1.5)  # longer than scr_run asks for dead nodes
        (job.prefix / "go").touch()
        assert process.wait(LIMIT_S) == 0
    assert [run["cause"] for run in job.runs()] == ["success"]


def test_modules_in_the_users_directory_are_not_ours(job: Job, tmp_path: Path) -> None:
    """A job's own copy.py or json.py beside it keeps no node from being tested and asked."""
    for name in ("json", "copy", "argparse", "importlib"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    done = job.run(*shell("true"))
    assert done.returncode == 0, done.stderr
    assert b"the wrong module" not in done.stderr


def test_a_current_directory_that_is_gone_keeps_no_data_from_being_saved(job: Job) -> None:
    gone = job.prefix / "gone"
    gone.mkdir()
    done = job.here.run(["scr_run", *shell(f"rmdir {gone} || :")], env=job.environ, cwd=gone)
    assert done.returncode == 0, done.stderr
    ours = [line for line in done.stderr.splitlines() if line.startswith(b"scr_run:")]
    assert ours
    assert not any(b"No such file" in line for line in ours)


def test_a_signal_ends_a_step_that_is_passed_through(job: Job) -> None:
    with job.started(
        *shell('echo x >> "$SCR_PREFIX/started"; exec sleep 61.27'), SCR_ENABLE="0"
    ) as p:
        job.wait_lines("started", 2)
        p.terminate()
        assert p.wait(LIMIT_S) == 128 + signal.SIGTERM
    for node in ("node1", "node2"):
        assert b"61.27" not in job.here.on(node, ["ps", "-eo", "args"]).stdout

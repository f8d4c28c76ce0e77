# SPDX-License-Identifier: BSD-3-Clause
"""One who builds a dataset at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import ContextManager

import pytest

from groupmaker import Made, make_dataset
from scrjob.errors import ScavengeError
from scrjob.redundancy.groups import form_groups
from scrjob.redundancy.lock import LOCK, one_at_a_time, process
from scrjob.testing.fakes import FakeClock


def test_the_second_one_waits_and_is_told_who_is_at_work(tmp_path: Path) -> None:
    clock = FakeClock()
    said: list[str] = []
    with one_at_a_time(str(tmp_path), clock=clock, who="job 7\non vm", say=said.append):
        with (
            pytest.raises(ScavengeError, match=r"written by job 7\?on vm: try again"),
            one_at_a_time(str(tmp_path), clock=clock, who="b", say=said.append, wait_s=3.0),
        ):
            pass
        assert clock.monotonic() == pytest.approx(3.0)
    assert said == ["waiting for job 7?on vm"]
    with one_at_a_time(str(tmp_path), clock=clock, who="b", say=said.append):
        assert (tmp_path / LOCK).read_text() == "b"


def test_an_end_within_the_wait_is_enough(tmp_path: Path) -> None:
    clock = FakeClock()
    first = one_at_a_time(str(tmp_path), clock=clock, who="a", say=str)
    first.__enter__()
    nap = clock.sleep

    def sleep(seconds: float) -> None:
        nap(seconds)
        if clock.monotonic() > 1:
            first.__exit__(None, None, None)
            clock.sleep = nap  # type: ignore[method-assign]

    clock.sleep = sleep  # type: ignore[method-assign]
    with one_at_a_time(str(tmp_path), clock=clock, who="b", say=str):
        assert 1 < clock.monotonic() < 3


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_does_without(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(fd: int, how: int) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with one_at_a_time(str(tmp_path), clock=FakeClock(), who="a", say=str):
        pass


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("data")
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / LOCK).symlink_to(target)
    with (
        pytest.raises(OSError, match="symbolic link"),
        one_at_a_time(str(tmp_path / "dataset"), clock=FakeClock(), who="a", say=str),
    ):
        pass
    assert target.read_text() == "data"


def test_no_wait_no_message(tmp_path: Path) -> None:
    said: list[str] = []
    clock = FakeClock()
    with (
        one_at_a_time(str(tmp_path), clock=clock, who="a", say=said.append),
        pytest.raises(ScavengeError, match="is being written by a: try again"),
        one_at_a_time(str(tmp_path), clock=clock, who="b", say=said.append, wait_s=0.0),
    ):
        pass
    assert said == []


def test_who_works_for_the_holder_is_let_in(tmp_path: Path) -> None:
    clock = FakeClock()
    with one_at_a_time(str(tmp_path), clock=clock, who=f"a {process('vm', 7)}", say=str):
        with one_at_a_time(
            str(tmp_path), clock=clock, who="b", say=str, parent=process("vm", 7), wait_s=0.0
        ):
            assert (tmp_path / LOCK).read_text() == "a on vm, process 7"
        for stranger in (process("vm", 77), process("vm", 6), process("other", 7)):
            with (
                pytest.raises(ScavengeError, match="written by a on vm, process 7"),
                one_at_a_time(
                    str(tmp_path), clock=clock, who="b", say=str, parent=stranger, wait_s=0.0
                ),
            ):
                pass


def build(made: Made) -> tuple[int, str]:
    """Run ``scr_index --build`` as a process of its own."""
    code = "import sys; from scrjob.commands.scr_index import main; sys.exit(main(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, "--prefix", str(made.prefix), "--build", "1"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout


def test_a_build_meets_no_other_one_and_takes_nothing_of_it(tmp_path: Path) -> None:
    made = make_dataset(tmp_path / "p", [[50], [], [70]], form_groups(range(3), 3))
    made.lose(0)
    theirs = made.hidden / ".scrjob-rebuild.reddesc.0.01234567.tmp"
    theirs.write_bytes(b"half")
    clock = FakeClock()
    with one_at_a_time(str(made.hidden), clock=clock, who="a build on n7, process 5", say=str):
        returncode, out = build(made)
        assert returncode == 1
        assert len(out.splitlines()) == 1
        assert "is being written by a build on n7, process 5: try again" in out
        assert theirs.exists()
        assert not (made.hidden / "filemap_0").exists()
    assert build(made)[0] == 0
    assert not theirs.exists(), "its owner is dead: nobody holds the lock"
    assert not (made.hidden / LOCK).exists()


def test_the_index_of_a_scavenge_may_be_ours(tmp_path: Path) -> None:
    """SCR_BIN_DIR may name the directory of our own commands; its build runs under the scavenge's lock."""
    made = make_dataset(tmp_path / "p", [[50], [], [70]], form_groups(range(3), 3))
    who = f"a scavenge of job 7 {process(os.uname().nodename, os.getpid())}"
    with one_at_a_time(str(made.hidden), clock=FakeClock(), who=who, say=str):
        assert build(made) == (0, "")


def test_the_lock_of_a_file_that_was_removed_counts_for_nothing(tmp_path: Path) -> None:
    """Two wait for a third one; when that has ended, only one of them may go on."""
    clock = FakeClock()
    first = one_at_a_time(str(tmp_path), clock=clock, who="a", say=str)
    first.__enter__()
    second = one_at_a_time(str(tmp_path), clock=clock, who="b", say=str)
    nap = clock.sleep

    def sleep(seconds: float) -> None:  # the third has the file open by now
        nap(seconds)
        clock.sleep = nap  # type: ignore[method-assign]
        first.__exit__(None, None, None)
        second.__enter__()

    clock.sleep = sleep  # type: ignore[method-assign]
    with (
        pytest.raises(ScavengeError, match="is being written by b"),
        one_at_a_time(str(tmp_path), clock=clock, who="c", say=str, wait_s=2.0),
    ):
        pass
    second.__exit__(None, None, None)
    assert not (tmp_path / LOCK).exists()


def test_what_a_dead_holder_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("a scavenge of job 7 on vm, process 1")
    with one_at_a_time(str(tmp_path), clock=FakeClock(), who="b", say=str, wait_s=0.0):
        assert (tmp_path / LOCK).read_text() == "b"
    assert not (tmp_path / LOCK).exists()


def test_those_who_share_it_keep_out_whoever_wants_it_alone(tmp_path: Path) -> None:
    clock = FakeClock()

    def held(who: str, *, shared: bool) -> ContextManager[None]:
        return one_at_a_time(
            str(tmp_path), clock=clock, who=who, say=str, wait_s=0.0, shared=shared
        )

    first, second = held("a", shared=True), held("b", shared=True)
    first.__enter__()
    second.__enter__()
    with pytest.raises(ScavengeError, match="written by b"), held("c", shared=False):
        pass
    first.__exit__(None, None, None)
    with pytest.raises(ScavengeError), held("c", shared=False):
        pass  # the file is still there, so the second one's lock counts
    second.__exit__(None, None, None)
    assert not (tmp_path / LOCK).exists()
    with (
        held("c", shared=False),
        pytest.raises(ScavengeError, match="written by c"),
        held("d", shared=True),
    ):
        pass


def test_a_directory_that_is_gone_needs_no_unlocking(tmp_path: Path) -> None:
    directory = tmp_path / "dataset"
    directory.mkdir()
    with one_at_a_time(str(directory), clock=FakeClock(), who="a", say=str):
        (directory / LOCK).unlink()
        directory.rmdir()

# SPDX-License-Identifier: BSD-3-Clause
"""One scavenge of a dataset at a time."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from scrjob.errors import ScavengeError
from scrjob.scavenge.lock import LOCK, one_at_a_time
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
    assert said == ["scavenge: waiting for job 7?on vm"]
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

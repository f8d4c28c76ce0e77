# SPDX-License-Identifier: BSD-3-Clause
"""Shared values."""

from __future__ import annotations

import pytest

from scrjob.model import ExitStatus


@pytest.mark.parametrize(
    ("returncode", "code", "signal", "success"),
    [(0, 0, None, True), (7, 7, None, False), (-9, 137, 9, False), (255, 255, None, False)],
)
def test_exit_status_from_pythons_convention(
    returncode: int, code: int, signal: object, success: bool
) -> None:
    status = ExitStatus.from_returncode(returncode)
    assert (status.code, status.signal, status.success) == (code, signal, success)


def test_ended_by_a_signal_is_no_success_whatever_the_code() -> None:
    assert not ExitStatus(0, 15).success

# SPDX-License-Identifier: BSD-3-Clause
"""The signal that makes a rank write its stacks."""

from __future__ import annotations

import os
import signal

import pytest

from scrjob.client import stacks


def test_the_signal_appends_the_stacks_and_does_nothing_else(tmp_path):
    file = stacks.arm(str(tmp_path), "node1", 3, 8)
    try:
        os.kill(os.getpid(), stacks.STACK_SIGNAL)
        text = (tmp_path / f"node1.{os.getpid()}.txt").read_text()
        assert text.startswith(f"rank 3 of 8 on node1, process {os.getpid()}\n")
        assert "test_the_signal_appends" in text
    finally:
        stacks.disarm(file)
    os.kill(os.getpid(), stacks.STACK_SIGNAL)  # late: does not end the process
    signal.signal(stacks.STACK_SIGNAL, signal.SIG_DFL)


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        stacks.arm(str(tmp_path / "no"), "node1", 0, 1)

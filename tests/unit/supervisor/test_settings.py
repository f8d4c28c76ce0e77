# SPDX-License-Identifier: BSD-3-Clause
"""What the environment sets without effect is told at the start of scr_run."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripted_cluster import Step
from scripted_job import Job


def told(job: Job, caplog: pytest.LogCaptureFixture, **environ: str) -> list[str]:
    assert job.run(**environ) == 0
    return caplog.messages


def test_a_slip_of_the_pen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job = Job(tmp_path, [Step()])
    assert told(job, caplog, SCR_RUNNS="3", SCR_RUNS="1", SCR_ROOT="/opt/scr") == [
        "SCR_RUNNS in the environment is no setting that is known; is SCR_RUNS meant?"
    ]


def test_a_configuration_file_that_is_not_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SCR goes on without it, and so do we."""
    missing = str(tmp_path / "no.conf")
    (line,) = told(Job(tmp_path, [Step()]), caplog, SCR_CONF_FILE=missing)
    assert line == f"SCR_CONF_FILE: there is no file {missing!r}, so no settings are read from it"
    caplog.clear()
    Path(missing).touch()
    assert told(Job(tmp_path, [Step()]), caplog, SCR_CONF_FILE=missing) == []
    assert told(Job(tmp_path, [Step()]), caplog, SCR_CONF_FILE="") == []

# SPDX-License-Identifier: BSD-3-Clause
"""Job launchers: how job steps are started, watched and ended."""

from scrjob.launchers.auto import AutoJobLauncher
from scrjob.launchers.joblauncher import JobLauncher

__all__ = ["AutoJobLauncher", "JobLauncher"]

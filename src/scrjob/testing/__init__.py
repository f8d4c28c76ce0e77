# SPDX-License-Identifier: BSD-3-Clause
"""For authors of plugins: contract suites to inherit, fakes of the outside world, recorded tools."""

from scrjob._context import system_context

__all__ = ["system_context"]

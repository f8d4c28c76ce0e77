# SPDX-License-Identifier: BSD-3-Clause
"""The run loop of scr_run in parts: state, signals, monitor, verdict, loop, report."""

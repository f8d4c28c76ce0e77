# SPDX-License-Identifier: BSD-3-Clause
"""Programs that run on one compute node, started through remote execution; imports are few."""

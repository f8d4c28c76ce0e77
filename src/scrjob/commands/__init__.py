# SPDX-License-Identifier: BSD-3-Clause
"""Console commands: arguments, stdout, stderr and exit codes; the only place that prints."""

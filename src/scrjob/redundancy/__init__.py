# SPDX-License-Identifier: BSD-3-Clause
"""Redundancy of cached datasets: bytes in, bytes out; what is lost, and how it comes back."""

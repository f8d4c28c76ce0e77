# SPDX-License-Identifier: BSD-3-Clause
"""The embedded allocation: virtual nodes on one machine, without root, scheduler or MPI install.

README.md beside this file has the picture of its processes.
"""

# SPDX-License-Identifier: BSD-3-Clause
"""SCR's files: ``kvtree`` is the container, then one module per file. See README.md."""

# SPDX-License-Identifier: BSD-3-Clause
"""Sphinx: Markdown pages, warnings are errors."""

from __future__ import annotations

project = "scrjob"
author = "the scrjob developers"
extensions = ["myst_parser"]
myst_heading_anchors = 3
myst_fence_as_directive: list[str] = []
exclude_patterns = ["_build"]
myst_enable_extensions: list[str] = []
html_theme = "alabaster"
html_theme_options = {"page_width": "70em", "sidebar_width": "16em"}
# Pictures are mermaid source: GitHub draws them, here they stay text that can be read as it is.
suppress_warnings = ["misc.highlighting_failure"]
highlight_language = "text"

# SPDX-License-Identifier: BSD-3-Clause
"""Plugins of an imaginary site whose tools are sitectl, siterun and siteexec."""

# SPDX-License-Identifier: BSD-3-Clause
"""Golden images, read once for all tests of the formats."""

from __future__ import annotations

import pytest

from goldenimages import Image, read_images


@pytest.fixture(scope="session")
def images() -> list[Image]:
    return list(read_images())

# SPDX-License-Identifier: BSD-3-Clause
"""Rules that hold for every file."""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPDX = "SPDX-License-Identifier: BSD-3-Clause"
LARGEST_MODULE_LINES = 600
MEDIAN_MODULE_LINES = 250


def tracked(*patterns: str) -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout: an unpacked sdist")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).exists()]


def test_every_source_has_its_licence_line() -> None:
    sources = tracked("*.py", "*.py.in", "*.sh", "Makefile", ".ci/run", "examples/plugin/bin/*")
    assert len(sources) > 50
    bare = [str(p.relative_to(ROOT)) for p in sources if SPDX not in p.read_text("utf-8")[:200]]
    assert bare == []


def test_modules_stay_small() -> None:
    sizes = {p: len(p.read_text("utf-8").splitlines()) for p in tracked("src/*.py")}
    large = {str(p.relative_to(ROOT)): n for p, n in sizes.items() if n > LARGEST_MODULE_LINES}
    assert large == {}
    assert statistics.median(sizes.values()) <= MEDIAN_MODULE_LINES


def test_every_module_has_the_future_import() -> None:
    # Packages' own files may be only a docstring and imports.
    modules = [p for p in tracked("src/*.py") if p.name != "__init__.py"]
    bare = [
        str(p.relative_to(ROOT))
        for p in modules
        if "from __future__ import annotations" not in p.read_text("utf-8")
    ]
    assert bare == []

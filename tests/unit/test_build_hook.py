# SPDX-License-Identifier: BSD-3-Clause
"""The build renders the site's configuration, and a wheel build leaves the source tree alone."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ["pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "src/scrjob/config.py.in"]


@pytest.fixture(scope="module")
def hook() -> Any:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a small copy of the project: all that a build reads."""
    copy = tmp_path / "project"
    for name in PARTS:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    for path in [*(ROOT / "src/scrjob").glob("*.py"), *(ROOT / "src/scrjob").glob("*/*.py")]:
        if path.name != "config.py":
            target = copy / path.relative_to(ROOT)
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
    return copy


def files(tree: Path) -> dict[str, bytes]:
    return {str(p.relative_to(tree)): p.read_bytes() for p in tree.rglob("*") if p.is_file()}


def values(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(text, "config.py", "exec"), names)  # noqa: S102 - our own rendered file
    return names


def test_defaults_hold_without_any_variable(hook: Any) -> None:
    found = values(hook.render((ROOT / "src/scrjob/config.py.in").read_text("utf-8"), {}))
    assert found["SCR_SYSTEM_CONFIG_FILE"] == "/etc/scr.conf"
    assert found["SCR_CNTL_BASE"] == found["SCR_CACHE_BASE"] == "/dev/shm"
    assert found["SCR_BIN_DIR"] == found["SCR_LAUNCHER"] == ""


@pytest.mark.parametrize("value", ["/ssd", "two words", 'it\'s "q"', "a@b:c@", "\\n", "ä"])
def test_any_value_of_a_variable_becomes_a_literal(hook: Any, value: str) -> None:
    template = (ROOT / "src/scrjob/config.py.in").read_text("utf-8")
    found = values(hook.render(template, {"SCR_CACHE_BASE": value}))
    assert found["SCR_CACHE_BASE"] == value
    assert found["SCR_CNTL_BASE"] == "/dev/shm"


def test_a_wheel_has_the_sites_values_and_the_tree_stays_as_it_was(
    tree: Path, tmp_path: Path
) -> None:
    before = files(tree)
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=tree,
        env={**os.environ, "SCR_CACHE_BASE": "/site ssd", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert files(tree) == before
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        config = archive.read("scrjob/config.py").decode()
        archive.extract("scrjob/scrjob-node.pyz", tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(tmp_path / "scrjob/scrjob-node.pyz"), "copy"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "Must specify control directory" in done.stdout
    assert values(config)["SCR_CACHE_BASE"] == "/site ssd"
    for kind in ("config", "node"):
        assert not list(tmp_path.glob(f"scrjob-{kind}-*")), "a temporary file was left behind"


def test_an_editable_build_writes_beside_the_template(
    hook: Any, tree: Path, tmp_path: Path
) -> None:
    made = hook.ConfigHook(str(tree), {}, None, None, str(tmp_path), "wheel")
    data: dict[str, Any] = {"force_include": {}}
    made.initialize("editable", data)
    assert data == {"force_include": {}}
    rendered = tree / "src/scrjob/config.py"
    assert values(rendered.read_text())["SCR_CNTL_BASE"] == "/dev/shm"
    # Another program may be reading it: it is written anew only if it is to change.
    os.utime(rendered, ns=(1, 1))
    made.initialize("editable", data)
    assert rendered.stat().st_mtime_ns == 1
    rendered.write_text("SCR_CNTL_BASE = '/old'")
    made.initialize("editable", data)
    assert values(rendered.read_text())["SCR_CNTL_BASE"] == "/dev/shm"


def test_an_sdist_gets_the_template_only(hook: Any, tree: Path, tmp_path: Path) -> None:
    made = hook.ConfigHook(str(tree), {}, None, None, str(tmp_path), "sdist")
    data: dict[str, Any] = {"force_include": {}}
    made.initialize("standard", data)
    assert data == {"force_include": {}}
    assert not (tree / "src/scrjob/config.py").exists()

# SPDX-License-Identifier: BSD-3-Clause
"""Make the sdist, the wheel out of the sdist, install that into a fresh environment and try it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
SMOKE = (
    (["scr_hostlist", "-c", "node[08-10]"], "3"),
    (["scr_list_dir", "--base", "control"], "/dev/shm"),
    (["python", "-m", "scrjob", "scr_hostlist", "-e", "n[1-2]"], "n1,n2"),
    (
        ["python", "-c", "from scrjob.node import command; print(command.node_command('copy')[1])"],
        "-I",
    ),
)


def run(*argv: str, cwd: Path = ROOT) -> str:
    """Run a program to its end; returns stdout, ends the whole script if it fails."""
    result = subprocess.run(argv, cwd=cwd, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"build: {' '.join(argv)}: exit code {result.returncode}\n{result.stdout}")
    return result.stdout.strip()


def only(pattern: str) -> Path:
    """Return the single file in dist that matches."""
    (path,) = DIST.glob(pattern)
    return path


def main() -> None:
    """Build and try; any failure ends with a message."""
    DIST.mkdir(exist_ok=True)
    for old in DIST.glob("scrjob-*"):
        old.unlink()
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(DIST))
    with tempfile.TemporaryDirectory(prefix="scrjob-build-") as name:
        work = Path(name)
        with tarfile.open(only("scrjob-*.tar.gz")) as archive:
            archive.extractall(work, filter="data")
        (unpacked,) = work.iterdir()
        run(
            sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(DIST), cwd=unpacked
        )
        run(sys.executable, "-m", "venv", str(work / "venv"))
        scripts = work / "venv" / "bin"
        constraints = "py39.txt" if sys.version_info < (3, 11) else "py311.txt"
        pip = [str(scripts / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        run(*pip, "-c", str(ROOT / "constraints" / constraints), str(only("scrjob-*.whl")))
        for (program, *rest), expected in SMOKE:
            answer = run(str(scripts / program), *rest, cwd=work)
            if answer != expected:
                sys.exit(
                    f"build: {program} {' '.join(rest)}: got {answer!r}, expected {expected!r}"
                )
    print(
        f"build: {only('scrjob-*.tar.gz').name} and {only('scrjob-*.whl').name}, installed, tried"
    )


if __name__ == "__main__":
    main()

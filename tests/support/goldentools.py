# SPDX-License-Identifier: BSD-3-Clause
"""Stand-ins for a site's scr_copy and scr_index that replay a recorded case of the data path.

They know the calls that were made then, of those nodes, with the prefix where it lies now, and no others
(exit code 97); they say what was said, and make the files that were made. What was not recorded of
scr_index (everything but --build) our own command answers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, Dict, List, Sequence

EXIT_UNKNOWN_CALL = 97
TOOLS = ("scr_copy", "scr_index")
PLAN = "GOLDENTOOLS_PLAN"
NODE = "GOLDENTOOLS_NODE"


def install(bin_dir: Path, plan: Dict[str, Any]) -> Dict[str, str]:
    """Put the tools into a directory; return what they need in their environment."""
    bin_dir.mkdir()
    for tool in TOOLS:
        path = bin_dir / tool
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {tool} "$@"\n')
        path.chmod(0o755)
    package = Path(sys.modules["scrjob"].__file__ or "").parents[1]
    paths = [str(Path(__file__).parent), str(package)]
    return {PLAN: json.dumps(plan), "PYTHONPATH": os.pathsep.join(paths)}


def answers(log: str) -> List[List[str]]:
    """Return the lines and the closing ``[exit N]`` of each call of a log."""
    found: List[List[str]] = [[]]
    for line in log.splitlines():
        found[-1].append(line)
        if re.fullmatch(r"\[exit \d+\]", line):
            found.append([])
    return found[:-1]


def copy_answers(case: Path, lost: str) -> Dict[str, List[str]]:
    """Return node -> lines and ``[exit N]`` of the recorded copies."""
    found = {}
    for lines in answers((case / f"copy_lost_{lost}.log").read_text()):
        (node,) = {match[1] for line in lines if (match := re.match(r"scr_copy: (\w+): ", line))}
        found[node] = lines
    return found


def main(argv: Sequence[str]) -> int:
    from archives import unpack  # beside this file

    tool, *words = argv
    plan = json.loads(os.environ[PLAN])
    case, lost, prefix = Path(plan["case"]), plan["lost"], plan["prefix"]
    number = str(plan["dataset"])
    hidden = f"./.scr/scr.dataset.{number}"

    def replay(lines: List[str]) -> int:
        for line in lines[:-1]:
            print(line)
        return int(lines[-1][len("[exit ") : -1])

    def unknown(expected: Sequence[str]) -> int:
        print(f"not recorded: {[tool, *words]}; nearest is {expected}", file=sys.stderr)
        return EXIT_UNKNOWN_CALL

    if tool == "scr_copy":
        expected = ["--cntldir", plan["cntldir"], "--id", number, "--prefix", prefix]
        expected += ["--buf", "1048576", "--crc"]
        if words != expected or not os.path.isdir(os.path.join(prefix, hidden)):
            return unknown(expected)
        node = os.environ[NODE]
        recorded = copy_answers(case, lost).get(node)
        if recorded is None:
            print(f"scr_copy: {node}: Failed to find cache directory for dataset id {number}")
            return 1
        with tarfile.open(case / f"prefix_1_copied_lost_{lost}.tar") as archive:
            for rank in plan["ranks"][node]:
                unpack(archive, prefix, _of_rank(archive, hidden, rank, plan["recorded_prefix"]))
        return replay(recorded)

    expected = ["--prefix", prefix, f"--build={number}"]
    if words[:2] == expected[:2] and not words[2].startswith("--build"):
        ours = [sys.executable, "-m", "scrjob", tool, *words]
        return subprocess.run(ours, check=False).returncode
    if words != expected:
        other = re.fullmatch(r"--build=(\d+)", words[2]) if words[:2] == expected[:2] else None
        if other and not os.path.isdir(f"{prefix}/.scr/scr.dataset.{other[1]}"):
            return 1  # the real one says nothing of a dataset that is not there
        return unknown(expected)
    recorded = answers((case / f"build_lost_{lost}.log").read_text())[0]
    try:
        (Path(plan["bin_dir"]) / ".built").touch(exist_ok=False)
    except FileExistsError:
        return replay(recorded[-1:])  # there is a summary now, and nothing is looked at again
    with tarfile.open(case / f"prefix_2_built_lost_{lost}.tar") as archive:
        unpack(archive, prefix, [member for member in archive if member.isfile()])
    return replay(recorded)


def _of_rank(
    archive: tarfile.TarFile, hidden: str, rank: str, recorded_prefix: str
) -> List[tarfile.TarInfo]:
    """Return the files of the archive that a rank's node copied for it, with their directories."""
    from scrjob.formats import filemap, kvtree

    stream = archive.extractfile(f"{hidden}/filemap_{rank}")
    assert stream is not None
    wanted = set()
    for meta in filemap.parse(kvtree.decode(stream.read(), "filemap")).values():
        assert meta is not None
        directory = os.path.relpath(str(meta.directory), recorded_prefix)
        wanted |= {f"./{directory}", f"./{directory}/{meta.name}"}
    own = re.compile(re.escape(hidden) + rf"/(filemap_{rank}|reddesc(map)?\.er\.{rank}\..*redset)")
    return [member for member in archive if member.name in wanted or own.fullmatch(member.name)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

# SPDX-License-Identifier: BSD-3-Clause
"""A stand-in for Slurm's srun, scontrol and scancel: real processes on this machine, nodes by name only.

It knows the calls that scrjob makes and no others (exit code 97), keeps its steps in the directory of
FAKESLURM_STATE, and says what a real srun 22.05 says. Where a rank runs it is told by SLURMD_NODENAME.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Sequence

from scrjob.hostlist import expand_hosts

EXIT_UNKNOWN_CALL = 97
JOB = "7"
PR_SET_NAME = 15
TOOLS = ("srun", "scontrol", "scancel")
_WITH_VALUE = re.compile(r"(-[Nn]|--(?:nodes|nodelist|exclude|kill-on-bad-exit)=)(.+)")
# Takes nothing from the terminal that it is not in front of, as the real one.
IGNORED = (signal.SIGTTIN, signal.SIGTTOU)


def install(bin_dir: Path, state: Path, nodes: Sequence[str], cpus: int = 2) -> dict[str, str]:
    """Put the tools into a directory; return the environment of an allocation of these nodes."""
    bin_dir.mkdir()
    state.mkdir()
    for tool in TOOLS:
        path = bin_dir / tool
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {tool} "$@"\n')
        path.chmod(0o755)
    package = Path(sys.modules["scrjob"].__file__ or "").parents[1]
    return {
        "PATH": f"{bin_dir}:/usr/bin:/bin",
        "PYTHONPATH": str(package),
        "FAKESLURM_STATE": str(state),
        "SLURM_JOB_ID": JOB,
        "SLURM_JOB_NODELIST": ",".join(nodes),
        "SLURM_JOB_CPUS_PER_NODE": f"{cpus}(x{len(nodes)})",
        "SLURM_NNODES": str(len(nodes)),
    }


def calls(state: Path) -> list[list[str]]:
    """Return all calls so far, each with the tool's name first."""
    log = state / "calls"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def unknown(why: str) -> int:
    print(f"fakeslurm: no such call: {why}", file=sys.stderr)
    return EXIT_UNKNOWN_CALL


def steps(state: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(state.glob("step.*.json")):
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            found.append(json.loads(path.read_text()))
    return found


# -- srun ---------------------------------------------------------------------------------------


def srun(state: Path, argv: Sequence[str]) -> int:
    rest = list(argv)
    values: dict[str, str] = {}
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word in ("-N", "-n"):
            values[word] = rest.pop(0)
        elif found := _WITH_VALUE.fullmatch(word):
            values[found[1]] = found[2]
        elif word in ("--overlap", "--pty"):
            values[word] = ""
        else:
            return unknown(f"srun {word}")
    named, refused = expand_hosts(values["--nodelist="]), expand_hosts(values.get("--exclude="))
    count = int(values.get("-N") or values["--nodes="])
    if set(named) & set(refused) or len(named) != count:
        print("srun: error: Only allocated fewer nodes", file=sys.stderr)
        return 1
    everywhere = expand_hosts(os.environ["SLURM_JOB_NODELIST"])
    if set(named) | set(refused) != set(everywhere):
        return unknown(f"srun without a word on {set(everywhere) - set(named) - set(refused)}")
    taken = [n for step in steps(state) for n in step["nodes"] if n in named]
    if taken and "--overlap" not in values:
        print("srun: Job 7 step creation temporarily disabled, retrying", file=sys.stderr)
        time.sleep(3600)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    return Step(state, [n for n in everywhere if n in named], rest).run(
        "0" not in values["--kill-on-bad-exit="]
    )


class Step:
    def __init__(self, state: Path, nodes: list[str], program: list[str]) -> None:
        self.number = len(list(state.glob("number.*")))
        (state / f"number.{self.number}").touch()
        self.path = state / f"step.{self.number}.json"
        self.ranks: dict[subprocess.Popen[bytes], tuple[int, str]] = {}
        self.nodes = nodes
        self.program = program
        self.code = 0

    def run(self, kill_on_bad_exit: bool) -> int:
        for rank, node in enumerate(self.nodes):
            environ = {
                **os.environ,
                "SLURMD_NODENAME": node,
                "SLURM_PROCID": str(rank),
                "SLURM_STEP_ID": str(self.number),
            }
            try:
                made = subprocess.Popen(self.program, env=environ, start_new_session=True)
            except OSError as error:
                print(f"slurmstepd-{node}: error: execve(): {error}", file=sys.stderr)
                print(f"srun: error: {node}: task {rank}: Exited with exit code 2", file=sys.stderr)
                return 2
            self.ranks[made] = (rank, node)
        record = {
            "number": self.number,
            "nodes": self.nodes,
            "pid": os.getpid(),
            "ranks": [made.pid for made in self.ranks],
        }
        self.path.with_suffix(".part").write_text(json.dumps(record))
        self.path.with_suffix(".part").rename(self.path)
        try:
            while self.ranks:
                self._look(kill_on_bad_exit)
                time.sleep(0.02)
        finally:
            self.path.unlink()
        return self.code

    def _look(self, kill_on_bad_exit: bool) -> None:
        for made, (rank, node) in list(self.ranks.items()):
            code = made.poll()
            if code is None:
                continue
            del self.ranks[made]
            self.code = max(self.code, code if code >= 0 else 128 - code)
            if code:
                how = f"Exited with exit code {code}" if code > 0 else signal.strsignal(-code)
                print(f"srun: error: {node}: task {rank}: {how}", file=sys.stderr, flush=True)
            if code and kill_on_bad_exit:
                for other in self.ranks:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(other.pid, signal.SIGKILL)


# -- scontrol and scancel -------------------------------------------------------------------------


def scontrol(state: Path, argv: Sequence[str]) -> int:
    if list(argv) != ["--oneliner", "show", "step", JOB]:
        return unknown(f"scontrol {argv}")
    listed = steps(state)
    for step in listed:
        nodes = ",".join(step["nodes"])
        print(
            f"StepId={JOB}.{step['number']} UserId=0 State=RUNNING NodeList={nodes} Name=x y "
            f"Network=(null) SrunHost:Pid={os.uname().nodename.split('.')[0]}:{step['pid']}"
        )
    if not listed:
        print(f"Job step {JOB}. not found")
    return int(not listed)


def scancel(state: Path, argv: Sequence[str]) -> int:
    rest = list(argv)
    number = signal.SIGTERM if rest[0] == "--signal=TERM" else signal.SIGKILL
    rest = rest[1:] if rest[0] == "--signal=TERM" else rest
    for step in steps(state):
        if rest == [f"{JOB}.{step['number']}"]:
            for pid in step["ranks"]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, number)
            return 0
    print(
        "scancel: error: Kill job error on job step id: Invalid job id specified", file=sys.stderr
    )
    return 1


def main(argv: Sequence[str]) -> int:
    tool, *rest = argv
    ctypes.CDLL(None).prctl(PR_SET_NAME, tool.encode())
    state = Path(os.environ["FAKESLURM_STATE"])
    with open(state / "calls", "a", encoding="utf-8") as log:
        log.write(json.dumps([tool, *rest]) + "\n")
    return {"srun": srun, "scontrol": scontrol, "scancel": scancel}[tool](state, rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

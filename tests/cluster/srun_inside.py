# SPDX-License-Identifier: BSD-3-Clause
"""What tests of the srun launcher do inside an allocation: ``python srun_inside.py SCENE [WORD...]``.

The test outside waits for files in the current directory, breaks hosts, and leaves files in turn. What
was seen goes to stdout as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Sequence

from scrjob import _slurm
from scrjob._context import system_context
from scrjob.launchers import _slurm_steps
from scrjob.launchers.srun import SRUN

LIMIT_S = 30.0
BEAT = 'while :; do date +%s > "beat.$1.$SLURMD_NODENAME"; sleep 0.2; done'
STUBBORN = "trap '' TERM; " + BEAT


def launcher(**environ: str) -> SRUN:
    made = SRUN()
    made.bind(system_context({**os.environ, **environ}))
    made.hostfile = os.path.abspath("hostfile")
    return made


def wait_for(question: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + LIMIT_S
    while not (answer := question()):
        assert time.monotonic() < end, f"no {what} within {LIMIT_S} s"
        time.sleep(0.02)
    return answer


def say(name: str) -> None:
    Path(name).touch()


def hear(name: str) -> None:
    wait_for(Path(name).exists, f"file {name}")


def beating(where: SRUN, nodes: Sequence[str], name: str = "a", text: str = BEAT) -> Any:
    """Start a step whose tasks write down that they live; return it when they do."""
    words = [f"-N{len(nodes)}", "sh", "-c", text, "sh", name]
    step, _ = where.launch_run(words, nodes, [])
    wait_for(lambda: all(Path(f"beat.{name}.{node}").exists() for node in nodes), "beat")
    wait_for(lambda: where.step_nodes(step), "step nodes")
    return step


def seconds(action: Callable[[], Any]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def abandon(*program: str) -> Any:
    """n2 dies under a step on n1 and n2; the next one runs on n1 and n3."""
    where = launcher()
    first = beating(where, ["n1", "n2"])
    say("ready")
    hear("dead")
    taken = seconds(lambda: where.abandon_run(first, ["n2"]))
    began = time.monotonic()
    second, _ = where.launch_run(["-N2", *program], ["n1", "n3", "n4", "n5"], ["n2"])
    finished = where.wait_run(second, LIMIT_S)
    relaunched = time.monotonic() - began
    listed = _slurm_steps.list_steps(where.context, first.job, 5.0)
    return {
        "abandon": taken,
        "relaunch": relaunched,
        "finished": finished,
        "chosen": second.chosen,
        "old step is listed": first.number in [step.number for step in listed],
        "old code": first.poll(),
    }


def kill(text: str) -> Any:
    where = launcher()
    step = beating(where, ["n1", "n2"], text={"polite": BEAT, "stubborn": STUBBORN}[text])
    say("ready")
    hear("broken")
    taken = seconds(lambda: where.kill_run(step))
    code = step.poll()
    again = seconds(lambda: where.kill_run(step))
    return {"kill": taken, "again": again, "code": code}


def orphan(killed: str) -> Any:
    """Two supervisors die; what the first left is found by its successor, the other's step lives."""
    ours, theirs = (_left_by(name, node) for name, node in (("one", "n1"), ("two", "n2")))
    if killed == "srun too":
        os.kill(ours, signal.SIGKILL)
    os.unlink("beat.two.n2")
    where = launcher(SCR_JOB_ID="one", SCR_PREFIX="/p")
    found = where.end_orphan("")
    ended = seconds(lambda: wait_for(lambda: not _beats("one", "n1"), "end of the step"))
    return {
        "found": found,
        "ended": ended,
        "other lives": _beats("two", "n2") and os.path.exists(f"/proc/{theirs}"),
    }


def _left_by(name: str, node: str) -> int:
    """Start a step from a process that is killed; return the process id of its srun."""
    words = [sys.executable, __file__, "supervise", name, node]
    environ = {**os.environ, "SCR_JOB_ID": name, "SCR_PREFIX": "/p"}
    with subprocess.Popen(words, env=environ) as supervisor:
        hear(f"supervised.{name}")
        supervisor.kill()
    return int(Path(f"supervised.{name}").read_text())


def supervise(name: str, node: str) -> Any:
    where = launcher()
    noisy = f"while :; do echo noise >&2; sleep 0.1; done & {BEAT}"
    step = beating(where, [node], name, noisy)
    Path(f"part.{name}").write_text(str(step.pid))
    os.rename(f"part.{name}", f"supervised.{name}")
    time.sleep(600)


def _beats(name: str, node: str) -> bool:
    """Tell whether a step writes down that it lives."""
    beat = Path(f"beat.{name}.{node}")
    beat.unlink(missing_ok=True)
    time.sleep(0.6)
    return beat.exists()


def lists() -> Any:
    """Node lists in files, both of them, as for a machine whose lists fit into no argument."""
    _slurm.ARGUMENT_BYTES = 1
    where = launcher()
    words = ["-N2", "-n4", "sh", "-c", "touch ran.$SLURMD_NODENAME"]
    step, _ = where.launch_run(words, ["n4", "n2"], ["n3"])
    finished = where.wait_run(step, LIMIT_S)
    files = [Path(f"hostfile.{name}.0").read_text() for name in ("nodelist", "exclude")]
    return [finished, sorted(path.name for path in Path().glob("ran.*")), *files]


def parts() -> Any:
    """A step of two parts."""
    where = launcher()
    text = (
        'echo "$SLURMD_NODENAME" > "part.$0.$SLURM_PROCID"; while [ ! -e go ]; do sleep 0.1; done'
    )
    words = ["-N2", "sh", "-c", text, "a", ":", "-N1", "sh", "-c", text, "b"]
    step, _ = where.launch_run(words, ["n2", "n3", "n4", "n5"], ["n1"])
    wait_for(lambda: len(list(Path().glob("part.*"))) == 3, "tasks")
    nodes = wait_for(lambda: where.step_nodes(step), "step nodes")
    where.kill_run(step)
    ran = {path.name[5]: [] for path in Path().glob("part.*")}
    for path in sorted(Path().glob("part.*")):
        ran[path.name[5]].append(path.read_text().strip())
    return {"nodes": nodes, "ran": ran, "code": step.poll()}


def messages(*argv: str) -> Any:
    where = launcher()
    step, _ = where.launch_run(argv, ["n1", "n2"], [])
    where.wait_run(step, LIMIT_S)
    said = [(message.said.name, message.node) for message in where.messages(step)]
    return {"said": list(dict.fromkeys(said)), "status": where.exit_status(step)}


def marked() -> Any:
    """By which variables are ranks known on their nodes?"""
    where = launcher()
    step = beating(where, ["n2"])
    marks = where.rank_environ(step)
    Path("marks").write_text("\n".join(f"{name}={value}" for name, value in marks.items()))
    say("ready")
    hear("looked")
    where.kill_run(step)
    return marks


def terminal(program: str) -> Any:
    """Type at a program under scr_srun; return what was on the screen, and its exit code."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
    from screen import END_OF_INPUT, INTERRUPT, Screen

    words, dialogue = {
        "cat": (["cat"], [(b"launched on", b"hello\n"), (b"hello\r\nhello\r\n", END_OF_INPUT)]),
        "sleep": (
            ["sh", "-c", "echo up >&2; exec sleep 60"],
            [(b"up\r\n", INTERRUPT), (b"SIGINT received", INTERRUPT)],
        ),
        "python": (
            ["--pty", sys.executable, "-q"],
            [(b">>> ", b"6*7\n"), (b"42\r\n>>> ", b"exit(5)\n")],
        ),
    }[program]
    argv = [sys.executable, "-m", "scrjob", "scr_srun", "-N1", *words]
    screen = Screen(argv, {**os.environ, "SCR_PREFIX": os.getcwd(), "SCR_NODE_TESTS": "resmgr"})
    for text, keys in dialogue:
        screen.wait(text)
        screen.type(keys)
    code = screen.code()
    return {"seen": screen.seen.decode("ascii", "replace"), "code": code}


def two_steps(kind: str) -> Any:
    """A step on n1 and n2 and another on n3; somebody else ends them."""
    where = launcher()
    first = beating(where, ["n1", "n2"], text=BEAT if kind == "polite" else STUBBORN)
    second = beating(where, ["n3"], name="b")
    say("ready")
    hear("over")
    return [step.wait(LIMIT_S) for step in (first, second)]


SCENES = {
    scene.__name__: scene
    for scene in (
        abandon,
        kill,
        orphan,
        supervise,
        lists,
        parts,
        messages,
        marked,
        terminal,
        two_steps,
    )
}


def main(argv: Sequence[str]) -> int:
    print(json.dumps(SCENES[argv[0]](*argv[1:])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

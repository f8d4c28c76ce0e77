# SPDX-License-Identifier: BSD-3-Clause
"""``scr_ckpt_interval``: how often should this simulation checkpoint?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Optional, Sequence

from scrjob import ckpt_interval
from scrjob.commands._shared import add_prefix, complain, environ, make_parser, run_command
from scrjob.scrlog import iter_file, log_path

if TYPE_CHECKING:
    import argparse

    from scrjob.ckpt_interval import Observed

PROG = "scr_ckpt_interval"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Print the interval in seconds, or the overhead in percent; returns 0, 1 if a log is unreadable."""
    return run_command(PROG, _run, argv)


def _run(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    observed = _observe(args)
    interval_s = ckpt_interval.interval(observed, args.model)
    if observed.cost_s is None:
        complain(PROG, f"no checkpoint seen, assuming {ckpt_interval.DEFAULT_COST_S:g} s for each")
    if args.stats:
        _print_stats(observed)
    if args.percent:
        print(f"{ckpt_interval.overhead_percent(observed, interval_s):.2f}")
    else:
        print(f"{interval_s:.1f}")
    return 0


def _observe(args: argparse.Namespace) -> Observed:
    if args.logfile:
        return ckpt_interval.observe(iter_file(args.logfile))
    from scrjob.jobenv import resolve_prefix  # noqa: PLC0415 - not with --logfile

    path = log_path(resolve_prefix(args.prefix or environ().get("SCR_PREFIX")))
    try:
        return ckpt_interval.observe(iter_file(path))
    except FileNotFoundError:
        complain(PROG, f"no log {path}; run with SCR_LOG_ENABLE=1 to get one")
        return ckpt_interval.Observed()


def _print_stats(observed: Observed) -> None:
    rows = (
        ("checkpoints", f"{observed.checkpoints}"),
        ("checkpoint_cost_s", "unknown" if observed.cost_s is None else f"{observed.cost_s:.3f}"),
        ("runs", f"{observed.runs}"),
        ("run_time_s", f"{observed.run_s:.1f}"),
        ("failures", f"{observed.failures}"),
        ("restarts", f"{observed.restarts}"),
        ("failed_restarts", f"{observed.failed_restarts}"),
        ("mtbf_s", f"{observed.mtbf_s:.1f}"),
    )
    for name, value in rows:
        print(f"{name}: {value}")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        PROG,
        "Print the best time between two checkpoints, in seconds, from the SCR log of past runs.",
    )
    add_prefix(parser)
    parser.add_argument(
        "--logfile", metavar="FILE", help="the log (default: .scr/log in the prefix)"
    )
    parser.add_argument(
        "--model", choices=sorted(ckpt_interval.MODELS), default="daly", help="default: daly"
    )
    parser.add_argument("--stats", action="store_true", help="print first what the log shows")
    parser.add_argument(
        "--percent",
        action="store_true",
        help="print the cost of that interval in percent, for SCR_CHECKPOINT_OVERHEAD",
    )
    return parser

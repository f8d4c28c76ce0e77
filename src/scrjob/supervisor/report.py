# SPDX-License-Identifier: BSD-3-Clause
"""The account at the end of a job: runs, causes, where the time went, what is safe.

The same facts as text for people and as ``report.json`` beside the state file (docs/state.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Sequence

from scrjob.model import Cause
from scrjob.scrlog import iter_file, log_path

if TYPE_CHECKING:
    from scrjob.postrun import Postrun
    from scrjob.protocols import JobEnvironment
    from scrjob.supervisor.loop import Outcome
    from scrjob.supervisor.state import JobState

SCHEMA = 1
CHECKPOINTING = ("CHECKPOINT_END", "OUTPUT_END", "FLUSH_SUCCESS", "FLUSH_FAIL")
"""Log events whose seconds are the time that the program waited for its data to be safe."""


def account(
    state: dict[str, Any], checkpointing: Optional[list[tuple[float, float]]], now: float
) -> dict[str, Any]:
    """Return where the time of a session went, in seconds. Pure.

    Args:
        state: the state of docs/state.md.
        checkpointing: (Unix seconds of the end, seconds) of each checkpoint; None: not known.
        now: Unix seconds at the end.

    Returns:
        total; computing, checkpointing (None if unknown), lost work and waiting between runs by the
        cause of the run before. computing + checkpointing + lost + waiting make up total, as far
        as known; computing includes checkpointing where that is unknown.
    """
    runs = [run for run in state["runs"] if run["session"] == state["session"]]
    lost: dict[str, float] = {}
    waiting: dict[str, float] = {}
    running = 0.0
    rows = []
    previous_end, previous_cause = None, "start"
    began = runs[0]["started"] if runs else now
    for run in runs:
        ended = run["ended"] if run["ended"] is not None else now
        launched = run["launched"] or run["started"]
        gap = launched - (previous_end if previous_end is not None else run["started"])
        waiting[previous_cause] = waiting.get(previous_cause, 0.0) + max(0.0, gap)
        running += ended - launched
        if run["lost_seconds"]:
            lost[run["cause"]] = lost.get(run["cause"], 0.0) + run["lost_seconds"]
        spent = None
        if checkpointing is not None:
            spent = sum(secs for when, secs in checkpointing if run["started"] <= when <= ended + 1)
        rows.append(
            {
                "run": run["run"],
                "cause": run["cause"],
                "evidence": run["evidence"],
                "seconds": ended - launched,
                "checkpointing": spent,
                "lost": run["lost_seconds"],
                "wait_before": max(0.0, gap),
            }
        )
        previous_end, previous_cause = ended, run["cause"] or "unknown"
    spent_all = None
    if checkpointing is not None:
        spent_all = sum(row["checkpointing"] for row in rows)
    return {
        "total": now - began,
        "computing": max(0.0, running - sum(lost.values()) - (spent_all or 0.0)),
        "checkpointing": spent_all,
        "lost": lost,
        "waiting": waiting,
        "runs": rows,
    }


def log_records(jobenv: JobEnvironment) -> list[dict[str, Any]]:
    """Return the events of the SCR log of this prefix, of all jobs; [] if no log is kept."""
    try:
        records = list(iter_file(log_path(jobenv.dir_prefix())))
    except OSError:
        return []
    return [record for record in records if record.get("type") == "event"]


def checkpoint_seconds(
    records: Sequence[dict[str, Any]], job_id: str
) -> Optional[list[tuple[float, float]]]:
    """Return (when, seconds) of each checkpoint and flush of a job, None if the log has none. Pure."""
    mine = [
        (record["timestamp"].timestamp(), record.get("secs", 0.0))
        for record in records
        if record["label"] in CHECKPOINTING and record.get("jobid") == job_id
    ]
    return mine or None


def advice(records: Sequence[dict[str, Any]]) -> Optional[float]:
    """Return the seconds between checkpoints that cost the least time, None without a checkpoint. Pure.

    Source: Daly's formula, see ``scrjob.ckpt_interval``.
    """
    from scrjob.ckpt_interval import interval, observe  # noqa: PLC0415 - at the end of a job only

    observed = observe(records)
    return interval(observed) if observed.checkpoints else None


def make_report(
    jobenv: JobEnvironment,
    job_state: JobState,
    outcome: Outcome,
    saved: Optional[Postrun],
    scavenge_seconds: float,
) -> dict[str, Any]:
    """Return the report of docs/state.md, and write it to ``report.json`` beside the state."""
    data = job_state.data
    now = jobenv.context.clock.now()
    records = log_records(jobenv)
    report = {
        "schema": SCHEMA,
        "job_id": data["job_id"],
        "prefix": data["prefix"],
        "exit_code": outcome.code,
        "why": outcome.why,
        "ended": now,
        "scavenge_seconds": scavenge_seconds,
        "time": account(data, checkpoint_seconds(records, data["job_id"]), now),
        "checkpoint_interval": advice(records),
        "bad_nodes": data["bad_nodes"],
        "datasets": [row._asdict() for row in saved.datasets] if saved else [],
        "newest_safe": saved.newest_safe if saved else None,
    }
    job_state.write_report(report)
    return report


def report_lines(report: dict[str, Any]) -> list[str]:
    """Return the report as lines for people."""
    time = report["time"]
    lines = ["summary:"]
    lines += [
        f"  run {row['run']}: {row['seconds']:.1f} s, {row['cause'] or 'not launched'}"
        + (f" ({row['evidence'][0]})" if row["evidence"] else "")
        + (f", {row['lost']:.1f} s of work lost" if row["lost"] else "")
        + (f", {row['wait_before']:.1f} s until it was launched" if row["wait_before"] else "")
        for row in time["runs"]
    ]
    lines += _cause_lines(time)
    lines += [
        f"  node {n} was bad: {verdict['reason']}" for n, verdict in report["bad_nodes"].items()
    ]
    spent = time["checkpointing"]
    lines.append(
        f"  time {time['total']:.1f} s: computing {time['computing']:.1f} s, "
        + (
            "checkpointing not known (none in the log; SCR_LOG_ENABLE=1 keeps one)"
            if spent is None
            else f"checkpointing {spent:.1f} s"
        )
        + f", lost {sum(time['lost'].values()):.1f} s, "
        f"between runs {sum(time['waiting'].values()):.1f} s, scavenge {report['scavenge_seconds']:.1f} s"
    )
    if report["checkpoint_interval"]:
        lines.append(
            f"  advice: a checkpoint every {report['checkpoint_interval']:.0f} s of computing costs the least"
        )
    lines += [_dataset_line(row) for row in report["datasets"]]
    if not report["datasets"]:
        lines.append("  no dataset was left to save")
    lines.append(f"  exit code {report['exit_code']}: {report['why']}")
    return lines


def _cause_lines(time: dict[str, Any]) -> list[str]:
    """Return what each cause has cost, the dearest first."""
    counts: dict[str, int] = {}
    for row in time["runs"]:
        if row["cause"] and row["cause"] != Cause.SUCCESS.value:
            counts[row["cause"]] = counts.get(row["cause"], 0) + 1
    cost = {
        cause: (time["lost"].get(cause, 0.0), time["waiting"].get(cause, 0.0)) for cause in counts
    }
    return [
        f"  {cause}: {counts[cause]} run{'s' if counts[cause] > 1 else ''}, {cost[cause][0]:.1f} s of work, "
        f"{cost[cause][1]:.1f} s until the next launch"
        for cause in sorted(cost, key=lambda cause: -sum(cost[cause]))
    ]


def _dataset_line(row: dict[str, Any]) -> str:
    state = "safe" if row["safe"] else "NOT SAFE"
    return f"  {row['kind']} {row['name']} (dataset {row['dataset_id']}): {state}, {row['how']}"

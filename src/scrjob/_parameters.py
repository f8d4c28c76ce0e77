# SPDX-License-Identifier: BSD-3-Clause
"""The settings that scrjob and SCR's library know: one table, which docs/configuration.md repeats.

Readers: L the checkpoint library (SCR's own, and ``scrjob.client`` where it has the feature), T the small
tools, S the commands and the run loop, E where the C side looks at the environment only.

Source: defaults of SCR 3.1's code; where its manual prints other numbers, the code holds.
"""

from __future__ import annotations

from typing import Iterable, NamedTuple, Optional

from scrjob import config


class Parameter(NamedTuple):
    """One setting: ``default`` None means that being unset has a meaning of its own."""

    name: str
    default: Optional[str]
    readers: str
    meaning: str


_ROWS: tuple[tuple[str, Optional[str], str, str], ...] = (
    ("SCR_ENABLE", "1", "L S", "0 switches SCR off: programs run unchanged"),
    ("SCR_DEBUG", "0", "L S", "how much is told on stderr: 0, 1 or 2"),
    ("SCR_PREFIX", None, "L T S", "prefix directory; unset: the current directory"),
    ("SCR_CONF_FILE", None, "L T S", "user configuration file; unset: .scrconf in the prefix"),
    ("SCR_USER_NAME", None, "L S", "user in paths and records; unset: USER, then the uid's name"),
    ("SCR_JOB_ID", None, "L S", "job id; unset: the resource manager's, then defjobid"),
    ("SCR_JOB_NAME", None, "L T", "label that ties the runs of one simulation together"),
    ("SCR_CLUSTER_NAME", None, "L", "label of the machine"),
    ("SCR_CNTL_BASE", config.SCR_CNTL_BASE, "L S", "base of the control directory on a node"),
    ("SCR_CACHE_BASE", config.SCR_CACHE_BASE, "L S", "base of the cache directory on a node"),
    ("SCR_CACHE_SIZE", "1", "L S", "datasets kept in cache"),
    ("SCR_CACHE_BYPASS", "1", "L", "1: programs write to the prefix, only metadata is cached"),
    ("SCR_CACHE_PURGE", "0", "L", "1: empty the cache at the start"),
    (
        "SCR_COPY_TYPE",
        "XOR",
        "L",
        "redundancy: SINGLE, PARTNER, XOR, RS; else taken from CKPT lines",
    ),
    ("SCR_GROUP", "NODE", "L", "what fails together"),
    ("SCR_SET_SIZE", "8", "L", "ranks in a redundancy set, at least"),
    ("SCR_SET_FAILURES", "2", "L", "losses that one RS set survives"),
    ("SCR_CHECKPOINT_INTERVAL", "0", "L", "checkpoint at every Nth question"),
    ("SCR_CHECKPOINT_SECONDS", "0", "L", "checkpoint when the last one is so many seconds old"),
    ("SCR_CHECKPOINT_OVERHEAD", "0.0", "L", "checkpoint while it costs less than this percentage"),
    ("SCR_HALT_SECONDS", "0", "L T S", "halt when so few seconds of the allocation are left"),
    ("SCR_HALT_EXIT", "0", "L", "1: the library ends the program at a halt condition"),
    ("SCR_END_TIME", None, "L E", "end of the allocation, Unix seconds; set by scr_run"),
    ("SCR_MPI_BUF_SIZE", "1048576", "L", "bytes moved at once between ranks"),
    ("SCR_FILE_BUF_SIZE", "33554432", "L S", "bytes moved at once between files"),
    ("SCR_COPY_METADATA", "1", "L", "1: mode and times are copied with a file"),
    ("SCR_AXL_MKDIR", "0", "L", "1: the transfer layer makes directories"),
    ("SCR_DISTRIBUTE", "1", "L", "1: rebuild lost files in cache at a restart"),
    ("SCR_FETCH", "1", "L", "1: a restart may read from the prefix"),
    ("SCR_FETCH_BYPASS", "0", "L", "1: restart files are read in place, not copied to cache"),
    ("SCR_FETCH_WIDTH", "256", "L", "read but not used by SCR 3.1"),
    ("SCR_CURRENT", None, "L", "name of the checkpoint to restart from"),
    ("SCR_FLUSH", "10", "L", "flush every Nth checkpoint to the prefix; 0: none"),
    ("SCR_FLUSH_TYPE", "SYNC", "L", "how a flush moves files"),
    ("SCR_FLUSH_WIDTH", "256", "L", "read but not used by SCR 3.1"),
    ("SCR_FLUSH_ON_RESTART", "0", "L", "1: flush what is cached at the start"),
    ("SCR_GLOBAL_RESTART", "0", "L", "1: restart from the prefix only"),
    ("SCR_FLUSH_ASYNC", "0", "L", "1: flush while the program computes"),
    ("SCR_FLUSH_ASYNC_BW", "209715200", "L", "read but not used by SCR 3.1"),
    ("SCR_FLUSH_ASYNC_PERCENT", "0.0", "L", "read but not used by SCR 3.1"),
    ("SCR_FLUSH_ASYNC_USLEEP", "1000", "L", "microseconds between looks at a transfer"),
    ("SCR_FLUSH_POSTSTAGE", "0", "L S", "1: a flush may end after the job, in a script"),
    ("SCR_PREFIX_SIZE", "0", "L S", "checkpoints kept in the prefix; 0: all"),
    ("SCR_PREFIX_PURGE", "0", "L", "1: delete all indexed datasets at the start"),
    ("SCR_DROP_AFTER_CURRENT", "0", "L", "1: naming a checkpoint drops the later index entries"),
    ("SCR_CRC_ON_COPY", "0", "L", "1: checksum files in cache"),
    ("SCR_CRC_ON_DELETE", "0", "L", "1: check checksums when files are deleted"),
    ("SCR_CRC_ON_FLUSH", "1", "S", "0: a scavenge copies without checksums"),
    ("SCR_SCAVENGE_WIDTH", "256", "S", "nodes that copy at the same time in a scavenge"),
    (
        "SCR_SCAVENGE_BW",
        None,
        "S",
        "bytes per second of a scavenge, all nodes together; unset: no limit",
    ),
    (
        "SCR_SCAVENGE_STALL",
        "120",
        "S",
        "seconds without progress after which a node is given up in a scavenge; 0: never",
    ),
    (
        "SCR_SCAVENGE_VERIFY",
        "0",
        "S",
        "1: a scavenge or build reads all back, checks checksums and redundancy, repairs",
    ),
    ("SCR_LOG_ENABLE", "0", "L T S", "1: events are logged; the next three say where"),
    ("SCR_LOG_TXT_ENABLE", "1", "L T S", "1: to the file .scr/log in the prefix"),
    ("SCR_LOG_SYSLOG_ENABLE", "1", "L T S", "1: to syslog"),
    ("SCR_LOG_DB_ENABLE", "0", "L T", "1: to a database, in builds of SCR that have it"),
    ("SCR_LOG_DB_DEBUG", "0", "L T", "as above"),
    ("SCR_LOG_DB_HOST", None, "L T", "as above"),
    ("SCR_LOG_DB_NAME", None, "L T", "as above"),
    ("SCR_LOG_DB_USER", None, "L T", "as above"),
    ("SCR_LOG_DB_PASS", None, "L T", "as above"),
    ("SCR_RUNS", None, "S", "launches that scr_run may do, -1 no limit; unset: SCR_RETRIES+1"),
    ("SCR_RETRIES", "0", "S", "relaunches that scr_run may do if SCR_RUNS is unset"),
    ("SCR_MIN_NODES", None, "S", "nodes that a run needs; unset: those of the last run"),
    ("SCR_EXCLUDE_NODES", None, "S", "nodes never to be used"),
    ("SCR_NODELIST", None, "S", "nodes to use in place of the allocation's"),
    (
        "SCR_NODE_TESTS",
        config.SCR_NODE_TESTS or None,
        "S",
        "node tests; unset: what fits the machine",
    ),
    ("SCR_WATCHDOG", "0", "S", "1: watch for hung programs"),
    (
        "SCR_WATCHDOG_TIMEOUT",
        None,
        "S",
        "seconds without progress that mean a hang, at most; unset: learned",
    ),
    ("SCR_WATCHDOG_TIMEOUT_PFS", None, "S", "the same while a dataset goes to the prefix"),
    ("SCR_WATCHDOG_STARTUP", None, "S", "seconds that a program may take to its first progress"),
    ("SCR_WATCHDOG_FILE", None, "S", "files in the prefix whose change is progress, joined by :"),
    ("SCR_WATCHDOG_OUTPUT", "0", "S", "1: output that goes to a file is a sign of progress"),
    ("SCR_HEARTBEAT", "1", "S", "0: the nodes of a run are not asked whether they are alive"),
    ("SCR_HEARTBEAT_PING", "1", "S", "seconds from one ping of them to the next; 0: none"),
    ("SCR_HEARTBEAT_ECHO", "30", "S", "seconds from one command on them to the next; 0: none"),
    ("SCR_HEARTBEAT_PATIENCE", "3", "S", "seconds that a doubted node gets to answer"),
    ("SCR_RESOURCE_MANAGER", None, "S", "resource manager by name; unset: detected"),
    (
        "SCR_REMOTE_EXEC",
        None,
        "S",
        "way to run commands on nodes; unset: what works, in the manager's order",
    ),
    ("SCR_SSH", None, "S", "program, with options, that reaches a node in place of ssh"),
    ("SCR_SSH_FANOUT", "128", "S", "nodes that are reached by ssh at the same time"),
    ("SCR_LAUNCHER_MESSAGES", "1", "S", "0: what the launcher says on stderr is not read"),
    (
        "SCR_BIN_DIR",
        config.SCR_BIN_DIR or None,
        "S",
        "SCR's own executables; unset: scrjob needs none",
    ),
    ("SCR_HALT_GRACE", "60", "S", "seconds that a program has to end after a halt request"),
    ("SCR_RUN_SETTLE_SECONDS", "30", "S", "longest wait between two runs for steps and nodes"),
    (
        "SCR_RESERVE_SECONDS",
        None,
        "S",
        "time kept at the end for saving data; unset: a share of it",
    ),
    ("SCR_STACK_DIR", None, "L S", "where hung ranks write their stacks; set by scr_run"),
    ("CACHE", None, "S", "cache bases, `CACHE=DIR SIZE=N`; unset: SCR_CACHE_BASE and _SIZE"),
    ("CNTLDIR", None, "S", "space wanted for control, `CNTLDIR=DIR BYTES=SIZE`"),
    ("CACHEDIR", None, "S", "space wanted for cache, `CACHEDIR=DIR BYTES=SIZE`"),
    ("STORE", None, "L", "storage of a node, `STORE=DIR GROUP=.. COUNT=..`"),
    ("CKPT", None, "L", "redundancy scheme, `CKPT=N TYPE=.. STORE=.. INTERVAL=..`"),
    ("GROUPS", None, "L", "more failure groups, `GROUPS=HOST NAME=VALUE`"),
)

PARAMETERS = {row[0]: Parameter(*row) for row in _ROWS}
"""All settings by name, in the order of the documentation."""

ALIKE = 0.88  # ratio of difflib: one letter of SCR_RUNS wrong, but not SCR_NODES for SCR_NODELIST


def misspelt(names: Iterable[str]) -> dict[str, str]:
    """Return those SCR_* names that are no settings but look like one, with that one."""
    strange = [name for name in names if name.startswith("SCR_") and name not in PARAMETERS]
    if not strange:
        return {}
    from difflib import get_close_matches  # noqa: PLC0415 - hardly ever needed

    found = {name: get_close_matches(name, PARAMETERS, n=1, cutoff=ALIKE) for name in strange}
    return {name: close[0] for name, close in found.items() if close}

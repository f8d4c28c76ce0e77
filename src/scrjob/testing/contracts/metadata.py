# SPDX-License-Identifier: BSD-3-Clause
"""What every reader and writer of SCR's metadata in a prefix must answer."""

from __future__ import annotations

import os
from typing import Any, Mapping, Protocol

import pytest

from scrjob.errors import FormatError, ScrError
from scrjob.formats import dataset, kvtree
from scrjob.formats.kvtree import KVTree

ODD_NAME = "odd name = 'x' \"y\" \u00e9 %s"


class MetadataWorld(Protocol):
    """An empty prefix directory, and the wrappers that look at it."""

    prefix: str

    def flush_file(self) -> Any:
        """Return an object like ``scrjob.cli.SCRFlushFile``."""
        ...

    def halt_file(self) -> Any:
        """Return a new object like ``scrjob.cli.SCRHaltFile``."""
        ...

    def index(self) -> Any:
        """Return an object like ``scrjob.cli.SCRIndex``."""
        ...

    def nodes_file(self) -> Any:
        """Return an object like ``scrjob.cli.SCRNodesFile``."""
        ...

    def retries_halt(self) -> Any:
        """Return an object like ``scrjob.cli.SCRRetriesHalt``."""
        ...

    def log(self, **switches: str) -> Any:
        """Return an object like ``scrjob.cli.SCRLog`` for job 42 under these SCR_LOG_* settings."""
        ...


def put(world: MetadataWorld, name: str, content: Mapping[str, Any]) -> str:
    """Write a tree as ``<prefix>/.scr/<name>``; returns its path."""
    return put_bytes(world, name, kvtree.encode(KVTree.of(content)))


def put_bytes(world: MetadataWorld, name: str, data: bytes) -> str:
    """Write bytes as ``<prefix>/.scr/<name>``; returns the path."""
    path = os.path.join(world.prefix, ".scr", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    return path


def descriptor(number: int, name: str, *, ckpt: int = 1, output: int = 0) -> dict[str, Any]:
    """Return a dataset descriptor as a mapping."""
    return {
        "ID": number,
        "NAME": name,
        "FLAG_CKPT": ckpt,
        "FLAG_OUTPUT": output,
        "CREATED": 1,
        "USER": "alice",
        "JOBID": 42,
    }


def flush_content() -> dict[str, Any]:
    """Return a flush file: a checkpoint in cache, an output in both places, a bare entry."""
    return {
        "DATASET": {
            "10": {
                "NAME": ODD_NAME,
                "CKPT": 1,
                "LOCATION": {"CACHE": {}},
                "DSETDESC": descriptor(10, ODD_NAME),
            },
            "9": {
                "NAME": "both",
                "CKPT": 1,
                "OUTPUT": 1,
                "LOCATION": {"PFS": {}, "CACHE": {}},
                "DSETDESC": descriptor(9, "both", output=1),
            },
            "12": {"LOCATION": {"CACHE": {}}},
        }
    }


def index_content(current: str = "d.8") -> dict[str, Any]:
    """Return an index: a failed, a good, an incomplete checkpoint, and an output."""
    flushed = "2026-01-02T03:04:05"
    datasets = {
        "10": {
            "COMPLETE": 1,
            "FLUSHED": flushed,
            "FAILED": flushed,
            "DSET": descriptor(10, "d.10"),
        },
        "9": {"COMPLETE": 0, "DSET": descriptor(9, "d.9")},
        "8": {"COMPLETE": 1, "FLUSHED": flushed, "DSET": descriptor(8, "d.8")},
        "7": {"COMPLETE": 1, "FLUSHED": flushed, "DSET": descriptor(7, "d.7", ckpt=0, output=1)},
    }
    names = {f"d.{number}": {"DSET": number} for number in datasets}
    return {"VERSION": 2, "CURRENT": current, "NAME": names, "DSET": datasets}


TABLE = """\
DSET VALID FLUSHED             CUR NAME
  10 NO    2026-01-02T03:04:05     d.10
   9 NO                            d.9
   8 YES   2026-01-02T03:04:05   * d.8
"""
STOP = "scr_retries_halt: HALT RUN"
DAMAGED = b"\x95\x1f\xc3\xf5 this is no tree"


class MetadataContract:
    """Inherit it and supply the fixture ``world``."""

    # The flush file.

    def test_no_flush_file_no_datasets(self, world: MetadataWorld) -> None:
        flush = world.flush_file()
        assert flush.list_dsets_output() == []
        assert flush.list_dsets_ckpt() == []
        assert flush.latest() is None
        assert flush.name(1) is None
        assert flush.location(1) is None
        assert flush.need_flush(1) is False
        assert flush.write_summary(1) is False
        assert flush.resume(1) is False
        assert not os.path.exists(os.path.join(world.prefix, ".scr")), "a question made files"

    def test_empty_flush_file_no_datasets(self, world: MetadataWorld) -> None:
        put_bytes(world, "flush.scr", b"")
        flush = world.flush_file()
        assert flush.list_dsets_ckpt() == []
        assert flush.latest() is None

    def test_damaged_flush_file_is_an_error(self, world: MetadataWorld) -> None:
        put_bytes(world, "flush.scr", DAMAGED)
        for ask in ("list_dsets_output", "list_dsets_ckpt", "latest"):
            with pytest.raises(FormatError):
                getattr(world.flush_file(), ask)()
        for ask in ("name", "location", "need_flush"):
            with pytest.raises(FormatError):
                getattr(world.flush_file(), ask)(1)

    def test_lists_of_datasets(self, world: MetadataWorld) -> None:
        put(world, "flush.scr", flush_content())
        flush = world.flush_file()
        assert flush.list_dsets_ckpt() == ["10", "9"]
        assert flush.list_dsets_ckpt(before=10) == ["9"]
        assert flush.list_dsets_ckpt(before="9") == []
        assert flush.list_dsets_output() == ["9"]
        assert flush.latest() == "12"

    def test_one_dataset(self, world: MetadataWorld) -> None:
        put(world, "flush.scr", flush_content())
        flush = world.flush_file()
        assert flush.name(10) == flush.name("10") == ODD_NAME
        assert flush.location("10") == "CACHE"
        assert flush.location(9) == "PFS"
        assert flush.need_flush(10) is True
        assert flush.need_flush("9") is False
        assert flush.name(12) is None
        assert flush.name(99) is None
        assert flush.need_flush(99) is False
        assert flush.need_flush(-1) is False
        assert flush.name(0) is None

    def test_an_id_that_is_no_number_is_refused(self, world: MetadataWorld) -> None:
        with pytest.raises(ScrError):
            world.flush_file().name("ten")

    def test_summary_takes_the_dataset_out_of_the_flush_file(self, world: MetadataWorld) -> None:
        put(world, "flush.scr", flush_content())
        os.makedirs(os.path.join(world.prefix, ".scr", "scr.dataset.9"))
        flush = world.flush_file()
        assert flush.write_summary(9) is True
        assert flush.list_dsets_ckpt() == ["10"]
        tree = kvtree.read(os.path.join(world.prefix, ".scr", "scr.dataset.9", "summary.scr"))
        assert tree.integer("COMPLETE") == 1
        assert dataset.parse(tree.child("DSET") or KVTree()).name == "both"
        assert flush.write_summary(12) is False
        assert flush.latest() == "12"

    # The nodes file.

    @pytest.mark.parametrize(
        ("content", "count"),
        [({"NODES": 4}, 4), ({}, None), ({"NODES": {"4": {}, "5": {}}}, None)],
    )
    def test_number_of_nodes(self, world: MetadataWorld, content: Any, count: Any) -> None:
        put(world, "nodes.scr", content)
        assert world.nodes_file().last_num_nodes() == count

    def test_number_of_nodes_that_is_not_known(self, world: MetadataWorld) -> None:
        assert world.nodes_file().last_num_nodes() is None
        put_bytes(world, "nodes.scr", DAMAGED)
        assert world.nodes_file().last_num_nodes() is None
        put_bytes(world, "nodes.scr", b"")
        assert world.nodes_file().last_num_nodes() is None

    # The halt file.

    def test_set_unset_and_list(self, world: MetadataWorld) -> None:
        path = put(world, "halt.scr", {"HaltSeconds": 60})
        halt = world.halt_file()
        halt.set_checkpoints(5)
        halt.unset_seconds()
        heading = f"Halt file settings for {path}:\n"
        assert halt.execute() == (
            "Setting CheckpointsLeft\nUnsetting HaltSeconds\n\n"
            + heading
            + "  CheckpointsLeft: 5\n"
        )
        listing = world.halt_file()
        listing.set_list()
        assert listing.execute() == heading + "  CheckpointsLeft: 5\n"

    def test_zero_is_a_value(self, world: MetadataWorld) -> None:
        """Lesson A14: 0 checkpoints and 0 seconds are conditions like others."""
        os.makedirs(os.path.join(world.prefix, ".scr"))
        halt = world.halt_file()
        halt.set_checkpoints(0)
        halt.set_seconds(0)
        assert "CheckpointsLeft: 0\n" in halt.execute()
        tree = kvtree.read(os.path.join(world.prefix, ".scr", "halt.scr"))
        assert tree == KVTree.of({"CheckpointsLeft": 0, "HaltSeconds": 0})

    def test_nothing_collected_halts_at_once(self, world: MetadataWorld) -> None:
        os.makedirs(os.path.join(world.prefix, ".scr"))
        said = world.halt_file().execute()
        assert said.startswith("Setting ExitReason\n\nHalt file settings for ")
        assert said.endswith("  ExitReason:      JOB_HALTED\n")
        assert world.retries_halt().check() == f"{STOP}: Reason: JOB_HALTED."

    def test_all_conditions(self, world: MetadataWorld) -> None:
        os.makedirs(os.path.join(world.prefix, ".scr"))
        halt = world.halt_file()
        halt.set_before("1800000000")
        halt.set_after(1800000001)
        halt.set_halted()
        halt.execute()
        path = os.path.join(world.prefix, ".scr", "halt.scr")
        expected = {"ExitBefore": 1800000000, "ExitAfter": 1800000001, "ExitReason": "JOB_HALTED"}
        assert kvtree.read(path) == KVTree.of(expected)
        halt = world.halt_file()
        for part in ("before", "after", "reason", "checkpoints", "seconds"):
            getattr(halt, f"unset_{part}")()
        assert halt.execute().endswith("  None\n")
        assert kvtree.read(path) == KVTree()

    def test_listing_makes_no_file(self, world: MetadataWorld) -> None:
        halt = world.halt_file()
        halt.set_list()
        assert halt.execute().endswith("  None\n")
        assert not os.path.exists(os.path.join(world.prefix, ".scr"))

    def test_halt_file_that_cannot_be_made(self, world: MetadataWorld) -> None:
        with pytest.raises((ScrError, OSError)):
            world.halt_file().execute()

    def test_damaged_halt_file(self, world: MetadataWorld) -> None:
        path = put_bytes(world, "halt.scr", DAMAGED)
        listing = world.halt_file()
        listing.set_list()
        with pytest.raises(FormatError):
            listing.execute()
        assert world.retries_halt().check() is None
        said = world.halt_file().execute()
        assert said.startswith("Setting ExitReason\n\nHalt file")
        assert kvtree.read(path) == KVTree.of({"ExitReason": "JOB_HALTED"})

    def test_remove(self, world: MetadataWorld) -> None:
        path = put(world, "halt.scr", {"ExitReason": "R"})
        world.halt_file().remove()
        assert not os.path.exists(path)
        world.halt_file().remove()

    @pytest.mark.parametrize("number", ["soon", 1 << 40])
    def test_numbers_that_the_file_cannot_hold(self, world: MetadataWorld, number: Any) -> None:
        with pytest.raises(ScrError):
            world.halt_file().set_before(number)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ({}, None),
            ({"CheckpointsLeft": 3, "HaltSeconds": 100, "ExitAfter": 2000000000}, None),
            ({"CheckpointsLeft": 0}, f"{STOP}: No checkpoints remaining."),
            (
                {"ExitReason": "SCR_FINALIZE_CALLED", "CheckpointsLeft": 0},
                f"{STOP}: Reason: SCR_FINALIZE_CALLED.; {STOP}: No checkpoints remaining.",
            ),
        ],
    )
    def test_reason_to_stop(self, world: MetadataWorld, content: Any, reason: Any) -> None:
        assert world.retries_halt().check() is None
        put(world, "halt.scr", content)
        assert world.retries_halt().check() == reason

    @pytest.mark.parametrize("key", ["ExitBefore", "ExitAfter"])
    def test_time_to_stop(self, world: MetadataWorld, key: str) -> None:
        put(world, "halt.scr", {key: 1000})
        said = world.retries_halt().check()
        assert said.startswith(f"{STOP}: Current time (")
        assert key in said

    # The index.

    def test_table(self, world: MetadataWorld) -> None:
        put(world, "index.scr", index_content())
        assert world.index().list() == TABLE

    def test_no_table(self, world: MetadataWorld) -> None:
        index = world.index()
        assert index.list() is None
        for data in (b"", DAMAGED):
            put_bytes(world, "index.scr", data)
            assert index.list() is None
            assert index.current("d.8") is False
        put(world, "index.scr", {"VERSION": 1})
        assert index.list() is None

    def test_current(self, world: MetadataWorld) -> None:
        path = put(world, "index.scr", index_content())
        index = world.index()
        assert index.current("d.9") is True
        assert kvtree.read(path).text("CURRENT") == "d.9"
        before = kvtree.read(path)
        for name in ("d.7", "unknown", "-x"):
            assert index.current(name) is False
        assert kvtree.read(path) == before

    def test_add(self, world: MetadataWorld) -> None:
        path = put(world, "index.scr", index_content())
        content = {"VERSION": 6, "COMPLETE": 1, "DSET": descriptor(11, ODD_NAME)}
        put(world, "scr.dataset.11/summary.scr", content)
        index = world.index()
        assert index.add(ODD_NAME) is True
        entry = kvtree.read(path).child("DSET", 11)
        assert entry is not None
        assert entry.integer("COMPLETE") == 1
        assert entry.value("FLUSHED") is not None
        assert index.add("unknown") is False
        put(world, "scr.dataset.12/summary.scr", {**content, "DSET": descriptor(12, ODD_NAME)})
        assert index.add(ODD_NAME) is False

    def test_add_makes_the_index(self, world: MetadataWorld) -> None:
        put(world, "scr.dataset.3/summary.scr", {"VERSION": 6, "DSET": descriptor(3, "c")})
        index = world.index()
        assert index.add("c") is True
        assert index.list().endswith(" c\n")
        assert "   3 NO    2" in index.list()

    def test_build_of_a_dataset_with_a_summary(self, world: MetadataWorld) -> None:
        content = {"VERSION": 6, "COMPLETE": 1, "DSET": descriptor(3, "c")}
        put(world, "scr.dataset.3/summary.scr", content)
        index = world.index()
        assert index.build("3") is True
        assert index.build(4) is False
        assert "   3 YES   2" in index.list()
        assert index.current("c") is True

    # The log.

    def test_log_is_off_by_default(self, world: MetadataWorld) -> None:
        os.makedirs(os.path.join(world.prefix, ".scr"))
        assert world.log().event("RUN_START", note="run=1") is True
        assert os.listdir(os.path.join(world.prefix, ".scr")) == []

    def test_log_record(self, world: MetadataWorld) -> None:
        os.makedirs(os.path.join(world.prefix, ".scr"))
        log = world.log(SCR_LOG_ENABLE="1", SCR_LOG_SYSLOG_ENABLE="0")
        assert log.event("FETCH_START", "7", "ckpt.7", 1000, 2, "from cache") is True
        assert log.event("RUN_START") is True
        with open(os.path.join(world.prefix, ".scr", "log"), encoding="utf-8") as file:
            first, second = file.read().splitlines()
        assert first.endswith(
            ', jobid=42, event=FETCH_START, note="from cache", dset=7, name="ckpt.7", secs=2.000000'
        )
        assert first.startswith(("1970-01-01T", "1969-12-31T"))
        assert second.endswith(", jobid=42, event=RUN_START")

    def test_log_of_a_transfer(self, world: MetadataWorld) -> None:
        os.makedirs(os.path.join(world.prefix, ".scr"))
        log = world.log(SCR_LOG_ENABLE="1", SCR_LOG_SYSLOG_ENABLE="0")
        where = {"from_": "/cache", "to": "/p"}
        told = {"dset": "7", "name": "ckpt.7", "start": 1000, "secs": 2, "nbytes": 30, "files": 4}
        assert log.transfer("SCAVENGE", **where, **told) is True
        assert log.transfer("FETCH") is True
        with open(os.path.join(world.prefix, ".scr", "log"), encoding="utf-8") as file:
            first, second = file.read().splitlines()
        assert first.endswith(
            ', jobid=42, xfer=SCAVENGE, from=/cache, to=/p, dset=7, name="ckpt.7", '
            "secs=2.000000, bytes=30.000000, files=4"
        )
        assert first.startswith(("1970-01-01T", "1969-12-31T"))
        assert second.endswith(", jobid=42, xfer=FETCH")

    def test_log_that_cannot_be_written(self, world: MetadataWorld) -> None:
        log = world.log(SCR_LOG_ENABLE="1", SCR_LOG_SYSLOG_ENABLE="0")
        assert log.event("RUN_START") is False

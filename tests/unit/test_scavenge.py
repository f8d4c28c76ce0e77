# SPDX-License-Identifier: BSD-3-Clause
"""Scavenge as a transaction: golden caches, lost nodes, damage, repetition."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

import datapath
from scrjob.errors import (
    CommandTimeoutError,
    ScavengeError,
    UnrecoverableError,
)
from scrjob.formats import cindex, flush, index, kvtree, summary
from scrjob.node.command import node_command
from scrjob.param import Param
from scrjob.redundancy import renewed
from scrjob.remoteexec.remoteexec import RemoteExecResult
from scrjob.scavenge import scavenge, scavenge_dataset, scavenge_files
from scrjob.scavenge.record import JOURNAL, clear_other_dataset
from scrjob.testing.fakes import FakeClock, fake_context


class Nodes:
    """Remote execution on golden nodes: runs the real program, each node with its own storage.

    ``calls``: those that copy; ``asked``: those that ask what is in cache.
    """

    lost = None

    def __init__(self, case, scratch: Path) -> None:
        self.where = {node: case.node(node, scratch) for node in datapath.NODES}
        self.calls: list[tuple[float, list[str], list[str]]] = []
        self.limit = 0.0
        self.answers: dict[str, tuple] = {}
        self.asked: list[list[str]] = []
        self.tokens: dict[str, str] = {}

    def heeding(self, lost) -> Nodes:
        return self

    def bounded(self, limit: float) -> Nodes:
        self.limit = limit
        return self

    def rexec(self, argv, nodes, jobenv):
        result = RemoteExecResult(argv, nodes)
        if "cached" in argv:
            self.asked.append(list(nodes))
            for node in nodes:
                result.append_stdout(node, self._cached(node))
                result.set_rc(node, 0)
            return result
        self.calls.append((self.limit, list(argv), list(nodes)))
        for node in nodes:
            if node in self.answers:
                rc, out, err = self.answers[node]
            else:
                rc, out, err = self._run(list(argv), node)
            result.append_stdout(node, out)
            result.append_stderr(node, err)
            result.set_rc(node, rc)
        return result

    def _cached(self, node):
        _, cntldir = self.where[node]
        rows = [
            {
                "id": number,
                "descriptor": kvtree.encode(entry.descriptor).hex(),
                "path": entry.path,
                "token": self.tokens.get(node, ""),
            }
            for number, entry in cindex.datasets(
                kvtree.read(str(cntldir / "cindex.scrinfo"))
            ).items()
        ]
        return json.dumps(rows)

    def _run(self, argv, node):
        root, cntldir = self.where[node]
        argv[argv.index("--cntldir") + 1] = str(cntldir)
        # The node program takes its own name from the kernel; here all nodes are one machine.
        code = (
            "import os, sys; real = os.uname(); from types import SimpleNamespace as N;"
            f"os.uname = lambda: N(nodename={node!r});"
            "from scrjob.node.__main__ import main; sys.exit(main(sys.argv[1:]))"
        )
        done = subprocess.run(
            [argv[0], "-c", code, *argv[3:], "--relocate", f"/dev/shm={root}/dev/shm"],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


class Log:
    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.transfers: list[tuple[str, dict]] = []

    def event(self, event_type, dset=None, name=None, start=None, secs=None, note=None):
        self.events.append((event_type, dset))
        return True

    def transfer(self, label, **about):
        self.transfers.append((label, about))
        return True


class World:
    """A job whose nodes have the caches of a golden case."""

    def __init__(self, case, scratch: Path) -> None:
        self.case = case
        self.prefix = case.unpack("prefix_0_before", scratch / "pre fix")
        self.rexec = Nodes(case, scratch)
        self.settings: dict[str, str] = {}
        self.end = -1
        self.clock = FakeClock(1_800_000_000.0)
        self.log = Log()
        self.jobenv = SimpleNamespace(
            rexec=self.rexec,
            resmgr=SimpleNamespace(end_time=lambda: self.end),
            param=Param(environ=self.settings),
            context=fake_context(clock=self.clock, hostname="vm"),
            dir_prefix=lambda: str(self.prefix),
            dir_cache=lambda: ["/dev/shm/alice/scr.1"],
            job_id=lambda: case.job,
        )
        self.hidden = self.prefix / ".scr" / f"scr.dataset.{case.dataset}"

    def run(self, nodes, **options):
        return scavenge_dataset(
            self.jobenv,
            nodes,
            self.case.dataset,
            "/set/per/node",
            log=self.log,
            relocations=[f"{self.case.recorded_prefix}={self.prefix}"],
            **options,
        )

    def index(self) -> index.Index:
        return index.Index.read(str(self.prefix / ".scr/index.scr"))

    def is_true(self) -> bool:
        found = datapath.truth(self.case, self.prefix)
        files = list((self.case.home / "truth").glob("*"))
        return bool(files) and all(found.get(p.name) == p.read_bytes() for p in files)

    def journal(self):
        return json.loads((self.hidden / JOURNAL).read_text())


@pytest.fixture
def world(golden, tmp_path):
    def make(name: str) -> World:
        return World(datapath.load(golden(name)), tmp_path)

    return make


@pytest.mark.parametrize(
    ("name", "lost"), [("xor_4", "node3"), ("xor_8", "node2"), ("uneven_xor_7", "node3")]
)
def test_a_lost_node_is_rebuilt_verified_and_listed(name, lost, world):
    world = world(name)
    lines: list[str] = []
    up = datapath.survivors(lost)
    result = world.run(up, say=lines.append)
    assert world.is_true()
    entry = world.index().entry(1)
    assert entry.complete
    assert entry.is_valid
    assert not result.was_there
    assert result.rebuilt
    assert [copy.rc for copy in result.nodes] == [0, 0, 0]
    assert result.files == len(list((world.case.home / "truth").glob("*")))
    assert world.log.events == [("SCAVENGE_START", 1), ("SCAVENGE_END", 1)]
    assert lines[0] == f"scavenge: Scavenging files for dataset ckpt.1 to {world.hidden}"
    assert lines[2] == f"scavenge: nodes: {up}"
    assert lines[-1] == "scavenge: Verified files for dataset ckpt.1"
    outputs = (world.hidden / f"scavenge.o{world.case.job}").read_text()
    assert outputs == "".join(f"{n}\nscr_copy: {n}: Return code: 0\n\n" for n in up)
    assert (world.hidden / f"scavenge.e{world.case.job}").read_text() == "".join(
        f"{n}\n\n" for n in up
    )
    journal = world.journal()
    assert journal["state"] == "complete"
    assert set(journal["nodes"]) == set(up)
    assert not list(world.prefix.rglob("*.tmp"))


def test_compatible_functions_return_nothing(world):
    world = world("testapi_xor_4")
    nodes = world.rexec
    original = nodes.rexec

    def with_move(argv, names, jobenv):
        move = f"{world.case.recorded_prefix}={world.prefix}"
        return original([*argv, "--relocate", move], names, jobenv)

    nodes.rexec = with_move
    assert scavenge_files(world.jobenv, datapath.NODES, "3", "/x", ["node4"], world.log) is None
    assert nodes.calls[-1][2] == ["node1", "node2", "node3"]
    assert not (world.hidden / "summary.scr").exists()
    with pytest.raises(RuntimeError):  # the published type; the build cannot know of the move
        scavenge(world.jobenv, datapath.NODES, 3, "/x", world.log, verbose=True)


def test_too_much_lost_leaves_the_index_alone(world):
    world = world("xor_4")
    older = index.Index()
    older.put_complete(
        7,
        "old",
        kvtree.KVTree.of({"ID": 7, "NAME": "old", "FLAG_CKPT": 1}),
        complete=True,
        when="t",
    )
    older.set_current("old")
    older.write(str(world.prefix / ".scr/index.scr"))
    before = (world.prefix / ".scr/index.scr").read_bytes()
    with pytest.raises(UnrecoverableError, match="nothing brings back"):
        world.run(["node1", "node4"])
    assert (world.prefix / ".scr/index.scr").read_bytes() == before
    assert not (world.hidden / "summary.scr").exists()
    assert world.journal()["state"] == "failed"
    # The nodes come back: the same call now succeeds, and copies only what is new.
    result = world.run(datapath.NODES)
    assert world.is_true()
    assert [copy.skipped > 0 for copy in result.nodes] == [True, False, False, True]


def test_a_node_that_does_not_answer_is_covered_by_redundancy(world):
    world = world("xor_4")
    world.rexec.answers["node2"] = (None, "", "")
    result = world.run(datapath.NODES)
    assert world.is_true()
    assert result.nodes[1].rc is None
    assert result.nodes[1].errors == ("no answer",)
    assert world.journal()["nodes"]["node2"]["errors"] == ["no answer"]


def test_a_node_that_answers_nonsense_is_an_error_of_that_node(world):
    world = world("xor_4")
    world.rexec.answers["node2"] = (127, "", "sh: python: not found\n")
    result = world.run(datapath.NODES)
    assert result.nodes[1].errors == (
        "exit code 127 and no report; it said: sh: python: not found",
    )
    assert world.is_true()


def test_dataset_that_is_current_stays_so(world):
    """Adding the current dataset again must not move CURRENT to an older one."""
    world = world("xor_4")
    world.run(datapath.NODES)
    found = world.index()
    found.set_current("ckpt.1")
    found.write(str(world.prefix / ".scr/index.scr"))
    assert world.run(datapath.NODES).was_there
    assert world.index().current() == "ckpt.1"
    (world.hidden / "summary.scr").unlink()
    assert not world.run(datapath.NODES).was_there
    assert world.index().current() == "ckpt.1"


@pytest.mark.parametrize("verify", [False, True])
def test_what_was_rebuilt_stays_known_until_it_was_checked(world, verify):
    world = world("xor_4")
    done = world.run(["node1", "node2", "node4"], verify=verify)
    assert done.rebuilt
    assert (world.hidden / renewed.NAME).exists() == (not verify)
    clear_other_dataset(str(world.prefix), 1, 5)
    assert not (world.hidden / renewed.NAME).exists()


def test_asynchronous_flush_is_not_raced(world):
    world = world("xor_4")
    path = str(world.prefix / ".scr/flush.scr")
    tree = kvtree.read(path)
    flush.add_location(tree, 1, flush.FLUSHING)
    kvtree.write(path, tree)
    with pytest.raises(ScavengeError, match="flushed asynchronously"):
        world.run(datapath.NODES)
    assert world.rexec.calls == []
    assert not world.hidden.exists()


def test_damaged_copy_is_found_and_copied_again(world):
    """A file whose bytes changed after the copy is not called safe."""
    world = world("xor_4")
    world.settings["SCR_SCAVENGE_VERIFY"] = "1"
    original = world.rexec.rexec

    def damage_once(argv, nodes, jobenv):
        result = original(argv, nodes, jobenv)
        if len(world.rexec.calls) == 1:
            victim = world.prefix / "ckpt.1/rank_0.0.dat"
            times = victim.stat()
            data = bytearray(victim.read_bytes())
            data[100] ^= 0xFF
            victim.write_bytes(data)
            os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
        return result

    world.rexec.rexec = damage_once
    world.run(datapath.NODES)
    assert len(world.rexec.calls) == 2
    assert world.is_true()


def test_damage_that_stays_is_an_error_and_nothing_is_listed(world):
    world = world("single_4")
    world.settings["SCR_SCAVENGE_VERIFY"] = "1"
    original = world.rexec.rexec

    def damage(argv, nodes, jobenv):
        result = original(argv, nodes, jobenv)
        if world.rexec.calls:
            (world.prefix / "ckpt.1/rank_0.0.dat").write_bytes(b"\0" * 5003)
        return result

    world.rexec.rexec = damage
    with pytest.raises(ScavengeError, match="other bytes"):
        world.run(datapath.NODES)
    assert not (world.prefix / ".scr/index.scr").exists()
    assert not (world.hidden / "summary.scr").exists()


def test_without_checksums_the_bytes_are_not_compared(world):
    world = world("single_4")
    world.settings["SCR_CRC_ON_FLUSH"] = "0"
    world.run(datapath.NODES)
    assert "--nocrc" in world.rexec.calls[0][1]
    assert world.is_true()


def test_descriptor_must_agree_with_what_arrived(world):
    world = world("xor_4")
    path = str(world.prefix / ".scr/flush.scr")
    tree = kvtree.read(path)
    tree.child("DATASET", 1, "DSETDESC").put("SIZE", 1)
    kvtree.write(path, tree)
    with pytest.raises(ScavengeError, match="bytes of dataset 1: expected 1, got"):
        world.run(datapath.NODES)
    assert not (world.hidden / "summary.scr").exists()


def test_rest_of_an_older_dataset_with_the_same_number_is_no_answer(world):
    world = world("xor_4")
    world.hidden.mkdir()
    old = kvtree.KVTree.of({"ID": 1, "NAME": "old", "CREATED": 5})
    kvtree.write(str(world.hidden / "summary.scr"), summary.build(old, complete=True))
    (world.hidden / "filemap_9").write_bytes(b"")
    (world.hidden / "mine.txt").write_text("kept")
    result = world.run(datapath.NODES)
    assert not result.was_there
    assert world.is_true()
    assert not (world.hidden / "filemap_9").exists()
    assert (world.hidden / "mine.txt").exists()


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("age", ["summary", "journal"])
def test_a_killed_removal_of_an_older_dataset_is_done_again(tmp_path, monkeypatch, age, number):
    """Its filemaps would pass for those of the new one if nothing told any more whose they are."""
    hidden = tmp_path / ".scr" / "scr.dataset.1"
    hidden.mkdir(parents=True)
    if age == "summary":
        old = kvtree.KVTree.of({"ID": 1, "NAME": "old", "CREATED": 5})
        kvtree.write(str(hidden / "summary.scr"), summary.build(old, complete=True))
    else:
        (hidden / JOURNAL).write_text('{"created": 5}')
    for name in ("filemap_9", "scrjob.copy.n.jsonl", "rank2file"):
        (hidden / name).write_bytes(b"old")
    unlink = os.unlink
    unlinked = []

    def until_killed(path, **where):
        unlinked.append(path)
        if len(unlinked) == number:
            raise KeyboardInterrupt
        unlink(path, **where)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", until_killed)
        with pytest.raises(KeyboardInterrupt):
            clear_other_dataset(str(tmp_path), 1, 6)
    clear_other_dataset(str(tmp_path), 1, 6)
    assert list(hidden.iterdir()) == []


def test_files_of_an_older_dataset_are_not_mixed_with_what_is_only_copied(world):
    world = world("xor_4")
    world.hidden.mkdir()
    (world.hidden / "scrjob.scavenge.json").write_text('{"created": 5}')
    (world.hidden / "filemap_9").write_bytes(b"old")
    with contextlib.suppress(ScavengeError):  # the files have no place here without a move
        scavenge_files(world.jobenv, datapath.NODES, 1, "/x")
    assert not (world.hidden / "filemap_9").exists()


def test_a_node_that_holds_an_older_dataset_of_the_number_does_not_spoil_the_new_one(world):
    """It was away while the others dropped the dataset and used its number again."""
    world = world("xor_4")
    _, cntldir = world.rexec.where["node4"]
    path = str(cntldir / "cindex.scrinfo")
    tree = kvtree.read(path)
    tree.child("DSET", 1, "DSETDESC").put("CREATED", 5)
    kvtree.write(path, tree)
    result = world.run(datapath.NODES)
    assert result.rebuilt
    assert [copy.node for copy in result.nodes if copy.files == 0] == ["node4"]
    assert world.is_true()


@pytest.mark.parametrize(
    ("end", "limit"), [(-1, 86400.0), (0, 86400.0), (1_800_000_400, 300.0), (1, 10.0)]
)
def test_copy_keeps_to_the_time_that_is_left(world, end, limit):
    world = world("single_4")
    world.end = end
    world.run(datapath.NODES)
    assert world.rexec.calls[0][0] == limit


def test_given_deadline_is_used(world):
    world = world("single_4")
    world.run(datapath.NODES, deadline_s=12.5)
    assert world.rexec.calls[0][0] == 12.5


@pytest.mark.parametrize("name", ["rs_4", "partner_4"])
@pytest.mark.parametrize("lost", ["", "node3"])
def test_other_schemes(name, lost, world):
    world = world(name)
    result = world.run([node for node in datapath.NODES if node != lost])
    assert bool(result.rebuilt) == bool(lost)
    assert world.is_true()


def test_interrupted_scavenge_continues_from_any_moment(world):
    """KILL at any moment of the copy: the next call ends with the true bytes."""
    world = world("many_xor_4")
    for node in ("node1", "node3"):
        words = node_command("copy", "--cntldir", "x", "--id", "1")
        words += ["--prefix", str(world.prefix), "--resume", "--json"]
        words += ["--relocate", f"{world.case.recorded_prefix}={world.prefix}"]
        world.rexec._run(words, node)
    journal = world.hidden / "scrjob.copy.node3.jsonl"
    journal.write_bytes(journal.read_bytes()[:-33])
    result = world.run(["node1", "node3", "node4"])
    assert world.is_true()
    assert result.nodes[2].skipped == 0
    assert result.nodes[0].skipped > result.nodes[1].skipped > 0


def test_bypassed_dataset_is_only_listed(world):
    """Its files went straight to the prefix, and the library wrote its summary."""
    world = world("bypass_xor_4")
    result = world.run(["node1", "node2", "node4"])
    assert result.was_there
    assert world.rexec.calls == []
    assert world.index().entry(1).is_valid


def test_summary_that_is_not_true_any_more(world):
    """A file of a dataset that is called complete is gone: the nodes are asked again."""
    world = world("xor_4")
    world.run(datapath.NODES)
    (world.prefix / "ckpt.1/rank_0.0.dat").unlink()
    assert not world.run(["node2", "node3", "node4"]).was_there
    assert world.is_true()


@pytest.mark.parametrize("function", [scavenge, scavenge_files])
def test_prefix_that_cannot_be_written_is_one_error(world, function):
    world = world("xor_4")
    world.hidden.write_bytes(b"a file where the directory should be")
    with pytest.raises(ScavengeError, match=r"scr\.dataset\.1"):
        function(world.jobenv, datapath.NODES, "1", "/x")


def test_an_end_of_the_allocation_that_cannot_be_asked(world, monkeypatch):
    """Unknown is no reason to leave a dataset where it is."""
    world = world("many_xor_4")

    def silent():
        raise CommandTimeoutError(["ask"], why="no answer")

    monkeypatch.setattr(world.jobenv.resmgr, "end_time", silent, raising=False)
    world.run(datapath.NODES)
    assert world.is_true()


def corrupt_cache(world, node, name):
    """Change one byte of a cached file; nothing else of it tells."""
    (path,) = world.rexec.where[node][0].rglob(name)
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_wrong_bytes_in_a_cache_are_found_and_repaired_from_redundancy(world):
    """With SCR_SCAVENGE_VERIFY=1; nobody recorded a checksum, and the size is right."""
    world = world("rs_4")
    world.settings["SCR_SCAVENGE_VERIFY"] = "1"
    corrupt_cache(world, "node2", "rank_1.0.dat")
    result = world.run(datapath.NODES)
    assert world.is_true()
    assert str(world.prefix / "ckpt.1/rank_1.0.dat") in result.repaired
    assert "ckpt.1/rank_1.0.dat" in world.journal()["repaired"]
    assert world.index().entry(1).is_valid


def test_what_was_repaired_is_no_damage_when_it_is_done_again_without_the_node(world):
    """Killed before it was called complete; then the node that had the wrong bytes died."""
    world = world("rs_4")
    world.settings["SCR_SCAVENGE_VERIFY"] = "1"
    corrupt_cache(world, "node2", "rank_1.0.dat")
    (world.hidden / "summary.scr").mkdir(parents=True)  # it cannot be written
    with pytest.raises(ScavengeError, match="could not be brought"):
        world.run(datapath.NODES)
    (world.hidden / "summary.scr").rmdir()
    world.rexec.answers["node2"] = (None, "", "")
    world.run(datapath.NODES)
    assert world.is_true()
    # It is lost, too: what comes back has the checksum of the repaired file, not of the copy.
    (world.hidden / "summary.scr").unlink()
    (world.prefix / "ckpt.1/rank_1.0.dat").unlink()
    world.run(datapath.NODES)
    assert world.is_true()


def test_wrong_bytes_that_nothing_tells_apart_are_not_called_safe(world):
    """One parity block shows that something is wrong, not what."""
    world = world("xor_4")
    corrupt_cache(world, "node2", "rank_1.0.dat")
    with pytest.raises(ScavengeError, match="nothing tells which is damaged"):
        world.run(datapath.NODES, verify=True)
    assert not (world.hidden / "summary.scr").exists()
    assert not (world.prefix / ".scr/index.scr").exists()
    assert world.run(datapath.NODES).files  # who does not want it verified gets what there is


def test_no_file_is_read_again_unless_that_is_wanted(world, monkeypatch):
    """SCR_SCAVENGE_VERIFY=0: the checksums of the copy, numbers and sizes have to do."""
    from scrjob.redundancy import verify

    def read(path):
        raise AssertionError(path)

    monkeypatch.setattr(verify, "file_crc", read)
    world = world("xor_4")
    world.run(datapath.survivors("node3"))
    assert world.is_true()


def test_transfer_is_logged(world):
    world = world("xor_4")
    result = world.run(datapath.NODES)
    ((label, told),) = world.log.transfers
    assert label == "SCAVENGE"
    assert (told["dset"], told["name"], told["files"]) == (1, "ckpt.1", result.files)
    assert told["nbytes"] == result.bytes == result.copied_bytes
    assert told["from_"] == "/dev/shm/alice/scr.73/scr.dataset.1"
    assert told["to"] == str(world.prefix)
    assert told["secs"] == 0.0


def test_lost_set_of_ranks_is_told_with_what_the_nodes_said(world):
    world = world("xor_4")
    world.rexec.answers["node2"] = (None, "", "")
    with pytest.raises(UnrecoverableError) as caught:
        world.run(["node1", "node2", "node4"])
    said = str(caught.value)
    assert said.startswith(
        f"dataset 1 (ckpt.1) is not complete in {world.prefix}: "
        "nothing brings back the files of ranks 1, 2; XOR group 1 of 1 (filemaps): lost member "
    )
    assert said.endswith("; node2: no answer")


def test_dataset_that_no_node_holds_is_told_as_that(world):
    """A wrong number or control directory."""
    world = world("xor_4")
    nothing = "Failed to find cache directory for dataset id 1"
    for node in datapath.NODES:
        report = {"rc": 1, "files": 0, "bytes": 0, "skipped": 0, "errors": [nothing], "crc": {}}
        told = json.dumps({"node": node, "dataset": 1, **report})
        world.rexec.answers[node] = (1, f"scr_copy: {node}: {nothing}\n{told}\n", "")
    world.rexec.answers["node2"] = (None, "", "")
    with pytest.raises(UnrecoverableError) as caught:
        world.run(datapath.NODES)
    assert str(caught.value) == (
        f"dataset 1 (ckpt.1) is not complete in {world.prefix}: no node that answers has it in cache "
        "(control directory /set/per/node); node2: no answer; 3 of 4 nodes have nothing of it in cache"
    )

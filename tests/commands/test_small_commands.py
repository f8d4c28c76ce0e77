# SPDX-License-Identifier: BSD-3-Clause
"""scr_hostlist, scr_env, scr_list_dir, scr_log_event, scr_log_transfer, scr_ckpt_interval."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from scrjob import scrlog
from scrjob.commands import (
    scr_ckpt_interval,
    scr_env,
    scr_hostlist,
    scr_list_dir,
    scr_log_event,
    scr_log_transfer,
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / ".scr").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield tmp_path
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("argv", "out"),
    [
        (["-e", "n3", "n1", "n3"], "n3,n1\n"),
        (["n3", "n1"], "n[1,3]\n"),
        (["n08", "n09", "n10"], "n[08-10]\n"),
        (["-m", "n[1-5]", "n2", "n4"], "n[1,3,5]\n"),
        (["-i", "n[1-5]", "n[2-5]", "n[4-9]"], "n[4-5]\n"),
        (["-n", "9", "n[1-3]"], "\n"),
        (["-n", "0", "n[1-3]"], "\n"),
        (["-n", "-3", "n[1-3]"], "n1\n"),
        (["-s", "9", "n[1-3]"], "n[1-3]\n"),
        (["-s", "0", "n[1-3]"], "\n"),
        (["-c", "n1 n1"], "1\n"),
        (["-e", "-d", "\n", "n[1-2]"], "n1\nn2\n"),
        ([], "\n"),
        (["localhost"], "localhost\n"),
    ],
)
def test_hostlist(capsys, argv, out):
    assert scr_hostlist.main(argv) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize(
    "argv", [["n["], ["-m", "-i", "a"], ["-n", "x", "a"], ["n[1-999999999999]"]]
)
def test_hostlist_refuses(capsys, argv):
    assert scr_hostlist.main(argv) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "scr_hostlist" in captured.err


def test_env_prints_each_fact_on_its_line(capsys, monkeypatch):
    monkeypatch.setenv("SCR_JOB_ID", "7")
    monkeypatch.setenv("SCR_USER_NAME", "bob")
    monkeypatch.setenv("SCR_NODELIST", "n[08-09]")
    assert scr_env.main(["-u", "-j", "-n", "-e", "-d", "-r"]) == 0
    assert capsys.readouterr().out == "bob\n7\n0\nn08,n09\n\n0"


def test_env_without_user_in_the_environment(capsys, monkeypatch):
    """Lesson A21: the uid's name does when USER is unset."""
    import pwd

    monkeypatch.delenv("USER", raising=False)
    assert scr_env.main(["-u"]) == 0
    assert capsys.readouterr().out == pwd.getpwuid(os.getuid()).pw_name


def test_env_lists_plugins_with_their_status(capsys):
    assert scr_env.main(["--plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["KIND", "NAME", "STATUS", "FROM"]
    ping = next(line for line in lines if " ping " in line)
    assert ping.startswith("node test ")
    assert " ok " in ping
    assert "scrjob.nodetests.ping:Ping (scrjob)" in ping
    kinds = {line.split("  ")[0] for line in lines[1:]}
    assert kinds == {"resource manager", "launcher", "remote execution", "node test"}


def test_list_dir_prints_one_directory_a_line(capsys, here, monkeypatch):
    monkeypatch.setenv("USER", "u")
    (here / ".scrconf").write_text(
        "CACHE=/a SIZE=1\nCACHE=/b SIZE=1\nSCR_CNTL_BASE=/c\nSCR_JOB_ID=5\n"
    )
    assert scr_list_dir.main(["cache"]) == 0
    assert capsys.readouterr().out == "/a/u/scr.5\n/b/u/scr.5\n"
    assert scr_list_dir.main(["-b", "cache"]) == 0
    assert capsys.readouterr().out == "/a\n/b\n"
    assert scr_list_dir.main(["control", "-p", "/nonexistent"]) == 0
    assert capsys.readouterr().out == "/dev/shm/u/scr.defjobid\n"


def test_list_dir_refuses_other_kinds(capsys):
    assert scr_list_dir.main(["scratch"]) == 1
    assert capsys.readouterr().out == "One of [control, cache] must be specified.\n"


@pytest.fixture
def logging_on(monkeypatch):
    monkeypatch.setenv("SCR_LOG_ENABLE", "1")
    monkeypatch.setenv("SCR_LOG_SYSLOG_ENABLE", "0")


@pytest.mark.usefixtures("logging_on")
def test_log_event(capsys, here):
    argv = [
        "-p",
        str(here),
        "-i",
        "42",
        "-TX",
        "-N",
        "-n",
        "-D",
        "3x",
        "-nckpt.3",
        "-S",
        "0x10",
        "-L",
        "1.7",
    ]
    assert scr_log_event.main(argv) == 0
    text = (here / ".scr" / "log").read_text()
    assert text.startswith("1970-01-01T00:00:16: host=")
    assert text.endswith(', jobid=42, event=X, note="-n", dset=3, name="ckpt.3", secs=1.000000\n')
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("logging_on")
def test_log_transfer_counts_beyond_32_bits(here):
    argv = ["-T", "X", "-X/a", "-Y", "/b", "-D1", "-nn", "-S010", "-L2", "-B5000000000", "-F4"]
    argv += ["-i", "1", "-u", "u", "-j", "j", "-s", "0"]
    assert scr_log_transfer.main(["-p", str(here), *argv]) == 0
    text = (here / ".scr" / "log").read_text()
    assert text.startswith("1970-01-01T00:00:08: host=")
    assert text.endswith(
        ', jobid=1, xfer=X, from=/a, to=/b, dset=1, name="n", secs=2.000000, bytes=5000000000.000000, '
        "files=4\n"
    )


@pytest.mark.usefixtures("logging_on")
def test_log_tools_without_time_label_or_id(capsys, here, monkeypatch):
    """What crashed the C tools: no job id, no start."""
    assert scr_log_transfer.main(["-p", str(here)]) == 1
    assert "no job id" in capsys.readouterr().err
    monkeypatch.setenv("SCR_JOB_ID", "9")
    assert scr_log_transfer.main(["-p", str(here)]) == 0
    (record,) = scrlog.parse_file(here / ".scr" / "log")
    assert (record["label"], record["jobid"]) == ("(null)", "9")
    assert abs(record["timestamp"].timestamp() - time.time()) < 60


def test_log_tools_do_nothing_when_logging_is_off(here, capsys):
    assert scr_log_event.main(["-p", str(here), "-T", "X"]) == 0
    assert not (here / ".scr" / "log").exists()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["-h"], "Invalid flag -h"),
        (["-X", "a"], "Invalid flag -X"),
        (["foo"], "Unknown argument foo"),
        (["-"], "Unknown argument -"),
        (["-T", "X"], "-p <prefix> required"),
        (["-p"], "No value for -p"),
    ],
)
def test_log_event_arguments(capsys, argv, why):
    assert scr_log_event.main(argv) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("SCR v3.1.0 ERROR: ")
    assert lines[0].endswith(f": {why}")
    assert any(line.startswith("scr_log_event -- ") for line in lines)
    assert lines[-1].endswith(": scr_log_event: Failed to process args")


@pytest.mark.usefixtures("logging_on")
def test_log_event_that_cannot_be_written(caplog, here):
    assert scr_log_event.main(["-p", str(here / "none"), "-i", "1", "-T", "X"]) == 1
    assert "cannot write the SCR log" in caplog.text
    assert not (here / "none").exists()


@pytest.mark.usefixtures("logging_on")
@pytest.mark.parametrize("start", ["08", "x", "99999999999999999"])
def test_odd_start_times(here, start, capsys):
    code = scr_log_event.main(["-p", str(here), "-i", "1", "-T", "X", "-S", start])
    assert code == (1 if start.startswith("9") else 0)
    assert ("no time in Unix seconds" in capsys.readouterr().err) == bool(code)


LOG = """\
2026-11-22T07:00:00: host=h, jobid=1, event=RUN_START, note="run=1"
2026-11-22T07:10:00: host=h, jobid=1, event=CHECKPOINT_END, dset=1, name="c", secs=50.000000
2026-11-22T08:00:00: host=h, jobid=1, event=RUN_END, note="run=1", secs=3600.000000
2026-11-22T08:00:05: host=h, jobid=1, event=RUN_START, note="run=2"
"""


def test_ckpt_interval(capsys, here):
    (here / ".scr" / "log").write_text(LOG)
    assert scr_ckpt_interval.main(["--model", "young"]) == 0
    mtbf_s = (3600 + 86400) / 2
    assert capsys.readouterr().out == f"{(2 * 50 * mtbf_s) ** 0.5:.1f}\n"
    assert scr_ckpt_interval.main(["--percent", "--model", "young", "--prefix", str(here)]) == 0
    assert capsys.readouterr().out == f"{5000 / (50 + (2 * 50 * mtbf_s) ** 0.5):.2f}\n"
    assert scr_ckpt_interval.main(["--stats", "--logfile", str(here / ".scr" / "log")]) == 0
    out = capsys.readouterr().out
    assert "checkpoint_cost_s: 50.000\n" in out
    assert "failures: 1\n" in out


def test_ckpt_interval_without_data_says_what_it_assumes(capsys):
    assert scr_ckpt_interval.main([]) == 0
    captured = capsys.readouterr()
    assert float(captured.out) > 1000
    assert "no log" in captured.err
    assert "assuming 60 s" in captured.err


def test_ckpt_interval_of_a_named_log_that_is_absent(capsys):
    assert scr_ckpt_interval.main(["--logfile", "/nonexistent/log"]) == 1
    assert (
        capsys.readouterr().err
        == "scr_ckpt_interval: /nonexistent/log: No such file or directory\n"
    )


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("module", "argv"),
    [
        ("scr_hostlist", ["n1"]),
        ("scr_env", ["-u"]),
        ("scr_halt", ["-l"]),
        ("scr_list_dir", ["-b", "control"]),
    ],
)
def test_start_up_loads_little(module, argv, here):
    """Commands start on slow file systems: what they load is pinned."""
    code = (
        f"import sys; from scrjob.commands.{module} import main\n"
        f"main({argv!r}); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=here
    )
    heavy = {
        "dateutil",
        "numpy",
        "rich",
        "subprocess",
        "dataclasses",
        "psutil",
        "datetime",
        "importlib.metadata",
    }
    assert not heavy & set(done.stderr.split())

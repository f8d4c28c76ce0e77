# SPDX-License-Identifier: BSD-3-Clause
"""The SCR log: records to the byte, records that cannot be forged, reading."""

from __future__ import annotations

import logging
import os
import stat
import time
from datetime import datetime

import pytest

from scrjob import scrlog
from scrjob.errors import ConfigError
from scrjob.param import Param


class Clock:
    def now(self):
        return 1795337093.9


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def writer(path):
    return scrlog.LogWriter(path, host="vm", jobid="42", clock=Clock())


def test_records_to_the_byte(writer, path):
    writer.started(4, 1)
    writer.event("CHECKPOINT_START", dset=1, name="ckpt.1", note="/dev/shm", start=1795331609)
    writer.event("COMPUTE_END", secs=1.5)
    writer.transfer(
        "WRITE",
        from_="/dev/shm",
        to="/c",
        dset=1,
        name="ckpt.1",
        start=0,
        secs=0.017094,
        nbytes=40994,
        files=4,
    )
    writer.halted("SCR_FINALIZE_CALLED")
    writer.halted()
    assert path.read_text() == (
        "2026-11-22T08:44:53: host=vm, jobid=42, event=START, procs=4, nodes=1\n"
        "2026-11-22T07:13:29: host=vm, jobid=42, event=CHECKPOINT_START, "
        'note="/dev/shm", dset=1, name="ckpt.1"\n'
        "2026-11-22T08:44:53: host=vm, jobid=42, event=COMPUTE_END, secs=1.500000\n"
        "1970-01-01T00:00:00: host=vm, jobid=42, xfer=WRITE, from=/dev/shm, to=/c, dset=1, "
        'name="ckpt.1", secs=0.017094, bytes=40994.000000, files=4\n'
        '2026-11-22T08:44:53: host=vm, jobid=42, event=HALT, note="SCR_FINALIZE_CALLED"\n'
        "2026-11-22T08:44:53: host=vm, jobid=42, event=HALT\n"
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_was_written_is_read(writer, path):
    writer.event("A", dset=3, name="n", secs=2, note="x, event=B, dset=9")
    writer.transfer("X", from_="/a b", to="/c", nbytes=5, files=2)
    when = datetime.fromisoformat("2026-11-22T08:44:53")
    assert scrlog.parse_file(path) == [
        {
            "type": "event", "label": "A", "jobid": "42", "timestamp": when,
            "note": "x, event=B, dset=9", "dset": 3, "name": "n", "secs": 2.0,
        },
        {
            "type": "xfer", "label": "X", "jobid": "42", "timestamp": when,
            "from": "/a b", "to": "/c", "bytes": 5.0, "files": 2.0,
        },
    ]  # fmt: skip


@pytest.mark.parametrize(
    "evil",
    [
        "a\n2026-01-01T00:00:00: host=h, jobid=1, event=FAKE",
        'a", event=FAKE, note="b',
        "a, event=FAKE\r\0",
    ],
)
def test_no_value_forges_a_record(tmp_path, evil):
    path = tmp_path / "log"
    writer = scrlog.LogWriter(path, host=evil, jobid=evil, clock=Clock())
    writer.event("REAL", note=evil, name=evil, dset=1)
    writer.transfer("REAL", from_=evil, to=evil, name=evil)
    assert [record["label"] for record in scrlog.parse_file(path)] == ["REAL", "REAL"]
    assert path.read_bytes().count(b"\n") == 2


def test_a_long_record_is_cut_with_its_line_end(writer, path):
    writer.event("A", note="x, dset=7, " * 200, dset=1)
    writer.event("B")
    first, second = path.read_bytes().splitlines(keepends=True)
    assert len(first) == 1023
    assert first.endswith(b"\n")
    assert second.startswith(b"2026")
    cut = scrlog.parse_file(path)[0]
    assert cut["label"] == "A"
    assert "dset" not in cut


def test_bytes_that_are_no_text_pass(writer, path):
    writer.event("A", name=os.fsdecode(b"\x80n\xff"))
    assert b'name="\x80n\xff"' in path.read_bytes()
    assert scrlog.parse_file(path)[0]["name"] == "\udc80n\udcff"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "garbage",
        "2026-13-40T00:00:00: host=a, jobid=1, event=X",
        "2026-11-22T07:13:29: host=a, jobid=1",
        " 2026-11-22T07:13:29: host=a, jobid=1, event=X",
    ],
)
def test_lines_that_are_no_records(line):
    assert scrlog.parse_line(line) == {}


def test_malformed_fields_are_left_out():
    line = '2026-11-22T07:13:29: host=a, jobid=1, event=X, dset=x, secs=1, bytes=-1.0, files=1.5, name="q" u"'
    assert set(scrlog.parse_line(line)) == {"type", "label", "jobid", "timestamp", "name"}
    assert scrlog.parse_line(line)["name"] == 'q" u'


def test_a_file_without_a_last_line_end_and_with_rubbish(path):
    record = b"2026-11-22T07:13:29: host=a, jobid=1, event=X"
    path.write_bytes(b"x" * 100_000 + b"\n\xff\xfe\n" + record + b"\n" + record)
    assert [r["label"] for r in scrlog.parse_file(path)] == ["X", "X"]


def test_syslog_gets_data_with_its_head():
    sent = []
    log = scrlog.SyslogWriter(user="alice", jobid="42", prefix="/p\n", send=sent.append)
    log.event("X", note="100%s", name="n\udcff")
    assert sent == ['user=alice, jobid=42, prefix=/p?, event=X, note="100%s", name="n\ufffd"\n']


def test_syslog_as_scr_uses_it(monkeypatch):
    import syslog

    calls = []
    monkeypatch.setattr(syslog, "openlog", lambda *how: calls.append(how))
    monkeypatch.setattr(syslog, "syslog", lambda *what: calls.append(what))
    scrlog.SyslogWriter(user="u", jobid="1", prefix="/p").event("X")
    text = "user=u, jobid=1, prefix=/p, event=X\n"
    assert calls == [("SCR", 0, syslog.LOG_LOCAL7), (syslog.LOG_INFO, text)]


class Context:
    hostname = "vm"
    clock = Clock()


@pytest.mark.parametrize(
    ("settings", "text", "kinds"),
    [
        ({}, False, 0),
        ({"SCR_LOG_ENABLE": "1"}, True, 2),
        ({"SCR_LOG_ENABLE": "1", "SCR_LOG_SYSLOG_ENABLE": "0"}, True, 1),
        (
            {"SCR_LOG_ENABLE": "1", "SCR_LOG_TXT_ENABLE": "0", "SCR_LOG_SYSLOG_ENABLE": "0"},
            False,
            0,
        ),
        ({"SCR_LOG_ENABLE": "0", "SCR_LOG_TXT_ENABLE": "1"}, False, 0),
    ],
)
def test_switches(tmp_path, settings, text, kinds):
    (tmp_path / ".scr").mkdir()
    param = Param(environ=settings, prefix=str(tmp_path), system_file="")
    log = scrlog.open_log(param, Context, prefix=str(tmp_path), jobid="1", user="u")
    assert len(log._writers) == kinds
    if kinds < 2:  # never to the machine's syslog
        assert log.event("X") is True
        assert (tmp_path / ".scr" / "log").exists() == text


def test_a_switch_that_is_no_number_is_an_error(tmp_path):
    param = Param(environ={"SCR_LOG_ENABLE": "yes"}, prefix=str(tmp_path), system_file="")
    with pytest.raises(ConfigError, match="SCR_LOG_ENABLE='yes'"):
        scrlog.open_log(param, Context, prefix=str(tmp_path), jobid="1", user="u")


def test_a_log_that_cannot_be_written_is_told_and_stops_nothing(tmp_path, caplog):
    missing = scrlog.LogWriter(tmp_path / "none" / "log", host="h", jobid="1", clock=Clock())
    good = scrlog.LogWriter(tmp_path / "log", host="h", jobid="1", clock=Clock())
    with pytest.raises(OSError):
        missing.event("X")
    with caplog.at_level(logging.WARNING):
        assert scrlog.EventLog([missing, good]).event("X") is False
    assert "cannot write the SCR log" in caplog.text
    assert len(scrlog.parse_file(tmp_path / "log")) == 1


def test_a_full_disk_is_an_error():
    log = scrlog.LogWriter("/dev/full", host="h", jobid="1", clock=Clock())
    with pytest.raises(OSError):
        log.event("X")

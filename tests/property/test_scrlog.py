# SPDX-License-Identifier: BSD-3-Clause
"""The SCR log for values and files of any content."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from scrjob import scrlog

TEXT = st.text(st.sampled_from('ab ,="\n\r\0\u2028%\udcff:1'), max_size=40)


class Clock:
    def now(self):
        return 0.0


@given(TEXT, TEXT, TEXT, TEXT)
def test_one_call_is_one_record(host, note, name, path):
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        writer = scrlog.LogWriter(log, host=host, jobid="7", clock=Clock())
        writer.event("E", note=note, name=name, dset=3, secs=1)
        writer.transfer("X", from_=path, to=path, name=name, dset=4, nbytes=5)
        event, transfer = scrlog.parse_file(log)
    assert (event["label"], event["dset"], event["secs"], event["jobid"]) == ("E", 3, 1.0, "7")
    assert (transfer["label"], transfer["dset"], transfer["bytes"]) == ("X", 4, 5.0)


@given(st.text(max_size=80))
def test_any_line_is_read_or_skipped(line):
    head = "2026-11-22T07:13:29: host=a, jobid=1, event=X, "
    assert scrlog.parse_line(head + line.replace("\n", ""))["type"] == "event"
    assert scrlog.parse_line(line) in ({}, scrlog.parse_line(line))

# SPDX-License-Identifier: BSD-3-Clause
"""Time expressions: a time or a clear error."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest

from scrjob import parsetime as module
from scrjob.parsetime import parsetime

ZONE = ZoneInfo("America/St_Johns")
NOW = datetime(2026, 11, 22, 10, 0, 30, tzinfo=ZONE)

FORMS = [
    ("2027-01-15T08:00:00", "2027-01-15 08:00:00"),
    ("2027-01-15 08:00:00", "2027-01-15 08:00:00"),
    ("2027-01-15t08:00", "2027-01-15 08:00:00"),
    ("2027-01-15", "2027-01-15 00:00:00"),
    ("2027-01-15T08:00:00Z", "2027-01-15 04:30:00"),
    ("2027-01-15T08:00:00+01:00", "2027-01-15 03:30:00"),
    ("2027-01-15T08:00:00-0330", "2027-01-15 08:00:00"),
    ("now", "2026-11-22 10:00:30"),
    ("+1:00", "2026-11-22 11:00:30"),
    ("+0:01:05", "2026-11-22 10:01:35"),
    ("+90m", "2026-11-22 11:30:30"),
    ("+2h", "2026-11-22 12:00:30"),
    ("+1d", "2026-11-23 10:00:30"),
    ("+30 s", "2026-11-22 10:01:00"),
    ("12pm", "2026-11-22 12:00:00"),
    ("12am", "2026-11-23 00:00:00"),
    ("12:30am", "2026-11-23 00:30:00"),
    ("1pm", "2026-11-22 13:00:00"),
    ("3pm", "2026-11-22 15:00:00"),
    ("3:05:07 PM", "2026-11-22 15:05:07"),
    ("15:30", "2026-11-22 15:30:00"),
    ("10:00:30", "2026-11-22 10:00:30"),
    ("10:00", "2026-11-23 10:00:00"),
    ("11:59:59", "2026-11-22 11:59:59"),
    ("12/11", "2026-12-11 00:00:00"),
    ("11/22", "2026-11-22 00:00:00"),
    ("11/21", "2027-11-21 00:00:00"),
    ("2/29", "2028-02-29 00:00:00"),
    ("3pm 12/11", "2026-12-11 15:00:00"),
    ("12/11 3 pm", "2026-12-11 15:00:00"),
    ("9:00 11/22", "2027-11-22 09:00:00"),
    ("1/2/2027 15:00", "2027-01-02 15:00:00"),
    ("1/2/2020", "2020-01-02 00:00:00"),
    ("Fri Jan 15 08:00:00 2027", "2027-01-15 08:00:00"),
    ("  15 January 2027  ", "2027-01-15 00:00:00"),
    ("Jan 15, 2027 3pm", "2027-01-15 15:00:00"),
]


@pytest.mark.parametrize(("text", "local"), FORMS)
def test_forms(text, local):
    """Lesson A22: +1:00 and 3pm 12/11 are read, 12pm is noon."""
    moment = parsetime(text, now=NOW.timestamp(), zone=ZONE)
    assert datetime.fromtimestamp(moment, ZONE).strftime("%Y-%m-%d %H:%M:%S") == local


@pytest.mark.parametrize(
    "text",
    [
        "", "tomorrow", "garbage", "12", "2027", "1795337093", "25:00", "10:60", "10:00:60", "13pm", "0am",
        "2/30", "13/1", "0/1", "12/11/27", "3pm 4pm", "12/11 12/12", "3pm 12/11 x", "12/11 x", "mon",
        "2027-02-30", "2026-02-29", "2027-01-15T24:00", "2027-1-5", "2027-01-15T08:00:00+99:00", "jan 2027",
        "15 jan", "jan 15 2027 8:00 xyz", "jan 15 2027 16 17", "+", "+1", "+1:60", "-1:00", "+1:0", "now now",
        "\u0661\u0662:00", "2027-01-15T08:00:00" + "0" * 60, "\0", "10:00 " * 3, "1/2/3/4", "12/",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text):
    """Lesson A22: garbage gives an error, not a time."""
    with pytest.raises(ValueError, match=r"^(Unsupported time format|No such time): '") as caught:
        parsetime(text, now=NOW.timestamp(), zone=ZONE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("now", "text", "later_s"),
    [
        ("2026-03-08 01:00:00", "3:30", 90 * 60),  # the clock jumps from 2 to 3
        ("2026-03-08 01:00:00", "2:30", 90 * 60),  # skipped: as if it had not
        ("2026-11-01 00:30:00", "1:30", 60 * 60),  # occurs twice: the first
        ("2026-11-01 00:30:00", "3:30", 4 * 3600),
        ("2026-10-31 12:00:00", "12:00:00 11/1/2026", 25 * 3600),
        ("2026-10-31 12:00:00", "+1d", 24 * 3600),
    ],
)
def test_days_on_which_the_clock_changes(now, text, later_s):
    start = datetime.fromisoformat(now).replace(tzinfo=ZONE).timestamp()
    assert parsetime(text, now=start, zone=ZONE) - start == later_s


def test_a_leap_day_over_a_century():
    """Lesson A22: leap years are those of the calendar: 2100 is none."""
    now = datetime(2097, 3, 1, tzinfo=ZONE).timestamp()
    assert datetime.fromtimestamp(parsetime("2/29", now=now, zone=ZONE), ZONE).year == 2104
    assert [year for year in (1900, 2000, 2024, 2026, 2100) if module.isleapyear(year)] == [
        2000,
        2024,
    ]


def test_a_time_that_no_clock_has():
    with pytest.raises(ValueError, match="No such time"):
        parsetime("10:00", now=1e30)


def test_now_and_the_zone_are_the_machines_by_default():
    before = datetime.now().astimezone()
    assert 0 <= parsetime("+1:00") - before.timestamp() - 3599 <= 60
    local = datetime.fromisoformat("2027-01-15 08:00")
    assert parsetime("2027-01-15T08:00:00") == local.astimezone().timestamp()


def test_the_small_published_helpers(capsys):
    assert module.numdays(date(2026, 12, 31), date(2027, 1, 2)) == 2
    module.print_usage("scr_halt")
    out = capsys.readouterr().out
    assert out.startswith("Usage: scr_halt TIME\n")
    assert "+1:00" in out

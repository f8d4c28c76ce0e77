# SPDX-License-Identifier: BSD-3-Clause
"""Time expressions of any content, on any day."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from scrjob.parsetime import parsetime

ZONE = ZoneInfo("America/St_Johns")
WORDS = st.sampled_from([
    "jan", "feb", "may", "2027", "15", "8:00", "3pm", "am", "pm", "12/11", "2/29", "utc", "z", "t", ",", ":",
    ".", "+", "-", "/", "fri", "est", "now", "+1:00", "1.5", "1e9", "nan", "99999999999",
])  # fmt: skip
MOMENTS = st.integers(0, 4102444800)


@given(st.one_of(st.text(max_size=20), st.lists(WORDS, max_size=6).map(" ".join)), MOMENTS)
def test_a_time_or_a_value_error(text, now):
    try:
        moment = parsetime(text, now=now, zone=ZONE)
    except ValueError:
        return
    assert isinstance(moment, int)


@given(st.integers(31536000, 4102444800))
def test_iso_is_exact(expected):
    moment = datetime.fromtimestamp(expected, timezone.utc).replace(tzinfo=None)
    assert parsetime(moment.isoformat() + "Z", now=0) == expected
    assert parsetime(moment.isoformat(), now=0, zone=timezone.utc) == expected
    assert parsetime(moment.strftime("%a %b %d %H:%M:%S %Y"), now=0, zone=timezone.utc) == expected


@given(MOMENTS, st.integers(0, 23), st.integers(0, 59))
def test_a_time_of_day_is_the_next_one(now, hour, minute):
    moment = parsetime(f"{hour}:{minute:02d}", now=now, zone=timezone.utc)
    assert now <= moment < now + 86400
    shown = datetime.fromtimestamp(moment, timezone.utc)
    assert (shown.hour, shown.minute, shown.second) == (hour, minute, 0)


@given(MOMENTS, st.integers(0, 365))
def test_a_day_without_a_year_is_not_in_the_past(now, days):
    today = datetime.fromtimestamp(now, timezone.utc)
    day = today + timedelta(days=days)
    moment = parsetime(f"{day.month}/{day.day}", now=now, zone=timezone.utc)
    shown = datetime.fromtimestamp(moment, timezone.utc).date()
    assert (shown.month, shown.day) == (day.month, day.day)
    assert today.date() <= shown <= day.date()

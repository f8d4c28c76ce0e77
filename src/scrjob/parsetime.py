# SPDX-License-Identifier: BSD-3-Clause
"""Time expressions of the command line to Unix seconds: a time, or ValueError; nothing is guessed.

=============================  ==================================================================
``2027-01-15T08:00:00``        ISO; also with a blank for T, without seconds, without a time
                               (midnight), with ``Z`` or ``+01:00`` (else the local zone)
``now``                        this moment
``+1:00`` ``+90m`` ``+2h``     from now: H:MM, H:MM:SS, or a number of s, m, h or d
``15:30`` ``3pm`` ``3:30 pm``  the next time that the clock shows this; 12am is midnight, 12pm noon
``12/11`` ``12/11/2027``       month and day; without a year the next such day
``3pm 12/11``                  both, in either order
``Fri Jan 15 08:00:00 2027``   with the month's name and a year of four digits
=============================  ==================================================================

A local time that a change of the clock skips is taken as if the clock had not changed; one that occurs
twice is the first.
"""

from __future__ import annotations

import calendar
import re
import sys
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Iterator, NoReturn, Optional, Tuple

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?(?:(Z)|([+-])(\d\d):?(\d\d))?)?",
    re.ASCII,
)
_RELATIVE = re.compile(r"\+ ?(\d{1,6}):([0-5]\d)(?::([0-5]\d))?|\+ ?(\d{1,9}) ?([smhd])", re.ASCII)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_CLOCK = re.compile(r"(\d{1,2})(?::(\d\d)(?::(\d\d))?)?(?: ?([ap])m)?", re.ASCII)
_DAY = re.compile(r"(\d{1,2})/(\d{1,2})(?:/(\d{4}))?", re.ASCII)
_NAMED = re.compile(
    r"(?=.*\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b)(?=.*\b\d{4}\b)[\w ,:]+",
    re.ASCII,
)
_LONGEST_CHARS = 64
_LEAP_CYCLE_YEARS = 8  # between 29 February 1896 and that of 1904
_DEFAULTS = (datetime(2001, 2, 3), datetime(2004, 5, 6))  # noqa: DTZ001 - a zone is added later

_Clock = Tuple[int, int, int]  # hour, minute, second


def parsetime(timestr: str, *, now: Optional[float] = None, zone: Optional[tzinfo] = None) -> int:
    """Return Unix seconds.

    Args:
        timestr: one of the forms above, case and blanks around it do not matter.
        now: Unix seconds that relative forms start from; default: the system's clock.
        zone: of times without one; default: the local zone.

    Raises:
        ValueError: no such form, or no such time.
    """
    if now is None:
        from scrjob._clock import SystemClock  # noqa: PLC0415 - only without a given time

        now = SystemClock().now()
    text = " ".join(timestr.lower().split())
    if len(text) > _LONGEST_CHARS:
        _refuse(timestr)
    try:
        moment = _parse(text, now, zone)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"No such time: {timestr!r}: {error}") from error
    if moment is None:
        _refuse(timestr)
    return moment


def isleapyear(year: int) -> bool:
    """Tell whether a year of the Gregorian calendar has 366 days."""
    return calendar.isleap(year)


def numdays(current: date, future: date) -> int:
    """Return the days from one date to another, negative if the second is earlier."""
    return (future - current).days


def print_usage(prog: str) -> None:
    """Write the accepted forms to stdout."""
    table = (__doc__ or "").partition("\n\n")[2]
    sys.stdout.write(f"Usage: {prog} TIME\n\n{table}")


def _parse(text: str, now: float, zone: Optional[tzinfo]) -> Optional[int]:
    if text == "now":
        return int(now)
    found = _RELATIVE.fullmatch(text)
    if found:
        hours, minutes, seconds, count, unit = found.groups()
        if unit:
            return int(now) + int(count) * _UNIT_SECONDS[unit]
        return int(now) + int(hours) * 3600 + int(minutes) * 60 + int(seconds or 0)
    found = _ISO.fullmatch(text.upper())
    if found:
        return _iso(found, zone)
    if _NAMED.fullmatch(text):
        return _named(text, zone)
    return _clock_and_day(text, now, zone)


def _iso(found: re.Match[str], zone: Optional[tzinfo]) -> int:
    fields = [int(field or 0) for field in found.groups()[:6]]
    _, _, _, _, _, _, utc, sign, hours, minutes = found.groups()
    if utc:
        zone = timezone.utc
    elif sign:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        zone = timezone(-offset if sign == "-" else offset)
    return int(datetime(*fields, tzinfo=zone).timestamp())  # type: ignore[arg-type,misc]


def _named(text: str, zone: Optional[tzinfo]) -> Optional[int]:
    """Dates with a month's name, by dateutil; refused unless day, month and year are all given."""
    from dateutil import parser  # noqa: PLC0415 - slow to import, rarely used

    try:
        # What the text does not say comes from the default: two tell whether anything is missing.
        first, second = (parser.parse(text, default=default) for default in _DEFAULTS)
    except (ValueError, ArithmeticError, TypeError, IndexError, AttributeError):
        return None
    if first != second:
        return None
    return int((first if first.tzinfo else first.replace(tzinfo=zone)).timestamp())


def _clock_and_day(text: str, now: float, zone: Optional[tzinfo]) -> Optional[int]:
    today = datetime.fromtimestamp(now, zone)
    words = text.split(" ")
    days = [word for word in words if "/" in word]
    clock = _clock_time(" ".join(word for word in words if "/" not in word))
    if len(days) > 1 or (clock is None and len(days) != len(words)):
        return None
    if not days:
        candidates = iter([today.date() + timedelta(days=n) for n in range(3)])
    else:
        found = _DAY.fullmatch(days[0])
        if not found:
            return None
        candidates = _days(int(found[1]), int(found[2]), found[3], today.date())
        if clock is None or found[3]:
            return _moment(next(candidates), clock or (0, 0, 0), zone)
    moments = (_moment(day, clock or (0, 0, 0), zone) for day in candidates)
    return next((moment for moment in moments if moment >= now), None)


def _clock_time(text: str) -> Optional[_Clock]:
    found = _CLOCK.fullmatch(text)
    if not found or not (found[2] or found[4]):  # a bare number is no time of day
        return None
    hour, minute, second = (int(field or 0) for field in found.groups()[:3])
    if found[4]:
        if not 1 <= hour <= 12:  # noqa: PLR2004 - the hours of such a clock
            return None
        hour = hour % 12 + (12 if found[4] == "p" else 0)
    if hour > 23 or minute > 59 or second > 59:  # noqa: PLR2004 - of a clock
        return None
    return hour, minute, second


def _days(month: int, day: int, year: Optional[str], today: date) -> Iterator[date]:
    """Yield the date, or without a year those from today on.

    Raises:
        ValueError: there is no such day.
    """
    if year:
        yield date(int(year), month, day)
        return
    date(2000, month, day)  # a leap year: raises if the day never exists
    for candidate in range(today.year, today.year + 2 * _LEAP_CYCLE_YEARS + 1):
        if (month, day) == (2, 29) and not isleapyear(candidate):
            continue
        if date(candidate, month, day) >= today:
            yield date(candidate, month, day)


def _moment(day: date, clock: _Clock, zone: Optional[tzinfo]) -> int:
    local = datetime(day.year, day.month, day.day, *clock, tzinfo=zone)
    return int(local.timestamp())


def _refuse(timestr: str) -> NoReturn:
    raise ValueError(
        f"Unsupported time format: {timestr!r}; use YYYY-MM-DDTHH:MM:SS, H:MM, 3pm 12/11, +H:MM or now"
    )

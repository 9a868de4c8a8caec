"""The rules of the dialect, one table for each."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule import NaiveDatetimeError, parse_schedule

START = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


def slots(text, count, after=START, tz="UTC", **options):
    found = parse_schedule(text, tz, **options).slots(after, count)
    return [f"{one:%m-%d %H:%M:%S}".removesuffix(":00") for one in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*/20 * * * *", ["01-01 00:20", "01-01 00:40", "01-01 01:00"]),
        ("5/20 * * * *", ["01-01 00:05", "01-01 00:25", "01-01 00:45"]),
        ("5-5/20 * * * *", ["01-01 00:05", "01-01 01:05", "01-01 02:05"]),
        ("*/60 * * * *", ["01-01 01:00", "01-01 02:00", "01-01 03:00"]),
        ("0 9 * * 1-5", ["01-01 09:00", "01-02 09:00", "01-05 09:00"]),
        ("0 9 * * MON-WED", ["01-05 09:00", "01-06 09:00", "01-07 09:00"]),
        ("0 9 * * monday,Friday", ["01-02 09:00", "01-05 09:00", "01-09 09:00"]),
        ("0 9 * * 7", ["01-04 09:00", "01-11 09:00", "01-18 09:00"]),
        ("0 9 * * 5-7", ["01-02 09:00", "01-03 09:00", "01-04 09:00"]),
        ("0 0 1 feb-march,Dec *", ["02-01 00:00", "03-01 00:00", "12-01 00:00"]),
        ("30 * * * * *", ["01-01 00:00:30", "01-01 00:01:30", "01-01 00:02:30"]),
        ("0 0 0 1 1 * 2027,2030", ["01-01 00:00", "01-01 00:00"]),
        ("0 0 L * *", ["01-31 00:00", "02-28 00:00", "03-31 00:00"]),
        ("0 0 L-2 * *", ["01-29 00:00", "02-26 00:00", "03-29 00:00"]),
        ("0 0 LW * *", ["01-30 00:00", "02-27 00:00", "03-31 00:00"]),
        ("0 0 15W * *", ["01-15 00:00", "02-16 00:00", "03-16 00:00"]),
        ("0 0 1W * *", ["02-02 00:00", "03-02 00:00", "04-01 00:00"]),
        ("0 0 31W * *", ["01-30 00:00", "03-31 00:00", "05-29 00:00"]),
        ("0 0 * * 5L", ["01-30 00:00", "02-27 00:00", "03-27 00:00"]),
        ("0 0 * * FRIL", ["01-30 00:00", "02-27 00:00", "03-27 00:00"]),
        ("0 0 * * 1#2", ["01-12 00:00", "02-09 00:00", "03-09 00:00"]),
        ("0 0 * * mon#5", ["03-30 00:00", "06-29 00:00", "08-31 00:00"]),
        ("0 0 ? * MON", ["01-05 00:00", "01-12 00:00", "01-19 00:00"]),
        ("0 0 13 * FRI", ["01-02 00:00", "01-09 00:00", "01-13 00:00"]),
        ("0 0 */10 * MON", ["05-11 00:00", "06-01 00:00", "08-31 00:00"]),
        ("0 0 13 * */5", ["02-13 00:00", "03-13 00:00", "09-13 00:00"]),
        ("0 0 * * 2/5", ["01-04 00:00", "01-06 00:00", "01-11 00:00"]),
        ("@hourly", ["01-01 01:00", "01-01 02:00", "01-01 03:00"]),
        ("@weekly", ["01-04 00:00", "01-11 00:00", "01-18 00:00"]),
        ("@monthly", ["02-01 00:00", "03-01 00:00", "04-01 00:00"]),
        ("@every 1h30m", ["01-01 01:30", "01-01 03:00", "01-01 04:30"]),
        ("every 10 seconds", ["01-01 00:00:10", "01-01 00:00:20", "01-01 00:00:30"]),
        ("every minute", ["01-01 00:01", "01-01 00:02", "01-01 00:03"]),
        ("interval 05:30", ["01-01 00:05", "01-01 00:10:30", "01-01 00:16"]),
        ("interval 01:00:00", ["01-01 01:00", "01-01 02:00", "01-01 03:00"]),
        ("times 02:00,14:30:15", ["01-01 02:00", "01-01 14:30:15", "01-02 02:00"]),
        ("daily", ["01-02 00:00", "01-03 00:00", "01-04 00:00"]),
        ("weekly", ["01-05 00:00", "01-12 00:00", "01-19 00:00"]),
        ("monthly", ["02-01 00:00", "03-01 00:00", "04-01 00:00"]),
        ("daily at 03:15", ["01-01 03:15", "01-02 03:15", "01-03 03:15"]),
        ("monday at 10:00PM", ["01-05 22:00", "01-12 22:00", "01-19 22:00"]),
        ("on monday at 22:00", ["01-05 22:00", "01-12 22:00", "01-19 22:00"]),
        ("mon,fri at 12 am", ["01-02 00:00", "01-05 00:00", "01-09 00:00"]),
        ("@at 2026-02-03T04:05:06Z", ["02-03 04:05:06"]),
        ("  @daily  ", ["01-02 00:00"]),
    ],
)
def test_slots(text, expected):
    assert slots(text, len(expected)) == expected


@pytest.mark.parametrize(
    ("text", "position", "hint"),
    [
        ("", 0, "5 fields"),
        ("* * * *", 6, "5 fields"),
        ("5x * * * *", 1, "*/5"),
        ("1.5 * * * *", 1, "*/5"),
        ("** * * * *", 1, "*/5"),
        ("*5 * * * *", 1, "*/5"),
        ("*/5/2 * * * *", 2, "whole number"),
        ("*/0 * * * *", 2, "1 or more"),
        ("*/4294967296 * * * *", 2, "below 10000"),
        ("1,,2 * * * *", 2, "comma"),
        ("60 * * * *", 0, "0 to 59"),
        ("4294967296 * * * *", 0, "0 to 59"),
        ("٣ * * * *", 0, "digits"),
        ("１ * * * *", 0, "digits"),
        ("22-2 * * * *", 3, "22-59,0-2"),
        ("0 0 * * FRI-MON", 12, "5-6,0-1"),
        ("0 0 * * FRI-SUN", 12, "5-7"),
        ("0 0 * * 8", 8, "0 to 7"),
        ("0 0 * * MOO", 8, "SUN to SAT"),
        ("0 0 1 1 * 2027", 10, "7 fields"),
        ("0 0 0 * *", 4, "1 to 31"),
        ("0 0 30 2 *", 4, "write L"),
        ("0 0 31 2,4,6 *", 4, "write L"),
        ("0 0 31W 2 *", 4, "write L"),
        ("0 0 0 29 2 * 2027", 6, "write L"),
        ("0 0 * * 1#6", 10, "#1 to #5"),
        ("0 0 * * L", 8, "5L"),
        ("0 0 * * L5", 8, "5L"),
        ("? * * * *", 0, "day field"),
        ("*/5 * * * * /bin/true", 12, "without a command"),
        ("@Daily", 0, "did you mean @daily"),
        ("@reboot", 0, "after a restart"),
        ("@every", 5, "1h30m"),
        ("@every 5", 8, "units"),
        ("@every 1d", 8, "24h"),
        ("@every 0s", 7, "1 second"),
        ("@every -1h", 7, "1 second"),
        ("@every 0.9s", 7, "sub-second"),
        ("@every 99999999999999999999h", 7, "units"),
        ("every 10 secnds", 9, "seconds"),
        ("times 02:00,,03:00", 12, "empty"),
        ("times 24:00", 6, "23:59:59"),
        ("interval 5", 9, "MM:SS"),
        ("monday at 13:00PM", 10, "12-hour"),
        ("munday at 10:00", 0, "sunday"),
        ("TZ=0", 4, "CRON_TZ="),
        ("TZ=", 3, "CRON_TZ="),
        ("CRON_TZ=Europe/Stokholm 0 0 * * *", 8, "Europe/Stockholm"),
        ("TZ=../../etc/passwd 0 0 * * *", 3, "IANA"),
        ("@at yesterday", 4, "@at"),
        ("x" * 1001, 80, "1000"),
        ("0 0 \x00 * *", 4, "plain"),
    ],
)
def test_refused_with_position_and_hint(text, position, hint):
    with pytest.raises(ScheduleError) as caught:
        parse_schedule(text)
    error = caught.value
    assert error.position == position
    assert hint in error.hint
    lines = str(error).splitlines()
    assert lines[2] == "  " + " " * position + "^"
    assert lines[-1] == f"hint: {error.hint}"


def test_naive_datetimes_are_refused():
    with pytest.raises(NaiveDatetimeError):
        parse_schedule("@daily").slots(datetime(2026, 1, 1), 1)
    with pytest.raises(ValueError, match="no time zone"):
        parse_schedule("@daily").previous(datetime(2026, 1, 1), 1)

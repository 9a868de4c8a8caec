"""djinn's schedules: the start of the next day, week or month, over five years and more."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everbell.domain.schedule import parse_schedule

FIRST, LAST = date(2026, 1, 1), date(2031, 12, 31)
DAYS = [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]
STARTS = {
    "daily": lambda day: True,
    "weekly": lambda day: day.isoweekday() == 1,
    "monthly": lambda day: day.day == 1,
}
ZONES = ["UTC", "Europe/Stockholm", "America/New_York", "Asia/Kathmandu"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("text", sorted(STARTS))
def test_every_start_of_five_years_is_a_slot_and_nothing_else(text, zone):
    begin = datetime(2025, 12, 31, 23, 59, tzinfo=ZoneInfo(zone))
    wanted = [day for day in DAYS if STARTS[text](day)]
    found = parse_schedule(text, zone).slots(begin, len(wanted))
    local = [one.astimezone(ZoneInfo(zone)) for one in found]
    assert [one.date() for one in local] == wanted
    assert {one.time().isoformat() for one in local} == {"00:00:00"}


@given(
    at=st.datetimes(datetime(2026, 1, 1), datetime(2031, 11, 30)),
    text=st.sampled_from(sorted(STARTS)),
    zone=st.sampled_from(ZONES),
)
def test_from_any_instant_the_next_slot_is_the_start_of_the_next_period(at, text, zone):
    begin = at.replace(tzinfo=ZoneInfo(zone))
    (found,) = parse_schedule(text, zone).slots(begin, 1)
    day = begin.date() + timedelta(days=1)
    while not STARTS[text](day):
        day += timedelta(days=1)
    assert found.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == datetime(*day.timetuple()[:3])

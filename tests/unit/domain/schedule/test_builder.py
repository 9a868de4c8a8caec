"""The fluent builder says what the dialect says."""

from datetime import UTC, datetime, timedelta

import pytest

from everbell.domain.errors import ScheduleError
from everbell.domain.schedule import parse_schedule
from everbell.domain.schedule.builder import When, at, cron, every, on

CASES = [
    (every(10).seconds, "every 10 seconds"),
    (every(10).seconds(), "every 10 seconds"),
    (every(5).minutes, "every 5 minutes"),
    (every(1).hour, "every 1 hours"),
    (every(2).days, "every 2 days"),
    (every(1.5).hours, "@every 5400s"),
    (every(timedelta(minutes=5)).seconds, "@every 300s"),
    (every.minute, "every minute"),
    (every.hour, "every hour"),
    (every.day, "daily"),
    (every.day.at("10:00PM"), "daily at 10:00PM"),
    (every.day.at("2:00", "10:30PM", "12:05am"), "times 02:00:00,22:30:00,00:05:00"),
    (every.week.at("03:00"), "weekly at 03:00"),
    (every.month, "monthly"),
    (every.friday.at("09:00"), "friday at 09:00"),
    (on.monday.at("10:00PM"), "monday at 10:00PM"),
    (on.monday.at("22:00"), "monday at 22:00"),
    (on("monday", "friday").at("22:00"), "monday,friday at 22:00"),
    (on.weekdays.at("9:00"), "monday,tuesday,wednesday,thursday,friday at 9:00"),
    (on.day(1, 15).at("03:30"), "30 3 1,15 * *"),
    (on.day(1).at("12:00AM"), "0 0 1 * *"),
    (on.last_day.at("23:59:30"), "30 59 23 L * *"),
    (cron("*/5 * * * *"), "*/5 * * * *"),
    (at(datetime(2027, 1, 1, tzinfo=UTC)), "@at 2027-01-01T00:00:00+00:00"),
    (at("2027-01-01T12:00"), "@at 2027-01-01T12:00"),
]


@pytest.mark.parametrize(("built", "text"), CASES, ids=[text for _, text in CASES])
def test_what_is_built_is_a_text_of_the_dialect(built, text):
    assert built.text == str(built) == text
    parse_schedule(built.text, "Europe/Stockholm")


@pytest.mark.parametrize(
    "build",
    [
        lambda: every(0).seconds,
        lambda: every(-5).minutes,
        lambda: every(0.5).seconds,
        lambda: on.monday.at("25:00"),
        lambda: on.monday.at(""),
        lambda: on("mundag"),
        lambda: on.day(32),
        lambda: on.day(1).at("noon"),
        lambda: every.week.at("01:00", "02:00"),
        lambda: every.day.at(),
        lambda: cron("61 * * * *"),
        lambda: cron("* * * * *", "Mars/Olympus"),
        lambda: at("tomorrow"),
    ],
)
def test_what_is_wrong_is_told_at_once(build):
    with pytest.raises(ScheduleError) as caught:
        build()
    assert caught.value.hint


def test_unknown_words_are_attribute_errors():
    with pytest.raises(AttributeError, match="name a weekday"):
        _ = on.mundag
    with pytest.raises(AttributeError):
        _ = every.fortnight


def test_zones_and_equality():
    built = on.monday.at("10:00PM").in_zone("Europe/Stockholm")
    assert built == When("monday at 10:00PM", "Europe/Stockholm") != on.monday.at("10:00PM")
    assert len({built, built.in_zone("UTC")}) == 2
    assert built != "monday at 10:00PM"
    assert "Stockholm" in repr(built)

"""Outages rehearsed: the planner's own rules, from the last slot before to the first one after."""

from datetime import UTC, datetime

import pytest

from everbell.domain.job import CommandAction, Definition, Misfire, compile_schedule
from everbell.domain.outage import Outage, Rehearsal
from everbell.domain.planner import Limits

SEC = 1_000_000
HOUR = 3600 * SEC


def us(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SEC


def clock(at_us):
    return None if at_us is None else datetime.fromtimestamp(at_us / SEC, UTC).strftime("%H:%M")


def rehearse(*downs, takes_s=0, day="2027-01-05", **fields):
    fields.setdefault("schedule", "0 * * * *")
    what = Definition(name="a", action=CommandAction(argv=("true",)), **fields)
    schedule = compile_schedule(what, "u", us("2026-01-01T00:00"))
    outages = [Outage(us(f"{day}T{one[:5]}"), us(f"{day}T{one[6:]}")) for one in downs]
    rehearsal = Rehearsal(
        what, schedule, Limits(look_ahead_us=SEC // 2, grace_us=SEC), takes_s * SEC
    )
    fates = rehearsal.run(outages)
    assert rehearsal.complete
    return [
        (clock(one.slot_us), one.what, clock(one.at_us)) + ((one.count,) if one.count > 1 else ())
        for one in fates
    ]


def misfire(policy, window_s=86_400, most=100):
    return Misfire(policy=policy, window_s=window_s, max_catch_up=most)


BEFORE, AFTER = ("01:00", "runs", "01:00"), ("06:00", "runs", "06:00")


@pytest.mark.parametrize(
    ("policy", "between"),
    [
        (misfire("skip"), ["missed"] * 3),
        (misfire("latest"), ["missed", "missed", "catch_up"]),
        (misfire("latest", 600), ["missed"] * 3),
        (misfire("all"), ["catch_up"] * 3),
        (misfire("all", 5399), ["missed", "missed", "catch_up"]),
        (misfire("all", most=2), ["missed", "catch_up", "catch_up"]),
    ],
)
def test_misfire_policy_decides_what_passed(policy, between):
    found = rehearse("01:30-04:30", misfire=policy, overlap="allow")
    assert [one[0] for one in found] == ["01:00", "02:00", "03:00", "04:00", "05:00"]
    assert [one[1] for one in found[1:4]] == between
    assert {one[2] for one in found[1:4]} <= {None, "04:30"}
    assert (found[0], found[-1]) == (BEFORE, ("05:00", "runs", "05:00"))


def test_a_slot_at_the_first_moment_of_the_outage_is_down_and_one_at_the_last_is_not():
    found = rehearse("02:00-05:00", misfire=misfire("skip"))
    assert [one[:2] for one in found] == [
        ("01:00", "runs"),
        ("02:00", "missed"),
        ("03:00", "missed"),
        ("04:00", "missed"),
        ("05:00", "runs"),
        ("06:00", "runs"),
    ]


def test_many_slots_become_a_range():
    found = rehearse("02:00-05:00", schedule="* * * * * *", misfire=misfire("skip"))
    missed = [one for one in found if one[1] == "missed"]
    assert missed == [("02:00", "missed", None, 10799)]


def test_two_outages_in_a_row():
    found = rehearse("01:30-02:30", "03:30-04:30", misfire=misfire("latest"))
    assert [one[:2] for one in found] == [
        ("01:00", "runs"),
        ("02:00", "catch_up"),
        ("03:00", "runs"),
        ("04:00", "catch_up"),
        ("05:00", "runs"),
    ]


def test_a_run_under_way_runs_again_or_is_lost():
    found = rehearse("01:30-01:40", takes_s=3000, misfire=misfire("skip"))
    assert found[:2] == [("01:00", "runs", "01:00"), ("01:00", "again", "01:40")]
    assert ("02:00", "skipped", None) in found
    found = rehearse("01:30-01:40", takes_s=3000, delivery="at_most_once")
    assert found[:2] == [("01:00", "runs", "01:00"), ("01:00", "lost", None)] or found[:2] == [
        ("01:00", "lost", None),
        ("01:00", "runs", "01:00"),
    ]


def test_what_is_caught_up_waits_for_its_turn():
    found = rehearse("01:30-04:30", misfire=misfire("all"), overlap="queue", takes_s=600)
    assert [(one[0], one[2]) for one in found if one[1] == "catch_up"] == [
        ("02:00", "04:30"),
        ("03:00", "04:40"),
        ("04:00", "04:50"),
    ]
    assert ("05:00", "runs", "05:00") in found


def test_the_night_on_which_the_clocks_go_forward():
    # 02:30 does not exist in Stockholm on 2027-03-28: it runs at 03:00 local, 01:00 UTC.
    fields = {"schedule": "30 2 * * *", "timezone": "Europe/Stockholm", "day": "2027-03-28"}
    found = rehearse("00:30-03:00", misfire=misfire("latest", 7200), **fields)
    assert ("01:00", "catch_up", "03:00") in found
    found = rehearse("00:30-00:50", misfire=misfire("latest", 7200), **fields)
    assert ("01:00", "runs", "01:00") in found


def test_a_schedule_that_ends_in_the_outage():
    found = rehearse("01:30-04:30", end_us=us("2027-01-05T03:00"), misfire=misfire("latest"))
    assert [one[:2] for one in found] == [
        ("01:00", "runs"),
        ("02:00", "missed"),
        ("03:00", "catch_up"),
    ]
    assert rehearse("01:30-04:30", end_us=us("2027-01-01T03:00")) != []

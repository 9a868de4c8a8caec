"""The account: what the versions planned against the rows."""

import pytest
from msgspec.structs import replace

from everbell.domain.account import Account, periods_of, set_back
from everbell.domain.job import CommandAction, Definition, Job, JobVersion
from everbell.domain.run import Run, RunKey

T0 = 1_770_000_000_000_000
MIN = 60_000_000
T0 -= T0 % MIN
AHEAD = 500_000


def definition(schedule="* * * * *"):
    return Definition(name="a", action=CommandAction(argv=("true",)), schedule=schedule)


def job(**values):
    base = {
        "id": 1,
        "uuid": "u",
        "project_id": 1,
        "definition": definition(),
        "version": 1,
        "enabled": True,
        "created_us": T0,
        "updated_us": T0,
        "next_slot_us": T0 + MIN,
    }
    return Job(**{**base, **values})


def version(number=1, since=T0, *, enabled=True, schedule="* * * * *"):
    return JobVersion(
        job_id=1,
        version=number,
        since_us=since,
        enabled=enabled,
        definition=definition(schedule),
    )


def row(slot, *, count=1, until=None, number=1, state="succeeded", reason=""):
    return Run(
        key=RunKey(slot, 1),
        project_id=1,
        version=number,
        state=state,
        reason=reason,
        until_us=until,
        count=count,
    )


def findings(rows, *versions, end=T0 + 10 * MIN, page=1000, open_us=None, resumed=(), **rest):
    versions = versions or (version(),)
    periods = periods_of(versions, end, AHEAD)
    account = Account(job(), versions, periods, open_us=open_us, **rest)
    for one in resumed:
        account.resume(one)
    found, at = [], T0
    rows = sorted(rows, key=lambda one: one.key)
    while at < end:
        slots = account.slots(at, end, page)
        inside = [one for one in rows if at < one.key.slot_us <= slots.until_us]
        found += account.page(slots, inside)
        at = slots.until_us
    return found + list(account.end())


def told(found):
    return [
        (one.kind, (one.first_us - T0) // MIN, (one.last_us - T0) // MIN, one.count)
        for one in found
    ]


FULL = [row(T0 + n * MIN) for n in range(1, 11)]
pages = pytest.mark.parametrize("page", [1, 2, 3, 1000])


@pages
def test_a_full_ledger_is_silent(page):
    assert findings(FULL, page=page) == []


@pages
def test_gaps_are_told_as_spans(page):
    kept = [one for n, one in enumerate(FULL, 1) if n not in (3, 4, 5, 8)]
    assert told(findings(kept, page=page)) == [("gap", 3, 5, 3), ("gap", 8, 8, 1)]


def test_the_last_look_ahead_is_not_judged():
    assert findings(FULL[:-1]) == []
    assert told(findings(FULL[:-1], end=T0 + 10 * MIN + AHEAD)) == [("gap", 10, 10, 1)]


def test_from_the_cursor_on_slots_are_undecided():
    found = findings(FULL[:3], open_us=T0 + 6 * MIN)
    assert told(found) == [("gap", 4, 5, 2), ("undecided", 6, 9, 4)]


@pages
def test_a_range_stands_for_its_slots(page):
    whole = row(T0 + 2 * MIN, until=T0 + 9 * MIN, count=8, state="missed")
    assert findings([FULL[0], whole, FULL[9]], page=page) == []
    wrong = replace(whole, count=7)
    found = findings([FULL[0], wrong, FULL[9]], page=page)
    assert told(found) == [("wrong_count", 2, 9, 7)]
    assert "the schedule has 8" in found[0].detail


@pages
def test_a_slot_with_two_rows_is_told(page):
    whole = row(T0 + 2 * MIN, until=T0 + 9 * MIN, count=8, state="missed")
    found = findings([FULL[0], whole, FULL[4], FULL[9]], page=page)
    assert ("double", 5, 5, 1) in told(found)


def test_a_range_that_began_before_is_not_counted_but_covers():
    early = row(T0 - 9 * MIN, until=T0 + 4 * MIN, count=999, state="skipped")
    assert findings(FULL[4:], resumed=[early]) == []


def test_a_row_of_no_slot():
    odd = row(T0 + MIN + 1)
    found = findings([*FULL, odd])
    assert told(found) == [("no_slot", 1, 1, 1)]
    assert found[0].run == odd.id


def test_a_disabled_time_has_no_slots():
    versions = (
        version(),
        version(2, T0 + 3 * MIN, enabled=False),
        version(3, T0 + 7 * MIN),
    )
    kept = [FULL[n - 1] for n in (1, 2, 3, 8, 9, 10)]
    assert findings(kept, *versions) == []
    assert told(findings(FULL, *versions)) == [("no_slot", n, n, 1) for n in (4, 5, 6)]


def test_each_version_has_its_own_slots():
    versions = (version(), version(2, T0 + 4 * MIN + 1, schedule="*/5 * * * *"))
    base = T0 // MIN % 60
    fives = [n for n in range(5, 11) if (base + n) % 5 == 0]
    rows = [*FULL[:4], *(row(T0 + n * MIN, number=2) for n in fives)]
    assert findings(rows, *versions) == []
    assert [one[0] for one in told(findings(rows[:-1], *versions, end=T0 + 11 * MIN))] == ["gap"]


def test_a_slot_skipped_by_hand_outlives_a_change_of_its_schedule():
    ahead = row(T0 + 7 * MIN, state="skipped", reason="by_hand: moving day")
    versions = (version(), version(2, T0 + 4 * MIN + 1, schedule=None))
    assert findings([*FULL[:4], ahead], *versions) == []
    machine = replace(ahead, reason="overlap")
    assert [one.kind for one in findings([*FULL[:4], machine], *versions)] == ["no_slot"]
    nowhere = replace(ahead, key=RunKey(ahead.key.slot_us + 5, 1))
    assert [one.kind for one in findings([*FULL[:4], nowhere], *versions)] == ["no_slot"]


def test_a_clock_that_was_set_back_excuses_what_it_passed_twice():
    versions = (version(), version(2, T0 + 8 * MIN), version(3, T0 + 5 * MIN))
    assert set_back(versions) == [(T0 + 5 * MIN, T0 + 8 * MIN)]
    kept = [FULL[n - 1] for n in (1, 2, 3, 4, 5, 9, 10)]
    assert findings(kept, *versions, twice=set_back(versions)) == []


def test_a_version_that_cannot_be_read_is_named():
    versions = (version(schedule="never ever"),)
    account = Account(job(), versions, periods_of(versions, T0 + MIN, AHEAD))
    slots = account.slots(T0, T0 + MIN, 10)
    assert slots.must == {}
    assert account.unreadable == {1}

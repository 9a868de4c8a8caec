from __future__ import annotations

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from everbell.domain.decision import DueJob
from everbell.domain.errors import LimitError
from everbell.domain.job import US, CommandAction, Definition, Misfire
from everbell.domain.planner import QUEUE_MAX, Limits, Plan, leave_behind, plan
from everbell.domain.schedule import parse_schedule

T0 = 1_800_000_000 * US
LIMITS = Limits(look_ahead_us=500_000, grace_us=1_000_000)
EVERY_S = parse_schedule("@every 1s", "UTC", anchor_us=T0)
MINUTES = parse_schedule("* * * * *", "UTC")


def definition(**changes) -> Definition:
    return Definition(name="x", action=CommandAction(argv=("true",)), **changes)


def due(cursor_us: int = T0, **changes) -> DueJob:
    changes = {"active": 0, **changes}
    return DueJob(id=1, version=1, project_id=1, next_slot_us=cursor_us, **changes)


def decide(now_s: float, job: Definition | None = None, schedule=EVERY_S, **of_due) -> Plan:
    now = T0 + round(now_s * US)
    return plan(due(**of_due), job or definition(), schedule, now, LIMITS)


def seconds(instants) -> list[float]:
    return [(one - T0) / US for one in instants]


def claims(made: Plan) -> list[float]:
    assert made.decision is not None
    return seconds(one.slot_us for one in made.decision.claims)


def marks(made: Plan) -> list[tuple[float, str, str]]:
    assert made.decision is not None
    return [((one.slot_us - T0) / US, one.state, one.reason) for one in made.decision.marks]


def test_a_slot_inside_the_look_ahead_is_claimed_for_its_time():
    made = decide(-0.4)
    assert claims(made) == [0]
    assert made.decision.claims[0].due_us == T0
    assert made.decision.claims[0].trigger == "schedule"
    assert made.decision.next_slot_us == T0 + US
    assert made.decision.cursor_us == T0


def test_a_job_without_a_schedule_loses_its_cursor():
    made = decide(0, schedule=None)
    assert made.decision.next_slot_us is None
    assert not made.decision.claims


def test_the_last_slot_leaves_no_cursor():
    once = parse_schedule("@every 1s", "UTC", anchor_us=T0, end_us=T0)
    assert decide(0, schedule=once).decision.next_slot_us is None


LATE = [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("misfire", "run", "missed"),
    [
        (Misfire(policy="skip"), [], LATE),
        (Misfire(policy="latest"), [5], LATE[:5]),
        (Misfire(policy="all"), LATE, []),
        (Misfire(policy="all", max_catch_up=2), [4, 5], LATE[:4]),
        (Misfire(policy="all", window_s=62.5), [4, 5], LATE[:4]),
        (Misfire(policy="latest", window_s=1), [], LATE),
        (Misfire(policy="all", max_catch_up=0), [], LATE),
    ],
)
def test_misfire_policy_decides_on_late_slots(misfire, run, missed):
    six = parse_schedule("@every 1s", "UTC", anchor_us=T0, end_us=T0 + 5 * US)
    made = decide(66, definition(misfire=misfire, overlap="allow"), six)
    assert claims(made) == run
    assert marks(made) == [(slot, "missed", "misfire") for slot in missed]
    assert all(one.trigger == "catch_up" for one in made.decision.claims)


def test_a_slot_inside_the_grace_is_not_late_and_supersedes_latest():
    made = decide(10.5, definition(misfire=Misfire(policy="latest"), overlap="allow"))
    assert claims(made) == [10, 11]
    assert marks(made) == [(slot, "missed", "misfire") for slot in range(10)]
    assert {one.trigger for one in made.decision.claims} == {"schedule"}


@pytest.mark.parametrize(
    ("choice", "run"), [("skip", []), ("once", [4]), ("each", [0, 1, 2, 3, 4])]
)
def test_a_release_decides_what_was_held(choice, run):
    held = {"release_policy": choice, "release_until_us": T0 + 5 * US}
    made = decide(5.2, definition(overlap="allow"), **held)
    assert claims(made) == [*run, 5]
    held_back = [slot for slot in range(5) if slot not in run]
    assert marks(made) == [(slot, "skipped", "held") for slot in held_back]
    assert made.decision.clear_release


def test_a_release_of_each_keeps_the_newest_that_fit_the_queue_over_a_long_backlog():
    slots = 20_600
    now = T0 + slots * US
    job = definition(overlap="allow", misfire=Misfire(max_catch_up=1))
    held = {"release_policy": "each", "release_until_us": now - 1}
    made = plan(due(**held), job, EVERY_S, now, LIMITS)
    ran, skipped = 0, 0
    while made.decision is not None:
        ran += sum(one.trigger == "catch_up" for one in made.decision.claims)
        skipped += sum(one.count for one in made.decision.marks)
        if made.decision.next_slot_us > now:
            break
        made = plan(due(made.decision.next_slot_us, **held), job, EVERY_S, now, LIMITS)
    assert ran == QUEUE_MAX
    assert ran + skipped == slots


@pytest.mark.parametrize(
    ("overlap", "active", "queued", "mark", "replace"),
    [
        ("skip", 1, 0, "skipped", False),
        ("queue", 1, 0, "queued", False),
        ("queue", 0, 1, "queued", False),
        ("replace", 1, 0, "queued", True),
    ],
)
def test_overlap_decides_when_the_job_is_busy(overlap, active, queued, mark, replace):
    made = decide(0, definition(overlap=overlap), active=active, queued=queued)
    assert claims(made) == []
    assert marks(made)[0][:2] == (0, mark)
    assert made.replace is replace


@pytest.mark.parametrize(
    ("job", "active", "queued", "reason"),
    [
        ({"overlap": "queue"}, 1, 0, "overlap"),
        ({"overlap": "queue"}, 1, 3, "overlap"),
        ({"overlap": "queue"}, 0, 1, "queue"),
        ({"overlap": "replace"}, 1, 0, "overlap"),
        ({"limits": ("db",)}, 0, 0, "limit"),
        ({"limits": ("db",), "overlap": "allow"}, 9, 9, "limit"),
        ({"limits": ("db",), "overlap": "queue"}, 1, 0, "overlap"),
        ({"limits": ("db",), "overlap": "queue"}, 0, 1, "queue"),
    ],
)
def test_a_slot_that_waits_says_for_what(job, active, queued, reason):
    made = decide(0, definition(**job), active=active, queued=queued)
    assert claims(made) == []
    assert marks(made) == [(0, "queued", reason)]


def test_a_run_that_only_waits_for_a_shared_limit_replaces_nothing():
    job = definition(limits=("db",), overlap="replace", max_running=2)
    assert not decide(0, job, active=1).replace
    assert decide(0, job, active=2).replace
    assert decide(0, job, active=1, queued=1).replace


def test_overlap_skips_what_shares_a_limit_only_beside_a_run_of_its_own():
    job = definition(limits=("db",))
    assert marks(decide(0, job, active=1)) == [(0, "skipped", "overlap")]
    assert marks(decide(0, job, queued=1)) == [(0, "skipped", "overlap")]


def hand_on(now_s: float, job: Definition | None = None, **of_due) -> Plan:
    limits = replace(LIMITS, hand_on=True)
    return plan(due(**of_due), job or definition(), EVERY_S, T0 + round(now_s * US), limits)


def test_a_node_that_runs_nothing_queues_slots_at_their_instant():
    early, made = hand_on(-0.1), hand_on(0)
    assert (early.decision, early.wait_until_us) == (None, T0)
    assert claims(made) == []
    assert marks(made) == [(0, "queued", "worker")]
    assert made.decision.next_slot_us == T0 + US


@pytest.mark.parametrize(
    ("job", "counts", "expected"),
    [
        ({}, {"active": 1}, ("skipped", "overlap")),
        ({}, {"queued": 1}, ("skipped", "overlap")),
        ({"max_running": 2}, {"active": 1}, ("queued", "worker")),
        ({"max_running": 2}, {"active": 1, "queued": 1}, ("skipped", "overlap")),
        ({"overlap": "allow"}, {"active": 9, "queued": 9}, ("queued", "worker")),
        ({"overlap": "queue"}, {"active": 1}, ("queued", "overlap")),
        ({"limits": ("db",)}, {}, ("queued", "limit")),
    ],
)
def test_overlap_holds_also_for_what_is_handed_on(job, counts, expected):
    assert marks(hand_on(0, definition(**job), **counts)) == [(0, *expected)]


def test_overlap_allow_never_waits():
    assert claims(decide(0, definition(overlap="allow"), active=99)) == [0]


def test_max_running_bounds_the_claims_and_is_handed_to_the_store():
    made = decide(0.9, definition(max_running=2), active=1)
    assert claims(made) == [0]
    assert made.decision.claims[0].max_active == 2
    assert made.wait_until_us == made.decision.next_slot_us == T0 + US


def test_a_busy_job_is_not_decided_before_the_slots_time():
    made = decide(-0.3, active=1)
    assert made.decision is None
    assert made.wait_until_us == T0


def test_catch_up_runs_wait_in_the_queue_also_when_overlap_skips():
    made = decide(5.9, definition(misfire=Misfire(policy="all")), active=1)
    states = {slot: state for slot, state, _ in marks(made)}
    assert states == {0: "queued", 1: "queued", 2: "queued", 3: "queued", 4: "queued", 5: "skipped"}


def test_a_full_queue_skips():
    made = decide(0, definition(overlap="queue"), active=1, queued=QUEUE_MAX)
    assert marks(made) == [(0, "skipped", "queue_full")]


def test_ten_thousand_missed_minutes_cost_little_and_make_one_range():
    first = MINUTES.next_us(T0)
    now = first + 10_000 * 60 * US
    job = definition(misfire=Misfire(policy="latest"))
    costs = []
    for _ in range(3):
        begun = time.process_time()
        made = plan(due(first), job, MINUTES, now, LIMITS)
        costs.append(time.process_time() - begun)
    assert min(costs) < 0.2
    [mark] = made.decision.marks
    assert (mark.slot_us, mark.count, mark.state) == (first, 10_000, "missed")
    assert mark.until_us == now - 60 * US
    assert [one.slot_us for one in made.decision.claims] == [now]
    singles = plan(due(first), job, MINUTES, now, replace(LIMITS, ranges=False)).decision.marks
    assert [one.slot_us for one in singles] == list(range(first, now, 60 * US))


def test_slots_left_behind_are_marked_up_to_now():
    first = MINUTES.next_us(T0)
    now = first + 120 * US
    behind = leave_behind(first, MINUTES, now, "disabled", ranges=True)
    assert behind.cursor_us == first
    assert [(one.slot_us, one.state, one.reason) for one in behind.marks] == [
        (first + minute * 60 * US, "skipped", "disabled") for minute in range(3)
    ]
    for nothing in ((first, MINUTES, first - 1), (None, MINUTES, now), (first, None, now)):
        assert leave_behind(*nothing, "disabled", ranges=True) is None


def test_more_slots_than_can_be_left_behind_are_refused():
    with pytest.raises(LimitError, match="undecided"):
        leave_behind(T0, EVERY_S, T0 + 2_000_000 * US, "disabled", ranges=True)
    [whole] = leave_behind(T0, EVERY_S, T0 + 50_000 * US, "disabled", ranges=True).marks
    assert whole.count == 50_001
    with pytest.raises(LimitError, match="undecided"):
        leave_behind(T0, EVERY_S, T0 + 50_000 * US, "disabled", ranges=False)


def test_a_longer_backlog_takes_several_passes_and_ends():
    cursor, now, counted, passes = T0, T0 + 200_000 * US, 0, 0
    job = definition(misfire=Misfire(policy="skip"), overlap="allow")
    while cursor <= now:
        made = plan(due(cursor), job, EVERY_S, now, LIMITS)
        counted += sum(one.count for one in made.decision.marks) + len(made.decision.claims)
        cursor, passes = made.decision.next_slot_us, passes + 1
    assert counted == 200_001
    assert passes < 20


@st.composite
def situations(draw):
    now = T0 + draw(st.integers(0, 400_000_000))
    job = definition(
        overlap=draw(st.sampled_from(["skip", "queue", "allow", "replace"])),
        max_running=draw(st.integers(1, 3)),
        misfire=Misfire(
            policy=draw(st.sampled_from(["skip", "latest", "all"])),
            window_s=draw(st.sampled_from([0.0, 5.0, 60.0, 3600.0])),
            max_catch_up=draw(st.integers(1, 20)),
        ),
    )
    schedule = parse_schedule(
        draw(st.sampled_from(["@every 1s", "@every 7s", "*/10 * * * * *", "* * * * *"])),
        "UTC",
        anchor_us=T0,
        end_us=draw(st.none() | st.integers(T0, T0 + 500_000_000)),
    )
    cursor = schedule.next_us(T0 - 1 + draw(st.integers(0, 100)) * US)
    release = draw(st.sampled_from(["", "skip", "once", "each"]))
    job_due = due(
        cursor or T0,
        active=draw(st.integers(0, 3)),
        queued=draw(st.integers(0, 2)),
        release_policy=release,
        release_until_us=draw(st.integers(T0, now + US)) if release else 0,
    )
    return job_due, job, schedule, now


@given(situations())
def test_every_slot_is_decided_exactly_once_or_left(situation):
    job_due, job, schedule, now = situation
    made = plan(job_due, job, schedule, now, LIMITS)
    horizon = now + LIMITS.look_ahead_us
    slots = [job_due.next_slot_us, *schedule.slots_us(job_due.next_slot_us, 10_000, horizon)]
    if made.decision is None:
        assert made.wait_until_us == slots[0] > now
        return
    decided = [one.slot_us for one in made.decision.claims]
    for mark in made.decision.marks:
        until = mark.slot_us if mark.until_us is None else mark.until_us
        covered = [slot for slot in slots if mark.slot_us <= slot <= until]
        assert len(covered) == mark.count
        decided += covered
    cursor = made.decision.next_slot_us
    assert sorted(decided) == [slot for slot in slots if cursor is None or slot < cursor]
    assert len(decided) == len(set(decided))
    left = [slot for slot in slots if cursor is not None and slot >= cursor]
    assert all(slot > now for slot in left), "only what lies ahead may wait"
    assert cursor == (left[0] if left else schedule.next_us(slots[-1]))
    room = None if job.overlap == "allow" else max(job.max_running - job_due.active, 0)
    assert room is None or len(made.decision.claims) <= room
    times = [one.slot_us for one in made.decision.marks]
    assert times == sorted(times)


@given(situations())
def test_the_same_situation_gives_the_same_plan(situation):
    assert plan(*situation, LIMITS) == plan(*situation, LIMITS)


def test_a_decision_carries_what_it_was_made_on():
    changed = msgspec.structs.replace(due(), version=9, project_id=4)
    decision = plan(changed, definition(), EVERY_S, T0, LIMITS).decision
    assert (decision.job_id, decision.version, decision.project_id) == (1, 9, 4)

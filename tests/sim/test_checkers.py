"""The checkers are believed only because they catch histories that were tampered with."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from everbell.domain.job import US
from everbell.domain.run import RunKey
from everbell.testing.sim.checkers import check_all
from everbell.testing.sim.history import End, Fault, History, Op, Start
from everbell.testing.sim.scenario import Options, simulate

OPTIONS = Options(
    seed=11, nodes=2, jobs=8, minutes=2, start=4, workers=100, faults=("ops", "crash")
)


@pytest.fixture(scope="module")
def story() -> History:
    result = simulate(OPTIONS)
    assert result.violations == []
    return result.history


def copy(story: History, **changes) -> History:
    return replace(story, **{"events": list(story.events), "rows": list(story.rows), **changes})


def kinds(history: History) -> set[str]:
    return {one.kind for one in check_all(history)}


def starts(story: History) -> list[Start]:
    return [one for one in story.events if isinstance(one, Start)]


def planned_rows(story: History):
    return [row for row in story.rows if not row.key.trigger_id and row.count == 1]


def test_an_untouched_history_is_clean(story):
    assert kinds(copy(story)) == set()


def test_a_dropped_row_is_caught(story):
    changed = copy(story)
    changed.rows.remove(random.Random(1).choice(planned_rows(story)))
    assert "unaccounted" in kinds(changed)


def test_a_doubled_row_is_caught(story):
    assert "double row" in kinds(copy(story, rows=[*story.rows, story.rows[0]]))


def test_a_row_of_no_slot_is_caught(story):
    row = planned_rows(story)[0]
    strange = replace(row, key=RunKey(row.key.slot_us + 333_333, row.key.job_id))
    assert "phantom" in kinds(copy(story, rows=[*story.rows, strange]))


def test_a_range_that_counts_wrong_is_caught(story):
    changed = copy(story)
    row = planned_rows(story)[0]
    changed.rows[changed.rows.index(row)] = replace(row, count=5)
    assert "wrong count" in kinds(changed)


def test_a_run_that_never_ended_is_caught(story):
    changed = copy(story)
    row = planned_rows(story)[0]
    changed.rows[changed.rows.index(row)] = replace(row, state="running")
    assert "not final" in kinds(changed)


def test_a_doubled_start_is_caught(story):
    start = starts(story)[5]
    changed = copy(story)
    changed.events.append(replace(start, token=start.token + 1000, node="other"))
    assert "double start" in kinds(changed)


def test_a_start_shifted_before_its_slot_is_caught(story):
    changed = copy(story)
    start = next(one for one in starts(story) if not one.key.trigger_id)
    index = changed.events.index(start)
    changed.events[index] = replace(start, wall_us=start.key.slot_us - 1)
    assert "early" in kinds(changed)


def test_swapped_tokens_are_caught(story):
    found = starts(story)
    pair = next(
        (one, two)
        for one in found
        for two in found
        if one.key == two.key and two.attempt == one.attempt + 1
    )
    changed = copy(story)
    for one, other in (pair, pair[::-1]):
        changed.events[story.events.index(one)] = replace(one, token=other.token)
    assert "token order" in kinds(changed)


def test_a_late_start_of_a_fenced_attempt_is_caught(story):
    two = next(one for one in starts(story) if one.attempt == 2)
    one = next(o for o in starts(story) if o.key == two.key and o.attempt == 1)
    changed = copy(story)
    changed.events.remove(one)
    changed.events.append(replace(one, at_us=two.at_us + US))
    assert "fence" in kinds(changed)


def test_a_reused_token_is_caught(story):
    job_id = starts(story)[0].key.job_id
    one, two = [one for one in starts(story) if one.key.job_id == job_id][:2]
    changed = copy(story)
    changed.events[story.events.index(two)] = replace(two, token=one.token)
    assert "token reuse" in kinds(changed)


def test_a_success_that_nobody_saw_is_caught(story):
    row = next(row for row in story.rows if row.state == "succeeded")
    kept = [one for one in story.events if not (isinstance(one, End) and one.key == row.key)]
    assert "unfounded success" in kinds(copy(story, events=kept))


def test_a_success_that_the_ledger_forgot_is_caught(story):
    calm = {one.node for one in story.events if isinstance(one, Fault) and one.kind == "boot"}
    calm -= {one.node for one in story.events if isinstance(one, Fault) and one.kind != "boot"}
    known = {job.id for job in story.jobs}
    ends = [one for one in story.events if isinstance(one, End) and one.outcome == "succeeded"]
    changed = copy(story)
    faults = [one for one in story.events if isinstance(one, Fault) and one.kind != "boot"]
    end = next(one for one in ends if one.key.job_id in known)
    changed.events = [one for one in changed.events if one not in faults]
    changed.rows = [row for row in changed.rows if row.key != end.key]
    assert "unrecorded" in kinds(changed)


def test_two_starts_of_an_at_most_once_job_are_caught(story):
    strict = next(job.id for job in story.jobs if job.definition.delivery == "at_most_once")
    start = next(one for one in starts(story) if one.key.job_id == strict)
    changed = copy(story)
    changed.events.append(replace(start, attempt=2, token=10**6, at_us=start.at_us + US))
    assert "more than once" in kinds(changed)


@pytest.mark.parametrize("kind", ["hold", "disable", "delete"])
def test_a_start_after_a_stop_is_caught(story, kind):
    start = next(one for one in starts(story) if one.attempt == 1 and not one.key.trigger_id)
    stop_us = start.at_us - 9 * US
    op = Op(asked_us=stop_us - 1, acked_us=stop_us, wall_us=0, kind=kind, target=start.key.job_id)
    changed = copy(story)
    changed.events = [
        one
        for one in changed.events
        if not (isinstance(one, Op) and one.kind in {"release", "enable"})
    ]
    changed.events.insert(0, op)
    assert f"start after {kind}" in kinds(changed)


def test_an_overlap_is_caught(story):
    single = {
        job.id
        for job in story.jobs
        if all(
            v.definition.overlap != "allow" and v.definition.max_running == 1
            for v in story.versions[job.id]
        )
    }
    row = next(row for row in story.rows if row.key.job_id in single and row.state == "succeeded")
    start = next(
        one for one in starts(story)
        if (one.key, one.attempt, one.token) == (row.key, row.attempt, row.token)
    )  # fmt: skip
    other = replace(start, key=RunKey(start.key.slot_us, start.key.job_id, "x"), token=10**6)
    changed = copy(story)
    changed.events = [
        one for one in changed.events if not (isinstance(one, Fault) and one.kind != "boot")
    ]
    changed.events.insert(changed.events.index(start) + 1, other)
    assert "overlap" in kinds(changed)


def test_a_node_that_stopped_and_a_run_that_is_stuck_are_caught(story):
    changed = copy(story, stopped=["n0.1: boom"], stuck=["1-2 is queued"])
    assert kinds(changed) == {"node stopped", "stuck"}

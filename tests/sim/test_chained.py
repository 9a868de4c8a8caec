"""The judges of checks, chains and limits catch histories that were tampered with."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from everbell.domain.run import RunKey
from everbell.testing.sim.checkers import check_all
from everbell.testing.sim.history import Checked, End, History, LimitSet, Start
from everbell.testing.sim.scenario import Options, simulate

OPTIONS = Options(seed=1, nodes=2, jobs=15, minutes=2, start=4, workers=100, faults=("latency",))


@pytest.fixture(scope="module")
def story() -> History:
    result = simulate(OPTIONS)
    assert result.violations == []
    return result.history


def copy(story: History, **changes) -> History:
    return replace(story, **{"events": list(story.events), "rows": list(story.rows), **changes})


def kinds(history: History) -> set[str]:
    return {one.kind for one in check_all(history)}


def chained(story: History):
    return [row for row in story.rows if row.trigger == "chain"]


def checks(story: History) -> list[Checked]:
    return [one for one in story.events if isinstance(one, Checked)]


def test_there_is_something_to_judge(story):
    assert len(chained(story)) > 20
    assert {one.code for one in checks(story)} >= {0, 1, 2}
    assert any(row.reason == "nothing_to_do" for row in story.rows)
    shared = [job for job in story.jobs if job.definition.limits]
    assert len(shared) > 2


def test_a_follower_that_is_missing_is_caught(story):
    row = chained(story)[3]
    assert "chain broken" in kinds(copy(story, rows=[one for one in story.rows if one != row]))


def test_a_run_that_follows_nothing_is_caught(story):
    row = chained(story)[0]
    stray = replace(row, key=RunKey(row.key.slot_us, row.key.job_id, "then1-0000"))
    assert "follows nothing" in kinds(copy(story, rows=[*story.rows, stray]))


def test_more_runs_than_a_limit_allows_are_caught(story):
    # Without the ends, the runs of jobs that share a limit are all at work together.
    kept = [one for one in story.events if not isinstance(one, End | LimitSet)]
    assert "limit" in kinds(copy(story, events=kept))


def test_a_start_after_nothing_to_do_is_caught(story):
    check = next(one for one in checks(story) if one.code == 1)
    changed = copy(story)
    changed.events.append(
        Start(
            at_us=check.at_us, wall_us=1 << 62, node=check.node, key=check.key,
            attempt=check.attempt, token=check.token,
        )
    )  # fmt: skip
    assert "start of nothing" in kinds(changed)


def test_a_second_check_a_check_of_a_retry_and_one_of_a_trigger_are_caught(story):
    check, stray = checks(story)[0], chained(story)[0]
    for event, kind in (
        (check, "double check"),
        (replace(check, attempt=2), "check of a retry"),
        (replace(check, key=stray.key), "check of a trigger"),
    ):
        changed = copy(story)
        changed.events.append(replace(event))
        assert kind in kinds(changed)


def test_a_skip_that_no_check_asked_for_is_caught(story):
    kept = [one for one in story.events if not isinstance(one, Checked)]
    assert "unfounded skip" in kinds(copy(story, events=kept))

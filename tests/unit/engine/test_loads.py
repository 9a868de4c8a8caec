"""What shards weigh, as tallied by a node."""

from __future__ import annotations

import pytest

from everbell.domain.decision import Claim, Decision, Mark
from everbell.domain.job import US
from everbell.domain.placement import SHARDS, UNKNOWN_S, weight
from everbell.domain.run import Run, RunKey
from everbell.engine import loads as module
from everbell.engine.loads import QUIET_S, TRUST_S, Loads
from everbell.ports.store import Finish
from everbell.testing.hand_clock import BASE_US as BASE
from everbell.testing.hand_clock import HandClock


def decision(job_id: int, period_s: float, slot_us: int = BASE) -> Decision:
    claim = Claim(slot_us=slot_us, due_us=slot_us, trigger="schedule", max_active=None)
    return Decision(
        job_id=job_id,
        project_id=1,
        version=1,
        cursor_us=slot_us,
        next_slot_us=slot_us + round(period_s * US),
        claims=(claim,),
    )


def finish(job_id: int, seconds: float | None) -> Finish:
    run = Run(key=RunKey(BASE, job_id), project_id=1, version=1, state="claimed")
    started = None if seconds is None else BASE
    ended = BASE + round((seconds or 0.0) * US)
    return Finish(run=run, state="succeeded", started_us=started, finished_us=ended)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def loads(clock: HandClock) -> Loads:
    return Loads(clock)


def test_a_job_weighs_by_its_period_and_as_unknown_until_it_ended(loads: Loads) -> None:
    loads.decided([decision(5, 60.0)])
    assert loads.weights() == {5: pytest.approx(60 * UNKNOWN_S)}
    loads.ended([finish(5, 2.0)])
    assert loads.weights() == {5: pytest.approx(120.0)}


def test_averages_move_towards_what_is_new(loads: Loads) -> None:
    loads.decided([decision(5, 60.0)])
    loads.ended([finish(5, 2.0), finish(5, 12.0)])
    assert loads.weights()[5] == pytest.approx(60 * 5.0)
    loads.decided([decision(5, 30.0)])
    assert loads.weights()[5] == pytest.approx(weight(51.0, 5.0))


def test_the_period_of_several_slots_at_once_is_that_to_the_next(loads: Loads) -> None:
    late = [
        Mark(slot_us=BASE, until_us=BASE + 90 * US, count=10, state="missed", reason="late"),
    ]
    one = Decision(
        job_id=7,
        project_id=1,
        version=1,
        cursor_us=BASE,
        next_slot_us=BASE + 100 * US,
        marks=tuple(late),
    )
    loads.decided([one])
    assert loads.weights()[7] == pytest.approx(360 * UNKNOWN_S)


def test_jobs_of_one_shard_add_up_and_go_one_by_one(loads: Loads) -> None:
    loads.decided([decision(5, 60.0), decision(5 + SHARDS, 30.0)])
    assert loads.weights() == {5: pytest.approx(180 * UNKNOWN_S)}
    last = decision(5, 60.0)
    loads.decided([Decision(job_id=5, project_id=1, version=1, cursor_us=1, next_slot_us=None)])
    assert last.job_id == 5
    assert loads.weights() == {5: pytest.approx(120 * UNKNOWN_S)}
    loads.own((), (5,), {})
    assert loads.weights() == {}
    assert len(loads) == 0


def test_attempts_of_unknown_jobs_and_those_that_never_started_count_nothing(loads: Loads) -> None:
    loads.ended([finish(9, 3.0)])
    loads.decided([decision(5, 60.0)])
    loads.ended([finish(5, None)])
    assert loads.weights() == {5: pytest.approx(60 * UNKNOWN_S)}


def test_silent_jobs_are_forgotten(loads: Loads, clock: HandClock) -> None:
    loads.decided([decision(1, 10.0), decision(2, 3600.0)])
    clock.at += QUIET_S + 1
    assert set(loads.weights()) == {2}
    clock.at += 3 * 3600
    assert loads.weights() == {}


def test_the_tally_is_bounded(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JOBS_MAX", 3)
    for job_id in range(1, 6):
        loads.decided([decision(job_id, 60.0)])
    assert len(loads) == 3
    assert set(loads.weights()) == {3, 4, 5}


def test_only_news_is_told(loads: Loads) -> None:
    loads.decided([decision(job_id, 60.0) for job_id in (1, 2, 3)])
    news = loads.news(range(SHARDS))
    assert set(news) == {1, 2, 3}
    loads.told(news)
    assert loads.news(range(SHARDS)) == {}
    loads.ended([finish(1, UNKNOWN_S * 1.1)])
    assert loads.news(range(SHARDS)) == {}
    loads.ended([finish(2, UNKNOWN_S * 3)])
    assert set(loads.news(range(SHARDS))) == {2}
    assert loads.news((1, 3)) == {}


def test_a_shard_that_came_weighs_what_its_owner_before_said(
    loads: Loads, clock: HandClock
) -> None:
    loads.own((4, 5), (), {4: 50.0})
    assert loads.weights() == {4: 50.0}
    assert loads.news((4, 5)) == {}
    loads.decided([decision(4, 36.0)])
    assert loads.weights()[4] == pytest.approx(100 * UNKNOWN_S)
    loads.own((6,), (), {6: 50.0})
    clock.at += TRUST_S + 1
    assert 6 not in loads.weights()

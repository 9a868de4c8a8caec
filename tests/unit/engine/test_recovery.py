"""How often the dead, and what they left, are looked for."""

from __future__ import annotations

from typing import Any

import pytest

from everbell.domain.job import Retry
from everbell.domain.run import Run, RunKey
from everbell.domain.settle import Defaults
from everbell.engine.housekeeping import LOOK_S, Recovery
from everbell.ports.store import Verdict
from everbell.testing.hand_clock import BASE_US, HandClock


class Graves:
    """A store that tells of deaths as it is told."""

    def __init__(self, *, sees_deaths: bool) -> None:
        self.sees_deaths = sees_deaths
        self.dead: list[str] = []
        self.left: list[Run] = []
        self.asked = {"declare_dead": 0, "orphans": 0}
        self.verdicts: list[Verdict] = []

    async def declare_dead(self, _now_us: int) -> list[str]:
        self.asked["declare_dead"] += 1
        dead, self.dead = self.dead, []
        return dead

    async def orphans(self, _now_us: int, limit: int) -> list[Run]:
        self.asked["orphans"] += 1
        return self.left[:limit]

    async def get_jobs(self, _ids: Any) -> list[Any]:
        return []

    async def recover(self, verdicts: list[Verdict], _now_us: int) -> int:
        self.verdicts += verdicts
        self.left = self.left[len(verdicts) :]
        return len(verdicts)


def recovery(store: Graves, clock: HandClock) -> Recovery:
    defaults = Defaults(http_timeout_s=1.0, process_timeout_s=1.0, retry=Retry(), max_crashes=3)
    made = Recovery(
        clock,
        lambda name, error: pytest.fail(f"{name}: {error}"),
        store,  # type: ignore[arg-type]  # only these verbs are asked for
        defaults,
        2.0,
    )
    made.told = []  # type: ignore[attr-defined]
    made.died = lambda: made.told.append("died")  # type: ignore[attr-defined]
    made.recovered = lambda: made.told.append("recovered")  # type: ignore[attr-defined]
    return made


async def steps(one: Recovery, clock: HandClock, seconds: float) -> None:
    end = clock.at + seconds
    while clock.at < end - 1e-9:
        clock.go(await one.step())


@pytest.mark.parametrize(("sees", "looks"), [(True, 40), (False, 5)])
async def test_a_store_that_sees_deaths_is_asked_often_but_only_for_the_dead(
    *, sees: bool, looks: int
) -> None:
    store, clock = Graves(sees_deaths=sees), HandClock()
    await steps(recovery(store, clock), clock, 10.0)
    assert store.asked == {"declare_dead": looks, "orphans": 5}


async def test_what_a_dead_node_left_is_taken_care_of_at_once() -> None:
    store, clock = Graves(sees_deaths=True), HandClock()
    one = recovery(store, clock)
    await steps(one, clock, 1.0)
    store.dead = ["n1"]
    key = RunKey(BASE_US, 1)
    store.left = [Run(key=key, project_id=1, version=1, state="running", node="n1")]
    await steps(one, clock, LOOK_S)
    assert [it.run.key for it in store.verdicts] == [key]
    assert one.told == ["died", "recovered"]  # type: ignore[attr-defined]


async def test_many_orphans_are_taken_care_of_without_a_pause() -> None:
    store, clock = Graves(sees_deaths=False), HandClock()
    store.left = [
        Run(key=RunKey(BASE_US + number, 1), project_id=1, version=1, state="claimed", node="n1")
        for number in range(1200)
    ]
    one = recovery(store, clock)
    assert [await one.step() for _ in range(3)] == [0.0, 0.0, 2.0]
    assert len(store.verdicts) == 1200


async def test_who_may_not_judge_asks_nothing() -> None:
    store, clock = Graves(sees_deaths=True), HandClock()
    one = recovery(store, clock)
    one.may_judge = lambda: False
    await steps(one, clock, 5.0)
    assert store.asked == {"declare_dead": 0, "orphans": 0}

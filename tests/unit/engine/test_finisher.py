from __future__ import annotations

import asyncio

from everbell.domain.errors import StoreUnavailable, StoreUnknownOutcome
from everbell.engine.finisher import Finisher
from everbell.ports.store import Finish
from everbell.testing.engine_bench import BASE_US, FakeStore, SimClock, make_run, passes, virtually


def end(number: int) -> Finish:
    run = make_run(slot_us=BASE_US + number)
    return Finish(run=run, state="succeeded", started_us=BASE_US, finished_us=BASE_US)


def finisher(store: FakeStore) -> Finisher:
    made = Finisher(SimClock(BASE_US), lambda *_: None, store)
    made.start()
    return made


def test_flush_waits_for_what_was_taken_before_it_and_not_for_what_comes_after():
    async def story():
        store = FakeStore()
        store.slow_s = 0.1
        one = finisher(store)
        one.finish(end(0), lambda _: None)

        async def more():
            for number in range(1, 400):
                one.finish(end(number), lambda _: None)
                await passes(0.05)

        task = asyncio.get_running_loop().create_task(more())
        async with asyncio.timeout(1):
            await one.flush()
        await task
        await one.flush()
        assert len(store.finished) == 400
        assert not one.keys()
        await one.stop()

    virtually(story())


def test_ends_survive_a_store_that_is_away_or_silent_and_are_told_once():
    async def story():
        store = FakeStore()
        store.fail = [StoreUnavailable("away"), StoreUnknownOutcome("lost")]
        told = []
        one = finisher(store)
        one.finish(end(0), told.append)
        assert one.keys() == {end(0).run.key}
        assert one.holds_job(1)
        await one.flush()
        assert len(told) == 1
        assert not one.holds_job(1)
        await one.stop()

    virtually(story())

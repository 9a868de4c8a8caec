"""What a node does about claims that it can't be sure of."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from everbell.domain.errors import NotFoundError, StoreUnavailable, StoreUnknownOutcome
from everbell.domain.job import US
from everbell.domain.notice import Moment, surely_claimed
from everbell.domain.run import RunKey
from everbell.engine.firing import Firing
from everbell.engine.heartbeat import Heartbeat, Identity, Thresholds, Watcher
from everbell.engine.timers import Timers
from everbell.ports.cluster import Pulse
from everbell.testing.engine_bench import (
    BASE_US,
    Bench,
    FakeExecutor,
    FakeStore,
    SimClock,
    make_job,
    make_run,
    passes,
    virtually,
)
from everbell.testing.sim.world import SimLoad

IDENTITY = Identity(name="n", host="h", pid=1, version="0", workers=1)


class ClaimStore(FakeStore):
    """Answers a list of claims late, as it was when asked."""

    def __init__(self, *jobs):
        super().__init__(*jobs)
        self.claims = []
        self.cancelled = []
        self.alive = True

    async def list_runs(self, where, limit, before=None):
        answer = list(self.claims)
        await passes(5)
        return answer

    async def request_cancel(self, key, now_us):
        self.cancelled.append(key)
        raise NotFoundError("gone")

    async def heartbeat(self, node):
        await self._maybe()
        return Pulse(accepted=self.alive)


def firing(bench: Bench) -> Firing:
    made = Firing(
        bench.clock, bench._fail, store=bench.store, catalog=bench.catalog,
        finisher=bench.finisher, execution=bench.execution,
    )  # fmt: skip
    made.node_id = "n1"
    look_when_in_doubt(made.timers, bench.clock)
    return made


def look_when_in_doubt(timers: Timers, clock) -> None:
    timers.doubt = lambda: timers.looked(Moment(clock.now_us(), int(clock.monotonic() * US)))


def test_a_claim_that_ended_while_claims_were_listed_is_not_started_again():
    async def story():
        bench = Bench(ClaimStore(make_job()), FakeExecutor(lasts_s=1))
        bench.store.claims = [make_run()]
        one = firing(bench)
        bench.execution.start([make_run()])
        await one.adopt()
        await passes(10)
        return bench.executor.started

    assert len(virtually(story())) == 1


def test_a_claim_whose_acknowledgement_was_lost_is_started_also_beside_an_open_end():
    async def story():
        bench = Bench(ClaimStore(make_job()), FakeExecutor(lasts_s=1))
        await bench.finisher.stop()
        bench.store.claims = [make_run(slot_us=BASE_US + 1)]
        bench.execution.start([make_run()])
        await passes(2)
        assert bench.finisher.holds_job(1)
        await firing(bench).adopt()
        await passes(10)
        return [run.key.slot_us for run in bench.executor.started]

    assert virtually(story()) == [BASE_US, BASE_US + 1]


def test_claims_that_are_being_handed_back_are_not_adopted():
    async def story():
        bench = Bench(ClaimStore(make_job()), FakeExecutor())
        bench.store.claims = [make_run()]
        one = firing(bench)
        one.returning = {make_run().key}
        await one.adopt()
        await passes(10)
        return bench.executor.started

    assert virtually(story()) == []


def test_claims_listed_or_won_under_a_dead_name_are_dropped():
    async def story():
        bench = Bench(ClaimStore(make_job()), FakeExecutor())
        bench.store.claims = [make_run()]
        one = firing(bench)
        adoption = asyncio.get_running_loop().create_task(one.adopt())
        await passes(1)
        one.node_id = "n2"
        await adoption
        assert not one._take("n1", [make_run()])
        await passes(10)
        return bench.executor.started

    assert virtually(story()) == []


def test_replacing_survives_runs_that_vanish():
    async def story():
        bench = Bench(ClaimStore(make_job()), FakeExecutor())
        bench.store.claims = [make_run(slot_us=BASE_US + 1), make_run()]
        await firing(bench)._replace(1)
        return bench.store.cancelled

    assert virtually(story()) == [RunKey(BASE_US, 1)]


def test_what_is_replaced_does_not_start_though_the_answer_was_lost():
    async def story():
        bench = Bench(ClaimStore(make_job()), FakeExecutor())
        bench.store.claims = [make_run(slot_us=BASE_US + 1), make_run()]

        async def no_answer(key, now_us):
            raise StoreUnknownOutcome("lost")

        bench.store.request_cancel = no_answer
        one = firing(bench)
        one.timers.add([replace(make_run(), attempt=2, due_us=BASE_US + 9 * US)])
        await one._replace(1)
        await passes(20)
        return bench

    bench = virtually(story())
    assert bench.executor.started == []
    assert [one.state for one in bench.store.finished] == ["cancelled"]


def heartbeat(store, clock) -> Heartbeat:
    made = Heartbeat(
        clock, lambda *_: None, store=store, load=SimLoad(), identity=IDENTITY,
        thresholds=Thresholds(heartbeat_s=2.0, lease_s=6.0),
    )  # fmt: skip
    made.node_id = "n1"
    return made


def test_a_node_trusts_its_lease_less_than_the_store_does():
    async def story():
        one = heartbeat(ClaimStore(), SimClock(BASE_US))
        await one.step()
        await passes(4.4)
        assert one.trusted()
        await passes(0.2)
        assert not one.trusted()

    virtually(story())


@pytest.mark.parametrize("jump_s", [-3600, -2, 2, 3600])
def test_after_a_clock_jump_nobody_is_judged_for_a_lease(jump_s):
    async def story():
        clock = SimClock(BASE_US)
        one = heartbeat(ClaimStore(), clock)
        await one.step()
        assert one.calm()
        clock.leap(jump_s * 1_000_000)
        assert not one.calm()
        for _ in range(3):
            await passes(1.9)
            await one.step()
            assert not one.calm()
        await passes(1.9)
        assert one.calm()

    virtually(story())


def test_after_an_outage_nobody_is_judged_for_a_lease():
    async def story():
        store = ClaimStore()
        one = heartbeat(store, SimClock(BASE_US))
        await one.step()
        await passes(30)
        store.fail = [StoreUnavailable("away")]
        with pytest.raises(StoreUnavailable):
            await one.step()
        await one.step()
        assert one.trusted()
        assert not one.calm()
        for _ in range(4):
            await passes(2)
            await one.step()
        assert one.calm()

    virtually(story())


def test_a_lease_that_was_lost_counts_again_only_after_the_claims_were_looked_at():
    async def story():
        one = heartbeat(ClaimStore(), SimClock(BASE_US))
        seen = []

        async def verify():
            seen.append(one.trusted())

        one.verify = verify
        await one.step()
        assert seen == []
        await passes(20)
        await one.step()
        assert seen == [False]
        assert one.trusted()

    virtually(story())


def test_a_fenced_node_says_so_and_rejoins_at_once():
    async def story():
        store = ClaimStore()
        one = heartbeat(store, SimClock(BASE_US))
        fenced = []
        one.fenced = lambda: fenced.append(True)
        store.alive = False
        assert await one.step() == 0.0
        assert fenced

    virtually(story())


def test_the_watcher_looks_again_until_what_changed_was_acted_on():
    class Counting:
        count = 0

        async def change_counter(self):
            return self.count

    async def story():
        store, acts = Counting(), []

        async def act():
            acts.append(True)
            if len(acts) == 1:
                raise StoreUnavailable("away")

        one = Watcher(SimClock(BASE_US), lambda *_: None, store)
        one.changed = act
        await one.step()
        assert acts == []
        store.count = 5
        with pytest.raises(StoreUnavailable):
            await one.step()
        await one.step()
        await one.step()
        assert len(acts) == 2
        one.suspect()
        await one.step()
        assert len(acts) == 3

    virtually(story())


def test_a_watcher_dozes_while_nothing_can_be_withdrawn_and_attends_at_once():
    class Counting:
        looks = 0

        async def change_counter(self):
            self.looks += 1
            return 0

    async def story():
        store, busy = Counting(), []
        one = Watcher(SimClock(BASE_US), lambda *_: None, store)
        one.idle = lambda: not busy
        one.start()
        await passes(5)
        assert 10 <= store.looks <= 11
        busy.append(True)
        one.attend()
        await passes(0.05)
        assert 11 <= store.looks <= 12
        await passes(1)
        assert store.looks >= 20
        assert one.fresh()
        await one.stop()

    virtually(story())


def test_a_flagged_run_stays_until_it_is_due_and_carries_the_flag():
    async def story():
        started = []
        clock = SimClock(BASE_US)
        timers = Timers(clock, started.extend)
        look_when_in_doubt(timers, clock)
        timers.add([make_run(slot_us=BASE_US + 2_000_000)])
        timers.flag([RunKey(BASE_US + 2_000_000, 1), RunKey(5, 5)])
        await passes(1.5)
        assert started == []
        await passes(1)
        return started

    [run] = virtually(story())
    assert run.cancel_requested


def test_timers_never_fire_early_when_the_clock_goes_back():
    async def story():
        clock, started = SimClock(BASE_US), []
        timers = Timers(clock, lambda runs: started.append((clock.now_us(), runs)))
        look_when_in_doubt(timers, clock)
        timers.add([make_run(slot_us=BASE_US + 2_000_000)])
        await passes(1)
        clock.leap(-10_000_000)
        await passes(30)
        return started

    [(at_us, _)] = virtually(story())
    assert BASE_US + 2_000_000 <= at_us <= BASE_US + 2_001_000


def test_a_claim_that_may_have_been_withdrawn_waits_for_a_look():
    async def story():
        clock, started, doubts = SimClock(BASE_US), [], []
        timers = Timers(clock, started.extend)
        timers.doubt = lambda: doubts.append(clock.now_us())
        early = replace(make_run(slot_us=BASE_US + 1_000_000), claimed_us=BASE_US)
        gone = replace(make_run(slot_us=BASE_US + 1_000_001), claimed_us=BASE_US)
        late = replace(make_run(slot_us=BASE_US + 1_000_002), claimed_us=BASE_US + 900_000)
        timers.add([early, gone, late])
        await passes(1.5)
        assert [run.key for run in started] == [late.key]
        assert doubts
        timers.drop([gone.key])
        timers.looked(Moment(clock.now_us(), int(clock.monotonic() * US)))
        assert [run.key for run in started] == [late.key, early.key]
        assert len(timers) == 0

    virtually(story())


def test_a_look_shortly_before_is_enough_unless_the_clock_was_set():
    run = replace(make_run(slot_us=BASE_US + 1_000_000), claimed_us=BASE_US)
    due = run.due_us
    seen = Moment(due - 150_000, 850_000)
    assert surely_claimed(run, 0, seen, Moment(due, 1_000_000))
    # Held since after the look; a look too old; a clock that was set back; one set forward.
    assert not surely_claimed(run, 900_000, seen, Moment(due, 1_000_000))
    assert not surely_claimed(run, 0, Moment(due - 250_000, 750_000), Moment(due, 1_000_000))
    assert not surely_claimed(run, 0, seen, Moment(due, 9_000_000))
    assert not surely_claimed(run, 0, Moment(due - 5_000_000, 950_000), Moment(due, 1_000_000))
    retry = replace(run, attempt=2)
    assert not surely_claimed(retry, 900_000, Moment(0, 0), Moment(due, 1_000_000))

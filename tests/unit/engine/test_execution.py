from __future__ import annotations

import asyncio

import msgspec

from everbell.domain.errors import StoreUnavailable
from everbell.domain.job import Retry
from everbell.domain.run import Outcome
from everbell.engine.execution import OVERRUN_GRACE_S
from everbell.engine.housekeeping import Reporter
from everbell.ports.store import Finished
from everbell.testing.engine_bench import (
    Bench,
    FakeExecutor,
    FakeStore,
    make_job,
    make_run,
    passes,
    virtually,
)


def away():
    return StoreUnavailable("away")


def test_a_run_starts_and_its_end_is_stored():
    async def story():
        bench = Bench(FakeStore(make_job()), FakeExecutor())
        bench.execution.start([make_run()])
        await passes(5)
        return bench

    bench = virtually(story())
    assert [one.state for one in bench.store.finished] == ["succeeded"]
    assert not bench.execution.live


def test_a_store_that_is_away_when_a_run_starts_delays_it_and_stops_no_node():
    async def story():
        bench = Bench(FakeStore(make_job()), FakeExecutor())
        bench.store.fail = [away(), away(), away()]
        bench.execution.start([make_run()])
        await passes(30)
        return bench

    bench = virtually(story())
    assert bench.broken == []
    assert [one.state for one in bench.store.finished] == ["succeeded"]


def test_no_run_starts_after_the_lease_was_lost_while_its_job_was_read():
    async def story():
        bench = Bench(FakeStore(make_job()), FakeExecutor())
        bench.store.slow_s = 3.0
        bench.execution.start([make_run()])
        await passes(1)
        bench.execution.may_start = lambda: False
        await passes(20)
        return bench

    bench = virtually(story())
    assert bench.executor.started == []
    assert len(bench.execution) == 1, "it waits, for the lease or for the fence"


def test_a_new_claim_of_a_run_waits_for_the_end_of_the_old_attempt_here():
    async def story():
        bench = Bench(FakeStore(make_job()), FakeExecutor(lasts_s=2))
        bench.execution.start([make_run(token=1)])
        await passes(1)
        bench.execution.start([make_run(token=2, attempt=2)])
        await passes(10)
        return bench

    bench = virtually(story())
    assert [run.token for run in bench.executor.started] == [1, 2]


def test_the_same_claim_twice_starts_once():
    async def story():
        bench = Bench(FakeStore(make_job()), FakeExecutor(lasts_s=2), workers=1)
        bench.execution.start([make_run(), make_run()])
        await passes(1)
        bench.execution.start([make_run()])
        await passes(10)
        return bench

    assert len(virtually(story()).executor.started) == 1


def test_abandoning_before_the_first_step_frees_the_worker():
    async def story():
        bench = Bench(FakeStore(make_job()), FakeExecutor())
        bench.execution.start([make_run()])
        bench.execution.abandon()
        await passes(1)
        async with asyncio.timeout(1):
            await bench.execution.drained()
        return bench

    bench = virtually(story())
    assert not bench.execution.live
    assert bench.store.finished == []


def test_a_cancelled_run_is_not_retried():
    async def story():
        job = make_job(retry=Retry(max=5))
        bench = Bench(FakeStore(job), FakeExecutor(outcome=Outcome(state="failed")))
        bench.executor.run = _ends_failed_when_cancelled
        bench.execution.start([make_run()])
        await passes(0.5)
        bench.execution.cancel([make_run().key], "cancelled")
        await passes(5)
        return bench

    [finish] = virtually(story()).store.finished
    assert finish.state == "failed"
    assert finish.next_due_us is None


async def _ends_failed_when_cancelled(work, cancel, sink):
    await cancel.wait()
    return Outcome(state="failed")


def test_a_run_whose_cancel_was_asked_before_it_started_never_starts():
    async def story():
        bench = Bench(FakeStore(make_job()), FakeExecutor())
        bench.execution.start([make_run(cancel_requested=True)])
        await passes(5)
        return bench

    bench = virtually(story())
    assert bench.executor.started == []
    assert [one.state for one in bench.store.finished] == ["cancelled"]


def test_a_due_run_that_is_cancelled_while_it_waits_for_a_worker_ends_as_cancelled():
    async def story():
        bench = Bench(FakeStore(make_job()), FakeExecutor(lasts_s=60), workers=1)
        waiting = make_run(slot_us=make_run().key.slot_us + 1)
        bench.execution.start([make_run(), waiting])
        await passes(1)
        bench.execution.cancel([waiting.key], "cancelled")
        await passes(1)
        return bench

    bench = virtually(story())
    assert [(one.state, one.run.key) for one in bench.store.finished] == [
        ("cancelled", make_run(slot_us=make_run().key.slot_us + 1).key)
    ]


def test_output_is_stored_with_offsets_in_order():
    async def story():
        bench = Bench(FakeStore(make_job()), FakeExecutor())
        chunks = []

        async def keep(pieces):
            chunks.extend(pieces)

        bench.store.append_output = keep
        bench.executor.run = _writes
        bench.execution.start([make_run()])
        await passes(0.5)
        for live in bench.execution.live.values():
            bench.execution.flush_output(live)
        await passes(5)
        return chunks

    chunks = virtually(story())
    assert [(one.offset, one.stream, one.data) for one in chunks] == [
        (0, "out", b"one"),
        (3, "err", b"two"),
    ]


async def _writes(work, cancel, sink):
    sink.write("out", b"one")
    await passes(1)
    sink.write("err", b"two")
    return msgspec.structs.replace(Outcome(state="succeeded"), code=0)


def test_an_executor_that_outlives_its_timeout_by_far_is_abandoned():
    async def story():
        job = make_job()
        definition = msgspec.structs.replace(job.definition, timeout_s=2.0)
        job = msgspec.structs.replace(job, definition=definition)
        bench = Bench(FakeStore(job), FakeExecutor(lasts_s=1000))
        reporter = Reporter(bench.clock, bench._fail, FakeStore(job), bench.execution)
        bench.execution.start([make_run()])
        await passes(2 + OVERRUN_GRACE_S - 1)
        await reporter.step()
        assert bench.execution.live
        await passes(2)
        await reporter.step()
        await passes(2)
        return bench

    bench = virtually(story())
    assert [one.state for one in bench.store.finished] == ["timed_out"]
    assert not bench.execution.live
    assert bench.broken == []


def test_a_run_that_is_cancelled_while_the_end_of_its_attempt_is_stored_does_not_start_again():
    async def story(*, cancelled):
        job = make_job(retry=Retry(max=5))
        bench = Bench(FakeStore(job), FakeExecutor(outcome=Outcome(state="failed")))
        claim = make_run(token=2, attempt=2)

        async def slow_finish(finishes, now_us):
            bench.store.finished += finishes
            await passes(3)
            [end] = finishes
            again = msgspec.structs.replace(end.run, state=end.state)
            again = again if end.next_due_us is None else claim
            return [Finished(outcome="stored", run=again)]

        bench.store.finish = slow_finish
        bench.execution.again = lambda run: bench.execution.start([run])
        bench.execution.start([make_run()])
        await passes(2)
        if cancelled:
            bench.execution.cancel([make_run().key], "cancelled")
        bench.executor.outcome = Outcome(state="succeeded")
        await passes(20)
        return bench

    once = virtually(story(cancelled=True))
    assert [run.attempt for run in once.executor.started] == [1]
    assert [one.state for one in once.store.finished] == ["failed", "cancelled"]
    both = virtually(story(cancelled=False))
    assert [run.attempt for run in both.executor.started] == [1, 2]

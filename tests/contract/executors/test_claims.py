"""What waits on its way to a target is not handed over once the claim may be another node's."""

import asyncio
import time

import pytest

from everbell.config.schema import Callbacks, Queues, Settings
from everbell.domain.errors import StoreUnavailable
from everbell.domain.job import HttpAction, QueueAction
from everbell.executors.http import HttpExecutor
from everbell.executors.queue import QueueExecutor
from everbell.telemetry.clock import SystemClock
from everbell.testing.contracts.queue_offers import until
from everbell.testing.executor_contract import Claim, ListSink, assignment
from everbell.testing.queue_rigs import RedisRig


@pytest.fixture
async def callback(server):
    executor = HttpExecutor(Callbacks(), SystemClock(), "everbell/test")
    yield executor, HttpAction(url=server.url), lambda: len(server.seen)
    await executor.close()


@pytest.fixture
async def batch(callback):
    executor, action, told = callback
    return executor, HttpAction(url=action.url, batch=True), told


@pytest.fixture
async def message(redis_server):
    redis_server.flush()
    rig = RedisRig(redis_server, timeout=30.0)
    executor = QueueExecutor(
        Settings(queues=Queues(drivers=("x",))), SystemClock(), rig.parts().messages
    )
    yield (
        executor,
        QueueAction(driver="x"),
        lambda: int(redis_server.command("XLEN", "builds_x")[1:]),
    )
    await executor.close()
    await rig.close()


@pytest.fixture(params=["callback", "batch", "message"])
def way(request):
    return request.getfixturevalue(request.param)


def begin(executor, action, claim):
    work = assignment(action, holds=claim)
    return asyncio.ensure_future(executor.run(work, asyncio.Event(), ListSink()))


async def test_nothing_goes_out_until_the_claim_is_sure(way):
    executor, action, told = way
    claim = Claim()
    attempt = begin(executor, action, claim)
    await until(lambda: claim.asked > 3)
    assert told() == 0
    claim.sure = True
    assert (await attempt).state == "succeeded"
    assert told() == 1


async def test_what_ends_meanwhile_never_goes_out(way):
    executor, action, told = way
    claim = Claim()
    attempt = begin(executor, action, claim)
    await until(lambda: claim.asked > 1)
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    claim.sure = True
    assert (await begin(executor, action, claim)).state == "succeeded"
    assert told() == 1


async def test_an_unsure_claim_holds_up_no_other_message(message):
    executor, action, told = message
    unsure, sure = Claim(), Claim()
    sure.sure = True
    waiting = begin(executor, action, unsure)
    await until(lambda: unsure.asked > 1)
    assert (await begin(executor, action, sure)).state == "succeeded"
    assert told() == 1
    unsure.sure = True
    assert (await waiting).state == "succeeded"


async def test_a_claim_that_is_lost_while_a_connection_is_made_is_not_sent(server):
    claim = Claim()
    answers = iter([True])

    def holds():
        claim()
        return next(answers, claim.sure)

    executor = HttpExecutor(Callbacks(), SystemClock(), "everbell/test")
    attempt = begin(executor, HttpAction(url=server.url), holds)
    await until(lambda: claim.asked > 3)
    assert server.seen == []
    claim.sure = True
    assert (await attempt).state == "succeeded"
    assert len(server.seen) == 1
    await executor.close()


async def test_what_was_kept_back_says_so_and_is_no_failure_of_its_destination(server):
    executor = HttpExecutor(Callbacks(breaker_failures=1), SystemClock(), "everbell/test")
    for batch in (False, True):
        action = HttpAction(url=server.url, batch=batch)
        work = assignment(action, holds=Claim(), timeout_s=0.3)
        outcome = await executor.run(work, asyncio.Event(), ListSink())
        assert outcome.state == "timed_out"
        assert outcome.error.startswith("not sent within 0.3 s")
    assert server.seen == []
    assert [one.failures for one in executor.destinations()] in ([], [0])
    outcome = await executor.run(assignment(action), asyncio.Event(), ListSink())
    assert outcome.state == "succeeded"
    await executor.close()


async def test_who_was_kept_back_keeps_the_rate_afterwards(server):
    executor = HttpExecutor(Callbacks(rate=20, burst=1), SystemClock(), "everbell/test")
    claim = Claim()
    attempts = [begin(executor, HttpAction(url=server.url), claim) for _ in range(6)]
    await until(lambda: claim.asked > 12)
    claim.sure = True
    began = time.monotonic()
    assert {one.state for one in await asyncio.gather(*attempts)} == {"succeeded"}
    assert time.monotonic() - began > 5 / 20 * 0.9
    await executor.close()


async def test_a_claim_that_is_lost_while_the_queue_is_away_is_not_sent(redis_server):
    redis_server.flush()
    rig = RedisRig(redis_server, timeout=2.0)
    queues = rig.parts().messages
    executor = QueueExecutor(Settings(queues=Queues(drivers=("x",))), SystemClock(), queues)
    claim = Claim()
    claim.sure = True
    queues._link.lost(StoreUnavailable("away"))
    attempt = begin(executor, QueueAction(driver="x"), claim)
    await asyncio.sleep(0)
    claim.sure = False
    await until(lambda: claim.asked > 2)
    assert redis_server.command("XLEN", "builds_x") == ":0"
    claim.sure = True
    assert (await attempt).state == "succeeded"
    await executor.close()
    await rig.close()

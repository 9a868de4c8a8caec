"""What waits on its way to a target is not handed over once the claim may be another node's."""

import asyncio

import pytest

from everbell.config.schema import Callbacks, Queues, Settings
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
    yield executor, QueueAction(driver="x"), lambda: int(redis_server.command("DBSIZE")[1:])
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

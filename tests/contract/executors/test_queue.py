"""The queue action against a real Redis: the contract, and what is its own."""

import asyncio
import hashlib
import hmac
import json
from types import SimpleNamespace

import pytest

from everbell.config.schema import Callbacks, Crypto, Queues, Settings
from everbell.domain.errors import RefusedError, ValidationError
from everbell.domain.job import QueueAction
from everbell.executors.queue import QueueExecutor
from everbell.telemetry.clock import SystemClock
from everbell.testing.contracts.queue_offers import until
from everbell.testing.executor_contract import ExecutorContract, ListSink, assignment
from everbell.testing.queue_rigs import RedisRig

DRIVERS = ("good", "bad", "ready", "docker", "docker-arm64")


def settings(**queues):
    return Settings(queues=Queues(drivers=DRIVERS, **queues), crypto=Crypto(salt="pepper"))


class Pausing:
    """The executor, on a server that stops answering as soon as the driver ``ready`` is used."""

    def __init__(self, executor, server):
        self._executor, self._server = executor, server
        self.check, self.close = executor.check, executor.close

    async def run(self, work, cancel, sink):
        if work.action.driver != "ready":
            return await self._executor.run(work, cancel, sink)
        self._server.command("CLIENT", "PAUSE", 60_000, "WRITE")
        try:
            return await self._executor.run(work, cancel, sink)
        finally:
            self._server.command("CLIENT", "UNPAUSE")


@pytest.fixture
async def broker(redis_server):
    redis_server.flush()
    rig = RedisRig(redis_server, timeout=30.0)
    yield rig
    redis_server.command("CLIENT", "UNPAUSE")
    await rig.close()


async def stored(rig, driver):
    return [json.loads(body) for _, body in await rig.stored(f"builds_{driver}")]


async def run(executor, action, **more):
    return await executor.run(assignment(action, **more), asyncio.Event(), ListSink())


class TestQueue(ExecutorContract):
    @pytest.fixture
    async def rig(self, broker):
        broker.server.command("SET", "builds_bad", "no queue")
        executor = QueueExecutor(settings(), SystemClock(), broker.parts().messages)

        def told(sink):
            text = broker.server.command("XREVRANGE", "builds_good", "+", "-", "COUNT", 1)
            message = json.loads(next(line for line in text.split("\r\n") if line[:1] == "{"))
            return {key: str(message[key]) for key in ("id", "slot", "attempt", "token")}

        yield SimpleNamespace(
            executor=Pausing(executor, broker.server),
            good=QueueAction(driver="good"),
            bad=QueueAction(driver="bad"),
            hanging=QueueAction(driver="ready"),
            impossible=QueueAction(driver="dcoker"),
            told=told,
        )
        await executor.close()


async def test_the_message_is_what_the_reference_says(broker):
    executor = QueueExecutor(settings(), SystemClock(), broker.parts().messages)
    action = QueueAction(driver="docker")
    outcome = await run(executor, action, data={"a": [1, None]}, trigger="manual")
    assert outcome.state == "succeeded"
    [(name, body)] = await broker.stored("builds_docker")
    assert name == "17-1763712000000000"
    assert json.loads(body) == {
        "id": "17-1763712000000000",
        "job": {
            "id": 17,
            "uuid": "01939f7e-0000-7000-8000-000000000017",
            "name": "backup",
            "project": "ops",
        },
        "slot": "2025-11-21T08:00:00Z",
        "scheduled_at": "2025-11-21T08:00:00Z",
        "attempt": 2,
        "token": 42,
        "trigger": "manual",
        "data": {"a": [1, None]},
        "artifact": hmac.new(b"pepper", name.encode(), hashlib.sha256).hexdigest(),
    }
    await executor.close()


async def test_the_actions_data_replaces_the_jobs_and_no_salt_names_nothing(broker):
    executor = QueueExecutor(
        Settings(queues=Queues(drivers=DRIVERS)), SystemClock(), broker.parts().messages
    )
    await run(executor, QueueAction(driver="docker", data=0), data={"a": 1})
    [message] = await stored(broker, "docker")
    assert message["data"] == 0
    assert "artifact" not in message
    await executor.close()


async def test_a_list_and_a_key_of_ones_own(broker):
    kinds = settings(kind="list", key="q:{driver}:in")
    executor = QueueExecutor(kinds, SystemClock(), broker.parts().messages)
    await run(executor, QueueAction(driver="docker"))
    [(_, body)] = await broker.stored("q:docker:in")
    assert json.loads(body)["id"] == "17-1763712000000000"
    await executor.close()


async def test_a_full_queue_is_a_failure_that_can_be_retried(broker):
    executor = QueueExecutor(settings(max_length=2), SystemClock(), broker.parts().messages)
    action = QueueAction(driver="docker")
    outcomes = [await run(executor, action) for _ in range(3)]
    assert [one.state for one in outcomes] == ["succeeded", "succeeded", "failed"]
    assert outcomes[2].retryable
    assert "queues.max_length" in outcomes[2].error
    assert (await run(executor, QueueAction(driver="docker", max_length=0))).state == "succeeded"
    assert (await run(executor, QueueAction(driver="docker", max_length=1))).state == "failed"
    await executor.close()


async def test_an_unknown_driver_is_refused_with_those_that_there_are():
    executor = QueueExecutor(settings(), SystemClock(), None)
    with pytest.raises(ValidationError) as caught:
        executor.check(QueueAction(driver="dokcer"))
    [problem] = caught.value.problems
    assert problem.pointer == "/action/driver"
    assert "`queues.drivers`" in problem.message
    assert "did you mean docker" in problem.hint
    assert "`drivers`" in problem.hint
    with pytest.raises(ValidationError, match=r"queues\.drivers") as caught:
        QueueExecutor(Settings(), SystemClock(), None).check(QueueAction(driver="docker"))
    assert "known: none" in caught.value.hint


async def test_without_a_server_the_setting_is_named():
    executor = QueueExecutor(settings(), SystemClock(), None)
    executor.check(QueueAction(driver="docker"))
    with pytest.raises(RefusedError, match=r"redis\.addr"):
        await run(executor, QueueAction(driver="docker"))
    await executor.close()


async def test_a_message_that_is_too_large_is_not_sent(broker):
    small = Settings(queues=Queues(drivers=DRIVERS), callbacks=Callbacks(payload_max_mb=0.001))
    executor = QueueExecutor(small, SystemClock(), broker.parts().messages)
    with pytest.raises(RefusedError, match="bytes"):
        await run(executor, QueueAction(driver="docker"), data="x" * 2000)
    assert await stored(broker, "docker") == []
    await executor.close()


async def test_a_server_that_goes_away_is_a_failure_that_can_be_retried(broker):
    executor = QueueExecutor(settings(), SystemClock(), broker.parts(timeout=2.0).messages)
    assert (await run(executor, QueueAction(driver="docker"))).state == "succeeded"
    broker.server.kill()
    try:
        outcome = await run(executor, QueueAction(driver="docker"))
        assert outcome.state == "failed"
        assert outcome.retryable
        assert "redis.addr" in outcome.error
    finally:
        broker.server.start()

    async def again() -> bool:
        return (await run(executor, QueueAction(driver="docker"))).state == "succeeded"

    await until(again)
    await executor.close()


async def test_a_lost_answer_is_sent_again_under_the_same_id(broker):
    executor = QueueExecutor(settings(), SystemClock(), broker.parts(timeout=0.2).messages)
    await run(executor, QueueAction(driver="good"))
    broker.server.command("CLIENT", "PAUSE", 60_000, "WRITE")
    outcome = await run(executor, QueueAction(driver="docker"))
    assert outcome.state == "failed"
    assert "may have been stored" in outcome.error
    broker.server.command("CLIENT", "UNPAUSE")

    async def again() -> bool:
        outcome = await run(executor, QueueAction(driver="docker"), attempt=3)
        return outcome.state == "succeeded"

    await until(again)
    assert {one["id"] for one in await stored(broker, "docker")} == {"17-1763712000000000"}
    await executor.close()


async def test_runs_of_one_moment_share_their_way(broker):
    executor = QueueExecutor(settings(), SystemClock(), broker.parts().messages)
    broker.server.command("CONFIG", "RESETSTAT")
    outcomes = await asyncio.gather(
        *(run(executor, QueueAction(driver=("docker", "good")[n % 2])) for n in range(900))
    )
    assert {one.state for one in outcomes} == {"succeeded"}
    assert len(await stored(broker, "docker")) == 450
    assert "cmdstat_eval:calls=2," in broker.server.command("INFO", "commandstats")
    await executor.close()

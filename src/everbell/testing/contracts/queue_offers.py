"""Offers of queued runs: what every ready queue promises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from everbell.domain.run import RunKey
from everbell.ports.queue import Offer, ReadyQueue

SLOT_US = 1_763_712_000_000_000
ABANDONED_S = 0.2


def run_keys(count: int, first: int = 1) -> list[RunKey]:
    """Return keys, some of triggers."""
    return [
        RunKey(SLOT_US + number, number, f"m-{number}" if number % 3 == 0 else "")
        for number in range(first, first + count)
    ]


def flat(offers: Sequence[Offer]) -> list[RunKey]:
    """Return the keys of offers."""
    return [key for offer in offers for key in offer.keys]


class QueueRig(Protocol):
    """Several processes on one server."""

    async def process(self, abandoned_s: float = ...) -> ReadyQueue:
        """Return the queue as one more process has it; offers not done for so long it takes on."""
        ...

    async def lose(self) -> None:
        """Make the server go away."""
        ...

    async def mend(self) -> None:
        """Bring it back, with or without what it held."""
        ...


async def gather(queue: ReadyQueue, count: int, limit: int = 1000) -> list[RunKey]:
    """Take and finish until ``count`` keys came."""
    keys: list[RunKey] = []
    async with asyncio.timeout(30):
        while len(keys) < count:
            offers = await queue.take(limit, 0.5)
            keys += flat(offers)
            await queue.done(offers)
    return keys


async def until(condition: Callable[[], bool | Awaitable[bool]], within_s: float = 20.0) -> None:
    """Wait for a condition; TimeoutError if it does not come."""
    async with asyncio.timeout(within_s):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)  # noqa: TID251 - servers run in real time


class ReadyQueueContract:
    """One test per obligation in ``ports.queue.ReadyQueue``."""

    async def test_what_is_offered_is_taken_in_order(self, rig: QueueRig) -> None:
        scheduler, worker = await rig.process(), await rig.process()
        keys = run_keys(250)
        await scheduler.offer(keys)
        await scheduler.offer([])
        assert await gather(worker, 250) == keys
        assert await worker.take(10, 0.05) == []

    async def test_no_more_is_taken_than_there_is_room_for(self, rig: QueueRig) -> None:
        scheduler, worker = await rig.process(), await rig.process()
        await scheduler.offer(run_keys(350))
        seen: list[RunKey] = []
        async with asyncio.timeout(30):
            while len(seen) < 350:
                offers = await worker.take(30, 0.5)
                assert len(flat(offers)) <= 30
                assert all(offer.keys for offer in offers)
                seen += flat(offers)
                await worker.done(offers)
        assert sorted(seen) == run_keys(350)

    async def test_taking_for_nobody_takes_nothing(self, rig: QueueRig) -> None:
        queue = await rig.process()
        await queue.offer(run_keys(1))
        assert await queue.take(0, 0.05) == []
        assert await gather(queue, 1) == run_keys(1)

    async def test_a_taker_that_waits_is_woken(self, rig: QueueRig) -> None:
        scheduler, worker = await rig.process(), await rig.process()
        await worker.take(1, 0.02)
        waiting = asyncio.ensure_future(worker.take(10, 5.0))
        await asyncio.sleep(0.05)  # noqa: TID251
        assert not waiting.done()
        await scheduler.offer(run_keys(2))
        assert flat(await asyncio.wait_for(waiting, 4)) == run_keys(2)

    async def test_an_offer_goes_to_one_taker(self, rig: QueueRig) -> None:
        scheduler, workers = await rig.process(), [await rig.process() for _ in range(3)]
        for key in run_keys(60):
            await scheduler.offer([key])
        seen: list[RunKey] = []

        async def work(queue: ReadyQueue) -> None:
            while True:
                offers = await queue.take(4, 0.15)
                if not offers:
                    return
                seen.extend(flat(offers))
                await queue.done(offers)

        await asyncio.gather(*(work(queue) for queue in workers))
        assert sorted(seen) == run_keys(60)

    async def test_what_a_dead_process_took_goes_to_another(self, rig: QueueRig) -> None:
        scheduler, dying = await rig.process(), await rig.process()
        other = await rig.process(ABANDONED_S)
        keys = run_keys(150)
        await scheduler.offer(keys)
        taken: list[RunKey] = []
        async with asyncio.timeout(30):
            while len(taken) < 150:
                taken += flat(await dying.take(1000, 0.5))
        assert await gather(other, 150) == taken

    async def test_what_is_done_does_not_come_again(self, rig: QueueRig) -> None:
        scheduler, worker = await rig.process(), await rig.process()
        other = await rig.process(ABANDONED_S)
        await scheduler.offer(run_keys(5))
        assert await gather(worker, 5) == run_keys(5)
        await asyncio.sleep(ABANDONED_S * 2)  # noqa: TID251
        assert await other.take(10, 0.05) == []
        assert await worker.take(10, 0.05) == []

    async def test_finishing_twice_or_the_unknown_is_nothing(self, rig: QueueRig) -> None:
        queue = await rig.process()
        await queue.offer(run_keys(1))
        offers = await queue.take(1, 1.0)
        await queue.done(offers)
        await queue.done([*offers, Offer(id="1" if offers[0].id.isdigit() else "1-1", keys=())])
        await queue.done([])
        await queue.offer(run_keys(1, 9))
        assert await gather(queue, 1) == run_keys(1, 9)

    async def test_a_lost_server_is_said_and_found_again(self, rig: QueueRig) -> None:
        queue = await rig.process()
        assert queue.healthy
        assert queue.trouble == ""
        await queue.offer(run_keys(1))
        assert await gather(queue, 1) == run_keys(1)
        await rig.lose()
        for _ in range(3):
            await queue.offer(run_keys(1))
            assert await queue.take(1, 0.05) == []
            await queue.done([])
        await until(lambda: not queue.healthy)
        assert queue.trouble
        await rig.mend()
        await until(lambda: queue.healthy)
        assert queue.trouble == ""
        await queue.offer(run_keys(2, 50))
        seen: list[RunKey] = []
        async with asyncio.timeout(30):
            while not set(run_keys(2, 50)) <= set(seen):
                seen += flat(await queue.take(10, 0.2))

    async def test_closing_twice(self, rig: QueueRig) -> None:
        queue = await rig.process()
        await queue.offer(run_keys(1))
        await queue.close()
        await queue.close()

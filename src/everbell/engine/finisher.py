"""Group commit: ends of attempts and pieces of output that arrive together are stored together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from everbell.domain.run import RunKey
from everbell.engine.service import Service
from everbell.ports.clock import Clock
from everbell.ports.observer import RunObserver
from everbell.ports.store import Finish, Finished, OutputChunk, RunStore

BATCH_MAX = 1000
IDLE_S = 3600.0


class _Item(NamedTuple):
    finish: Finish
    done: Callable[[Finished], None]


class Finisher(Service):
    """Stores output first, then ends; keeps both until the store has acknowledged them."""

    name = "finisher"

    def __init__(
        self,
        clock: Clock,
        on_failure: Callable[[str, BaseException], None],
        store: RunStore,
    ) -> None:
        super().__init__(clock, on_failure)
        self._store = store
        self._ends: deque[_Item] = deque()
        self._chunks: list[OutputChunk] = []
        self._pending: dict[int, int] = {}
        # Ends and chunks taken, and stored, since the start; what ``flush`` waits for.
        self._taken = (0, 0)
        self._stored = (0, 0)
        self._waiters: deque[tuple[tuple[int, int], asyncio.Future[None]]] = deque()
        self.stored: Callable[[list[Finished]], None] = lambda _: None
        self.tally: Callable[[list[Finish]], None] = lambda _: None
        self.observer: RunObserver | None = None

    def finish(self, finish: Finish, done: Callable[[Finished], None]) -> None:
        """Take the end of an attempt; ``done`` is called when it is durable."""
        job_id = finish.run.key.job_id
        self._pending[job_id] = self._pending.get(job_id, 0) + 1
        self._ends.append(_Item(finish, done))
        self._taken = (self._taken[0] + 1, self._taken[1])
        self.wake()

    def output(self, chunks: list[OutputChunk]) -> None:
        """Take output."""
        self._chunks.extend(chunks)
        self._taken = (self._taken[0], self._taken[1] + len(chunks))
        self.wake()

    def holds_job(self, job_id: int) -> bool:
        """Return whether an end of one of the job's runs is not durable yet."""
        return job_id in self._pending

    def keys(self) -> set[RunKey]:
        """Return the runs whose end is not durable yet."""
        return {item.finish.run.key for item in self._ends}

    async def flush(self) -> None:
        """Wait until all that was taken so far is durable."""
        if self._stored != self._taken:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append((self._taken, waiter))
            await waiter

    async def step(self) -> float:
        """Store one batch."""
        if self._chunks:
            chunks = self._chunks[:]
            await self._store.append_output(chunks)
            del self._chunks[: len(chunks)]
            self._stored = (self._stored[0], self._stored[1] + len(chunks))
        batch = [self._ends[index] for index in range(min(len(self._ends), BATCH_MAX))]
        if batch:
            finishes = [item.finish for item in batch]
            answers = await self._store.finish(finishes, self.clock.now_us())
            self.tally(finishes)
            if self.observer is not None:
                self.observer.ended(finishes, answers)
            for item, answer in zip(batch, answers, strict=True):
                self._ends.popleft()
                self._release(item.finish.run.key.job_id)
                item.done(answer)
            self._stored = (self._stored[0] + len(batch), self._stored[1])
            self.stored(answers)
        self._tell()
        return 0.0 if self._ends or self._chunks else IDLE_S

    def _tell(self) -> None:
        ends, chunks = self._stored
        while self._waiters and self._waiters[0][0][0] <= ends and self._waiters[0][0][1] <= chunks:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _release(self, job_id: int) -> None:
        left = self._pending[job_id] - 1
        if left:
            self._pending[job_id] = left
        else:
            del self._pending[job_id]

"""A node's parts over small fakes, for unit tests of the engine."""

# ruff: noqa: ARG002  (the fakes take what their ports are given)

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, cast

from everbell.domain.job import US, Action, CommandAction, Definition, Job, Retry
from everbell.domain.records import Project
from everbell.domain.run import Outcome, Run, RunKey
from everbell.domain.settle import Defaults
from everbell.engine.catalog import Catalog
from everbell.engine.chains import followers
from everbell.engine.execution import Execution, Tools
from everbell.engine.finisher import Finisher
from everbell.ports.executor import Assignment, OutputSink
from everbell.ports.store import Finish, Finished, OutputChunk, Store
from everbell.testing.sim.loop import VirtualLoop
from everbell.testing.sim.world import SimClock, SimSink

BASE_US = 1_800_000_000 * US
DEFAULTS = Defaults(http_timeout_s=30, process_timeout_s=60, retry=Retry(), max_crashes=3)


def virtually(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in virtual time."""
    loop = VirtualLoop(1)
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


async def passes(seconds: float) -> None:
    """Let virtual time pass: no test waits in real time."""
    await SimClock(BASE_US).sleep(seconds)


def make_job(job_id: int = 1, **changes: Any) -> Job:
    values: dict[str, Any] = {
        "name": f"j{job_id}",
        "action": CommandAction(argv=("x",)),
        "schedule": "@every 10s",
        **changes,
    }
    return Job(
        id=job_id,
        uuid=f"uuid-{job_id}",
        project_id=1,
        definition=Definition(**values),
        version=1,
        enabled=True,
        created_us=BASE_US,
        updated_us=BASE_US,
        next_slot_us=BASE_US,
    )


def make_run(job_id: int = 1, slot_us: int = BASE_US, token: int = 1, **changes: Any) -> Run:
    values: dict[str, Any] = {"state": "claimed", "version": 1, "due_us": slot_us, **changes}
    return Run(key=RunKey(slot_us, job_id), project_id=1, token=token, **values)


class FakeStore:
    """Knows one project and a few jobs; remembers what was finished. ``fail`` raises once each."""

    sees_deaths = False
    unseen_s = 0.0

    def __init__(self, *jobs: Job) -> None:
        self.jobs = {job.id: job for job in jobs}
        self.finished: list[Finish] = []
        self.fail: list[Exception] = []
        self.handed: list[Run] = []
        self.slow_s = 0.0

    async def _maybe(self) -> None:
        if self.slow_s:
            await SimClock(BASE_US).sleep(self.slow_s)
        if self.fail:
            raise self.fail.pop(0)

    async def get_jobs(self, ids: Sequence[int]) -> list[Job]:
        await self._maybe()
        return [self.jobs[one] for one in ids if one in self.jobs]

    async def get_project(self, key: int) -> Project:
        await self._maybe()
        return Project(id=1, uuid="p", name="p", description="", created_us=0, updated_us=0)

    async def append_output(self, chunks: Sequence[OutputChunk]) -> None:
        await self._maybe()

    async def finish(self, finishes: Sequence[Finish], now_us: int) -> list[Finished]:
        await self._maybe()
        self.finished += finishes
        return [Finished(outcome="stored", run=one.run) for one in finishes]

    async def mark_running(self, runs: Sequence[tuple[Run, int]], now_us: int) -> list[str]:
        await self._maybe()
        return ["stored" for _ in runs]

    async def hand_back(self, runs: Sequence[Run], now_us: int) -> int:
        self.handed += runs
        return len(runs)


class FakeExecutor:
    """Ends after ``lasts_s``, or as soon as it is cancelled."""

    def __init__(self, lasts_s: float = 1.0, outcome: Outcome | None = None) -> None:
        self.lasts_s = lasts_s
        self.outcome = outcome or Outcome(state="succeeded")
        self.started: list[Run] = []

    async def run(self, work: Assignment, cancel: asyncio.Event, sink: OutputSink) -> Outcome:
        self.started.append(work.run)
        try:
            async with asyncio.timeout(self.lasts_s):
                await cancel.wait()
        except TimeoutError:
            return self.outcome
        return Outcome(state="cancelled")

    def check(self, action: Action) -> None:
        return

    async def close(self) -> None:
        return


class Bench:
    """An execution with its finisher over a fake store."""

    def __init__(self, store: FakeStore, executor: FakeExecutor, workers: int = 10) -> None:
        self.store, self.executor = store, executor
        self.clock = SimClock(BASE_US)
        self.broken: list[tuple[str, BaseException]] = []
        self.finisher = Finisher(self.clock, self._fail, cast("Store", store))
        self.catalog = Catalog(cast("Store", store))
        self.execution = Execution(
            self.clock,
            catalog=self.catalog,
            finisher=self.finisher,
            tools=Tools(
                dict.fromkeys(("http", "command", "script"), executor),
                SimSink,
                b"k",
                partial(followers, cast("Store", store)),
            ),
            defaults=DEFAULTS,
            workers=workers,
        )
        self.execution.broken = self._fail
        self.finisher.start()

    def _fail(self, name: str, error: BaseException) -> None:
        self.broken.append((name, error))

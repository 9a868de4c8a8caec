"""Whole nodes over one store in memory, on virtual time, with targets that follow a script."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from everbell.config.schema import Engine, NodeSettings, Role, Settings
from everbell.domain.job import CommandAction, Definition, HttpAction, Job
from everbell.domain.run import FINAL, Outcome, Run
from everbell.ports.executor import Assignment, OutputSink
from everbell.ports.store import RunFilter
from everbell.services import jobs, runs
from everbell.services.context import LOCAL, Services
from everbell.services.validate import Draft
from everbell.stores.memory import MemoryStore
from everbell.testing.engine_bench import BASE_US, passes
from everbell.testing.sim.cluster import SECRET, Cluster, Life
from everbell.testing.sim.loop import VirtualLoop
from everbell.testing.sim.world import SimClock, SimEntropy

WORK, CHECK = CommandAction(argv=("work",)), CommandAction(argv=("check",))
DONE, FAILED = Outcome(state="succeeded", code=0), Outcome(state="failed", code=1)


class Small:
    """A cluster; targets do what ``script`` says for (job, "check" or "work"), or succeed at once.

    A script is a list of (seconds, outcome); the last one is repeated. Nodes with ``roles`` are
    joined by a broker.
    """

    def __init__(
        self, loop: VirtualLoop, nodes: int = 1, roles: tuple[tuple[Role, ...], ...] = ()
    ) -> None:
        self.store = MemoryStore()
        settings = Settings(
            node=NodeSettings(name="sim", heartbeat=2.0, lease=6.0), engine=Engine(max_crashes=3)
        )
        self.cluster = Cluster(1, loop, self.store, settings=settings, base_us=BASE_US)
        if roles:
            self.cluster.split(roles)
        self.clock = SimClock(BASE_US)
        self.services = Services(
            store=self.store,
            clock=self.clock,
            entropy=SimEntropy("ids"),
            settings=settings,
            secret_key=SECRET,
            checks=dict.fromkeys(("http", "command"), lambda _: None),
            hints=self.cluster,
        )
        self.script: dict[tuple[str, str], list[tuple[float, Outcome]]] = {}
        self.calls: list[tuple[str, str, int]] = []
        self.begun: list[tuple[str, float]] = []
        self.at_work = self.most_at_work = 0
        for slot in range(len(roles) or nodes):
            self.boot(slot)

    def boot(self, slot: int = 0) -> Life:
        """Start a node in a place."""
        life = self.cluster.boot(slot)
        life.executor.run = self._perform  # type: ignore[assignment, method-assign]
        return life

    async def _perform(self, work: Assignment, cancel: asyncio.Event, _: OutputSink) -> Outcome:
        kind = "check" if work.action == CHECK or isinstance(work.action, HttpAction) else "work"
        planned = self.script.get((work.job_name, kind)) or [(0, DONE)]
        lasts, outcome = planned.pop(0) if len(planned) > 1 else planned[0]
        self.calls.append((work.job_name, kind, work.run.attempt))
        self.begun.append((work.job_name, self.clock.monotonic()))
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            async with asyncio.timeout(min(lasts, work.timeout_s)):
                await cancel.wait()
        except TimeoutError:
            late = lasts > work.timeout_s
            return Outcome(state="timed_out", error="too slow") if late else outcome
        finally:
            self.at_work -= 1
        return Outcome(state="cancelled")

    async def job(self, name: str, **given: Any) -> Job:
        """Store a job."""
        draft = Draft(definition=Definition(name=name, action=WORK, **given))
        return (await jobs.create(self.services, LOCAL, [draft]))[0]

    async def start(self, job: Job) -> Run:
        """Run a job by hand."""
        return await runs.trigger(self.services, job)

    async def rows(self, job: Job) -> list[Run]:
        """Return a job's runs, oldest first."""
        return (await self.store.list_runs(RunFilter(job_id=job.id), 1000))[::-1]

    async def ended(self, job: Job, count: int = 1, seconds: int = 60) -> list[Run]:
        """Wait until the job has so many runs, all with an end."""
        rows: list[Run] = []
        for _ in range(seconds * 10):
            rows = await self.rows(job)
            if len(rows) >= count and all(row.state in FINAL for row in rows):
                return rows
            await passes(0.1)
        message = f"{[(row.id, row.state, row.reason) for row in rows]}"
        raise AssertionError(message)

    async def output(self, run: Run) -> str:
        """Return the output of a run's last attempt."""
        chunks = await self.store.read_output(run.key, run.attempt, 0, 10_000)
        return b"".join(chunk.data for chunk in chunks).decode()


def story(
    tell: Callable[[Small], Awaitable[Any]],
    nodes: int = 1,
    roles: tuple[tuple[Role, ...], ...] = (),
) -> Any:
    """Tell a story to a small cluster in virtual time."""
    loop = VirtualLoop(1)

    async def whole() -> Any:
        small = Small(loop, nodes, roles)
        await passes(0.5)
        try:
            return await tell(small)
        finally:
            await small.cluster.reap()

    try:
        return loop.run_until_complete(whole())
    finally:
        loop.close()

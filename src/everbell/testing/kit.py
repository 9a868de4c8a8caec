"""Tests of programs with jobs: time stands still until it is told to pass.

::

    from everbell.testing.kit import freeze

    def test_the_report_runs_on_mondays():
        with freeze(app, "2026-03-01T00:00:00Z") as time:
            time.advance(days=8)
            assert time.ran("report") == ["2026-03-02T22:00:00Z"]

The engine, the planner and the executor are the real ones; clock, event loop and store are virtual,
so that a year takes seconds and the same test does the same every time. Async functions that wait
(``asyncio.sleep``) wait in virtual time; synchronous ones are called on the spot, and
``asyncio.to_thread`` too. There are no sockets: a job that opens one must be given a stand-in.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from everbell import __version__
from everbell.config.schema import Engine, Execution, NodeSettings, Settings
from everbell.domain.errors import UserError
from everbell.domain.job import US, PythonAction
from everbell.domain.run import Outcome, Run
from everbell.engine.heartbeat import Identity
from everbell.engine.node import NodeEngine, World
from everbell.executors.output import BoundedSink
from everbell.executors.python import PythonExecutor
from everbell.integrations.job import AppJob, read_result, read_text
from everbell.ports.executor import Assignment, OutputSink
from everbell.ports.functions import instant
from everbell.ports.store import RunFilter
from everbell.services import run_input, runs
from everbell.services.context import LOCAL, Services
from everbell.stores.memory import MemoryStore
from everbell.testing.sim.loop import VirtualLoop
from everbell.testing.sim.world import SimClock, SimEntropy, SimLoad

if TYPE_CHECKING:
    from everbell.integrations.app import Everbell

T = TypeVar("T")
When = datetime | str
JobLike = AppJob[..., Any] | str

SETTLE_PASSES = 200
"""Passes of the loop after each step of time: enough for a run that does not wait."""
NUDGE_S = 1e-5
"""Past each instant, so that what is due at it has started; too little to be seen."""
RARELY_S = 6 * 3600.0
PAGE = 1000

__all__ = ["Ran", "Time", "freeze"]


class Ran(msgspec.Struct, frozen=True):
    """A run of a job. ``slot`` is the planned instant, as ISO 8601 in UTC."""

    job: str
    slot: str
    state: str
    trigger: str
    attempt: int
    reason: str = ""
    error: str = ""
    result: Any = None
    output: str = ""


class Time:
    """Virtual time, and what the program's jobs did in it."""

    def __init__(self, app: Everbell, at: datetime) -> None:
        self._app = app
        self._loop = _Loop()
        self._base_us = round((at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
        self._at_us = self._base_us
        self._world = _world(app, SimClock(self._base_us))
        self._services = _services(self._world)
        self._node: NodeEngine | None = None

    # --- time ------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The instant at which time stands (UTC)."""
        return instant(self._at_us)

    def advance(self, **units: float) -> None:
        """Let time pass: ``advance(hours=3)``, with the words of ``timedelta``."""
        self.advance_to(self.now + timedelta(**units))

    def advance_to(self, at: When) -> None:
        """Let time pass up to an instant; what is due at it has started.

        Raises ValueError for the past.
        """
        target_us = self._us(at)
        self._drive(self._pass(target_us))

    def outage(self, **units: float) -> None:
        """Let time pass while no node is there, then start one again: see what is made up for."""
        target_us = self._us(self.now + timedelta(**units))

        async def away() -> None:
            await self._engine.stop(0)
            await self._pass(target_us)
            await self._begin()
            await _settle()

        self._drive(away())

    # --- jobs ------------------------------------------------------------------------------------

    def run_now(self, job: JobLike, **params: Any) -> Ran:
        """Run a job as if somebody asked for it, and return the run as it is when time passes."""
        found = self._app.jobs[_name(job)]

        async def asked() -> Run:
            handle = await found.run_now(**params)
            self._engine.firing.wake()
            await _settle()
            await self._engine.finisher.flush()
            return await handle.run()

        return self._read(found.name, self._drive(asked()))

    def runs(self, job: JobLike) -> list[Ran]:
        """Return all runs of a job in order of time: also those that were skipped or missed."""
        name = _name(job)
        if name not in self._app.jobs:
            known = ", ".join(sorted(self._app.jobs)) or "none"
            message = f"there is no job {name!r}"
            raise UserError(message, hint=f"there are: {known}")
        return [self._read(name, run) for run in self._drive(self._runs_of(name))]

    def ran(self, job: JobLike) -> list[str]:
        """Return the slots of runs in which the function was called and came to an end."""
        called = {"succeeded", "failed", "timed_out"}
        return [run.slot for run in self.runs(job) if run.state in called]

    def last(self, job: JobLike) -> Ran:
        """Return the newest run. AssertionError if there is none."""
        found = self.runs(job)
        assert found, f"{_name(job)} has no run up to {self.now.isoformat()}"
        return found[-1]

    def assert_ran(
        self, job: JobLike, *, times: int | None = None, at: list[When] | None = None
    ) -> None:
        """Raise AssertionError unless the job ran: so many times, or at just these slots."""
        slots = self.ran(job)
        told = f"{_name(job)} ran {len(slots)} times up to {self.now.isoformat()}: {slots}"
        if at is not None:
            assert slots == [_iso(self._us(one, past=True)) for one in at], told
        elif times is not None:
            assert len(slots) == times, told
        else:
            assert slots, self._why_not(job)

    def assert_not_ran(self, job: JobLike) -> None:
        """Raise AssertionError if the job ran."""
        slots = self.ran(job)
        assert not slots, f"{_name(job)} ran at {slots}"

    @property
    def services(self) -> Services:
        """The use cases: holds, changes of jobs, and so on; call them through ``perform``."""
        return self._services

    def perform(self, work: Coroutine[Any, Any, T]) -> T:
        """Perform a coroutine at this instant and let what follows from it happen."""

        async def then_settle() -> T:
            answer = await work
            await _settle()
            return answer

        return self._drive(then_settle())

    # --- inside ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Store the jobs and start the node."""
        self._drive(self._begin())

    def close(self) -> None:
        """Stop the node and forget everything."""

        async def end() -> None:
            if self._node is not None:
                await self._node.stop(0)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        try:
            self._drive(end())
        finally:
            self._app.forget()
            self._loop.close()

    @property
    def _engine(self) -> NodeEngine:
        assert self._node is not None
        return self._node

    async def _begin(self) -> None:
        await self._app.prepare(self._services)
        self._node = self._new_engine()
        await self._node.start()
        await _settle()

    def _new_engine(self) -> NodeEngine:
        identity = Identity(name="kit", host="kit", pid=1, version=__version__, workers=1000)
        engine = NodeEngine(_SETTINGS, self._world, identity)
        # Nobody else writes to this store: what looks for others may rest.
        quiet = (engine.reporter, engine.watcher, engine.placement, engine.retention, engine.holds)
        for service in quiet:
            service._period_s = RARELY_S  # noqa: SLF001
        return engine

    async def _pass(self, target_us: int) -> None:
        seconds = (target_us - self._base_us) / US + NUDGE_S - asyncio.get_running_loop().time()
        self._at_us = target_us
        await asyncio.get_running_loop().create_task(self._world.clock.sleep(seconds))
        await _settle()
        await self._engine.finisher.flush()
        if self._engine.failure:
            message = f"the engine failed: {self._engine.failure}"
            raise AssertionError(message)

    async def _runs_of(self, name: str) -> list[Run]:
        job = await self._app.jobs[name].stored()
        where, found = RunFilter(job_id=job.id), list[Run]()
        while page := await runs.list_all(
            self._services, LOCAL, where, PAGE, found[-1].key if found else None
        ):
            found += page
        return found[::-1]

    def _read(self, name: str, run: Run) -> Ran:
        async def read() -> tuple[Any, str]:
            return await read_result(self._services, run), await read_text(self._services, run)

        result, output = self._drive(read())
        return Ran(
            job=name,
            slot=_iso(run.key.slot_us),
            state=run.state,
            trigger=run.trigger,
            attempt=run.attempt,
            reason=run.reason,
            error=run.error,
            result=result,
            output=output,
        )

    def _why_not(self, job: JobLike) -> str:
        others = [(run.slot, run.state, run.reason) for run in self.runs(job)]
        stored = self._drive(self._app.jobs[_name(job)].stored())
        following = _iso(stored.next_slot_us) if stored.next_slot_us is not None else "never"
        return (
            f"{_name(job)} did not run up to {self.now.isoformat()}; its next slot is {following}, "
            f"its other runs are {others}"
        )

    def _us(self, at: When, *, past: bool = False) -> int:
        moment = _moment(at)
        found = round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
        if found < self._at_us and not past:
            message = f"{moment.isoformat()} is over: it is {self.now.isoformat()}"
            raise ValueError(message)
        return found

    def _drive(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the virtual loop; in a thread of its own where another loop runs in this one."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._loop.run_until_complete(work)
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self._loop.run_until_complete, work).result()


@contextlib.contextmanager
def freeze(app: Everbell, at: When = "2026-01-01T00:00:00Z") -> Iterator[Time]:
    """Start the program's jobs at an instant at which time stands still.

    Args:
        app: the program.
        at: a datetime, or ISO 8601; without a zone it is UTC.
    """
    time = Time(app, _moment(at))
    try:
        time.begin()
        yield time
    finally:
        time.close()


_SETTINGS = Settings(
    node=NodeSettings(heartbeat=RARELY_S, lease=40 * RARELY_S),
    engine=Engine(poll=RARELY_S, history_days=1e6, max_workers=1000),
    execution=Execution(shutdown_grace=1.0),
)


class _KeepOrder:
    """Stands for the chance of the simulation's loop: callbacks run in the order of asyncio."""

    def shuffle(self, batch: list[Any]) -> None:
        """Leave the order alone."""


class _Loop(VirtualLoop):
    """Virtual time, asyncio's own order, and no threads."""

    def __init__(self) -> None:
        super().__init__(0)
        self._chance: Any = _KeepOrder()

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Call the function on the spot: a thread would not know what time it is."""
        del executor
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  (handed to whoever waits, as a thread pool does)
            future.set_exception(error)
        return future


class _Inline(PythonExecutor):
    """The real executor, without threads and processes."""

    async def run(self, work: Assignment, cancel: asyncio.Event, sink: OutputSink) -> Outcome:
        """Perform one attempt on the loop."""
        if isinstance(work.action, PythonAction):
            here = msgspec.structs.replace(work.action, mode="inline")
            work = msgspec.structs.replace(work, action=here)
        return await super().run(work, cancel, sink)


def _world(app: Everbell, clock: SimClock) -> World:
    store = MemoryStore()
    return World(
        store=store,
        clock=clock,
        entropy=SimEntropy("kit"),
        load=SimLoad(),
        executors={"python": _Inline(_SETTINGS, app.functions, partial(run_input.read, store))},
        new_sink=lambda: BoundedSink(1_048_576),
        secret_key=b"the key of tests, not a secret..",
    )


def _services(world: World) -> Services:
    return Services(
        store=world.store,
        clock=world.clock,
        entropy=world.entropy,
        settings=_SETTINGS,
        secret_key=world.secret_key,
        checks={kind: executor.check for kind, executor in world.executors.items()},
    )


async def _settle() -> None:
    for _ in range(SETTLE_PASSES):
        await asyncio.sleep(0)  # noqa: TID251  (a pass of the virtual loop)


def _moment(at: When) -> datetime:
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _iso(at_us: int) -> str:
    return instant(at_us).isoformat().replace("+00:00", "Z")


def _name(job: JobLike) -> str:
    return job if isinstance(job, str) else job.name

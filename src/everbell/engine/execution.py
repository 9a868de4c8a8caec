"""Starts claimed runs on bounded workers and reports how they ended."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

import msgspec

from everbell.domain.errors import (
    Bug,
    RefusedError,
    StoreConflict,
    StoreUnavailable,
    UserError,
)
from everbell.domain.job import Job
from everbell.domain.records import Project
from everbell.domain.run import Outcome, Run, RunKey, State
from everbell.domain.secrets import derive_webhook_secret
from everbell.domain.settle import (
    CHECK_TIMEOUT_S,
    Defaults,
    Settlement,
    read_check,
    settle,
    timeout_of,
    wants_check,
)
from everbell.engine.catalog import Catalog
from everbell.engine.finisher import Finisher
from everbell.ports.clock import Clock
from everbell.ports.executor import Assignment, CaptureSink, Executor
from everbell.ports.observer import LOG_SUBJECT, RunObserver, Trace, Tracer
from everbell.ports.store import Finish, Finished, NewRun, OutputChunk

log = logging.getLogger(__name__)

OVERRUN_GRACE_S = 15.0
"""An executor that has not ended this long after its timeout is abandoned as failed."""
AHEAD_PART = 4
"""A run ahead for so many workers, which need not wait for the store between two runs."""
READ_PAUSE_S = 0.1
READ_PAUSE_MAX_S = 5.0


class Tools(NamedTuple):
    """What execution is given: adapters and secrets."""

    executors: Mapping[str, Executor]
    new_sink: Callable[[], CaptureSink]
    secret_key: bytes
    followers: Callable[[Run, Job, State, int], Awaitable[tuple[NewRun, ...]]]


class Live:
    """A run that is being executed on this node; ``started_us`` once its executor was called."""

    __slots__ = (
        "begun",
        "cancel",
        "deadline",
        "marked",
        "offset",
        "overrun",
        "reason",
        "run",
        "sink",
        "started_us",
        "task",
        "trace",
    )

    def __init__(self, run: Run, sink: CaptureSink) -> None:
        self.run = run
        self.sink = sink
        self.started_us: int | None = None
        self.cancel = asyncio.Event()
        self.deadline = math.inf
        self.overrun = False
        self.reason = ""
        self.begun = False
        self.marked = False
        self.offset = 0
        self.task: asyncio.Task[None] | None = None
        self.trace: Trace | None = None


class Execution:
    """Runs attempts; the number at once is bounded by ``workers``, the rest waits in order.

    ``again`` takes a run that the store has claimed for another attempt; ``followed`` is told when
    the end of a run has queued others.
    ``busy`` is told when something executes again.
    ``can_start`` False (stopping) or ``may_start`` (the lease) keeps everything waiting.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        catalog: Catalog,
        finisher: Finisher,
        tools: Tools,
        defaults: Defaults,
        workers: int,
    ) -> None:
        self._clock = clock
        self._catalog = catalog
        self._finisher = finisher
        self._tools = tools
        self._defaults = defaults
        self.workers = workers
        self._ready: OrderedDict[RunKey, Run] = OrderedDict()
        self.live: dict[RunKey, Live] = {}
        self._late: set[RunKey] = set()
        self.can_start = True
        self.may_start: Callable[[], bool] = lambda: True
        self.again: Callable[[Run], None] = lambda _: None
        self.followed: Callable[[], None] = lambda: None
        self.busy: Callable[[], None] = lambda: None
        self.broken: Callable[[str, BaseException], None] = lambda _name, _error: None
        self.observer: RunObserver | None = None
        self.tracer: Tracer | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """Return how many runs wait for a worker."""
        return len(self._ready)

    def spare(self) -> int:
        """Return how many more runs would start soon: workers that are free, and a few more."""
        return self.workers + self.workers // AHEAD_PART - len(self.live) - len(self._ready)

    def start(self, runs: Iterable[Run]) -> None:
        """Take due runs; they start at once while workers are free. Known claims are ignored."""
        for run in runs:
            live = self.live.get(run.key)
            waiting = self._ready.get(run.key)
            known = max(live.run.token if live else 0, waiting.token if waiting else 0)
            if run.token > known:
                self._ready[run.key] = run
        self.pump()

    def pump(self) -> None:
        """Start waiting runs while workers are free and the lease holds."""
        if not self._ready or not self.can_start or not self.may_start():
            return
        loop = asyncio.get_running_loop()
        behind: list[Run] = []
        while self._ready and len(self.live) < self.workers:
            _, run = self._ready.popitem(last=False)
            if run.key in self.live:
                # An older attempt of it still ends here.
                behind.append(run)
                continue
            live = Live(run, self._tools.new_sink())
            self.live[run.key] = live
            if self._idle.is_set():
                self._idle.clear()
                self.busy()
            live.task = loop.create_task(self._perform(live))
        for run in reversed(behind):
            self._ready[run.key] = run
            self._ready.move_to_end(run.key, last=False)

    def tokens(self) -> dict[RunKey, int]:
        """Return the claims that wait or run here."""
        known = {key: live.run.token for key, live in self.live.items()}
        known.update((key, run.token) for key, run in self._ready.items())
        return known

    def ready(self) -> list[Run]:
        """Return runs that wait for a worker."""
        return list(self._ready.values())

    def drop(self, keys: Iterable[RunKey]) -> list[Run]:
        """Forget waiting runs and return those that were here."""
        return [run for key in keys if (run := self._ready.pop(key, None)) is not None]

    def cancel(self, keys: Iterable[RunKey], reason: str) -> None:
        """Ask executing runs to end; those that wait for a worker end at once.

        An attempt whose end is on its way to the store may come back as a claim of the next one:
        that one ends too, instead of starting.
        """
        ending = self._finisher.keys()
        for key in keys:
            if key in ending:
                self._late.add(key)
            waiting = self._ready.pop(key, None)
            if waiting is not None:
                self._never_started(waiting, reason)
            live = self.live.get(key)
            if live is not None and not live.cancel.is_set():
                live.reason = reason
                live.cancel.set()

    def stop_overruns(self) -> None:
        """Abandon executors that have not ended long after their timeout.

        One look at all of them: a timer for each run costs more than a run's other bookkeeping.
        """
        now = self._clock.monotonic()
        for live in self.live.values():
            if now > live.deadline and not live.overrun and live.task is not None:
                live.overrun = True
                live.task.cancel()

    async def drained(self) -> None:
        """Wait until nothing executes."""
        await self._idle.wait()

    def abandon(self) -> None:
        """Kill all that executes and report nothing: the store has given it to others."""
        self._ready.clear()
        for live in list(self.live.values()):
            live.reason = "fenced"
            if live.task is not None:
                live.task.cancel()
            if not live.begun:
                # A task cancelled before its first step runs no ``finally``.
                self._ended(live)

    async def _perform(self, live: Live) -> None:
        live.begun = True
        LOG_SUBJECT.set(live.run)
        try:
            run = live.run
            known = self._catalog.known(run.key.job_id, run.version, run.project_id)
            await self._perform_known(live, *(known or await self._read(run)))
        except asyncio.CancelledError:
            if live.reason != "fenced":
                raise
        except Exception as error:  # noqa: BLE001  (executor boundary: a bug stops the node)
            self.broken("execution", error)
        finally:
            self._ended(live)
            self.pump()

    async def _perform_known(self, live: Live, job: Job | None, project: Project | None) -> None:
        if live.run.cancel_requested and not live.cancel.is_set():
            live.reason = "cancelled"
            live.cancel.set()
        if job is None or project is None:
            outcome = Outcome(state="cancelled", reason="job_deleted")
        elif live.cancel.is_set():
            outcome = Outcome(state="cancelled")
        elif not self.may_start():
            # The lease went while the job was read: wait for its renewal, or for the fence.
            self._ready[live.run.key] = live.run
            return
        else:
            outcome = await self._attempt(live, job, project)
        if live.reason != "fenced":
            await self._report(live, outcome, job)

    def _end_trace(self, live: Live, state: str, error: str = "") -> None:
        if live.trace is not None:
            live.trace.end(state, error, self._clock.now_us())
            live.trace = None

    def _ended(self, live: Live) -> None:
        self._end_trace(live, live.reason or "cancelled")
        if self.live.get(live.run.key) is live:
            del self.live[live.run.key]
        if not self.live:
            self._idle.set()

    async def _read(self, run: Run) -> tuple[Job | None, Project | None]:
        """Return the run's job and project; a store that is away delays a run, never fails it."""
        pause = READ_PAUSE_S
        while True:
            try:
                job = await self._job(run)
                return job, await self._catalog.project(run.project_id)
            except (StoreUnavailable, StoreConflict) as error:
                log.warning("run %s waits for the store: %s", run.id, error)
                await self._clock.sleep(pause)
                pause = min(pause * 2, READ_PAUSE_MAX_S)

    async def _job(self, run: Run) -> Job | None:
        job_id = run.key.job_id
        entry = self._catalog.get(job_id, run.version)
        if entry is None:
            await self._catalog.load([(job_id, run.version)])
            entry = self._catalog.latest(job_id)
        return entry.job if entry is not None else None

    async def _followers(self, run: Run, job: Job, state: State, now_us: int) -> tuple[NewRun, ...]:
        """Return the runs that follow; a store that is away delays the end, never loses them."""
        pause = READ_PAUSE_S
        while True:
            try:
                return await self._tools.followers(run, job, state, now_us)
            except (StoreUnavailable, StoreConflict) as error:
                log.warning("the end of run %s waits for the store: %s", run.id, error)
                await self._clock.sleep(pause)
                pause = min(pause * 2, READ_PAUSE_MAX_S)

    def _never_started(self, run: Run, reason: str) -> None:
        now = self._clock.now_us()
        finish = Finish(run=run, state="cancelled", started_us=None, finished_us=now, reason=reason)
        self._finisher.finish(finish, partial(self._finished, finish))

    async def _attempt(self, live: Live, job: Job, project: Project) -> Outcome:
        definition = job.definition
        work = Assignment(
            run=live.run,
            job_uuid=job.uuid,
            job_name=job.name,
            project_uuid=project.uuid,
            project_name=project.name,
            action=definition.action,
            data=definition.data,
            timeout_s=timeout_of(definition, self._defaults),
            webhook_secret=derive_webhook_secret(self._tools.secret_key, project.uuid),
            holds=partial(self._holds, live),
        )
        live.started_us = self._clock.now_us()
        if self.tracer is not None:
            live.trace = self.tracer.begin(live.run, job, project, live.started_us)
            work = msgspec.structs.replace(work, traceparent=live.trace.traceparent)
        if definition.check is not None and wants_check(definition, live.run):
            timeout_s = min(work.timeout_s, CHECK_TIMEOUT_S)
            check = msgspec.structs.replace(work, action=definition.check, timeout_s=timeout_s)
            checked = await self._call(live, check)
            found = read_check(definition.check, checked)
            if not await self._may_go_on(live):
                return Outcome(state="cancelled")
            if found == "nothing":
                reason = checked.reason or "nothing_to_do"  # a function may say why
                return Outcome(state="skipped", reason=reason, code=checked.code)
            if found == "unsure":
                said = checked.error or f"it answered {checked.code}"
                live.sink.write("err", f"the check failed, so the job runs: {said}\n".encode())
        return await self._call(live, work)

    def _holds(self, live: Live) -> bool:
        return live.reason != "fenced" and self.may_start()

    async def _may_go_on(self, live: Live) -> bool:
        """Wait, after the check, until the lease holds: another node may have the run by now."""
        while not self.may_start() and not live.cancel.is_set():
            await self._clock.sleep(READ_PAUSE_S)
        return not live.cancel.is_set()

    async def _call(self, live: Live, work: Assignment) -> Outcome:
        """Have an executor perform an action; whatever happens, there is an outcome."""
        timeout_s = work.timeout_s
        tag = work.action.__struct_config__.tag
        executor = self._tools.executors.get(str(tag))
        if executor is None:
            return Outcome(
                state="failed", error=f"this node has no executor for {tag!r}", retryable=False
            )
        late = Outcome(state="timed_out", error=f"did not end after {timeout_s:g} s")
        live.deadline = self._clock.monotonic() + timeout_s + OVERRUN_GRACE_S
        try:
            outcome = await executor.run(work, live.cancel, live.sink)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not live.overrun or task is None or task.uncancel():
                raise
            return late
        except TimeoutError:
            return late
        except (RefusedError, UserError) as error:
            return Outcome(state="failed", error=error.message, reason="refused", retryable=False)
        except Bug:
            raise
        except Exception as error:  # executor boundary
            log.exception("executor %s raised", tag)
            return Outcome(state="failed", error=f"executor failed: {error!r}")
        finally:
            live.deadline = math.inf
        if self.observer is not None:
            self.observer.called(work.action, outcome)
        return outcome

    async def _report(self, live: Live, outcome: Outcome, job: Job | None) -> None:
        now = self._clock.now_us()
        settlement = Settlement(state=outcome.state)
        if job is not None:
            settlement = settle(live.run, outcome, job.definition, self._defaults, now)
        if live.reason == "node_stopped" and outcome.state == "cancelled":
            settlement = _interrupted(job, now)
        elif live.cancel.is_set():
            # What is to end is not tried again, however the target took it.
            settlement = msgspec.structs.replace(settlement, next_due_us=None)
        then: tuple[NewRun, ...] = ()
        began = live.started_us is not None
        if settlement.next_due_us is None and began and job is not None and job.definition.then:
            then = await self._followers(live.run, job, settlement.state, now)
            if live.reason == "fenced":
                return
        self._end_trace(live, settlement.state, outcome.error)
        self.flush_output(live, last=True)
        finish = Finish(
            run=live.run,
            state=settlement.state,
            started_us=live.started_us,
            finished_us=now,
            code=outcome.code,
            error=outcome.error,
            reason=live.reason or outcome.reason,
            output_bytes=live.sink.total_bytes,
            truncated=live.sink.truncated,
            next_due_us=settlement.next_due_us,
            failures=settlement.failures,
            park_after=settlement.park_after,
            then=then,
        )
        self._finisher.finish(finish, partial(self._finished, finish))

    def _finished(self, finish: Finish, answer: Finished) -> None:
        if finish.then:
            self.followed()
        late = finish.run.key in self._late
        self._late.discard(finish.run.key)
        run = answer.run
        if answer.outcome == "stored" and run is not None:
            if run.state == "claimed":
                self.again(msgspec.structs.replace(run, cancel_requested=True) if late else run)
        else:
            log.warning("a late result was refused: the run has gone on without this node")

    def flush_output(self, live: Live, *, last: bool = False) -> None:
        """Hand new output to the finisher."""
        if not live.sink.total_bytes:
            return
        pieces = live.sink.drain()
        if last:
            pieces += live.sink.finish()
        if not pieces:
            return
        now = self._clock.now_us()
        chunks: list[OutputChunk] = []
        for stream, data in pieces:
            chunks.append(
                OutputChunk(
                    key=live.run.key,
                    attempt=live.run.attempt,
                    offset=live.offset,
                    stream=stream,
                    at_us=now,
                    data=data,
                )
            )
            live.offset += len(data)
        self._finisher.output(chunks)


def _interrupted(job: Job | None, now_us: int) -> Settlement:
    """A run cut short because its node stops goes on elsewhere, if it may run twice."""
    if job is not None and job.definition.delivery == "at_least_once":
        return Settlement(state="cancelled", next_due_us=now_us)
    return Settlement(state="cancelled")

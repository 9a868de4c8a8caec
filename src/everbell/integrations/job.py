"""A function that is a job, and the runs that a program asked for."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, ParamSpec, TypeVar

import msgspec

from everbell.domain.errors import ConflictError
from everbell.domain.job import Job
from everbell.domain.run import FINAL, Run, RunKey
from everbell.integrations.host import Host
from everbell.ports.store import RunFilter
from everbell.services import jobs, run_input, runs
from everbell.services.context import Services
from everbell.services.ids import short_id
from everbell.services.validate import Draft

P = ParamSpec("P")
R = TypeVar("R")

POLL_S = 0.05
_CHUNK = 262_144


class AppJob(Generic[P, R]):
    """A function that Everbell calls. Calling it here is an ordinary call, without a run."""

    def __init__(self, app: Host, function: Callable[P, R], draft: Draft) -> None:
        self.app = app
        self.function = function
        self.draft = draft
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.function(*args, **kwargs)

    @property
    def name(self) -> str:
        """The job's name."""
        return self.draft.definition.name

    @property
    def schedule(self) -> str | None:
        """The schedule in the code; people may have overridden it in the store."""
        return self.draft.definition.schedule

    def __repr__(self) -> str:
        """Return name and schedule."""
        return f"AppJob({self.name!r}, {self.schedule!r})"

    async def stored(self) -> Job:
        """Return the job as it is in the store. Raises NotFoundError."""
        services = self.app.services
        return await jobs.find(services, self.app.actor, self.name, self.draft.project)

    async def run_now(self, **params: Any) -> RunHandle:
        """Ask for a run, on any node; ``params`` come before the job's own keyword arguments."""
        services = self.app.services
        job = await self.stored()
        now_us = services.clock.now_us()
        key = RunKey(now_us, job.id, short_id(services.entropy))
        if params:
            await run_input.keep(services.store, key, params, now_us)
        await runs.trigger(services, job, key, actor=self.app.actor)
        return RunHandle(self.app, key)

    def run_now_sync(self, **params: Any) -> RunHandle:
        """Ask for a run from a thread other than the loop's; see ``Everbell.start_background``."""
        return self.app.call(self.run_now(**params))

    async def runs(self, limit: int = 50) -> list[Run]:
        """Return the job's runs, newest slot first."""
        job = await self.stored()
        where = RunFilter(job_id=job.id)
        return await runs.list_all(self.app.services, self.app.actor, where, limit)


class RunHandle:
    """A run, by its id; everything else is read from the store."""

    def __init__(self, app: Host, key: RunKey) -> None:
        self._app = app
        self.key = key

    @property
    def id(self) -> str:
        """The run's public id."""
        return self.key.id

    def __repr__(self) -> str:
        """Return the id."""
        return f"RunHandle({self.id!r})"

    async def run(self) -> Run:
        """Return the run as it is now."""
        return await self._app.services.store.get_run(self.key)

    async def wait(self, timeout: float | None = None) -> Run:
        """Wait until the run has ended. Raises TimeoutError after ``timeout`` seconds."""
        services = self._app.services
        async with asyncio.timeout(timeout):
            while (run := await self.run()).state not in FINAL:
                await services.clock.sleep(POLL_S)
        return run

    async def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return what the function returned, as JSON values.

        None if it returned none, or one that was not kept. Raises ConflictError if the run did not
        succeed, TimeoutError.
        """
        run = await self.wait(timeout)
        if run.state != "succeeded":
            raise ConflictError(f"run {run.id} {run.state}: {run.error or run.reason}")
        return await read_result(self._app.services, run)

    async def output(self) -> str:
        """Return what the run printed and logged so far (of the latest attempt)."""
        return await read_text(self._app.services, await self.run())

    async def cancel(self) -> Run:
        """Ask for the end of the run. Raises ConflictError if it has ended."""
        return await runs.cancel(self._app.services, self._app.actor, self.id)

    def wait_sync(self, timeout: float | None = None) -> Run:
        """Like ``wait``, from a thread other than the loop's."""
        return self._app.call(self.wait(timeout))

    def result_sync(self, timeout: float | None = None) -> Any:
        """Like ``result``, from a thread other than the loop's."""
        return self._app.call(self.result(timeout))


async def read_result(services: Services, run: Run) -> Any:
    """Return what a run's function returned; None if nothing was kept."""
    data = b"".join([data async for stream, data in _pieces(services, run) if stream == "result"])
    return msgspec.json.decode(data) if data else None


async def read_text(services: Services, run: Run) -> str:
    """Return what a run printed and logged."""
    pieces = [data async for stream, data in _pieces(services, run) if stream in {"out", "err"}]
    return b"".join(pieces).decode("utf-8", "replace")


async def _pieces(services: Services, run: Run) -> AsyncIterator[tuple[str, bytes]]:
    offset = 0
    while chunks := await services.store.read_output(run.key, run.attempt, offset, _CHUNK):
        for chunk in chunks:
            yield chunk.stream, chunk.data
        offset = chunks[-1].offset + len(chunks[-1].data)

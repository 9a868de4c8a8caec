"""The parameters of a run that somebody asked for, read from the store before the call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from everbell.domain.errors import StoreConflict, StoreUnavailable
from everbell.domain.run import Outcome, Run
from everbell.executors.claim import NO_LEASE, NOT_STARTED
from everbell.ports.executor import UNSURE_S, Assignment

log = logging.getLogger(__name__)

Inputs = Callable[[Run], Awaitable[dict[str, Any]]]
"""Reads the parameters that whoever asked for a run gave to it."""


async def read(inputs: Inputs, work: Assignment, cancel: asyncio.Event) -> dict[str, Any] | Outcome:
    """Return the parameters once the claim holds, or how the attempt ended before.

    A store that is away delays a run and fails none.
    """
    stop = asyncio.ensure_future(cancel.wait())
    reading = _Reading(inputs, work)
    task = asyncio.ensure_future(reading.go(stop))
    try:
        await asyncio.wait({task, stop}, timeout=work.timeout_s, return_when="FIRST_COMPLETED")
        if cancel.is_set():
            return Outcome(state="cancelled", error=NOT_STARTED)
        if task.done():
            return task.result()
        late = f"not begun within {work.timeout_s:g} s: {reading.waits_for}"
        return Outcome(state="timed_out", error=late)
    finally:
        stop.cancel()
        task.cancel()


class _Reading:
    def __init__(self, inputs: Inputs, work: Assignment) -> None:
        self._inputs = inputs
        self._work = work
        self.waits_for = "the store does not hand over the run's parameters"

    async def go(self, stop: asyncio.Future[Any]) -> dict[str, Any]:
        found = await self._found(stop)
        while not self._work.holds():
            self.waits_for = NO_LEASE
            await asyncio.wait({stop}, timeout=UNSURE_S)
        return found

    async def _found(self, stop: asyncio.Future[Any]) -> dict[str, Any]:
        run, told = self._work.run, False
        while True:
            try:
                return await self._inputs(run)
            except (StoreUnavailable, StoreConflict) as error:
                if not told:
                    log.warning("the parameters of run %s wait for the store: %s", run.id, error)
                told = True
                self.waits_for = f"the run's parameters can't be read: {error}"
            await asyncio.wait({stop}, timeout=UNSURE_S)

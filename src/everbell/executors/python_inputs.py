"""The parameters of a run that somebody asked for, read from the store before the call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from everbell.domain.errors import StoreError
from everbell.domain.run import Outcome, Run
from everbell.ports.executor import UNSURE_S, Assignment

log = logging.getLogger(__name__)

Inputs = Callable[[Run], Awaitable[dict[str, Any]]]
"""Reads the parameters that whoever asked for a run gave to it."""


async def read(inputs: Inputs, work: Assignment, cancel: asyncio.Event) -> dict[str, Any] | Outcome:
    """Return the parameters once the claim holds, or how the attempt ended before.

    A store that is away delays a run and fails none.
    """
    loop = asyncio.get_running_loop()
    end, told = loop.time() + work.timeout_s, ""
    while True:
        try:
            found = await inputs(work.run)
            if work.holds():
                return found
        except StoreError as error:
            if not told:
                log.warning("the parameters of run %s wait for the store: %s", work.run.id, error)
            told = f": {error}"
        if cancel.is_set():
            return Outcome(state="cancelled", error="cancelled before it was started")
        if loop.time() >= end:
            late = f"the run's parameters did not come within {work.timeout_s:g} s{told}"
            return Outcome(state="timed_out", error=late)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UNSURE_S):
                await cancel.wait()

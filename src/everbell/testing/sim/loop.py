"""An asyncio loop on virtual time: it never waits, and its order is drawn from a seed."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections.abc import Callable, Coroutine
from typing import Any, Literal, cast

OWNER: contextvars.ContextVar[Any] = contextvars.ContextVar("everbell_sim_owner", default=None)
"""The simulated process that a callback belongs to; tasks and timers inherit it."""

Verdict = Literal["run", "defer", "drop"]


class StuckError(RuntimeError):
    """Nothing is ready and no timer is set: the simulation would wait for ever."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer when nothing is ready.

    Callbacks that are ready together run in shuffled order. ``gate`` is asked before each:
    those of a paused process are kept for later, those of a crashed one never run.
    """

    # What asyncio keeps: ready callbacks, and timers in a heap.
    _ready: Any
    _scheduled: Any

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._now = 0.0
        self._chance = random.Random(f"{seed}/loop")
        self.gate: Callable[[Any], Verdict] = lambda _owner: "run"
        self.deferred: dict[Any, list[asyncio.Handle]] = {}
        self.owned: dict[Any, set[asyncio.Task[Any]]] = {}
        self.steps = 0
        self.set_task_factory(cast("Any", self._own))

    def time(self) -> float:
        """Return virtual seconds since the start."""
        return self._now

    def resume(self, owner: Any) -> None:
        """Let the kept callbacks of a paused process run."""
        self._ready.extend(self.deferred.pop(owner, []))

    def _own(
        self, _loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **kwargs: Any
    ) -> asyncio.Task[Any]:
        # Held strongly: a crashed process's tasks must not be finalized while others live.
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **kwargs)
        context = kwargs.get("context")
        owner = context.get(OWNER) if context is not None else OWNER.get()
        kept = self.owned.setdefault(owner, set())
        kept.add(task)
        task.add_done_callback(kept.discard)
        return task

    def _run_once(self) -> None:
        """Replace asyncio's pass: no selector, no real clock."""
        timers = self._scheduled
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        if not self._ready:
            if not timers:
                message = "nothing is left to do, yet somebody waits"
                raise StuckError(message)
            self._now = max(self._now, timers[0]._when)
        while timers and timers[0]._when <= self._now:
            handle = heapq.heappop(timers)
            handle._scheduled = False
            self._ready.append(handle)
        batch = list(self._ready)
        self._ready.clear()
        if len(batch) > 1:
            self._chance.shuffle(batch)
        for handle in batch:
            if not handle._cancelled:
                self._step(handle)

    def _step(self, handle: Any) -> None:
        owner = handle._context.get(OWNER)
        verdict = self.gate(owner)
        if verdict == "run":
            self.steps += 1
            handle._run()
        elif verdict == "defer":
            self.deferred.setdefault(owner, []).append(handle)

"""The gate before each destination: its circuit breaker and its rate budget."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from itertools import islice

from yarl import URL

from everbell.config.schema import Callbacks
from everbell.domain.run import Outcome
from everbell.executors.breaker import Breaker, Permit, Refusal
from everbell.executors.budget import Budget
from everbell.executors.http_words import where
from everbell.ports.clock import Clock
from everbell.ports.destinations import DestinationState

log = logging.getLogger(__name__)

MAX_DESTINATIONS = 10_000
"""Destinations remembered; the one not called for longest is forgotten first."""


class _Place:
    __slots__ = ("breaker", "budget", "name", "server")

    def __init__(self, name: str, breaker: Breaker | None, budget: Budget | None) -> None:
        self.name = name
        self.breaker = breaker
        self.budget = budget
        self.server: asyncio.Task[None] | None = None


class Entry:
    """One request that was let through; the gate is told once how the destination took it."""

    __slots__ = ("_gate", "_permit", "_place")

    def __init__(self, gate: Gate, place: _Place, permit: Permit | None) -> None:
        self._gate = gate
        self._place = place
        self._permit = permit

    def answered(self, status: int) -> None:
        """Take note of an answer; 5xx is a failure of the destination, all else is not."""
        self._tell("failed" if status >= 500 else "succeeded")

    def failed(self) -> None:
        """Take note that no answer came."""
        self._tell("failed")

    def dropped(self) -> None:
        """Take note that the request was given up on our side."""
        self._tell("dropped")

    def _tell(self, verdict: str) -> None:
        if self._permit is not None:
            self._gate.judge(self._place, self._permit, verdict)
            self._permit = None


class Gate:
    """Keeps watch over destinations (scheme, host, port). Implements ``DestinationMeter``."""

    def __init__(self, callbacks: Callbacks, clock: Clock) -> None:
        self._callbacks = callbacks
        self._clock = clock
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self.active = callbacks.breaker_failures > 0 or callbacks.rate > 0

    async def enter(self, target: URL, patience_s: float) -> Entry | Outcome:
        """Wait for the destination's budget; return the leave to send, or why there is none."""
        place = self._place(target)
        if place.breaker is not None:
            refused = place.breaker.refusal(self._clock.monotonic())
            if refused is not None:
                return self._left_alone(target, refused)
        if place.budget is not None and not place.budget.take(self._clock.monotonic()):
            wait_s = place.budget.wait_s(self._clock.monotonic())
            if wait_s > patience_s:
                return self._no_room(target, wait_s, patience_s)
            await self._stand(place, place.budget)
        if place.breaker is None:
            return Entry(self, place, None)
        before = place.breaker.state
        answer = place.breaker.ask(self._clock.monotonic())
        if isinstance(answer, Refusal):
            return self._left_alone(target, answer)
        if place.breaker.state != before:
            log.info("callbacks to %s: one request tries whether it answers again", place.name)
        return Entry(self, place, answer)

    def judge(self, place: _Place, permit: Permit, verdict: str) -> None:
        """Tell the destination's breaker how a request ended; log what changes by it."""
        breaker = place.breaker
        if breaker is None:
            return
        before = breaker.state
        if verdict == "succeeded":
            breaker.succeeded(permit)
        elif verdict == "failed":
            breaker.failed(permit, self._clock.monotonic())
        else:
            breaker.dropped(permit)
        if breaker.state == before:
            return
        if breaker.state == "open":
            open_s = self._callbacks.breaker_open
            text = "callbacks to %s stop for %g s: %d requests in a row failed"
            log.warning(text, place.name, open_s, breaker.row)
        else:
            log.info("callbacks to %s go on: it answers again", place.name)

    def destinations(self) -> list[DestinationState]:
        """Return the state of every known destination, the last used first."""
        return [
            DestinationState(
                destination=place.name,
                breaker=place.breaker.state if place.breaker is not None else "closed",
                failures=place.breaker.row if place.breaker is not None else 0,
                waiting=len(place.budget) if place.budget is not None else 0,
            )
            for place in reversed(self._places.values())
        ]

    async def close(self) -> None:
        """Stop serving lines. May be called twice."""
        servers = [place.server for place in self._places.values() if place.server is not None]
        for server in servers:
            server.cancel()
        if servers:
            await asyncio.wait(servers)

    def _left_alone(self, target: URL, refused: Refusal) -> Outcome:
        error = f"not sent: {where(target)} failed too often and is left alone"
        error += f" for {max(refused.wait_s, 0.1):.1f} s more (setting callbacks.breaker_failures)"
        return Outcome(state="failed", error=error, retry_after_s=refused.wait_s)

    def _no_room(self, target: URL, wait_s: float, patience_s: float) -> Outcome:
        error = f"not sent: {self._callbacks.rate:g} requests/s to {where(target)} (setting"
        error += f" callbacks.rate) leave no room for {wait_s:.1f} s, longer than {patience_s:g} s"
        return Outcome(state="failed", error=error, retry_after_s=wait_s)

    def _place(self, target: URL) -> _Place:
        name = f"{target.scheme}://{where(target)}"
        place = self._places.get(name)
        if place is None:
            what = self._callbacks
            breaker = budget = None
            if what.breaker_failures:
                breaker = Breaker(what.breaker_failures, what.breaker_open)
            if what.rate:
                budget = Budget(what.rate, what.burst, self._clock.monotonic())
            place = self._places[name] = _Place(name, breaker, budget)
            self._forget()
        self._places.move_to_end(name)
        return place

    def _forget(self) -> None:
        excess = max(len(self._places) - MAX_DESTINATIONS, 0)
        for name in list(islice(self._places, excess)):
            budget = self._places[name].budget
            # One with a line in front of it is needed until the line is gone.
            if budget is None or not len(budget):
                del self._places[name]

    async def _stand(self, place: _Place, budget: Budget) -> None:
        turn = asyncio.get_running_loop().create_future()
        budget.join(turn)
        if place.server is None:
            place.server = asyncio.ensure_future(self._serve(place, budget))
        try:
            await turn
        finally:
            budget.leave(turn)

    async def _serve(self, place: _Place, budget: Budget) -> None:
        try:
            while (wait_s := budget.next_s(self._clock.monotonic())) is not None:
                await self._clock.sleep(wait_s)
                for turn in budget.grant(self._clock.monotonic()):
                    if isinstance(turn, asyncio.Future) and not turn.done():
                        turn.set_result(None)
        finally:
            place.server = None

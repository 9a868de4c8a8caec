"""The ``http`` action: a signed callback to a checked address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from aiohttp.abc import AbstractResolver
from yarl import URL

from everbell.config.schema import Callbacks
from everbell.domain.errors import Bug, ConfigError, RefusedError, ValidationError
from everbell.domain.job import US, Action, HttpAction
from everbell.domain.run import Outcome
from everbell.executors import callback
from everbell.executors.addresses import AddressPolicy
from everbell.executors.batch import Batcher, Shared
from everbell.executors.claim import NOT_SENT, Claim
from everbell.executors.http_bounds import Bounds, interrupted
from everbell.executors.http_exchange import Exchange, Request, Sealed
from everbell.executors.http_words import where
from everbell.executors.targets import check_literal, parse_target
from everbell.ports.clock import Clock
from everbell.ports.destinations import DestinationState
from everbell.ports.executor import Assignment, OutputSink

BODY_LIMIT = 64 * 1024
"""Bytes of an answer that are kept; the rest is not read."""


class _Said(NamedTuple):
    """An action, as something that can be looked up."""

    url: str
    method: str
    headers: tuple[tuple[str, str], ...]
    success: tuple[str, ...]
    batch: bool


class HttpExecutor:
    """Sends callbacks over one pool of connections. Cookies, proxies and redirects are off.

    Implements ``ports.executor.Executor`` and ``ports.destinations.DestinationMeter``.
    ``resolver`` is what looks names up underneath the guard; None = the system's.
    Raises ConfigError for a network in ``callbacks.allow`` that can't be read.
    """

    def __init__(
        self,
        callbacks: Callbacks,
        clock: Clock,
        user_agent: str,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._callbacks = callbacks
        self._clock = clock
        self._own = {"accept-encoding": "identity", "user-agent": user_agent}
        self._limit = callbacks.payload_max_mb * 1024 * 1024
        try:
            private = callbacks.private_addresses == "allow"
            self._policy = AddressPolicy(private=private, allow=callbacks.allow)
        except ValueError as error:
            message = f"callbacks.allow holds no network: {error}"
            raise ConfigError(message, hint="write networks like 10.0.0.0/8") from None
        # What an action alone tells is read once: jobs fire the same one again and again.
        self._judged = lru_cache(maxsize=4096)(self._judge)
        self._exchange = Exchange(callbacks, clock, self._policy, resolver)
        self._batcher = Batcher(callbacks, clock, self._exchange, user_agent)

    def check(self, action: Action) -> None:
        """Raise ValidationError or RefusedError for what can never work; no DNS."""
        self._read(action)

    async def run(self, work: Assignment, cancel: asyncio.Event, sink: OutputSink) -> Outcome:
        """Perform one attempt. Raises RefusedError for what must not be sent."""
        try:
            action, target, is_success = self._read(work.action)
        except ValidationError as error:
            raise RefusedError(error.message, hint=error.hint) from None
        if cancel.is_set():
            return Outcome(state="cancelled", error=NOT_SENT)
        if action.batch:
            shared = Shared(action, target, is_success, work.webhook_secret)
            return await self._batcher.run(work, shared, cancel, sink)
        bounds, claim = Bounds(cancel, work.timeout_s), Claim(work.holds)
        request = Request(
            method=action.method,
            target=target,
            seal=self._sealer(work, action),
            is_success=is_success,
            patience_s=work.timeout_s,
            late=lambda: bounds.late,
            keep=BODY_LIMIT,
            holds=claim.holds,
        )
        outcome = await bounds.keep(self._exchange.send(request, sink))
        if outcome is not None:
            return outcome
        return interrupted(bounds, where(target), work.timeout_s, held=claim.held)

    def destinations(self) -> list[DestinationState]:
        """Return what breaker and budget know of each destination."""
        return self._exchange.gate.destinations()

    async def close(self) -> None:
        """Close all connections."""
        await self._batcher.close()
        await self._exchange.close()

    def _read(self, action: Action) -> tuple[HttpAction, URL, Callable[[int], bool]]:
        if not isinstance(action, HttpAction):
            raise Bug(f"an HTTP executor was given {type(action).__name__}")
        headers = tuple(action.headers.items())
        target, is_success = self._judged(
            _Said(action.url, action.method, headers, action.success, action.batch)
        )
        return action, target, is_success

    def _judge(self, said: _Said) -> tuple[URL, Callable[[int], bool]]:
        target = parse_target(said.url)
        callback.check_headers(dict(said.headers))
        if said.batch:
            callback.check_batch(said.method)
        is_success = callback.success_test(said.success)
        check_literal(target, self._policy)
        return target, is_success

    def _sealer(self, work: Assignment, action: HttpAction) -> Callable[[], Sealed]:
        body = callback.body_of(work) if action.method in callback.METHODS_WITH_BODY else None
        if body is not None and len(body) > self._limit:
            raise callback.too_large(len(body), self._callbacks.payload_max_mb)

        def seal() -> Sealed:
            now_s = self._clock.now_us() // US
            own = callback.headers_of(work, action.headers, body or b"", now_s)
            return Sealed(self._own | own, body)

        return seal

"""One request and its answer, over one pool of connections."""

from __future__ import annotations

import asyncio
import email.utils
import logging
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from everbell.config.schema import Callbacks
from everbell.domain.errors import RefusedError
from everbell.domain.job import US
from everbell.domain.run import Outcome
from everbell.executors.addresses import AddressPolicy
from everbell.executors.http_gate import Entry, Gate
from everbell.executors.http_words import error_words, status_words, where
from everbell.executors.resolver import GuardedResolver, SystemResolver
from everbell.ports.clock import Clock
from everbell.ports.executor import UNSURE_S, OutputSink

log = logging.getLogger(__name__)

MAX_RETRY_AFTER_S = 86400.0
RETRYABLE = frozenset({408, 425, 429})
KEEP_ALIVE_S = 1.5
"""Idle connections are dropped before common servers do it (2 s and 5 s), so that a callback is
never lost on a connection that the other side is just closing."""


class Sealed(NamedTuple):
    """What is sent, made at the moment of sending: the signature holds the time."""

    headers: dict[str, str]
    body: bytes | None


class Request(NamedTuple):
    """One request. ``patience_s``: how long it may wait for the budget of its destination.

    ``late`` tells, when the request is given up, whether that is because no answer came in time.
    ``keep`` is how many bytes of the answer are kept; the rest is not read.
    ``holds`` tells whether it may still be sent.
    """

    method: str
    target: URL
    seal: Callable[[], Sealed]
    is_success: Callable[[int], bool]
    patience_s: float
    late: Callable[[], bool]
    keep: int
    holds: Callable[[], bool]


_HOLDS: ContextVar[Callable[[], bool]] = ContextVar("holds")


class _Unsure(Exception):
    """The request must not be sent now."""


class _Connector(aiohttp.TCPConnector):
    """Gives no connection to a request that must not be sent now.

    To wait for one may take long: in a line, for a name, for a network that is cut.
    """

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        if not _HOLDS.get()():
            connection.close()
            raise _Unsure
        return connection


class Exchange:
    """Sends requests and judges answers. Cookies, proxies and redirects are off."""

    def __init__(
        self,
        callbacks: Callbacks,
        clock: Clock,
        policy: AddressPolicy,
        resolver: AbstractResolver | None,
    ) -> None:
        self._callbacks = callbacks
        self._clock = clock
        self._policy = policy
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._guard: GuardedResolver | None = None
        self.gate = Gate(callbacks, clock)

    async def send(self, request: Request, sink: OutputSink) -> Outcome:
        """Send and judge. Raises RefusedError if the guard refuses the address."""
        end = self._clock.monotonic() + request.patience_s
        while True:
            while not request.holds():
                await self._clock.sleep(UNSURE_S)
            entry = None
            if self.gate.active:
                left_s = max(end - self._clock.monotonic(), 0.0)
                answer = await self.gate.enter(request.target, left_s)
                if isinstance(answer, Outcome):
                    return answer
                entry = answer
            try:
                return await self._tried(request, sink, entry)
            except _Unsure:
                log.info("not sent to %s yet: the node's lease is over", where(request.target))

    async def close(self) -> None:
        """Close all connections. May be called twice."""
        session, self._session = self._session, None
        guard, self._guard = self._guard, None
        await self.gate.close()
        if session is not None:
            await session.close()
        if guard is not None:
            await guard.close()

    async def _tried(self, request: Request, sink: OutputSink, entry: Entry | None) -> Outcome:
        try:
            return await self._exchange(request, sink, entry)
        except (RefusedError, _Unsure):
            raise
        except (aiohttp.ClientError, OSError) as error:
            return Outcome(state="failed", error=error_words(error, request.target))
        except Exception as error:  # noqa: BLE001 - the executor boundary
            text = f"{where(request.target)} gave an answer that can't be read"
            return Outcome(state="failed", error=f"{text} ({type(error).__name__})")

    async def _exchange(self, request: Request, sink: OutputSink, entry: Entry | None) -> Outcome:
        response = await self._head(request, entry)
        try:
            sink.write("out", f"HTTP {status_words(response.status)}\n".encode())
            await _copy_body(response, sink, request.keep)
        finally:
            # Gives a connection back only if the answer was read to its end.
            if response.content.at_eof():
                response.release()
            else:
                response.close()
        return self._judge(request, response)

    async def _head(self, request: Request, entry: Entry | None) -> aiohttp.ClientResponse:
        try:
            response = await self._ask(request)
        except (RefusedError, _Unsure, asyncio.CancelledError) as error:
            if entry is not None:
                late = isinstance(error, asyncio.CancelledError) and request.late()
                entry.failed() if late else entry.dropped()
            raise
        except Exception:
            if entry is not None:
                entry.failed()
            raise
        if entry is not None:
            entry.answered(response.status)
        return response

    async def _ask(self, request: Request) -> aiohttp.ClientResponse:
        before = _HOLDS.set(request.holds)
        try:
            sealed = request.seal()
            return await self._pool().request(
                request.method,
                request.target,
                data=None if sealed.body is None else aiohttp.BytesPayload(sealed.body),
                headers=sealed.headers,
                allow_redirects=False,
            )
        finally:
            _HOLDS.reset(before)

    def _judge(self, request: Request, response: aiohttp.ClientResponse) -> Outcome:
        status = response.status
        if request.is_success(status):
            return Outcome(state="succeeded", code=status)
        error = f"{where(request.target)} answered {status_words(status)}"
        if 300 <= status < 400:
            error += " (redirects are not followed)"
        return Outcome(
            state="failed",
            code=status,
            error=error,
            retryable=status in RETRYABLE or status >= 500,
            retry_after_s=self._retry_after(response.headers.get("retry-after")),
        )

    def _retry_after(self, text: str | None) -> float | None:
        """Read seconds or an HTTP date; None if there is none or it can't be read."""
        if text is None:
            return None
        text = text.strip()
        if text.isascii() and text.isdigit():
            return min(float(text[:12]), MAX_RETRY_AFTER_S)
        try:
            at = email.utils.parsedate_to_datetime(text)
            if at.tzinfo is None:
                at = at.replace(tzinfo=UTC)
            wait_s = at.timestamp() - self._clock.now_us() / US
        except (ValueError, OverflowError):
            return None
        return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._guard = GuardedResolver(self._policy, self._resolver or SystemResolver())
            connector = _Connector(
                limit=self._callbacks.max_connections,
                resolver=self._guard,
                use_dns_cache=False,
                keepalive_timeout=KEEP_ALIVE_S,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            )
        return self._session


async def _copy_body(response: aiohttp.ClientResponse, sink: OutputSink, limit: int) -> None:
    left, content = limit, response.content
    while left > 0 and not content.at_eof():
        data = await content.read(left)
        if not data:
            return
        sink.write("out", data)
        left -= len(data)

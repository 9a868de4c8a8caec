"""HTTP by aiohttp, and this client's clock and chance."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from everbell.client.errors import AnswerLost, ClientError, Unreachable
from everbell.client.wire import STREAM_SILENCE_S, Reply, Request

CONNECT_S = 10.0
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_CAUGHT = (aiohttp.ClientError, TimeoutError, OSError)


class AsyncTransport:
    """Sends requests over kept connections of one loop."""

    def __init__(self, timeout_s: float, tls: ssl.SSLContext | None) -> None:
        self._timeout_s = timeout_s
        self._tls: ssl.SSLContext | bool = True if tls is None else tls
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: Request) -> Reply:
        """Send and read the whole answer. Raises Unreachable, AnswerLost."""
        limit = aiohttp.ClientTimeout(total=self._timeout_s, connect=CONNECT_S)
        try:
            async with self._start(request, limit) as answer:
                return Reply(answer.status, lower(answer.headers), await answer.read())
        except _CAUGHT as error:
            raise told(request, error) from error

    def stream(self, request: Request) -> AsyncStream:
        """Send, and read the answer as it comes, in an ``async with``."""
        limit = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=STREAM_SILENCE_S)
        return AsyncStream(request, self._start(request, limit))

    def _start(
        self, request: Request, limit: aiohttp.ClientTimeout
    ) -> aiohttp.client._RequestContextManager:
        if self._session is None:
            # The environment's proxies are not asked: they must not see the key.
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
            # aiohttp sends PUT and DELETE again by itself, whatever their conditions, and has no
            # public switch. Repetitions are decided in one place: AsyncCore.
            self._session._retry_connection = False  # noqa: SLF001
        return self._session.request(
            request.method,
            URL(request.url, encoded=True),
            data=request.body,
            headers=request.headers,
            allow_redirects=False,
            ssl=self._tls,
            timeout=limit,
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    def chance(self) -> float:
        """Return a number, 0 to 1."""
        return random.random()


class AsyncStream:
    """An answer that is read as it comes."""

    def __init__(self, request: Request, started: aiohttp.client._RequestContextManager) -> None:
        self._request = request
        self._started = started
        self._answer: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> Self:
        """Wait for the head of the answer. Raises Unreachable, AnswerLost."""
        try:
            self._answer = await self._started.__aenter__()
        except _CAUGHT as error:
            raise told(self._request, error) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._answer is not None:
            self._answer.close()

    @property
    def status(self) -> int:
        """The answer's status."""
        assert self._answer is not None
        return self._answer.status

    async def reply(self) -> Reply:
        """Read the whole answer. Raises AnswerLost."""
        assert self._answer is not None
        try:
            body = await self._answer.read()
        except _CAUGHT as error:
            raise told(self._request, error) from error
        return Reply(self._answer.status, lower(self._answer.headers), body)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body's bytes as they come. Raises AnswerLost."""
        assert self._answer is not None
        try:
            async for chunk in self._answer.content.iter_any():
                yield chunk
        except _CAUGHT as error:
            raise told(self._request, error) from error


def lower(headers: object) -> dict[str, str]:
    """Return headers by lower-case name."""
    assert hasattr(headers, "items")
    return {str(name).lower(): str(value) for name, value in headers.items()}


def told(request: Request, error: Exception) -> ClientError:
    """Return our error for aiohttp's."""
    why = str(error) or type(error).__name__
    if isinstance(error, _NEVER_SENT):
        return Unreachable(f"{request}: {why}", hint="is the server running, and the url right?")
    return AnswerLost(f"{request}: {why}", hint="read again to see whether it was done")

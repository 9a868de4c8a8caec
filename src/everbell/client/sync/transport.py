"""HTTP by urllib3, and this client's clock and chance. Safe to be shared by threads."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Generator
from types import TracebackType
from typing import Self

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
)

from everbell.client.errors import AnswerLost, ClientError, Unreachable
from everbell.client.wire import STREAM_SILENCE_S, Reply, Request

CONNECT_S = 10.0
_NEVER_SENT = (NewConnectionError, ConnectTimeoutError)


class Transport:
    """Sends requests over kept connections."""

    def __init__(self, timeout_s: float, tls: ssl.SSLContext | None) -> None:
        self._timeout_s = timeout_s
        # The environment's proxies are not asked: they must not see the key.
        self._pool = urllib3.PoolManager(ssl_context=tls, maxsize=10)

    def send(self, request: Request) -> Reply:
        """Send and read the whole answer. Raises Unreachable, AnswerLost."""
        limit = urllib3.Timeout(connect=min(CONNECT_S, self._timeout_s), read=self._timeout_s)
        try:
            answer = self._start(request, limit, whole=True)
            return Reply(answer.status, lower(answer), answer.data)
        except HTTPError as error:
            raise told(request, error) from error

    def stream(self, request: Request) -> Stream:
        """Send, and read the answer as it comes, in a ``with``."""
        return Stream(request, self)

    def _start(
        self, request: Request, limit: urllib3.Timeout, *, whole: bool
    ) -> urllib3.BaseHTTPResponse:
        return self._pool.request(
            request.method,
            request.url,
            body=request.body,
            headers=request.headers,
            retries=False,
            redirect=False,
            timeout=limit,
            preload_content=whole,
        )

    def begin(self, request: Request) -> urllib3.BaseHTTPResponse:
        """Send and return when the head of the answer is there. Raises Unreachable, AnswerLost."""
        limit = urllib3.Timeout(connect=CONNECT_S, read=STREAM_SILENCE_S)
        try:
            return self._start(request, limit, whole=False)
        except HTTPError as error:
            raise told(request, error) from error

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def monotonic(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    def chance(self) -> float:
        """Return a number, 0 to 1."""
        return random.random()


class Stream:
    """An answer that is read as it comes."""

    def __init__(self, request: Request, transport: Transport) -> None:
        self._request = request
        self._transport = transport
        self._answer: urllib3.BaseHTTPResponse | None = None

    def __enter__(self) -> Self:
        """Wait for the head of the answer. Raises Unreachable, AnswerLost."""
        self._answer = self._transport.begin(self._request)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._answer is not None:
            # Not to be used again: the rest of the stream is still to come.
            self._answer.close()

    @property
    def status(self) -> int:
        """The answer's status."""
        assert self._answer is not None
        return self._answer.status

    def reply(self) -> Reply:
        """Read the whole answer. Raises AnswerLost."""
        assert self._answer is not None
        try:
            return Reply(self._answer.status, lower(self._answer), self._answer.read())
        except HTTPError as error:
            raise told(self._request, error) from error

    def chunks(self) -> Generator[bytes]:
        """Yield the body's bytes as they come. Raises AnswerLost."""
        assert self._answer is not None
        try:
            while chunk := self._answer.read1(65536):
                yield chunk
        except HTTPError as error:
            raise told(self._request, error) from error


def lower(answer: urllib3.BaseHTTPResponse) -> dict[str, str]:
    """Return headers by lower-case name."""
    return {name.lower(): value for name, value in answer.headers.items()}


def told(request: Request, error: Exception) -> ClientError:
    """Return our error for urllib3's."""
    why = str(error) or type(error).__name__
    if isinstance(error, _NEVER_SENT):
        return Unreachable(f"{request}: {why}", hint="is the server running, and the url right?")
    return AnswerLost(f"{request}: {why}", hint="read again to see whether it was done")

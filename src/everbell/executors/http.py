"""The ``http`` action: a signed callback to a checked address."""

from __future__ import annotations

import asyncio
import email.utils
import errno
from collections.abc import Callable
from datetime import UTC
from http import HTTPStatus

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from everbell.config.schema import Callbacks
from everbell.domain.errors import Bug, ConfigError, RefusedError, ValidationError
from everbell.domain.job import US, Action, HttpAction, Record
from everbell.domain.run import Outcome
from everbell.executors import callback
from everbell.executors.addresses import AddressPolicy
from everbell.executors.resolver import GuardedResolver, SystemResolver
from everbell.executors.targets import check_literal, parse_target
from everbell.ports.clock import Clock
from everbell.ports.executor import Assignment, OutputSink

BODY_LIMIT = 64 * 1024
"""Bytes of an answer that are kept; the rest is not read."""

MAX_RETRY_AFTER_S = 86400.0
RETRYABLE = frozenset({408, 425, 429})
KEEP_ALIVE_S = 1.5
"""Idle connections are dropped before common servers do it (2 s and 5 s), so that a callback is
never lost on a connection that the other side is just closing."""


class _Request(Record, frozen=True):
    method: str
    target: URL
    headers: dict[str, str]
    body: bytes | None
    is_success: Callable[[int], bool]


class HttpExecutor:
    """Sends callbacks over one pool of connections. Cookies, proxies and redirects are off.

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
        self._user_agent = user_agent
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._guard: GuardedResolver | None = None
        try:
            private = callbacks.private_addresses == "allow"
            self._policy = AddressPolicy(private=private, allow=callbacks.allow)
        except ValueError as error:
            message = f"callbacks.allow holds no network: {error}"
            raise ConfigError(message, hint="write networks like 10.0.0.0/8") from None

    def check(self, action: Action) -> None:
        """Raise ValidationError or RefusedError for what can never work; no DNS."""
        self._read(action)

    async def run(self, work: Assignment, cancel: asyncio.Event, sink: OutputSink) -> Outcome:
        """Perform one attempt. Raises RefusedError for what must not be sent."""
        try:
            request = self._prepare(work)
        except ValidationError as error:
            raise RefusedError(error.message, hint=error.hint) from None
        if cancel.is_set():
            return Outcome(state="cancelled", error="cancelled before it was sent")
        sending = asyncio.ensure_future(self._send(request, sink))
        stop = asyncio.ensure_future(cancel.wait())
        try:
            waits = {sending, stop}
            await asyncio.wait(waits, timeout=work.timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            finished = sending.done()
            if not finished:
                sending.cancel()
                await asyncio.wait({sending})
        if finished:
            return sending.result()
        if cancel.is_set():
            return Outcome(state="cancelled", error="cancelled, connection closed")
        late = f"no complete answer from {_where(request.target)} within {work.timeout_s:g} s"
        return Outcome(state="timed_out", error=late)

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        guard, self._guard = self._guard, None
        if session is not None:
            await session.close()
        if guard is not None:
            await guard.close()

    def _read(self, action: Action) -> tuple[HttpAction, URL, Callable[[int], bool]]:
        if not isinstance(action, HttpAction):
            raise Bug(f"an HTTP executor was given {type(action).__name__}")
        target = parse_target(action.url)
        callback.check_headers(action.headers)
        is_success = callback.success_test(action)
        check_literal(target, self._policy)
        return action, target, is_success

    def _prepare(self, work: Assignment) -> _Request:
        action, target, is_success = self._read(work.action)
        body = callback.body_of(work) if action.method in callback.METHODS_WITH_BODY else None
        limit = self._callbacks.payload_max_mb * 1024 * 1024
        if body is not None and len(body) > limit:
            raise RefusedError(
                f"the request body has {len(body)} bytes, more than"
                f" {self._callbacks.payload_max_mb:g} MiB",
                hint="shorten the job's data, or raise callbacks.payload_max_mb",
            )
        now_s = self._clock.now_us() // US
        own = callback.headers_of(work, action.headers, body or b"", now_s)
        headers = {"accept-encoding": "identity", "user-agent": self._user_agent} | own
        return _Request(
            method=action.method, target=target, headers=headers, body=body, is_success=is_success
        )

    async def _send(self, request: _Request, sink: OutputSink) -> Outcome:
        try:
            return await self._exchange(request, sink)
        except RefusedError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            return Outcome(state="failed", error=_words(error, request.target))
        except Exception as error:  # noqa: BLE001 - the executor boundary
            text = f"{_where(request.target)} gave an answer that can't be read"
            return Outcome(state="failed", error=f"{text} ({type(error).__name__})")

    async def _exchange(self, request: _Request, sink: OutputSink) -> Outcome:
        response = await self._pool().request(
            request.method,
            request.target,
            data=request.body,
            headers=request.headers,
            allow_redirects=False,
        )
        try:
            sink.write("out", f"HTTP {_status_words(response.status)}\n".encode())
            await _copy_body(response, sink)
        finally:
            # Gives a connection back only if the answer was read to its end.
            if response.content.at_eof():
                response.release()
            else:
                response.close()
        return self._judge(request, response)

    def _judge(self, request: _Request, response: aiohttp.ClientResponse) -> Outcome:
        status = response.status
        if request.is_success(status):
            return Outcome(state="succeeded", code=status)
        error = f"{_where(request.target)} answered {_status_words(status)}"
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
            connector = aiohttp.TCPConnector(
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


async def _copy_body(response: aiohttp.ClientResponse, sink: OutputSink) -> None:
    left = BODY_LIMIT
    while left > 0:
        data = await response.content.read(left)
        if not data:
            return
        sink.write("out", data)
        left -= len(data)


def _where(target: URL) -> str:
    host = target.raw_host or ""
    return f"[{host}]:{target.port}" if ":" in host else f"{host}:{target.port}"


def _status_words(status: int) -> str:
    """The status with its standard words; never the words that the server sent."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


_REASONS = {
    errno.ECONNREFUSED: "connection refused by {}",
    errno.ECONNRESET: "connection reset by {}",
    errno.EHOSTUNREACH: "no route to {}",
    errno.ENETUNREACH: "network of {} is unreachable",
    errno.ETIMEDOUT: "{} does not answer",
    errno.EPIPE: "connection closed by {}",
}


def _words(error: aiohttp.ClientError | OSError, target: URL) -> str:
    """Say for people what went wrong on the way."""
    where = _where(target)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"no address found for host {target.raw_host}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        inner = error.certificate_error
        reason = getattr(inner, "verify_message", "") or "it does not match the name"
        return f"the certificate of {where} is refused: {reason}"
    if isinstance(error, aiohttp.ClientSSLError):
        return f"no TLS connection with {where}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return f"{where} closed the connection without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return f"{where} broke off its answer"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{where} gave an answer that is no HTTP"
    number = getattr(error, "errno", None)
    if number in _REASONS:
        return _REASONS[number].format(where)
    return f"no connection to {where}"

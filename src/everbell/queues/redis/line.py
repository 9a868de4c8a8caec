"""One connection to Redis: many commands in one write, their answers in order, or none at all."""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from everbell.config.addresses import redis_address
from everbell.config.schema import Redis
from everbell.domain.errors import ConfigError, StoreError, StoreUnavailable, StoreUnknownOutcome

Word = str | bytes | int
LOST = (RedisError, OSError)
"""What ends a connection; TimeoutError is among them."""


class _Way:
    """How far a call came."""

    sent = False


class Line:
    """One connection, opened when it is needed. Calls wait for one another, in order.

    A call that fails or is cancelled ends the connection, so that no answer is ever taken for
    that of another call.
    """

    def __init__(self, make: Callable[[], AbstractConnection], timeout_s: float) -> None:
        self._make = make
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._connection: AbstractConnection | None = None

    async def call(self, *commands: Sequence[Word], wait_s: float = 0.0) -> list[Any]:
        """Carry out commands; an answer that is a refusal is returned as ``ResponseError``.

        ``wait_s``: how long the server may block by itself. Raises StoreUnavailable if nothing was
        sent, StoreUnknownOutcome if the answers were lost.
        """
        async with self._lock, self._within(self._timeout_s + wait_s) as way:
            connection = await self._open()
            way.sent = True
            await _send(connection, commands)
            return [await _answer(connection) for _ in commands]

    async def reach(self) -> None:
        """See to it that the next call need not open a connection. Raises StoreUnavailable."""
        async with self._lock, self._within(self._timeout_s):
            await self._open()

    async def tell(self, *command: Word) -> None:
        """Send a command whose answer comes by ``heard``. Raises StoreError."""
        async with self._within(self._timeout_s) as way:
            way.sent = True
            await _send(await self._open(fresh=False), [command])

    async def heard(self, wait_s: float) -> Any:
        """Return what the server says by itself, or None after ``wait_s``. Raises StoreError."""
        if self._connection is None:
            raise StoreUnavailable("the connection to Redis is closed")
        async with self._within(None) as way:
            way.sent = True
            return await self._connection.read_response(timeout=wait_s)

    async def drop(self) -> None:
        """End the connection; the next call opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*LOST):
                await connection.disconnect(nowait=True)

    @contextlib.asynccontextmanager
    async def _within(self, limit_s: float | None) -> AsyncIterator[_Way]:
        """End the connection if what is done with it fails, is cancelled or takes too long."""
        way = _Way()
        try:
            async with asyncio.timeout(limit_s):
                yield way
        except LOST as error:
            await self.drop()
            raise translate(error, sent=way.sent) from error
        except BaseException:
            await self.drop()
            raise

    async def _open(self, *, fresh: bool = True) -> AbstractConnection:
        """Return the connection; ``fresh``: another one if the server has closed it."""
        connection = self._connection
        if connection is not None and fresh and await _is_stale(connection):
            await self.drop()
            connection = None
        if connection is None:
            connection = self._connection = self._make()
            await connection.connect()  # type: ignore[no-untyped-call]
        return connection


async def _is_stale(connection: AbstractConnection) -> bool:
    """Return whether the server closed the connection while nobody used it."""
    try:
        return not connection.is_connected or await connection.can_read()
    except LOST:
        return True


async def _send(connection: AbstractConnection, commands: Sequence[Sequence[Word]]) -> None:
    packed = connection.pack_commands(commands)
    await connection.send_packed_command(packed, check_health=False)


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(timeout=math.inf)
    except ResponseError as error:
        return error


def connector(redis: Redis, path: Callable[[str], str]) -> Callable[[], AbstractConnection]:
    """Return what makes connections, not yet open ones; ``path`` finds a file that is named.

    Raises ConfigError for an address that can't be read, and for files that can't be used.
    """
    tls = redis.tls
    if bool(tls.cert) != bool(tls.key):
        missing = "redis.tls.key" if tls.cert else "redis.tls.cert"
        raise ConfigError(f"`{missing}` is missing", hint="redis.tls.cert and key go together")
    try:
        at = redis_address(redis.addr, tls=bool(tls.ca or tls.cert))
    except ValueError as error:
        hint = "write HOST:PORT, redis://HOST:PORT, rediss://HOST:PORT or /PATH/OF/SOCKET"
        raise ConfigError(f"`redis.addr` {error}", hint=hint) from None
    common: dict[str, Any] = {
        "db": at.db or redis.db,
        "username": at.username or redis.username or None,
        "password": at.password or redis.password or None,
        "socket_timeout": None,
        "socket_connect_timeout": redis.timeout,
        "driver_info": None,
        "protocol": 2,
    }
    if at.path:
        return lambda: UnixDomainSocketConnection(path=at.path, **common)
    common |= {"host": at.host, "port": at.port, "socket_keepalive": True}
    if not at.tls:
        return lambda: Connection(**common)
    files = {name: path(value) if value else None for name, value in _files(redis)}
    _check_files(files)
    common |= {
        "ssl_ca_certs": files["ca"],
        "ssl_certfile": files["cert"],
        "ssl_keyfile": files["key"],
    }
    return lambda: SSLConnection(**common)


def shown(redis: Redis) -> str:
    """Return the server's address without login."""
    at = redis_address(redis.addr, tls=bool(redis.tls.ca or redis.tls.cert))
    return at.path or (f"[{at.host}]:{at.port}" if ":" in at.host else f"{at.host}:{at.port}")


def _files(redis: Redis) -> list[tuple[str, str]]:
    return [("ca", redis.tls.ca), ("cert", redis.tls.cert), ("key", redis.tls.key)]


def _check_files(files: dict[str, str | None]) -> None:
    """Raise ConfigError naming the file that can't be used."""
    for name, file in files.items():
        if file is None:
            continue
        try:
            with open(file, "rb"):  # noqa: PTH123 - only whether it opens
                pass
        except OSError as error:
            message = f"redis.tls.{name} can't be read: {file} ({error.strerror})"
            raise ConfigError(message, hint="check the path and its rights") from None
    context = ssl.create_default_context()
    try:
        if files["ca"]:
            context.load_verify_locations(files["ca"])
    except ssl.SSLError:
        message = f"redis.tls.ca is no certificate: {files['ca']}"
        raise ConfigError(message, hint="a file in PEM form") from None
    try:
        if files["cert"]:
            context.load_cert_chain(files["cert"], files["key"])
    except ssl.SSLError:
        message = "redis.tls.cert and redis.tls.key do not belong together, or are no PEM files"
        raise ConfigError(message, hint=f"{files['cert']}, {files['key']}") from None


_MEANING: tuple[tuple[type[BaseException], str, str], ...] = (
    (BusyLoadingError, "Redis is still loading its data", "it is tried again by itself"),
    (OutOfMemoryError, "Redis has no memory left", "raise its maxmemory, or empty what is in it"),
    (ReadOnlyError, "Redis is a replica that can't be written to", "name the primary: redis.addr"),
    (NoPermissionError, "the user of Redis lacks a right", "grant it: ACL SETUSER in redis-cli"),
    (AuthenticationError, "Redis refuses the login", "check redis.password and redis.username"),
)  # fmt: skip


def meaning(error: BaseException) -> tuple[str, str]:
    """Return in words what an error means, and which setting to look at."""
    text = (str(error) or type(error).__name__).splitlines()[0][:200]
    # In this order: what the server says of a login is a kind of lost connection to the driver.
    if "NOAUTH" in text or "WRONGPASS" in text or "invalid username-password" in text.lower():
        return "Redis refuses the login", "check redis.password and redis.username"
    if "DB index" in text or "Invalid Database" in text:
        return "Redis has no database of that number", "check redis.db"
    for kind, words, hint in _MEANING:
        if isinstance(error, kind):
            return words, hint
    if isinstance(error, ResponseError):
        return f"Redis refuses: {text}", "check the names of keys in the section redis"
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "Redis does not answer in time", "check the server, or raise redis.timeout"
    if "SSL" in text or "certificate" in text.lower() or _has(error, ssl.SSLError):
        hint = "check redis.tls.ca and the host in redis.addr, and that both sides speak TLS"
        return f"no trusted connection to Redis ({text})", hint
    return f"Redis can't be reached ({text})", "check that it runs, and redis.addr"


def _has(error: BaseException | None, kind: type[BaseException]) -> bool:
    for _ in range(5):
        if error is None:
            return False
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def translate(error: BaseException, *, sent: bool) -> StoreError:
    """Return what a lost connection means to the caller."""
    words, hint = meaning(error)
    return (StoreUnknownOutcome if sent else StoreUnavailable)(words, hint=hint)

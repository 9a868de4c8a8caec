"""Connections that are shared, lost and made anew; transactions on them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg

from everbell.domain.errors import EverbellError, StoreUnavailable
from everbell.stores.postgres.connection import QUICK_S, Target, connect
from everbell.stores.postgres.errors import AGAIN, is_lost, is_unsent, translate

T = TypeVar("T")
Verb = Callable[["Sql"], Awaitable[T]]

PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 1.0
PULSE_PAUSE_MAX_S = 0.25
TRIES = 10
"""How often a transaction that lost a race for locks is tried before the caller hears of it."""
NOT_PLAIN = "EB001"
FAILURES = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    TimeoutError,
    UnicodeEncodeError,
    OverflowError,
)


class Sql:
    """One transaction. ``changed`` tells whether it wrote anything.

    ``timeout_s`` bounds each statement; None = as the connection says.
    """

    __slots__ = ("_con", "_timeout_s", "changed")

    def __init__(self, con: Any, timeout_s: float | None = None) -> None:
        self._con = con
        self._timeout_s = timeout_s
        self.changed = False

    async def rows(self, query: str, *values: Any) -> list[Any]:
        """Return all rows of a query."""
        found: list[Any] = await self._con.fetch(query, *values, timeout=self._timeout_s)
        return found

    async def row(self, query: str, *values: Any) -> Any:
        """Return the first row, or None."""
        return await self._con.fetchrow(query, *values, timeout=self._timeout_s)

    async def value(self, query: str, *values: Any) -> Any:
        """Return the first column of the first row, or None."""
        return await self._con.fetchval(query, *values, timeout=self._timeout_s)

    async def made(self, query: str, *values: Any) -> list[Any]:
        """Carry out a change and return its rows (RETURNING)."""
        found = await self.rows(query, *values)
        self.changed = self.changed or bool(found)
        return found

    async def change(self, query: str, *values: Any) -> int:
        """Carry out a change and return how many rows it met."""
        said = await self._con.execute(query, *values, timeout=self._timeout_s)
        count = int(said.rpartition(" ")[2])
        self.changed = self.changed or count > 0
        return count


class Pool:
    """Up to ``size`` connections to one server.

    A connection that was lost is made anew by the next call. After a refusal the next attempt
    waits, twice as long each time; calls in between are told at once what the refusal was.
    """

    def __init__(
        self,
        target: Target,
        trust: ssl.SSLContext | None,
        size: int,
        main: Pool | None = None,
    ) -> None:
        self.target = target
        self._trust = trust
        self._main = main
        self._free = asyncio.Semaphore(size)
        self._idle: list[Any] = []
        self._busy: set[Any] = set()
        self._coming: set[asyncio.Future[Any]] = set()
        self._closed = False
        self._pause_s = 0.0
        self._not_before = 0.0
        self._refusal: BaseException | None = None

    async def take(self) -> Any:
        """Return a connection that nobody else has. Raises StoreUnavailable."""
        await self._free.acquire()
        try:
            con = await self._one()
        except BaseException:
            self._free.release()
            raise
        self._busy.add(con)
        return con

    async def _one(self) -> Any:
        while self._idle:
            con = self._idle.pop()
            if not con.is_closed():
                return con
        return await self._connect()

    def give(self, con: Any) -> None:
        """Take a connection back; one that is in a transaction still is thrown away."""
        self._busy.discard(con)
        if con.is_closed() or self._closed or con.is_in_transaction():
            con.terminate()
        else:
            self._idle.append(con)
        self._free.release()

    def lost(self, con: Any) -> None:
        """Throw a dead connection away, and those that nobody uses: the same killed them."""
        con.terminate()
        while self._idle:
            self._idle.pop().terminate()

    def drop(self) -> None:
        """Throw all connections away: the way to the server is silent, who waits would wait on.

        Until ``well``, who wants a new one is mostly told so at once.
        """
        for con in (*self._busy, *self._idle):
            con.terminate()
        self._idle.clear()
        for one in self._coming:
            one.cancel()
        self._refused(TimeoutError("it does not answer"))
        if self._main is not None:
            self._main.drop()

    def well(self) -> None:
        """Take note that the server answers: connections may be made at once."""
        self._pause_s, self._refusal = 0.0, None
        if self._main is not None:
            self._main.well()

    def _refused(self, error: BaseException) -> None:
        most_s = PAUSE_MAX_S if self._main is None else PULSE_PAUSE_MAX_S
        self._pause_s = min(max(self._pause_s * 2, PAUSE_MIN_S), most_s)
        self._not_before = asyncio.get_running_loop().time() + self._pause_s
        self._refusal = error

    def single(self) -> Pool:
        """Return a pool of one connection on the same way: what it finds silent, this one is."""
        return Pool(self.target, self._trust, 1, self)

    async def extra(self) -> Any:
        """Return a new connection that is not one of the pool. Raises what the driver raises."""
        return await connect(self.target, self._trust)

    async def _connect(self) -> Any:
        where = self.target.where
        if self._closed:
            message = f"the database is closed: {where}"
            raise StoreUnavailable(message, hint="the node is stopping; start it again")
        loop = asyncio.get_running_loop()
        if self._refusal is not None and loop.time() < self._not_before:
            raise translate(self._refusal, where, unknown=False) from self._refusal
        try:
            con = await self._coming_one()
        except FAILURES as error:
            self._refused(error)
            raise translate(error, where, unknown=False) from error
        self._pause_s, self._refusal = 0.0, None
        return con

    async def _coming_one(self) -> Any:
        """Return a new connection. Raises what the driver raises; TimeoutError if dropped."""
        coming = asyncio.ensure_future(self.extra())
        self._coming.add(coming)
        try:
            return await coming
        except asyncio.CancelledError:
            if coming.done() and not coming.cancelled() and coming.exception() is None:
                coming.result().terminate()
            me = asyncio.current_task()
            if me is None or me.cancelling():
                raise
            message = "it does not answer"
            raise TimeoutError(message) from None
        finally:
            self._coming.discard(coming)

    async def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self._closed = True
        while self._idle:
            con = self._idle.pop()
            try:
                await con.close(timeout=2)
            except FAILURES:
                con.terminate()


class Session:
    """Runs verbs, each all or nothing."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._where = pool.target.where
        self._quick_s = QUICK_S + pool.target.lock_timeout_s

    async def read(self, verb: Verb[T]) -> T:
        """Run a verb that writes nothing; on a new connection if the old one turns out dead."""
        return await self._again(verb, None)

    async def quick(self, verb: Verb[T]) -> T:
        """Do what ``read`` does with a verb that the server answers at once, or not at all."""
        return await self._again(verb, self._quick_s)

    async def _again(self, verb: Verb[T], timeout_s: float | None) -> T:
        try:
            return await self._read(verb, timeout_s)
        except StoreUnavailable as error:
            if error.__cause__ is None or not is_lost(error.__cause__, closed=True):
                raise
        return await self._read(verb, timeout_s)

    async def _read(self, verb: Verb[T], timeout_s: float | None) -> T:
        con = await self._pool.take()
        try:
            return await verb(Sql(con, timeout_s))
        except FAILURES as error:
            if is_lost(error, closed=con.is_closed()):
                self._pool.lost(con)
            raise translate(error, self._where, unknown=False) from error
        finally:
            self._pool.give(con)

    async def write(self, verb: Verb[T]) -> T:
        """Run a verb in a transaction of its own; again if it lost a race for locks.

        Raises StoreUnavailable (nothing was done), StoreUnknownOutcome (the connection was lost
        during the commit).
        """
        for _ in range(TRIES - 1):
            try:
                return await self._write(verb)
            except StoreUnavailable as error:
                if not isinstance(error.__cause__, AGAIN):
                    raise
        return await self._write(verb)

    async def _write(self, verb: Verb[T]) -> T:
        con = await self._begun()
        committing = False
        try:
            answer = await verb(Sql(con))
            committing = True
            await con.execute("COMMIT", timeout=self._quick_s)
        except FAILURES as error:
            lost = is_lost(error, closed=con.is_closed())
            if lost:
                # Not even a refusal would be heard.
                self._pool.lost(con)
            await self._undo(con)
            raise translate(error, self._where, unknown=committing and lost) from error
        except EverbellError:
            await self._undo(con)
            raise
        else:
            return answer
        finally:
            # Cancelled, or a bug: the server forgets the transaction with its connection.
            self._pool.give(con)

    async def _begun(self) -> Any:
        """Return a connection in a transaction; a dead one is found out here, and replaced."""
        for last in (False, True):
            con = await self._pool.take()
            try:
                await con.execute("BEGIN", timeout=self._quick_s)
            except FAILURES as error:
                self._pool.lost(con)
                self._pool.give(con)
                if last or not is_lost(error, closed=True):
                    raise translate(error, self._where, unknown=False) from error
            except BaseException:
                con.terminate()
                self._pool.give(con)
                raise
            else:
                return con
        raise AssertionError

    async def _undo(self, con: Any) -> None:
        try:
            if not con.is_closed():
                await con.execute("ROLLBACK", timeout=self._quick_s)
        except FAILURES:
            con.terminate()

    async def vital(self, timeout_s: float, query: str, *values: Any) -> Any:
        """Do what ``once`` does, in so many seconds, connecting included.

        Raises StoreUnknownOutcome if there is no answer in time; it is as if there never were one.
        """
        try:
            async with asyncio.timeout(timeout_s):
                found = await self.once(query, *values)
        except TimeoutError as error:
            self._pool.drop()
            raise translate(error, self._where, unknown=True) from error
        self._pool.well()
        return found

    async def once(self, query: str, *values: Any) -> Any:
        """Carry out one statement that is a transaction of its own; return its first row, or None.

        Raises what ``all`` raises.
        """
        found = await self.all(query, *values)
        return found[0] if found else None

    async def all(self, query: str, *values: Any) -> list[Any]:
        """Carry out one statement that is a transaction of its own; return its rows.

        It is tried again if it lost a race for locks. Raises NotPlain if it refused,
        StoreUnknownOutcome if the answer was lost.
        """
        sent = False
        for _ in range(TRIES - 1):
            try:
                return await self._all(query, *values)
            except StoreUnavailable as error:
                if not isinstance(error.__cause__, AGAIN):
                    if sent or not is_unsent(error.__cause__):
                        raise
                    sent = True
        return await self._all(query, *values)

    async def _all(self, query: str, *values: Any) -> list[Any]:
        con = await self._pool.take()
        try:
            found: list[Any] = await con.fetch(query, *values, timeout=self._quick_s)
            return found
        except asyncpg.UniqueViolationError as error:
            raise NotPlain from error
        except FAILURES as error:
            if isinstance(error, asyncpg.PostgresError) and error.sqlstate == NOT_PLAIN:
                raise NotPlain from None
            lost = is_lost(error, closed=con.is_closed())
            if lost:
                self._pool.lost(con)
            unknown = lost and not is_unsent(error)
            raise translate(error, self._where, unknown=unknown) from error
        finally:
            self._pool.give(con)


class NotPlain(Exception):
    """A short way refused, and did nothing: take the long one."""

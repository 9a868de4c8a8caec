"""One thread that owns one connection; callers await, the loop is woken once per batch."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

import apsw

from everbell.domain.errors import (
    EverbellError,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
    StoreUnknownOutcome,
)
from everbell.stores.sqlite.errors import translated

T = TypeVar("T")
Verb = Callable[[apsw.Cursor], T]

GROUP_MAX = 64
"""Calls that wait together share one transaction, hence one flush, up to this many."""


def file_identity(path: str) -> tuple[int, int] | None:
    """Return device and inode of the file that has the name now; None = no such file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - ten times a second, a Path costs more than the call
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class Transaction:
    """Runs verbs on one connection, each all or nothing."""

    def __init__(self, db: apsw.Connection, path: str, *, write: bool) -> None:
        self.db = db
        self.path = path
        self._begin = "BEGIN IMMEDIATE" if write else "BEGIN"
        self._file = file_identity(path)

    def run(self, verb: Verb[T]) -> T:
        """Run one verb in a transaction of its own."""
        with translated(self.path) as watch:
            cursor = self.db.cursor()
            try:
                cursor.execute(self._begin)
                answer = verb(cursor)
                watch.committing = True
                # The same cursor: a statement that is not read to its end would block the commit.
                cursor.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    cursor.execute("ROLLBACK")
                raise
            finally:
                # Not left to the collector: an error that somebody keeps would keep it open.
                cursor.close(force=True)
            return answer

    def run_plain(self, verb: Verb[T]) -> T:
        """Run one reading verb without a transaction.

        Raises StoreCorrupt if the file was moved away or replaced: what is written from now on
        would be lost to everybody who opens the database by its name.
        """
        if file_identity(self.path) != self._file:
            message = f"{self.path} was moved, removed or replaced while it was in use"
            hint = "stop every node before a backup is put in place, then start them again"
            raise StoreCorrupt(message, hint=hint)
        with translated(self.path):
            return verb(self.db.cursor())

    def run_group(self, verbs: list[Verb[Any]]) -> list[Any]:
        """Run several verbs in one transaction; a verb that refuses undoes only itself.

        An answer is a value, or the error. Raises StoreError if none of it was kept.
        """

        def together(cursor: apsw.Cursor) -> list[Any]:
            return [self._nested(cursor, verb) for verb in verbs]

        return self.run(together)

    def _nested(self, cursor: apsw.Cursor, verb: Verb[Any]) -> Any:
        cursor.execute("SAVEPOINT verb")
        try:
            with translated(self.path):
                answer = verb(cursor)
        except EverbellError as error:
            if isinstance(error, StoreError) and isinstance(error.__cause__, apsw.Error):
                raise  # the connection itself is in trouble: nothing of the group is kept
            cursor.execute("ROLLBACK TO verb")
            cursor.execute("RELEASE verb")
            return error
        cursor.execute("RELEASE verb")
        return answer


class _Call(NamedTuple):
    verb: Verb[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    plain: bool


class _Caught:
    """Keeps an error of this thread, to be raised where the call was made: none is swallowed."""

    error: BaseException | None = None

    def __enter__(self) -> _Caught:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> bool:
        self.error = error
        return True


class Worker:
    """A thread that runs verbs in the order in which they were asked for."""

    def __init__(self, transaction: Transaction, name: str, *, group: bool) -> None:
        self._transaction = transaction
        self._group = GROUP_MAX if group else 1
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=False)
        self._thread.start()

    async def call(self, verb: Verb[T], *, plain: bool = False) -> T:
        """Run ``verb`` in the thread, in a transaction unless ``plain``.

        Raises StoreUnavailable once closed.
        """
        if self._closed:
            message = f"the database is closed: {self._transaction.path}"
            raise StoreUnavailable(message, hint="the node is stopping; start it again")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._calls.put(_Call(verb, loop, future, plain))
        return await future

    async def close(self) -> None:
        """Let the calls that wait finish, then close the connection."""
        if not self._closed:
            self._closed = True
            self._calls.put(None)
        if self._thread.is_alive():
            try:
                await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
            except RuntimeError:
                # The interpreter ends and starts no thread any more: wait here.
                self._thread.join()

    def _serve(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._take()
            if batch:
                self._answer(batch)
        self._transaction.db.close()

    def _take(self) -> tuple[list[_Call], bool]:
        batch: list[_Call] = []
        call = self._calls.get()
        while call is not None:
            batch.append(call)
            if len(batch) == self._group:
                return batch, True
            try:
                call = self._calls.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _answer(self, batch: list[_Call]) -> None:
        answers: list[Any] | None = None
        if len(batch) > 1 and not any(call.plain for call in batch):
            with _Caught() as caught:
                answers = self._transaction.run_group([call.verb for call in batch])
            if isinstance(caught.error, StoreUnknownOutcome):
                answers = [caught.error] * len(batch)
            # Any other error undid the transaction: each by itself tells whose fault it was.
        if answers is None:
            answers = [self._single(call) for call in batch]
        _deliver(batch, answers)

    def _single(self, call: _Call) -> Any:
        run = self._transaction.run_plain if call.plain else self._transaction.run
        with _Caught() as caught:
            return run(call.verb)
        return caught.error


def _deliver(batch: list[_Call], answers: list[Any]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for call, answer in zip(batch, answers, strict=True):
        by_loop.setdefault(call.loop, []).append((call.future, answer))
    for loop, done in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, done)
        except RuntimeError:
            # That loop has ended: nobody waits for the answer any more.
            continue


def _resolve(done: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, answer in done:
        if future.done():
            continue
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)

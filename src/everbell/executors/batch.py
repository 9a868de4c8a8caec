"""Batches: runs that ask for the same request within a moment share one.

A chunk is one request. It gathers runs until it is full or the window is over, then it is sent;
its outcome is the outcome of every run that still waits for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import NamedTuple

from yarl import URL

from everbell.config.schema import Callbacks
from everbell.domain.errors import RefusedError
from everbell.domain.job import US, HttpAction
from everbell.domain.run import Outcome, Run
from everbell.executors import callback
from everbell.executors.http_bounds import Bounds, interrupted
from everbell.executors.http_exchange import Exchange, Request, Sealed
from everbell.executors.http_words import where
from everbell.ports.clock import Clock
from everbell.ports.executor import Assignment, OutputSink

BATCH_KEEP = 4 * 1024
"""Bytes of a chunk's answer that are kept, once for each of its runs."""

Key = tuple[str, str, tuple[tuple[str, str], ...], tuple[str, ...], str, bytes]


class Shared(NamedTuple):
    """What all runs of a chunk agree in."""

    action: HttpAction
    target: URL
    is_success: Callable[[int], bool]
    secret: bytes


class Member:
    """One run of a chunk: its element of the array, and where its outcome is awaited."""

    __slots__ = ("element", "ended", "holds", "run", "sink", "timeout_s")

    def __init__(self, work: Assignment, element: bytes, sink: OutputSink) -> None:
        self.run = work.run
        self.holds = work.holds
        self.timeout_s = work.timeout_s
        self.element = element
        self.sink = sink
        self.ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()


class Chunk:
    """One request in the making, or on its way. It is the sink of its answer."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.members: dict[Member, None] = {}
        self.size = 2
        self.closed = asyncio.Event()
        self.sent = 0
        self.late = False
        self.held = True
        self.task: asyncio.Task[Outcome] | None = None

    def fits(self, element: bytes, most: int, limit: int) -> bool:
        """Return whether one more element keeps the chunk within number and bytes."""
        return len(self.members) < most and self.size + len(element) + 1 <= limit

    def add(self, member: Member) -> None:
        """Take a run in."""
        self.size += len(member.element) + (1 if self.members else 0)
        self.members[member] = None

    async def drop(self, member: Member, *, late: bool) -> None:
        """Let a run go; when it was the last, the request is given up."""
        if self.members.pop(member, 0) == 0:
            return
        if not self.sent:
            self.size -= len(member.element) + (1 if self.members else 0)
        if not self.members and self.task is not None:
            self.late = late
            self.task.cancel()
            await asyncio.wait({self.task})

    def holds(self) -> bool:
        """Return whether every run is surely still this node's: else the chunk is not sent."""
        self.held = all(member.holds() for member in self.members)
        if not self.held:
            self.sent = 0
        return self.held

    def write(self, stream: str, data: bytes) -> None:
        """Hand a piece of the answer to every run."""
        for member in self.members:
            member.sink.write(stream, data)

    def end(self, task: asyncio.Task[Outcome]) -> None:
        """Hand the outcome to every run that waits for it."""
        members, self.members = list(self.members), {}
        closing = Outcome(state="cancelled", error="the node stops")
        for member in members:
            if task.cancelled():
                member.ended.set_result(closing)
            elif error := task.exception():
                member.ended.set_exception(error)
            else:
                member.ended.set_result(task.result())


class Batcher:
    """Puts runs into chunks and sends them. A chunk's size is bounded in runs and in bytes."""

    def __init__(
        self, callbacks: Callbacks, clock: Clock, exchange: Exchange, user_agent: str
    ) -> None:
        self._callbacks = callbacks
        self._clock = clock
        self._exchange = exchange
        self._user_agent = user_agent
        self._limit = int(callbacks.payload_max_mb * 1024 * 1024)
        self._open: dict[Key, Chunk] = {}
        self._chunks: set[Chunk] = set()

    async def run(
        self, work: Assignment, shared: Shared, cancel: asyncio.Event, sink: OutputSink
    ) -> Outcome:
        """Perform one attempt inside a chunk. Raises RefusedError if it fits into none."""
        element = callback.body_of(work)
        if len(element) + 2 > self._limit:
            raise callback.too_large(len(element) + 2, self._callbacks.payload_max_mb)
        member = Member(work, element, sink)
        chunk = self._join(work, shared, member)
        bounds = Bounds(cancel, work.timeout_s)
        try:
            outcome = await bounds.keep(member.ended)
        finally:
            await chunk.drop(member, late=bounds.late)
        if outcome is not None:
            return outcome
        place = where(shared.target)
        if not bounds.late and chunk.sent > 1:
            told = f"cancelled; {place} had been told of it, with {chunk.sent - 1} others"
            return Outcome(state="cancelled", error=told)
        return interrupted(bounds, place, work.timeout_s, held=chunk.held)

    async def close(self) -> None:
        """Give up all chunks; their runs end as cancelled. May be called twice."""
        tasks = [chunk.task for chunk in self._chunks if chunk.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _join(self, work: Assignment, shared: Shared, member: Member) -> Chunk:
        key = _key(work, shared)
        chunk = self._open.get(key)
        if chunk is not None and not chunk.fits(
            member.element, self._callbacks.batch_max, self._limit
        ):
            self._close(key, chunk)
            chunk = None
        if chunk is None:
            chunk = self._open[key] = Chunk(shared)
            self._chunks.add(chunk)
            chunk.task = asyncio.ensure_future(self._drive(key, chunk))
            chunk.task.add_done_callback(chunk.end)
        chunk.add(member)
        if len(chunk.members) >= self._callbacks.batch_max:
            self._close(key, chunk)
        return chunk

    def _close(self, key: Key, chunk: Chunk) -> None:
        if self._open.get(key) is chunk:
            del self._open[key]
        chunk.closed.set()

    async def _drive(self, key: Key, chunk: Chunk) -> Outcome:
        try:
            await self._gather(chunk)
            self._close(key, chunk)
            return await self._send(chunk)
        except RefusedError as error:
            return Outcome(state="failed", error=error.message, reason="refused", retryable=False)
        finally:
            self._close(key, chunk)
            self._chunks.discard(chunk)

    async def _gather(self, chunk: Chunk) -> None:
        """Wait until the chunk is full, the window is over, or a part of it brought nobody."""
        window_s = self._callbacks.batch_window
        if window_s <= 0:
            await self._clock.sleep(0)
            return
        for _ in range(_PARTS):
            here = len(chunk.members)
            try:
                async with asyncio.timeout(window_s / _PARTS):
                    await chunk.closed.wait()
                return
            except TimeoutError:
                if len(chunk.members) == here:
                    return

    async def _send(self, chunk: Chunk) -> Outcome:
        shared = chunk.shared
        request = Request(
            method=shared.action.method,
            target=shared.target,
            seal=lambda: self._seal(chunk),
            is_success=shared.is_success,
            patience_s=max(member.timeout_s for member in chunk.members),
            late=lambda: chunk.late,
            keep=BATCH_KEEP,
            holds=chunk.holds,
        )
        return await self._exchange.send(request, chunk)

    def _seal(self, chunk: Chunk) -> Sealed:
        chunk.sent = len(chunk.members)
        shared = chunk.shared
        body = b"[" + b",".join(member.element for member in chunk.members) + b"]"
        name = chunk_id(shared.secret, (member.run for member in chunk.members))
        now_s = self._clock.now_us() // US
        own = callback.chunk_headers(name, shared.action.headers, shared.secret, body, now_s)
        headers = {"accept-encoding": "identity", "user-agent": self._user_agent} | own
        return Sealed(headers, body)


_PARTS = 4


def _key(work: Assignment, shared: Shared) -> Key:
    action = shared.action
    headers = tuple(sorted(action.headers.items()))
    return (
        action.url,
        action.method,
        headers,
        action.success,
        work.project_uuid,
        work.webhook_secret,
    )


def chunk_id(secret: bytes, runs: Iterable[Run]) -> str:
    """Return a name that no other chunk has: it stands for the attempts that the chunk holds.

    Each claim of a run has a token of its own, so the same attempts never come twice; the secret
    keeps two servers apart.
    """
    told = "\n".join(f"{run.id} {run.attempt} {run.token}" for run in runs)
    return "chunk-" + hmac.digest(secret, told.encode(), hashlib.sha256)[:16].hex()

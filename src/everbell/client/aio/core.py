"""Sending, repeating, paging and following: what every method of the client is made of."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import msgspec

from everbell.client import wire
from everbell.client.aio.transport import AsyncTransport
from everbell.client.errors import AnswerLost, ApiError, NotFound, Problem, Unreachable, api_error
from everbell.client.records import End, Output, Page, Run

T = TypeVar("T")
_TRANSIENT = frozenset(("store_unavailable", "store_error", "store_conflict", "not_ready"))


class AsyncCore:
    """A server as seen by one key."""

    def __init__(self, at: wire.Options, transport: AsyncTransport) -> None:
        self.at = at
        self.transport = transport

    async def data(self, ask: wire.Ask, kind: type[T]) -> T:
        """Return the answer's data as records. Raises ClientError."""
        found: T = wire.data(await self.reply(ask), kind)
        return found

    async def nothing(self, ask: wire.Ask) -> None:
        """Send what has no answer but that it was done. Raises ClientError."""
        await self.reply(ask)

    async def reply(self, ask: wire.Ask) -> wire.Reply:
        """Send, and send again where that can do no harm. Raises ClientError."""
        request = wire.request(self.at, ask)
        lost = False
        for attempt in range(self.at.retries + 1):
            last = attempt == self.at.retries
            asked_s = None
            try:
                reply = await self.transport.send(request)
            except Unreachable:
                if last:
                    raise
            except AnswerLost:
                lost = True
                if last or not request.repeatable:
                    raise
            else:
                if 200 <= reply.status < 300:
                    return reply
                error = wire.refusal(reply)
                if lost and request.method == "DELETE" and isinstance(error, NotFound):
                    # Gone, as was asked: by the request whose answer was lost.
                    return reply
                if last or not wire.worth_repeating(request, error):
                    raise error
                asked_s = error.retry_after_s
            await self.pause(attempt, asked_s)
        raise AssertionError("the last attempt returns or raises")

    async def pause(self, attempt: int, asked_s: float | None = None) -> None:
        """Wait before a repetition."""
        await self.transport.sleep(wire.pause_s(attempt, self.transport.chance(), asked_s))

    async def follow(
        self, run: object, attempt: int | None, after: str
    ) -> AsyncGenerator[Output | End]:
        """Yield a run's output and its end, over connections that break. Raises ClientError."""
        failed = 0
        while True:
            try:
                async with aclosing(self._events(run, attempt, after)) as events:
                    async for event in events:
                        failed = 0
                        if isinstance(event, Output):
                            after = event.id
                        yield event
                        if isinstance(event, End):
                            return
                raise AnswerLost("the stream ended before the run did")
            except (Unreachable, AnswerLost):
                if failed == self.at.retries:
                    raise
                asked_s = None
            except ApiError as error:
                passing = error.status in wire.RETRY_CODES or error.code in _TRANSIENT
                if failed == self.at.retries or not passing:
                    raise
                asked_s = error.retry_after_s
            await self.pause(failed, asked_s)
            failed += 1

    async def _events(
        self, run: object, attempt: int | None, after: str
    ) -> AsyncGenerator[Output | End]:
        headers = {"accept": "text/event-stream", "last-event-id": after}
        query = {"follow": True, "attempt": attempt}
        request = wire.request(self.at, wire.Ask("runs_output", run, query=query, headers=headers))
        parser = wire.Events()
        async with self.transport.stream(request) as answer:
            if answer.status != 200:
                raise wire.refusal(await answer.reply())
            async with aclosing(answer.chunks()) as chunks:
                async for chunk in chunks:
                    for event in parser.feed(chunk):
                        yield read(event)


def read(event: wire.Event) -> Output | End:
    """Return an event as a record. Raises ApiError for one that tells an error."""
    if event.name == "output":
        return msgspec.structs.replace(wire.decode_event(event, Output), id=event.id)
    if event.name == "end":
        return End(run=wire.decode_event(event, Run))
    problem = wire.decode_event(event, Problem)
    status = 401 if problem.code == "unauthenticated" else 503
    raise api_error(status, msgspec.json.encode(problem))


class AsyncPages(Generic[T]):
    """A list that is fetched page by page while it is read: ``async for item in ...``."""

    def __init__(self, core: AsyncCore, ask: wire.Ask, kind: type[T]) -> None:
        self._core = core
        self._ask = ask
        self._kind = kind

    async def first(self) -> Page[T]:
        """Fetch only the first page."""
        return wire.page(await self._core.reply(self._ask), self._kind)

    async def pages(self) -> AsyncGenerator[Page[T]]:
        """Fetch page after page."""
        ask = self._ask
        while True:
            page: Page[T] = wire.page(await self._core.reply(ask), self._kind)
            yield page
            query: dict[str, Any] | None = wire.following(ask.query, page)
            if query is None:
                return
            ask = ask._replace(query=query)

    async def __aiter__(self) -> AsyncGenerator[T]:
        """Yield every item."""
        async for page in self.pages():
            for item in page.items:
                yield item

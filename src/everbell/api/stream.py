"""A run's output: at once as text, or live as server-sent events."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import msgspec

from everbell.api import views
from everbell.api.call import Call
from everbell.domain.errors import EverbellError
from everbell.domain.job import Job
from everbell.domain.run import FINAL, Run
from everbell.ports.store import OutputChunk
from everbell.services.context import Services
from everbell.services.credentials import still_good
from everbell.services.runs import output

POLL_S = 0.25
RECHECK_S = 1.0
"""How long a key that was revoked may still follow."""

KEEP_ALIVE_S = 15.0
"""Proxies cut connections that stay silent; a comment line keeps them."""


async def plain(services: Services, run: Run, attempt: int, offset: int) -> AsyncIterator[bytes]:
    """Yield an attempt's output from a byte offset on."""
    while True:
        chunks = await output(services, run, attempt, offset)
        fresh = list(_from(chunks, offset))
        if not fresh:
            return
        for at, chunk, data in fresh:
            yield data
            offset = max(at + len(data), chunk.offset + len(chunk.data))


async def follow(
    call: Call, run: Run, job: Job | None, *, start: tuple[int, int], only: int | None
) -> AsyncGenerator[bytes]:
    """Yield ``output`` events until the run is final, then one ``end`` event with the run.

    An event's id is the attempt and the byte offset after it, as ``2-4096``: with a new attempt
    the offset starts again at 0. As Last-Event-ID it resumes without a gap, over retries too;
    ``start`` is such a pair. ``only`` ends with that attempt. A key that is revoked or expires
    meanwhile ends the stream with an ``error`` event.
    """
    services = call.services
    attempt, at = start
    decoders = _Decoders()
    silent_s, unchecked_s = 0.0, 0.0
    # Servers send the headers with the first bytes: do not let the client wait for output.
    yield b": following\n\n"
    try:
        while True:
            # Read the state before the output: what is final then has no more to come.
            run = await services.store.get_run(run.key)
            wrote = False
            async for event, end in _events(services, run, attempt, at, decoders):
                wrote, at = True, end
                yield event
            if run.attempt > attempt and only is None and not wrote:
                attempt, at, decoders = attempt + 1, 0, _Decoders()
                continue
            if not wrote and (run.state in FINAL or run.attempt > attempt):
                yield _event("end", views.run(run, job), None)
                return
            silent_s = 0.0 if wrote else silent_s + POLL_S
            if silent_s >= KEEP_ALIVE_S:
                silent_s = 0.0
                yield b": still here\n\n"
            if not wrote:
                await services.clock.sleep(POLL_S)
            unchecked_s += POLL_S
            if unchecked_s >= RECHECK_S:
                unchecked_s = 0.0
                await still_good(services, call.actor)
    except EverbellError as error:
        # The answer has begun: say in the stream why it ends.
        yield _event("error", {"code": error.code, "detail": error.message}, None)


class _Decoders:
    """One incremental UTF-8 decoder per stream: chunks may end inside a character."""

    def __init__(self) -> None:
        self._make = codecs.getincrementaldecoder("utf-8")
        self._by_stream: dict[str, codecs.IncrementalDecoder] = {}

    def decode(self, stream: str, data: bytes) -> str:
        """Return the text that is complete now; bytes that are no UTF-8 become U+FFFD."""
        decoder = self._by_stream.setdefault(stream, self._make(errors="replace"))
        return decoder.decode(data)


async def _events(
    services: Services, run: Run, attempt: int, offset: int, decoders: _Decoders
) -> AsyncIterator[tuple[bytes, int]]:
    for at, chunk, data in _from(await output(services, run, attempt, offset), offset):
        end = at + len(data)
        text = decoders.decode(chunk.stream, data)
        shown = {"attempt": attempt, "offset": at, "stream": chunk.stream, "text": text}
        yield _event("output", shown, f"{attempt}-{end}"), end


def _from(chunks: list[OutputChunk], offset: int) -> list[tuple[int, OutputChunk, bytes]]:
    """Cut away what lies before the offset."""
    fresh = []
    for chunk in chunks:
        skip = max(0, offset - chunk.offset)
        if skip < len(chunk.data):
            fresh.append((chunk.offset + skip, chunk, chunk.data[skip:]))
    return fresh


def _event(name: str, data: Any, number: str | None) -> bytes:
    head = f"event: {name}\n" + ("" if number is None else f"id: {number}\n")
    return head.encode() + b"data: " + msgspec.json.encode(data) + b"\n\n"

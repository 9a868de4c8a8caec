"""Bounds of connections that send nothing, or slowly: they can't take a node's API away."""

from __future__ import annotations

import asyncio
import resource
from asyncio import TimerHandle
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from everbell.config.schema import Server

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-length: 0\r\n\r\n"
)


def most_connections(settings: Server) -> int:
    """Return how many connections there may be: half of the descriptors are for other things."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return settings.max_connections
    return max(1, min(settings.max_connections, soft // 2))


class Bounded(HttpToolsProtocol):
    """A connection. It is idle until a request's head is whole, and after each answer.

    Where there are too many, the one that has been idle for longest makes room. Without an idle
    one the newcomer is told to come back.
    """

    most: ClassVar[int]
    head_s: ClassVar[float]
    idle: ClassVar[dict[Bounded, None]]
    _head_timer: TimerHandle | None = None
    _begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.idle[self] = None
        self._expect_head()
        if len(self.connections) > self.most:
            oldest = next(iter(self.idle))
            if oldest is self:
                transport.write(_BUSY)
            oldest.leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._settle()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Give the head of a further request its time too."""
        super().on_message_begin()
        self._begun = True
        if self in self.idle and self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """Begin to work."""
        self._begun = False
        self._settle()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Be idle, unless another request is here already."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self.idle[self] = None
            if self._begun:
                self._expect_head()

    def leave(self) -> None:
        """Close an idle connection."""
        self._settle()
        if not self.transport.is_closing():
            self.transport.close()

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_s, self.leave)

    def _settle(self) -> None:
        self.idle.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def bounded_protocol(settings: Server) -> type[Bounded]:
    """Return the protocol for the connections of one server."""

    class Here(Bounded):
        most = most_connections(settings)
        head_s = settings.header_timeout
        idle: ClassVar[dict[Bounded, None]] = {}

    return Here

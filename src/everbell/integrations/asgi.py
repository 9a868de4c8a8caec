"""Everbell beside an ASGI application: started and stopped by its lifespan, its API mounted."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from everbell.domain.errors import EverbellError
from everbell.integrations.host import Host

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class AsgiApp:
    """The HTTP API of a program's node. Served alone, it starts and stops the node itself."""

    def __init__(self, everbell: Host) -> None:
        self._everbell = everbell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or run the lifespan."""
        if scope["type"] == "lifespan":
            await _Lifespan(self._everbell, receive, send).alone()
            return
        node = self._everbell.node
        if node is not None:
            await node.api(scope, receive, send)
        elif scope["type"] == "http":
            await _unavailable(send)


class EverbellMiddleware:
    """Runs a node for as long as the wrapped application's lifespan lasts.

    For ``add_middleware(EverbellMiddleware, everbell=app)``, and for applications that take no
    lifespan, or have none (Django).
    """

    def __init__(self, app: ASGIApp, everbell: Host) -> None:
        self._inner = app
        self._everbell = everbell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on; start and stop the node in between."""
        if scope["type"] != "lifespan":
            await self._inner(scope, receive, send)
            return
        await _Lifespan(self._everbell, receive, send).around(self._inner, scope)


class _Lifespan:
    """One lifespan: the node starts before the application and stops after it."""

    def __init__(self, everbell: Host, receive: Receive, send: Send) -> None:
        self._everbell = everbell
        self._receive = receive
        self._send = send
        self._stack = contextlib.AsyncExitStack()
        self._answered = False

    async def alone(self) -> None:
        """Be the whole lifespan."""
        if not await self._start():
            return
        await self._send({"type": "lifespan.startup.complete"})
        await self._receive()
        await self._stack.aclose()
        await self._send({"type": "lifespan.shutdown.complete"})

    async def around(self, inner: ASGIApp, scope: Scope) -> None:
        """Let the application have its lifespan inside of ours."""
        started = False

        async def receive() -> Message:
            nonlocal started
            message = await self._receive() if started else {"type": "lifespan.startup"}
            started = True
            return message

        async def send(message: Message) -> None:
            self._answered = True
            if message["type"] != "lifespan.startup.complete":
                await self._stack.aclose()
            await self._send(message)

        if not await self._start():
            return
        try:
            await inner(scope, receive, send)
        except Exception:
            if self._answered:
                await self._stack.aclose()
                raise
            # The application has no lifespan (ASGI: it raises): ours goes on without it.
            await self._send({"type": "lifespan.startup.complete"})
            await self._receive()
            await self._stack.aclose()
            await self._send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> bool:
        await self._receive()
        try:
            await self._stack.enter_async_context(self._everbell.running())
        except EverbellError as error:
            hint = f" ({error.hint})" if error.hint else ""
            await self._send(
                {"type": "lifespan.startup.failed", "message": f"{error.message}{hint}"}
            )
            return False
        return True


async def _unavailable(send: Send) -> None:
    body = b'{"success": false, "code": "not_ready", "detail": "the node does not run"}'
    headers: list[Any] = [(b"content-type", b"application/problem+json"), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""The listener and the HTTP server of a node, which start and stop inside of its loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import uvicorn

from everbell.api.connections import bounded_protocol
from everbell.config.schema import Settings
from everbell.domain.errors import ConfigError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

DRAIN_S = 3
"""Seconds that open API requests (followed logs) have when the server stops."""


def listen(settings: Settings) -> socket.socket:
    """Bind the API's port. Raises ConfigError that names the key to change."""
    server = settings.server
    listener: socket.socket | None = None
    try:
        family = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family[0], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(family[4])
        listener.listen(1024)
    except OSError as error:
        if listener is not None:
            listener.close()
        message = f"can't listen on {server.host}:{server.port}: {error.strerror or error}"
        raise ConfigError(message, hint=_listen_hint(error)) from error
    listener.setblocking(False)
    return listener


def _listen_hint(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "server.host must be an address of this machine, such as 127.0.0.1 or 0.0.0.0"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "ports below 1024 need special rights: choose another server.port"
    return "is a node running already? choose another server.port or server.host"


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the node decides when to stop.

    ``up`` is called once requests are answered.
    """

    def __init__(self, config: uvicorn.Config, up: Callable[[], None]) -> None:
        super().__init__(config)
        self._up = up

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets=sockets)
        self._up()


def server_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn is to run: in our loop, with our log, without signal handlers."""
    return uvicorn.Config(
        app,
        loop="none",
        lifespan="off",
        log_config=None,
        log_level=_server_log_level(settings),
        access_log=settings.log.level == "DEBUG",
        server_header=False,
        http=bounded_protocol(settings.server),
        timeout_graceful_shutdown=DRAIN_S,
    )


def _server_log_level(settings: Settings) -> int:
    """Each request is told at DEBUG, else only what went wrong."""
    return logging.INFO if settings.log.level == "DEBUG" else logging.WARNING


async def serve_until(
    server: Server, listener: socket.socket, stop: asyncio.Event, failed: asyncio.Event
) -> None:
    """Answer requests until one of the events is set, then let open ones end."""
    if stop.is_set():
        listener.close()
        return
    loop = asyncio.get_running_loop()
    serving = loop.create_task(server.serve(sockets=[listener]))
    waits = [
        loop.create_task(stop.wait()),
        loop.create_task(failed.wait()),
    ]
    try:
        await asyncio.wait([serving, *waits], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        server.should_exit = True
        await serving

"""Processes: a node of its own, and one inside of another program."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

import uvloop

from everbell.api.serving import Server, listen, serve_until, server_config
from everbell.config.loader import Loaded
from everbell.config.secrets import (
    Secrets,
)
from everbell.engine.node import NodeEngine
from everbell.services.context import Services
from everbell.telemetry.clock import SystemClock
from everbell.telemetry.metered import watch_loop
from everbell.telemetry.metrics import Metrics
from everbell.telemetry.signals import catch_signals
from everbell.telemetry.systemd import Supervisor

if TYPE_CHECKING:
    from starlette.types import ASGIApp


from everbell.bootstrap.assembly import Program, assemble, close_traces
from everbell.bootstrap.storage import outside_of

log = logging.getLogger(__name__)

SWITCH_S = 0.001
"""How long the store's thread may keep the interpreter from the loop, in seconds.

Measured (10,000 async jobs due at once): 16,700 starts/s where Python's 5 ms gave 6,800.
"""


class Embedded(NamedTuple):
    """A node inside of another program, and its API, which nothing listens for."""

    engine: NodeEngine
    services: Services
    api: ASGIApp


@contextlib.asynccontextmanager
async def embedded(loaded: Loaded, secrets: Secrets, program: Program) -> AsyncIterator[Embedded]:
    """Run a node in this loop, with no listener and no signal handler, until the block ends."""
    async with outside_of(loaded, secrets) as outside:
        engine, app, services = assemble(loaded.settings, secrets, outside, "", program)
        await program.prepare(services)
        await engine.start()
        try:
            yield Embedded(engine, services, app)
        finally:
            await engine.stop()
            await close_traces(engine)


def run_embedded(main: Coroutine[Any, Any, int]) -> int:
    """Run a program on the fast loop if it is there, else on asyncio's."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def calm_collector() -> None:
    """Look for cycles less often, for a process that is all ours.

    Runs and callbacks die by their reference counts; looking for cycles after each 700 objects
    took a fifth of the time of a storm of callbacks (bench/http_bench.py).
    """
    gc.set_threshold(10_000, 10, 10)


def run_node(
    loaded: Loaded,
    secrets: Secrets,
    ready: Callable[[str], None],
    program: Program | None = None,
) -> int:
    """Run a node until it is told to stop; return the exit code.

    ``ready`` is called with the address once API and engine are up.
    """
    calm_collector()
    sys.setswitchinterval(SWITCH_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(loaded, secrets, ready, program))


async def _serve(
    loaded: Loaded, secrets: Secrets, ready: Callable[[str], None], program: Program | None
) -> int:
    settings = loaded.settings
    stop, supervisor = asyncio.Event(), Supervisor(os.environ)
    # Before anything is opened: from here on a signal ends the node in good order.
    catch_signals(stop, log_file=bool(settings.log.file))
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    address = f"{settings.server.protocol}://{host}:{port}"
    async with outside_of(loaded, secrets) as outside:
        engine, app, services = assemble(settings, secrets, outside, address, program)
        if program is not None:
            await program.prepare(services)
        await engine.start()
        try:

            def up() -> None:
                log.info("the node listens on %s", address)
                supervisor.tell("READY=1", f"STATUS=listens on {address}")
                ready(address)

            async with _watched(supervisor, engine):
                server = Server(server_config(app, settings), up)
                await serve_until(server, listener, stop, engine.failed)
            grace_s = settings.execution.shutdown_grace
            supervisor.tell("STOPPING=1", f"STATUS=what runs has {grace_s:g} s to end")
            log.info("the node stops: nothing new starts, what runs has %g s", grace_s)
        finally:
            await engine.stop()
            await close_traces(engine)
    if engine.failure:
        log.error("the node stopped because a part of it failed: %s", engine.failure)
    return 1 if engine.failure else 0


@contextlib.asynccontextmanager
async def _watched(supervisor: Supervisor, engine: NodeEngine) -> AsyncIterator[None]:
    clock, loop = SystemClock(), asyncio.get_running_loop()
    watches = [loop.create_task(supervisor.watch(clock, lambda: not engine.failed.is_set()))]
    if isinstance(engine.world.observer, Metrics):
        watches.append(loop.create_task(watch_loop(clock, engine.world.observer)))
    try:
        yield
    finally:
        for watch in watches:
            watch.cancel()

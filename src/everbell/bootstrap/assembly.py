"""A node and its API, put together from the settings."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from everbell import __version__
from everbell.api.app import create_app
from everbell.api.routes_metrics import metrics_route
from everbell.config.schema import Settings
from everbell.config.secrets import (
    Secrets,
)
from everbell.engine.clockwatch import MendedClock
from everbell.engine.heartbeat import Identity
from everbell.engine.messenger import Lines
from everbell.engine.node import NodeEngine, World
from everbell.executors.output import BoundedSink
from everbell.executors.registry import build_executors
from everbell.ports.destinations import DestinationMeter
from everbell.ports.functions import Functions
from everbell.ports.wakeups import Belled
from everbell.services import run_input
from everbell.services.context import Services
from everbell.telemetry.clock import SystemClock, SystemEntropy
from everbell.telemetry.instruments import Instruments, open_instruments
from everbell.telemetry.load import SystemLoad
from everbell.telemetry.metrics import Metrics, Reading
from everbell.telemetry.traces import Traces
from everbell.telemetry.zone_rules import rules_version

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp

    from everbell.ports.store import Store
    from everbell.queues.redis import RedisParts


class Program(NamedTuple):
    """Code that a node runs: its functions, and what is to be done before the node starts."""

    functions: Functions
    prepare: Callable[[Services], Awaitable[None]]


def assemble(
    settings: Settings,
    secrets: Secrets,
    outside: tuple[Store, RedisParts | None],
    address: str,
    program: Program | None,
) -> tuple[NodeEngine, ASGIApp, Services]:
    """Return a node that is not started, its API, and the use cases behind both."""
    clock, entropy = SystemClock(), SystemEntropy()
    store, redis = outside
    identity = _identity(settings, address)
    instruments = open_instruments(settings.telemetry, identity.name, __version__)
    lines = _lines(store, redis)
    store = instruments.over(store, clock)
    functions = program.functions if program is not None else None
    inputs = partial(run_input.read, store)
    messages = redis.messages if redis is not None else None
    executors = build_executors(settings, clock, __version__, functions, inputs, queues=messages)
    world = World(
        store=store,
        clock=clock,
        entropy=entropy,
        load=SystemLoad(),
        executors=executors,
        new_sink=lambda: BoundedSink(settings.execution.output_bytes),
        secret_key=secrets.key,
        observer=instruments.metrics,
        tracer=instruments.traces,
        lines=lines,
    )
    engine = NodeEngine(settings, world, identity)
    services = Services(
        store=store,
        clock=MendedClock(clock, engine.heartbeat.clockwatch),
        entropy=entropy,
        settings=settings,
        secret_key=secrets.key,
        checks={kind: executor.check for kind, executor in executors.items()},
        hints=engine,
    )
    return engine, _face(engine, services, instruments), services


def _lines(store: Store, redis: RedisParts | None) -> Lines:
    """Return what connects the node to others besides the store."""
    bells = (store.wakeups(),) if isinstance(store, Belled) else ()
    if redis is None:
        return Lines(wakeups=bells)
    return Lines(redis.ready, (redis.wakeups, *bells), redis.registry)


def _face(engine: NodeEngine, services: Services, instruments: Instruments) -> ASGIApp:
    """Return the API of a node, with ``/metrics`` if it counts."""

    def ready() -> str:
        return _unready(engine)

    metrics = instruments.metrics
    exposition = instruments.exposition(lambda: _reading(engine, app), __version__)
    if metrics is None or exposition is None:
        app = create_app(services, ready=ready, notices=engine.notices)
        return app
    names = partial(_names_of_jobs, engine, metrics)

    async def render(accept: str) -> tuple[bytes, str]:
        return exposition.text(accept, await names())

    route = metrics_route(services, render)
    app = create_app(
        services,
        ready=ready,
        notices=engine.notices,
        answered=metrics.answered,
        extra_routes=[route],
    )
    return app


async def _names_of_jobs(engine: NodeEngine, metrics: Metrics) -> dict[int, tuple[str, str]]:
    found: dict[int, tuple[str, str]] = {}
    for job in await engine.world.store.get_jobs(metrics.jobs()):
        project = await engine.catalog.project(job.project_id)
        found[job.id] = (project.name if project is not None else "", job.name)
    return found


def _reading(engine: NodeEngine, app: Starlette) -> Reading:
    """Return what the node is now, for ``/metrics``."""
    states = engine.health()
    places = [
        place
        for executor in engine.world.executors.values()
        if isinstance(executor, DestinationMeter)
        for place in executor.destinations()
    ]
    return Reading(
        live=len(engine.execution.live),
        waiting=len(engine.execution),
        timed=len(engine.firing.timers),
        ending=len(engine.finisher.keys()),
        workers=engine.execution.workers,
        lease_age_s=engine.heartbeat.age_s(),
        lease_s=engine.settings.node.lease,
        healthy={one.name: states[one.name] == "ok" for one in engine.services()},
        throttled=bool(engine.heartbeat.throttled),
        destinations=places,
        followers=app.state.limits.followers,
    )


async def close_traces(engine: NodeEngine) -> None:
    """Send what spans there still are."""
    if isinstance(engine.world.tracer, Traces):
        await asyncio.to_thread(engine.world.tracer.close)


def _unready(engine: NodeEngine) -> str:
    """Say why callers should go to another node; a busy one still serves its API.

    So does one with something to tell: it is shown with the nodes.
    """
    states = {**engine.health(), **dict.fromkeys(("load", *engine.notices()), "ok")}
    return "; ".join(f"{part}: {state}" for part, state in states.items() if state != "ok")


def _identity(settings: Settings, address: str) -> Identity:
    host = socket.gethostname()
    return Identity(
        name=settings.node.name or f"{host}:{address.rpartition(':')[2] or os.getpid()}",
        host=host,
        pid=os.getpid(),
        version=__version__,
        workers=settings.engine.max_workers,
        address=address,
        roles=settings.node.roles,
        tzdata=rules_version(),
    )

"""The composition root: the only place that names concrete adapters."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import uvloop

from everbell import __version__, queues
from everbell.api.app import create_app
from everbell.api.routes_metrics import metrics_route
from everbell.api.serving import Server, listen, serve_until, server_config
from everbell.config.loader import Loaded, without_password
from everbell.config.schema import Settings
from everbell.config.secrets import (
    Secrets,
    create_secrets,
    load_secrets,
    new_secret_key,
    require_secrets,
)
from everbell.domain.errors import ConfigError, ConflictError, EverbellError
from everbell.domain.secrets import key_check
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
from everbell.services.projects import make_default
from everbell.stores.memory import MemoryStore
from everbell.stores.sqlite import SqliteStore, giving
from everbell.stores.sqlite import backup as sqlite_backup
from everbell.stores.sqlite import checkup as sqlite_checkup
from everbell.telemetry.clock import SystemClock, SystemEntropy
from everbell.telemetry.instruments import Instruments, open_instruments
from everbell.telemetry.load import SystemLoad
from everbell.telemetry.metered import watch_loop
from everbell.telemetry.metrics import Metrics, Reading
from everbell.telemetry.signals import catch_signals
from everbell.telemetry.systemd import Supervisor
from everbell.telemetry.traces import Traces
from everbell.telemetry.zone_rules import rules_version

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import ASGIApp

    from everbell.ports.moving import Giver, Receiver
    from everbell.ports.store import Store
    from everbell.queues.redis import RedisParts
    from everbell.stores.postgres import Tls

log = logging.getLogger(__name__)


SWITCH_S = 0.001
"""How long the store's thread may keep the interpreter from the loop, in seconds.

Measured (10,000 async jobs due at once): 16,700 starts/s where Python's 5 ms gave 6,800.
"""


class Program(NamedTuple):
    """Code that a node runs: its functions, and what is to be done before the node starts."""

    functions: Functions
    prepare: Callable[[Services], Awaitable[None]]


class Embedded(NamedTuple):
    """A node inside of another program, and its API, which nothing listens for."""

    engine: NodeEngine
    services: Services
    api: ASGIApp


async def open_store(settings: Settings, directory: str | Path) -> Store:
    """Open the store that ``database.url`` names.

    Raises ConfigError for a URL of no known engine, StoreError if it can't be opened.
    """
    url = settings.database.url
    if url == "memory:":
        return MemoryStore()
    if url.startswith(("postgresql://", "postgres://")):
        return await _open_postgres(settings, Path(directory))
    scheme, separator, rest = url.partition(":///")
    if scheme != "sqlite" or not separator or not rest:
        message = f"database.url {without_password(url)!r} names no store that this version has"
        raise ConfigError(message, hint="use sqlite:///everbell.db (a file) or postgresql://...")
    return await SqliteStore.open(
        Path(directory) / rest,
        synchronous=settings.database.synchronous,
        busy_timeout_s=settings.database.busy_timeout,
    )


async def _open_postgres(settings: Settings, directory: Path) -> Store:
    with _driver_needed():
        from everbell.stores.postgres import PostgresStore
    database = settings.database
    return await PostgresStore.open(
        database.url,
        tls=_tls(settings, directory),
        connections=database.connections,
        busy_timeout_s=database.busy_timeout,
        name=settings.node.name or socket.gethostname(),
    )


@contextlib.contextmanager
def _driver_needed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        if error.name != "asyncpg":
            raise
        message = "PostgreSQL is named, and its driver is not installed"
        raise ConfigError(message, hint="pip install 'everbell[postgres]'") from error


def _tls(settings: Settings, directory: Path) -> Tls | None:
    from everbell.stores.postgres import Tls

    tls = settings.database.tls
    files = (str(directory / name) for name in (tls.ca, tls.cert, tls.key))
    return Tls(*files) if tls.ca else None


def open_giver(path: Path) -> Giver:
    """Open the database file that is to be moved, for this process alone."""
    return giving.SqliteGiver.open(path)


async def open_receiver(loaded: Loaded, url: str) -> Receiver:
    """Connect to the PostgreSQL database that all is moved into; TLS as ``database.tls`` says."""
    with _driver_needed():
        from everbell.stores.postgres.receiving import PostgresReceiver
    tls = _tls(loaded.settings, Path(loaded.directory))
    return await PostgresReceiver.open(url, tls=tls)


look_at_source = giving.look
redis_parts = queues.opened
database_copies, database_checkup = sqlite_backup, sqlite_checkup
"""Backup, restore and health of the one engine that keeps a file; for the command line."""


def database_file(loaded: Loaded) -> Path:
    """Return the file that the settings name. Raises ConfigError for a store without one."""
    scheme, _, rest = loaded.settings.database.url.partition(":///")
    if scheme != "sqlite":
        message = f"database.url {loaded.settings.database.url!r} is no file"
        raise ConfigError(message, hint="only sqlite:///FILE can be backed up and restored")
    return Path(loaded.directory) / rest


async def _open_checked(loaded: Loaded, secrets: Secrets) -> Store:
    """Open the store and refuse it if it was made under another secret key."""
    store = await open_store(loaded.settings, loaded.directory)
    own = key_check(secrets.key)
    try:
        if await store.meta("secret_check", own) != own:
            message = "the secret key is not the one that this database was made with"
            hint = "restore the .everbell file that belongs to it, or use another database"
            raise ConfigError(message, hint=hint)
        await make_default(store, SystemClock(), SystemEntropy())
    except EverbellError:
        await store.close()
        raise
    return store


@contextlib.asynccontextmanager
async def open_local(loaded: Loaded, secrets: Secrets) -> AsyncIterator[ASGIApp]:
    """Give the API over the local store, in this process and without a node."""
    store = await _open_checked(loaded, secrets)
    clock = SystemClock()
    executors = build_executors(loaded.settings, clock, __version__)
    services = Services(
        store=store,
        clock=clock,
        entropy=SystemEntropy(),
        settings=loaded.settings,
        secret_key=secrets.key,
        checks={kind: executor.check for kind, executor in executors.items()},
    )
    try:
        yield create_app(services)
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def _outside(
    loaded: Loaded, secrets: Secrets
) -> AsyncIterator[tuple[Store, RedisParts | None]]:
    """Open where a node keeps its state and what connects it to others; close both at the end."""
    me = f"{socket.gethostname()}:{os.getpid()}:{SystemEntropy().token_bytes(4).hex()}"
    store, redis = await _open_checked(loaded, secrets), loaded.settings.redis
    try:
        async with queues.opened(redis, SystemClock(), me, loaded.directory) as parts:
            yield store, parts
    finally:
        await store.close()


class _At(SystemClock):
    """A clock that stands still."""

    def __init__(self, at_us: int) -> None:
        super().__init__()
        self._at_us = at_us

    def now_us(self) -> int:
        return self._at_us


@contextlib.asynccontextmanager
async def open_still(path: str | Path, settings: Settings) -> AsyncIterator[ASGIApp]:
    """Give the API over a backup, or another file, as of the last instant that it knows of.

    Nothing in it can be changed. Raises StoreUnavailable, StoreCorrupt.
    """
    store = await SqliteStore.open_still(path)
    try:
        clock = _At(await store.last_seen_us())
        entropy = SystemEntropy()
        yield create_app(
            Services(store=store, clock=clock, entropy=entropy, settings=settings, secret_key=b"")
        )
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def embedded(loaded: Loaded, secrets: Secrets, program: Program) -> AsyncIterator[Embedded]:
    """Run a node in this loop, with no listener and no signal handler, until the block ends."""
    async with _outside(loaded, secrets) as outside:
        engine, app, services = _assemble(loaded.settings, secrets, outside, "", program)
        await program.prepare(services)
        await engine.start()
        try:
            yield Embedded(engine, services, app)
        finally:
            await engine.stop()
            await _close_traces(engine)


def run_embedded(main: Coroutine[Any, Any, int]) -> int:
    """Run a program on the fast loop if it is there, else on asyncio's."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def ready_secrets(directory: str | Path, database_url: str) -> Secrets:
    """Return the secrets of a directory; make them for a new database.

    Several processes may do so at once: the first wins. Raises ConfigError if the database is
    there and its secrets are not.
    """
    if database_url == "memory:":
        return Secrets(secret_key=new_secret_key(SystemEntropy().token_bytes(32)))
    database = Path(directory) / database_url.partition(":///")[2]
    # In this order: whoever makes both makes the secrets first.
    known = database_url.startswith("sqlite:") and database.exists()
    found = load_secrets(directory, os.environ)
    if found is not None or known:
        return found or require_secrets(directory, os.environ, database)
    fresh = Secrets(secret_key=new_secret_key(SystemEntropy().token_bytes(32)))
    with contextlib.suppress(ConflictError):
        create_secrets(directory, fresh)
    return require_secrets(directory, os.environ)


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
    async with _outside(loaded, secrets) as outside:
        engine, app, services = _assemble(settings, secrets, outside, address, program)
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
            await _close_traces(engine)
    if engine.failure:
        log.error("the node stopped because a part of it failed: %s", engine.failure)
    return 1 if engine.failure else 0


def _assemble(
    settings: Settings,
    secrets: Secrets,
    outside: tuple[Store, RedisParts | None],
    address: str,
    program: Program | None,
) -> tuple[NodeEngine, ASGIApp, Services]:
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
        clock=clock,
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


async def _close_traces(engine: NodeEngine) -> None:
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

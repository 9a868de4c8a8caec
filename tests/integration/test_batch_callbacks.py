"""A storm of callbacks through a whole node: real store, real sockets, every run accounted for."""

import asyncio
import contextlib
import os

import msgspec
import pytest
from aiohttp import web

from everbell.config.schema import Callbacks, Settings
from everbell.domain.job import US, Definition, HttpAction, Retry, compile_schedule
from everbell.domain.records import Project
from everbell.engine.heartbeat import Identity
from everbell.engine.node import NodeEngine, World
from everbell.executors.http import HttpExecutor
from everbell.executors.output import BoundedSink
from everbell.executors.surroundings import iso
from everbell.ports.store import NewJob, RunFilter
from everbell.stores.sqlite import SqliteStore
from everbell.telemetry.clock import SystemClock, SystemEntropy
from everbell.telemetry.load import SystemLoad

JOBS = 150


@contextlib.asynccontextmanager
async def target(statuses):
    """Answers with each status in turn, then 200; keeps what it was told."""
    told = []

    async def handle(request):
        runs = msgspec.json.decode(await request.read())
        told.append((request.headers["x-payload-chunk-id"], [one["run"] for one in runs]))
        return web.Response(status=statuses.pop(0) if statuses else 200, text="ok")

    app = web.Application()
    app.router.add_post("/hook", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hook", told
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def node(path, callbacks):
    store, clock = await SqliteStore.open(path), SystemClock()
    executor = HttpExecutor(callbacks, clock, "everbell/test")
    world = World(
        store=store,
        clock=clock,
        entropy=SystemEntropy(),
        load=SystemLoad(),
        executors={"http": executor},
        new_sink=lambda: BoundedSink(65536),
        secret_key=b"k" * 32,
    )
    identity = Identity(name="n", host="h", pid=os.getpid(), version="0", workers=100)
    engine = NodeEngine(Settings(), world, identity)
    try:
        yield world, engine
    finally:
        await engine.stop(1)
        await executor.close()
        await store.close()


async def add_jobs(world, action, count, **more):
    now = world.clock.now_us()
    made = Project(id=0, uuid="p", name="p", description="", created_us=now, updated_us=now)
    project = await world.store.add_project(made)
    fresh = []
    for number in range(count):
        definition = Definition(
            name=f"j{number}",
            schedule=f"@at {iso(now // US * US + 2 * US)}",
            action=action,
            **more,
        )
        compiled = compile_schedule(definition, str(number), now)
        slot = compiled.next_us(now)
        job = NewJob(
            uuid=f"{number}", project_id=project.id, definition=definition, next_slot_us=slot
        )
        fresh.append(job)
    await world.store.add_jobs(fresh, now)


async def ended(world, count):
    async with asyncio.timeout(20):
        while True:
            rows = await world.store.list_runs(RunFilter(states=("succeeded", "failed")), 1000)
            if len(rows) >= count:
                return rows
            await asyncio.sleep(0.05)


@pytest.mark.e2e
@pytest.mark.slow
async def test_what_failed_in_a_chunk_is_tried_again_in_another(tmp_path):
    callbacks = Callbacks(batch_max=40)
    async with target([503, 500]) as (url, told), node(tmp_path / "a.db", callbacks) as (world, it):
        action = HttpAction(url=url, batch=True)
        await add_jobs(world, action, JOBS, retry=Retry(max=2, delay_s=0.2))
        await it.start()
        rows = await ended(world, JOBS)
        output = await world.store.read_output(rows[0].key, rows[0].attempt, 0, 1000)
    assert {row.state for row in rows} == {"succeeded"}
    assert len({row.key for row in rows}) == JOBS
    failed = [len(runs) for _, runs in told[:2]]
    again = [run for _, runs in told for run in runs if run["attempt"] == 2]
    assert len(again) == sum(failed)
    assert sum(row.attempt == 2 for row in rows) == len(again)
    assert len(told) < JOBS / 5, "they share requests again"
    assert max(len(runs) for _, runs in told) <= 40
    assert len({name for name, _ in told}) == len(told)
    assert b"HTTP 200 OK\nok" in b"".join(chunk.data for chunk in output)


@pytest.mark.e2e
@pytest.mark.slow
async def test_retries_come_back_when_the_breaker_lets_one_through(tmp_path):
    callbacks = Callbacks(batch_max=20, breaker_failures=2, breaker_open=0.5)
    async with target([503, 503]) as (url, told), node(tmp_path / "b.db", callbacks) as (world, it):
        action = HttpAction(url=url, batch=True)
        await add_jobs(world, action, JOBS, retry=Retry(max=4))
        await it.start()
        rows = await ended(world, JOBS)
    assert {row.state for row in rows} == {"succeeded"}
    delivered = [run["id"] for _, runs in told[2:] for run in runs]
    assert len(delivered) >= JOBS
    assert len(set(delivered)) == JOBS

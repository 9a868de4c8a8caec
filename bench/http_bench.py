"""HTTP callbacks per second of a whole node with its ledger, beside the bare client's ceiling.

N jobs due at one instant call a small server in another process: once each with a request of its
own, once with ``batch``. Bare: the same client sends the same bodies, a hundred at a time, and
keeps nothing. From the instant to the last row that is durable. Three rounds; the row of each kind
whose ratio to its own round's ceiling is the middle one.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import httptools
import uvloop

from everbell.bootstrap import SWITCH_S, calm_collector
from everbell.config.schema import Callbacks, Engine, Settings
from everbell.domain.job import Definition, HttpAction, compile_schedule
from everbell.domain.records import Project
from everbell.domain.run import Outcome, Run, RunKey
from everbell.engine.heartbeat import Identity
from everbell.engine.node import NodeEngine, World
from everbell.executors.callback import body_of, headers_of
from everbell.executors.http import HttpExecutor
from everbell.executors.output import BoundedSink
from everbell.ports.executor import Assignment
from everbell.ports.store import NewJob, RunFilter
from everbell.stores.sqlite import SqliteStore
from everbell.telemetry.clock import SystemClock, SystemEntropy
from everbell.telemetry.load import SystemLoad

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
WORKERS = 100


class Target(asyncio.Protocol):
    """Answers every request at once; counts requests and runs told."""

    counts: ClassVar[list[int]] = [0, 0]

    def connection_made(self, transport: Any) -> None:
        self.body = b""
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.counts[0] += 1
        self.counts[1] += self.body.count(b'"scheduled_at":')
        self.body = b""
        self.transport.write(ANSWER)


def serve(pipe: Connection) -> None:
    """Serve until told to stop; answer each message with the counts since the last."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Target, "127.0.0.1", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        while await loop.run_in_executor(None, pipe.recv):
            pipe.send(Target.counts)
            Target.counts[:] = [0, 0]
        server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


class Counted(HttpExecutor):
    """Knows how many runs have ended."""

    ended = 0

    async def run(self, *given: Any) -> Outcome:
        outcome = await super().run(*given)
        self.ended += 1
        return outcome


def _counts(pipe: Connection) -> list[int]:
    pipe.send(True)
    return list(pipe.recv())


async def bare(url: str, count: int) -> dict[str, Any]:
    """Callbacks of the client alone, bodies and headers made before."""
    run = Run(key=RunKey(1, 1), project_id=1, version=1, state="claimed", due_us=1)
    work = Assignment(
        run=run,
        job_uuid="j" * 36,
        job_name="job-1000",
        project_uuid="p",
        project_name="p",
        action=HttpAction(url=url),
        data=None,
        timeout_s=30,
        webhook_secret=b"k" * 32,
    )
    body = body_of(work)
    headers = headers_of(work, {}, body, 1)
    connector = aiohttp.TCPConnector(limit=200)
    session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()

    async with session:
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(WORKERS)))
        return _figures(count, time.perf_counter() - started, time.process_time() - cpu)


def _figures(count: int, took_s: float, cpu_s: float) -> dict[str, Any]:
    return {"runs_per_s": round(count / took_s), "cpu_us_per_run": round(cpu_s / count * 1e6, 1)}


async def _add_jobs(world: World, count: int, due_us: int, action: HttpAction) -> None:
    now = world.clock.now_us()
    project = await world.store.add_project(
        Project(id=0, uuid="p", name="p", description="", created_us=now, updated_us=now)
    )
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(due_us // 1_000_000))
    fresh = []
    for number in range(count):
        definition = Definition(name=f"job-{number}", schedule=f"@at {stamp}Z", action=action)
        compiled = compile_schedule(definition, str(number), now)
        assert compiled is not None
        slot = compiled.next_us(now)
        uuid = f"{number:036d}"
        fresh.append(
            NewJob(uuid=uuid, project_id=project.id, definition=definition, next_slot_us=slot)
        )
    for first in range(0, count, 1000):
        await world.store.add_jobs(fresh[first : first + 1000], now)


async def _rows(store: SqliteStore) -> int:
    rows, before = 0, None
    while page := await store.list_runs(RunFilter(states=("succeeded",)), 1000, before):
        rows += len(page)
        before = page[-1].key
    return rows


async def node(action: HttpAction, count: int, pipe: Connection) -> dict[str, Any]:
    """Callbacks per second of a node on SQLite, every run in the ledger."""
    _counts(pipe)
    with tempfile.TemporaryDirectory() as place:
        store = await SqliteStore.open(Path(place) / "bench.db")
        clock = SystemClock()
        executor = Counted(Callbacks(), clock, "everbell/bench")
        world = World(
            store=store,
            clock=clock,
            entropy=SystemEntropy(),
            load=SystemLoad(),
            executors={"http": executor},
            new_sink=lambda: BoundedSink(65536),
            secret_key=b"k" * 32,
        )
        due = (clock.now_us() // 1_000_000 + 4) * 1_000_000
        await _add_jobs(world, count, due, action)
        settings = Settings(engine=Engine(max_queue=20_000, max_workers=WORKERS))
        identity = Identity(name="bench", host="bench", pid=1, version="0", workers=WORKERS)
        engine = NodeEngine(settings, world, identity)
        await engine.start()
        gc.freeze()  # the jobs just made are no cost of the storm
        cpu = time.process_time()
        while executor.ended < count and clock.now_us() < due + 60_000_000:
            await asyncio.sleep(0.005)
        await engine.execution.drained()
        await engine.finisher.flush()
        figures = _figures(count, (clock.now_us() - due) / 1e6, time.process_time() - cpu)
        requests, told = _counts(pipe)
        rows = await _rows(store)
        await engine.stop(1)
        await executor.close()
        await store.close()
    return figures | {"requests": requests, "told": told, "in_ledger": rows}


def _ratio(row: dict[str, Any]) -> float:
    return float(row["of_bare"])


def main() -> None:
    """Print a table, or JSON with --json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    count = 2000 if given.quick else 10_000
    calm_collector()
    sys.setswitchinterval(SWITCH_S)
    pipe, other = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    server = context.Process(target=serve, args=(other,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{pipe.recv()}/hook"
    rounds: dict[str, list[dict[str, Any]]] = {"bare": [], "single": [], "batch": []}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bare(url, 2000))  # warm
        for _ in range(1 if given.quick else 3):
            ceiling = runner.run(bare(url, count))
            single = runner.run(node(HttpAction(url=url), count, pipe))
            batch = runner.run(node(HttpAction(url=url, batch=True), count, pipe))
            for kind, row in (("bare", ceiling), ("single", single), ("batch", batch)):
                row["of_bare"] = round(row["runs_per_s"] / ceiling["runs_per_s"], 2)
                rounds[kind].append(row)
    pipe.send(False)
    server.join(5)
    found = {kind: sorted(rows, key=_ratio)[len(rows) // 2] for kind, rows in rounds.items()}
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for kind, row in found.items():
        print(f"{kind:7}", "  ".join(f"{name}={value}" for name, value in row.items()))


if __name__ == "__main__":
    main()

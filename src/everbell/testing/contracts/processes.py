"""What other processes do to one database while the contract's tests watch.

Functions of a module that can be imported, so that freshly started interpreters can run them.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import apsw

from everbell.domain.decision import Decision
from everbell.domain.errors import StoreError
from everbell.ports.store import Assignment, Store
from everbell.stores.postgres import PostgresStore
from everbell.stores.sqlite import SqliteStore
from everbell.testing.contracts.making import NOW, SEC, claimed, decision, end, node


async def _opened(where: str) -> Store:
    """Open a file, or what an address names."""
    if where.startswith("postgresql://"):
        return await PostgresStore.open(where)
    return await SqliteStore.open(where)


def decide_together(path: str, name: str, start: Barrier, answers: Connection) -> None:
    """Open the file at the same moment as others do, and decide all that is due."""

    async def body() -> list[str]:
        start.wait()
        store = await _opened(path)
        won: list[str] = []
        for _ in range(5):
            due = await store.due(NOW, 100)
            jobs = await store.get_jobs([job.id for job in due])
            given: list[Decision] = [decision(job) for job in jobs if job.next_slot_us == NOW]
            for answer in await store.decide(name, given, NOW):
                won.extend(run.id for run in answer.runs)
        await store.close()
        return won

    answers.send(asyncio.run(body()))


def assign_together(where: str, name: str, start: Barrier, answers: Connection) -> None:
    """Try to put ten assignments in force at the same moments as others do; tell which were."""

    async def body() -> list[int]:
        store = await _opened(where)
        start.wait()
        won: list[int] = []
        while (epoch := (await store.get_assignment()).epoch + 1) <= 10:
            if await store.set_assignment(Assignment(epoch=epoch, owners=(name,) * 1024)):
                won.append(epoch)
        await store.close()
        return won

    answers.send(asyncio.run(body()))


async def race(where: str, what: Callable[..., None], processes: int = 3) -> list[int]:
    """Let several processes do the same at once; return what they tell, together."""
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(processes)
    pipes = [spawn.Pipe() for _ in range(processes)]
    children = [
        spawn.Process(target=what, args=(where, f"n{number}", start, there))
        for number, (_, there) in enumerate(pipes)
    ]
    for child in children:
        child.start()
    told = [await asyncio.to_thread(here.recv) for here, _ in pipes]
    for child in children:
        child.join(30)
    return [one for each in told for one in each]


def work_until_killed(path: str, job_id: int, acknowledged: Connection) -> None:
    """Claim and finish without end; tell each run's id when it is acknowledged."""

    async def body() -> None:
        store = await _opened(path)
        job = await store.get_job(job_id)
        while True:
            run = await claimed(store, job)
            acknowledged.send(("claimed", run.id, run.token))
            await store.finish([end(run)], NOW)
            acknowledged.send(("finished", run.id, run.token))

    asyncio.run(body())


def hold_lock(path: str, orders: Connection) -> None:
    """Keep the write lock of the file until told to let go."""
    db = apsw.Connection(path)
    db.execute("BEGIN IMMEDIATE")
    orders.send("locked")
    orders.recv()
    db.execute("ROLLBACK")
    db.close()
    orders.send("free")


def beat_until_killed(where: str, name: str, said: Connection) -> None:
    """Be a node with a long lease, until killed or told to stop; tell when it is seen to live."""

    async def body() -> None:
        store = await PostgresStore.open(where)
        told = False
        while not await asyncio.to_thread(said.poll, 0.02):
            seen = store.presence.key(name) is not None
            with contextlib.suppress(StoreError):
                await store.heartbeat(node(name, lease=NOW + 3600 * SEC))
                if seen and not told:
                    said.send(name)
                    told = True
        await store.close()

    asyncio.run(body())

"""An older database is brought up to date while nodes of the version before go on in it."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from typing import Any

import asyncpg
import pytest

from everbell.domain.run import RunKey
from everbell.ports.store import RunFilter
from everbell.stores.postgres import PostgresStore, schema
from everbell.stores.postgres.days import DAY_US
from everbell.testing.contracts.making import NOW, SEC, claim, claimed, decision, end
from everbell.testing.contracts.old_nodes import work_as_old
from everbell.testing.postgres_server import PostgresServer

SPAWN = multiprocessing.get_context("spawn")
JOBS = 40
ROWS = f"""
INSERT INTO projects VALUES (1, 'p', 'p', '', {NOW}, {NOW});
INSERT INTO jobs (id, project_id, version, enabled, max_active, next_slot_us, created_us,
    updated_us) SELECT n, 1, 1, true, 1, {NOW}, {NOW}, {NOW} FROM generate_series(1, {JOBS}) n;
INSERT INTO definitions SELECT n, 1, 'u' || n, 'j' || n, 'j' || n,
    '{{"name":"j","action":{{"type":"command","argv":["true"]}}}}'
    FROM generate_series(1, {JOBS}) n;
INSERT INTO runs (slot_us, job_id, trigger_id, project_id, version, state, cause, due_us, token)
    SELECT {NOW} - n::bigint * {SEC * 150}, 1 + n % {JOBS}, '', 1, 1,
        CASE WHEN n % 500 = 0 THEN 'running' WHEN n % 500 = 1 THEN 'queued' ELSE 'succeeded' END,
        'schedule', {NOW}, n FROM generate_series(1, 12000) n;
INSERT INTO attempts SELECT slot_us, job_id, '', 1, 1, 'n', 'failed', NULL, NULL, NULL, ''
    FROM runs WHERE token % 10 = 0;
INSERT INTO output SELECT slot_us, job_id, '', 1, 0, 'stdout', slot_us, 'said' FROM runs
    WHERE token % 10 = 0;
INSERT INTO output VALUES ({NOW} + 9000 * {DAY_US}, 1, '', 1, 0, 'stdout', 0, 'far ahead');
"""
FIRST = schema.migrations()[0][1]


@pytest.fixture
async def old(postgres_server: PostgresServer) -> str:
    """The address of a database of schema version 1 that has been in use."""
    name = postgres_server.new_database()
    postgres_server.sql(
        "SET search_path = everbell; CREATE SCHEMA everbell;"
        " CREATE TABLE schema_version (number bigint PRIMARY KEY);"
        f" INSERT INTO schema_version VALUES (1); {FIRST}; {ROWS}",
        name,
    )
    return postgres_server.url(name)


@pytest.fixture
async def con(old: str) -> AsyncIterator[Any]:
    opened = await asyncpg.connect(old, server_settings={"search_path": "everbell"})
    yield opened
    await opened.close()


@pytest.fixture
async def other(old: str) -> AsyncIterator[Any]:
    opened = await asyncpg.connect(old, server_settings={"search_path": "everbell"})
    yield opened
    await opened.close()


async def heard(here: Connection) -> Any:
    assert await asyncio.to_thread(here.poll, 30), "the other process is silent"
    return here.recv()


async def test_what_was_there_is_there_and_moves_to_its_day(old: str, con: Any) -> None:
    before = await con.fetch("SELECT * FROM runs ORDER BY slot_us, job_id, trigger_id")
    store = await PostgresStore.open(old)
    for turn in range(2):
        ledger = "SELECT * FROM ledger ORDER BY slot_us, job_id, trigger_id"
        assert await con.fetch(ledger) == before, turn
        key = RunKey(NOW - 500 * 150 * SEC, 21)
        assert (await store.get_run(key)).state == "running"
        assert len(await store.attempts(key)) == 1
        assert [it.data for it in await store.read_output(key, 1, 0, 99)] == [b"said"]
        far = RunKey(NOW + 9000 * DAY_US, 1)
        assert [it.data for it in await store.read_output(far, 1, 0, 99)] == [b"far ahead"]
        # Nothing is as old as this, so nothing is forgotten; but what is over moves.
        assert await store.purge(0, 100) == 0
    left = await con.fetch("SELECT DISTINCT state FROM runs")
    assert sorted(row[0] for row in left) == ["queued", "running"]
    assert await con.fetchval("SELECT count(*) FROM ended_runs_rest") == 0
    gone = await store.purge(NOW - 10 * DAY_US, 2000)
    long_ago = sum(row["slot_us"] < NOW - 10 * DAY_US for row in before)
    kept = "SELECT count(*) FROM ledger WHERE slot_us < $1"
    assert gone + await con.fetchval(kept, NOW - 10 * DAY_US) == long_ago
    await store.close()


async def test_a_node_of_the_version_before_goes_on(old: str, con: Any) -> None:
    stop = SPAWN.Event()
    here, there = SPAWN.Pipe(duplex=False)
    jobs = list(range(3, JOBS // 2))
    worker = SPAWN.Process(target=work_as_old, args=(old, jobs, stop, there), daemon=True)
    worker.start()
    assert await heard(here) == "ready"
    stores = await asyncio.gather(*(PostgresStore.open(old) for _ in range(3)))
    job = await stores[0].get_job(JOBS)
    for _ in range(10):
        run = await claimed(stores[1], job)
        [ended] = await stores[2].finish([end(run)], NOW)
        assert ended.outcome == "stored"
        await stores[0].purge(0, 10)
    stop.set()
    ended_by_old, longest = await heard(here)
    worker.join()
    assert len(ended_by_old) > len(jobs)
    assert longest < 5, "it waited for the migration"
    twice = (
        "SELECT count(*) FROM (SELECT 1 FROM ledger GROUP BY slot_us, job_id, trigger_id"
        " HAVING count(*) > 1) t"
    )
    assert await con.fetchval(twice) == 0
    there_now = await con.fetch("SELECT slot_us, job_id, token FROM ledger WHERE node = 'old'")
    assert {tuple(row) for row in there_now} >= set(ended_by_old)
    count = await con.fetchval("SELECT count(*) FROM attempts WHERE node = 'old'")
    assert count == len(ended_by_old)
    # It can't start again what it no longer sees.
    await stores[0].purge(0, 10)
    slot, job_id, token = ended_by_old[0]
    again = (
        "INSERT INTO runs (slot_us, job_id, trigger_id, project_id, version, state, cause, due_us)"
        " VALUES ($1, $2, '', 1, 1, 'claimed', 'schedule', $1) ON CONFLICT DO NOTHING"
    )
    assert await con.execute(again, slot, job_id) == "INSERT 0 0"
    assert (await stores[0].get_run(RunKey(slot, job_id))).token == token
    for one in stores:
        await one.close()


async def test_who_reads_for_long_is_waited_for_and_lets_others_pass(
    old: str, con: Any, other: Any
) -> None:
    transaction = other.transaction()
    await transaction.start()
    await other.fetch("SELECT count(*) FROM attempts")
    opening = asyncio.create_task(PostgresStore.open(old))
    longest = 0.0
    loop = asyncio.get_running_loop()
    begin = loop.time()
    while loop.time() - begin < 2.5:
        before = loop.time()
        await con.execute("UPDATE attempts SET node = 'm' WHERE slot_us = $1", NOW)
        longest = max(longest, loop.time() - before)
    assert not opening.done()
    assert longest < schema.LOCK_S + 1
    await transaction.rollback()
    store = await opening
    assert len(await store.list_runs(RunFilter(), 10)) == 10
    await store.close()


async def test_a_slot_that_ended_is_not_decided_again(old: str, con: Any) -> None:
    store = await PostgresStore.open(old)
    await store.purge(0, 10)
    job_id, slot = await con.fetchrow("SELECT job_id, slot_us FROM ended_runs LIMIT 1")
    await con.execute("UPDATE jobs SET next_slot_us = $2 WHERE id = $1", job_id, slot)
    job = await store.get_job(job_id)
    # Alone, and with others: the short way is not taken, and the long one finds the row.
    [answer] = await store.decide("n1", [decision(job, claims=(claim(slot, None),))], NOW)
    assert (answer.outcome, answer.runs) == ("done", ())
    assert (await store.get_run(RunKey(slot, job_id))).state == "succeeded"
    await store.close()

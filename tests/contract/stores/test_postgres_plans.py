"""No statement of the hot path scans a table, whatever its size was when it was planned."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import asyncpg
import pytest

from everbell.ports.store import JobFilter, Page, RunFilter, Share
from everbell.stores.postgres import PostgresStore
from everbell.testing.contracts.making import NOW, SEC, add_job, claim, decision, end, mark, new_run
from everbell.testing.postgres_server import PostgresServer

JOBS = 100_000
FILL = f"""
INSERT INTO jobs (id, project_id, version, enabled, max_active, next_slot_us, created_us,
    updated_us) SELECT n, 1, 1, true, 1, {NOW} + n * 1000, {NOW}, {NOW}
    FROM generate_series(2, {JOBS}) AS n;
INSERT INTO definitions (job_id, owner_id, uuid, name, folded_name, definition)
    SELECT n, 1, 'u' || n, 'j' || n, 'j' || n, d.definition
    FROM generate_series(2, {JOBS}) AS n, (SELECT definition FROM definitions LIMIT 1) d;
INSERT INTO runs (slot_us, job_id, trigger_id, project_id, version, state, cause, due_us)
    SELECT {NOW} - n * 1000, n, '', 1, 1,
        CASE WHEN n % 100 = 0 THEN 'claimed' WHEN n % 100 = 1 THEN 'queued' ELSE 'succeeded' END,
        'schedule', {NOW} - n * 1000 FROM generate_series(2, {JOBS}) AS n;
UPDATE counters SET value = {JOBS} WHERE name = 'jobs';
"""
SCANS = (
    "SELECT relname, seq_scan, seq_tup_read + coalesce(idx_tup_fetch, 0), (SELECT sum(idx_tup_read)"
    " FROM pg_stat_user_indexes i WHERE i.relid = t.relid) FROM pg_stat_user_tables t"
    " WHERE schemaname = 'everbell'"
    " AND relname IN ('jobs', 'definitions', 'runs', 'attempts', 'output') ORDER BY relname"
)


@pytest.fixture
async def filled(postgres_server: PostgresServer) -> AsyncIterator[tuple[PostgresStore, str]]:
    """A store whose statements were planned while its tables were empty, full since."""
    url = postgres_server.url(postgres_server.new_database())
    store = await PostgresStore.open(url, connections=1)
    await add_job(store)
    await _hot_path(store)
    admin = await asyncpg.connect(url, server_settings={"search_path": "everbell"})
    await admin.execute(FILL)
    await admin.close()
    yield store, url
    await store.close()


async def _hot_path(store: PostgresStore) -> None:
    """Call what an engine calls all the time, with batches of ordinary and odd kinds."""
    for odd in (False, True):
        jobs = await store.get_jobs([job.id for job in await store.due(NOW + 999 * SEC, 100)])
        given = [
            decision(
                job,
                claims=(claim(job.next_slot_us or 0, None),),
                marks=(mark(7, "missed"),) if odd else (),
                next_us=(job.next_slot_us or 0) + SEC,
            )
            for job in jobs
        ]
        runs = [run for it in await store.decide("n1", given, NOW) for run in it.runs]
        await store.mark_running([(run, NOW) for run in runs], NOW)
        await store.still_claimed([(run.key, run.token) for run in runs])
        ends = [end(run, failures="count" if odd else "reset") for run in runs]
        assert {it.outcome for it in await store.finish(ends, NOW)} <= {"stored"}
        await store.enqueue(new_run(jobs[0], f"m{odd}"), NOW)
        taken = await store.take_queued("n1", NOW, 50)
        await store.hand_back(taken, NOW)
        await store.next_due_us()
        part = Share(shards=tuple(range(0, 1024, 3)), behind_us=5 * SEC)
        assert len(await store.due(NOW + 4 * SEC, 100, part)) <= 100
        await store.next_due_us(part)
        again = await store.take_queued("n1", NOW, 50, [run.key for run in taken])
        await store.hand_back(again, NOW)
        await store.cancel_flags("n1")
        await store.orphans(NOW, 100)
        await store.change_counter()
        await store.last_runs([job.id for job in jobs])
        await store.list_runs(RunFilter(job_id=jobs[0].id), 50)
        await store.list_runs(RunFilter(), 50)
        await store.list_jobs(JobFilter(project_ids=(1,), name="j77"), Page())
        await store.purge(NOW - 90_000_000, 100)


async def _scans(url: str) -> dict[str, tuple[int, int]]:
    """Return how often tables were scanned, and how many rows were looked at."""
    admin = await asyncpg.connect(url)
    try:
        return {row[0]: (row[1], max(row[2], row[3] or 0)) for row in await admin.fetch(SCANS)}
    finally:
        await admin.close()


@pytest.mark.slow
async def test_plans_made_for_empty_tables_do_not_scan_full_ones(
    filled: tuple[PostgresStore, str],
) -> None:
    store, url = filled
    con = await store._pool.take()
    await con.execute("SET stats_fetch_consistency = none; SELECT pg_stat_force_next_flush()")
    store._pool.give(con)
    before = await _scans(url)
    await _hot_path(store)
    con = await store._pool.take()
    await con.execute("SELECT pg_stat_force_next_flush()")
    store._pool.give(con)
    after = await _scans(url)
    scans = {table: after[table][0] - before[table][0] for table in after}
    assert set(scans.values()) == {0}
    looked_at = {table: after[table][1] - before[table][1] for table in after}
    # 200 jobs are decided twice; 1000 runs are active, 1000 wait.
    assert 400 < looked_at["jobs"] < JOBS / 10, looked_at
    assert 400 < looked_at["runs"] < JOBS / 10, looked_at
    assert looked_at["definitions"] < JOBS / 10, looked_at


@pytest.mark.slow
async def test_the_plans_of_the_hot_functions_go_by_key(
    filled: tuple[PostgresStore, str],
) -> None:
    store, _ = filled
    con = await store._pool.take()
    source = await con.fetch(
        "SELECT prosrc FROM pg_proc WHERE proname IN ('decide_plain_1', 'finish_plain_1')"
    )
    updates = re.findall(
        r"UPDATE runs r.*?NOT r\.cancel_requested", source[0][0] + source[1][0], re.DOTALL
    )
    assert len(updates) == 1
    kinds = {"state": "text", "trigger": "text", "error": "text", "reason": "text"}
    kinds |= {"truncated": "boolean"}
    names = re.findall(r"\bp_(\w+)", updates[0])
    text = updates[0]
    for name in names:
        text = text.replace(f"p_{name}", f"NULL::{kinds.get(name, 'bigint')}[]", 1)
    plan = "\n".join(row[0] for row in await con.fetch(f"EXPLAIN {text}"))
    store._pool.give(con)
    assert "Nested Loop" in plan
    assert re.search(r"Index Scan using (runs_pkey|runs_of_job)", plan), plan

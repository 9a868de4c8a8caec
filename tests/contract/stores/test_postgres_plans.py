"""No statement of the hot path scans a table, whatever its size was when it was planned."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import asyncpg
import pytest

from everbell.domain.job import Job
from everbell.domain.placement import SHARDS
from everbell.domain.run import RunKey
from everbell.ports.store import JobFilter, Mark, Page, RunFilter, Share, Verdict
from everbell.stores.postgres import PostgresStore
from everbell.stores.postgres.days import DAY_US
from everbell.testing.contracts.history import chunk
from everbell.testing.contracts.making import (
    NOW,
    SEC,
    add_job,
    claim,
    decision,
    end,
    new_run,
    node,
)

JOBS = 1_000_000
RUNS = 1_000_000
DAYS = 30
BEGIN = NOW - NOW % DAY_US
LONG_AGO = BEGIN - DAYS * DAY_US + 1
# Keys point at nothing that is missing: the references are not checked row by row.
FILL = f"""
SET session_replication_role = replica;
INSERT INTO jobs (id, project_id, version, enabled, max_active, next_slot_us, created_us,
    updated_us) SELECT n, 1, 1, true, 1, {NOW} + n * 1000, {NOW}, {NOW}
    FROM generate_series(2::bigint, {JOBS}) AS n;
INSERT INTO definitions (job_id, owner_id, uuid, name, folded_name, definition)
    SELECT n, 1, 'u' || n, 'j' || n, 'j' || n, d.definition
    FROM generate_series(2, 100000) AS n, (SELECT definition FROM definitions LIMIT 1) d;
INSERT INTO runs (slot_us, job_id, trigger_id, project_id, version, state, cause, due_us)
    SELECT {NOW} - n * 1000, n, '', 1, 1, CASE n % 2 WHEN 0 THEN 'claimed' ELSE 'queued' END,
        'schedule', {NOW} - n * 1000 FROM generate_series(100000::bigint, 110000) AS n;
INSERT INTO ended_runs (slot_us, job_id, trigger_id, project_id, version, state, cause, due_us)
    SELECT {BEGIN} - d * {DAY_US} + n * 2000000, 1 + (n * 7919 + d) % {JOBS}, '', 1, 1, 'succeeded',
        'schedule', {NOW} FROM generate_series(1::bigint, {DAYS}) AS d,
        generate_series(1::bigint, {RUNS // DAYS + 1}) AS n;
INSERT INTO output SELECT {BEGIN} - d * {DAY_US} + n * 2000000, n, '', 1, 0, 'stdout', 0, 'x'
    FROM generate_series(1::bigint, {DAYS}) AS d, generate_series(1::bigint, 1000) AS n;
INSERT INTO attempts SELECT {BEGIN} - d * {DAY_US} + n * 2000000, n, '', 1, 1, 'n', 'failed', NULL,
    NULL, NULL, '' FROM generate_series(1::bigint, {DAYS}) AS d,
    generate_series(1::bigint, 1000) AS n;
UPDATE counters SET value = {JOBS} WHERE name = 'jobs';
"""
# Tables of more rows than nodes there are; partitions and the statements' own tables included.
SCANS = (
    "SELECT relname, seq_scan, seq_tup_read + coalesce(idx_tup_fetch, 0), coalesce((SELECT"
    " sum(idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = t.relid), 0)"
    " FROM pg_stat_user_tables t WHERE schemaname = 'everbell' AND (relname IN ('jobs',"
    " 'definitions', 'runs') OR relname LIKE ANY (ARRAY['ended\\_runs\\_%', 'attempts\\_%',"
    " 'output\\_%'])) ORDER BY relname"
)


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    """A store whose statements were planned while its tables were empty."""
    opened = await PostgresStore.open(url, connections=1)
    await add_job(opened)
    await opened._days.need(BEGIN - day * DAY_US for day in range(DAYS + 1))
    await _hot_path(opened)
    yield opened
    await opened.close()


async def _hot_path(store: PostgresStore) -> None:
    """Call what an engine calls all the time, with batches of ordinary and odd kinds."""
    share = Share(shards=tuple(range(0, SHARDS, 2)), behind_us=100)
    for odd in (False, True):
        due = await store.due(NOW + 999 * SEC, 100)
        due += await store.due(NOW + 999 * SEC, 50, share)
        jobs = await store.get_jobs(sorted({job.id for job in due}))
        given = [
            decision(
                job,
                claims=(claim(job.next_slot_us or 0, None),),
                marks=(
                    Mark(slot_us=7, state="missed", reason="late"),
                    Mark(
                        slot_us=LONG_AGO,
                        until_us=LONG_AGO + 9,
                        state="missed",
                        reason="late",
                        count=9,
                    ),
                )
                if odd
                else (),
                next_us=(job.next_slot_us or 0) + SEC,
            )
            for job in jobs
        ]
        runs = [run for it in await store.decide("n1", given, NOW) for run in it.runs]
        assert runs
        await store.mark_running([(run, NOW) for run in runs], NOW)
        await store.still_claimed([(run.key, run.token) for run in runs])
        await store.append_output([chunk(run.key, 0, b"x") for run in runs])
        retried = [
            end(run, state="failed", next_due_us=NOW) if odd and n % 2 == 0 else end(run)
            for n, run in enumerate(runs)
        ]
        ended = await store.finish(retried, NOW)
        assert {it.outcome for it in ended} == {"stored"}
        if odd:
            failed = [it.run for n, it in enumerate(ended) if n % 2 == 0 and it.run is not None]
            ends = [end(run, state="failed", failures="count") for run in failed]
            assert {it.outcome for it in await store.finish(ends, NOW)} == {"stored"}
        await _the_rest(store, jobs, runs[0].key, share, f"m{odd}")


async def _the_rest(
    store: PostgresStore, jobs: list[Job], key: RunKey, share: Share, name: str
) -> None:
    new = await store.enqueue(new_run(jobs[0], name), NOW)
    taken = await store.take_queued("n1", NOW, 50)
    await store.hand_back(taken, NOW)
    await store.take_queued("n1", NOW, 50, [new.key])
    await store.next_due_us()
    await store.next_due_us(share)
    await store.heartbeat(node())
    await store.cancel_flags("n1")
    await store.recover(
        [Verdict(run=run, state="lost", reason="gone") for run in await store.orphans(NOW, 100)],
        NOW,
    )
    await store.declare_dead(NOW)
    await store.change_counter()
    await store.get_run(key)
    await store.attempts(key)
    await store.read_output(key, 1, 0, 99)
    await store.last_runs([job.id for job in jobs])
    newest = await store.list_runs(RunFilter(), 50)
    await store.list_runs(RunFilter(), 50, newest[-1].key)
    await store.list_runs(RunFilter(job_id=jobs[0].id), 50)
    await store.list_runs(RunFilter(states=("queued",)), 50)
    await store.list_jobs(JobFilter(project_ids=(1,), name="j77"), Page())
    await store.purge(BEGIN - DAYS * DAY_US + 100 * SEC, 100)


async def _scans(url: str) -> dict[str, tuple[int, int]]:
    """Return how often tables were scanned, and how many rows were looked at."""
    admin = await asyncpg.connect(url)
    try:
        return {row[0]: (row[1], max(row[2], row[3])) for row in await admin.fetch(SCANS)}
    finally:
        await admin.close()


async def _flushed(store: PostgresStore) -> None:
    """Make the counters tell all that was done until now, on every connection of the store."""
    for session in (store._session, store._pulse):
        await session.read(lambda sql: sql.value("SELECT pg_stat_force_next_flush()"))


@pytest.mark.slow
async def test_plans_made_for_empty_tables_do_not_scan_full_ones(
    store: PostgresStore, url: str
) -> None:
    admin = await asyncpg.connect(url, server_settings={"search_path": "everbell"})
    await admin.execute(FILL)
    await admin.close()
    await _flushed(store)
    before = await _scans(url)
    assert len(before) > 3 * DAYS
    await _hot_path(store)
    await _flushed(store)
    after = await _scans(url)
    scans = {table: after[table][0] - before[table][0] for table in before if table in after}
    assert {table: count for table, count in scans.items() if count} == {}
    looked = {table: after[table][1] - before[table][1] for table in before if table in after}
    # 300 jobs are decided; 5000 runs are active, 5000 wait.
    assert 400 < looked["jobs"] < JOBS / 50, looked
    assert 400 < looked["runs"] < 100_000, looked
    assert looked["definitions"] < JOBS / 100, looked
    assert max(looked[table] for table in looked if table.startswith("ended_runs_")) < 3000, looked


@pytest.mark.slow
async def test_a_key_is_looked_for_in_its_day_only(store: PostgresStore) -> None:
    con = await store._pool.take()
    plan = await con.fetch(
        "EXPLAIN SELECT * FROM ledger WHERE (slot_us, job_id, trigger_id) = ($1, 1, '')", NOW
    )
    store._pool.give(con)
    text = "\n".join(row[0] for row in plan)
    assert text.count("Index Scan") == 2, text
    assert "Subplans Removed" in text or "Append" in text


@pytest.mark.slow
async def test_the_plans_of_the_hot_functions_go_by_key(store: PostgresStore) -> None:
    con = await store._pool.take()
    source = await con.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'finish_plain_2'")
    [text] = re.findall(r"DELETE FROM runs r.*?NOT r\.cancel_requested", source, re.DOTALL)
    kinds = {"state": "text", "trigger": "text", "error": "text", "reason": "text"}
    kinds |= {"truncated": "boolean"}
    for name in re.findall(r"\bp_(\w+)", text):
        text = text.replace(f"p_{name}", f"NULL::{kinds.get(name, 'bigint')}[]", 1)
    plan = "\n".join(row[0] for row in await con.fetch(f"EXPLAIN {text}"))
    store._pool.give(con)
    assert "Nested Loop" in plan
    assert re.search(r"Index Scan using (runs_pkey|runs_of_job)", plan), plan

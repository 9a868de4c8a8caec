"""Ended runs, attempts and output stand in partitions by day."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from everbell.domain.errors import NotFoundError
from everbell.domain.job import Job
from everbell.domain.run import Run, RunKey
from everbell.ports.store import NewRun, OutputChunk, RunFilter
from everbell.stores.postgres import PostgresStore
from everbell.stores.postgres.days import AHEAD, DAY_US
from everbell.testing.contracts.history import chunk
from everbell.testing.contracts.making import NOW, add_job, claim, decision, end, new_run

TODAY = "SELECT floor(extract(epoch FROM now()) / 86400)::bigint"


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    opened = await PostgresStore.open(url)
    yield opened
    await opened.close()


async def days(con: Any, parent: str = "ended_runs") -> list[int]:
    """Return the days that have a partition of their own, and are attached."""
    found = await con.fetch(
        "SELECT from_us / 86400000000 AS day FROM partitions p"
        " JOIN pg_class c ON c.relname = p.name JOIN pg_inherits i ON i.inhrelid = c.oid"
        " WHERE p.parent = $1 AND i.inhparent = ('everbell.' || p.parent)::regclass ORDER BY day",
        parent,
    )
    return [row[0] for row in found]


async def ended(store: PostgresStore, job: Job, slot_us: int) -> Run:
    """Claim a slot of any day, write output of it, and end it after a second attempt."""
    job = await store.get_job(job.id)
    given = decision(job, claims=(claim(slot_us, None),), next_us=(job.next_slot_us or 0) + 1)
    [answer] = await store.decide("n1", [given], NOW)
    [run] = answer.runs
    await store.append_output([chunk(run.key, 0, b"said")])
    [again] = await store.finish([end(run, state="failed", next_due_us=NOW)], NOW)
    assert again.run is not None
    [told] = await store.finish([end(again.run)], NOW)
    assert told.run is not None
    return told.run


async def test_the_coming_days_are_there_whoever_opens_at_once(url: str, con: Any) -> None:
    stores = await asyncio.gather(*(PostgresStore.open(url) for _ in range(4)))
    today = await con.fetchval(TODAY)
    for parent in ("ended_runs", "attempts", "output"):
        assert await days(con, parent) == [today, today + 1]
    await asyncio.gather(*(one.purge(0, 1) for one in stores))
    for parent in ("ended_runs", "attempts", "output"):
        assert await days(con, parent) == list(range(today, today + AHEAD + 1))
    for one in stores:
        await one.close()


async def test_days_that_are_over_are_dropped_whole(store: PostgresStore, con: Any) -> None:
    job = await add_job(store)
    today = await con.fetchval(TODAY)
    runs = [await ended(store, job, (today - 5 + n // 3) * DAY_US + n) for n in range(12)]
    assert await days(con) == [*range(today - 5, today - 1), today, today + 1]
    # A whole day goes, however few were asked for.
    assert await store.purge((today - 3) * DAY_US, 1) == 6
    assert await days(con) == [today - 3, today - 2, *range(today, today + AHEAD + 1)]
    assert await days(con, "output") == await days(con, "attempts") == await days(con)
    left = [run.key for run in await store.list_runs(RunFilter(), 99)]
    assert left == [run.key for run in reversed(runs[6:])]
    with pytest.raises(NotFoundError):
        await store.get_run(runs[5].key)
    assert await store.purge((today - 3) * DAY_US, 1) == 0
    # Not a whole day: one by one, oldest first.
    assert await store.purge(runs[7].key.slot_us + 1, 1) == 1
    assert await store.attempts(runs[6].key) == []
    assert len(await store.attempts(runs[7].key)) == 1


async def test_a_day_with_a_run_that_goes_on_stays_until_it_ends(
    store: PostgresStore, con: Any
) -> None:
    job = await add_job(store)
    today = await con.fetchval(TODAY)
    over, going = [await ended(store, job, (today - 9) * DAY_US + n) for n in range(2)]
    slot = (today - 9) * DAY_US + 7
    given = decision(await store.get_job(job.id), claims=(claim(slot, None),), next_us=NOW + DAY_US)
    [answer] = await store.decide("n1", [given], NOW)
    [run] = answer.runs
    await store.append_output([chunk(run.key, 0, b"still")])
    assert await store.purge((today - 8) * DAY_US, 10) == 2
    assert today - 9 in await days(con)
    assert [it.key for it in await store.list_runs(RunFilter(), 9)] == [run.key]
    assert [it.data for it in await store.read_output(run.key, 1, 0, 9)] == [b"still"]
    assert await store.read_output(over.key, 1, 0, 9) == []
    assert await store.attempts(going.key) == []
    await store.finish([end(run)], NOW)
    assert await store.purge((today - 8) * DAY_US, 10) == 1
    assert today - 9 not in await days(con)


async def test_what_is_far_off_shares_a_partition_until_its_day_is_near(
    store: PostgresStore, con: Any
) -> None:
    job = await add_job(store)
    today = await con.fetchval(TODAY)
    soon, later = (today + AHEAD + 5) * DAY_US, 47_482 * DAY_US  # in the year 2100
    await store.enqueue(NewRun(
        key=RunKey(later, job.id, "m1"), project_id=1, version=1, trigger="manual", due_us=NOW
    ), NOW)  # fmt: skip
    [run] = await store.take_queued("n1", NOW, 9)
    await store.finish([end(run)], NOW)
    rest = "SELECT slot_us FROM ended_runs_rest"
    assert await con.fetchval(rest) == later
    assert 47_482 not in await days(con)
    # One that was stored before its day had a partition moves into it.
    await con.execute(
        "INSERT INTO ended_runs (slot_us, job_id, trigger_id, project_id, version, state, cause,"
        " due_us) VALUES ($1, $2, 'm2', 1, 1, 'succeeded', 'manual', $1)",
        soon,
        job.id,
    )
    await store._days.need([soon])
    assert today + AHEAD + 5 in await days(con)
    assert [row[0] for row in await con.fetch(rest)] == [later]
    assert (await store.get_run(RunKey(soon, job.id, "m2"))).state == "succeeded"
    # What has no day of its own is forgotten one by one.
    assert await store.purge(later + DAY_US, 1) == 1
    assert await store.purge(later + DAY_US, 1) == 1
    assert await con.fetchval("SELECT count(*) FROM ledger") == 0


async def test_a_key_is_there_once_while_its_run_moves(url: str, store: PostgresStore) -> None:
    other = await PostgresStore.open(url)
    job = await add_job(store)
    for turn in range(30):
        new = new_run(job, f"m{turn}")
        await store.enqueue(new, NOW)
        [run] = await store.take_queued("n1", NOW, 9)
        results = await asyncio.gather(
            store.finish([end(run)], NOW),
            *(one.enqueue(new, NOW) for one in (other, store, other, other)),
        )
        assert {it.key for it in results[1:]} == {new.key}
        assert len(await store.list_runs(RunFilter(), 999)) == turn + 1
        assert await store.take_queued("n1", NOW, 9) == []
    await other.close()


async def test_partitions_come_and_go_under_load(url: str, store: PostgresStore) -> None:
    """Nobody fails, nobody waits for long, and every run is told once."""
    other = await PostgresStore.open(url)
    jobs = [await add_job(store, f"j{n}", cursor=NOW) for n in range(4)]
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def work(one: PostgresStore, job: Job) -> tuple[int, float]:
        count, longest = 0, 0.0
        while not stop.is_set():
            before = loop.time()
            run = await ended(one, job, NOW + count)
            await one.list_runs(RunFilter(), 5)
            assert (await one.get_run(run.key)).state == "succeeded"
            longest = max(longest, loop.time() - before)
            count += 1
        return count, longest

    async def change() -> None:
        today = NOW // DAY_US
        for turn in range(12):
            await (store, other)[turn % 2]._days.need([(today - 30 + turn) * DAY_US])
            await asyncio.gather(
                store._days.drop((today - 31 + turn) * DAY_US), other._days.ahead()
            )
        stop.set()

    tasks = [work(one, job) for one, job in zip((store, other) * 2, jobs, strict=True)]
    *done, _ = await asyncio.gather(*tasks, change())
    assert len(await store.list_runs(RunFilter(), 99_999)) == sum(count for count, _ in done)
    assert max(longest for _, longest in done) < 5
    await other.close()


async def test_output_of_many_days_is_read_by_key(store: PostgresStore) -> None:
    job = await add_job(store)
    runs = [await ended(store, job, NOW + n * DAY_US) for n in range(3)]
    for run in runs:
        assert [it.data for it in await store.read_output(run.key, 1, 0, 9)] == [b"said"]
    await store.append_output([OutputChunk(
        key=runs[0].key, attempt=1, offset=0, stream="stdout", at_us=NOW, data=b"again"
    )])  # fmt: skip
    assert [it.data for it in await store.read_output(runs[0].key, 1, 0, 9)] == [b"said"]
    newest = await store.last_runs([job.id])
    assert newest[job.id][0] == runs[-1]
    await store.delete_job(job.id, NOW)
    assert await store.list_runs(RunFilter(), 9) == []

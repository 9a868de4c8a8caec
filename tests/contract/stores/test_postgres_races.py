"""Moments in which two transactions meet: each is held open here, so that they surely do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from everbell.domain.errors import StoreUnavailable
from everbell.domain.run import RunKey
from everbell.ports.store import Verdict
from everbell.stores.postgres import PostgresStore, ledger, locks, queue
from everbell.stores.postgres.days import DAY_US
from everbell.testing.contracts.history import chunk
from everbell.testing.contracts.making import (
    NOW,
    SEC,
    add_job,
    add_jobs,
    claim,
    claimed,
    decision,
    definition,
    end,
    new_job,
    new_run,
)

TODAY = "SELECT floor(extract(epoch FROM now()) / 86400)::bigint"


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    opened = await PostgresStore.open(url)
    yield opened
    await opened.close()


@pytest.fixture
async def watch(url: str) -> AsyncIterator[Any]:
    opened = await asyncpg.connect(url, server_settings={"search_path": "everbell"})
    yield opened
    await opened.close()


async def waits(watch: Any) -> None:
    """Return when a session waits for a lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()"
    )
    while not await watch.fetchval(query):
        await watch.execute("SELECT pg_sleep(0.01)")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["append_output", "mark_running", "report_loads"])
async def test_single_statements_that_lose_a_deadlock_are_tried_again(
    store: PostgresStore, con: Any, watch: Any, verb: str
) -> None:
    first, second = await add_jobs(store, new_job("a"), new_job("b"))
    runs = [await claimed(store, job) for job in (first, second)]
    await store.report_loads({first.id: 1.0, second.id: 1.0}, NOW)
    lock = {
        "append_output": "SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE",
        "mark_running": "SELECT 1 FROM runs WHERE job_id = $1 FOR UPDATE",
        "report_loads": "SELECT 1 FROM shard_loads WHERE shard = $1 FOR UPDATE",
    }[verb]
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "append_output": lambda: store.append_output([chunk(run.key, 0, b"hi") for run in runs]),
        "mark_running": lambda: store.mark_running([(run, NOW) for run in runs], NOW),
        "report_loads": lambda: store.report_loads({first.id: 2.0, second.id: 2.0}, NOW),
    }
    transaction = con.transaction()
    await transaction.start()
    await con.execute("SET LOCAL deadlock_timeout = '60s'")
    await con.fetch(lock, second.id)
    call = asyncio.ensure_future(calls[verb]())
    await waits(watch)
    await con.fetch(lock, first.id)  # the other one is told after a second that it lost
    await transaction.commit()
    answer = await call
    if verb == "append_output":
        assert [len(await store.read_output(run.key, 1, 0, 9)) for run in runs] == [1, 1]
    elif verb == "mark_running":
        assert answer == ["stored", "stored"]
    else:
        assert await store.shard_loads() == {first.id: 2.0, second.id: 2.0}


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        *(
            (verb, "jobs")
            for verb in ("finish", "finish_long", "finish_again", "hand_back", "recover")
        ),
        *(
            (verb, "runs")
            for verb in ("finish", "finish_long", "finish_again", "hand_back", "recover")
        ),
        ("mark_running", "runs"),
    ],
)
async def test_rows_are_locked_in_the_order_of_their_keys(
    store: PostgresStore, con: Any, watch: Any, verb: str, what: str
) -> None:
    """Whoever waits for the first holds none behind it: nobody waits in a circle."""
    first, second = await add_jobs(store, new_job("a"), new_job("b"))
    runs = [await claimed(store, job) for job in (second, first)]
    # The first job's row lies behind the second's.
    for job in (second, first):
        await con.execute("UPDATE jobs SET failures = 1 WHERE id = $1", job.id)
    again = [end(run, failures="reset", next_due_us=NOW + 9) for run in runs]
    verdicts = [Verdict(run=run, state="lost", reason="dead") for run in runs]
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "finish": lambda: store.finish([end(run, failures="reset") for run in runs], NOW),
        "finish_long": lambda: store.finish([end(run, failures="count") for run in runs], NOW),
        "finish_again": lambda: store.finish(again, NOW),
        "mark_running": lambda: store.mark_running([(run, NOW) for run in runs], NOW),
        "hand_back": lambda: store.hand_back(runs, NOW),
        "recover": lambda: store.recover(verdicts, NOW),
    }
    lock = "SELECT 1 FROM jobs WHERE id = $1 FOR NO KEY UPDATE"
    if what == "runs":
        lock = "SELECT 1 FROM runs WHERE job_id = $1 FOR UPDATE"
    async with con.transaction():
        await con.execute("SET LOCAL lock_timeout = '500ms'")
        await con.fetch(lock, first.id)
        call = asyncio.ensure_future(calls[verb]())
        await waits(watch)
        await con.fetch(lock, second.id)
    await call
    assert await con.fetchval("SELECT count(*) FROM runs WHERE state = 'claimed'") == (
        2 if verb == "finish_again" else 0
    )


@pytest.mark.parametrize("verb", ["finish", "finish_long", "append_output"])
async def test_a_day_that_is_made_meanwhile_takes_what_was_on_its_way_to_the_rest(
    store: PostgresStore, con: Any, watch: Any, verb: str
) -> None:
    job = await add_job(store)
    day = await con.fetchval(TODAY) - 40
    slot = day * DAY_US + 5
    # As if making the day had been given up: nobody fails for that.
    store._days._known.add(day)
    [answer] = await store.decide("n1", [decision(job, claims=(claim(slot),))], NOW)
    [run] = answer.runs
    transaction = con.transaction()
    await transaction.start()
    await con.fetch("SELECT make_day_2($1)", day)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "finish": lambda: store.finish([end(run)], NOW),
        "finish_long": lambda: store.finish([end(run, failures="count")], NOW),
        "append_output": lambda: store.append_output([chunk(run.key, 0, b"hi")]),
    }
    call = asyncio.ensure_future(calls[verb]())
    await waits(watch)
    await transaction.commit()
    told = await call
    if verb == "append_output":
        assert [it.data for it in await store.read_output(run.key, 1, 0, 9)] == [b"hi"]
    else:
        assert [it.outcome for it in told] == ["stored"]
        assert await con.fetchval("SELECT count(*) FROM ended_runs_rest") == 0
        assert (await store.get_run(run.key)).state == "succeeded"


async def test_a_day_that_can_not_be_made_stops_nobody(store: PostgresStore, con: Any) -> None:
    job = await add_job(store)
    slot = (await con.fetchval(TODAY) - 50) * DAY_US
    await con.execute(
        "CREATE OR REPLACE FUNCTION make_day_2(p_day bigint) RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'no room' USING ERRCODE = '53100'; END $$"
    )
    [answer] = await store.decide("n1", [decision(job, claims=(claim(slot),))], NOW)
    [ended] = await store.finish([end(answer.runs[0])], NOW)
    assert ended.outcome == "stored"
    assert await con.fetchval("SELECT slot_us FROM ended_runs_rest") == slot


async def test_a_limit_that_a_job_was_just_given_is_kept(
    store: PostgresStore, con: Any, watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given between the look at the queue and the locks: the limits' lock is needed too."""
    job = await add_job(store, cursor=None, overlap="allow")
    await store.enqueue(new_run(job), NOW)
    lock = locks.jobs

    async def changed_before(sql: Any, ids: Any) -> Any:
        monkeypatch.setattr(locks, "jobs", lock)
        limited = definition(limits=("db",), overlap="allow")
        await store.change_job(replace(job, definition=limited), 1, NOW)
        return await lock(sql, ids)

    monkeypatch.setattr(locks, "jobs", changed_before)
    holder = con.transaction()
    await holder.start()
    await con.fetch("SELECT 1 FROM counters WHERE name = 'limits' FOR UPDATE")
    taking = asyncio.create_task(store.take_queued("n2", NOW, 9))
    waiting = asyncio.create_task(waits(watch))
    done, _ = await asyncio.wait({taking, waiting}, return_when=asyncio.FIRST_COMPLETED)
    assert taking not in done, "taken without the lock"
    await holder.rollback()
    assert [run.key.job_id for run in await taking] == [job.id]


async def test_who_lost_the_race_for_runs_lets_go_of_their_jobs_before_the_next_try(
    store: PostgresStore, con: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it locks further jobs in another order than others do: a deadlock, told after 1 s."""
    first, second = await add_jobs(store, new_job("a", cursor=None), new_job("b", cursor=None))
    await store.enqueue(new_run(second, due=NOW - 1), NOW)
    choose = queue._choose
    calls = 0

    async def chosen(sql: Any, now_us: int, limit: int) -> Any:
        nonlocal calls
        calls += 1
        found = await choose(sql, now_us, limit)
        if calls == 1:
            [taken] = await store.take_queued("n2", NOW, 9)
            assert taken.key.job_id == second.id
            await store.enqueue(new_run(first), NOW)
        elif calls == 3:
            await con.fetch("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE NOWAIT", second.id)
        return found

    monkeypatch.setattr(queue, "_choose", chosen)
    assert [run.key.job_id for run in await store.take_queued("n1", NOW, 9)] == [first.id]
    assert calls == 3


async def test_busy_timeout_zero_waits_for_nobody(url: str, store: PostgresStore, con: Any) -> None:
    impatient = await PostgresStore.open(url, busy_timeout_s=0)
    job = await add_job(store)
    holder = con.transaction()
    await holder.start()
    await con.fetch("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE", job.id)
    with pytest.raises(StoreUnavailable, match="holds a lock"):
        await asyncio.wait_for(impatient.decide("n1", [decision(job)], NOW), 3)
    await holder.rollback()
    assert (await impatient.decide("n1", [decision(job)], NOW))[0].outcome == "done"
    await impatient.close()


async def test_a_cancel_that_met_a_slot_decided_anew_ends_no_run_that_was_started(
    store: PostgresStore, con: Any, watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await add_job(store, cursor=NOW + 9 * SEC)
    first = await claimed(store, job)
    holder = con.transaction()
    await holder.start()
    await con.execute("UPDATE runs SET token = 99")
    await con.execute("CREATE TEMP TABLE copied AS SELECT * FROM runs; DELETE FROM runs")
    await con.execute("INSERT INTO runs SELECT * FROM copied")
    asked = asyncio.create_task(store.request_cancel(first.key, NOW))
    await waits(watch)
    read = ledger.get_run

    async def then_started(sql: Any, key: RunKey) -> Any:
        monkeypatch.setattr(ledger, "get_run", read)
        run = await read(sql, key)
        assert await store.mark_running([(run, NOW)], NOW) == ["stored"]
        return run

    monkeypatch.setattr(ledger, "get_run", then_started)
    await holder.commit()
    run = await asked
    assert (run.state, run.cancel_requested, run.token) == ("running", True, 99)

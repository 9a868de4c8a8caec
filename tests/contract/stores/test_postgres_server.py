"""What a server does to its clients: races, kills, restarts, refusals."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
from msgspec.structs import replace

from everbell.domain.errors import (
    ConfigError,
    StoreCorrupt,
    StoreUnavailable,
    StoreUnknownOutcome,
    ValidationError,
)
from everbell.domain.records import Limit
from everbell.domain.run import RunKey
from everbell.ports.store import RunFilter, Store
from everbell.stores.postgres import PostgresStore, Tls
from everbell.testing.contracts.making import (
    NOW,
    SEC,
    add_job,
    add_jobs,
    claim,
    claimed,
    decision,
    end,
    hold,
    mark,
    new_job,
    new_run,
    node,
    project,
)
from everbell.testing.contracts.processes import decide_together, work_until_killed
from everbell.testing.postgres_server import PostgresServer, free_port

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
async def url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    async with postgres_server.empty_store() as address:
        yield address


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    opened = await PostgresStore.open(url)
    yield opened
    await opened.close()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that may be stopped."""
    server = PostgresServer(durable=True)
    yield server
    server.close()


# --- races -----------------------------------------------------------------------------------


async def test_of_several_processes_one_wins_each_slot(url: str, store: Store) -> None:
    await add_jobs(store, *(new_job(f"j{number}") for number in range(50)))
    start = SPAWN.Barrier(4)
    pipes = [SPAWN.Pipe() for _ in range(4)]
    workers = [
        SPAWN.Process(target=decide_together, args=(url, f"n{number}", start, there))
        for number, (_, there) in enumerate(pipes)
    ]
    for worker in workers:
        worker.start()
    won = [run_id for here, _ in pipes for run_id in await asyncio.to_thread(here.recv)]
    for worker in workers:
        worker.join()
    runs = await store.list_runs(RunFilter(), 100)
    assert len(won) == 50
    assert sorted(won) == sorted(run.id for run in runs)
    assert len({run.token for run in runs}) == 50


async def test_several_nodes_may_make_the_schema_at_once(postgres_server: PostgresServer) -> None:
    url = postgres_server.url(postgres_server.new_database())
    stores = await asyncio.gather(*(PostgresStore.open(url) for _ in range(5)))
    for one in stores:
        assert await one.list_nodes() == []
        await one.close()


async def test_limits_of_a_job_hold_while_nodes_decide_and_take(url: str) -> None:
    first, second = await PostgresStore.open(url), await PostgresStore.open(url)
    for turn in range(15):
        job = await add_job(first, f"j{turn}", overlap="queue")
        for number in range(4):
            await first.enqueue(new_run(job, f"m{number}"), NOW)
        claims = (claim(NOW, 1),)
        await asyncio.gather(
            first.decide("n1", [decision(job, claims=claims)], NOW),
            *(one.take_queued("n", NOW, 10) for one in (first, second, first, second)),
            second.decide("n2", [decision(job, claims=claims)], NOW),
        )
        runs = await first.list_runs(RunFilter(job_id=job.id, states=("claimed",)), 10)
        assert len(runs) == 1
    await first.close()
    await second.close()


async def test_shared_limits_hold_while_nodes_take(url: str) -> None:
    stores = [await PostgresStore.open(url) for _ in range(3)]
    jobs = [await add_job(stores[0], f"j{n}", limits=("db",), overlap="allow") for n in range(6)]
    await stores[0].set_limit(Limit(project_id=1, name="db", most=2))
    for turn in range(10):
        for job in jobs:
            await stores[0].enqueue(new_run(job, f"m{turn}"), NOW)
        taken = await asyncio.gather(*(one.take_queued("n", NOW, 10) for one in stores * 2))
        runs = [run for some in taken for run in some]
        assert len(runs) == 2
        await stores[0].finish([end(run) for run in runs], NOW)
    for one in stores:
        await one.close()


async def test_a_change_and_a_decision_never_both_win(url: str) -> None:
    first, second = await PostgresStore.open(url), await PostgresStore.open(url)
    for turn in range(20):
        ahead = NOW + 5 * SEC
        job = await add_job(first, f"j{turn}", cursor=ahead)
        [answer], (changed, revoked) = await asyncio.gather(
            first.decide("n1", [decision(job, claims=(claim(ahead),))], NOW),
            second.change_job(replace(job, enabled=False), 1, NOW),
        )
        won = {run.key for run in answer.runs}
        assert won == set(revoked.keys)
        assert await first.list_runs(RunFilter(job_id=job.id), 10) == []
        assert await first.get_job(job.id) == changed
    await first.close()
    await second.close()


async def test_everything_at_once_ends_without_a_deadlock(url: str) -> None:
    stores = [await PostgresStore.open(url) for _ in range(2)]
    jobs = await add_jobs(
        stores[0], *(new_job(f"j{n}", cursor=NOW + 9 * SEC, overlap="allow") for n in range(30))
    )

    async def work(store: Store, reverse: bool) -> None:
        for turn in range(6):
            known = await store.get_jobs([job.id for job in jobs])
            given = [decision(job) for job in (reversed(known) if reverse else known)]
            answers = await store.decide("n", given, NOW)
            ends = [end(run, state="failed", failures="count") for it in answers for run in it.runs]
            await store.finish(ends[::2], NOW)
            await store.finish(
                [replace(it, next_due_us=NOW, then=(new_run(jobs[turn], f"t{turn}"),))
                 for it in ends[1::2]], NOW,
            )  # fmt: skip
            await store.take_queued("n", NOW, 20)

    async def people(store: Store) -> None:
        for _ in range(6):
            held, _ = await store.add_hold(hold())
            await store.release(held.id, "each", NOW)

    await asyncio.gather(
        work(stores[0], False), work(stores[1], True), work(stores[0], True), people(stores[1])
    )
    for one in stores:
        await one.close()


# --- nodes and servers that die -----------------------------------------------------------------


async def test_kill_9_in_the_middle_of_commits_loses_nothing_acknowledged(
    url: str, store: Store
) -> None:
    job = await add_job(store)
    here, there = SPAWN.Pipe(duplex=False)
    worker = SPAWN.Process(target=work_until_killed, args=(url, job.id, there))
    worker.start()
    there.close()
    heard: dict[str, tuple[str, int]] = {}

    def listen(count: int) -> None:
        for _ in range(count):
            state, run_id, token = here.recv()
            heard[run_id] = (state, token)

    await asyncio.to_thread(listen, 150)
    worker.kill()
    worker.join()
    with pytest.raises((EOFError, OSError)):
        listen(10**6)
    for run_id, (state, token) in heard.items():
        run = await store.get_run(RunKey.parse(run_id))
        assert run.token == token
        assert state == "claimed" or run.state == "succeeded"


async def kill_others(url: str, query: str = "true") -> int:
    """End the sessions of a database whose last statement is like this."""
    admin = await asyncpg.connect(url)
    try:
        count: int = await admin.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            f" WHERE datname = current_database() AND pid <> pg_backend_pid() AND ({query})"
        )
        return count
    finally:
        await admin.close()


async def test_sessions_that_were_ended_are_made_anew_unseen(url: str, store: Store) -> None:
    job = await add_job(store)
    for _ in range(3):
        await asyncio.gather(*(store.get_job(job.id) for _ in range(4)))
        assert await kill_others(url) > 0
        assert await store.get_job(job.id) == job
        assert await kill_others(url) > 0
        await store.enqueue(new_run(job), NOW)


async def wait_for(url: str, query: str) -> None:
    """Wait until a session of the database is like this."""
    admin = await asyncpg.connect(url)
    try:
        for _ in range(500):
            if await admin.fetchval(
                f"SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND {query}"
            ):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(query)
    finally:
        await admin.close()


WAITS = "wait_event_type = 'Lock'"


async def test_a_session_ended_before_its_commit_did_nothing(url: str, store: Store) -> None:
    job = await add_job(store)
    other = await asyncpg.connect(url, server_settings={"search_path": "everbell"})
    async with other.transaction():
        await other.execute("SELECT 1 FROM jobs FOR UPDATE")
        change = asyncio.create_task(store.change_job(replace(job, parked="x"), 1, NOW))
        await wait_for(url, WAITS)
        await kill_others(url, WAITS)
        with pytest.raises(StoreUnavailable):
            await change
    await other.close()
    assert await store.get_job(job.id) == job


async def test_a_statement_that_is_a_transaction_and_was_cut_is_of_unknown_outcome(
    url: str, store: Store
) -> None:
    job = await add_job(store)
    other = await asyncpg.connect(url, server_settings={"search_path": "everbell"})
    async with other.transaction():
        await other.execute("SELECT 1 FROM jobs FOR UPDATE")
        deciding = asyncio.create_task(store.decide("n1", [decision(job)], NOW))
        await wait_for(url, WAITS)
        await kill_others(url, WAITS)
        with pytest.raises(StoreUnknownOutcome):
            await deciding
    await other.close()
    assert [it.outcome for it in await store.decide("n1", [decision(job)], NOW)] == ["done"]


async def test_a_commit_whose_answer_was_lost_is_of_unknown_outcome(
    url: str, store: PostgresStore
) -> None:
    con = await store._pool.take()

    class Cut:
        """A connection that breaks before the answer to its commit comes."""

        def __getattr__(self, name: str) -> object:
            return getattr(con, name)

        async def execute(self, query: str, *values: object, timeout: float) -> str:
            answer: str = await con.execute(query, *values, timeout=timeout)
            if query == "COMMIT":
                con.terminate()
                raise ConnectionResetError
            return answer

    store._pool.give(Cut())
    with pytest.raises(StoreUnknownOutcome):
        await store.add_project(project())
    assert (await store.get_project("p")).name == "p"


async def test_a_lock_is_waited_for_and_said(url: str) -> None:
    store = await PostgresStore.open(url, busy_timeout_s=0.1)
    job = await add_job(store)
    other = await asyncpg.connect(url, server_settings={"search_path": "everbell"})
    async with other.transaction():
        await other.execute("SELECT 1 FROM jobs FOR UPDATE")
        with pytest.raises(StoreUnavailable, match="lock") as caught:
            await store.change_job(replace(job, parked="x"), 1, NOW)
        assert "pg_stat_activity" in caught.value.hint
        with pytest.raises(StoreUnavailable, match="lock"):
            await store.decide("n1", [decision(job)], NOW)
    await other.close()
    assert (await claimed(store, job)).state == "claimed"
    await store.close()


async def test_a_server_that_crashes_and_comes_back_lost_nothing(
    own_server: PostgresServer,
) -> None:
    store = await PostgresStore.open(own_server.url(own_server.new_database()))
    run = await claimed(store, await add_job(store))
    await asyncio.to_thread(own_server.stop)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await store.get_run(run.key)
        with pytest.raises(StoreUnavailable):
            await store.heartbeat(node())
    await asyncio.to_thread(own_server.start)
    for _ in range(100):
        try:
            assert await store.get_run(run.key) == run
            break
        except StoreUnavailable:
            await asyncio.sleep(0.05)
    assert [it.outcome for it in await store.finish([end(run)], NOW)] == ["stored"]
    await store.close()


# --- refusals --------------------------------------------------------------------------------


async def test_a_closed_store_says_so(store: Store) -> None:
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.list_nodes()


async def test_what_is_wrong_with_the_address_is_said(postgres_server: PostgresServer) -> None:
    name = postgres_server.new_database()
    postgres_server.sql("DO $$ BEGIN CREATE ROLE password_role LOGIN PASSWORD 'right';"
                        " EXCEPTION WHEN duplicate_object THEN NULL; END $$")  # fmt: skip
    postgres_server.sql(f"ALTER DATABASE {name} OWNER TO password_role")
    wrong = {
        postgres_server.url("nowhere"): "does not exist",
        postgres_server.url(name, "password_role", "wrong"): "refuses",
        f"postgresql://x@127.0.0.1:{free_port()}/x": "can't be reached",
    }
    for address, said in wrong.items():
        with pytest.raises(StoreUnavailable, match=said) as caught:
            await PostgresStore.open(address)
        assert "wrong" not in str(caught.value)
        assert "database.url" in caught.value.hint
    with pytest.raises(ConfigError, match=r"database\.url"):
        await PostgresStore.open("postgresql://x@h:port/x")
    opened = await PostgresStore.open(postgres_server.url(name, "password_role", "right"))
    await opened.close()


async def test_a_newer_schema_and_another_programs_are_refused(
    postgres_server: PostgresServer,
) -> None:
    name = postgres_server.new_database()
    store = await PostgresStore.open(postgres_server.url(name))
    await store.close()
    postgres_server.sql("INSERT INTO everbell.schema_version VALUES (999)", name)
    with pytest.raises(StoreCorrupt, match="999"):
        await PostgresStore.open(postgres_server.url(name))
    foreign = postgres_server.new_database()
    postgres_server.sql("CREATE SCHEMA everbell CREATE TABLE jobs (a int)", foreign)
    with pytest.raises(StoreCorrupt, match="another program"):
        await PostgresStore.open(postgres_server.url(foreign))
    latin = "latin"
    postgres_server.sql(f"CREATE DATABASE {latin} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(StoreCorrupt, match="LATIN1"):
        await PostgresStore.open(postgres_server.url(latin))


async def test_a_standby_is_refused(postgres_server: PostgresServer) -> None:
    name = postgres_server.new_database()
    postgres_server.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(StoreUnavailable):
        await PostgresStore.open(postgres_server.url(name))


async def test_a_primary_that_became_a_standby_is_left(store: PostgresStore) -> None:
    job = await add_job(store)
    for verb in (lambda: store.decide("n1", [decision(job)], NOW), lambda: store.meta("a", "b")):
        con = await store._pool.take()
        await con.execute("SET default_transaction_read_only = on")
        store._pool.give(con)
        with pytest.raises(StoreUnavailable, match="standby") as caught:
            await verb()
        assert not isinstance(caught.value, StoreUnknownOutcome)
        assert con.is_closed()
    assert (await claimed(store, job)).state == "claimed"


async def test_texts_that_cannot_be_stored_are_refused_or_replaced(store: Store) -> None:
    job = await add_job(store)
    run = await claimed(store, job)
    [ended] = await store.finish([end(run, error="a\0b\ud800c")], NOW)
    assert ended.run == await store.get_run(run.key)
    with pytest.raises(ValidationError):
        await add_job(store, "nul\0")
    with pytest.raises(ValidationError):
        await add_job(store, "half\ud800")


async def test_files_of_tls_that_are_not_there_are_named(url: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.tls\.ca"):
        await PostgresStore.open(url, tls=Tls("no-ca.pem", "no-cert.pem", "no-key.pem"))


async def test_marks_and_claims_of_many_jobs_are_one_batch(store: Store) -> None:
    jobs = await add_jobs(store, *(new_job(f"j{n}") for n in range(100)))
    given = [decision(job, marks=(mark(NOW - 1, "missed"),), claims=(claim(NOW),)) for job in jobs]
    assert {it.outcome for it in await store.decide("n1", given, NOW)} == {"done"}
    assert len(await store.list_runs(RunFilter(), 1000)) == 200

"""Several processes do random things to the same jobs; what must hold is looked at from outside.

``STORM_SECONDS`` says for how long: `STORM_SECONDS=600 pytest --timeout 900 <this file>`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random

import asyncpg
import pytest

from everbell.domain.records import Limit
from everbell.stores.postgres import PostgresStore
from everbell.testing.contracts.making import add_jobs, new_job
from everbell.testing.contracts.storm import DAY_US, HOUR_S, HOUR_US, JOBS, KEPT_US, LIMIT, storm
from everbell.testing.contracts.storm_watch import Watch
from everbell.testing.postgres_server import PostgresServer

SECONDS = float(os.environ.get("STORM_SECONDS", "12"))
SPAWN = multiprocessing.get_context("spawn")
END_ONE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name LIKE 'everbell storm%' ORDER BY random() LIMIT 1"
)
TODAY = "SELECT floor(extract(epoch FROM now()) / 86400)::bigint"


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 80)
async def test_random_verbs_at_once_break_nothing(postgres_server: PostgresServer) -> None:
    url = postgres_server.url(postgres_server.new_database())
    store = await PostgresStore.open(url)
    con = await asyncpg.connect(url, server_settings={"search_path": "everbell"})
    # So that what is decided ahead crosses days which nobody has made yet.
    start_us = (await con.fetchval(TODAY) - 20) * DAY_US
    await add_jobs(store, *(
        new_job(name, cursor=start_us, overlap=overlap, max_running=most, limits=limits)
        for name, (overlap, most, limits) in JOBS.items()
    ))  # fmt: skip
    await store.set_limit(Limit(project_id=1, name="db", most=LIMIT))
    pipes = [SPAWN.Pipe() for _ in range(3)]
    loop = asyncio.get_running_loop()
    base = (start_us, loop.time())
    children = [
        SPAWN.Process(target=storm, args=(url, f"storm{n}", base, SECONDS, there), daemon=True)
        for n, (_, there) in enumerate(pipes)
    ]
    for child in children:
        child.start()
    for here, _ in pipes:
        assert await asyncio.to_thread(here.recv) == "ready"
    watch = Watch(con)
    dice = random.Random(1)
    end = loop.time() + SECONDS

    def kept_us() -> int:
        return start_us + int((loop.time() - base[1]) / HOUR_S * HOUR_US) - KEPT_US

    while loop.time() < end:
        await watch.look(kept_us())
        if dice.random() < 0.3:
            await con.execute(END_ONE)
        await asyncio.sleep(0.1)
    answers = [await asyncio.to_thread(here.recv) for here, _ in pipes]
    for child in children:
        child.join(20)
    await watch.look(kept_us())
    await watch.last([it for told, _, _ in answers for it in told], start_us)
    await store.purge(start_us, 1)
    left = "SELECT count(*) FROM runs WHERE state NOT IN ('claimed', 'running', 'queued')"
    assert await con.fetchval(left) == 0
    await watch.look(kept_us())
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    lost = await con.fetchval(deadlocks)
    await con.close()
    await store.close()
    assert [fault for _, wrong, _ in answers for fault in wrong] == []
    assert "\n".join(sorted(set(watch.faults))) == ""
    # Each stops its nodes for a second: locks are taken in one order.
    assert lost <= 1 + SECONDS / 20
    assert all(len(told) > 50 for told, _, _ in answers), "they did nothing"

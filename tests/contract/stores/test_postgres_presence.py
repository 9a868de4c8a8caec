"""Who is seen to live, and what must never pass for a death; rings between nodes."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import asyncpg
import pytest

from everbell.domain.errors import StoreError
from everbell.stores.postgres import PostgresStore
from everbell.stores.postgres.presence import GRACE_S, SURE_S
from everbell.testing.contracts.making import NOW, SEC, add_job, claimed, node
from everbell.testing.contracts.processes import assign_together, beat_until_killed, race
from everbell.testing.postgres_server import PostgresServer

SPAWN = multiprocessing.get_context("spawn")
LOOK_S = 0.05
PRESENCES = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'everbell%(presence)'"
Opener = Callable[..., Awaitable[PostgresStore]]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that may be stopped, and whose sessions are only ours."""
    made = PostgresServer()
    yield made
    made.close()


@pytest.fixture
async def url(server: PostgresServer) -> AsyncIterator[str]:
    async with server.empty_store() as address:
        yield address


@pytest.fixture
async def opened(url: str) -> AsyncIterator[Opener]:
    """Opens stores that are nodes already, if they are given a name."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_(name: str = "", address: str = url) -> PostgresStore:
            store = await PostgresStore.open(address, connections=2)
            stack.push_async_callback(store.close)
            if name:
                await be(store, name)
            return store

        yield open_


async def until(true: Callable[[], bool], for_s: float = 10.0) -> float:
    """Wait until something is so; return how long (s) that took."""
    now = asyncio.get_running_loop().time
    begun = now()
    while not true():
        assert now() - begun < for_s, "it never came"
        await asyncio.sleep(0.005)
    return now() - begun


async def be(store: PostgresStore, name: str, lease: int = NOW + 3600 * SEC) -> None:
    """Be a node that is watched."""
    assert (await store.heartbeat(node(name, lease=lease))).accepted
    await until(lambda: store.presence.key(name) is not None)
    assert (await store.heartbeat(node(name, lease=lease))).accepted


async def deaths(store: PostgresStore, for_s: float) -> list[str]:
    """Look for deaths as often as an eager node; return who was declared dead."""
    now = asyncio.get_running_loop().time
    begun, found = now(), list[str]()
    while now() - begun < for_s:
        with contextlib.suppress(StoreError):
            found += await store.declare_dead(NOW)
        await asyncio.sleep(LOOK_S)
    return found


async def first_death(store: PostgresStore, for_s: float = 20.0) -> float:
    """Return after how many seconds a death was seen; the leases are of an hour."""
    now = asyncio.get_running_loop().time
    begun = now()
    while now() - begun < for_s:
        if await store.declare_dead(NOW):
            return now() - begun
        await asyncio.sleep(LOOK_S)
    raise AssertionError("nobody died")


@contextlib.contextmanager
def process(url: str, name: str) -> Iterator[tuple[Any, Connection]]:
    """A node in a process of its own, that is seen to live."""
    here, there = SPAWN.Pipe()
    child = SPAWN.Process(target=beat_until_killed, args=(url, name, there))
    child.start()
    try:
        assert here.poll(30)
        assert here.recv() == name
        yield child, here
    finally:
        if child.is_alive():
            child.kill()
        child.join(10)


async def sessions(url: str, also: str = "") -> list[int]:
    """Return the server's processes of presences; ``also`` is a clause of the query."""
    admin = await asyncpg.connect(url)
    try:
        return [row[0] for row in await admin.fetch(PRESENCES + also)]
    finally:
        await admin.close()


# --- deaths ----------------------------------------------------------------------------------


async def test_a_killed_process_is_noticed_long_before_its_lease_is_over(
    url: str, opened: Opener
) -> None:
    watching = await opened("n1")
    job = await add_job(watching)
    with process(url, "n2") as (child, _):
        run = await claimed(watching, job, "n2")
        assert await deaths(watching, GRACE_S + 0.1) == []
        assert await watching.orphans(NOW, 9) == []
        os.kill(child.pid, signal.SIGKILL)
        assert await first_death(watching) >= SURE_S
        assert await watching.orphans(NOW, 9) == [run]
        found = {it.id: (it.state, it.lease_until_us) for it in await watching.list_nodes()}
        assert found["n2"] == ("dead", NOW)
        assert found["n1"][0] == "up"
        assert await watching.declare_dead(NOW) == []


async def test_a_paused_process_is_alive_until_its_lease_is_over(url: str, opened: Opener) -> None:
    watching = await opened("n1")
    with process(url, "n2") as (child, _):
        os.kill(child.pid, signal.SIGSTOP)
        assert await deaths(watching, GRACE_S + 1.0) == []
        os.kill(child.pid, signal.SIGCONT)


async def test_a_node_that_never_had_a_session_lives_by_its_lease(opened: Opener) -> None:
    watching, other = await opened("n1"), await opened()
    await other.presence.close()
    await other.heartbeat(node("n2", lease=NOW + 5))
    assert other.presence.key("n2") is None
    assert await deaths(watching, GRACE_S + 1.0) == []
    assert await watching.declare_dead(NOW + 6) == ["n2"]


async def test_a_lease_that_is_over_is_seen_without_a_session(opened: Opener) -> None:
    store = await opened()
    await store.heartbeat(node("n2", lease=NOW + 5))
    assert await store.declare_dead(NOW + 5) == []
    assert await store.declare_dead(NOW + 6) == ["n2"]


async def test_a_node_that_leaves_is_let_go_and_not_dead(opened: Opener, url: str) -> None:
    watching, leaving = await opened("n1"), await opened("n2")
    await leaving.leave("n2", NOW)
    await until(lambda: leaving.presence.key("n2") is None)
    assert leaving.unseen_s == 0.0
    assert await deaths(watching, GRACE_S + 0.6) == []
    await leaving.close()
    await leaving.close()
    assert len(await sessions(url)) == 1


async def test_a_node_that_rejoins_is_watched_under_its_new_id(opened: Opener) -> None:
    watching, other = await opened("n1"), await opened("n2")
    await asyncio.sleep(GRACE_S)
    await watching.declare_dead(NOW + 3601 * SEC)
    assert not (await other.heartbeat(node("n2"))).accepted
    await watching.presence.close()
    watching = await opened("n1b")
    await be(other, "n3")
    assert other.presence.key("n2") is None
    assert await deaths(watching, GRACE_S + 0.1) == []
    await other.presence.close()
    assert await first_death(watching)


# --- what is no death ------------------------------------------------------------------------


async def test_a_restart_of_the_server_kills_nobody(
    server: PostgresServer, url: str, opened: Opener
) -> None:
    nodes = {f"n{number}": await opened(f"n{number}") for number in range(3)}
    with process(url, "p1"):
        assert await deaths(nodes["n0"], GRACE_S + 0.1) == []
        for mode, away_s in (("immediate", 1.5), ("fast", 0.0)):
            await asyncio.to_thread(server.stop, mode)
            await asyncio.sleep(away_s)
            await until(lambda: all(it.presence.key(name) is None for name, it in nodes.items()))
            if away_s:
                assert all(it.unseen_s > 0.1 for it in nodes.values())
            await asyncio.to_thread(server.start)
            looks = (deaths(it, GRACE_S + 1.2) for it in nodes.values())
            assert await asyncio.gather(*looks) == [[]] * 3
            assert all(it.presence.key(name) for name, it in nodes.items())
            assert all(it.unseen_s == 0.0 for it in nodes.values())
        assert {it.state for it in await nodes["n0"].list_nodes()} == {"up"}
    assert await first_death(nodes["n0"])


async def test_a_session_that_was_ended_kills_nobody(url: str, opened: Opener) -> None:
    watching = await opened("n1")
    [own] = await sessions(url)
    other = await opened("n2")
    assert await deaths(watching, GRACE_S + 0.1) == []
    admin = await asyncpg.connect(url)
    for _ in range(4):
        await admin.execute(
            f"SELECT pg_terminate_backend(pid) FROM ({PRESENCES}) x WHERE pid <> $1".replace(
                "$1", str(own)
            )
        )
        assert await deaths(watching, 0.5) == []
    await admin.close()
    await until(lambda: other.presence.key("n2") is not None and other.unseen_s == 0.0)
    assert (await other.heartbeat(node("n2", lease=NOW + 3600 * SEC))).accepted


async def test_a_session_that_can_not_be_made_again_kills_nobody(
    server: PostgresServer, opened: Opener
) -> None:
    name = server.new_database()
    server.sql(f"CREATE ROLE few LOGIN; ALTER DATABASE {name} OWNER TO few")
    url = server.url(name)
    watching = await opened("n1", url)
    rights = "GRANT ALL ON ALL {} IN SCHEMA everbell TO few"
    server.sql("GRANT ALL ON SCHEMA everbell TO few", name)
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        server.sql(rights.format(kind), name)
    other = await opened("n2", server.url(name, "few"))
    assert await deaths(watching, GRACE_S + 0.1) == []
    server.sql("ALTER ROLE few NOLOGIN")
    admin = await asyncpg.connect(url)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'few'"
        " AND application_name LIKE 'everbell%(presence)'"
    )
    await admin.close()
    assert await deaths(watching, 1.5) == []
    # It said so by another connection, and lives by its lease until it can come back.
    assert other.unseen_s < 0.25
    assert (await other.heartbeat(node("n2", lease=NOW + 3600 * SEC))).accepted
    assert await deaths(watching, 0.6) == []
    server.sql("ALTER ROLE few LOGIN")
    await until(lambda: other.presence.key("n2") is not None)


async def test_who_has_just_come_declares_nobody_dead(url: str, opened: Opener) -> None:
    with process(url, "n2") as (child, _):
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        watching = await opened("n1")
        assert await deaths(watching, GRACE_S / 2) == []
        assert await first_death(watching)


async def test_who_lost_its_own_session_declares_nobody_dead(url: str, opened: Opener) -> None:
    watching = await opened("n1")
    [own] = await sessions(url)
    with process(url, "n2") as (child, _):
        await asyncio.sleep(GRACE_S)
        admin = await asyncpg.connect(url)
        await admin.execute(f"SELECT pg_terminate_backend({own})")
        await admin.close()
        os.kill(child.pid, signal.SIGKILL)
        assert await deaths(watching, GRACE_S / 2) == []
        assert await first_death(watching)


async def test_looks_with_a_gap_are_not_taken_for_one(url: str, opened: Opener) -> None:
    watching = await opened("n1")
    with process(url, "n2") as (child, _):
        await deaths(watching, GRACE_S + 0.1)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert await watching.declare_dead(NOW) == []
        await asyncio.sleep(2.2)
        begun = time.monotonic()
        assert await watching.declare_dead(NOW) == []
        await first_death(watching)
        assert time.monotonic() - begun >= SURE_S


async def test_two_that_see_a_death_declare_it_once(url: str, opened: Opener) -> None:
    one, two = await opened("n1"), await opened("n2")
    with process(url, "n3") as (child, _):
        await asyncio.sleep(GRACE_S)
        os.kill(child.pid, signal.SIGKILL)
        found = await asyncio.gather(deaths(one, 3.0), deaths(two, 3.0))
        assert found[0] + found[1] == ["n3"]


# --- rings -----------------------------------------------------------------------------------


async def test_a_ring_is_heard_by_others_and_not_by_oneself(opened: Opener) -> None:
    stores = [await opened(f"n{number}") for number in range(3)]
    heard = [0, 0, 0]

    def count(number: int) -> None:
        heard[number] += 1

    bells = [store.wakeups() for store in stores]
    for number, bell in enumerate(bells):
        bell.listen(partial(count, number))
    await until(lambda: all(store.presence._listening for store in stores))
    await bells[0].ring()
    await until(lambda: heard[1:] == [1, 1])
    await bells[1].ring()
    # Each session is told by itself: the server promises no order among them.
    await until(lambda: sum(heard) == 4)
    assert heard == [1, 1, 2]
    await bells[2].close()
    await bells[0].ring()
    await until(lambda: heard[1] == 2)
    assert heard == [1, 2, 2]


async def test_a_ring_of_who_is_no_node_is_heard(opened: Opener) -> None:
    listening, tool = await opened(), await opened()
    heard: list[int] = []
    listening.wakeups().listen(lambda: heard.append(1))
    await until(lambda: listening.presence._listening)
    await tool.wakeups().ring()
    await until(lambda: heard == [1])


async def test_bells_outlast_a_restart_and_never_fail(
    server: PostgresServer, opened: Opener
) -> None:
    one, two = await opened("n1"), await opened("n2")
    heard: list[int] = []
    bell = two.wakeups()
    bell.listen(lambda: heard.append(1))
    await until(lambda: two.presence._listening)
    await asyncio.to_thread(server.stop)
    await one.wakeups().ring()
    assert heard == []
    await asyncio.to_thread(server.start)
    # What rang meanwhile was lost: it is told once.
    await until(lambda: heard == [1])
    await until(lambda: one.presence.key("n1") is not None)
    for _ in range(50):
        await one.wakeups().ring()
        await asyncio.sleep(0.02)
        if len(heard) > 1:
            break
    assert len(heard) > 1
    await bell.close()
    await bell.ring()


# --- races -----------------------------------------------------------------------------------


async def test_of_processes_that_assign_one_is_followed_by_each(url: str, opened: Opener) -> None:
    store = await opened()
    assert sorted(await race(url, assign_together)) == list(range(1, 11))
    found = await store.get_assignment()
    assert (found.epoch, len(set(found.owners)), len(found.owners)) == (10, 1, 1024)

"""A way to PostgreSQL that goes silent: nothing is refused, nothing ends, nothing arrives."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from everbell.domain.errors import StoreError, StoreUnknownOutcome
from everbell.stores.postgres import PostgresStore
from everbell.stores.postgres.presence import SURE_S
from everbell.testing.contracts.making import NOW, SEC, node
from everbell.testing.proof.network import SilentProxy

pytestmark = pytest.mark.timeout(60)
LEASE_S = 4
BEAT = node("n1", heartbeat_us=NOW, lease=NOW + LEASE_S * SEC)


@pytest.fixture
async def way(postgres_server) -> AsyncIterator[tuple[PostgresStore, SilentProxy]]:
    async with postgres_server.empty_store() as url:
        proxy = SilentProxy("127.0.0.1", postgres_server.port)
        store = await PostgresStore.open(url.replace(str(postgres_server.port), str(proxy.port)))
        try:
            yield store, proxy
        finally:
            proxy.mode = "open"
            await store.close()
            proxy.close()


async def refused_in(call) -> float:
    begun = time.monotonic()
    with pytest.raises(StoreError):
        await call
    return time.monotonic() - begun


@pytest.mark.parametrize("mode", ["silent", "deaf", "mute"])
async def test_a_heartbeat_notices_in_half_a_lease_and_ends_every_call_that_waits(way, mode):
    store, proxy = way
    assert (await store.heartbeat(BEAT)).accepted
    assert await store.change_counter() >= 0
    proxy.mode = mode
    waiting = asyncio.ensure_future(refused_in(store.meta("key", "value")))
    await asyncio.sleep(0.01)
    begun = time.monotonic()
    with pytest.raises(StoreUnknownOutcome):
        await store.heartbeat(BEAT)
    assert time.monotonic() - begun < LEASE_S * 0.75
    assert await waiting < LEASE_S
    proxy.mode = "open"
    begun = time.monotonic()
    while True:
        try:
            assert (await store.heartbeat(BEAT)).accepted
            await store.change_counter()
            break
        except StoreError:
            assert time.monotonic() - begun < 20, "it does not come back by itself"
            await asyncio.sleep(0.05)


async def test_who_connects_into_the_silence_is_told_by_the_next_heartbeat(way):
    store, proxy = way
    assert (await store.heartbeat(BEAT)).accepted
    proxy.mode = "silent"
    await refused_in(store.heartbeat(BEAT))
    await asyncio.sleep(0.1)
    waiting = asyncio.ensure_future(refused_in(store.meta("key", "value")))
    await asyncio.sleep(0.01)
    await refused_in(store.heartbeat(BEAT))
    assert await waiting < LEASE_S


async def test_what_is_answered_at_once_is_given_up_before_long_although_heartbeats_pass(
    postgres_server,
):
    async with postgres_server.empty_store() as url:
        proxy = SilentProxy("127.0.0.1", postgres_server.port)
        through = url.replace(str(postgres_server.port), str(proxy.port))
        store = await PostgresStore.open(through, busy_timeout_s=0.1)
        try:
            await store.change_counter()
            proxy.mode = "silent"
            # Two tries: the second on a new connection, which does not come about either.
            assert await refused_in(store.change_counter()) < 20
        finally:
            proxy.mode = "open"
            await store.close()
            proxy.close()


async def test_the_system_watches_each_connection(way):
    store, _ = way
    con = await store._pool.take()
    try:
        sock = con._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 10_000
        assert await con.fetchval("SHOW tcp_user_timeout") in {"10000", "10s", "0"}
    finally:
        store._pool.give(con)


async def test_a_session_that_ended_without_a_word_is_made_anew_before_others_take_note(
    postgres_server,
):
    """The driver does not always tell that a connection ended."""
    async with postgres_server.empty_store() as url:
        store = await PostgresStore.open(url)
        try:
            assert (await store.heartbeat(BEAT)).accepted
            await _until(lambda: store.presence.key(BEAT.id) is not None)
            assert min([await _lost_for(store) for _ in range(3)]) < SURE_S
        finally:
            await store.close()


async def _lost_for(store: PostgresStore) -> float:
    """End the session; return for how long (s) there was none."""
    con = store.presence._con
    con._termination_listeners.clear()
    con._transport.abort()
    await _until(con.is_closed)
    begun = time.monotonic()
    await _until(lambda: store.presence._con is not con and store.presence.key(BEAT.id))
    return time.monotonic() - begun


async def _until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)

"""The engines that every contract test runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from everbell.ports.store import Store
from everbell.stores.memory import MemoryStore
from everbell.stores.postgres import PostgresStore
from everbell.stores.sqlite import SqliteStore
from everbell.testing.postgres_server import PostgresServer


@pytest.fixture(params=["memory", "sqlite", "sqlite-inline", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store of each engine."""
    opened: Store
    if request.param == "memory":
        opened = MemoryStore()
    elif request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        async with server.empty_store() as url:
            opened = await PostgresStore.open(url)
            yield opened
            await opened.close()
        return
    else:
        inline = request.param == "sqlite-inline"
        path = ":memory:" if inline else tmp_path / "everbell.db"
        opened = await SqliteStore.open(path, inline=inline)
    yield opened
    await opened.close()

"""The engines that every contract test runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from everbell.ports.store import Store
from everbell.stores.memory import MemoryStore
from everbell.stores.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite", "sqlite-inline"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store of each engine."""
    opened: Store
    if request.param == "memory":
        opened = MemoryStore()
    else:
        inline = request.param == "sqlite-inline"
        path = ":memory:" if inline else tmp_path / "everbell.db"
        opened = await SqliteStore.open(path, inline=inline)
    yield opened
    await opened.close()

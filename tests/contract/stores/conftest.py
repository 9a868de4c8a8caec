"""Fixtures for tests of one engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from everbell.testing.postgres_server import PostgresServer


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    """A PostgreSQL database of its own: partitions stay when rows go."""
    return postgres_server.url(postgres_server.new_database())


@pytest.fixture
async def con(url: str) -> AsyncIterator[Any]:
    """A connection to it beside the store's."""
    opened = await asyncpg.connect(url, server_settings={"search_path": "everbell"})
    yield opened
    await opened.close()

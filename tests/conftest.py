"""What all tests share. Kept minimal: fixtures live next to the tests that use them."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from everbell.testing.postgres_server import PostgresServer
from everbell.testing.redis_server import RedisServer

# The build server must not fail on a slow neighbour; a developer may dig deeper.
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "deep", parent=settings.get_profile("ci"), max_examples=2000, derandomize=False
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A private PostgreSQL; without the programs the tests fail, they are never skipped."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A private Redis; who uses it empties it. Without the program the tests fail."""
    server = RedisServer()
    yield server
    server.close()

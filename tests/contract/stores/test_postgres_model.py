"""Random verbs: PostgreSQL answers as the oracle in memory does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from everbell.ports.store import Store
from everbell.stores.postgres import PostgresStore
from everbell.testing.contracts.model import Model
from everbell.testing.postgres_server import PostgresServer


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_random_verbs(postgres_server: PostgresServer) -> None:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()

        class PostgresModel(Model):
            def open(self) -> Store:
                self.database = postgres_server.empty_store()
                url = loop.run_until_complete(self.database.__aenter__())
                return loop.run_until_complete(PostgresStore.open(url))

            def wait(self, call: Awaitable[Any]) -> Any:
                return loop.run_until_complete(call)

            def teardown(self) -> None:
                super().teardown()
                loop.run_until_complete(self.database.__aexit__(None, None, None))

        run_state_machine_as_test(
            PostgresModel,
            settings=settings(
                max_examples=50,
                stateful_step_count=50,
                deadline=None,
                derandomize=True,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )

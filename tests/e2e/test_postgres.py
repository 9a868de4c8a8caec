"""Nodes that share a PostgreSQL: one is killed, the server crashes, every slot is accounted for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from everbell_e2e_nodes import FAST_NODE, NodeProcess, until

from everbell.testing.postgres_server import PostgresServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    made = PostgresServer(durable=True)
    yield made
    made.close()


def test_two_nodes_share_a_database_and_outlive_a_kill_and_a_crash_of_the_server(
    new_node: Callable[..., NodeProcess], server: PostgresServer, tmp_path: Path
) -> None:
    address = f'\n[database]\nurl = "{server.url(server.new_database())}"\n'
    node = new_node(config=FAST_NODE + address)
    other = node.sibling()
    log = tmp_path / "outside.log"
    argv = ["sh", "-c", 'echo "$EVERBELL_RUN_ID" >> "$0"', str(log)]
    try:
        node.start()
        other.start()
        job = {
            "name": "tick",
            "schedule": "@every 1s",
            "action": {"kind": "command", "argv": argv},
            "misfire": {"policy": "all", "window": 600, "max_catch_up": 100},
            "overlap": "allow",
            "delivery": "at_most_once",
        }
        made = other.make("/api/v1/jobs", job)
        until(lambda: len(_written(log)) >= 2, 15, "it runs")
        node.kill()
        begun = len(_written(log))
        until(lambda: len(_written(log)) >= begun + 3, 15, "the other node goes on")
        server.stop()
        until(lambda: other.call("GET", "/readyz")[0] != 200, 15, "it says that the store is away")
        server.start()
        begun = len(_written(log))
        until(lambda: len(_written(log)) >= begun + 3, 30, "it goes on when the server is back")
        until_us = int((time.time() - 3) * 1_000_000)
        runs = other.runs(f"&job={made['id']}")
        slots = {int(run["id"].split("-")[1]) for run in runs if not run.get("trigger_id")}
        assert [at for at in range(min(slots), until_us, 1_000_000) if at not in slots] == []
        written = _written(log)
        assert len(written) == len(set(written)), "a run that starts at most once started twice"
        assert other.stop() == 0
    finally:
        other.close()


def _written(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def test_a_wrong_address_is_said_and_ends_the_start(
    new_node: Callable[..., NodeProcess], server: PostgresServer
) -> None:
    node = new_node(config=FAST_NODE + f'\n[database]\nurl = "{server.url("postgres")}"\n')
    os.environ["EVERBELL_DATABASE_URL"] = server.url("nowhere", password="secret-word")
    try:
        with pytest.raises(AssertionError) as caught:
            node.start()
    finally:
        del os.environ["EVERBELL_DATABASE_URL"]
    said = str(caught.value) + node.log()
    assert "does not exist" in said
    assert "database.url" in said
    assert "secret-word" not in node.log()

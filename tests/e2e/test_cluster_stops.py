"""Nodes that are told to stop while what they stand on does not answer: they end in time."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from everbell.testing.postgres_server import PostgresServer
from everbell.testing.proof.cluster import Proof
from everbell.testing.proof.network import SilentProxy
from everbell.testing.redis_server import RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]
ROLES = ("scheduler,api", "worker,api", "api", "scheduler,worker,api")


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    made = RedisServer()
    yield made
    made.close()


def stopped(proof: Proof) -> list[float]:
    """Tell all nodes to stop and return the seconds that each needed."""
    begun = time.monotonic()
    for member in proof.members:
        member.signal(signal.SIGTERM)
    took = []
    for member in proof.members:
        assert member.process is not None
        assert member.process.wait(60) == 0, member.log()[-3000:]
        took.append(round(time.monotonic() - begun, 1))
    return took


def test_a_frozen_redis_holds_up_no_stop(proof: Proof, redis: RedisServer) -> None:
    for roles in ROLES:
        proof.member(settings={"EVERBELL_REDIS_ADDR": redis.addr, "EVERBELL_NODE_ROLES": roles})
    proof.start()
    proof.create()
    time.sleep(1.5)
    redis.freeze()
    took = stopped(proof)
    print(took)
    assert max(took) < 20, took


def test_a_silent_database_holds_up_no_stop(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    way = SilentProxy("127.0.0.1", postgres_server.port)
    url = postgres_server.url(postgres_server.new_database())
    proof = Proof(tmp_path / "cluster", url.replace(f":{postgres_server.port}", f":{way.port}"))
    try:
        for roles in ROLES:
            proof.member(settings={"EVERBELL_NODE_ROLES": roles})
        proof.start()
        proof.create()
        time.sleep(1.5)
        way.mode = "silent"
        took = stopped(proof)
        print(took)
        assert max(took) < 40, took
    finally:
        proof.close()
        way.close()

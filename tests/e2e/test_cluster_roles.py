"""Nodes that schedule and nodes that work, joined by Redis: it is broken, and nothing is lost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import pytest

from everbell.testing.proof.cluster import Proof, until
from everbell.testing.redis_server import RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    made = RedisServer(password="s3cret")
    yield made
    made.close()


def split(proof: Proof, redis: RedisServer | None) -> None:
    """One node schedules, two work; all answer the API."""
    named = {}
    if redis is not None:
        named = {"EVERBELL_REDIS_ADDR": redis.addr, "EVERBELL_REDIS_PASSWORD": redis.password}
    for roles in ("scheduler,api", "worker,api", "worker,api"):
        proof.member(settings={**named, "EVERBELL_NODE_ROLES": roles})
    proof.start()
    proof.create()
    time.sleep(2)


def judge(proof: Proof) -> None:
    proof.judge(settle_s=3)
    workers = {run["node"] for run in _runs(proof) if run["state"] == "succeeded"}
    schedulers = {node["id"] for node in _nodes(proof) if "worker" not in node["roles"]}
    assert len(workers) >= 2
    assert not workers & schedulers


def _runs(proof: Proof) -> list[dict]:
    return proof.members[0].call("GET", "/api/v1/runs?limit=200")[1]["data"]


def _nodes(proof: Proof) -> list[dict]:
    return proof.members[0].call("GET", "/api/v1/nodes")[1]["data"]


FAULTS: dict[str, Callable[[RedisServer], None]] = {
    "flush": RedisServer.flush,
    "restart": RedisServer.restart,
}


@pytest.mark.parametrize("how", sorted(FAULTS))
def test_a_redis_that_forgets_loses_and_doubles_nothing(
    proof: Proof, redis: RedisServer, how: str
) -> None:
    split(proof, redis)
    for _ in range(4):
        with proof.fault(f"Redis, {how}"):
            FAULTS[how](redis)
        time.sleep(random.Random(how).uniform(0.3, 1.2))
    judge(proof)


def test_a_redis_that_is_away_costs_time_only_and_is_told(proof: Proof, redis: RedisServer) -> None:
    split(proof, redis)
    with proof.fault("Redis away"):
        redis.kill()
        until(lambda: any("redis" in str(node["notes"]) for node in _nodes(proof)), 10, "told")
        time.sleep(3)
        assert all(member.ready() for member in proof.members)
        redis.start()
    until(lambda: not any("redis" in str(n["notes"]) for n in _nodes(proof)), 15, "taken back")
    judge(proof)


def test_a_redis_that_hangs_holds_nobody_up(proof: Proof, redis: RedisServer) -> None:
    split(proof, redis)
    with proof.fault("Redis frozen"):
        redis.freeze()
        time.sleep(5)
        redis.thaw()
    judge(proof)


def test_killed_workers_and_a_killed_scheduler_are_made_up_for(
    proof: Proof, redis: RedisServer
) -> None:
    split(proof, redis)
    for number in (1, 0, 2):
        member = proof.members[number]
        with proof.fault(f"kill -9 of {member.name}"):
            member.kill()
        time.sleep(1.5)
        member.launch()
        member.await_ready()
    judge(proof)


def test_without_redis_workers_are_rung_by_the_database(proof: Proof) -> None:
    split(proof, None)
    judge(proof)
    report = proof.verdict()
    assert report.late_p50_s < 1

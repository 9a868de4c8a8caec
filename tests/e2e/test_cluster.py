"""Three nodes on one PostgreSQL: broken in many ways, healed by themselves, judged from outside."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from everbell.testing.postgres_server import PostgresServer
from everbell.testing.proof.cluster import LEASE_S, Proof
from everbell.testing.proof.network import Namespace, SilentProxy, refused

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    made = PostgresServer(durable=True)
    yield made
    made.close()


@pytest.fixture
def proof(server: PostgresServer, tmp_path: Path) -> Iterator[Proof]:
    made = Proof(tmp_path / "cluster", server.url(server.new_database()))
    yield made
    made.close()


@pytest.fixture
def steady(server: PostgresServer, tmp_path: Path) -> Iterator[Proof]:
    """The same with a lease that no busy machine lets run out: a death is none of its doing."""
    made = Proof(tmp_path / "cluster", server.url(server.new_database()), lease_s=3 * LEASE_S)
    yield made
    made.close()


def three(proof: Proof) -> None:
    for _ in range(3):
        proof.member()
    proof.start()
    proof.create()
    time.sleep(2)


def deaths(proof: Proof) -> int:
    """How many nodes found that others had declared them dead."""
    return sum("declared dead" in member.log() for member in proof.members)


def test_kill_9_of_nodes_at_random_loses_and_doubles_nothing(proof: Proof) -> None:
    three(proof)
    chance = random.Random(4)
    for _ in range(4):
        member = chance.choice(proof.members)
        with proof.fault("kill -9"):
            member.kill()
        time.sleep(chance.uniform(0.5, 2.5))
        member.launch()
    for member in proof.members:
        member.await_ready()
    proof.judge()


def test_nodes_stopped_for_longer_than_the_lease_start_nothing_under_old_claims(
    proof: Proof,
) -> None:
    three(proof)
    for member in proof.members[:2]:
        with proof.fault("SIGSTOP"):
            member.signal(signal.SIGSTOP)
            time.sleep(LEASE_S * 2)
            member.signal(signal.SIGCONT)
    proof.judge()
    assert deaths(proof) == 2


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
def test_a_restart_of_the_server_kills_nobody_and_heals(
    steady: Proof, server: PostgresServer, how: str
) -> None:
    three(steady)
    with steady.fault(f"server, {how}"):
        if how == "kill":
            server.kill()
        else:
            server.stop(how)
        time.sleep(1)
        server.start()
    steady.judge()
    assert deaths(steady) == 0


def test_ended_connections_are_made_anew(steady: Proof, server: PostgresServer) -> None:
    three(steady)
    for _ in range(3):
        with steady.fault("pg_terminate_backend", heals_s=3):
            server.terminate_all()
        time.sleep(0.7)
    steady.judge()
    assert deaths(steady) == 0


@pytest.mark.parametrize("mode", ["silent", "deaf", "mute"])
def test_a_silent_way_to_the_server_takes_out_one_node_and_comes_back(
    proof: Proof, server: PostgresServer, tmp_path: Path, mode: str
) -> None:
    proxy = SilentProxy("127.0.0.1", server.port)
    try:
        proof.member()
        proof.member()
        proof.member(url=proof.url.replace(f":{server.port}/", f":{proxy.port}/"))
        proof.start()
        proof.create()
        time.sleep(2)
        with proof.fault(f"way {mode}"):
            proxy.mode = mode
            time.sleep(5)
            proxy.mode = "open"
        proof.judge()
        cut_off = proof.members[2]
        assert cut_off.ready()
    finally:
        proof.close()
        proxy.close()


@pytest.mark.parametrize("how", ["cable", "silent", "deaf"])
def test_a_node_cut_off_by_the_network_heals_by_itself(tmp_path: Path, how: str) -> None:
    if why := refused():
        print(f"no network namespaces here ({why}); proved by the proxy that goes silent")
    network = None if why else Namespace()
    near = "127.0.0.1" if network is None else network.near
    server = PostgresServer(durable=True, listen=() if network is None else (near,))
    proxy = SilentProxy("127.0.0.1", server.port)
    proof = Proof(tmp_path / "cluster", server.url(server.new_database()), host=near)
    try:
        proof.member()
        proof.member()
        if network is None:
            proof.member(url=proof.url.replace(f":{server.port}/", f":{proxy.port}/"))
        else:
            url = proof.url.replace("127.0.0.1", near)
            proof.member(url=url, host=network.far, inside=network.inside)
        proof.start()
        proof.create()
        time.sleep(2)
        with proof.fault(f"network, {how}", cut_off=network.far if network is not None else ""):
            if network is None:
                proxy.mode = "deaf" if how == "deaf" else "silent"
            else:
                network.cut(how)
            time.sleep(10 if how == "cable" else 6)
            proxy.mode = "open"
            if network is not None:
                network.heal()
        proof.members[2].await_ready(8)
        proof.judge()
    finally:
        proof.close()
        proxy.close()
        server.close()
        if network is not None:
            network.close()

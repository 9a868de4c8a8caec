"""Nodes that deal shards among them, over one store and on one hand-set clock."""

from __future__ import annotations

from collections import Counter

import pytest
from msgspec.structs import replace

from everbell.domain.decision import Claim, Decision
from everbell.domain.job import US
from everbell.domain.placement import SHARDS
from everbell.domain.records import Node
from everbell.domain.run import Run, RunKey
from everbell.engine.loads import Loads
from everbell.engine.placement import REPORT_S, STEADY_S, Placement
from everbell.ports.cluster import Assignment, Share
from everbell.ports.store import Finish
from everbell.stores.memory import MemoryStore
from everbell.testing.hand_clock import BASE_US, HandClock

LEASE_US = 6_000_000


def decision(job_id: int, period_s: float) -> Decision:
    next_us = BASE_US + round(period_s * US)
    claim = Claim(slot_us=BASE_US, due_us=BASE_US, trigger="schedule", max_active=None)
    return Decision(
        job_id=job_id,
        project_id=1,
        version=1,
        cursor_us=BASE_US,
        next_slot_us=next_us,
        claims=(claim,),
    )


def finish(job_id: int, seconds: float) -> Finish:
    run = Run(key=RunKey(BASE_US, job_id), project_id=1, version=1, state="claimed")
    ended = BASE_US + round(seconds * US)
    return Finish(run=run, state="succeeded", started_us=BASE_US, finished_us=ended)


class Cluster:
    """Nodes with a placement each; a heartbeat is the row that is written here."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.store = MemoryStore()
        self.rows: dict[str, Node] = {}
        self.placements: dict[str, Placement] = {}
        self.loads: dict[str, Loads] = {}

    async def start(self, node_id: str, name: str = "", **changes: object) -> Placement:
        now = self.clock.now_us()
        row = Node(
            id=node_id,
            name=name or f"name-{node_id}",
            host=f"host-{node_id}",
            pid=1,
            version="1",
            started_us=now,
            heartbeat_us=now,
            lease_until_us=now + LEASE_US,
            state="up",
            workers=10,
            running=0,
            queued=0,
            rss_bytes=1,
            cpu_percent=0.0,
        )
        self.rows[node_id] = replace(row, **changes)
        await self.beat(node_id)
        self.loads[node_id] = Loads(self.clock)
        made = Placement(
            self.clock,
            lambda name, error: pytest.fail(f"{name}: {error}"),
            store=self.store,
            loads=self.loads[node_id],
            behind_us=750_000,
        )
        made.node_id = lambda: node_id
        self.placements[node_id] = made
        return made

    async def beat(self, node_id: str, **changes: object) -> None:
        now = self.clock.now_us()
        row = replace(
            self.rows[node_id], heartbeat_us=now, lease_until_us=now + LEASE_US, **changes
        )
        self.rows[node_id] = row
        pulse = await self.store.heartbeat(row)
        if node_id in self.placements:
            self.placements[node_id].heard(pulse.epoch)

    async def kill(self, node_id: str) -> None:
        del self.placements[node_id]
        row = self.rows.pop(node_id)
        await self.store.heartbeat(replace(row, lease_until_us=self.clock.now_us() - 1))
        await self.store.declare_dead(self.clock.now_us())

    async def steps(self, count: int = 1) -> None:
        for _ in range(count):
            self.clock.go(1)
            for node_id in self.rows:
                await self.beat(node_id)
            for one in list(self.placements.values()):
                await one.step()

    def owned(self) -> dict[str, int]:
        found = {}
        for node_id, one in self.placements.items():
            found[node_id] = SHARDS if one.share is None else len(one.share.shards)
        return found


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


async def test_a_node_that_is_alone_takes_everything_and_writes_nothing(cluster: Cluster) -> None:
    one = await cluster.start("a")
    cluster.loads["a"].decided([decision(5, 60.0)])
    await cluster.steps(30)
    assert one.share is None
    assert await cluster.store.get_assignment() == Assignment()
    assert await cluster.store.shard_loads() == {}


async def test_three_nodes_share_evenly_and_their_shards_are_disjoint(cluster: Cluster) -> None:
    for node_id in "abc":
        await cluster.start(node_id)
        await cluster.steps(2)
    assert sum(cluster.owned().values()) == SHARDS
    assert all(count in {341, 342} for count in cluster.owned().values())
    shards: Counter[int] = Counter()
    for one in cluster.placements.values():
        assert one.share is not None
        assert one.share.behind_us == 750_000
        shards.update(one.share.shards)
    assert set(shards.values()) == {1}


async def test_nothing_is_written_while_nothing_changes(cluster: Cluster) -> None:
    for node_id in "abc":
        await cluster.start(node_id)
    await cluster.steps(5)
    epoch = (await cluster.store.get_assignment()).epoch
    await cluster.steps(100)
    assert (await cluster.store.get_assignment()).epoch == epoch
    assert await cluster.store.shard_loads() == {}


async def test_what_a_node_knew_of_all_shards_is_dealt_evenly_when_others_come(
    cluster: Cluster,
) -> None:
    await cluster.start("a")
    await cluster.steps(2)
    cluster.loads["a"].decided([decision(job_id, 60.0) for job_id in range(1, 31)])
    cluster.loads["a"].ended([finish(job_id, 2.0) for job_id in range(1, 31)])
    await cluster.start("b")
    await cluster.start("c")
    await cluster.steps(3)
    stored = await cluster.store.shard_loads()
    assert len(stored) == 30
    owners = (await cluster.store.get_assignment()).owners
    assert set(Counter(owners[shard] for shard in range(1, 31)).values()) == {10}


async def test_the_owner_reports_what_changed_noticeably_and_shards_move(cluster: Cluster) -> None:
    for node_id in "ab":
        await cluster.start(node_id)
    await cluster.steps(3)
    owners = (await cluster.store.get_assignment()).owners
    mine = [shard for shard, owner in enumerate(owners) if owner == "b"][:20]
    for shard in mine:
        cluster.loads["b"].decided([decision(shard, 10.0)])
    await cluster.steps(round(3 * REPORT_S))
    assert set(await cluster.store.shard_loads()) == set(mine)
    owners = (await cluster.store.get_assignment()).owners
    assert Counter(owners[shard] for shard in mine) == {"a": 10, "b": 10}


async def test_shards_of_a_dead_node_are_everybodys_at_once_and_then_dealt(
    cluster: Cluster,
) -> None:
    for node_id in "abc":
        await cluster.start(node_id)
    await cluster.steps(4)
    owners = (await cluster.store.get_assignment()).owners
    lost = {shard for shard, owner in enumerate(owners) if owner == "a"}
    await cluster.kill("a")
    c = cluster.placements["c"]
    await c.step()  # the younger one looks first: it can't deal
    assert c.share is not None
    assert lost <= set(c.share.shards)
    await cluster.steps(2)
    assert cluster.owned() == {"b": 512, "c": 512}
    moved = (await cluster.store.get_assignment()).owners
    assert {shard for shard in range(SHARDS) if moved[shard] != owners[shard]} == lost


async def test_the_last_one_left_takes_everything(cluster: Cluster) -> None:
    for node_id in "ab":
        await cluster.start(node_id)
    await cluster.steps(3)
    await cluster.kill("a")
    await cluster.steps(1)
    assert cluster.placements["b"].share is None


async def test_a_restarted_node_gets_its_shards_back(cluster: Cluster) -> None:
    for node_id in "abc":
        await cluster.start(node_id)
    await cluster.steps(4)
    before = (await cluster.store.get_assignment()).owners
    await cluster.kill("c")
    await cluster.steps(4)
    await cluster.start("c2", "name-c")
    await cluster.steps(4)
    after = (await cluster.store.get_assignment()).owners
    back = sum(b == "c" and a == "c2" for b, a in zip(before, after, strict=True))
    assert back == 341
    assert all(a == b for b, a in zip(before, after, strict=True) if b != "c")


@pytest.mark.parametrize("how", ["drained", "throttled", "worker"])
async def test_nodes_that_take_nothing_own_nothing_and_get_it_back(
    cluster: Cluster, how: str
) -> None:
    for node_id in "abc":
        await cluster.start(node_id)
    await cluster.steps(4)
    changes: dict[str, dict[str, object]] = {
        "drained": {"state": "draining"},
        "throttled": {"state": "throttled"},
        "worker": {"roles": ("worker",)},
    }
    await cluster.beat("b", **changes[how])
    await cluster.steps(3)
    owners = (await cluster.store.get_assignment()).owners
    assert Counter(owners) == {"a": 512, "c": 512}
    if how != "worker":
        assert cluster.placements["b"].share == Share(shards=(), behind_us=750_000)
    await cluster.beat("b", state="up", roles=("scheduler",))
    await cluster.steps(3)
    assert cluster.owned()["b"] == 341


async def test_when_all_are_drained_nobody_is_kept_from_anything(cluster: Cluster) -> None:
    for node_id in "ab":
        await cluster.start(node_id)
    await cluster.steps(3)
    for node_id in "ab":
        await cluster.beat(node_id, state="draining")
    await cluster.steps(2)
    assert cluster.owned() == {"a": SHARDS, "b": SHARDS}


async def test_a_busy_moment_moves_nothing_and_a_busy_while_does(cluster: Cluster) -> None:
    for node_id in "ab":
        await cluster.start(node_id)
    await cluster.steps(3)
    epoch = (await cluster.store.get_assignment()).epoch
    await cluster.beat("b", machine_cpu=97.0)
    await cluster.steps(5)
    await cluster.beat("b", machine_cpu=10.0)
    await cluster.steps(round(2 * STEADY_S))
    assert (await cluster.store.get_assignment()).epoch == epoch
    await cluster.beat("b", machine_cpu=97.0)
    await cluster.steps(round(STEADY_S + 2 * REPORT_S))
    owned = cluster.owned()
    assert owned["a"] > 1.5 * owned["b"]


async def test_a_newcomer_is_judged_as_those_that_measure_the_same(cluster: Cluster) -> None:
    for node_id in "ab":
        await cluster.start(node_id, machine_cpu=97.0)
    await cluster.steps(3)
    for node_id in "ab":
        await cluster.beat(node_id, machine_cpu=10.0)
    await cluster.steps(1)
    await cluster.start("c", machine_cpu=10.0)
    await cluster.steps(3)
    assert cluster.owned()["c"] == 341


async def test_of_two_that_deal_at_once_one_wins_and_both_follow(cluster: Cluster) -> None:
    a = await cluster.start("a")
    b = await cluster.start("b")
    await cluster.steps(1)
    cluster.clock.go(10)
    for node_id in "ab":
        await cluster.beat(node_id)

    stored = cluster.store.set_assignment

    async def lost(new: Assignment) -> bool:
        await stored(replace(new, owners=tuple(reversed(new.owners))))
        return False

    await cluster.start("c")
    cluster.store.set_assignment = lost  # type: ignore[method-assign]
    assert await a.step() < 1.0
    cluster.store.set_assignment = stored  # type: ignore[method-assign]
    await cluster.steps(2)
    assert a.share is not None
    assert b.share is not None
    assert sum(cluster.owned().values()) == SHARDS


async def test_what_this_node_meets_is_told(cluster: Cluster) -> None:
    one = await cluster.start("a")
    met: list[int] = []
    one.met = lambda nodes: met.append(len(nodes))
    await cluster.steps(1)
    one.is_scheduler = False
    await cluster.steps(1)
    assert met == [1, 1]

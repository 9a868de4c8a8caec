"""Nodes that share jobs by shard, in virtual time: even, and on after one is drained or dies."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from everbell.config.schema import Engine, Execution, NodeSettings, Settings
from everbell.domain.job import US, CommandAction, Definition
from everbell.ports.store import NewJob
from everbell.stores.memory import MemoryStore
from everbell.testing.contracts.making import project
from everbell.testing.sim.cluster import Cluster
from everbell.testing.sim.history import Start
from everbell.testing.sim.loop import VirtualLoop

BASE_US = 1_790_000_000 * US
JOBS = 60
SETTINGS = Settings(
    node=NodeSettings(name="sim", heartbeat=2.0, lease=6.0),
    engine=Engine(max_workers=100),
    execution=Execution(process_timeout=30.0),
)


class World:
    """Three nodes over one store, and sixty jobs that run once a second."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.store = MemoryStore()
        self.cluster = Cluster(1, loop, self.store, settings=SETTINGS, base_us=BASE_US)
        self.cluster.faults.latency_s = 0.01

    async def start(self, nodes: int = 3) -> None:
        owner = await self.store.add_project(project())
        jobs = [
            NewJob(
                uuid=f"u{number}",
                project_id=owner.id,
                definition=Definition(
                    name=f"j{number}",
                    action=CommandAction(argv=("x",)),
                    schedule="@every 1s",
                    overlap="allow",
                ),
                next_slot_us=BASE_US + US,
            )
            for number in range(JOBS)
        ]
        await self.store.add_jobs(jobs, BASE_US)
        for slot in range(nodes):
            self.cluster.boot(slot).executor.brisk = True
        await self.passes(12)

    async def passes(self, seconds: float) -> None:
        await self.cluster.lives[0].clock.sleep(seconds)

    def starts(self, since_s: float) -> Counter[str]:
        """Count starts by the place of their node since a time."""
        since_us = round(since_s * US)
        events: list[Any] = self.cluster.history.events
        return Counter(
            event.node.partition(".")[0]
            for event in events
            if isinstance(event, Start) and event.at_us >= since_us
        )

    def lateness(self, since_s: float) -> list[float]:
        """Return by how many seconds starts were late since a time, the least first."""
        events: list[Any] = self.cluster.history.events
        return sorted(
            (event.wall_us - event.key.slot_us) / US
            for event in events
            if isinstance(event, Start) and event.at_us >= round(since_s * US)
        )


def in_world(story: Any) -> None:
    loop = VirtualLoop(1)

    async def told() -> None:
        world = World(loop)
        await story(world)
        await world.cluster.reap()

    try:
        loop.run_until_complete(told())
    finally:
        loop.close()


def test_three_nodes_start_about_as_many_runs_each_and_in_time() -> None:
    async def story(world: World) -> None:
        await world.start()
        since = world.loop.time()
        await world.passes(20)
        counts = world.starts(since)
        assert sum(counts.values()) == pytest.approx(20 * JOBS, abs=JOBS)
        assert max(counts.values()) / min(counts.values()) <= 1.3
        assert world.lateness(since)[-1] < 0.05

    in_world(story)


def test_a_drained_node_starts_nothing_and_the_others_all_until_it_is_resumed() -> None:
    async def story(world: World) -> None:
        await world.start()
        await world.store.drain("n1", "new kernel", BASE_US)
        await world.passes(4)
        since = world.loop.time()
        await world.passes(10)
        counts = world.starts(since)
        assert set(counts) == {"n0", "n2"}
        assert sum(counts.values()) == pytest.approx(10 * JOBS, abs=JOBS)
        assert world.lateness(since)[-1] < 0.05
        life = world.cluster.lives[1]
        assert life.engine.health()["drained"] == "new kernel"
        assert not life.engine.firing.timers.waiting()
        await world.store.resume("n1")
        await world.passes(4)
        since = world.loop.time()
        await world.passes(10)
        assert min(world.starts(since).values()) > 10 * JOBS / 3 / 1.3
        assert "drained" not in life.engine.health()

    in_world(story)


def test_what_waits_on_a_drained_node_is_handed_back_in_time() -> None:
    async def story(world: World) -> None:
        await world.start()
        since = world.loop.time()
        await world.store.drain("n1", "new kernel", BASE_US)
        await world.passes(8)
        # Nothing waits for a lease: claims are handed back, slots are taken by others.
        assert world.lateness(since)[-1] < 1.0

    in_world(story)


def test_slots_of_a_node_that_died_or_sleeps_are_a_quarter_of_a_second_late() -> None:
    async def story(world: World) -> None:
        await world.start()
        world.cluster.pause(world.cluster.lives[1])
        await world.passes(1.0)  # what it had claimed waits for its lease
        since = world.loop.time()
        await world.passes(3)
        late = [seconds for seconds in world.lateness(since) if seconds > 0.05]
        assert world.starts(since).keys() == {"n0", "n2"}
        assert late
        assert all(0.25 <= seconds < 0.45 for seconds in late)

    in_world(story)


def test_one_node_left_of_three_takes_everything_in_time() -> None:
    async def story(world: World) -> None:
        await world.start()
        for slot in (1, 2):
            world.cluster.crash(world.cluster.lives[slot], "test")
        await world.passes(12)
        since = world.loop.time()
        await world.passes(10)
        assert world.starts(since)["n0"] == pytest.approx(10 * JOBS, abs=JOBS)
        assert world.lateness(since)[-1] < 0.05
        assert world.cluster.lives[0].engine.placement.share is None

    in_world(story)

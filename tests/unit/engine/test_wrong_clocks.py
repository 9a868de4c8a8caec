"""Nodes whose clock is wrong, over a store that has a clock of its own: they harm nobody."""

from __future__ import annotations

import pytest

from everbell.domain.job import US
from everbell.services import holds
from everbell.services.context import LOCAL
from everbell.testing.engine_bench import BASE_US, passes
from everbell.testing.sim.world import SimClock
from everbell.testing.small_cluster import story


def with_clock(small, off_s: float):
    """Start the second of three nodes with a wrong clock; all are judged by the store's."""
    small.cluster.shared.clock_us = SimClock(BASE_US).now_us
    small.cluster.skews[1] = round(off_s * US)
    return small.boot(0), small.boot(1), small.boot(2)


@pytest.mark.parametrize("off_s", [-3600, -10, 10, 3600])
def test_the_others_go_on_as_they_are(off_s):
    async def tell(small):
        small.cluster.crash(small.cluster.lives[0], "to start with clocks")
        lives = with_clock(small, off_s)
        await passes(3)
        ids = [lives[0].engine.node_id, lives[2].engine.node_id]
        job = await small.job("j", schedule="@every 2s")
        await passes(40)
        assert [lives[0].engine.node_id, lives[2].engine.node_id] == ids
        rows = [row for row in await small.rows(job) if row.attempt > 1 or row.node not in ids]
        assert rows == []
        assert len(small.begun) >= 19
        nodes = await small.store.list_nodes()
        assert len([node for node in nodes if node.name == "n1"]) <= 3
        assert lives[1].engine.heartbeat.drained.startswith("clock: off by")

    story(tell, nodes=1)


def test_a_hold_lasts_as_long_as_it_was_asked_for():
    async def tell(small):
        with_clock(small, 3600)
        await passes(3)
        job = await small.job("j", schedule="@every 2s")
        until_us = BASE_US + 30 * US
        await holds.add(small.services, LOCAL, "job", job.id, end=holds.End(until_us, "once"))
        await passes(20)
        assert len(await small.store.list_holds()) == 1
        await passes(10)
        assert await small.store.list_holds() == []

    story(tell, nodes=1)

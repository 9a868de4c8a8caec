"""Runs that wait in the queue start at once, also where others might bring them by an offer."""

from __future__ import annotations

import asyncio

import pytest

from everbell.domain.errors import StoreUnavailable
from everbell.domain.job import US, Retry, Then
from everbell.engine.firing import Firing
from everbell.services import limits, nodes
from everbell.services.context import LOCAL
from everbell.testing.engine_bench import (
    BASE_US,
    Bench,
    FakeExecutor,
    FakeStore,
    make_job,
    make_run,
    passes,
    virtually,
)
from everbell.testing.small_cluster import DONE, FAILED, story

BOTH = (("scheduler", "worker"),) * 2
SPLIT = (("scheduler",), ("worker",))


def late_s(small, rows) -> list[float]:
    begun = sorted(at for _, at in small.begun)
    due = sorted((row.due_us - BASE_US) / US for row in rows)
    return [one - two for one, two in zip(begun, due, strict=True)]


@pytest.mark.parametrize("roles", [BOTH, SPLIT])
def test_slots_of_jobs_that_share_a_limit_start_on_time(roles):
    async def tell(small):
        await limits.put(small.services, LOCAL, "a", 1)
        job = await small.job("j", schedule="@every 5s", limits=("a",))
        await passes(12)
        assert max(late_s(small, await small.ended(job, 2))) < 0.3

    story(tell, roles=roles)


@pytest.mark.parametrize("roles", [BOTH, SPLIT])
def test_a_follower_with_a_delay_starts_when_it_is_over(roles):
    async def tell(small):
        second = await small.job("second")
        first = await small.job("first", then=(Then(job="second", delay_s=3.3),))
        await small.start(first)
        rows = await small.ended(second)
        small.begun = [one for one in small.begun if one[0] == "second"]
        assert max(late_s(small, rows)) < 0.3

    story(tell, roles=roles)


@pytest.mark.parametrize("behind_us", [20_000, 90_000])
def test_offers_count_for_a_worker_whose_clock_is_a_little_behind(behind_us):
    async def tell(small):
        small.cluster.crash(small.cluster.lives[1], "to start with another clock")
        small.cluster.skews[1] = -behind_us
        small.boot(1)
        job = await small.job("j", schedule="@every 5s")
        await passes(13)
        assert max(late_s(small, await small.ended(job, 2))) < 0.3

    story(tell, roles=SPLIT)


def test_what_somebody_asked_for_is_not_forgotten_when_the_store_fails():
    async def tell(small):
        job = await small.job("j")
        store = small.cluster.lives[1].store
        real, fails = store.take_queued, [StoreUnavailable("away")] * 2

        async def take_queued(*args, **kwargs):
            if fails:
                raise fails.pop()
            return await real(*args, **kwargs)

        small.cluster.lives[1].engine.firing.store.__dict__["take_queued"] = take_queued
        await small.start(job)
        rows = await small.ended(job)
        assert not fails
        assert max(late_s(small, rows)) < 0.5

    story(tell, roles=SPLIT)


def test_more_than_a_batch_of_asked_runs_starts_at_once():
    async def tell(small):
        small.cluster.lives[1].engine.firing.batch_size = 3
        small.script["j", "work"] = [(5, DONE)]
        job = await small.job("j", overlap="allow")
        for _ in range(10):
            await small.start(job)
        assert max(late_s(small, await small.ended(job, 10))) < 0.5

    story(tell, roles=SPLIT)


def test_a_retry_that_is_handed_back_is_made_elsewhere_in_time():
    async def tell(small):
        small.script["j", "work"] = [(0, FAILED), (0, DONE)]
        job = await small.job("j", retry=Retry(max=3, delay_s=3.2))
        await small.start(job)
        await passes(1)
        [row] = await small.rows(job)
        await nodes.drain(small.services, LOCAL, row.node and _name(small, row.node))
        await passes(4)
        [row] = await small.ended(job)
        assert row.attempt == 2
        assert small.begun[1][1] - (row.due_us - BASE_US) / US < 0.5

    story(tell, roles=BOTH)


def _name(small, node_id):
    lives = small.cluster.lives.values()
    return next(f"n{life.slot}" for life in lives if life.engine.node_id == node_id)


def test_a_claim_on_its_way_is_no_lost_one():
    """The list of claims holds one whose answer is on its way: it would start twice."""

    class Late(FakeStore):
        async def take_queued(self, node, now_us, limit, keys=None):
            self.claims = [make_run(node=node)]
            await passes(3)
            return self.claims

        async def list_runs(self, where, limit, before=None):
            return list(self.claims)

    async def tell():
        bench = Bench(Late(make_job()), FakeExecutor(lasts_s=0.1))
        bench.store.claims = []
        one = Firing(
            bench.clock, bench._fail, store=bench.store, catalog=bench.catalog,
            finisher=bench.finisher, execution=bench.execution,
        )  # fmt: skip
        one.node_id = "n1"
        one.timers.doubt = lambda: one.timers.looked(one.timers._now())
        claim = asyncio.get_running_loop().create_task(one.claim_offered([make_run().key]))
        await passes(0.1)
        await one.adopt()
        await claim
        await passes(5)
        return len(bench.executor.started)

    assert virtually(tell()) == 1


def test_claims_cut_short_by_a_stop_go_back_and_are_not_lost():
    async def tell(small):
        job = await small.job("j", delivery="at_most_once")
        life = small.cluster.lives[1]
        real = life.store.take_queued

        async def take_queued(*args, **kwargs):
            taken = await real(*args, **kwargs)
            if taken:
                await passes(5)
            return taken

        life.engine.firing.store.__dict__["take_queued"] = take_queued
        await small.start(job)
        await passes(0.5)
        await small.cluster.stop(life, 1.0)
        small.boot(1)
        [row] = await small.ended(job)
        assert (row.state, row.attempt) == ("succeeded", 1)

    story(tell, roles=SPLIT)


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("by_hand", [False, True])
def test_work_that_waits_is_shared_by_the_workers_there_are(broken, by_hand):
    """Nobody keeps for its busy workers what another node could start, not even one that comes."""

    async def tell(small):
        small.cluster.broker.lost = broken
        for life in list(small.cluster.lives.values()):
            life.engine.execution.workers = 2
        small.cluster.crash(small.cluster.lives[3], "to come later")
        made = []
        for number in range(24):
            small.script[f"j{number}", "work"] = [(5, DONE)]
            made.append(await small.job(f"j{number}", schedule="@every 60s"))
        for job in made if by_hand else ():
            await small.start(job)
        await passes(3 if by_hand else 63)
        small.boot(3).engine.execution.workers = 2
        await passes(40)
        assert len(small.begun) == 24
        assert small.begun[-1][1] - small.begun[0][1] < 28

    story(tell, roles=(("scheduler",), ("worker",), ("worker",), ("worker",)))


def test_what_follows_a_run_of_a_drained_node_starts_elsewhere_at_once():
    async def tell(small):
        small.script["first", "work"] = [(4, DONE)]
        second = await small.job("second")
        first = await small.job("first", then=(Then(job="second"),))
        await small.start(first)
        await passes(1)
        [row] = await small.rows(first)
        await nodes.drain(small.services, LOCAL, _name(small, row.node))
        rows = await small.ended(second)
        small.begun = small.begun[1:]
        assert max(late_s(small, rows)) < 0.3

    story(tell, roles=BOTH)

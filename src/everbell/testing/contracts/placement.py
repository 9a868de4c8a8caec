"""Which node takes which jobs: shares, what may be taken, assignments, loads."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from everbell.domain.job import Job
from everbell.domain.placement import SHARDS, shard_of
from everbell.domain.run import RunKey
from everbell.ports.store import Assignment, Share, Store
from everbell.testing.contracts.making import (
    NOW,
    SEC,
    add_job,
    add_jobs,
    claimed,
    hold,
    new_job,
    new_run,
    node,
)


def share(*jobs: Job, behind_us: int = 5 * SEC) -> Share:
    """Return the share of which these jobs are."""
    return Share(shards=tuple(sorted({shard_of(job.id) for job in jobs})), behind_us=behind_us)


class PlacementContract:
    """``share`` of ``due`` and ``next_due_us``, ``keys`` of ``take_queued``, assignments, loads."""

    async def test_jobs_of_other_shards_are_due_later(self, store: Store) -> None:
        a, b, c = await add_jobs(
            store, new_job("a"), new_job("b", cursor=NOW - SEC), new_job("c", cursor=NOW + 1)
        )
        own = share(a, c)
        assert [job.id for job in await store.due(NOW, 9, own)] == [a.id]
        assert [job.id for job in await store.due(NOW + 1, 9, own)] == [a.id, c.id]
        assert [job.id for job in await store.due(NOW + 4 * SEC - 1, 9, own)] == [a.id, c.id]
        late = await store.due(NOW + 4 * SEC, 9, own)
        assert [job.id for job in late] == [b.id, a.id, c.id]
        assert late == await store.due(NOW + 4 * SEC, 9)
        assert [job.id for job in await store.due(NOW + 4 * SEC, 2, own)] == [b.id, a.id]

    async def test_without_shards_every_job_is_of_others_and_with_all_none(
        self, store: Store
    ) -> None:
        job = await add_job(store)
        nothing, everything = share(), Share(shards=tuple(range(SHARDS)), behind_us=5 * SEC)
        assert await store.due(NOW + 5 * SEC - 1, 9, nothing) == []
        assert [it.id for it in await store.due(NOW + 5 * SEC, 9, nothing)] == [job.id]
        assert [it.id for it in await store.due(NOW, 9, everything)] == [job.id]
        assert await store.next_due_us(nothing) == NOW + 5 * SEC
        assert await store.next_due_us(everything) == NOW

    async def test_what_is_due_next_is_of_the_share(self, store: Store) -> None:
        a, b = await add_jobs(store, new_job("a"), new_job("b", cursor=NOW - SEC))
        assert await store.next_due_us(share(a)) == NOW
        assert await store.next_due_us(share(a, behind_us=SEC // 2)) == NOW - SEC // 2
        assert await store.next_due_us(share(b)) == NOW - SEC
        assert await store.next_due_us(share(a, b)) == await store.next_due_us() == NOW - SEC
        await store.enqueue(new_run(a, due=NOW - SEC // 2), NOW)
        assert await store.next_due_us(share(a)) == NOW - SEC // 2
        assert await store.next_due_us(share()) == NOW - SEC // 2
        assert await store.next_due_us(share(a), queued=False) == NOW
        assert await store.next_due_us(queued=False) == NOW - SEC
        nobody = Share(shards=(), behind_us=1 << 60)
        assert await store.due(NOW + 999 * SEC, 9, nobody) == []
        assert await store.next_due_us(nobody) == NOW - SEC // 2

    async def test_what_is_not_planned_is_of_no_share(self, store: Store) -> None:
        a, b = await add_jobs(store, new_job("a"), new_job("b", cursor=NOW + SEC))
        await store.change_job(replace(a, enabled=False), 1, NOW)
        assert await store.next_due_us(share(a, b)) == NOW + SEC
        assert await store.next_due_us(share(a)) == NOW + 6 * SEC
        await store.add_hold(hold())
        assert await store.next_due_us(share(a, b)) is None
        assert await store.due(NOW + 9 * SEC, 9, share(a, b)) == []

    async def test_only_the_keys_asked_for_are_taken(self, store: Store) -> None:
        job, off = await add_jobs(
            store, new_job("a", overlap="allow"), new_job("b", overlap="allow")
        )
        for name in ("a", "b", "c"):
            await store.enqueue(new_run(job, name), NOW)
        later = await store.enqueue(new_run(job, "later", due=NOW + 1), NOW)
        chain = await store.enqueue(new_run(off, "x", trigger="chain"), NOW)
        await store.change_job(replace(off, parked="why"), 1, NOW)
        unknown = RunKey(NOW, job.id, "unknown")
        c, a = RunKey(NOW, job.id, "c"), RunKey(NOW, job.id, "a")
        assert await store.take_queued("n1", NOW, 9, []) == []
        taken = await store.take_queued("n1", NOW, 9, [c, unknown, a, c, later.key, chain.key])
        assert [(run.key, run.node) for run in taken] == [(a, "n1"), (c, "n1")]
        assert taken[0].token < taken[1].token
        assert await store.take_queued("n2", NOW, 9, [a, c]) == []
        rest = await store.take_queued("n2", NOW, 9)
        assert [run.key.trigger_id for run in rest] == ["b"]

    async def test_keys_are_taken_up_to_the_limit_and_to_what_jobs_allow(
        self, store: Store
    ) -> None:
        free = await add_job(store, "free", overlap="allow")
        one = await add_job(store, "one")
        shared = await add_job(store, "shared", overlap="allow", limits=("db",))
        keys = [
            (await store.enqueue(new_run(job, name), NOW)).key
            for job in (free, one, shared)
            for name in ("a", "b")
        ]
        assert [run.key for run in await store.take_queued("n1", NOW, 1, keys)] == [keys[0]]
        rest = await store.take_queued("n1", NOW, 9, keys)
        assert sorted(run.key for run in rest) == sorted([keys[1], keys[2], keys[4]])
        assert await store.take_queued("n1", NOW, 9, keys) == []

    async def test_a_claimed_run_is_not_taken_by_its_key(self, store: Store) -> None:
        run = await claimed(store, await add_job(store))
        assert await store.take_queued("n2", NOW, 9, [run.key]) == []
        assert await store.get_run(run.key) == run

    async def test_of_many_that_take_the_same_keys_each_run_goes_to_one(self, store: Store) -> None:
        job = await add_job(store, overlap="allow")
        keys = [(await store.enqueue(new_run(job, f"m{number}"), NOW)).key for number in range(20)]
        answers = await asyncio.gather(
            *(store.take_queued(f"n{number}", NOW, 20, keys[number:] + keys) for number in range(8))
        )
        taken = [run.key for runs in answers for run in runs]
        assert sorted(taken) == sorted(keys)

    async def test_an_assignment_follows_the_one_before(self, store: Store) -> None:
        assert await store.get_assignment() == Assignment()
        first = Assignment(epoch=1, owners=("n1", "", "n2") * 341 + ("n1",))
        assert not await store.set_assignment(replace(first, epoch=2))
        assert not await store.set_assignment(replace(first, epoch=0))
        assert await store.set_assignment(first)
        assert not await store.set_assignment(replace(first, owners=()))
        assert await store.get_assignment() == first
        assert (await store.heartbeat(node())).epoch == 1
        assert await store.set_assignment(Assignment(epoch=2))
        assert await store.get_assignment() == Assignment(epoch=2)

    async def test_of_assignments_that_follow_the_same_one_is_stored(self, store: Store) -> None:
        for epoch in range(1, 6):
            offered = [
                Assignment(epoch=epoch, owners=(f"n{number}",) * SHARDS) for number in range(8)
            ]
            won = await asyncio.gather(*(store.set_assignment(it) for it in offered))
            assert won.count(True) == 1
            assert await store.get_assignment() == offered[won.index(True)]

    async def test_loads_are_kept_by_shard(self, store: Store) -> None:
        assert await store.shard_loads() == {}
        await store.report_loads({}, NOW)
        await store.report_loads({7: 1.5, 1023: 0.25}, NOW)
        await store.report_loads({7: 2.5, 0: 0.0}, NOW + 1)
        assert await store.shard_loads() == {0: 0.0, 7: 2.5, 1023: 0.25}

    async def test_loads_may_be_reported_by_many_at_once(self, store: Store) -> None:
        forth = dict.fromkeys(range(SHARDS), 1.0)
        back = dict.fromkeys(reversed(range(SHARDS)), 2.0)
        await asyncio.gather(*(store.report_loads(it, NOW) for it in (forth, back) * 3))
        found = await store.shard_loads()
        assert set(found.values()) in ({1.0}, {2.0})
        assert len(found) == SHARDS

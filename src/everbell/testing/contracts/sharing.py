"""Limits that jobs share, and runs that follow runs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from everbell.domain.errors import NotFoundError
from everbell.domain.job import Job
from everbell.domain.records import Limit
from everbell.domain.run import RunKey
from everbell.ports.store import NewRun, Store, Verdict
from everbell.testing.contracts.making import (
    NOW,
    add_job,
    add_jobs,
    claimed,
    definition,
    end,
    new_job,
    new_run,
    project,
)


def follower(job: Job, name: str = "then1-x") -> NewRun:
    """Return a run that follows another."""
    return replace(new_run(job, name), trigger="chain", reason="succeeded of 1-1")


class SharingContract:
    """``set_limit``, ``list_limits``, ``delete_limit``, and ``then``."""

    async def test_limits_bound_the_runs_of_all_jobs_that_name_them(self, store: Store) -> None:
        a = await add_job(store, "a", limits=("db",), overlap="allow")
        b = await add_job(store, "b", limits=("db", "net"), overlap="allow")
        c = await add_job(store, "c", overlap="allow")
        await store.set_limit(Limit(project_id=1, name="db", most=2))
        await store.set_limit(Limit(project_id=1, name="net", most=9))
        for job, name in ((a, "1"), (a, "2"), (b, "3"), (c, "4"), (a, "5")):
            await store.enqueue(new_run(job, name), NOW)
        first = await store.take_queued("n1", NOW, 10)
        assert [run.key.trigger_id for run in first] == ["1", "2", "4"]
        assert await store.take_queued("n2", NOW, 10) == []
        await store.finish([end(first[0])], NOW)
        second = await store.take_queued("n2", NOW, 10)
        assert [run.key.trigger_id for run in second] == ["5"]

    async def test_a_limit_that_nobody_set_allows_one(self, store: Store) -> None:
        job = await add_job(store, limits=("db",), overlap="allow")
        for name in ("1", "2"):
            await store.enqueue(new_run(job, name), NOW)
        assert len(await store.take_queued("n1", NOW, 10)) == 1
        assert await store.list_limits(None) == [
            Limit(project_id=1, name="db", most=1, active=1, jobs=1)
        ]

    async def test_limits_are_of_a_project(self, store: Store) -> None:
        await store.add_project(project("p"))
        await store.add_project(project("q"))
        one, two = await add_jobs(
            store, new_job("a", 1, limits=("db",)), new_job("a", 2, limits=("db",))
        )
        for job in (one, two):
            await store.enqueue(new_run(job), NOW)
        assert len(await store.take_queued("n1", NOW, 10)) == 2
        assert [limit.project_id for limit in await store.list_limits((2,))] == [2]
        assert await store.list_limits(()) == []

    async def test_limits_are_set_changed_counted_and_deleted(self, store: Store) -> None:
        job = await add_job(store, limits=("db",))
        made = await store.set_limit(Limit(project_id=1, name="db", most=3))
        assert made == Limit(project_id=1, name="db", most=3, jobs=1)
        await store.set_limit(Limit(project_id=1, name="db", most=4))
        await store.change_job(replace(job, definition=definition(limits=("net",))), 1, NOW)
        assert await store.list_limits((1,)) == [
            Limit(project_id=1, name="db", most=4),
            Limit(project_id=1, name="net", most=1, jobs=1),
        ]
        await store.delete_limit(1, "db")
        with pytest.raises(NotFoundError):
            await store.delete_limit(1, "db")
        with pytest.raises(NotFoundError):
            await store.set_limit(Limit(project_id=99, name="db", most=1))
        await store.delete_job(job.id, NOW)
        assert await store.list_limits(None) == []

    async def test_what_follows_is_queued_with_the_end_and_once(self, store: Store) -> None:
        first, second = await add_jobs(store, new_job("a"), new_job("b"))
        run = await claimed(store, first)
        told = replace(end(run), then=(follower(second),))
        assert [it.outcome for it in await store.finish([told], NOW)] == ["stored"]
        assert [it.outcome for it in await store.finish([told], NOW)] == ["stored"]
        [next_run] = await store.take_queued("n1", NOW, 10)
        assert (next_run.key, next_run.trigger) == (follower(second).key, "chain")
        assert next_run.reason == "succeeded of 1-1"

    async def test_nothing_follows_an_end_that_is_refused(self, store: Store) -> None:
        first, second = await add_jobs(store, new_job("a"), new_job("b"))
        run = await claimed(store, first)
        late = replace(end(replace(run, token=run.token + 1)), then=(follower(second),))
        assert [it.outcome for it in await store.finish([late], NOW)] == ["stale"]
        assert await store.take_queued("n1", NOW, 10) == []

    async def test_what_follows_a_lost_run_is_queued_with_the_verdict(self, store: Store) -> None:
        first, second = await add_jobs(store, new_job("a"), new_job("b"))
        run = await claimed(store, first)
        lost = Verdict(run=run, state="lost", reason="gone", then=(follower(second),))
        assert await store.recover([lost], NOW) == 1
        assert [it.key.job_id for it in await store.take_queued("n1", NOW, 10)] == [second.id]

    async def test_followers_that_are_gone_or_disabled_start_nothing(self, store: Store) -> None:
        first, off, gone = await add_jobs(store, new_job("a"), new_job("b"), new_job("c"))
        await store.change_job(replace(off, enabled=False), 1, NOW)
        await store.delete_job(gone.id, NOW)
        run = await claimed(store, first)
        told = replace(end(run), then=(follower(off), follower(gone)))
        assert [it.outcome for it in await store.finish([told], NOW)] == ["stored"]
        assert await store.take_queued("n1", NOW, 10) == []
        skipped = await store.get_run(RunKey(NOW, off.id, "then1-x"))
        assert (skipped.state, skipped.reason) == ("skipped", "disabled")

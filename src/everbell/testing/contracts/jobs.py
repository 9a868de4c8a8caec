"""Jobs, their versions, and lists of them."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from everbell.domain.errors import ConflictError, LimitError, NotFoundError, StoreConflict
from everbell.domain.job import HttpAction, Job, Misfire, Retry, ScriptAction
from everbell.ports.store import JobFilter, Page, RunFilter, Store
from everbell.testing.contracts.making import (
    NOW,
    SEC,
    add_job,
    add_jobs,
    claimed,
    decision,
    definition,
    new_job,
    new_run,
    project,
)


class JobsContract:
    """``add_jobs``, ``change_job``, ``delete_job`` and the lists."""

    async def test_jobs_come_back_in_the_order_given(self, store: Store) -> None:
        jobs = await add_jobs(store, new_job("b", cursor=None), new_job("a"))
        assert [(job.id, job.name, job.next_slot_us) for job in jobs] == [
            (1, "b", None),
            (2, "a", NOW),
        ]
        assert jobs[1] == Job(
            id=2,
            uuid="uuid-a-1",
            project_id=1,
            definition=definition("a"),
            version=1,
            enabled=True,
            created_us=NOW,
            updated_us=NOW,
            next_slot_us=NOW,
        )

    async def test_a_definition_comes_back_as_it_was_given(self, store: Store) -> None:
        await store.add_project(project())
        rich = definition(
            "ünï ✓ 'quoted' \"x\" % ; --",
            schedule="@hourly",
            timezone="Europe/Stockholm",
            data={"a": [1, 2.5, None, True, "é"], "b": {}},
            tags=("x", "y"),
            retry=Retry(max=3, on=("failed",)),
            misfire=Misfire(policy="all"),
        )
        for name, action in (
            ("h", HttpAction(url="http://x/", headers={"a": "b"})),
            ("s", ScriptAction(text="#!\n\0exit", args=("1",))),
        ):
            given = replace(rich, name=name, action=action)
            [job] = await store.add_jobs([replace(new_job(name), definition=given)], NOW)
            assert (await store.get_job(job.id)).definition == given

    async def test_add_jobs_is_all_or_nothing(self, store: Store) -> None:
        await add_job(store, "taken")
        with pytest.raises(ConflictError):
            await store.add_jobs([new_job("new"), new_job("taken")], NOW)
        with pytest.raises(ConflictError):
            await store.add_jobs([new_job("twice"), new_job("twice")], NOW)
        with pytest.raises(NotFoundError):
            await store.add_jobs([new_job("new"), new_job("x", 99)], NOW)
        jobs, total = await store.list_jobs(JobFilter(), Page())
        assert ([job.name for job in jobs], total) == (["taken"], 1)

    async def test_names_of_jobs_are_unique_inside_their_project(self, store: Store) -> None:
        first = await add_job(store, "a")
        second = await add_job(store, "b")
        other = await store.add_project(project("q"))
        [same] = await store.add_jobs([new_job("a", other.id)], NOW)
        assert same.name == first.name
        changed = replace(second, definition=definition("a"))
        with pytest.raises(ConflictError):
            await store.change_job(changed, 1, NOW)
        assert await store.get_job(second.id) == second

    async def test_a_job_is_found_by_id_or_uuid(self, store: Store) -> None:
        job = await add_job(store)
        for key in (job.id, str(job.id), job.uuid):
            assert await store.get_job(key) == job
        with pytest.raises(NotFoundError):
            await store.get_job(job.name)

    async def test_get_jobs_returns_those_that_exist_in_order_of_id(self, store: Store) -> None:
        await add_jobs(store, new_job("a"), new_job("b"))
        assert [job.id for job in await store.get_jobs([9, 2, 1, 2])] == [1, 2]

    async def test_jobs_are_filtered_counted_and_listed_by_id(self, store: Store) -> None:
        await add_jobs(store, new_job("Backup db"), new_job("mail"), new_job("BACKUP_%"))
        other = await store.add_project(project("q"))
        await store.add_jobs([replace(new_job("straße", other.id), enabled=False)], NOW)

        async def ids(where: JobFilter, page: Page | None = None) -> tuple[list[int], int]:
            jobs, total = await store.list_jobs(where, page or Page())
            return [job.id for job in jobs], total

        assert await ids(JobFilter(), Page(limit=2, offset=1)) == ([2, 3], 4)
        assert await ids(JobFilter(search="backup")) == ([1, 3], 2)
        assert await ids(JobFilter(search="_%")) == ([3], 1)
        assert await ids(JobFilter(search="STRASSE")) == ([4], 1)
        assert await ids(JobFilter(name="mail")) == ([2], 1)
        assert await ids(JobFilter(project_ids=(2,))) == ([4], 1)
        assert await ids(JobFilter(project_ids=())) == ([], 0)
        assert await ids(JobFilter(enabled=False)) == ([4], 1)
        parked = replace(await store.get_job(2), parked="broken")
        await store.change_job(parked, 1, NOW)
        assert await ids(JobFilter(parked=True)) == ([2], 1)
        assert await ids(JobFilter(parked=False)) == ([1, 3, 4], 3)

    async def test_change_job_is_a_compare_and_set_on_the_version(self, store: Store) -> None:
        job = await add_job(store)
        new = replace(job, definition=definition("n"), next_slot_us=NOW + 9, failures=2)
        changed, _ = await store.change_job(new, 1, NOW + 1)
        assert changed == replace(new, version=2, updated_us=NOW + 1)
        with pytest.raises(StoreConflict):
            await store.change_job(new, 1, NOW + 2)
        assert await store.get_job(job.id) == changed
        with pytest.raises(NotFoundError):
            await store.change_job(replace(job, id=99), 1, NOW)

    async def test_of_many_changes_at_once_one_wins(self, store: Store) -> None:
        job = await add_job(store)
        answers = await asyncio.gather(
            *(
                store.change_job(replace(job, definition=definition(f"n{i}")), 1, NOW)
                for i in range(20)
            ),
            return_exceptions=True,
        )
        lost = [it for it in answers if isinstance(it, StoreConflict)]
        assert len(lost) == 19
        assert (await store.get_job(job.id)).version == 2

    async def test_a_change_records_a_version(self, store: Store) -> None:
        job = await add_job(store)
        new = replace(job, definition=definition(schedule="@daily"), enabled=False)
        await store.change_job(new, 1, NOW + 5)
        versions = await store.job_versions(job.id)
        assert [
            (it.job_id, it.version, it.since_us, it.enabled, it.definition.schedule)
            for it in versions
        ] == [(1, 1, NOW, True, None), (1, 2, NOW + 5, False, "@daily")]

    async def test_deleting_a_job_removes_all_that_belongs_to_it(self, store: Store) -> None:
        job = await add_job(store)
        other = await add_job(store, "other")
        run = await claimed(store, job)
        kept = await claimed(store, other)
        await store.enqueue(new_run(job), NOW)
        await store.delete_job(job.id, NOW)
        assert await store.job_versions(job.id) == []
        assert await store.list_runs(RunFilter(), 10) == [kept]
        for again in (store.delete_job(job.id, NOW), store.get_run(run.key)):
            with pytest.raises(NotFoundError):
                await again
        with pytest.raises(NotFoundError):
            await store.enqueue(new_run(job), NOW)
        assert await store.take_queued("n1", NOW, 10) == []

    async def test_a_job_is_deleted_only_at_the_version_expected(self, store: Store) -> None:
        job = await add_job(store)
        with pytest.raises(StoreConflict):
            await store.delete_job(job.id, NOW, job.version + 1)
        assert await store.get_job(job.id) == job
        with pytest.raises(NotFoundError):
            await store.delete_job(99, NOW, 1)
        await store.delete_job(job.id, NOW, job.version)
        assert await store.list_jobs(JobFilter(), Page()) == ([], 0)

    async def test_a_project_gets_no_more_jobs_than_said(self, store: Store) -> None:
        job = await add_job(store)
        with pytest.raises(LimitError):
            await store.add_jobs([new_job("b"), new_job("c")], NOW, 2)
        assert await store.list_jobs(JobFilter(), Page()) == ([job], 1)
        await store.add_jobs([new_job("b")], NOW, 2)
        other = await store.add_project(project("other"))
        await store.add_jobs([new_job("c", other.id)], NOW, 1)

    async def test_the_name_of_a_deleted_job_can_be_used_again(self, store: Store) -> None:
        job = await add_job(store)
        await store.delete_job(job.id, NOW)
        [again] = await store.add_jobs([replace(new_job(), uuid="u2")], NOW)
        assert (again.name, again.version) == (job.name, 1)
        assert again.id > job.id

    async def test_a_quarantined_job_is_out_of_service_but_listed(self, store: Store) -> None:
        job = await add_job(store)
        await store.decide("n1", [decision(job, quarantine="unreadable")], NOW)
        assert await store.due(NOW + SEC, 10) == []
        [listed], _ = await store.list_jobs(JobFilter(), Page())
        assert (listed.quarantined, listed.version) == ("unreadable", 1)
        changed, _ = await store.change_job(replace(listed, quarantined=""), 1, NOW)
        assert [it.id for it in await store.due(NOW + SEC, 10)] == [changed.id]

    async def test_lists_go_on_after_an_id(self, store: Store) -> None:
        jobs = await add_jobs(store, *(new_job(name) for name in "abc"))
        found, total = await store.list_jobs(JobFilter(after=jobs[0].id), Page(limit=1))
        assert ([job.name for job in found], total) == (["b"], 2)

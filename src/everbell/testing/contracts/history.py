"""Output, lists, and forgetting."""

from __future__ import annotations

from typing import Any

import pytest

from everbell.domain.errors import NotFoundError
from everbell.domain.run import RunKey
from everbell.ports.store import OutputChunk, RunFilter, Store
from everbell.testing.contracts.making import (
    NOW,
    SEC,
    add_job,
    claim,
    claimed,
    decision,
    end,
    mark,
    new_job,
    new_run,
    project,
)


def chunk(key: RunKey, offset: int, data: bytes, attempt: int = 1) -> OutputChunk:
    """Return a piece of output."""
    return OutputChunk(
        key=key, attempt=attempt, offset=offset, stream="err", at_us=NOW + offset, data=data
    )


class HistoryContract:
    """``append_output``, ``read_output``, ``list_runs``, ``last_runs``, ``purge``."""

    async def test_output_comes_back_by_offset_of_the_attempt_given(self, store: Store) -> None:
        key = (await claimed(store, await add_job(store))).key
        parts = [chunk(key, 0, b"abc"), chunk(key, 3, b"\x00\xff"), chunk(key, 5, b"def")]
        await store.append_output([parts[2], parts[0], chunk(key, 0, b"zz", attempt=2)])
        await store.append_output([parts[1]])
        assert await store.read_output(key, 1, 0, 100) == parts
        assert await store.read_output(key, 2, 0, 100) == [chunk(key, 0, b"zz", attempt=2)]
        assert await store.read_output(key, 3, 0, 100) == []

    async def test_a_chunk_that_is_there_already_is_ignored(self, store: Store) -> None:
        key = (await claimed(store, await add_job(store))).key
        await store.append_output([chunk(key, 0, b"abc")])
        await store.append_output([chunk(key, 0, b"xyz"), chunk(key, 3, b"d")])
        found = await store.read_output(key, 1, 0, 100)
        assert [it.data for it in found] == [b"abc", b"d"]

    async def test_output_is_read_from_an_offset_on_at_least_one_chunk(self, store: Store) -> None:
        key = (await claimed(store, await add_job(store))).key
        await store.append_output([chunk(key, 0, b"abcd"), chunk(key, 4, b"ef")])

        async def read(offset: int, limit: int) -> list[tuple[int, bytes]]:
            return [(it.offset, it.data) for it in await store.read_output(key, 1, offset, limit)]

        assert await read(0, 1) == [(0, b"abcd")]
        assert await read(0, 6) == [(0, b"abcd"), (4, b"ef")]
        assert await read(4, 100) == [(4, b"ef")]
        assert await read(6, 100) == []
        middle = await store.read_output(key, 1, 3, 100)
        assert [(it.offset, it.data) for it in middle] == [(3, b"d"), (4, b"ef")]

    async def test_output_of_a_deleted_job_is_ignored(self, store: Store) -> None:
        job = await add_job(store)
        key = (await claimed(store, job)).key
        await store.append_output([chunk(key, 0, b"abc")])
        await store.delete_job(job.id, NOW)
        await store.append_output([chunk(key, 3, b"d")])
        assert await store.read_output(key, 1, 0, 100) == []

    async def test_runs_are_listed_newest_slot_first_page_by_page(self, store: Store) -> None:
        job = await add_job(store)
        for _ in range(3):
            await claimed(store, job)
        await store.enqueue(new_run(job), NOW)
        keys = [run.key for run in await store.list_runs(RunFilter(), 10)]
        assert keys == [
            RunKey(NOW + 120 * SEC, job.id),
            RunKey(NOW + 60 * SEC, job.id),
            RunKey(NOW, job.id, "m1"),
            RunKey(NOW, job.id),
        ]
        seen: list[RunKey] = []
        before: RunKey | None = None
        while page := await store.list_runs(RunFilter(), 3, before):
            seen.extend(run.key for run in page)
            before = seen[-1]
        assert seen == keys

    async def test_runs_are_filtered(self, store: Store) -> None:
        job = await add_job(store)
        other = await store.add_project(project("q"))
        [far] = await store.add_jobs([new_job("far", other.id)], NOW)
        first = await claimed(store, job)
        await claimed(store, job, "n2")
        await claimed(store, far)
        await store.enqueue(new_run(job), NOW)
        await store.finish([end(first)], NOW)

        async def count(**values: Any) -> int:
            return len(await store.list_runs(RunFilter(**values), 10))

        assert await count() == 4
        assert await count(project_ids=(other.id,)) == 1
        assert await count(project_ids=()) == 0
        assert await count(job_id=job.id) == 3
        assert await count(states=("succeeded", "queued")) == 2
        assert await count(triggers=("manual",)) == 1
        assert await count(from_us=NOW + 60 * SEC) == 1
        assert await count(to_us=NOW) == 3
        assert await count(from_us=NOW, to_us=NOW, job_id=far.id) == 1
        assert await count(node="n2") == 1

    async def test_the_newest_begun_and_the_newest_skipped_run_of_each_job(
        self, store: Store
    ) -> None:
        job = await add_job(store)
        assert await store.last_runs([job.id, 99]) == {job.id: (None, None), 99: (None, None)}
        run = await claimed(store, job)
        marks = (mark(NOW + 60 * SEC, "skipped"), mark(NOW + 61 * SEC, "missed"))
        job = await store.get_job(job.id)
        await store.decide("n1", [decision(job, marks=marks, claims=(claim(NOW + 62 * SEC),))], NOW)
        [ended] = await store.finish([end(run)], NOW)
        skipped = await store.get_run(RunKey(NOW + 60 * SEC, job.id))
        assert await store.last_runs([job.id]) == {job.id: (ended.run, skipped)}

    async def test_purge_removes_old_final_runs_oldest_first(self, store: Store) -> None:
        job = await add_job(store)
        runs = [await claimed(store, job) for _ in range(4)]
        retried = end(runs[0], state="failed", next_due_us=NOW + 1)
        [again] = await store.finish([retried], NOW)
        assert again.run is not None
        await store.finish([end(again.run), end(runs[1]), end(runs[3])], NOW)
        await store.append_output([chunk(runs[0].key, 0, b"x"), chunk(runs[3].key, 0, b"y")])
        assert await store.purge(NOW + 180 * SEC, 1) == 1
        with pytest.raises(NotFoundError):
            await store.get_run(runs[0].key)
        assert await store.attempts(runs[0].key) == []
        assert await store.read_output(runs[0].key, 1, 0, 9) == []
        assert await store.purge(NOW + 180 * SEC, 10) == 1
        left = [run.key for run in await store.list_runs(RunFilter(), 10)]
        assert left == [runs[3].key, runs[2].key]
        assert len(await store.read_output(runs[3].key, 1, 0, 9)) == 1

    async def test_attempts_of_no_run_are_none(self, store: Store) -> None:
        assert await store.attempts(RunKey(1, 2, "x")) == []
        with pytest.raises(NotFoundError):
            await store.get_run(RunKey(1, 2, "x"))

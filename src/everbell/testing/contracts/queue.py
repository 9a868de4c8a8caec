"""Runs that no slot plans, and slots that wait."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from everbell.domain.run import Run, RunKey
from everbell.ports.store import RunFilter, Store, Verdict
from everbell.testing.contracts.making import (
    NOW,
    SEC,
    add_job,
    add_jobs,
    claimed,
    decision,
    definition,
    end,
    hold,
    mark,
    new_job,
    new_run,
)


class QueueContract:
    """``enqueue``, ``take_queued``, ``hand_back``, ``next_due_us``."""

    async def test_the_same_key_again_starts_nothing_twice(self, store: Store) -> None:
        job = await add_job(store)
        run = await store.enqueue(new_run(job), NOW)
        assert run == Run(
            key=RunKey(NOW, job.id, "m1"),
            project_id=1,
            version=1,
            state="queued",
            trigger="manual",
            reason="by hand",
            due_us=NOW,
        )
        [taken] = await store.take_queued("n1", NOW, 10)
        assert await store.enqueue(replace(new_run(job), reason="again"), NOW) == taken
        assert await store.list_runs(RunFilter(), 10) == [taken]

    async def test_taking_claims_by_due_then_key_up_to_the_limit(self, store: Store) -> None:
        job = await add_job(store, overlap="allow")
        for name, due in (("c", NOW), ("d", NOW - 5), ("a", NOW), ("later", NOW + 1)):
            await store.enqueue(new_run(job, name, due=due), NOW)
        taken = await store.take_queued("n1", NOW, 2)
        assert [run.key.trigger_id for run in taken] == ["d", "a"]
        assert [(run.state, run.node, run.attempt, run.claimed_us) for run in taken] == [
            ("claimed", "n1", 1, NOW)
        ] * 2
        assert taken[0].token < taken[1].token
        rest = await store.take_queued("n1", NOW, 10)
        assert [run.key.trigger_id for run in rest] == ["c"]
        assert await store.get_run(rest[0].key) == rest[0]

    async def test_a_taken_run_has_the_current_version(self, store: Store) -> None:
        job = await add_job(store)
        await store.enqueue(new_run(job), NOW)
        await store.change_job(replace(job, definition=definition("new")), 1, NOW)
        [run] = await store.take_queued("n1", NOW, 10)
        assert run.version == 2

    async def test_why_a_planned_run_waited_goes_when_it_is_taken(self, store: Store) -> None:
        job = await add_job(store, overlap="allow")
        slots = {reason: NOW + k for k, reason in enumerate(("limit", "overlap", "queue", "other"))}
        marks = tuple(mark(at, "queued", reason) for reason, at in slots.items())
        await store.decide("n1", [decision(job, marks=marks)], NOW)
        await store.enqueue(replace(new_run(job), reason="queue"), NOW)
        taken = {run.key: run.reason for run in await store.take_queued("n1", NOW + SEC, 10)}
        kept = {RunKey(NOW, job.id, "m1"): "queue", RunKey(slots["other"], job.id): "other"}
        assert {key: reason for key, reason in taken.items() if reason} == kept
        assert len(taken) == 5

    async def test_no_more_are_taken_than_max_running_allows(self, store: Store) -> None:
        job = await add_job(store, overlap="queue", max_running=2)
        free = await add_job(store, "free", overlap="allow")
        active = await claimed(store, job)
        for name in "abc":
            await store.enqueue(new_run(job, name), NOW)
            await store.enqueue(new_run(free, name), NOW)
        taken = await store.take_queued("n1", NOW, 10)
        assert [run.key.trigger_id for run in taken if run.key.job_id == job.id] == ["a"]
        assert [run.key.trigger_id for run in taken if run.key.job_id == free.id] == list("abc")
        await store.finish([end(active)], NOW)
        assert [run.key.trigger_id for run in await store.take_queued("n1", NOW, 10)] == ["b"]

    async def test_a_blocked_job_does_not_block_the_queue(self, store: Store) -> None:
        busy, other = await add_jobs(store, new_job("busy"), new_job("other"))
        await claimed(store, busy)
        for number in range(5):
            await store.enqueue(new_run(busy, f"m{number}", due=NOW - 9), NOW)
        await store.enqueue(new_run(other), NOW)
        assert [run.key.job_id for run in await store.take_queued("n1", NOW, 1)] == [other.id]

    async def test_of_disabled_jobs_only_manual_runs_are_taken_and_the_others_end(
        self, store: Store
    ) -> None:
        job = await add_job(store, overlap="allow")
        await store.enqueue(new_run(job, "chain", trigger="chain"), NOW)
        await store.enqueue(new_run(job, "manual"), NOW)
        await store.change_job(replace(job, enabled=False), 1, NOW + 5)
        assert [run.trigger for run in await store.take_queued("n1", NOW, 10)] == ["manual"]
        ended = await store.get_run(new_run(job, "chain").key)
        assert (ended.state, ended.reason, ended.finished_us) == ("skipped", "disabled", NOW + 5)

    async def test_a_claim_handed_back_after_its_job_was_disabled_ends(self, store: Store) -> None:
        job = await add_job(store)
        run = await claimed(store, job)
        await store.change_job(replace(job, enabled=False, next_slot_us=None), 1, NOW)
        assert await store.hand_back([run], NOW + 5) == 1
        ended = await store.get_run(run.key)
        assert (ended.state, ended.reason, ended.finished_us) == ("skipped", "disabled", NOW + 5)

    async def test_a_run_that_had_begun_goes_on_although_its_job_was_disabled(
        self, store: Store
    ) -> None:
        job = await add_job(store)
        run = await claimed(store, job)
        await store.recover([Verdict(run=run, state="queued", reason="node lost")], NOW)
        await store.change_job(replace(job, enabled=False, next_slot_us=None), 1, NOW)
        [again] = await store.take_queued("n2", NOW, 10)
        assert (again.key, again.attempt) == (run.key, 2)

    async def test_of_parked_jobs_only_manual_runs_are_taken(self, store: Store) -> None:
        job = await add_job(store, overlap="allow")
        await store.enqueue(new_run(job, "chain", trigger="chain"), NOW)
        await store.enqueue(new_run(job, "manual"), NOW)
        off, _ = await store.change_job(replace(job, parked="x"), 1, NOW)
        assert [run.trigger for run in await store.take_queued("n1", NOW, 10)] == ["manual"]
        await store.change_job(replace(off, enabled=True, parked=""), 2, NOW)
        assert [run.trigger for run in await store.take_queued("n1", NOW, 10)] == ["chain"]

    async def test_of_held_jobs_none_is_taken(self, store: Store) -> None:
        job = await add_job(store, cursor=None)
        await store.enqueue(new_run(job), NOW)
        held, _ = await store.add_hold(hold())
        assert await store.take_queued("n1", NOW, 10) == []
        assert await store.next_due_us() is None
        await store.release(held.id, "skip", NOW)
        assert len(await store.take_queued("n1", NOW, 10)) == 1

    async def test_a_slot_marked_queued_is_taken_like_any(self, store: Store) -> None:
        job = await add_job(store)
        await store.decide("n1", [decision(job, marks=(mark(NOW, "queued"),))], NOW)
        [run] = await store.take_queued("n2", NOW, 10)
        assert (run.key, run.trigger, run.node) == (RunKey(NOW, job.id), "schedule", "n2")

    async def test_the_next_due_instant_is_the_earlier_of_slot_and_queue(
        self, store: Store
    ) -> None:
        assert await store.next_due_us() is None
        job = await add_job(store, cursor=NOW + 9)
        assert await store.next_due_us() == NOW + 9
        await store.enqueue(new_run(job, due=NOW + 4), NOW)
        assert await store.next_due_us() == NOW + 4
        await store.take_queued("n1", NOW + 4, 10)
        assert await store.next_due_us() == NOW + 9

    async def test_hand_back_returns_claims_that_did_not_start(self, store: Store) -> None:
        a, b = await add_jobs(store, new_job("a"), new_job("b"))
        waits, begun = await claimed(store, a), await claimed(store, b)
        await store.mark_running([(begun, NOW)], NOW)
        foreign = replace(waits, token=waits.token + 50)
        assert await store.hand_back([waits, begun, foreign], NOW) == 1
        back = await store.get_run(waits.key)
        assert (back.state, back.node, back.attempt) == ("queued", "", 1)
        [taken] = await store.take_queued("n2", NOW + SEC, 10)
        assert (taken.key, taken.attempt, taken.token > waits.token) == (waits.key, 1, True)
        assert [it.outcome for it in await store.finish([end(waits)], NOW)] == ["stale"]

    async def test_of_many_that_take_each_run_goes_to_one(self, store: Store) -> None:
        job = await add_job(store, overlap="allow")
        for number in range(30):
            await store.enqueue(new_run(job, f"m{number}"), NOW)
        answers = await asyncio.gather(
            *(store.take_queued(f"n{number}", NOW, 5) for number in range(10))
        )
        taken = [run.key for runs in answers for run in runs]
        assert len(taken) == len(set(taken)) == 30

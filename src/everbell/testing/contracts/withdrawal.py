"""What a change, a disable, a hold or a delete takes back."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from everbell.domain.decision import Instead, LeftBehind
from everbell.domain.errors import ConflictError, NotFoundError, StoreConflict
from everbell.domain.notice import NOTICE_US
from everbell.domain.run import RunKey
from everbell.ports.store import Page, RunFilter, Store
from everbell.testing.contracts.making import (
    NOW,
    SEC,
    add_job,
    add_jobs,
    claim,
    claimed,
    decision,
    definition,
    end,
    hold,
    mark,
    new_job,
    new_run,
    project,
)

AHEAD = NOW + 3 * SEC


class WithdrawalContract:
    """Claims ahead of their time, and holds."""

    async def _change(self, store: Store, job_id: int, **values: Any) -> tuple[RunKey, ...]:
        job = replace(await store.get_job(job_id), **values)
        _, revoked = await store.change_job(job, job.version, NOW)
        return revoked.keys

    @pytest.mark.parametrize("how", ["disable", "hold all", "hold project", "hold job"])
    async def test_claims_ahead_vanish_and_the_cursor_goes_back(
        self, store: Store, how: str
    ) -> None:
        job = await add_job(store, cursor=AHEAD)
        slots = (claim(AHEAD), claim(AHEAD + SEC))
        await store.decide("n1", [decision(job, claims=slots, next_us=AHEAD + 2 * SEC)], NOW)
        if how == "disable":
            keys = await self._change(store, job.id, enabled=False)
        elif how == "hold all":
            keys = (await store.add_hold(hold()))[1].keys
        elif how == "hold project":
            keys = (await store.add_hold(hold("project", job.project_id)))[1].keys
        else:
            keys = (await store.add_hold(hold("job", job.id)))[1].keys
        assert keys == (RunKey(AHEAD, job.id), RunKey(AHEAD + SEC, job.id))
        assert await store.list_runs(RunFilter(), 10) == []
        back = AHEAD + 2 * SEC if how == "disable" else AHEAD
        assert (await store.get_job(job.id)).next_slot_us == back

    async def test_the_last_slot_of_a_job_comes_back_too(self, store: Store) -> None:
        job = await add_job(store, cursor=AHEAD)
        last = replace(decision(job), next_slot_us=None)
        await store.decide("n1", [last], NOW)
        assert (await store.get_job(job.id)).next_slot_us is None
        await store.add_hold(hold())
        assert (await store.get_job(job.id)).next_slot_us == AHEAD

    async def test_a_change_of_definition_sets_the_cursor_itself(self, store: Store) -> None:
        job = await add_job(store, cursor=AHEAD)
        run = await claimed(store, job)
        keys = await self._change(
            store, job.id, definition=definition("new"), next_slot_us=AHEAD + 7
        )
        assert keys == (run.key,)
        assert (await store.get_job(job.id)).next_slot_us == AHEAD + 7

    async def test_a_delete_returns_the_claims_ahead(self, store: Store) -> None:
        job = await add_job(store, cursor=AHEAD)
        run = await claimed(store, job)
        assert (await store.delete_job(job.id, NOW)).keys == (run.key,)

    async def test_what_is_due_or_started_or_marked_stays(self, store: Store) -> None:
        job = await add_job(store)
        marks = (mark(NOW + 9 * SEC, "skipped"),)
        await store.decide("n1", [decision(job, marks=marks, claims=(claim(NOW),))], NOW)
        begun = await claimed(store, await add_job(store, "begun", cursor=AHEAD))
        await store.mark_running([(begun, NOW)], NOW)
        before = await store.list_runs(RunFilter(), 10)
        _, revoked = await store.add_hold(hold())
        assert revoked.keys == ()
        assert await store.list_runs(RunFilter(), 10) == before

    async def test_a_claim_that_is_due_soon_stays(self, store: Store) -> None:
        soon = NOW + NOTICE_US
        job = await add_job(store, cursor=soon)
        slots = (claim(soon), claim(soon + 1))
        await store.decide("n1", [decision(job, claims=slots, next_us=AHEAD)], NOW)
        assert await self._change(store, job.id) == (RunKey(soon + 1, job.id),)
        assert [run.key.slot_us for run in await store.list_runs(RunFilter(), 10)] == [soon]
        assert (await store.get_job(job.id)).next_slot_us == soon + 1

    async def test_a_claim_that_was_due_when_it_was_made_stays_though_the_clock_was_set_back(
        self, store: Store
    ) -> None:
        job = await add_job(store, cursor=AHEAD)
        await claimed(store, job, now_us=AHEAD)
        assert await self._change(store, job.id) == ()
        assert [run.state for run in await store.list_runs(RunFilter(), 10)] == ["claimed"]

    async def test_slots_left_behind_are_marked_under_the_old_version(self, store: Store) -> None:
        job = await add_job(store, cursor=NOW - 3 * SEC)
        marks = (mark(NOW - 3 * SEC, "skipped", "disabled"), mark(NOW - SEC, "skipped", "disabled"))
        off = replace(job, enabled=False, next_slot_us=None)
        behind = LeftBehind(cursor_us=NOW - 3 * SEC, marks=marks)
        await store.change_job(off, 1, NOW, behind)
        found = await store.list_runs(RunFilter(), 10)
        assert [(run.key.slot_us, run.state, run.reason, run.version) for run in found] == [
            (NOW - SEC, "skipped", "disabled", 1),
            (NOW - 3 * SEC, "skipped", "disabled", 1),
        ]
        assert (await store.get_job(job.id)).next_slot_us is None

    async def test_a_run_in_the_place_of_a_slot_is_queued_with_its_mark(self, store: Store) -> None:
        job = await add_job(store, cursor=AHEAD)
        instead = Instead(at_us=NOW + SEC, trigger_id="i1", reason="instead")
        behind = LeftBehind(cursor_us=AHEAD, marks=(mark(AHEAD, "skipped"),), instead=instead)
        with pytest.raises(StoreConflict):
            await store.change_job(job, 7, NOW, behind)
        assert await store.list_runs(RunFilter(), 10) == []
        await store.change_job(replace(job, next_slot_us=AHEAD + SEC), job.version, NOW, behind)
        row, run = await store.list_runs(RunFilter(), 10)
        assert (row.key, row.state) == (RunKey(AHEAD, job.id), "skipped")
        assert (run.key, run.state) == (RunKey(NOW + SEC, job.id, "i1"), "queued")
        assert (run.trigger, run.due_us, run.reason) == ("manual", NOW + SEC, "instead")
        assert await store.take_queued("n1", NOW, 10) == []
        assert len(await store.take_queued("n1", NOW + SEC, 10)) == 1

    async def test_slots_left_behind_that_were_decided_meanwhile_are_a_conflict(
        self, store: Store
    ) -> None:
        job = await add_job(store, cursor=NOW)
        behind = LeftBehind(cursor_us=NOW - SEC, marks=(mark(NOW - SEC, "skipped"),))
        with pytest.raises(StoreConflict):
            await store.change_job(replace(job, enabled=False), 1, NOW, behind)
        assert await store.get_job(job.id) == job
        assert await store.list_runs(RunFilter(), 10) == []

    async def test_a_range_left_behind_that_meets_a_row_is_a_conflict(self, store: Store) -> None:
        job = await add_job(store, cursor=NOW)
        await claimed(store, job)
        await store.change_job(replace(job, next_slot_us=NOW - SEC), 1, NOW)
        whole = replace(mark(NOW - SEC, "skipped"), until_us=NOW + SEC, count=3)
        behind = LeftBehind(cursor_us=NOW - SEC, marks=(whole,))
        with pytest.raises(StoreConflict):
            await store.change_job(replace(job, enabled=False), 2, NOW, behind)
        assert len(await store.list_runs(RunFilter(), 10)) == 1

    async def test_the_change_counter_tells_of_withdrawals(self, store: Store) -> None:
        job = await add_job(store)
        counters = [await store.change_counter()]
        await self._change(store, job.id)
        counters.append(await store.change_counter())
        await store.add_hold(hold())
        counters.append(await store.change_counter())
        await store.delete_job(job.id, NOW)
        counters.append(await store.change_counter())
        assert len(set(counters)) == 4

    async def test_a_retry_that_waits_stays(self, store: Store) -> None:
        job = await add_job(store)
        run = await claimed(store, job)
        [retry] = await store.finish([end(run, state="failed", next_due_us=AHEAD)], NOW)
        _, revoked = await store.add_hold(hold())
        assert revoked.keys == ()
        assert await store.get_run(run.key) == retry.run

    async def test_a_run_by_hand_that_was_taken_ahead_goes_back_to_the_queue(
        self, store: Store
    ) -> None:
        job = await add_job(store)
        await store.enqueue(new_run(job, due=AHEAD), NOW)
        [run] = await store.take_queued("n1", AHEAD, 10)
        assert await self._change(store, job.id) == (run.key,)
        again = await store.get_run(run.key)
        assert (again.state, again.node, again.claimed_us) == ("queued", "", None)

    async def test_a_withdrawn_claim_that_ran_nevertheless_is_recorded(self, store: Store) -> None:
        job = await add_job(store, cursor=AHEAD)
        run = await claimed(store, job)
        await store.add_hold(hold())
        [answer] = await store.finish([end(run, code=3, state="failed")], NOW)
        assert answer.outcome == "stored"
        assert answer.run == await store.get_run(run.key)
        assert (answer.run.state, answer.run.code, answer.run.token) == ("failed", 3, run.token)

    async def test_not_if_the_slot_was_claimed_anew(self, store: Store) -> None:
        job = await add_job(store, cursor=AHEAD)
        run = await claimed(store, job)
        held, _ = await store.add_hold(hold())
        await store.release(held.id, "each", NOW)
        anew = await claimed(store, job, "n2")
        assert (anew.key, anew.token > run.token) == (run.key, True)
        [answer] = await store.finish([end(run)], NOW)
        assert answer.outcome == "stale"
        assert await store.get_run(run.key) == anew

    async def test_not_if_the_job_is_gone(self, store: Store) -> None:
        job = await add_job(store, cursor=AHEAD)
        run = await claimed(store, job)
        await store.delete_job(job.id, NOW)
        assert [it.outcome for it in await store.finish([end(run)], NOW)] == ["stale"]
        assert await store.list_runs(RunFilter(), 10) == []

    async def test_a_scope_is_held_once(self, store: Store) -> None:
        await store.add_project(project())
        first, _ = await store.add_hold(hold("project", 1))
        with pytest.raises(ConflictError):
            await store.add_hold(hold("project", 1))
        second, _ = await store.add_hold(hold())
        assert await store.list_holds() == [first, second]
        assert first == replace(hold("project", 1), id=1)
        with pytest.raises(NotFoundError):
            await store.release(99, "skip", NOW)

    async def test_a_hold_covers_jobs_added_later_and_nothing_else(self, store: Store) -> None:
        await add_job(store, "a")
        await store.add_hold(hold("project", 1))
        await store.add_project(project("q"))
        _, other = await add_jobs(store, new_job("b"), new_job("c", 2))
        assert [job.id for job in await store.due(NOW, 10)] == [other.id]

    async def test_two_holds_over_a_job_need_two_releases(self, store: Store) -> None:
        job = await add_job(store)
        everything, _ = await store.add_hold(hold())
        one, _ = await store.add_hold(hold("job", job.id))
        await store.release(everything.id, "skip", NOW)
        assert await store.due(NOW, 10) == []
        assert await store.next_due_us() is None
        assert await store.release(one.id, "each", NOW) == one
        assert [it.id for it in await store.due(NOW, 10)] == [job.id]

    async def test_release_marks_the_jobs_of_its_scope_with_the_choice(self, store: Store) -> None:
        jobs = await add_jobs(store, new_job("a"), new_job("b"))
        held, _ = await store.add_hold(hold("job", jobs[0].id))
        await store.release(held.id, "once", NOW + 5)
        due = await store.due(NOW, 10)
        assert [(it.release_policy, it.release_until_us) for it in due] == [
            ("once", NOW + 5),
            ("", 0),
        ]
        job = await store.get_job(jobs[0].id)
        assert (job.release_policy, job.version) == ("once", 1)
        await store.decide("n1", [decision(job, clear_release=True)], NOW)
        assert (await store.get_job(job.id)).release_policy == ""

    async def test_a_hold_keeps_when_it_ends_and_how(self, store: Store) -> None:
        timed = replace(hold(), until_us=NOW + SEC, then="each")
        added, _ = await store.add_hold(timed)
        assert await store.list_holds() == [replace(timed, id=added.id)] == [added]

    async def test_deleting_a_job_ends_its_hold(self, store: Store) -> None:
        job = await add_job(store)
        await store.add_hold(hold("job", job.id))
        await store.delete_job(job.id, NOW)
        assert await store.list_holds() == []
        assert await store.list_projects(None, Page(limit=0)) == ([], 1)

"""``due`` and ``decide``."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from everbell.domain.decision import LeftBehind, Mark
from everbell.domain.run import Run, RunKey
from everbell.ports.store import Claim, Decision, RunFilter, Store
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
)


class ClaimsContract:
    """What is due, and who gets it."""

    async def test_due_lists_by_cursor_then_id_up_to_the_limit(self, store: Store) -> None:
        await add_jobs(
            store,
            new_job("late", cursor=NOW + 5),
            new_job("first", cursor=NOW - 5),
            new_job("none", cursor=None),
            new_job("also", cursor=NOW - 5),
            new_job("now", cursor=NOW),
        )
        assert [job.id for job in await store.due(NOW, 10)] == [2, 4, 5]
        assert [job.id for job in await store.due(NOW, 2)] == [2, 4]
        assert await store.due(NOW - 6, 10) == []
        assert await store.next_due_us() == NOW - 5

    async def test_due_counts_active_and_queued_runs(self, store: Store) -> None:
        job = await add_job(store)
        run = await claimed(store, job)
        await store.mark_running([(run, NOW)], NOW)
        await claimed(store, job)
        await store.enqueue(new_run(job), NOW)
        [due] = await store.due(NOW + 300 * SEC, 10)
        assert (due.active, due.queued, due.version, due.project_id) == (2, 1, 1, 1)
        assert due.next_slot_us == NOW + 120 * SEC
        await store.finish([end(run)], NOW)
        [due] = await store.due(NOW + 300 * SEC, 10)
        assert due.active == 1

    @pytest.mark.parametrize("why", ["disabled", "parked", "quarantined", "held"])
    async def test_jobs_out_of_service_are_not_due_and_not_decided(
        self, store: Store, why: str
    ) -> None:
        job = await add_job(store)
        current = job
        if why == "disabled":
            current, _ = await store.change_job(replace(job, enabled=False), 1, NOW)
        elif why == "parked":
            current, _ = await store.change_job(replace(job, parked="x"), 1, NOW)
        elif why == "quarantined":
            current, _ = await store.change_job(replace(job, quarantined="x"), 1, NOW)
        else:
            await store.add_hold(hold("job", job.id))
        assert await store.due(NOW + SEC, 10) == []
        assert await store.next_due_us() is None
        [answer] = await store.decide("n1", [decision(current)], NOW)
        assert (answer.outcome, answer.runs) == ("stale", ())
        assert await store.list_runs(RunFilter(), 10) == []

    async def test_a_claim_is_a_run_with_attempt_1_and_a_token(self, store: Store) -> None:
        job = await add_job(store)
        chosen = Claim(slot_us=NOW, due_us=NOW + 3, trigger="catch_up", max_active=1)
        [answer] = await store.decide("n1", [decision(job, claims=(chosen,))], NOW - 7)
        assert answer.outcome == "done"
        [run] = answer.runs
        assert run.token > 0
        assert run == Run(
            key=RunKey(NOW, job.id),
            project_id=1,
            version=1,
            state="claimed",
            trigger="catch_up",
            token=run.token,
            node="n1",
            due_us=NOW + 3,
            claimed_us=NOW - 7,
        )
        assert await store.get_run(run.key) == run
        moved = await store.get_job(job.id)
        assert (moved.next_slot_us, moved.version) == (NOW + 60 * SEC, 1)

    async def test_marks_are_stored_before_claims(self, store: Store) -> None:
        job = await add_job(store)
        missed = Mark(
            slot_us=NOW - 9 * SEC, state="missed", reason="down", until_us=NOW - SEC, count=9
        )
        marks = (missed, mark(NOW, "skipped", "busy"), mark(NOW + SEC, "queued", "waits"))
        given = decision(job, marks=marks, claims=(claim(NOW), claim(NOW + 2 * SEC)))
        [answer] = await store.decide("n1", [given], NOW)
        assert [run.key.slot_us for run in answer.runs] == [NOW + 2 * SEC]
        runs = await store.list_runs(RunFilter(), 10)
        assert [(run.state, run.reason, run.count, run.until_us, run.token) for run in runs] == [
            ("claimed", "", 1, None, answer.runs[0].token),
            ("queued", "waits", 1, None, 0),
            ("skipped", "busy", 1, None, 0),
            ("missed", "down", 9, NOW - SEC, 0),
        ]
        assert [run.finished_us for run in runs] == [None, None, NOW, NOW]
        assert [run.due_us for run in runs[1:]] == [NOW + SEC, NOW, NOW - 9 * SEC]

    async def test_a_job_knows_how_far_its_ranges_reach(self, store: Store) -> None:
        job = await add_job(store)
        whole = replace(mark(NOW - 9 * SEC, "missed"), until_us=NOW - SEC, count=9)
        await store.decide("n1", [decision(job, marks=(whole,), next_us=NOW)], NOW)
        job = await store.get_job(job.id)
        assert job.ranged_until_us == NOW - SEC
        behind = LeftBehind(
            cursor_us=NOW, marks=(replace(mark(NOW, "skipped"), until_us=NOW + SEC, count=2),)
        )
        changed, _ = await store.change_job(replace(job, enabled=False), 1, NOW, behind)
        assert changed.ranged_until_us == NOW + SEC
        assert await store.get_job(job.id) == changed

    async def test_a_range_that_meets_a_row_stores_nothing(self, store: Store) -> None:
        job = await add_job(store, cursor=NOW)
        await claimed(store, job)
        job = await store.get_job(job.id)
        await store.enqueue(new_run(job, due=NOW + 90 * SEC), NOW)
        back, _ = await store.change_job(replace(job, next_slot_us=NOW - SEC), 1, NOW)
        whole = replace(mark(NOW - SEC, "missed"), until_us=NOW, count=2)
        [answer] = await store.decide("n1", [decision(back, marks=(whole,))], NOW)
        assert answer.outcome == "overlaps"
        assert await store.get_job(job.id) == back
        singles = (mark(NOW - SEC, "missed"), mark(NOW, "missed"))
        [answer] = await store.decide("n1", [decision(back, marks=singles)], NOW)
        assert answer.outcome == "done"
        runs = await store.list_runs(RunFilter(), 10)
        assert [(run.key.slot_us, run.state) for run in runs if not run.key.trigger_id] == [
            (NOW, "claimed"),
            (NOW - SEC, "missed"),
        ]

    @pytest.mark.parametrize("off", ["version", "cursor", "job"])
    async def test_a_decision_about_another_state_of_the_job_is_stale(
        self, store: Store, off: str
    ) -> None:
        job = await add_job(store)
        given = decision(job, marks=(mark(NOW - 1, "skipped"),), claims=(claim(NOW),))
        wrong = {
            "version": replace(given, version=2),
            "cursor": replace(given, cursor_us=NOW + 1),
            "job": replace(given, job_id=99),
        }[off]
        [answer] = await store.decide("n1", [wrong], NOW)
        assert answer.outcome == "stale"
        assert await store.list_runs(RunFilter(), 10) == []
        assert (await store.get_job(job.id)).next_slot_us == NOW

    async def test_each_decision_is_answered_by_itself_in_order(self, store: Store) -> None:
        a, b = await add_jobs(store, new_job("a"), new_job("b"))
        then = replace(decision(a), cursor_us=NOW + 60 * SEC, claims=(claim(NOW + 60 * SEC),))
        answers = await store.decide(
            "n1", [decision(a), replace(decision(b), version=9), then, decision(a)], NOW
        )
        assert [it.outcome for it in answers] == ["done", "stale", "done", "stale"]
        assert answers[2].runs[0].key.slot_us == NOW + 60 * SEC

    async def test_a_claim_over_the_limit_blocks_the_whole_decision(self, store: Store) -> None:
        job = await add_job(store)
        given = decision(
            job, marks=(mark(NOW - 1, "missed"),), claims=(claim(NOW, 1), claim(NOW + 1, 1))
        )
        [answer] = await store.decide("n1", [given], NOW)
        assert (answer.outcome, answer.runs) == ("blocked", ())
        assert await store.list_runs(RunFilter(), 10) == []
        assert (await store.get_job(job.id)).next_slot_us == NOW
        [answer] = await store.decide("n1", [decision(job, claims=(claim(NOW, 1),))], NOW)
        assert answer.outcome == "done"
        again = await store.get_job(job.id)
        blocked = decision(again, claims=(claim(NOW + 60 * SEC, 1),))
        assert [it.outcome for it in await store.decide("n1", [blocked], NOW)] == ["blocked"]
        await store.finish([end(answer.runs[0])], NOW)
        assert [it.outcome for it in await store.decide("n1", [blocked], NOW)] == ["done"]

    async def test_a_slot_has_one_row_ever(self, store: Store) -> None:
        job = await add_job(store)
        run = await claimed(store, job)
        await store.finish([end(run)], NOW)
        back = replace(await store.get_job(job.id), definition=definition("x"), next_slot_us=NOW)
        job, _ = await store.change_job(back, 1, NOW)
        given = decision(job, marks=(mark(NOW, "skipped"),), claims=(claim(NOW, 1),))
        [answer] = await store.decide("n2", [given], NOW)
        assert (answer.outcome, answer.runs) == ("done", ())
        assert [it.state for it in await store.list_runs(RunFilter(), 10)] == ["succeeded"]
        assert (await store.get_job(job.id)).next_slot_us == NOW + 60 * SEC

    async def test_a_slot_that_has_a_row_needs_no_room(self, store: Store) -> None:
        job = await add_job(store)
        await claimed(store, job)
        back = replace(await store.get_job(job.id), definition=definition("x"), next_slot_us=NOW)
        job, _ = await store.change_job(back, 1, NOW)
        [answer] = await store.decide("n2", [decision(job, claims=(claim(NOW, 1),))], NOW)
        assert (answer.outcome, answer.runs) == ("done", ())

    async def test_no_next_slot_means_none_is_planned(self, store: Store) -> None:
        job = await add_job(store)
        await store.decide("n1", [replace(decision(job), next_slot_us=None)], NOW)
        assert (await store.get_job(job.id)).next_slot_us is None
        assert await store.due(NOW + 999 * SEC, 10) == []

    async def test_tokens_grow_for_a_job(self, store: Store) -> None:
        job = await add_job(store, overlap="allow")
        tokens = [(await claimed(store, job)).token for _ in range(3)]
        await store.enqueue(new_run(job), NOW)
        [by_hand] = await store.take_queued("n1", NOW, 1)
        tokens.append(by_hand.token)
        assert tokens == sorted(set(tokens))

    async def test_of_many_that_decide_the_same_one_wins(self, store: Store) -> None:
        jobs = await add_jobs(store, *(new_job(f"j{i}") for i in range(20)))
        given: list[Decision] = [decision(job) for job in jobs]
        answers = await asyncio.gather(
            *(store.decide(f"n{i}", given, NOW) for i in range(10)),
        )
        won = [run.key for answer in answers for it in answer for run in it.runs]
        assert len(won) == len(set(won)) == 20
        for answer in zip(*answers, strict=True):
            assert sorted(it.outcome for it in answer) == ["done"] + ["stale"] * 9

"""Ends of attempts."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from everbell.domain.errors import NotFoundError
from everbell.domain.notice import NOTICE_US
from everbell.domain.run import Attempt, Run, RunKey
from everbell.ports.store import Finish, Store
from everbell.testing.contracts.making import (
    NOW,
    SEC,
    add_job,
    add_jobs,
    claimed,
    end,
    new_job,
    new_run,
)


class LedgerContract:
    """``mark_running``, ``finish``, ``request_cancel`` and what they are guarded by."""

    async def test_mark_running_stores_the_start_given_with_each(self, store: Store) -> None:
        a, b = await add_jobs(store, new_job("a"), new_job("b"))
        first, second = await claimed(store, a), await claimed(store, b)
        old = replace(second, attempt=2)
        answers = await store.mark_running(
            [(first, NOW + 1), (old, NOW + 2), (second, NOW + 3)], NOW + 9
        )
        assert answers == ["stored", "stale", "stored"]
        run = await store.get_run(second.key)
        assert run == replace(second, state="running", started_us=NOW + 3)

    async def test_finish_stores_how_it_ended(self, store: Store) -> None:
        run = await claimed(store, await add_job(store))
        await store.mark_running([(run, NOW + 1)], NOW + 1)
        [answer] = await store.finish(
            [
                end(
                    run,
                    state="failed",
                    started_us=None,
                    finished_us=NOW + 5,
                    code=3,
                    error="böse",
                    reason="exit",
                    output_bytes=12,
                    truncated=True,
                )
            ],
            NOW + 6,
        )
        expected = replace(
            run,
            state="failed",
            started_us=NOW + 1,
            finished_us=NOW + 5,
            code=3,
            error="böse",
            reason="exit",
            output_bytes=12,
            truncated=True,
        )
        assert (answer.outcome, answer.run) == ("stored", expected)
        assert await store.get_run(run.key) == expected

    async def test_an_end_without_a_reason_leaves_the_one_that_is_there(self, store: Store) -> None:
        job = await add_job(store)
        await store.enqueue(new_run(job), NOW)
        [run] = await store.take_queued("n1", NOW, 1)
        [answer] = await store.finish([end(run)], NOW)
        assert answer.run is not None
        assert answer.run.reason == "by hand"

    async def test_an_error_text_that_utf8_cannot_carry_is_stored_nevertheless(
        self, store: Store
    ) -> None:
        run = await claimed(store, await add_job(store))
        [answer] = await store.finish([end(run, error="a\ud800b")], NOW)
        assert answer.run == await store.get_run(run.key)
        assert answer.run.error == "a?b"

    @pytest.mark.parametrize("off", ["attempt", "token", "key"])
    async def test_a_superseded_attempt_is_stale(self, store: Store, off: str) -> None:
        run = await claimed(store, await add_job(store))
        wrong = {
            "attempt": replace(run, attempt=2),
            "token": replace(run, token=run.token - 1),
            "key": replace(run, key=RunKey(NOW, 1, "other")),
        }[off]
        [answer] = await store.finish([end(wrong)], NOW)
        assert (answer.outcome, answer.run) == ("stale", None)
        assert await store.get_run(run.key) == run

    async def test_the_same_finish_again_is_stored_again(self, store: Store) -> None:
        job = await add_job(store)
        run = await claimed(store, job)
        last = end(run, state="failed", failures="count")
        first = await store.finish([last], NOW)
        assert await store.finish([last], NOW) == first
        assert (await store.get_job(job.id)).failures == 1
        [other] = await store.finish([end(run, state="succeeded")], NOW)
        assert other.outcome == "stale"

    async def test_the_same_retry_again_is_stored_again(self, store: Store) -> None:
        run = await claimed(store, await add_job(store))
        retry = end(run, state="failed", next_due_us=NOW + SEC)
        first = await store.finish([retry], NOW)
        assert await store.finish([retry], NOW) == first
        assert len(await store.attempts(run.key)) == 1

    async def test_with_another_attempt_the_run_goes_on_under_a_new_token(
        self, store: Store
    ) -> None:
        run = await claimed(store, await add_job(store))
        await store.mark_running([(run, NOW + 1)], NOW)
        given = end(
            run,
            state="timed_out",
            started_us=None,
            finished_us=NOW + 2,
            code=None,
            error="slow",
            output_bytes=5,
            next_due_us=NOW + SEC,
        )
        [answer] = await store.finish([given], NOW + 3)
        again = answer.run
        assert again is not None
        assert again.token > run.token
        assert again == replace(
            run, attempt=2, token=again.token, due_us=NOW + SEC, claimed_us=NOW + 3
        )
        assert await store.get_run(run.key) == again
        assert await store.attempts(run.key) == [
            Attempt(
                attempt=1,
                token=run.token,
                node="n1",
                state="timed_out",
                started_us=NOW + 1,
                finished_us=NOW + 2,
                error="slow",
            )
        ]
        assert [it.outcome for it in await store.finish([end(run)], NOW)] == ["stale"]
        assert [it.outcome for it in await store.finish([end(again)], NOW)] == ["stored"]

    async def test_failures_in_a_row_are_counted_and_reset(self, store: Store) -> None:
        job = await add_job(store)
        seen: list[int] = []
        for how in ("count", "count", "keep", "reset", "count"):
            run = await claimed(store, job)
            await store.finish([end(run, failures=how)], NOW)
            seen.append((await store.get_job(job.id)).failures)
        assert seen == [1, 2, 2, 0, 1]

    async def test_enough_failures_in_a_row_park_the_job(self, store: Store) -> None:
        job = await add_job(store)
        ends: list[Finish] = []
        for _ in range(3):
            run = await claimed(store, job)
            ends.append(end(run, state="failed", failures="count", park_after=3))
        await store.finish(ends[:2], NOW)
        assert (await store.get_job(job.id)).parked == ""
        await store.finish(ends[2:], NOW)
        parked = await store.get_job(job.id)
        assert "3" in parked.parked
        assert await store.due(NOW + 900 * SEC, 10) == []

    async def test_what_has_not_begun_is_cancelled_at_once(self, store: Store) -> None:
        job = await add_job(store, cursor=NOW + 9 * SEC)
        await store.enqueue(new_run(job), NOW)
        ahead = await claimed(store, job)
        for key in (RunKey(NOW, job.id, "m1"), ahead.key):
            run = await store.request_cancel(key, NOW + 1)
            assert (run.state, run.finished_us) == ("cancelled", NOW + 1)
            assert run == await store.get_run(key)
        assert await store.still_claimed([(ahead.key, ahead.token)]) == []
        assert await store.take_queued("n1", NOW, 10) == []

    async def test_a_claim_that_is_due_soon_is_flagged_not_ended(self, store: Store) -> None:
        job = await add_job(store, cursor=NOW + NOTICE_US)
        run = await claimed(store, job)
        flagged = await store.request_cancel(run.key, NOW)
        assert (flagged.state, flagged.cancel_requested) == ("claimed", True)
        assert await store.cancel_flags("n1") == [run.key]

    async def test_an_active_run_is_flagged_and_a_final_one_left(self, store: Store) -> None:
        a, b, c = await add_jobs(store, new_job("a"), new_job("b"), new_job("c"))
        run, other, foreign = (
            await claimed(store, a),
            await claimed(store, b),
            await claimed(store, c, "n2"),
        )
        await store.mark_running([(run, NOW)], NOW)
        for it in (other, run, foreign):
            assert (await store.request_cancel(it.key, NOW)).cancel_requested
        assert await store.cancel_flags("n1") == [run.key, other.key]
        [answer] = await store.finish([end(run, state="cancelled")], NOW)
        assert answer.run is not None
        assert answer.run.cancel_requested
        assert await store.cancel_flags("n1") == [other.key]
        assert await store.request_cancel(run.key, NOW + 1) == answer.run
        with pytest.raises(NotFoundError):
            await store.request_cancel(RunKey(1, 1), NOW)

    async def test_still_claimed_tells_which_claims_stand(self, store: Store) -> None:
        jobs = await add_jobs(store, new_job("a"), new_job("b"), new_job("c"))
        runs: list[Run] = [await claimed(store, job) for job in jobs]
        await store.mark_running([(runs[0], NOW)], NOW)
        await store.finish([end(runs[1])], NOW)
        asked = [(runs[2].key, runs[2].token), *((run.key, run.token) for run in runs[:2])]
        assert await store.still_claimed(asked) == [runs[2].key, runs[0].key]
        assert await store.still_claimed([(runs[0].key, runs[1].token)]) == []

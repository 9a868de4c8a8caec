"""Runs of nodes that are gone."""

from __future__ import annotations

from msgspec.structs import replace

from everbell.domain.run import Attempt
from everbell.ports.store import Store, Verdict
from everbell.testing.contracts.making import (
    NOW,
    SEC,
    add_jobs,
    claimed,
    end,
    new_job,
    node,
)


class RecoveryContract:
    """``orphans`` and ``recover``."""

    async def test_orphans_are_active_runs_of_nodes_that_are_not_alive(self, store: Store) -> None:
        jobs = await add_jobs(store, *(new_job(f"j{number}") for number in range(5)))
        for name in ("alive", "over", "left", "dead"):
            await store.heartbeat(node(name, lease=NOW + (1 if name == "over" else 100)))
        await store.leave("left", NOW)
        names = ("alive", "over", "left", "unknown")
        runs = [await claimed(store, job, name) for job, name in zip(jobs, names, strict=False)]
        await store.mark_running([(runs[1], NOW)], NOW)
        found = await store.orphans(NOW + 1, 10)
        assert [run.node for run in found] == ["left", "unknown"]
        found = await store.orphans(NOW + 2, 10)
        assert [run.node for run in found] == ["over", "left", "unknown"]
        assert [run.node for run in await store.orphans(NOW + 2, 1)] == ["over"]
        await store.finish([end(run) for run in runs], NOW)
        assert await store.orphans(NOW + 2, 10) == []

    async def test_a_run_is_handed_over_under_the_next_attempt(self, store: Store) -> None:
        [job] = await add_jobs(store, new_job())
        run = await claimed(store, job)
        await store.mark_running([(run, NOW + 1)], NOW)
        assert (
            await store.recover(
                [Verdict(run=run, state="queued", reason="node n1 is gone")], NOW + 5
            )
            == 1
        )
        waiting = await store.get_run(run.key)
        assert (waiting.state, waiting.attempt, waiting.crashes) == ("queued", 2, 1)
        assert (waiting.reason, waiting.node, waiting.started_us) == ("node n1 is gone", "", None)
        [kept] = await store.attempts(run.key)
        assert kept == Attempt(
            attempt=1,
            token=run.token,
            node="n1",
            state="lost",
            started_us=NOW + 1,
            finished_us=NOW + 5,
            error="node n1 is gone",
        )
        [taken] = await store.take_queued("n2", NOW + SEC, 10)
        assert (taken.attempt, taken.token > run.token, taken.crashes) == (2, True, 1)
        late = await store.finish([end(run), end(taken)], NOW)
        assert [it.outcome for it in late] == ["stale", "stored"]

    async def test_a_run_is_given_up(self, store: Store) -> None:
        [job] = await add_jobs(store, new_job())
        run = await claimed(store, job)
        assert await store.recover([Verdict(run=run, state="lost", reason="gone")], NOW + 5) == 1
        lost = replace(run, state="lost", reason="gone", finished_us=NOW + 5)
        assert await store.get_run(run.key) == lost
        assert [it.outcome for it in await store.finish([end(run)], NOW)] == ["stale"]

    async def test_recover_is_guarded_by_key_attempt_and_token(self, store: Store) -> None:
        a, b = await add_jobs(store, new_job("a"), new_job("b"))
        run, ended = await claimed(store, a), await claimed(store, b)
        await store.finish([end(ended)], NOW)
        wrong = [
            Verdict(run=replace(run, attempt=2), state="lost", reason="x"),
            Verdict(run=replace(run, token=run.token + 9), state="queued", reason="x"),
            Verdict(run=ended, state="lost", reason="x"),
        ]
        assert await store.recover(wrong, NOW) == 0
        assert await store.get_run(run.key) == run
        assert await store.recover([Verdict(run=run, state="queued", reason="x")] * 2, NOW) == 1

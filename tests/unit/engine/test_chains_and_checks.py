"""Whole nodes on virtual time: what goes before a run, what follows it, what it shares."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from everbell.api import views
from everbell.domain.chain import LINKS_MAX
from everbell.domain.errors import StoreUnavailable
from everbell.domain.job import US, Definition, HttpAction, OnFailure, Retry, Then
from everbell.domain.run import ACTIVE, FINAL, Outcome
from everbell.ports.store import JobFilter, Page
from everbell.services import holds, jobs, limits, projects, runs
from everbell.services.context import LOCAL
from everbell.services.validate import Draft
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
from everbell.testing.sim.history import Fault
from everbell.testing.small_cluster import CHECK, DONE, FAILED, WORK, story

# --- check ---------------------------------------------------------------------------------------

URL = HttpAction(url="http://example.com/x")


@pytest.mark.parametrize(
    ("check", "outcome", "state", "said"),
    [
        (CHECK, DONE, "succeeded", ""),
        (CHECK, FAILED, "skipped", ""),
        (CHECK, Outcome(state="failed", code=2), "succeeded", "it answered 2"),
        (CHECK, Outcome(state="failed", error="no such program"), "succeeded", "no such program"),
        (CHECK, Outcome(state="timed_out", error="too slow"), "succeeded", "too slow"),
        (URL, Outcome(state="succeeded", code=200), "succeeded", ""),
        (URL, Outcome(state="succeeded", code=204), "skipped", ""),
        (URL, Outcome(state="failed", code=500), "succeeded", "it answered 500"),
        (URL, Outcome(state="failed", error="refused"), "succeeded", "refused"),
    ],
)
def test_a_check_decides_whether_a_planned_run_has_work(check, outcome, state, said):
    async def tell(small):
        small.script["a", "check"] = [(0.2, outcome)]
        job = await small.job(
            "a", schedule="@every 5s", check=check, then=(Then(job="b", on="always"),)
        )
        follower = await small.job("b")
        [row] = await small.ended(job)
        assert row.state == state
        assert await small.output(row) == (
            f"the check failed, so the job runs: {said}\n" if said else ""
        )
        [shown] = await views.jobs(small.services, [await small.store.get_job(job.id)])
        if state == "skipped":
            assert (row.reason, row.code) == ("nothing_to_do", outcome.code)
            assert shown.last_skipped is not None
            assert small.calls == [("a", "check", 1)]
            await passes(2)
            assert await small.rows(follower) == [], "nothing follows a skipped run"
        else:
            assert shown.last_skipped is None
            assert small.calls[:2] == [("a", "check", 1), ("a", "work", 1)]
        return job.next_slot_us

    story(tell)


def test_a_skipped_run_neither_counts_as_a_failure_nor_stops_the_schedule():
    async def tell(small):
        small.script["a", "check"] = [(0, FAILED)]
        park = OnFailure(park_after=2)
        job = await small.job("a", schedule="@every 2s", check=CHECK, on_failure=park)
        rows = await small.ended(job, 4)
        assert {row.state for row in rows} == {"skipped"}
        found = await small.store.get_job(job.id)
        assert (found.failures, found.parked) == (0, "")

    story(tell)


def test_a_check_that_hangs_is_over_after_a_minute_and_the_job_runs():
    async def tell(small):
        small.script["a", "check"] = [(10_000, DONE)]
        job = await small.job("a", schedule="@every 1h", check=CHECK, timeout_s=7200)
        await passes(3600 + 59)
        assert small.calls == [("a", "check", 1)]
        [row] = await small.ended(job, seconds=5)
        assert row.state == "succeeded"
        assert "the check failed, so the job runs: too slow" in await small.output(row)

    story(tell)


def test_a_check_has_no_more_time_than_the_job():
    async def tell(small):
        small.script["a", "check"] = [(100, DONE)]
        job = await small.job("a", schedule="@every 1h", check=CHECK, timeout_s=2)
        await passes(3600 + 3)
        assert [row.state for row in await small.ended(job, seconds=1)] == ["succeeded"]

    story(tell)


def test_a_run_that_is_cancelled_during_its_check_never_starts():
    async def tell(small):
        small.script["a", "check"] = [(10, DONE)]
        job = await small.job("a", schedule="@every 1h", check=CHECK)
        await passes(3600 + 3)
        [row] = await small.rows(job)
        await runs.cancel(small.services, LOCAL, row.id)
        [row] = await small.ended(job)
        assert (row.state, row.reason) == ("cancelled", "cancelled")
        assert small.calls == [("a", "check", 1)]

    story(tell)


def test_a_retry_does_not_check_again():
    async def tell(small):
        small.script["a", "work"] = [(0, FAILED), (0, DONE)]
        job = await small.job("a", schedule="@every 1h", check=CHECK, retry=Retry(max=2))
        await passes(3600)
        await small.ended(job)
        assert small.calls == [("a", "check", 1), ("a", "work", 1), ("a", "work", 2)]

    story(tell)


def test_what_is_not_planned_is_not_checked():
    async def tell(small):
        small.script["a", "check"] = [(0, FAILED)]
        job = await small.job("a", check=CHECK)
        first = await small.job("b", then=(Then(job="a"),))
        await small.start(job)
        await small.start(first)
        rows = await small.ended(job, 2)
        assert [row.state for row in rows] == ["succeeded", "succeeded"]
        assert ("a", "check", 1) not in small.calls

    story(tell)


def test_no_job_starts_after_the_lease_was_lost_during_its_check():
    async def whole(back):
        job = make_job(check=CHECK)
        bench = Bench(FakeStore(job), FakeExecutor(lasts_s=5))
        bench.execution.start([make_run()])
        await passes(1)
        bench.execution.may_start = lambda: False
        await passes(20)
        assert len(bench.executor.started) == 1, "the check"
        if back:
            bench.execution.may_start = lambda: True
        else:
            bench.execution.abandon()
        await passes(20)
        return bench

    assert [one.state for one in virtually(whole(back=True)).store.finished] == ["succeeded"]
    fenced = virtually(whole(back=False))
    assert fenced.store.finished == []
    assert not fenced.execution.live


# --- then ----------------------------------------------------------------------------------------

ENDS = {
    "succeeded": {"success", "always"},
    "failed": {"failure", "always"},
    "timed_out": {"failure", "always"},
    "cancelled": {"always"},
    "lost": {"failure", "always"},
}


@pytest.mark.parametrize("state", sorted(ENDS))
def test_who_follows_which_end(state):
    async def tell(small):
        await passes(1)
        kinds = ("success", "failure", "always")
        after = {kind: await small.job(f"on-{kind}") for kind in kinds}
        then = tuple(Then(job=f"on-{kind}", on=kind) for kind in kinds)
        strict = "at_most_once" if state == "lost" else "at_least_once"
        job = await small.job("a", then=then, timeout_s=5, delivery=strict)
        lasts = {"succeeded": 0.1, "failed": 0.1, "timed_out": 99}.get(state, 3)
        small.script["a", "work"] = [(lasts, FAILED if state == "failed" else DONE)]
        run = await small.start(job)
        await passes(1)
        if state == "cancelled":
            await runs.cancel(small.services, LOCAL, run.id)
        if state == "lost":
            small.cluster.crash(small.cluster.lives[0], "kill -9")
            await passes(1)
            small.boot()
        [row] = await small.ended(job, seconds=30)
        assert row.state == state
        await passes(3)
        ran = {kind for kind in kinds if await small.rows(after[kind])}
        assert ran == ENDS[state]
        for kind in ran:
            [following] = await small.rows(after[kind])
            assert (following.trigger, following.state) == ("chain", "succeeded")
            assert following.reason == f"{state} of {row.id}"

    story(tell)


def test_a_follower_starts_at_once_or_after_its_delay():
    async def tell(small):
        await small.job("now")
        later = await small.job("later")
        first = await small.job("a", then=(Then(job="now"), Then(job="later", delay_s=20)))
        await small.start(first)
        await passes(19.9)
        assert [row.state for row in await small.rows(later)] == ["queued"]
        await small.ended(later)
        at = dict(small.begun)
        assert at["now"] - at["a"] < 0.05
        assert 20 <= at["later"] - at["a"] < 20.2

    story(tell)


def test_only_the_last_attempt_is_followed():
    async def tell(small):
        await small.job("b")
        failing = await small.job("c")
        small.script["a", "work"] = [(0, FAILED), (0, FAILED), (0, DONE)]
        then = (Then(job="b"), Then(job="c", on="failure"))
        job = await small.job("a", retry=Retry(max=2), then=then)
        await small.start(job)
        await small.ended(job)
        await passes(1)
        assert [name for name, _, _ in small.calls] == ["a", "a", "a", "b"]
        assert await small.rows(failing) == []

    story(tell)


def test_nothing_follows_a_run_that_was_cancelled_while_it_waited():
    async def tell(small):
        after = await small.job("b")
        job = await small.job("a", then=(Then(job="b", on="always"),))
        await holds.add(small.services, LOCAL, "job", job.id)
        run = await small.start(job)
        await passes(1)
        await runs.cancel(small.services, LOCAL, run.id)
        await passes(2)
        assert [row.state for row in await small.rows(job)] == ["cancelled"]
        assert await small.rows(after) == []

    story(tell)


def test_a_follower_that_is_disabled_deleted_or_held():
    async def tell(small):
        off, gone, held = [await small.job(name) for name in ("off", "gone", "held")]
        job = await small.job("a", then=tuple(Then(job=name) for name in ("off", "gone", "held")))
        await jobs.set_enabled(small.services, LOCAL, off.id, enabled=False)
        await jobs.delete(small.services, LOCAL, gone.id)
        hold = await holds.add(small.services, LOCAL, "job", held.id)
        await small.start(job)
        await small.ended(job)
        await passes(5)
        assert [(row.state, row.reason) for row in await small.rows(off)] == [
            ("skipped", "disabled")
        ]
        assert [row.state for row in await small.rows(held)] == ["queued"]
        await holds.release(small.services, LOCAL, hold.id, "skip")
        assert [row.state for row in await small.ended(held)] == ["succeeded"]
        assert [name for name, _, _ in small.calls] == ["a", "held"]

    story(tell)


def test_a_job_of_another_project_never_follows():
    async def tell(small):
        await projects.create(small.services, LOCAL, "other")
        draft = Draft(definition=Definition(name="theirs", action=WORK), project="other")
        [theirs] = await jobs.create(small.services, LOCAL, [draft])
        names = ("theirs", str(theirs.id), theirs.uuid)
        job = await small.job("a", then=tuple(Then(job=name) for name in names))
        await small.start(job)
        await small.ended(job)
        await passes(3)
        assert await small.rows(theirs) == []

    story(tell)


@pytest.mark.parametrize("point", ["before:finish", "after:finish"])
def test_a_node_that_is_killed_around_the_end_loses_and_doubles_no_follower(point):
    async def tell(small):
        after = await small.job("b", then=(Then(job="c"),))
        last = await small.job("c")
        job = await small.job("a", then=(Then(job="b"),))
        small.cluster.lives[0].armed = (point, 1)
        await small.start(job)
        await passes(2)
        assert [fault.kind for fault in small.cluster.history.events if isinstance(fault, Fault)][
            -1
        ] == f"crash {point}"
        assert len(await small.rows(after)) == (point == "after:finish")
        small.boot()
        await small.ended(job, seconds=30)
        await small.ended(last, seconds=30)
        for one in (job, after, last):
            assert [row.state for row in await small.rows(one)] == ["succeeded"]
        assert [name for name, _, _ in small.calls if name != "a"] == ["b", "c"]

    story(tell)


def test_a_chain_that_leads_back_behind_everyones_back_ends_after_fifty_links():
    async def tell(small):
        job = await small.job("a")
        circle = replace(job.definition, then=(Then(job="a"),))
        await small.store.change_job(replace(job, definition=circle), job.version, BASE_US)
        await small.start(await small.store.get_job(job.id))
        await passes(30)
        rows = await small.rows(job)
        assert len(rows) == LINKS_MAX + 1
        assert {row.state for row in rows} == {"succeeded"}

    story(tell)


# --- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 5])
def test_two_nodes_never_exceed_a_limit_that_jobs_share(most):
    async def tell(small):
        await limits.put(small.services, LOCAL, "db", most) if most > 1 else None
        made = [
            await small.job(f"j{k}", schedule="@every 2s", limits=("db",), overlap="queue")
            for k in range(6)
        ]
        for job in made:
            small.script[job.name, "work"] = [(0.7, DONE)]
        await passes(20)
        assert small.most_at_work == most
        nodes = {row.node for job in made for row in await small.rows(job) if row.state in FINAL}
        assert len(nodes) == 2 or most < 5, "a node that is woken by its own end is faster"
        [shown] = await small.store.list_limits(None)
        active = [row for job in made for row in await small.rows(job) if row.state in ACTIVE]
        assert shown.active == len(active) <= most

    story(tell, nodes=2)


def test_raising_a_limit_starts_what_waits_at_once():
    async def tell(small):
        for name in ("a", "b"):
            small.script[name, "work"] = [(30, DONE)]
            await small.start(await small.job(name, limits=("db",)))
        await passes(5)
        assert small.at_work == 1
        await limits.put(small.services, LOCAL, "db", 2)
        await passes(0.05)
        assert small.at_work == 2
        found, _ = await small.store.list_jobs(JobFilter(), Page())
        waited = [row.reason for job in found for row in await small.rows(job)]
        assert waited == ["", ""]

    story(tell)


def test_a_planned_run_that_waits_for_a_limit_says_so_until_it_starts():
    async def tell(small):
        small.script["a", "work"] = [(10, DONE)]
        job = await small.job("b", schedule="@every 5s", limits=("db",))
        await small.start(await small.job("a", limits=("db",)))
        await passes(6)
        [row] = await small.rows(job)
        assert (row.state, row.reason) == ("queued", "limit")
        await passes(6)
        rows = await small.rows(job)
        assert [(one.state, one.reason) for one in rows[:1]] == [("succeeded", "")]
        assert rows[0].key.slot_us >= BASE_US + 5 * US

    story(tell)


# --- holds ---------------------------------------------------------------------------------------


def test_what_a_hold_stopped_does_not_start_though_it_could_not_be_handed_back():
    async def tell(small):
        engine = small.cluster.lives[0].engine
        engine.execution.workers = 4
        small.script["long", "work"] = [(4, DONE)]
        job = await small.job("held")
        long = await small.job("long", overlap="allow")
        for _ in range(4):
            await small.start(long)
        await passes(0.5)
        run = await small.start(job)
        await passes(0.5)
        assert [one.id for one in engine.execution.ready()] == [run.id]
        hold = await holds.add(small.services, LOCAL, "job", job.id)
        real, tries = engine.world.store.hand_back, []

        async def away(claims, now_us):
            tries.append(len(claims))
            if len(tries) < 4:
                raise StoreUnavailable("away")
            return await real(claims, now_us)

        engine.world.store.hand_back = away
        await passes(10)
        assert ("held", "work", 1) not in small.calls
        assert len(tries) == 4
        assert [row.state for row in await small.rows(job)] == ["queued"]
        await holds.release(small.services, LOCAL, hold.id, "skip")
        assert [row.state for row in await small.ended(job)] == ["succeeded"]

    story(tell)

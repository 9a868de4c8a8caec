"""Slots of the past, run now."""

import pytest

from everbell.ports.store import Finish

SEC = 1_000_000
MINUTE = 60 * SEC
RANGE = {"from": "2026-02-02T02:40:00Z", "to": "2026-02-02T02:46:00Z"}


async def finish(world, state):
    runs = await world.store.take_queued("n1", world.clock.us, 100)
    ends = [
        Finish(run=run, state=state, started_us=world.clock.us, finished_us=world.clock.us)
        for run in runs
    ]
    await world.store.finish(ends, world.clock.us)
    return [run.key.slot_us for run in runs]


async def fill(world, job, **more):
    got = await world.local.post(f"/jobs/{job['id']}/backfill", {**RANGE, **more})
    assert got.status in (200, 201), got.text
    return got.data


async def test_slots_are_filled_once_and_what_failed_again(world):
    job = await world.job(schedule="* * * * *", overlap="allow")
    world.clock.us += 10 * MINUTE
    dry = await fill(world, job, dry_run=True)
    assert (dry["started"], len(dry["slots"]), dry["done"]) == (False, 7, 0)
    assert (await world.local.get("/runs")).data == []
    one = await fill(world, job, max=5, reason="the disk was full")
    assert (len(one["slots"]), one["more"]) == (5, 2)
    run = one["slots"][0]["run"]
    assert (run["trigger"], run["state"], run["reason"]) == (
        "backfill",
        "queued",
        "the disk was full",
    )
    assert run["slot"] == "2026-02-02T02:40:00Z"
    assert run["due_at"] == "2026-02-02T02:50:00Z"
    again = await fill(world, job, max=5)
    assert (len(again["slots"]), again["waiting"], again["more"]) == (2, 5, 0)
    slots = await finish(world, "failed")
    assert slots == sorted(slots)
    assert len(slots) == 7
    third = await fill(world, job, max=1)
    assert third["slots"][0]["before"] == "failed (the disk was full)"
    assert third["slots"][0]["run"]["id"].endswith("-backfill2")
    await finish(world, "succeeded")
    last = await fill(world, job)
    assert (last["done"], len(last["slots"])) == (1, 6)


async def test_the_overlap_policy_bounds_how_many_run_at_once(world):
    job = await world.job(schedule="@every 1m", overlap="queue", max_running=2)
    world.clock.us += 10 * MINUTE
    await fill(world, job)
    assert len(await world.store.take_queued("n1", world.clock.us, 100)) == 2


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"to": "2026-02-02T02:00:00Z"}, "/to"),
        ({"to": "2026-02-03T02:00:00Z"}, "/to"),
        ({"from": "2025-02-02T02:00:00Z"}, "/from"),
        ({"max": 0}, "/max"),
        ({"max": 5000}, "/max"),
        ({"from": "early"}, "/from"),
    ],
)
async def test_ranges_that_make_no_sense(world, body, pointer):
    job = await world.job(schedule="@every 1m")
    world.clock.us += 10 * MINUTE
    got = await world.local.post(f"/jobs/{job['id']}/backfill", {**RANGE, **body})
    assert (got.status, got.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_jobs_that_would_not_run_them(world):
    job = await world.job(schedule="@every 1m", overlap="replace")
    world.clock.us += 10 * MINUTE
    url = f"/jobs/{job['id']}"
    got = await world.local.post(f"{url}/backfill", RANGE)
    assert (got.status, "replace" in got.json()["detail"]) == (409, True)
    await world.local.post(f"{url}/disable")
    got = await world.local.post(f"{url}/backfill", RANGE)
    assert (got.status, "disabled" in got.json()["detail"]) == (409, True)
    other = await world.job(name="t", schedule=None)
    got = await world.local.post(f"/jobs/{other['id']}/backfill", RANGE)
    assert (got.status, "no schedule" in got.json()["detail"]) == (409, True)
    fast = await world.job(name="f", schedule="@every 1s")
    world.clock.us += 120_000 * SEC
    body = {**RANGE, "to": "2026-02-03T08:00:00Z"}
    got = await world.local.post(f"/jobs/{fast['id']}/backfill", body)
    assert got.status == 413


async def test_backfilled_slots_leave_the_account_as_it_is(world):
    job = await world.job(schedule="@every 1m", overlap="allow")
    world.clock.us += 10 * MINUTE
    before = (await world.local.get("/verify")).data
    await fill(world, job)
    await finish(world, "succeeded")
    after = (await world.local.get("/verify")).data
    assert before == after

"""Verify over the API: what adds up, what does not, and what explains it."""

from everbell.domain.decision import Claim, Decision, Mark
from everbell.domain.run import RunKey
from everbell.ports.store import Finish
from everbell.services import verify as service
from everbell.testing.contracts.making import node

T0 = 1_770_000_000_000_000
SEC = 1_000_000
MINUTE = 60 * SEC


async def decide(world, job_id, *, claims=(), marks=(), next_us):
    job = await world.store.get_job(job_id)
    decision = Decision(
        job_id=job.id,
        project_id=job.project_id,
        version=job.version,
        cursor_us=job.next_slot_us,
        next_slot_us=next_us,
        claims=tuple(
            Claim(slot_us=slot, due_us=slot, trigger="schedule", max_active=None) for slot in claims
        ),
        marks=tuple(marks),
    )
    (answer,) = await world.store.decide("n1", [decision], world.clock.us)
    assert answer.outcome == "done"
    ends = [
        Finish(run=run, state="succeeded", started_us=run.due_us, finished_us=run.due_us)
        for run in answer.runs
    ]
    await world.store.finish(ends, world.clock.us)


async def every_minute(world, **fields):
    job = await world.job(name="m", schedule="@every 1m", **fields)
    return job["id"], (await world.store.get_job(job["id"])).next_slot_us


async def verified(world, query=""):
    answer = await world.local.get(f"/verify{query}")
    assert answer.status == 200, answer.text
    return answer.data


async def test_a_ledger_that_adds_up(world):
    job_id, first = await every_minute(world)
    world.clock.us = first + 30 * MINUTE
    slots = [first + n * MINUTE for n in range(31)]
    whole = Mark(slot_us=slots[3], state="missed", reason="misfire", until_us=slots[22], count=20)
    await decide(
        world, job_id, claims=slots[:3] + slots[23:], marks=[whole], next_us=slots[-1] + MINUTE
    )
    got = await verified(world)
    assert (got["jobs"], got["slots"]) == (1, 30)
    assert got["states"] == {"missed": 20, "succeeded": 10}
    assert (got["unexplained"], got["explained"], got["findings"], got["next"]) == (0, 0, [], None)
    part = await verified(world, "?from=2026-02-02T02:50:00Z&to=2026-02-02T02:59:59Z&job=m")
    assert (part["slots"], part["unexplained"]) == (10, 0)


async def test_a_gap_is_found_and_nothing_explains_it(world):
    job_id, first = await every_minute(world)
    slots = [first + n * MINUTE for n in range(11)]
    world.clock.us = slots[-1] + 10 * SEC
    await decide(world, job_id, claims=slots[:4] + slots[6:], next_us=slots[-1] + MINUTE)
    got = await verified(world)
    assert (got["unexplained"], got["slots"]) == (1, 11)
    (found,) = got["findings"]
    assert (found["kind"], found["count"], found["why"]) == ("gap", 2, "")
    assert (found["first"], found["last"]) == ("2026-02-02T02:45:00Z", "2026-02-02T02:46:00Z")
    assert found["job"] == "m"


async def test_undecided_slots_are_explained_by_hold_park_and_absent_nodes(world):
    job_id, first = await every_minute(world)
    world.clock.us = first + 10 * MINUTE
    (found,) = (await verified(world))["findings"]
    assert (found["kind"], found["count"]) == ("undecided", 10)
    assert found["why"].startswith("no node is up")
    await world.store.heartbeat(node(lease=world.clock.us + MINUTE))
    got = await verified(world)
    assert (got["unexplained"], got["findings"][0]["why"]) == (1, "")
    await world.local.post(f"/jobs/{job_id}/hold", {"reason": "the house burns"})
    (found,) = (await verified(world))["findings"]
    assert "hold 1 of local (the house burns)" in found["why"]


async def test_times_that_were_disabled_or_rescheduled_are_accounted_for(world):
    job_id, first = await every_minute(world)
    slots = [first + n * MINUTE for n in range(60)]
    world.clock.us = slots[4] + SEC
    await decide(world, job_id, claims=slots[:3], next_us=slots[3])
    # Two slots are undecided: the change marks them.
    await world.local.post(f"/jobs/{job_id}/disable")
    world.clock.us = slots[20]
    await world.local.post(f"/jobs/{job_id}/enable")
    world.clock.us = slots[25] + SEC
    await world.local.patch(f"/jobs/{job_id}", {"schedule": "@every 1h"})
    world.clock.us = slots[40]
    got = await verified(world)
    assert (got["unexplained"], got["findings"]) == (0, [])
    assert got["states"] == {"skipped": 7, "succeeded": 3}


async def test_a_run_that_is_long_overdue_is_found(world):
    job = await world.job(schedule=None, overlap="allow")
    await world.local.post(f"/jobs/{job['id']}/runs")
    await world.store.heartbeat(node("n2", lease=world.clock.us + 60 * MINUTE))
    world.clock.us += 5 * MINUTE
    got = await verified(world)
    assert [one["kind"] for one in got["findings"]] == ["not_final"]
    assert (got["unexplained"], "queued since" in got["findings"][0]["detail"]) == (1, True)


async def test_what_is_no_longer_kept_is_not_missed(world):
    job_id, first = await every_minute(world)
    days = 86_400 * SEC
    slots = [first + n * MINUTE for n in range(24 * 60)]
    world.clock.us = slots[-1] + 10 * SEC
    whole = Mark(slot_us=slots[0], state="missed", reason="x", until_us=slots[700], count=701)
    await decide(world, job_id, marks=[whole], claims=slots[701:], next_us=slots[-1] + MINUTE)
    world.clock.us = slots[650] + 30 * days
    assert await world.store.purge(world.clock.us - 30 * days, 1000) == 1
    got = await verified(world)
    assert (got["unexplained"], got["explained"]) == (0, 2)
    forgotten, undecided = got["findings"]
    assert ("forgotten" in forgotten["why"], forgotten["count"]) == (True, 50)
    assert "no node is up" in undecided["why"]


async def test_a_long_account_goes_on_from_request_to_request(world, monkeypatch):
    monkeypatch.setattr(service, "REQUEST_WORK", 40)
    monkeypatch.setattr(service, "PAGE_SLOTS", 7)
    monkeypatch.setattr(service, "PAGE_ROWS", 5)
    jobs = []
    for name in ("a", "b", "c"):
        made = await world.job(name=name, schedule="@every 1m")
        jobs.append(made["id"])
    first = (await world.store.get_job(jobs[0])).next_slot_us
    slots = [first + n * MINUTE for n in range(50)]
    world.clock.us = slots[-1] + 10 * SEC
    whole = Mark(slot_us=slots[15], state="missed", reason="x", until_us=slots[34], count=20)
    for job_id in jobs:
        kept = slots[:15] + slots[35:]
        if job_id == jobs[1]:
            kept.remove(slots[40])
        await decide(world, job_id, claims=kept, marks=[whole], next_us=slots[-1] + MINUTE)
    parts, cursor = [], ""
    while cursor is not None:
        parts.append(await verified(world, f"?cursor={cursor}" if cursor else ""))
        cursor = parts[-1]["next"]
        assert len(parts) < 40
    assert len(parts) > 3
    assert sum(one["jobs"] for one in parts) == 3
    assert sum(one["slots"] for one in parts) == 150
    assert sum(one["unexplained"] for one in parts) == 1
    assert sum(sum(one["states"].values()) for one in parts) == 149


async def test_projects_see_their_own_account(world):
    await world.local.post("/projects", {"name": "mine"})
    await every_minute(world)
    world.clock.us += 10 * MINUTE
    client = await world.client(project="mine", scopes=["read"])
    got = await client.get("/verify")
    assert (got.data["jobs"], got.data["findings"]) == (0, [])
    assert (await client.get("/verify?job=1")).status == 404
    assert (await client.get("/verify?cursor=0-5")).data["jobs"] == 0
    assert (await client.get("/verify?cursor=1-5")).data["jobs"] == 0
    assert (await client.get("/verify?cursor=x")).status == 400
    assert (await world.local.get("/verify?project=mine")).data["jobs"] == 0


async def test_a_slot_skipped_ahead_is_no_phantom(world):
    job_id, first = await every_minute(world)
    await world.local.post(f"/jobs/{job_id}/skip-next")
    await world.local.post(f"/jobs/{job_id}/run-instead")
    world.clock.us = first + 30 * SEC
    await world.local.patch(f"/jobs/{job_id}", {"schedule": "@every 1h"})
    world.clock.us = first + 10 * MINUTE
    got = await verified(world)
    assert [one["kind"] for one in got["findings"]] == ["not_final"]
    assert await world.store.get_run(RunKey(first, job_id))

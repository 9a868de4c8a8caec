"""Slots left out by hand, runs in their place, and holds that end by themselves."""

import pytest

from everbell.domain.decision import Claim, Decision

MINUTE = 60_000_000
NEXT = "2026-02-02T02:45:00Z"
AFTER = "2026-02-02T02:50:00Z"


async def test_the_next_slot_is_skipped_and_the_one_after_is_next(world):
    job = await world.job()
    url = f"/jobs/{job['id']}"
    done = await world.local.post(f"{url}/skip-next", {"reason": "moving day"})
    assert done.status == 201
    row = done.data["skipped"]
    assert (row["slot"], row["state"]) == (NEXT, "skipped")
    assert row["reason"] == "by_hand: moving day"
    assert done.data["instead"] is None
    assert (await world.local.get(url)).data["next_run"] == AFTER
    again = await world.local.post(f"{url}/skip-next")
    assert again.data["skipped"]["slot"] == AFTER
    assert again.data["skipped"]["reason"] == "by_hand"
    (first, *_) = (await world.local.get("/audit")).data
    assert first["what"] == "job.skip_next"


async def test_a_named_slot_is_skipped_once(world):
    job = await world.job()
    url = f"/jobs/{job['id']}/skip-next"
    one = await world.local.post(url, {"slot": AFTER})
    two = await world.local.post(url, {"slot": AFTER})
    assert (one.status, two.status) == (201, 201)
    assert one.data == two.data
    assert (await world.local.get(f"/jobs/{job['id']}")).data["next_run"] == NEXT
    # The next one is still the next; the one after it is gone over.
    assert (await world.local.post(url)).data["skipped"]["slot"] == NEXT
    third = await world.local.post(url)
    assert third.data["skipped"]["slot"] == "2026-02-02T02:55:00Z"
    assert len((await world.local.get("/runs")).data) == 3


async def test_the_slots_to_come_say_which_are_skipped(world):
    job = await world.job()
    url = f"/jobs/{job['id']}"
    await world.local.post(f"{url}/skip-next", {"reason": "moving day"})
    coming = (await world.local.get(f"{url}/next")).data
    assert [(one["at"], one["note"]) for one in coming[:2]] == [
        (NEXT, "skipped by hand: moving day"),
        (AFTER, ""),
    ]


@pytest.mark.parametrize(
    "body",
    [{"slot": "2026-02-02T02:46:00Z"}, {"slot": "2026-02-02T02:35:00Z"}, {"slot": "soon"}],
)
async def test_only_coming_slots_can_be_skipped(world, body):
    job = await world.job()
    got = await world.local.post(f"/jobs/{job['id']}/skip-next", body)
    assert (got.status, got.json()["errors"][0]["pointer"]) == (422, "/slot")


async def test_a_slot_that_is_claimed_already_says_so(world):
    job = await world.job()
    stored = await world.store.get_job(job["id"])
    slot = stored.next_slot_us
    world.clock.us = slot - 400_000
    decision = Decision(
        job_id=stored.id,
        project_id=stored.project_id,
        version=stored.version,
        cursor_us=slot,
        next_slot_us=slot + 5 * MINUTE,
        claims=(Claim(slot_us=slot, due_us=slot, trigger="schedule", max_active=1),),
    )
    await world.store.decide("n1", [decision], world.clock.us)
    got = await world.local.post(f"/jobs/{job['id']}/skip-next")
    assert got.status == 409
    assert "is decided already" in got.json()["detail"]
    assert f"everbell run cancel {job['id']}-{slot}" in got.json()["hint"]
    assert (await world.store.get_job(job["id"])).version == stored.version


@pytest.mark.parametrize("how", ["disable", "schedule"])
async def test_where_no_slot_is_ahead_there_is_none_to_skip(world, how):
    job = await world.job(**({"schedule": None} if how == "schedule" else {}))
    if how == "disable":
        await world.local.post(f"/jobs/{job['id']}/disable")
    got = await world.local.post(f"/jobs/{job['id']}/skip-next")
    assert (got.status, got.json()["hint"]) == (409, "there is no slot to skip")


async def test_a_run_in_the_place_of_the_next_slot(world):
    job = await world.job()
    url = f"/jobs/{job['id']}/run-instead"
    now = await world.local.post(url, {"reason": "early", "slot": NEXT})
    skipped, run = now.data["skipped"], now.data["instead"]
    assert (skipped["slot"], run["slot"]) == (NEXT, "2026-02-02T02:40:00Z")
    assert (run["state"], run["trigger"]) == ("queued", "manual")
    assert skipped["reason"] == f"by_hand: {run['id']} runs instead: early"
    assert run["reason"] == f"instead of {skipped['id']}: early"
    again = await world.local.post(url, {"reason": "early", "slot": NEXT})
    assert again.data == now.data
    later = await world.local.post(url, {"at": "2026-02-02T03:30:00+00:00"})
    assert later.data["skipped"]["slot"] == AFTER
    assert later.data["instead"]["due_at"] == "2026-02-02T03:30:00Z"
    over = await world.local.post(url, {"at": "2026-02-02T01:30:00Z"})
    assert (over.status, over.json()["errors"][0]["pointer"]) == (422, "/at")


async def test_a_slot_of_a_held_job_is_skipped_ahead_of_its_cursor(world):
    job = await world.job()
    await world.local.post(f"/jobs/{job['id']}/hold", {"reason": "why"})
    world.clock.us += 7 * MINUTE
    cursor = (await world.store.get_job(job["id"])).next_slot_us
    done = await world.local.post(f"/jobs/{job['id']}/skip-next")
    assert done.data["skipped"]["slot"] == AFTER
    assert (await world.store.get_job(job["id"])).next_slot_us == cursor


async def test_an_old_version_skips_nothing(world):
    job = await world.job()
    url = f"/jobs/{job['id']}"
    headers = {"if-match": f'"{job["version"]}"'}
    one = await world.local.post(f"{url}/skip-next", headers=headers)
    assert (one.status, one.headers["etag"]) == (201, '"2"')
    assert (await world.local.post(f"{url}/skip-next", headers=headers)).status == 412


async def test_a_hold_for_a_time(world):
    job = await world.job()
    until = "2026-02-02T06:00:00Z"
    made = await world.local.post(f"/jobs/{job['id']}/hold", {"until": until, "then": "once"})
    assert (made.status, made.data["until"], made.data["then"]) == (201, until, "once")
    made = await world.local.post("/holds", {"scope": "all", "until": "2026-02-03T00:00:00+01:00"})
    assert (made.data["until"], made.data["then"]) == ("2026-02-02T23:00:00Z", "skip")
    listed = (await world.local.get("/holds")).data
    assert [one["until"] for one in listed] == [until, "2026-02-02T23:00:00Z"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"then": "once"}, "/then"),
        ({"until": "2026-02-02T02:40:00Z"}, "/until"),
        ({"until": "2096-02-02T02:40:00Z"}, "/until"),
        ({"until": "tomorrow"}, "/until"),
    ],
)
async def test_a_time_that_holds_nothing_is_refused(world, body, pointer):
    got = await world.local.post("/holds", {"scope": "all", **body})
    assert (got.status, got.json()["errors"][0]["pointer"]) == (422, pointer)

"""POST /apply over both embedded stores: planned, idempotent, pruned, owned, checked as a whole."""

import pytest

from everbell.api.schemas import JobIn
from everbell.domain.errors import StoreUnavailable
from everbell.services import jobs
from everbell.services.exports import without_defaults

HOOK = {"kind": "http", "url": "http://example.com/hook"}
DAILY = {"name": "daily", "schedule": "0 2 * * *", "action": HOOK}
HOURLY = {"name": "hourly", "schedule": "0 * * * *", "action": HOOK}
HOUR = 3_600_000_000


async def apply(world, *jobs, status=200, **more):
    got = await world.local.post("/apply", {"jobs": list(jobs), **more})
    assert got.status == status, got.text
    return got.data if status == 200 else got.json()


async def stored(world):
    return {job["name"]: job for job in (await world.local.get("/jobs")).data}


def counts(plan):
    return tuple(plan[name] for name in ("added", "changed", "removed", "unchanged"))


async def test_a_plan_changes_nothing_and_twice_the_same_is_once(world):
    planned = await apply(world, DAILY, HOURLY, owner="shop", plan=True)
    assert (planned["applied"], counts(planned)) == (False, (2, 0, 0, 0))
    assert await stored(world) == {}
    assert (await world.local.get("/projects")).data == []
    done = await apply(world, DAILY, HOURLY, owner="shop")
    assert (done["applied"], counts(done)) == (True, (2, 0, 0, 0))
    before = await stored(world)
    assert {job["owner"] for job in before.values()} == {"shop"}
    again = await apply(world, DAILY, HOURLY, owner="shop")
    assert (counts(again), again["steps"]) == ((0, 0, 0, 2), [])
    assert await stored(world) == before


async def test_a_change_is_told_field_by_field_with_the_fire_times_that_move(world):
    await apply(world, DAILY, owner="shop")
    world.clock.us += 26 * HOUR  # 04:40 of the next day: the slot at 02:00 has run
    edited = {**DAILY, "schedule": "0 5 * * *", "timeout": 60, "tags": ["a"],
              "action": {**HOOK, "method": "GET"}}  # fmt: skip
    plan = await apply(world, edited, owner="shop", plan=True, days=2)
    (step,) = plan["steps"]
    assert (step["what"], step["project"], step["job"]) == ("change", "default", "daily")
    assert {one["field"]: (one["before"], one["after"]) for one in step["fields"]} == {
        "action.method": ("POST", "GET"), "schedule": ("0 2 * * *", "0 5 * * *"),
        "timeout": (None, 60.0), "tags": ([], ["a"]),
    }  # fmt: skip
    found = step["moves"]
    assert found["gone"] == ["2026-02-04T02:00:00Z", "2026-02-05T02:00:00Z"]
    assert found["new"] == ["2026-02-03T05:00:00Z", "2026-02-04T05:00:00Z"]
    assert (found["kept_count"], found["whole"]) == (0, True)
    assert found["edit"] == {
        "kind": "doubled", "last": "2026-02-03T02:00:00Z", "next": "2026-02-03T05:00:00Z",
        "slots": ["2026-02-03T05:00:00Z"],
    }  # fmt: skip
    assert plan["load_before"]["per_hour"] == plan["load_after"]["per_hour"] > 0
    done = await apply(world, edited, owner="shop")
    assert counts(done) == (0, 1, 0, 0)
    job = (await stored(world))["daily"]
    assert (job["schedule"], job["next_run"]) == ("0 5 * * *", "2026-02-03T05:00:00Z")
    assert counts(await apply(world, edited, owner="shop")) == (0, 0, 0, 1)


async def test_only_what_the_owner_has_is_removed(world):
    await world.job(name="by hand")
    await apply(world, {**DAILY, "name": "theirs"}, owner="other")
    await apply(world, DAILY, HOURLY, owner="shop")
    plan = await apply(world, DAILY, owner="shop", plan=True)
    assert [(one["what"], one["job"]) for one in plan["steps"]] == [("remove", "hourly")]
    assert plan["steps"][0]["moves"]["gone_count"] == 168
    assert plan["load_after"]["per_hour"] == plan["load_before"]["per_hour"] - 1
    kept = await apply(world, DAILY, owner="shop", prune=False)
    assert counts(kept) == (0, 0, 0, 1)
    await apply(world, DAILY, owner="shop")
    assert set(await stored(world)) == {"by hand", "theirs", "daily"}
    await apply(world, owner="shop")
    assert set(await stored(world)) == {"by hand", "theirs"}


async def test_without_an_owner_nothing_is_marked_and_nothing_removed(world):
    await apply(world, DAILY, HOURLY)
    await apply(world, DAILY)
    assert {name: job["owner"] for name, job in (await stored(world)).items()} == {
        "daily": "", "hourly": "",
    }  # fmt: skip
    problem = await apply(world, DAILY, prune=True, status=422)
    assert problem["errors"][0]["pointer"] == "/prune"


async def test_a_job_of_another_owner_is_changed_only_when_taken_over(world):
    await apply(world, DAILY, owner="shop")
    edited = {**DAILY, "schedule": "0 3 * * *"}
    for owner in ("", "other"):
        problem = await apply(world, HOURLY, edited, owner=owner, status=409)
        assert "belongs to 'shop'" in problem["detail"]
        assert problem["errors"][0]["pointer"] == "/jobs/1/name"
    assert set(await stored(world)) == {"daily"}
    # The same words change nothing, whoever says them without a name.
    assert counts(await apply(world, DAILY)) == (0, 0, 0, 1)
    assert counts(await apply(world, edited, owner="other", take_over=True)) == (0, 1, 0, 0)
    assert (await stored(world))["daily"]["owner"] == "other"


async def test_a_job_made_by_hand_is_adopted_and_the_plan_says_so(world):
    await world.job(**DAILY)
    plan = await apply(world, DAILY, owner="shop")
    assert plan["steps"][0]["fields"] == [{"field": "owner", "before": "", "after": "shop"}]
    assert plan["steps"][0]["moves"] is None


async def test_what_people_set_and_the_file_does_not_name_stays(world):
    await apply(world, DAILY, owner="shop")
    job = (await stored(world))["daily"]
    await world.local.post(f"/jobs/{job['id']}/disable")
    await world.local.patch(f"/jobs/{job['id']}", {"override": "0 7 * * *"})
    assert counts(await apply(world, DAILY, owner="shop")) == (0, 0, 0, 1)
    named = {**DAILY, "enabled": True, "override": None}
    plan = await apply(world, named, owner="shop")
    assert [one["field"] for one in plan["steps"][0]["fields"]] == ["override", "enabled"]
    job = (await stored(world))["daily"]
    assert (job["enabled"], job["override"]) == (True, None)


async def test_a_changed_one_shot_is_not_changed_again(world):
    once = {**DAILY, "repeat": False}
    await apply(world, once, owner="shop")
    once["schedule"] = "0 4 * * *"
    assert counts(await apply(world, once, owner="shop")) == (0, 1, 0, 0)
    assert counts(await apply(world, once, owner="shop")) == (0, 0, 0, 1)


async def test_one_bad_job_and_nothing_is_done(world):
    await apply(world, DAILY, owner="shop")
    edited = {**DAILY, "schedule": "61 * * * *"}
    problem = await apply(world, HOURLY, edited, owner="shop", status=422)
    assert (problem["code"], problem["position"]) == ("invalid_schedule", 0)
    assert problem["errors"][0]["pointer"] == "/jobs/1/schedule"
    bad = {**HOURLY, "name": " x"}
    problem = await apply(world, bad, edited, {"name": "y"}, status=422, owner="shop")
    assert set(await stored(world)) == {"daily"}
    assert (await stored(world))["daily"]["version"] == 1


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"jobs": [{**DAILY, "owner": "me"}]}, 422, "/jobs/0/owner"),
        ({"jobs": [DAILY, DAILY]}, 422, "/jobs/1/name"),
        ({"jobs": [3]}, 422, "/jobs/0"),
        ({"jobs": [{**DAILY, "shedule": "x"}]}, 422, "/jobs/0/shedule"),
        ({"jobs": [DAILY], "days": 0}, 422, "/days"),
        ({"jobs": [DAILY], "owner": " x"}, 422, "/jobs/0/owner"),
        ({"jobs": [{**DAILY, "project": "none"}]}, 404, "/jobs/0/project"),
        ({"jobs": [DAILY] * 21}, 413, None),
        ({"job": []}, 422, "/job"),
    ],
)
async def test_a_refusal_names_the_field(world, body, status, pointer):
    got = await world.local.post("/apply", body)
    assert got.status == status, got.text
    pointers = [one["pointer"] for one in got.json().get("errors") or ()]
    assert pointer is None or pointer in pointers
    assert await stored(world) == {}


async def test_projects(world):
    for name in ("one", "two"):
        await world.local.post("/projects", {"name": name})
    both = [{**DAILY, "project": "one"}, {**DAILY, "project": "two"}]
    assert counts(await apply(world, *both, owner="shop")) == (2, 0, 0, 0)
    assert counts(await apply(world, *both, owner="shop")) == (0, 0, 0, 2)
    # In one project, the others are out of sight.
    assert counts(await apply(world, DAILY, owner="shop", project="one")) == (0, 0, 0, 1)
    problem = await apply(world, both[1], owner="shop", project="one", status=422)
    assert problem["errors"][0]["pointer"] == "/jobs/0/project"
    assert counts(await apply(world, both[0], owner="shop")) == (0, 0, 1, 1)


async def test_a_key_bound_to_a_project_sees_and_removes_nothing_elsewhere(world):
    for name in ("mine", "yours"):
        await world.local.post("/projects", {"name": name})
    await apply(world, {**DAILY, "project": "yours"}, owner="shop")
    client = await world.client(project="mine", scopes=["read", "write"])
    got = await client.post("/apply", {"jobs": [HOURLY], "owner": "shop"})
    assert counts(got.data) == (1, 0, 0, 0)
    assert got.data["steps"][0]["project"] == "mine"
    got = await client.post("/apply", {"jobs": [], "owner": "shop"})
    assert counts(got.data) == (0, 0, 1, 0)
    assert set(await stored(world)) == {"daily"}


async def test_what_stops_half_way_is_told_and_done_by_the_next_time(world, monkeypatch):
    await apply(world, DAILY, owner="shop")

    async def broken(*args):
        raise StoreUnavailable("the disk is full", hint="make room")

    with monkeypatch.context() as patched:
        patched.setattr(jobs, "change", broken)
        problem = await apply(world, HOURLY, {**DAILY, "timeout": 5}, owner="shop", status=409)
    assert "1 of 2 changes are made, then: the disk is full" in problem["detail"]
    assert "apply the same again" in problem["hint"]
    assert counts(await apply(world, HOURLY, {**DAILY, "timeout": 5}, owner="shop")) == (0, 1, 0, 1)


async def test_what_is_shown_of_any_job_applies_to_nothing(world):
    rich = {
        "name": "rich", "schedule": "0 2 * * 1-5", "override": "0 3 * * *",
        "timezone": "Asia/Tokyo",
        "start_at": "2026-01-01T00:00:00Z", "end_at": "2027-01-01T00:00:00.5Z", "jitter": 5,
        "exclude": ["--12-25"], "dst": {"gap": "skip"}, "misfire": {"policy": "all", "window": 9},
        "retry": {"max": 2, "delay": 3}, "timeout": 1.5, "overlap": "queue", "max_running": 2,
        "on_failure": {"park_after": 3}, "data": {"a": [None, {"b": 1}]}, "tags": ["x"],
        "description": "d", "enabled": False, "week_start": "sunday", "delivery": "at_most_once",
        "action": {"kind": "command", "argv": ["true", "-x"], "env": {"A": "1"}},
    }  # fmt: skip
    script = {"name": "s", "action": {"kind": "script", "text": "echo", "args": ["1"]}}
    await apply(world, rich, script, DAILY, {**HOURLY, "repeat": False, "schedule": "@every 5m"})
    written = [without_defaults(job, JobIn) for job in (await stored(world)).values()]
    again = await apply(world, *written)
    assert (again["steps"], again["unchanged"]) == ([], 4)

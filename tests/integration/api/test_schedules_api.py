"""All that decides when a job runs, over HTTP: exclusions, overrides, clock rules, previews."""

from __future__ import annotations

import pytest

HOOK = {"kind": "http", "url": "http://example.com/hook"}
STO = "Europe/Stockholm"


async def slots(world, job, count=3):
    seen = await world.local.get(f"/jobs/{job['id']}/next?n={count}")
    return [one["local"] for one in seen.data]


async def test_excluded_instants_are_no_slots(world):
    job = await world.job(schedule="0 9 * * *", exclude=["2026-02-02", "--02-04", "sat,sun"])
    assert job["exclude"] == ["2026-02-02", "--02-04", "sat,sun"]
    assert job["next_run"] == "2026-02-03T09:00:00Z"
    assert [one[8:10] for one in await slots(world, job, 4)] == ["03", "05", "06", "09"]
    changed = await world.local.patch(f"/jobs/{job['id']}", {"exclude": []})
    assert changed.data["next_run"] == "2026-02-02T09:00:00Z"


@pytest.mark.parametrize(
    ("fields", "pointer", "hint"),
    [
        ({"exclude": ["--12-25", "--02-30"]}, "/exclude/1", "--MM-DD"),
        ({"exclude": ["--01-01"] * 201}, "/exclude/200", "200"),
        ({"exclude": "sat"}, "/exclude", ""),
        ({"exclude": ["08:00-10:00"]}, "/exclude", "shorten"),
        ({"schedule": None, "exclude": ["x"]}, "/exclude/0", "--12-25"),
        ({"override": "0 25 * * *"}, "/override", "0 to 23"),
        ({"override": " "}, "/override", "@every"),
        ({"schedule": "0 25 * * *", "override": "0 9 * * *"}, "/schedule", "0 to 23"),
        ({"override_times": "25:00"}, "/override_times", "23:59"),
        ({"override_interval": "5"}, "/override_interval", "MM:SS"),
        ({"override_interval": 5}, "/override_interval", ""),
        ({"override_times": []}, "/override_times", ""),
        ({"override": "@daily", "override_times": "02:00"}, "/override_times", ""),
        ({"override": "@at 2020-01-01T00:00Z"}, "/override", "future"),
    ],
)
async def test_what_is_wrong_is_named(world, fields, pointer, hint):
    body = {"name": "a", "action": HOOK, "schedule": "0 9 * * *", **fields}
    refused = await world.local.post("/jobs", body)
    assert refused.status == 422, refused.text
    error = refused.json()["errors"][0]
    assert error["pointer"] == pointer
    assert hint in error["hint"]
    assert (await world.local.get("/jobs")).json()["page"]["total"] == 0


async def test_an_override_replaces_and_clearing_restores(world):
    job = await world.job(schedule="0 9 * * *")
    path = f"/jobs/{job['id']}"
    assert job["override"] is None
    changed = (await world.local.patch(path, {"override_times": "04:00,05:00:30"})).data
    assert (changed["schedule"], changed["override"]) == ("0 9 * * *", "times 04:00,05:00:30")
    assert changed["next_run"] == "2026-02-02T04:00:00Z"
    # The default may change under it: people's word holds.
    moved = (await world.local.patch(path, {"schedule": "0 10 * * *"})).data
    assert moved["next_run"] == "2026-02-02T04:00:00Z"
    every = (await world.local.patch(path, {"override_interval": "05:30"})).data
    assert every["override"] == "interval 05:30"
    cleared = (await world.local.patch(path, {"override": None})).data
    assert cleared["override"] is None
    assert cleared["next_run"] == "2026-02-02T10:00:00Z"


@pytest.mark.parametrize("name", ["override", "override_times", "override_interval"])
async def test_every_name_clears(world, name):
    job = await world.job(schedule="0 9 * * *", override="0 4 * * *")
    cleared = await world.local.patch(f"/jobs/{job['id']}", {name: None})
    assert cleared.data["override"] is None
    assert cleared.data["next_run"] == "2026-02-02T09:00:00Z"


async def test_an_override_equal_to_the_default_is_stored_as_none(world):
    job = await world.job(schedule="0 4 * * *", override="times 04:00")
    assert job["override"] is None
    job = (await world.local.patch(f"/jobs/{job['id']}", {"override": "0 5 * * *"})).data
    assert job["override"] == "0 5 * * *"
    # The default catches up with it: from now on there is one schedule.
    job = (await world.local.patch(f"/jobs/{job['id']}", {"schedule": "times 05:00"})).data
    assert job["override"] is None


@pytest.mark.parametrize("pair", [("times", "interval"), ("override_times", "override_interval")])
async def test_times_and_interval_together_are_wrong_on_both_fields(world, pair):
    body = {"name": "a", "action": HOOK, pair[0]: "02:00", pair[1]: "05:30"}
    refused = await world.local.post("/jobs", body)
    assert refused.status == 422
    pointers = [one["pointer"] for one in refused.json()["errors"]]
    assert pointers == [f"/{pair[0]}", f"/{pair[1]}"]
    listed = await world.local.post("/jobs", [body])
    assert [one["pointer"] for one in listed.json()["errors"]] == [f"/0/{one}" for one in pair]


async def test_times_and_interval_say_when(world):
    made = (await world.job(name="a", schedule=None), await world.job(name="b"))
    times = await world.local.patch(f"/jobs/{made[0]['id']}", {"times": ["04:00", "05:00"]})
    assert times.data["schedule"] == "times 04:00,05:00"
    every = await world.local.patch(
        f"/jobs/{made[1]['id']}", {"times": None, "interval": "01:00:00"}
    )
    assert every.data["schedule"] == "interval 01:00:00"
    assert every.data["next_run"] == "2026-02-02T03:40:00Z"


async def test_an_override_plans_a_job_that_was_only_triggered(world):
    job = await world.job(schedule=None)
    assert job["next_run"] is None
    changed = await world.local.patch(f"/jobs/{job['id']}", {"override": "0 4 * * *"})
    assert changed.data["next_run"] == "2026-02-02T04:00:00Z"


@pytest.mark.parametrize(
    ("dst", "spring", "autumn"),
    [
        ({}, "2026-03-29T03:00:00+02:00", ["+02:00"]),
        ({"gap": "skip"}, "2026-03-30T02:30:00+02:00", ["+02:00"]),
        ({"overlap": "second"}, "2026-03-29T03:00:00+02:00", ["+01:00"]),
        ({"overlap": "both"}, "2026-03-29T03:00:00+02:00", ["+02:00", "+01:00"]),
    ],
)
async def test_clock_rules_of_a_job(world, dst, spring, autumn):
    fields = {"schedule": "30 2 * * *", "timezone": STO, "dst": dst}
    job = await world.job(start_at="2026-03-28T12:00:00Z", **fields)
    assert (await slots(world, job, 1)) == [spring]
    later = await world.job(name="b", start_at="2026-10-24T12:00:00Z", **fields)
    found = [one for one in await slots(world, later) if one.startswith("2026-10-25")]
    assert [one[-6:] for one in found] == autumn


async def test_week_start_bounds_jitter_and_one_shots(world):
    weekly = await world.job(name="w", schedule="weekly", week_start="Sunday")
    assert weekly["next_run"] == "2026-02-08T00:00:00Z"
    bounded = await world.job(
        name="b",
        schedule="0 * * * *",
        start_at="2026-02-02T05:00:00Z",
        end_at="2026-02-02T06:00:00Z",
    )
    assert [one[11:13] for one in await slots(world, bounded)] == ["05", "06"]
    moved = await world.job(name="j", schedule="0 * * * *", jitter=600)
    first, second, _ = await slots(world, moved)
    assert first[14:] == second[14:]
    assert 0 <= int(first[14:16]) < 10
    once = await world.job(name="o", schedule="@every 90s", repeat=False)
    assert await slots(world, once) == ["2026-02-02T02:41:30+00:00"]


async def test_a_preview_tells_what_clock_changes_do(world):
    asked = {"schedule": "30 2 * * *", "timezone": STO, "n": 2, "after": "2026-03-28T12:00:00Z"}
    seen = (await world.local.post("/schedules/preview", asked)).data
    assert [one["mark"] for one in seen["next"]] == ["after_gap", ""]
    assert "23 hours 30 minutes after the one before" in seen["next"][0]["note"]
    assert [(one["at"], one["before"], one["after"]) for one in seen["clock_changes"]] == [
        ("2026-03-29T01:00:00Z", 3600, 7200),
        ("2026-10-25T01:00:00Z", 7200, 3600),
    ]
    assert "runs once, at 03:00" in seen["clock_changes"][0]["note"]
    assert any("occurs twice" in one for one in seen["warnings"])
    skip = (await world.local.post("/schedules/preview", {**asked, "dst": {"gap": "skip"}})).data
    assert "left out, and the runs in it" in skip["clock_changes"][0]["note"]


async def test_a_preview_shows_what_is_excluded(world):
    asked = {"schedule": "0 9 * * *", "n": 2, "exclude": ["2026-02-02..2026-02-03"]}
    seen = (await world.local.post("/schedules/preview", asked)).data
    assert [one["at"][8:10] for one in seen["next"]] == ["04", "05"]
    assert [one["at"][8:10] for one in seen["excluded"]] == ["02", "03"]
    assert seen["description"].endswith("not in 2026-02-02..2026-02-03")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"exclude": ["x"]}, "/exclude/0"),
        ({"after": "tomorrow"}, "/after"),
        ({"start_at": "2026-02-02T00:00:00"}, "/start_at"),
        ({"start_at": "2026-02-03", "end_at": "2026-02-02"}, "/end_at"),
        ({"week_start": "someday"}, "/week_start"),
        ({"dst": {"gap": "jump"}}, "/dst/gap"),
        ({"schedule": "0 25 * * *"}, "/schedule"),
    ],
)
async def test_a_preview_names_what_is_wrong(world, fields, pointer):
    refused = await world.local.post("/schedules/preview", {"schedule": "@daily", **fields})
    assert refused.status == 422, refused.text
    assert refused.json()["errors"][0]["pointer"] == pointer

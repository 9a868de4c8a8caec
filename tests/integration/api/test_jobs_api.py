"""Jobs over HTTP: made, read, changed, switched, removed."""

import asyncio

HOOK = {"kind": "http", "url": "http://example.com/hook"}


async def test_a_job_is_made_and_read_under_every_prefix(world):
    made = await world.local.post(
        "/api/v1/jobs", {"name": "a", "schedule": "@every 1m", "action": HOOK, "data": {"x": [1]}}
    )
    assert made.status == 201
    job = made.data
    assert made.json()["success"] is True
    assert made.headers["location"] == f"/api/v1/jobs/{job['id']}"
    assert made.headers["etag"] == f'"{job["version"]}"'
    assert job["project"] == "default"
    assert job["spec"] == job["schedule"] == "@every 1m"
    assert job["frequency"] == 60
    assert job["callback_url"] == HOOK["url"]
    assert job["data"] == {"x": [1]}
    assert job["next_run"] == "2026-02-02T02:41:00Z"
    assert job["startdate"] == job["created_at"] == "2026-02-02T02:40:00Z"
    for prefix in ("", "/v1", "/api/v1"):
        for key in (job["id"], job["uuid"], "a?project=default"):
            got = await world.local.get(f"{prefix}/jobs/{key}")
            assert got.status == 200, got.text
            assert got.data == job


async def test_an_array_is_stored_whole_or_not_at_all(world):
    good = {"name": "a", "schedule": "@hourly", "action": HOOK}
    made = await world.local.post("/jobs", [good, {**good, "name": "b"}])
    assert made.status == 201
    assert [job["name"] for job in made.data] == ["a", "b"]
    refused = await world.local.post("/jobs", [{**good, "name": "c"}, {**good, "schedule": "x"}])
    assert refused.status == 422
    assert refused.json()["errors"][0]["pointer"] == "/1/schedule"
    clash = await world.local.post("/jobs", [{**good, "name": "d"}, good])
    assert clash.status == 409
    listed = await world.local.get("/jobs")
    assert listed.json()["page"]["total"] == 2


async def test_the_cursor_is_kept_unless_the_schedule_changes(world):
    job = await world.job(schedule="0 * * * *")
    assert job["next_run"] == "2026-02-02T03:00:00Z"
    same = await world.local.patch(f"/jobs/{job['id']}", {"description": "new"})
    assert same.status == 200
    assert same.data["next_run"] == job["next_run"]
    assert same.data["version"] == job["version"] + 1
    other = await world.local.patch(f"/jobs/{job['id']}", {"spec": "30 2 * * *"})
    assert other.data["next_run"] == "2026-02-03T02:30:00Z"
    assert other.data["description"] == "new"
    assert world.hints.changes[-1].jobs == (job["id"],)


async def test_a_job_can_be_sent_back_as_it_was_shown(world):
    job = await world.job(retry={"max": 3, "delay": 0.5}, tags=["a"], data={"k": None})
    back = await world.local.put(f"/jobs/{job['id']}", {**job, "description": "d"})
    assert back.status == 200, back.text
    for name, value in job.items():
        if name not in ("description", "version", "updated_at"):
            assert back.data[name] == value, name


async def test_patch_merges_and_null_restores_the_default(world):
    job = await world.job(action={**HOOK, "headers": {"a": "1"}}, timeout=5, data={"a": 1, "b": 2})
    changed = await world.local.patch(
        f"/jobs/{job['id']}",
        {"action": {"headers": {"b": "2"}}, "timeout": None, "data": {"c": 3}},
        headers={"content-type": "application/merge-patch+json"},
    )
    assert changed.status == 200, changed.text
    assert changed.data["action"]["headers"] == {"a": "1", "b": "2"}
    assert changed.data["timeout"] is None
    assert changed.data["data"] == {"c": 3}
    moved = await world.local.patch(
        f"/jobs/{job['id']}", {"action": {"kind": "command", "argv": ["true"]}}
    )
    assert moved.data["action"]["argv"] == ["true"]


async def test_disable_clears_and_enable_plans_from_now(world):
    job = await world.job(schedule="*/5 * * * *")
    off = await world.local.post(f"/jobs/{job['id']}/disable")
    assert (off.status, off.data["enabled"], off.data["next_run"]) == (200, False, None)
    world.clock.us += 3600 * 1_000_000
    on = await world.local.post(f"/jobs/{job['id']}/enable")
    assert (on.data["enabled"], on.data["next_run"]) == (True, "2026-02-02T03:45:00Z")
    again = await world.local.post(f"/jobs/{job['id']}/enable")
    assert again.data["version"] == on.data["version"]


async def test_if_match_refuses_what_was_changed_by_somebody_else(world):
    job = await world.job()
    url = f"/jobs/{job['id']}"
    for method, body in (("PUT", {**job}), ("PATCH", {"description": "x"}), ("DELETE", None)):
        stale = await world.local.request(method, url, body, headers={"if-match": '"99"'})
        assert stale.status == 412, method
        assert stale.json()["code"] == "version_mismatch"
    odd = await world.local.patch(url, {"description": "x"}, headers={"if-match": "abc"})
    assert odd.status == 400
    fresh = await world.local.patch(
        url, {"description": "x"}, headers={"if-match": f'"{job["version"]}"'}
    )
    assert fresh.status == 200
    gone = await world.local.delete(url, headers={"if-match": fresh.headers["etag"]})
    assert gone.status == 204
    assert (await world.local.get(url)).status == 404


async def test_a_name_is_taken_once_and_free_after_delete(world):
    job = await world.job(name="one")
    clash = await world.local.post("/jobs", {"name": "one", "action": HOOK})
    assert clash.status == 409
    assert clash.json()["hint"] or clash.json()["detail"]
    await world.local.delete(f"/jobs/{job['id']}")
    assert (await world.job(name="one"))["id"] != job["id"]


async def test_lists_page_filter_and_count(world):
    for index in range(5):
        await world.job(name=f"job {index}", enabled=index != 3)
    page = await world.local.get("/jobs?limit=2&offset=2")
    assert [job["name"] for job in page.data] == ["job 2", "job 3"]
    assert page.json()["page"] == {"limit": 2, "offset": 2, "total": 5}
    off = await world.local.get("/jobs?enabled=false")
    assert [job["name"] for job in off.data] == ["job 3"]
    found = await world.local.get("/jobs?search=JOB%204&project=default")
    assert [job["name"] for job in found.data] == ["job 4"]


async def test_next_slots_are_shown_in_utc_and_in_the_jobs_zone(world):
    job = await world.job(schedule="30 2 * * *", timezone="Europe/Stockholm")
    seen = await world.local.get(f"/jobs/{job['id']}/next?n=2")
    assert [(one["at"], one["local"]) for one in seen.data] == [
        ("2026-02-03T01:30:00Z", "2026-02-03T02:30:00+01:00"),
        ("2026-02-04T01:30:00Z", "2026-02-04T02:30:00+01:00"),
    ]
    assert (await world.local.get(f"/jobs/{job['id']}/next?n=0")).status == 400


async def test_the_same_idempotency_key_creates_once(world):
    body = {"name": "once", "schedule": "@hourly", "action": HOOK}
    key = {"idempotency-key": "abc"}
    first = await world.local.post("/jobs", body, headers=key)
    again = await world.local.post("/jobs", body, headers=key)
    assert (first.status, again.status) == (201, 201)
    assert again.data == first.data
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = await world.local.post("/jobs", {**body, "name": "two"}, headers=key)
    assert other.status == 422
    assert other.json()["code"] == "idempotency_key_reused"
    bad = await world.local.post("/jobs", body, headers={"idempotency-key": "x" * 300})
    assert bad.status == 400


async def test_requests_at_once_with_one_key_create_once(world):
    body = {"name": "once", "schedule": "@hourly", "action": HOOK}
    answers = await asyncio.gather(
        *(world.local.post("/jobs", body, headers={"idempotency-key": "k"}) for _ in range(8))
    )
    assert {answer.status for answer in answers} == {201}
    assert len({answer.data["uuid"] for answer in answers}) == 1


async def test_a_failed_request_may_be_repeated_under_its_key(world):
    body = {"name": "late", "project": "soon", "action": HOOK}
    key = {"idempotency-key": "retry-me"}
    assert (await world.local.post("/jobs", body, headers=key)).status == 404
    await world.local.post("/projects", {"name": "soon"})
    assert (await world.local.post("/jobs", body, headers=key)).status == 201
    assert (await world.local.post("/jobs", body, headers=key)).status == 201


async def test_a_changed_one_shot_runs_once_more(world):
    job = await world.job(schedule="@every 1m", repeat=False)
    world.clock.us += 3600 * 1_000_000
    changed = await world.local.patch(f"/jobs/{job['id']}", {"schedule": "@every 2m"})
    assert changed.status == 200, changed.text
    assert changed.data["next_run"] == "2026-02-02T03:42:00Z"
    seen = await world.local.get(f"/jobs/{job['id']}/next")
    assert len(seen.data) == 1


async def test_a_job_without_schedule_waits_for_triggers(world):
    made = await world.local.post("/jobs", {"name": "manual", "action": HOOK})
    assert made.status == 201
    assert made.data["schedule"] is None
    assert made.data["next_run"] is None
    assert (await world.local.get(f"/jobs/{made.data['id']}/next")).data == []


async def test_resolve_unparks_and_is_idempotent(world):
    job = await world.job()
    stored = await world.store.get_job(job["id"])
    import msgspec

    parked = msgspec.structs.replace(stored, parked="3 failures in a row", failures=3)
    await world.store.change_job(parked, stored.version, world.clock.us)
    shown = await world.local.get("/jobs?parked=true")
    assert shown.data[0]["parked"] == "3 failures in a row"
    done = await world.local.post(f"/jobs/{job['id']}/resolve")
    assert (done.status, done.data["parked"], done.data["failures"]) == (200, "", 0)
    assert (await world.local.post(f"/jobs/{job['id']}/resolve")).status == 200


async def test_a_name_alone_will_do_where_it_is_the_only_one(world):
    job = await world.job(name="backup")
    assert (await world.local.get("/jobs/backup")).data["uuid"] == job["uuid"]
    await world.local.post("/projects", {"name": "two"})
    await world.job(name="backup", project="two")
    unclear = await world.local.get("/jobs/backup")
    assert unclear.status == 409
    assert "?project=" in unclear.json()["hint"]
    assert (await world.local.get("/jobs/backup?project=two")).data["project"] == "two"
    assert (await world.local.get("/jobs/absent")).status == 404


async def test_slots_of_a_disabled_job_are_not_planned_by_a_change(world):
    job = await world.job(enabled=False)
    assert job["next_run"] is None
    changed = await world.local.put(f"/jobs/{job['id']}", {**job, "enabled": True})
    assert changed.data["next_run"] == "2026-02-02T02:45:00Z"
    kept = await world.local.put(
        f"/jobs/{job['id']}", {"name": "nightly", "spec": "@hourly", "action": HOOK}
    )
    assert kept.data["enabled"] is True
    moved = await world.local.put(f"/jobs/{job['id']}", {**kept.data, "project": "elsewhere"})
    assert moved.status == 422

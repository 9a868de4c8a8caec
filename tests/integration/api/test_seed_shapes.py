"""Jobs in the words of the seed schedulers."""

import pytest

from everbell.api.aliases import interpreter_of


async def test_the_javascript_programs_requests_work(world):
    client = await world.client(scopes=["read", "run", "write"])
    project = await client.post(
        "/projects", {"name": "sample project", "description": "my calendar project"}
    )
    assert project.status == 201
    job = await client.post(
        "/jobs",
        {
            "name": "sample project",
            "spec": "@every 1m",
            "project_uuid": project.data["uuid"],
            "callback_url": "http://localhost:3000/callback",
        },
    )
    assert job.status == 201, job.text
    assert job.data["project_uuid"] == project.data["uuid"]
    assert job.data["spec"] == "@every 1m"
    assert job.data["action"]["url"] == "http://localhost:3000/callback"
    assert job.data["action"]["method"] == "POST"


@pytest.mark.parametrize("path", ["/jobs", "/scheduler/jobs", "/api/v1/jobs"])
async def test_jobs_of_the_distributed_scheduler(world, path):
    made = await world.local.post(
        path,
        {
            "name": "ds",
            "description": "d",
            "frequency": 90,
            "startdate": "2-10-2026  10:00:00",
            "script": "console.log(1)",
            "repeat": "true",
        },
    )
    assert made.status == 201, made.text
    assert made.data["schedule"] == "@every 90s"
    assert made.data["frequency"] == 90
    assert made.data["repeat"] is True
    action = made.data["action"]
    assert (action["kind"], action["text"], action["interpreter"]) == (
        "script",
        "console.log(1)",
        "node",
    )
    assert made.data["next_run"] == "2026-02-02T02:41:30Z"
    assert "startdate" in made.json()["notes"][0]
    assert made.headers["location"] == f"/api/v1/jobs/{made.data['id']}"


@pytest.mark.parametrize("repeat", [False, "false"])
async def test_without_repeat_a_job_runs_once_after_its_frequency(world, repeat):
    made = await world.local.post(
        "/jobs", {"name": "once", "frequency": "60", "script": "1", "repeat": repeat}
    )
    assert made.status == 201, made.text
    assert made.data["repeat"] is False
    seen = await world.local.get(f"/jobs/{made.data['id']}/next?n=5")
    assert [one["at"] for one in seen.data] == ["2026-02-02T02:41:00Z"]


async def test_every_spelling_of_scheduler0(world):
    project = (await world.local.post("/projects", {"name": "p"})).data
    made = await world.local.post(
        "/jobs",
        {
            "name": "camel",
            "projectId": project["id"],
            "spec": "0 0 * * *",
            "callbackUrl": "http://example.com",
            "executionType": "http",
            "timezone": "Europe/Berlin",
            "timezoneOffset": 3600,
            "startDate": "2026-03-01T00:00:00Z",
            "endDate": "2026-04-01T00:00:00Z",
            "retryMax": 4,
            "status": "inactive",
            "data": '{"a": 1}',
        },
    )
    assert made.status == 201, made.text
    job = made.data
    assert job["project_id"] == project["id"]
    assert (job["start_at"], job["end_at"]) == ("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z")
    assert job["retry"]["max"] == 4
    assert job["enabled"] is False
    assert job["next_run"] is None
    assert job["data"] == '{"a": 1}'
    changed = await world.local.put(
        f"/jobs/{job['id']}",
        {
            "name": "camel",
            "spec": "0 0 * * *",
            "callbackUrl": "http://b.example",
            "status": "active",
        },
    )
    assert changed.status == 200, changed.text
    assert changed.data["spec"] == "0 0 * * *"
    assert changed.data["action"]["url"] == "http://b.example"
    assert changed.data["enabled"] is True


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"frequency": 0}, "/frequency"),
        ({"frequency": -5}, "/frequency"),
        ({"frequency": "often"}, "/frequency"),
        ({"frequency": True}, "/frequency"),
        ({"frequency": 1e12}, "/frequency"),
        ({"frequency": 0.1}, "/frequency"),
        ({"script": 5}, "/script"),
        ({"script": ""}, "/script"),
        ({"interpreter": "perl"}, "/script"),
        ({"interpreter": 5}, "/interpreter"),
        ({"repeat": "often"}, "/repeat"),
    ],
)
async def test_errors_point_at_the_name_that_was_used(world, body, pointer):
    given = {"name": "n", "frequency": 60, "script": "x", **body}
    refused = await world.local.post("/jobs", given)
    assert refused.status == 422, refused.text
    assert refused.json()["errors"][0]["pointer"] == pointer
    for extra, at in (
        ({"spec": "bad"}, "/spec"),
        ({"callback_url": "nowhere"}, "/callback_url"),
        ({"callback_url": 5}, "/callback_url"),
        ({"execution_type": "ftp"}, "/execution_type"),
        ({"status": "sleepy"}, "/status"),
        ({"startDate": "x"}, "/startDate"),
        ({"retryMax": 1000}, "/retryMax"),
        ({"retryMax": "x"}, "/retryMax"),
    ):
        base = {"name": "n", "spec": "@hourly", "callback_url": "http://a.example"}
        refused = await world.local.post("/jobs", {**base, **extra})
        assert refused.status == 422, refused.text
        assert refused.json()["errors"][0]["pointer"] == at, refused.text


@pytest.mark.parametrize(
    ("script", "interpreter"),
    [
        ("#!/bin/sh\necho", "sh"),
        ("#!/usr/bin/env python3\n", "python"),
        ("#!/usr/bin/python3.11\n", "python"),
        ("#!/usr/bin/env -S node --x\n", "node"),
        ("#!/usr/bin/perl\n", "perl"),
        ("#!/usr/bin/env\n", None),
        ("console.log(1)", None),
    ],
)
def test_the_first_line_names_the_interpreter(script, interpreter):
    assert interpreter_of(script) == interpreter

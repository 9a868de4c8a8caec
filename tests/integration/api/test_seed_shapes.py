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
    home = "/scheduler/jobs" if path == "/scheduler/jobs" else "/api/v1/jobs"
    assert made.headers["location"] == f"{home}/{made.data['id']}"
    shown = await world.local.get(made.headers["location"])
    assert (shown.data["name"], shown.data["startdate"]) == ("ds", "2026-02-02T02:40:00Z")


async def test_the_distributed_schedulers_own_answers_at_its_own_addresses(world):
    body = {"name": "own", "frequency": 60, "script": "1", "repeat": True}
    made = await world.local.post("/scheduler/jobs", body)
    assert made.json()["info"] == "Record has been successfully created with id 1"
    again = await world.local.post("/scheduler/jobs", body)
    assert again.status == 422
    assert again.json()["errors"][0]["pointer"] == "/name"
    assert (await world.local.post("/jobs", body)).status == 409
    shown = await world.local.get("/scheduler/job/1")
    assert (shown.status, shown.data["id"], shown.data["frequency"]) == (200, 1, 60)
    assert (await world.local.get("/scheduler/job/2")).status == 404
    changed = await world.local.put("/scheduler/job/1", {"frequency": 5})
    assert (changed.data["frequency"], changed.data["name"]) == (5, "own")
    assert (await world.local.delete("/scheduler/job/1")).status == 204


FORM = {"content-type": "application/x-www-form-urlencoded"}
FIELDS = b"name=f&description=a+b&frequency=60&startdate=&script=console.log(1%2B1)&repeat=false"


@pytest.mark.parametrize("path", ["/jobs", "/scheduler/jobs"])
async def test_a_form_makes_a_job(world, path):
    made = await world.local.post(path, headers=FORM, chunks=[FIELDS])
    assert made.status == 201, made.text
    job = made.data
    assert (job["name"], job["description"], job["frequency"]) == ("f", "a b", 60)
    assert (job["action"]["text"], job["repeat"]) == ("console.log(1+1)", False)


@pytest.mark.parametrize(
    ("raw", "status", "words"),
    [
        (b"name=f&name=g", 422, "twice"),
        (b"name", 400, "no form"),
        (b"name=%ff", 400, "no form"),
        (b"&".join([b"a=1"] * 200), 400, "no form"),
        (b"name=f&frequency=soon&script=1", 422, "/frequency must be a number of seconds"),
        (b"name=f&frequency=1&script=1&repeat=perhaps", 422, "/repeat"),
        (b"name=f&frequency=1", 422, "/action"),
        (b"name=f&script=1&repeat=false", 422, "/frequency"),
    ],
)
async def test_a_wrong_form_is_refused_with_its_field(world, raw, status, words):
    answer = await world.local.post("/jobs", headers=FORM, chunks=[raw])
    assert answer.status == status, answer.text
    assert words in answer.text


async def test_a_form_needs_a_credential_and_none_of_another_site_is_taken(world):
    client = await world.client(scopes=["read"])
    assert (await client.post("/jobs", headers=FORM, chunks=[FIELDS])).status == 403
    headers = {**FORM, "sec-fetch-site": "cross-site"}
    assert (await world.local.post("/jobs", headers=headers, chunks=[FIELDS])).status == 415


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

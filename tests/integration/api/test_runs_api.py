"""The ledger over HTTP: run now, list, output, follow, cancel, retry; holds and health."""

import dataclasses
import json

from everbell.api.app import create_app
from everbell.config.schema import Api, Settings
from everbell.domain.run import RunKey
from everbell.ports.store import Finish, OutputChunk
from everbell.testing.asgi import AsgiClient

SECOND = 1_000_000


def events(body):
    found = []
    for block in body.decode().strip().split("\n\n"):
        if block.startswith(":"):
            continue
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
    return found


async def started(world, job):
    """Run the job now and let a node take it."""
    made = (await world.local.post(f"/jobs/{job['id']}/runs")).data
    runs = await world.store.take_queued("node-1", world.clock.us, 10)
    run = next(one for one in runs if one.id == made["id"])
    await world.store.mark_running([(run, world.clock.us)], world.clock.us)
    return await world.store.get_run(run.key)


async def write(world, run, offset, data, stream="out"):
    chunk = OutputChunk(
        key=run.key,
        attempt=run.attempt,
        offset=offset,
        stream=stream,
        at_us=world.clock.us,
        data=data,
    )
    await world.store.append_output([chunk])


async def end(world, run, state="succeeded", **more):
    finish = Finish(
        run=run,
        state=state,
        started_us=run.started_us,
        finished_us=world.clock.us,
        code=0,
        **more,
    )
    (done,) = await world.store.finish([finish], world.clock.us)
    assert done.outcome == "stored"


async def test_run_now_is_queued_and_shown(world):
    job = await world.job()
    made = await world.local.post(f"/jobs/{job['id']}/runs", {"reason": "by hand"})
    assert made.status == 201, made.text
    run = made.data
    assert (run["state"], run["trigger"], run["reason"]) == ("queued", "manual", "by hand")
    assert (run["job"], run["job_uuid"]) == ("nightly", job["uuid"])
    assert made.headers["location"] == f"/api/v1/runs/{run['id']}"
    assert RunKey.parse(run["id"]).trigger_id
    shown = (await world.local.get(f"/runs/{run['id']}")).data
    assert shown["attempts"] == []
    assert world.hints.changes[-1].work


async def test_run_now_under_one_key_starts_once(world):
    job = await world.job()
    url = f"/jobs/{job['id']}/runs"
    first = await world.local.post(url, headers={"idempotency-key": "k"})
    world.clock.us += SECOND
    again = await world.local.post(url, headers={"idempotency-key": "k"})
    assert first.data["id"] == again.data["id"]
    assert again.headers["idempotent-replayed"] == "true"
    other = await world.local.post(url)
    assert other.data["id"] != first.data["id"]
    assert len((await world.local.get("/runs")).data) == 2


async def test_runs_are_listed_newest_first_and_paged(world):
    job = await world.job()
    made = []
    for _ in range(5):
        made.append((await world.local.post(f"/jobs/{job['id']}/runs")).data["id"])
        world.clock.us += SECOND
    seen, cursor = [], ""
    for _ in range(3):
        page = await world.local.get(f"/runs?limit=2{cursor}")
        seen += [run["id"] for run in page.data]
        following = page.json()["page"]["next"]
        cursor = f"&cursor={following}"
    assert seen == made[::-1]
    assert following is None
    assert (await world.local.get("/runs?state=running,failed")).data == []
    assert len((await world.local.get(f"/runs?state=queued&job={job['id']}")).data) == 5
    assert (
        len((await world.local.get("/runs?job=nightly&project=default&trigger=manual")).data) == 5
    )
    late = await world.local.get("/runs?from=2026-02-02T02:40:03Z&to=2026-02-02T02:40:03Z")
    assert [run["id"] for run in late.data] == [made[3]]


async def test_output_is_text_that_no_browser_runs(world):
    run = await started(world, await world.job())
    await write(world, run, 0, b"<script>alert(1)</script>\n")
    await write(world, run, 26, b"\xff\x1b[31m", "err")
    got = await world.local.get(f"/runs/{run.id}/output")
    assert got.status == 200
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.body == b"<script>alert(1)</script>\n\xff\x1b[31m"
    assert (await world.local.get(f"/runs/{run.id}/output?offset=26")).body == b"\xff\x1b[31m"
    assert (await world.local.get(f"/runs/{run.id}/output?offset=20")).body.startswith(b"ript>")
    assert (await world.local.get(f"/runs/{run.id}/output?offset=999")).body == b""


async def test_follow_sends_what_comes_and_ends_with_the_run(world):
    run = await started(world, await world.job())
    await write(world, run, 0, "grün".encode()[:3])

    async def more():
        await write(world, run, 3, "grün".encode()[3:])

    async def finish():
        await write(world, run, 5, b"done\n")
        await end(world, run)

    async def nothing():
        pass

    world.clock.on_sleep = [nothing, more, finish]
    got = await world.local.get(f"/runs/{run.id}/output?follow=1")
    assert got.headers["content-type"].startswith("text/event-stream")
    assert got.body.startswith(b": following\n\n")
    seen = events(got.body)
    assert [(name, number) for name, number, _ in seen] == [
        ("output", "1-3"),
        ("output", "1-5"),
        ("output", "1-10"),
        ("end", None),
    ]
    assert "".join(data["text"] for name, _, data in seen if name == "output") == "gründone\n"
    assert seen[-1][2]["state"] == "succeeded"
    resumed = await world.local.get(
        f"/runs/{run.id}/output", headers={"accept": "text/event-stream", "last-event-id": "5"}
    )
    assert [data.get("text") for _, _, data in events(resumed.body)] == ["done\n", None]
    refused = await world.local.get(f"/runs/{run.id}/output", headers={"last-event-id": "x"})
    assert refused.status == 400


async def test_follow_goes_on_over_a_retry(world):
    run = await started(world, await world.job(retry={"max": 1}))
    await write(world, run, 0, b"first")

    async def fail():
        await end(world, run, "failed", next_due_us=world.clock.us)

    async def second():
        now = await world.store.get_run(run.key)
        await world.store.mark_running([(now, world.clock.us)], world.clock.us)
        now = await world.store.get_run(run.key)
        await write(world, now, 0, b"second")
        await end(world, now)

    world.clock.on_sleep = [fail, second]
    got = await world.local.get(f"/runs/{run.id}/output?follow=1")
    seen = events(got.body)
    assert [data.get("text") for _, _, data in seen] == ["first", "second", None]
    assert [data["attempt"] for _, _, data in seen] == [1, 2, 2]
    # Who was cut off inside the first attempt goes on there, then with the second from its start.
    for last, expected in (("1-2", ["rst", "second"]), ("1-5", ["second"]), ("2-3", ["ond"])):
        resumed = await world.local.get(
            f"/runs/{run.id}/output?follow=1", headers={"last-event-id": last}
        )
        texts = [data["text"] for name, _, data in events(resumed.body) if name == "output"]
        assert texts == expected
    shown = (await world.local.get(f"/runs/{run.id}")).data
    assert [one["state"] for one in shown["attempts"]] == ["failed"]
    assert (await world.local.get(f"/runs/{run.id}/output?attempt=1")).body == b"first"


async def test_cancel_and_retry(world):
    job = await world.job()
    queued = (await world.local.post(f"/jobs/{job['id']}/runs")).data
    early = await world.local.post(f"/runs/{queued['id']}/retry")
    assert early.status == 409
    gone = await world.local.post(f"/runs/{queued['id']}/cancel")
    assert (gone.status, gone.data["state"]) == (200, "cancelled")
    assert (await world.local.post(f"/runs/{queued['id']}/cancel")).status == 200
    world.clock.us += SECOND
    again = await world.local.post(f"/runs/{queued['id']}/retry")
    assert again.status == 201
    assert again.data["trigger"] == "retry"
    assert queued["id"] in again.data["reason"]
    await world.local.post(f"/runs/{again.data['id']}/cancel")
    world.clock.us += SECOND
    run = await started(world, job)
    asked = await world.local.post(f"/runs/{run.id}/cancel")
    assert (asked.data["state"], asked.data["cancel_requested"]) == ("running", True)
    assert world.hints.changes[-1].cancelled == (run.key,)
    await end(world, run)
    late = await world.local.post(f"/runs/{run.id}/cancel")
    assert late.status == 409
    assert "succeeded" in late.json()["detail"]


async def test_a_job_shows_its_last_run(world):
    job = await world.job()
    run = await started(world, job)
    world.clock.us += 2 * SECOND
    await end(world, run)
    shown = (await world.local.get(f"/jobs/{job['id']}")).data
    assert shown["last_status"] == "succeeded"
    assert shown["last_run"] == "2026-02-02T02:40:00Z"
    listed = (await world.local.get(f"/runs/{run.id}")).data
    assert listed["duration_ms"] == 2000
    assert listed["lateness_ms"] == 0
    assert listed["node"] == "node-1"


async def test_holds_are_added_once_and_released_with_a_choice(world):
    job = await world.job()
    hold = await world.local.post(
        "/holds", {"scope": "job", "target": "nightly", "project": "default"}
    )
    assert hold.status == 201, hold.text
    assert hold.data["target_id"] == job["id"]
    assert hold.data["who"] == "local"
    assert (await world.local.post(f"/jobs/{job['id']}/hold")).status == 409
    url = f"/holds/{hold.data['id']}/release"
    assert (await world.local.post(url)).status in (400, 422)
    assert (await world.local.post(url, {})).status == 422
    assert (await world.local.post(url, {"missed": "maybe"})).status == 422
    assert (await world.local.post(url, {"missed": "each"})).status == 200
    assert (await world.local.post(url, {"missed": "each"})).status == 404
    assert (await world.local.get("/holds")).data == []
    assert (await world.local.post("/holds", {"scope": "all", "target": 5})).status == 422
    assert (await world.local.post("/holds", {"scope": "job"})).status == 422
    assert (await world.local.post("/holds", {"scope": "job", "target": 99})).status == 404
    project = await world.local.post("/holds", {"scope": "project", "target": "default"})
    assert project.status == 201


async def test_health_needs_no_login(world):
    for path in ("/healthz", "/readyz", "/healthcheck", "/api/v1/healthcheck", "/openapi.json"):
        assert (await world.anyone.get(path)).status == 200, path
    world.trouble = "the firing loop has stopped"
    answer = await world.anyone.get("/readyz")
    assert (answer.status, answer.json()["code"]) == (503, "not_ready")
    assert (await world.anyone.get("/healthz")).status == 200


async def test_schedules_are_explained_before_they_matter(world):
    seen = await world.local.post(
        "/schedules/preview", {"schedule": "30 2 * * *", "timezone": "Europe/Stockholm", "n": 2}
    )
    assert seen.status == 200, seen.text
    assert seen.data["description"]
    assert seen.data["next"][0] == {
        "at": "2026-02-03T01:30:00Z",
        "local": "2026-02-03T02:30:00+01:00",
        "mark": "",
        "note": "",
    }
    assert len(seen.data["next"]) == 2
    assert (
        await world.local.post("/schedules/preview", {"schedule": "@daily", "n": 0})
    ).status == 422
    bad = await world.local.post("/schedules/preview", {"schedule": "@daily", "timezone": "Mars/X"})
    assert bad.status == 422
    assert bad.json()["errors"][0]["pointer"] == "/timezone"


async def test_projects_are_made_listed_changed_and_removed(world):
    made = await world.local.post("/projects", {"name": "ops"}, headers={"idempotency-key": "p"})
    assert made.status == 201
    again = await world.local.post("/projects", {"name": "ops"}, headers={"idempotency-key": "p"})
    assert again.data == made.data
    assert (await world.local.post("/projects", {"name": "ops"})).status == 409
    for key in (made.data["id"], made.data["uuid"], "ops"):
        got = await world.local.get(f"/projects/{key}")
        assert got.data == made.data
    stale = await world.local.patch("/projects/ops", {"name": "x"}, headers={"if-match": '"0"'})
    assert stale.status == 412
    changed = await world.local.patch(
        "/projects/ops", {"description": "d"}, headers={"if-match": got.headers["etag"]}
    )
    assert (changed.data["name"], changed.data["description"]) == ("ops", "d")
    replaced = await world.local.put("/projects/ops", {"name": "dev"})
    assert (replaced.data["name"], replaced.data["description"]) == ("dev", "")
    await world.job(project="dev")
    assert (await world.local.delete("/projects/dev")).status == 409
    listed = await world.local.get("/projects")
    assert [one["name"] for one in listed.data] == ["dev"]
    await world.local.post("/projects", {"name": "empty"})
    assert (await world.local.delete("/projects/empty")).status == 204
    assert (await world.local.get("/projects/empty")).status == 404


async def test_a_revoked_key_follows_no_longer(world):
    run = await started(world, await world.job())
    made = (await world.local.post("/credentials", {})).data
    client = AsgiClient(
        world.app, headers={"x-api-key": made["api_key"], "x-secret-key": made["api_secret"]}
    )

    async def revoke():
        await world.local.delete(f"/credentials/{made['id']}")

    world.clock.on_sleep = [revoke]
    got = await client.get(f"/runs/{run.id}/output?follow=1")
    (name, _, data) = events(got.body)[-1]
    assert (name, data["code"]) == ("error", "unauthenticated")
    assert world.clock.naps <= 5


async def test_followers_are_bounded_and_their_seats_come_free(world):
    run = await started(world, await world.job())
    few = Settings(api=Api(max_followers=1))
    app = create_app(dataclasses.replace(world.services, settings=few))
    local = AsgiClient(app, local=True)
    seen = []

    async def another():
        seen.append(await local.get(f"/runs/{run.id}/output?follow=1"))
        await end(world, run)

    world.clock.on_sleep = [another]
    first = await local.get(f"/runs/{run.id}/output?follow=1")
    assert first.status == 200
    assert seen[0].status == 429
    assert int(seen[0].headers["retry-after"]) >= 1
    assert (await local.get(f"/runs/{run.id}/output?follow=1")).status == 200

"""What one key may take; hostile text in every field; nothing half-written."""

import asyncio
import dataclasses

import pytest

from everbell.api.app import create_app
from everbell.api.limits import MAX_BUCKETS, Limits, RateLimited
from everbell.config.schema import Api, Settings
from everbell.testing.asgi import AsgiClient

HOOK = {"kind": "http", "url": "http://example.com/hook"}


def test_a_bucket_fills_and_empties():
    limits = Limits(Api(rate_limit=2, rate_burst=3))
    for _ in range(3):
        limits.take("a", 100.0)
    with pytest.raises(RateLimited) as caught:
        limits.take("a", 100.0)
    assert caught.value.retry_after_s == 0.5
    limits.take("b", 100.0)
    limits.take("a", 100.5)
    with pytest.raises(RateLimited):
        limits.take("a", 100.5)


def test_the_buckets_are_bounded_and_a_limit_of_nothing_counts_nothing():
    limits = Limits(Api(rate_limit=1, rate_burst=1))
    for number in range(MAX_BUCKETS + 10):
        limits.take(str(number), 0.0)
    assert len(limits._buckets) == MAX_BUCKETS
    free = Limits(Api(rate_limit=0))
    for _ in range(100):
        free.take("a", 0.0)
    assert not free._buckets


async def test_a_key_that_asks_too_often_is_told_when_to_come_back(world):
    made = [(await world.local.post("/credentials", {})).data for _ in range(2)]
    keys = [{"x-api-key": one["api_key"], "x-secret-key": one["api_secret"]} for one in made]
    few = Settings(api=Api(rate_limit=0.5, rate_burst=2))
    app = create_app(dataclasses.replace(world.services, settings=few))
    first, other = (AsgiClient(app, headers=one) for one in keys)
    assert [(await first.get("/jobs")).status for _ in range(3)] == [200, 200, 429]
    refused = await first.post("/jobs", {"name": "x", "action": HOOK})
    assert refused.status == 429
    assert refused.json()["code"] == "rate_limited"
    assert refused.headers["retry-after"] == "2"
    assert (await other.get("/jobs")).status == 200
    world.clock.us += 2_000_000
    assert (await first.get("/jobs")).json()["page"]["total"] == 0


async def test_a_project_holds_so_many_jobs(world):
    few = Settings(api=Api(max_jobs=3))
    local = AsgiClient(create_app(dataclasses.replace(world.services, settings=few)), local=True)
    batch = [{"name": f"job {n}", "action": HOOK} for n in range(4)]
    assert (await local.post("/jobs", batch)).status == 413
    assert (await local.get("/jobs")).json()["page"]["total"] == 0
    assert (await local.post("/jobs", batch[:3])).status == 201
    refused = await local.post("/jobs", batch[3])
    assert refused.status == 413
    assert "api.max_jobs" in refused.json()["hint"]
    await local.delete("/jobs/1")
    world.clock.us += 60_000_000
    assert (await local.post("/jobs", batch[3])).status == 201


HOSTILE = [
    "Robert'); DROP TABLE jobs;--",
    "<script>alert(1)</script>",
    "{{7*7}}${7*7}",
    "=cmd|' /C calc'!A0",
    "..",
    "../../etc/passwd",
    "%2e%2e%2f",
    "a/b?c#d",
    "null",
    "0",
    "true",
    "ᚠ漢字🙂é",
]
REFUSED = ["a\u0000b", "a\nb", "\u202egnp.exe", "\ud800", "x" * 10_000, " a", "\u200b", "\x1b[31m"]


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_is_kept_as_it_is(world, text):
    project = await world.local.post("/projects", {"name": text, "description": text})
    assert project.status == 201, project.text
    job = await world.local.post(
        "/jobs",
        {
            "name": text,
            "description": text,
            "action": {**HOOK, "headers": {"x-text": text.encode().hex()}},
            "data": {text: text},
            "tags": [text],
            "project": project.data["uuid"],
        },
    )
    assert job.status == 201, job.text
    for name in ("name", "description"):
        assert job.data[name] == text
    assert job.data["tags"] == [text]
    assert job.data["data"] == {text: text}
    hold = await world.local.post(f"/jobs/{job.data['id']}/hold", {"reason": text})
    assert hold.data["reason"] == text
    run = await world.local.post(f"/jobs/{job.data['id']}/runs", {"reason": text})
    assert run.data["reason"] == text


@pytest.mark.parametrize("text", REFUSED)
async def test_unprintable_and_endless_names_are_refused_everywhere(world, text):
    for path, body in (
        ("/projects", {"name": text}),
        ("/jobs", {"name": text, "action": HOOK}),
        ("/jobs", {"name": "a", "action": HOOK, "tags": [text + "x" * 65]}),
        ("/jobs", {"name": "a", "action": HOOK, "timezone": text}),
        ("/jobs", {"name": "a", "action": HOOK, "schedule": text}),
        ("/credentials", {"name": text}),
    ):
        refused = await world.local.post(path, body)
        assert refused.status in (400, 422), (path, refused.text)
        assert len(refused.body) < 5_000
    for path in ("/projects", "/jobs", "/credentials"):
        assert (await world.local.get(path)).json()["page"]["total"] == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b'{"a":' * 20_000,
        b'{"name": NaN}',
        b'{"name": Infinity}',
        b'{"name": "x", "action"',
        b'{"name": "\xff"}',
        b"\xef\xbb\xbf{}",
        b"",
        b"\x00",
    ],
)
async def test_bodies_that_are_no_json_are_400(world, raw):
    for path in ("/jobs", "/projects"):
        refused = await world.local.request(
            "POST", path, chunks=[raw], headers={"content-type": "application/json"}
        )
        assert refused.status == 400, refused.text
        assert len(refused.body) < 2_000
    assert (await world.local.get("/jobs")).json()["page"]["total"] == 0


async def test_of_a_name_given_twice_in_a_long_body_the_last_counts(world):
    raw = b'{"name": "a", "name": "b", "action": {"kind": "http", "url": "http://example.com"}}'
    raw += b" " * 65_536
    headers = {"content-type": "application/json"}
    made = await world.local.request("POST", "/jobs", chunks=[raw], headers=headers)
    assert made.status == 201
    assert made.data["name"] == "b"


async def test_a_body_that_does_not_come_is_given_up(world):
    slow = Settings(api=Api(body_timeout=0.02))
    app = create_app(dataclasses.replace(world.services, settings=slow))
    sent = []
    parts = [b'{"name": "half']

    async def receive():
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": True}
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    headers = {"content-type": "application/json"}
    scope = AsgiClient(app, local=True)._scope("POST", "/jobs", headers)
    await app(scope, receive, send)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert (await world.local.get("/jobs")).json()["page"]["total"] == 0


async def test_long_headers_and_addresses_are_refused(world):
    few = Settings(api=Api(max_headers=2000))
    local = AsgiClient(create_app(dataclasses.replace(world.services, settings=few)), local=True)
    assert (await local.get("/jobs")).status == 200
    for target, headers in (
        ("/jobs?search=" + "x" * 2000, {}),
        ("/jobs/" + "x" * 2000, {}),
        ("/jobs", {f"x-{n}": "y" * 20 for n in range(100)}),
    ):
        refused = await local.get(target, headers=headers)
        assert refused.status == 431, refused.text
        assert len(refused.body) < 1000


async def test_a_sender_who_leaves_half_way_leaves_nothing(world):
    sent = []
    parts = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b'{"name": "x"', "more_body": True},
    ]

    async def receive():
        return parts.pop()

    async def send(message):
        sent.append(message)

    scope = world.local._scope("POST", "/projects", {"content-type": "application/json"})
    await world.app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert (await world.local.get("/projects")).json()["page"]["total"] == 0


async def test_guessing_is_slowed_down_and_leaves_a_trace(world, caplog):
    good = await world.client(scopes=["read"])
    assert (await good.get("/jobs")).status == 200
    bad = {"x-api-key": "eb_guess", "x-secret-key": "no"}
    stranger = world.anyone
    most = world.services.settings.api.max_failures
    answers = [await stranger.get("/jobs", headers=bad) for _ in range(most + 1)]
    assert [one.status for one in answers] == [401] * most + [429]
    assert int(answers[-1].headers["retry-after"]) <= 60
    assert "refused GET /jobs" in caplog.text
    assert "eb_guess" not in caplog.text
    # Who was good before goes on; after a while everybody may try again.
    assert (await good.get("/jobs")).status == 200
    world.clock.us += 60_000_000
    assert (await stranger.get("/jobs", headers=bad)).status == 401

"""Every route of the table against every kind of key: a new route is tested by being there."""

import re

import pytest

from everbell.api.table import ENDPOINTS

HOOK = {"kind": "http", "url": "http://example.com/hook"}
SCOPES = ["read", "run", "write", "admin"]
GUARDED = [one for one in ENDPOINTS if one.scope is not None]
PREFIXES = ("", "/v1", "/api/v1")
# The least body that each route would accept.
BODIES = {
    "projects_create": {"name": "x"},
    "projects_replace": {"name": "x"},
    "projects_change": {"description": "x"},
    "jobs_create": {"name": "x", "action": HOOK},
    "jobs_replace": {"name": "x", "action": HOOK},
    "jobs_change": {"description": "x"},
    "jobs_apply": {"jobs": [{"name": "x", "action": HOOK}]},
    "holds_create": {"scope": "job", "target": 1},
    "holds_release": {"missed": "skip"},
    "limits_set": {"most": 2},
    "schedules_preview": {"schedule": "@hourly"},
    "jobs_backfill": {"from": "2026-02-02T02:39:00Z", "to": "2026-02-02T02:40:00Z"},
}
OF_NO_PROJECT = frozenset({"nodes"})
ids = [one.name for one in GUARDED]


@pytest.fixture
async def stocked(world):
    """Two projects, and one thing of every kind in the second."""
    await world.local.post("/projects", {"name": "mine"})
    yours = (await world.local.post("/projects", {"name": "yours"})).data
    job = await world.job(name="hidden job", project="yours", data={"word": "swordfish"})
    run = (await world.local.post(f"/jobs/{job['id']}/runs")).data
    hold = (await world.local.post(f"/jobs/{job['id']}/hold", {})).data
    key = (await world.local.post("/credentials", {"project": "yours"})).data
    await world.local.put("/limits/hidden?project=yours", {"most": 7})
    world.keys = {
        "limits": ["hidden?project=yours"],
        "projects": [yours["id"], yours["uuid"], "yours"],
        "jobs": [job["id"], job["uuid"], "hidden%20job"],
        "runs": [run["id"]],
        "holds": [hold["id"]],
        "credentials": [key["id"], key["uuid"], key["api_key"]],
        "nodes": ["n1"],
    }
    world.words = ["swordfish", job["uuid"], yours["uuid"], key["uuid"], key["api_key"]]
    return world


async def state(world):
    paths = ("/projects", "/jobs", "/runs", "/holds", "/credentials", "/limits", "/audit")
    return [(await world.local.get(path)).body for path in paths]


def targets(world, one):
    if "{id}" not in one.path:
        return [one.path]
    kind = one.path.split("/")[1]
    assert kind in world.keys, f"say in the fixture what {one.path} is about"
    return [one.path.replace("{id}", str(key)) for key in world.keys[kind]]


@pytest.mark.parametrize("one", GUARDED, ids=ids)
async def test_another_projects_key_finds_nothing_and_changes_nothing(stocked, one):
    world = stocked
    client = await world.client(project="mine", scopes=SCOPES)
    before = await state(world)
    for target in targets(world, one):
        got = await client.request(one.method, target, BODIES.get(one.name))
        if "{id}" in one.path:
            shared = one.path.split("/")[1] in OF_NO_PROJECT
            assert got.status == (403 if shared else 404), (target, got.text)
            assert await state(world) == before
        sent = re.sub(r"%20", " ", target)
        for word in world.words:
            assert word in sent or word not in got.text, (target, word)


@pytest.mark.parametrize("one", GUARDED, ids=ids)
async def test_a_key_without_the_scope_is_refused(stocked, one):
    world = stocked
    others = [scope for scope in SCOPES if scope not in (one.scope, "admin")]
    clients = [await world.client(scopes=[scope]) for scope in others]
    before = await state(world)
    for client in clients:
        # No difference between what is there and what is not.
        for target in [*targets(world, one), one.path.replace("{id}", "999")]:
            got = await client.request(one.method, target, BODIES.get(one.name))
            assert got.status == 403, (target, got.text)
            assert one.scope in got.json()["detail"]
    assert await state(world) == before


@pytest.mark.parametrize("one", GUARDED, ids=ids)
async def test_no_revoked_expired_or_wrong_key_opens(stocked, one):
    world = stocked
    made = [
        (await world.local.post("/credentials", {"scopes": SCOPES, **extra})).data
        for extra in ({}, {"expires_in": 60}, {})
    ]
    await world.local.delete(f"/credentials/{made[0]['id']}")
    world.clock.us += 61_000_000
    pairs = [
        (made[0]["api_key"], made[0]["api_secret"]),
        (made[1]["api_key"], made[1]["api_secret"]),
        (made[2]["api_key"], made[0]["api_secret"]),
        (made[2]["api_key"], ""),
        ("", ""),
    ]
    before = await state(world)
    for key, secret in pairs:
        headers = {"x-api-key": key, "x-secret-key": secret}
        for prefix in PREFIXES:
            target = prefix + targets(world, one)[0]
            body = BODIES.get(one.name)
            got = await world.anyone.request(one.method, target, body, headers=headers)
            assert got.status == 401, (target, got.text)
            assert "www-authenticate" in got.headers
    assert await state(world) == before


def test_only_these_routes_are_open():
    open_ones = {one.path for one in ENDPOINTS if one.scope is None}
    assert open_ones == {"/healthz", "/readyz", "/openapi.json"}

"""Who may do what: keys, scopes, and projects that do not exist for others."""

import base64

import pytest

from everbell.api.table import ENDPOINTS
from everbell.domain.run import RunKey

HOOK = {"kind": "http", "url": "http://example.com/hook"}
DAY_US = 86_400_000_000


async def test_every_way_to_send_a_key(world):
    made = (await world.local.post("/credentials", {"name": "ci"})).data
    pair = f"{made['api_key']}:{made['api_secret']}"
    ways = [
        {"x-api-key": made["api_key"], "x-secret-key": made["api_secret"]},
        {"authorization": f"Bearer {pair}"},
        {"authorization": "Basic " + base64.b64encode(pair.encode()).decode()},
    ]
    for headers in ways:
        assert (await world.anyone.get("/jobs", headers=headers)).status == 200
    assert len(made["api_secret"]) >= 43
    assert made["api_key"].startswith("eb_")
    shown = await world.local.get(f"/credentials/{made['id']}")
    assert "api_secret" not in shown.data
    assert made["api_secret"] not in (await world.local.get("/credentials")).text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": "eb_no"},
        {"x-secret-key": "no"},
        {"x-api-key": "eb_no", "x-secret-key": "no"},
        {"authorization": "Bearer x"},
        {"authorization": "Bearer eb_no:no"},
        {"authorization": "Basic !!!"},
        {"authorization": "Basic /////w=="},
        {"authorization": "Negotiate abc"},
        {"everbell.local": "true", "x-everbell-local": "True"},
    ],
)
async def test_without_a_good_key_nothing_opens(world, headers):
    for one in ENDPOINTS:
        answer = await world.anyone.request(
            one.method, one.path.replace("{id}", "1"), {}, headers=headers
        )
        if one.scope is None:
            assert answer.status == 200
            continue
        assert answer.status == 401, one.path
        assert answer.json()["hint"]
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_expired_revoked_and_rotated_keys(world):
    made = (await world.local.post("/credentials", {"expires_in": 60})).data
    headers = {"x-api-key": made["api_key"], "x-secret-key": made["api_secret"]}
    assert (await world.anyone.get("/jobs", headers=headers)).status == 200
    world.clock.us += 61_000_000
    assert (await world.anyone.get("/jobs", headers=headers)).status == 401

    made = (await world.local.post("/credentials", {})).data
    old = {"x-api-key": made["api_key"], "x-secret-key": made["api_secret"]}
    turned = await world.local.post(f"/credentials/{made['uuid']}/rotate", {"grace": 3600})
    new = {**old, "x-secret-key": turned.data["api_secret"]}
    for headers in (old, new):
        assert (await world.anyone.get("/jobs", headers=headers)).status == 200
    world.clock.us += 3600 * 1_000_000
    assert (await world.anyone.get("/jobs", headers=old)).status == 401
    assert (await world.anyone.get("/jobs", headers=new)).status == 200
    assert (await world.local.delete(f"/credentials/{made['api_key']}")).status == 204
    gone = await world.anyone.get("/jobs", headers=new)
    assert gone.status == 401
    assert "revoked" in gone.json()["detail"]
    assert (await world.local.post(f"/credentials/{made['id']}/rotate")).status == 409


async def test_scopes_bound_what_a_key_may_do(world):
    reader = await world.client(scopes=["read"])
    runner = await world.client(scopes=["read", "run"])
    writer = await world.client(scopes=["read", "write"])
    job = await world.job()
    url = f"/jobs/{job['id']}"
    assert (await reader.get(url)).status == 200
    assert (await reader.post(f"{url}/runs")).status == 403
    assert (await runner.post(f"{url}/runs")).status == 201
    assert (await runner.patch(url, {"description": "x"})).status == 403
    assert (await writer.patch(url, {"description": "x"})).status == 200
    assert (await writer.post("/credentials", {})).status == 403
    refused = await reader.delete(url)
    assert "write" in refused.json()["detail"]


async def test_another_projects_things_do_not_exist(world):
    mine = (await world.local.post("/projects", {"name": "mine"})).data
    yours = (await world.local.post("/projects", {"name": "yours"})).data
    job = await world.job(name="secret job", project="yours")
    run = (await world.local.post(f"/jobs/{job['id']}/runs")).data
    hold = (await world.local.post(f"/jobs/{job['id']}/hold", {})).data
    credential = (await world.local.post("/credentials", {"project": "yours"})).data
    client = await world.client(project="mine", scopes=["read", "run", "write", "admin"])
    ids = {
        "projects": [yours["id"], yours["uuid"], "yours"],
        "jobs": [job["id"], job["uuid"], "secret%20job"],
        "runs": [run["id"]],
        "holds": [hold["id"]],
        "credentials": [credential["id"], credential["uuid"], credential["api_key"]],
        "limits": ["db?project=yours"],
    }
    bodies = {
        "limits": {"most": 2},
        "PUT": {"name": "x", "action": HOOK},
        "holds": {"missed": "skip"},
    }
    for one in ENDPOINTS:
        if "{id}" not in one.path:
            continue
        kind = one.path.split("/")[1]
        if kind == "nodes":  # of the cluster: refused to all who are bound to a project
            continue
        for key in ids[kind]:
            body = bodies.get(kind) or (bodies["PUT"] if one.method in ("PUT", "PATCH") else {})
            if kind == "projects":
                body = {"name": "x"}
            answer = await client.request(
                one.method, one.path.replace("{id}", str(key)), body if one.body else None
            )
            assert answer.status == 404, (one.method, one.path, key, answer.text)
            assert "secret" not in answer.text.replace("secret%20job", "").replace("secret job", "")
    for path in ("/projects", "/jobs", "/runs", "/holds", "/credentials"):
        listed = await client.get(path)
        assert listed.status == 200
        assert job["uuid"] not in listed.text
        assert yours["uuid"] not in listed.text
        assert credential["uuid"] not in listed.text
    assert (await client.get("/jobs")).json()["page"]["total"] == 0
    assert (await client.get("/projects")).json()["page"]["total"] == 1
    for target in ("/jobs?project=yours", "/runs?project=yours", f"/runs?job={job['id']}"):
        assert (await client.get(target)).status == 404
    into = {"name": "x", "action": HOOK, "project": "yours"}
    assert (await client.post("/jobs", into)).status == 404
    assert (await client.post("/credentials", {"project": "yours"})).status == 404
    assert (await client.post("/holds", {"scope": "project", "target": "yours"})).status == 404
    assert (await client.post("/holds", {"scope": "job", "target": job["id"]})).status == 404
    # Its own things work, and jobs that name no project land in it.
    own = await client.post("/jobs", {"name": "own", "action": HOOK})
    assert own.data["project_id"] == mine["id"]
    assert (await client.get("/jobs/own")).status == 200
    assert (await client.post("/credentials", {})).data["project_id"] == mine["id"]


async def test_bound_keys_do_not_touch_what_all_share(world):
    await world.local.post("/projects", {"name": "mine"})
    client = await world.client(project="mine", scopes=["admin"])
    assert (await client.post("/projects", {"name": "other"})).status == 403
    assert (await client.delete("/projects/mine")).status == 403
    assert (await client.post("/holds", {"scope": "all"})).status == 403
    hold = (await world.local.post("/holds", {"scope": "all"})).data
    assert (await client.get("/holds")).data[0]["scope"] == "all"
    assert (await client.post(f"/holds/{hold['id']}/release", {"missed": "skip"})).status == 403


async def test_only_an_admin_of_all_holds_everything(world):
    everything = {"scope": "all"}
    writer = await world.client(scopes=["read", "run", "write"])
    refused = await writer.post("/holds", everything)
    assert (refused.status, refused.json()["code"]) == (403, "forbidden")
    assert "'admin'" in refused.json()["detail"]
    admin = await world.client(scopes=["admin"])
    hold = (await admin.post("/holds", everything)).data
    release = f"/holds/{hold['id']}/release"
    assert (await writer.post(release, {"missed": "skip"})).status == 403
    assert (await admin.post(release, {"missed": "skip"})).status == 200


async def test_missing_and_hidden_answer_the_same(world):
    await world.local.post("/projects", {"name": "mine"})
    job = await world.job(name="hidden")
    client = await world.client(project="mine")
    hidden = (await client.get(f"/jobs/{job['id']}")).json()
    absent = (await client.get("/jobs/4242")).json()
    for body in (hidden, absent):
        for name in ("instance", "request_id"):
            body.pop(name)
    assert hidden["detail"].replace(str(job["id"]), "4242") == absent["detail"]
    run_id = RunKey(world.clock.us, job["id"]).id
    assert (await client.get(f"/runs/{run_id}")).status == 404


async def test_unusable_credentials_are_refused(world):
    for body, pointer in (
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["root"]}, "/scopes/0"),
        ({"expires_in": -1}, "/expires_in"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "x"}, "/expires_at"),
        ({"name": "a\u0000"}, "/name"),
        ({"nam": "a"}, "/nam"),
    ):
        refused = await world.local.post("/credentials", body)
        assert refused.status == 422, refused.text
        assert refused.json()["errors"][0]["pointer"] == pointer
    made = (await world.local.post("/credentials", {})).data
    for grace in (-1, 1e9):
        refused = await world.local.post(f"/credentials/{made['id']}/rotate", {"grace": grace})
        assert refused.status == 422

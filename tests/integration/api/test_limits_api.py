"""Concurrency limits: set, counted, changed and forgotten, each project for itself."""

import pytest


async def test_a_limit_is_set_shown_changed_and_forgotten(world):
    await world.local.post("/projects", {"name": "p"})
    made = await world.local.put("/limits/db?project=p", {"most": 3})
    assert made.status == 200
    shown = {"name": "db", "project_id": 1, "project": "p", "most": 3, "active": 0, "jobs": 0}
    assert made.data == shown
    assert (await world.local.get("/limits/db?project=p")).data == shown
    await world.local.put("/limits/db?project=p", {"most": 1})
    listed = (await world.local.get("/limits")).json()
    assert [one["most"] for one in listed["data"]] == [1]
    assert listed["page"] == {"limit": 50, "offset": 0, "total": 1}
    assert (await world.local.delete("/limits/db?project=p")).status == 204
    assert (await world.local.get("/limits/db?project=p")).status == 404
    assert (await world.local.delete("/limits/db?project=p")).status == 404


async def test_a_limit_that_only_jobs_name_allows_one_and_can_not_be_forgotten(world):
    await world.job(limits=["db", "net"])
    got = await world.local.get("/limits/db")
    assert (got.data["most"], got.data["jobs"], got.data["project"]) == (1, 1, "default")
    assert (await world.local.delete("/limits/db")).status == 404
    page = (await world.local.get("/limits?limit=1&offset=1")).json()
    assert [one["name"] for one in page["data"]] == ["net"]
    assert page["page"]["total"] == 2


async def test_active_runs_are_counted(world):
    job = await world.job(limits=["db"])
    await world.local.post(f"/jobs/{job['id']}/runs")
    assert len(await world.store.take_queued("n", world.clock.us, 10)) == 1
    assert (await world.local.get("/limits/db")).data["active"] == 1


async def test_every_change_wakes_the_engine(world):
    await world.local.put("/limits/db", {"most": 2})
    await world.local.delete("/limits/db")
    assert [change.work for change in world.hints.changes[-2:]] == [True, True]


@pytest.mark.parametrize("most", [0, -1, 10_001, 10**30, 1.5, "2", None])
async def test_a_number_out_of_range_is_refused(world, most):
    got = await world.local.put("/limits/db", {"most": most})
    assert got.status in (400, 422), got.text
    assert (await world.local.get("/limits")).data == []


@pytest.mark.parametrize("name", ["a%20b", "a%2Fb", "x" * 65, "%C3%A5", "a%0A", "..%2f.."])
async def test_names_are_plain(world, name):
    got = await world.local.put(f"/limits/{name}", {"most": 2})
    assert got.status in (404, 422), got.text
    assert (await world.local.get(f"/limits/{name}")).status == 404
    assert (await world.local.get("/limits")).data == []


async def test_a_bound_key_sets_limits_of_its_own_project(world):
    for name in ("mine", "yours"):
        await world.local.post("/projects", {"name": name})
        await world.local.put(f"/limits/db?project={name}", {"most": 5})
    client = await world.client(project="mine", scopes=["read", "write"])
    assert [one["project"] for one in (await client.get("/limits")).data] == ["mine"]
    assert (await client.put("/limits/db", {"most": 2})).data["project"] == "mine"
    assert (await client.get("/limits/db")).data["most"] == 2
    assert (await client.get("/limits?project=yours")).status == 404
    assert (await world.local.get("/limits/db?project=yours")).data["most"] == 5
    assert (await client.delete("/limits/db")).status == 204


async def test_without_a_project_it_is_the_default_one(world):
    assert (await world.local.get("/limits/db")).status == 404
    assert (await world.local.get("/projects")).data == []
    assert (await world.local.put("/limits/db", {"most": 2})).data["project"] == "default"
    assert (await world.local.get("/limits/db")).data["most"] == 2


async def test_setting_and_forgetting_is_in_the_audit_log(world):
    await world.local.put("/limits/db", {"most": 2})
    await world.local.put("/limits/db", {"most": 3})
    await world.local.delete("/limits/db")
    log = [one for one in (await world.local.get("/audit")).data if one["kind"] == "limit"][::-1]
    assert [one["what"] for one in log] == ["limit.set", "limit.set", "limit.delete"]
    assert {(one["target"], one["project_id"]) for one in log} == {("db", 1)}
    assert log[0]["before"] == log[2]["after"] == ""
    assert log[0]["after"] == log[1]["before"] != log[1]["after"] == log[2]["before"]

"""Who changed what: every writing route leaves an entry, and only if it changed something."""

import pytest
from msgspec.structs import replace

from everbell.api.table import ENDPOINTS
from everbell.testing.contracts.making import node

HOOK = {"kind": "http", "url": "http://example.com/hook"}
JOB = {"name": "j", "schedule": "@hourly", "action": HOOK}

PAST = {"from": "2026-02-02T02:00:00Z", "to": "2026-02-02T02:00:00Z"}
APPLIED = {"jobs": [{**JOB, "project": "q", "description": "y"}], "take_over": True}

# One good request for every route that changes something, in an order that works.
STEPS = [
    ("projects_create", "POST", "/projects", {"name": "p"}, "project.create"),
    ("projects_change", "PATCH", "/projects/p", {"description": "d"}, "project.change"),
    ("projects_replace", "PUT", "/projects/p", {"name": "q"}, "project.change"),
    ("jobs_create", "POST", "/jobs", {**JOB, "project": "q"}, "job.create"),
    ("jobs_change", "PATCH", "/jobs/j", {"description": "x"}, "job.change"),
    ("jobs_replace", "PUT", "/jobs/j", JOB, "job.change"),
    ("jobs_disable", "POST", "/jobs/j/disable", None, "job.disable"),
    ("jobs_enable", "POST", "/jobs/j/enable", None, "job.enable"),
    ("jobs_skip_next", "POST", "/jobs/j/skip-next", None, "job.skip_next"),
    ("jobs_run_instead", "POST", "/jobs/j/run-instead", None, "job.run_instead"),
    ("jobs_backfill", "POST", "/jobs/j/backfill", PAST, "run.backfill"),
    ("jobs_resolve", "POST", "/jobs/j/resolve", None, None),  # nothing to resolve
    ("jobs_run", "POST", "/jobs/j/runs", {"reason": "r"}, "run.start"),
    ("runs_cancel", "POST", "/runs/{run}/cancel", None, "run.cancel"),
    ("runs_retry", "POST", "/runs/{run}/retry", None, "run.retry"),
    ("jobs_hold", "POST", "/jobs/j/hold", {"reason": "r"}, "hold.create"),
    ("holds_release", "POST", "/holds/1/release", {"missed": "skip"}, "hold.release.skip"),
    ("holds_create", "POST", "/holds", {"scope": "all"}, "hold.create"),
    ("credentials_create", "POST", "/credentials", {"name": "c"}, "credential.create"),
    ("credentials_rotate", "POST", "/credentials/2/rotate", None, "credential.rotate"),
    ("credentials_revoke", "DELETE", "/credentials/2", None, "credential.revoke"),
    ("limits_set", "PUT", "/limits/db?project=q", {"most": 2}, "limit.set"),
    ("limits_delete", "DELETE", "/limits/db?project=q", None, "limit.delete"),
    ("nodes_drain", "POST", "/nodes/gone/drain", {"reason": "r"}, "node.drain"),
    ("nodes_resume", "POST", "/nodes/gone/resume", None, "node.resume"),
    ("nodes_remove", "DELETE", "/nodes/gone", None, "node.remove"),
    ("jobs_apply", "POST", "/apply", APPLIED, "job.change"),
    ("jobs_delete", "DELETE", "/jobs/j", None, "job.delete"),
    ("projects_delete", "DELETE", "/projects/q", None, "project.delete"),
]
READS = {"schedules_preview"}


def test_no_route_is_forgotten():
    writing = {one.name for one in ENDPOINTS if one.method != "GET"} - READS
    assert writing == {step[0] for step in STEPS}


async def test_every_change_is_in_the_log(world):
    await world.store.heartbeat(replace(node("g", lease=world.clock.us - 1), name="gone"))
    client = await world.client(name="ann", scopes=["admin"])
    run, expected, digests = "", ["credential.create"], {}
    for name, method, path, body, what in STEPS:
        headers = {"x-request-id": f"req-{name}"}
        got = await client.request(method, path.replace("{run}", run), body, headers=headers)
        assert got.status < 300, (name, got.text)
        run = got.data["id"] if name == "jobs_run" else run
        expected += [what] if what else []
        listed = (await client.get("/audit")).data
        assert [one["what"] for one in reversed(listed)] == expected, name
        newest = listed[0]
        if what:
            assert newest["who"] == "ann"
            assert newest["credential_id"] == 1
            assert newest["address"] == "127.0.0.1"
            assert newest["request_id"] == f"req-{name}"
            assert newest["at"].endswith("Z")
            kind = (newest["kind"], newest["target"])
            if kind[0] in ("project", "job"):
                # What it was before is what the entry before it left.
                assert newest["before"] == digests.get(kind, ""), name
                assert bool(newest["after"]) == (not name.endswith("delete")), name
                digests[kind] = newest["after"]


async def test_what_is_refused_leaves_no_entry(world):
    job = await world.job()
    before = len((await world.local.get("/audit")).data)
    for method, path, body, headers in (
        ("POST", "/jobs", {**JOB, "name": "nightly"}, {}),
        ("PUT", f"/jobs/{job['id']}", {**JOB, "schedule": "x"}, {}),
        ("PATCH", f"/jobs/{job['id']}", {"description": "x"}, {"if-match": '"9"'}),
        ("DELETE", f"/jobs/{job['id']}", None, {"if-match": '"9"'}),
        ("DELETE", "/jobs/99", None, {}),
        ("POST", "/projects", {"name": ""}, {}),
    ):
        got = await world.local.request(method, path, body, headers=headers)
        assert got.status >= 400, (method, path)
    assert len((await world.local.get("/audit")).data) == before


async def test_a_bound_admin_reads_only_of_its_project_and_others_nothing(world):
    for name in ("mine", "yours"):
        await world.local.post("/projects", {"name": name})
        await world.job(name=f"job of {name}", project=name)
    bound = await world.client(project="mine", scopes=["admin"])
    listed = (await bound.get("/audit")).data
    assert {one["project_id"] for one in listed} == {1}
    assert {one["what"] for one in listed} == {"project.create", "job.create", "credential.create"}
    writer = await world.client(scopes=["read", "run", "write"])
    assert (await writer.get("/audit")).status == 403


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_the_log_is_paged(world, limit):
    for number in range(5):
        await world.local.post("/projects", {"name": f"p{number}"})
    seen, cursor = [], ""
    while True:
        page = (await world.local.get(f"/audit?limit={limit}{cursor}")).json()
        seen += [one["target"] for one in page["data"]]
        if page["page"]["next"] is None:
            break
        cursor = f"&cursor={page['page']['next']}"
    assert seen == ["5", "4", "3", "2", "1"]

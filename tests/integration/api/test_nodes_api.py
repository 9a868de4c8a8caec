"""Nodes over the API: shown with what they own, drained, resumed and removed."""

import pytest

from everbell.api.app import create_app
from everbell.ports.store import Assignment
from everbell.testing.asgi import AsgiClient
from everbell.testing.contracts.making import node


@pytest.fixture
async def cluster(world):
    now = world.clock.us
    told = {"started_us": now, "heartbeat_us": now, "lease": now + 9_000_000}
    await world.store.heartbeat(node("n1", tzdata="2026a", clock_offset_s=0.02, **told))
    await world.store.heartbeat(node("n2", tzdata="2026a", roles=("scheduler",), **told))
    await world.store.heartbeat(node("old", state="dead", **told))
    await world.store.set_assignment(Assignment(epoch=1, owners=("n1", "n1", "n2", "n2") * 256))
    await world.store.report_loads({0: 20.0, 2: 10.0}, now)
    return world


async def test_nodes_are_shown_with_what_they_own(cluster):
    one, two, old = (await cluster.local.get("/nodes")).data
    assert (one["name"], one["shards"], one["load"]) == ("n1", 512, 20.0)
    assert (one["clock_offset_s"], one["tzdata"], one["notes"]) == (0.02, "2026a", [])
    assert (two["roles"], two["load"], two["clock_offset_s"]) == (["scheduler"], 10.0, None)
    assert (old["state"], old["shards"]) == ("dead", 0)
    assert (await cluster.local.get("/cluster")).data == {
        "epoch": 1,
        "nodes_alive": 2,
        "shards": 1024,
        "dealt": 1024,
        "load": 30.0,
        "load_ratio": 2.0,
    }


async def test_a_cluster_of_one_is_not_dealt(world):
    told = (await world.local.get("/cluster")).data
    assert (told["epoch"], told["dealt"], told["load_ratio"]) == (0, 0, None)


async def test_a_node_is_drained_and_resumed_and_the_engine_is_told(cluster):
    got = await cluster.local.post("/nodes/n1/drain", {"reason": "new kernel"})
    assert (got.status, got.data["drained"]) == (200, "new kernel")
    assert cluster.hints.changes[-1].nodes
    assert (await cluster.local.get("/nodes")).data[0]["drained"] == "new kernel"
    assert (await cluster.local.post("/nodes/n1/drain")).data["drained"] == "by local"
    assert (await cluster.local.post("/nodes/n1/resume")).data["drained"] == ""
    said = (await cluster.local.get("/audit")).data
    assert [one["what"] for one in said] == ["node.resume", "node.drain", "node.drain"]
    assert {one["target"] for one in said} == {"n1"}


async def test_only_a_node_that_is_gone_is_removed(cluster):
    got = await cluster.local.delete("/nodes/n1")
    assert got.status == 409
    assert "stop its process first" in got.text
    assert (await cluster.local.delete("/nodes/old")).status == 204
    assert (await cluster.local.delete("/nodes/old")).status == 404
    assert [one["name"] for one in (await cluster.local.get("/nodes")).data] == ["n1", "n2"]


@pytest.mark.parametrize("way", ["drain", "resume"])
async def test_an_unknown_node_is_not_found(cluster, way):
    got = await cluster.local.post(f"/nodes/nobody/{way}")
    assert got.status == 404
    assert "GET /nodes" in got.text


async def test_bad_drains_are_refused(cluster):
    assert (await cluster.local.post("/nodes/n1/drain", {"why": "x"})).status == 422
    assert (await cluster.local.post("/nodes/n1/drain", {"reason": "x" * 1001})).status == 422


async def test_a_node_with_something_to_tell_is_ready_and_degraded(world):
    notices = {"clock": "off by +3.00 s"}
    app = create_app(world.services, notices=lambda: notices)
    client = AsgiClient(app)
    got = await client.get("/readyz")
    assert got.status == 200
    assert got.data == {"status": "degraded", "notes": ["clock: off by +3.00 s"]}
    notices.clear()
    assert (await client.get("/readyz")).data == {"status": "ready"}

"""What is told of nodes does not wait for another node to look."""

import pytest
from msgspec.structs import replace

from everbell.config.schema import Settings
from everbell.domain.errors import ConflictError, ForbiddenError, NotFoundError, ValidationError
from everbell.domain.placement import SHARDS
from everbell.domain.records import Node
from everbell.ports.store import Assignment
from everbell.services import nodes
from everbell.services.context import LOCAL, Services
from everbell.services.nodes import list_nodes, survey
from everbell.stores.memory import MemoryStore

T0 = 1_770_000_000_000_000


class Clock:
    us = T0

    def now_us(self):
        return self.us


def node(name, state="up"):
    return Node(
        id=name,
        name=name,
        host="h",
        pid=1,
        version="1",
        started_us=T0,
        heartbeat_us=T0,
        lease_until_us=T0 + 6_000_000,
        state=state,
        workers=1,
        running=1,
        queued=2,
        rss_bytes=0,
        cpu_percent=0.0,
    )


async def test_a_throttled_node_says_why_for_as_long_as_it_is():
    store, clock = MemoryStore(), Clock()
    services = Services(
        store=store, clock=clock, entropy=None, settings=Settings(), secret_key=b"k" * 32, checks={}
    )
    await store.heartbeat(replace(node("a", "throttled"), reason="CPU 99 %"))
    await store.heartbeat(replace(node("b", "draining"), reason="new kernel"))
    await store.heartbeat(replace(node("c"), reason="redis: can't be reached"))
    said = [one.reason for one in await list_nodes(services)]
    assert said == ["CPU 99 %", "new kernel", "redis: can't be reached"]
    assert (await survey(services)).members[2].notes == ("redis: can't be reached",)
    clock.us = T0 + 6_000_001
    assert [one.reason for one in await list_nodes(services)] == ["", "", ""]


async def test_a_node_whose_lease_is_over_is_shown_as_dead():
    store, clock = MemoryStore(), Clock()
    services = Services(
        store=store, clock=clock, entropy=None, settings=Settings(), secret_key=b"k" * 32, checks={}
    )
    await store.heartbeat(node("a"))
    await store.heartbeat(node("b"))
    await store.leave("b", T0)
    assert [one.state for one in await list_nodes(services)] == ["up", "left"]
    clock.us = T0 + 6_000_001
    seen = await list_nodes(services)
    assert [(one.state, one.running) for one in seen] == [("dead", 0), ("left", 0)]


def made():
    store, clock = MemoryStore(), Clock()
    services = Services(
        store=store, clock=clock, entropy=None, settings=Settings(), secret_key=b"k" * 32, checks={}
    )
    return services, store, clock


async def test_a_survey_tells_shares_loads_and_what_nodes_do_not_agree_on():
    services, store, _ = made()
    alone = await nodes.survey(services)
    assert (alone.epoch, alone.dealt, alone.ratio) == (0, 0, None)
    await store.heartbeat(replace(node("a"), tzdata="2026a"))
    await store.heartbeat(replace(node("b"), tzdata="2025b"))
    await store.heartbeat(node("c", "dead"))
    owners = ("a", "b", "b", "c") * (SHARDS // 4)
    await store.set_assignment(Assignment(epoch=1, owners=owners))
    await store.report_loads({0: 30.0, 1: 10.0, 2: 50.0}, T0)
    seen = await nodes.survey(services)
    assert [(one.shards, one.load) for one in seen.members] == [(256, 30.0), (512, 60.0), (0, 0.0)]
    assert (seen.epoch, seen.alive, seen.dealt, seen.shards) == (1, 2, 768, SHARDS)
    assert (seen.load, seen.ratio) == (90.0, 2.0)
    assert seen.members[0].notes[0].startswith("tzdata: time zone rules are 2026a here and 2025b")
    assert seen.members[2].notes == ()


async def test_drain_and_resume_take_a_name_or_an_id_and_are_audited_once():
    services, store, _ = made()
    await store.heartbeat(replace(node("a"), id="n1"))
    told = await nodes.drain(services, LOCAL, "n1", " new kernel ")
    assert (told.node.name, told.node.drained) == ("a", "new kernel")
    assert (await store.heartbeat(replace(node("a"), id="n2"))).drained == "new kernel"
    await nodes.drain(services, LOCAL, "a", "new kernel")
    assert (await nodes.drain(services, LOCAL, "a")).node.drained == "by local"
    assert (await nodes.resume(services, LOCAL, "a")).node.drained == ""
    await nodes.resume(services, LOCAL, "n1")
    entries = await store.list_audit(None, 10)
    assert [(one.what, one.target) for one in entries] == [
        ("node.resume", "a"),
        ("node.drain", "a"),
        ("node.drain", "a"),
    ]
    with pytest.raises(NotFoundError):
        await nodes.drain(services, LOCAL, "nobody")
    with pytest.raises(ValidationError):
        await nodes.drain(services, LOCAL, "a", "x" * 1001)
    with pytest.raises(ForbiddenError):
        await nodes.drain(services, replace(LOCAL, project_id=1), "a")


async def test_only_nodes_that_are_gone_are_removed_by_id_or_all_of_a_name():
    services, store, clock = made()
    for number in (1, 2):
        await store.heartbeat(replace(node("a", "dead"), id=f"n{number}"))
    await store.heartbeat(node("b"))
    with pytest.raises(ConflictError, match="node b is up"):
        await nodes.remove(services, LOCAL, "b")
    await nodes.remove(services, LOCAL, "n1")
    assert [one.id for one in await list_nodes(services)] == ["n2", "b"]
    await nodes.remove(services, LOCAL, "a")
    clock.us = T0 + 6_000_001
    await nodes.remove(services, LOCAL, "b")
    assert await list_nodes(services) == []
    with pytest.raises(NotFoundError):
        await nodes.remove(services, LOCAL, "b")
    assert [one.what for one in await store.list_audit(None, 10)] == ["node.remove"] * 3

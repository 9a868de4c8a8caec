"""What is told of nodes does not wait for another node to look."""

from msgspec.structs import replace

from everbell.config.schema import Settings
from everbell.domain.records import Node
from everbell.services.context import Services
from everbell.services.nodes import list_nodes
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
    await store.heartbeat(replace(node("b", "draining"), reason="CPU 99 %"))
    assert [one.reason for one in await list_nodes(services)] == ["CPU 99 %", ""]
    clock.us = T0 + 6_000_001
    assert [one.reason for one in await list_nodes(services)] == ["", ""]


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

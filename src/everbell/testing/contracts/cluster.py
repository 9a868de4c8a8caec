"""The nodes."""

from __future__ import annotations

from msgspec.structs import replace

from everbell.ports.store import Store
from everbell.testing.contracts.making import NOW, node


class ClusterContract:
    """``heartbeat``, ``leave``, ``declare_dead``, ``list_nodes``, ``prune_nodes``."""

    async def test_a_heartbeat_stores_the_node(self, store: Store) -> None:
        assert await store.heartbeat(node())
        newer = node(running=9, state="draining", address="127.0.0.1:1", reason="CPU")
        assert await store.heartbeat(newer)
        assert await store.list_nodes() == [newer]

    async def test_nodes_are_listed_by_name_then_start(self, store: Store) -> None:
        for name, started in (("b", 1), ("a", 2), ("a", 1)):
            await store.heartbeat(replace(node(f"{name}{started}"), name=name, started_us=started))
        assert [it.id for it in await store.list_nodes()] == ["a1", "a2", "b1"]

    async def test_a_node_whose_lease_is_over_is_declared_dead_once(self, store: Store) -> None:
        for name, lease in (("z", NOW - 1), ("a", NOW - 2), ("ok", NOW)):
            await store.heartbeat(node(name, lease=lease))
        assert await store.declare_dead(NOW) == ["a", "z"]
        assert await store.declare_dead(NOW) == []
        states = {it.id: it.state for it in await store.list_nodes()}
        assert states == {"a": "dead", "ok": "up", "z": "dead"}

    async def test_a_node_declared_dead_is_told_so(self, store: Store) -> None:
        await store.heartbeat(node(lease=NOW - 1))
        await store.declare_dead(NOW)
        assert not await store.heartbeat(node())
        assert [it.state for it in await store.list_nodes()] == ["dead"]

    async def test_a_node_that_left_stays_gone(self, store: Store) -> None:
        await store.heartbeat(node())
        await store.leave("n1", NOW + 5)
        await store.leave("unknown", NOW)
        assert not await store.heartbeat(node())
        [left] = await store.list_nodes()
        assert (left.state, left.lease_until_us, left.heartbeat_us) == ("left", NOW + 5, NOW + 5)
        assert await store.declare_dead(NOW + 9) == []

    async def test_nodes_that_left_or_died_before_are_forgotten(self, store: Store) -> None:
        for name in ("up", "left", "dead", "late"):
            await store.heartbeat(node(name, lease=NOW + (5 if name == "dead" else 99)))
        await store.leave("left", NOW + 1)
        await store.leave("late", NOW + 8)
        await store.declare_dead(NOW + 6)
        assert await store.prune_nodes(NOW + 2) == 2
        assert [it.id for it in await store.list_nodes()] == ["late", "up"]

    async def test_the_change_counter_is_a_number(self, store: Store) -> None:
        first = await store.change_counter()
        await store.heartbeat(node())
        assert await store.change_counter() == first

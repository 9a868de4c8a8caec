"""The nodes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from everbell.domain.errors import ConflictError, NotFoundError
from everbell.ports.store import Store
from everbell.testing.contracts.making import NOW, add_job, claimed, node


class ClusterContract:
    """``heartbeat``, ``leave``, ``declare_dead``, ``list_nodes``, ``prune_nodes``, drains."""

    async def test_a_heartbeat_stores_the_node(self, store: Store) -> None:
        assert (await store.heartbeat(node())).accepted
        newer = node(running=9, state="draining", address="127.0.0.1:1", reason="CPU")
        assert (await store.heartbeat(newer)).accepted
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
        assert not (await store.heartbeat(node())).accepted
        assert [it.state for it in await store.list_nodes()] == ["dead"]

    async def test_a_node_that_left_stays_gone(self, store: Store) -> None:
        await store.heartbeat(node())
        await store.leave("n1", NOW + 5)
        await store.leave("unknown", NOW)
        assert not (await store.heartbeat(node())).accepted
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

    async def test_a_heartbeat_stores_what_the_machine_is(self, store: Store) -> None:
        told = node(
            roles=("worker",),
            cores=8,
            machine_cpu=12.5,
            memory_total_bytes=1 << 40,
            memory_free_bytes=1 << 39,
            tzdata="2026a",
            clock_offset_s=-0.25,
            schema=3,
        )
        await store.heartbeat(told)
        assert await store.list_nodes() == [told]

    async def test_what_a_dead_node_had_is_orphaned(self, store: Store) -> None:
        run = await claimed(store, await add_job(store))
        await store.heartbeat(node(lease=NOW + 5))
        assert await store.orphans(NOW + 5, 9) == []
        assert await store.declare_dead(NOW + 5) == []
        assert await store.declare_dead(NOW + 6) == ["n1"]
        assert await store.orphans(NOW + 6, 9) == [run]
        [dead] = await store.list_nodes()
        assert dead.lease_until_us <= NOW + 6

    async def test_a_drain_is_told_to_each_node_of_the_name(self, store: Store) -> None:
        for node_id in ("a1", "a2", "b1"):
            await store.heartbeat(replace(node(node_id), name=node_id[0]))
        assert await store.drain("a", "update", NOW)
        assert not await store.drain("a", "update", NOW + 1)
        told = {it.id: it.drained for it in await store.list_nodes()}
        assert told == {"a1": "update", "a2": "update", "b1": ""}
        # What a node believes of itself is not stored.
        late = replace(node("a3"), name="a", drained="mistaken")
        assert (await store.heartbeat(late)).drained == "update"
        assert (await store.heartbeat(replace(late, id="b1", name="b"))).drained == ""
        assert await store.drain("a", "longer", NOW + 2)
        assert (await store.heartbeat(late)).drained == "longer"
        assert await store.resume("a")
        assert not await store.resume("a")
        assert (await store.heartbeat(late)).drained == ""
        assert {it.drained for it in await store.list_nodes()} == {""}

    async def test_a_drain_outlasts_what_is_known_of_the_node(self, store: Store) -> None:
        await store.heartbeat(node())
        await store.drain("n1", "update", NOW)
        await store.leave("n1", NOW)
        gone = await store.heartbeat(node())
        assert (gone.accepted, gone.drained) == (False, "update")
        assert await store.prune_nodes(NOW + 1) == 1
        assert (await store.heartbeat(replace(node("new"), name="n1"))).drained == "update"
        await store.leave("new", NOW)
        await store.prune_nodes(NOW + 1)
        assert await store.resume("n1")

    async def test_a_name_that_nobody_had_is_not_drained(self, store: Store) -> None:
        await store.heartbeat(replace(node(), name="other"))
        for name in ("n1", ""):
            with pytest.raises(NotFoundError):
                await store.drain(name, "why", NOW)
            with pytest.raises(NotFoundError):
                await store.resume(name)

    async def test_a_node_that_is_gone_can_be_removed(self, store: Store) -> None:
        for name in ("left", "dead", "over", "alive"):
            await store.heartbeat(node(name, lease=NOW + (1 if name == "dead" else 3)))
        await store.leave("left", NOW)
        await store.declare_dead(NOW + 2)
        await store.heartbeat(node("alive", lease=NOW + 4))
        for name in ("left", "dead", "over"):
            await store.remove_node(name, NOW + 4)
            with pytest.raises(NotFoundError):
                await store.remove_node(name, NOW + 4)
        with pytest.raises(ConflictError):
            await store.remove_node("alive", NOW + 4)
        assert [it.id for it in await store.list_nodes()] == ["alive"]

    async def test_the_drain_of_a_name_goes_with_its_last_node(self, store: Store) -> None:
        for node_id in ("a1", "a2"):
            await store.heartbeat(replace(node(node_id), name="a"))
            await store.leave(node_id, NOW)
        await store.drain("a", "why", NOW)
        await store.remove_node("a1", NOW)
        assert [it.drained for it in await store.list_nodes()] == ["why"]
        await store.remove_node("a2", NOW)
        assert (await store.heartbeat(replace(node("a3"), name="a"))).drained == ""

    async def test_what_a_store_says_of_itself_is_of_now(self, store: Store) -> None:
        first, second = await store.heartbeat(node()), await store.heartbeat(node())
        assert first.schema == second.schema
        assert (first.store_us is None) == (second.store_us is None)
        if first.store_us is not None and second.store_us is not None:
            assert first.store_us < second.store_us
        assert isinstance(store.sees_deaths, bool)

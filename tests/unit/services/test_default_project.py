"""The project of jobs that name none is there from the start."""

import asyncio

from msgspec.structs import replace

from everbell.ports.store import Page
from everbell.services.projects import make_default
from everbell.stores.memory import MemoryStore
from everbell.stores.sqlite import SqliteStore
from everbell.telemetry.clock import SystemClock, SystemEntropy


async def names(store):
    found, _ = await store.list_projects(None, Page())
    return [it.name for it in found]


async def test_it_is_made_once_and_not_again_when_somebody_removes_it():
    store = MemoryStore()
    await make_default(store, SystemClock(), SystemEntropy())
    await make_default(store, SystemClock(), SystemEntropy())
    assert await names(store) == ["default"]
    default = await store.get_project("default")
    await store.change_project(replace(default, name="main"))
    await make_default(store, SystemClock(), SystemEntropy())
    assert await names(store) == ["main"]


async def test_two_nodes_that_start_at_once_make_one(tmp_path):
    stores = [await SqliteStore.open(tmp_path / "e.db") for _ in range(2)]
    await asyncio.gather(*(make_default(it, SystemClock(), SystemEntropy()) for it in stores))
    assert [await names(it) for it in stores] == [["default"], ["default"]]
    for it in stores:
        await it.close()

"""Holds that end by themselves."""

import asyncio

import pytest
from msgspec.structs import replace

from everbell.engine.holds import HoldEnds
from everbell.stores.memory import MemoryStore
from everbell.stores.sqlite import SqliteStore
from everbell.testing.contracts.making import NOW, SEC, add_job, hold


class Clock:
    us = NOW

    def now_us(self):
        return self.us


@pytest.fixture(params=["memory", "sqlite"])
async def store(request):
    opened = MemoryStore() if request.param == "memory" else await SqliteStore.open(":memory:")
    yield opened
    await opened.close()


def service(store, clock):
    made = HoldEnds(clock, lambda name, error: pytest.fail(str(error)), store)
    made.woken = 0

    def released():
        made.woken += 1

    made.released = released
    return made


async def test_a_hold_ends_at_its_time_by_its_choice(store):
    clock = Clock()
    job = await add_job(store, cursor=NOW + SEC)
    kept, _ = await store.add_hold(hold("project", job.project_id))
    timed = replace(hold("job", job.id), until_us=NOW + 5 * SEC, then="once")
    timed, _ = await store.add_hold(timed)
    assert (await store.list_holds())[1] == timed
    ends = service(store, clock)
    assert await ends.step() == 1.0
    clock.us = NOW + 4_500_000
    assert await ends.step() == 0.5
    assert (len(await store.list_holds()), ends.woken) == (2, 0)
    clock.us = NOW + 60 * SEC
    await ends.step()
    assert await store.list_holds() == [kept]
    assert ends.woken == 1
    found = await store.get_job(job.id)
    # Slots after the end were not held, though the node came late.
    assert (found.release_policy, found.release_until_us) == ("once", NOW + 5 * SEC)
    (entry,) = await store.list_audit(None, 10)
    assert (entry.who, entry.what, entry.project_id) == ("everbell", "hold.end.once", 1)
    assert entry.target == str(timed.id)


async def test_of_two_nodes_one_ends_it(store):
    clock = Clock()
    job = await add_job(store)
    await store.add_hold(replace(hold("job", job.id), until_us=NOW, then="each"))
    both = [service(store, clock), service(store, clock)]
    await asyncio.gather(*(one.step() for one in both))
    assert await store.list_holds() == []
    assert len(await store.list_audit(None, 10)) == 1


async def test_no_hold_ends_by_a_clock_that_is_not_right(store):
    clock = Clock()
    job = await add_job(store, cursor=NOW + SEC)
    await store.add_hold(replace(hold("job", job.id), until_us=NOW - SEC, then="once"))
    ends = service(store, clock)
    ends.may_judge = lambda: False
    assert await ends.step() == 1.0
    assert len(await store.list_holds()) == 1
    ends.may_judge = lambda: True
    await ends.step()
    assert await store.list_holds() == []

"""What is expected of a thing is compared where it is written, not a moment before."""

import pytest
from msgspec.structs import replace

from everbell.config.schema import Api, Settings
from everbell.domain.errors import LimitError
from everbell.domain.job import CommandAction, Definition
from everbell.services import jobs, projects
from everbell.services.context import LOCAL, Services, VersionMismatch
from everbell.services.validate import Draft
from everbell.stores.memory import MemoryStore

T0 = 1_770_000_000_000_000


class Clock:
    us = T0

    def now_us(self):
        return self.us

    def monotonic(self):
        return self.us / 1e6


class Entropy:
    drawn = 0

    def token_bytes(self, length):
        self.drawn += 1
        return self.drawn.to_bytes(length, "big")


class Raced(MemoryStore):
    """Between a read and the write that follows, somebody else is faster, once."""

    race = None

    async def _lose(self):
        race, type(self).race = type(self).race, None
        if race is not None:
            await race()

    async def get_project(self, key):
        found = await super().get_project(key)
        await self._lose()
        return found

    async def get_job(self, key):
        found = await super().get_job(key)
        await self._lose()
        return found

    async def list_jobs(self, where, page):
        found = await super().list_jobs(where, page)
        await self._lose()
        return found


@pytest.fixture
def services():
    settings = Settings(api=Api(max_jobs=2))
    return Services(
        store=Raced(),
        clock=Clock(),
        entropy=Entropy(),
        settings=settings,
        secret_key=b"k" * 32,
        checks={"command": lambda _: None},
    )


def draft(name):
    return Draft(definition=Definition(name=name, action=CommandAction(argv=("true",))))


def race(services, change):
    type(services.store).race = change


async def test_a_project_changed_meanwhile_is_neither_changed_nor_deleted(services):
    old = await projects.create(services, LOCAL, "a", "one")

    async def other():
        await projects.change(services, LOCAL, "a", description="two")

    race(services, other)
    with pytest.raises(VersionMismatch):
        await projects.change(services, LOCAL, "a", name="b", expected_us=old.updated_us)
    it = await projects.get(services, LOCAL, "a")
    race(services, other)
    with pytest.raises(VersionMismatch):
        await projects.delete(services, LOCAL, "a", it.updated_us)
    assert (await projects.get(services, LOCAL, "a")).description == "two"


async def test_changes_of_two_fields_at_once_are_both_kept(services):
    await projects.create(services, LOCAL, "a", "one")

    async def other():
        await projects.change(services, LOCAL, "a", description="two")

    race(services, other)
    changed = await projects.change(services, LOCAL, "a", name="b")
    assert (changed.name, changed.description) == ("b", "two")


async def test_a_job_changed_meanwhile_is_not_deleted(services):
    [job] = await jobs.create(services, LOCAL, [draft("a")])

    async def other():
        await services.store.change_job(replace(job, failures=1), job.version, T0)

    race(services, other)
    with pytest.raises(VersionMismatch):
        await jobs.delete(services, LOCAL, job.id, job.version)
    assert (await jobs.find(services, LOCAL, job.id)).failures == 1
    await jobs.delete(services, LOCAL, job.id, job.version + 1)


async def test_two_who_count_at_once_do_not_pass_the_limit(services):
    await jobs.create(services, LOCAL, [draft("a")])
    services.counts.clear()

    async def other():
        await jobs.create(services, LOCAL, [draft("b")])

    race(services, other)
    with pytest.raises(LimitError):
        await jobs.create(services, LOCAL, [draft("c")])

"""What is forgotten, and when."""

from everbell.domain.audit import AuditEntry
from everbell.engine.housekeeping import DAY_US, Retention
from everbell.stores.memory import MemoryStore
from everbell.testing.contracts.making import NOW, project


class Clock:
    us = NOW

    def now_us(self):
        return self.us


def entry(at_us):
    return AuditEntry(
        at_us=at_us,
        who="ana",
        credential_id=1,
        address="",
        request_id="",
        what="project.create",
        kind="project",
        target="",
        project_id=None,
        before="",
    )


async def test_audit_entries_are_kept_as_long_as_said():
    store, clock = MemoryStore(), Clock()
    await store.audited(entry(NOW - 31 * DAY_US)).add_project(project("a"))
    await store.audited(entry(NOW - 29 * DAY_US)).add_project(project("b"))
    retention = Retention(clock, lambda *_: None, store, 1.0, audit_days=30.0)
    await retention.step()
    assert [it.at_us for it in await store.list_audit(None, 10)] == [NOW - 29 * DAY_US]
    clock.us += 2 * DAY_US
    await retention.step()
    assert await store.list_audit(None, 10) == []


async def test_runs_are_forgotten_by_whole_days():
    store, clock, asked = MemoryStore(), Clock(), []

    async def purge(before_us, limit):
        asked.append(before_us)
        return limit + 1 if len(asked) == 1 else 0

    store.purge = purge
    retention = Retention(clock, lambda *_: None, store, 30.0)
    assert await retention.step() < 1, "there is more, a day at once may be more than was asked for"
    assert await retention.step() > 1
    assert asked == [NOW - NOW % DAY_US - 30 * DAY_US] * 2


async def test_nothing_is_forgotten_by_a_clock_that_is_not_right():
    store = MemoryStore()
    await store.audited(entry(NOW - 31 * DAY_US)).add_project(project("a"))
    retention = Retention(Clock(), lambda *_: None, store, 1.0, audit_days=30.0)
    retention.may_judge = lambda: False
    assert 0 < await retention.step() < 60, "it asks again before long"
    assert len(await store.list_audit(None, 10)) == 1
    retention.may_judge = lambda: True
    await retention.step()
    assert await store.list_audit(None, 10) == []

"""Use cases against a real store in memory: cursors, versions, races, repeated requests."""

import hashlib

import msgspec
import pytest

from everbell.config.schema import Settings
from everbell.domain.errors import (
    AuthenticationError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    StoreConflict,
    ValidationError,
)
from everbell.domain.job import CommandAction, Definition, HttpAction
from everbell.ports.store import Claim, Decision, RunFilter
from everbell.services import credentials, idempotency, jobs, projects, runs
from everbell.services.context import LOCAL, Actor, Services, VersionMismatch
from everbell.services.idempotency import Asked, KeyReused
from everbell.services.validate import Draft
from everbell.stores.sqlite import SqliteStore

T0 = 1_770_000_000_000_000
MINUTE = 60_000_000


class Ports:
    """Clock, chance and hints in one."""

    def __init__(self):
        self.us = T0
        self.count = 0
        self.changes = []

    def now_us(self):
        return self.us

    def monotonic(self):
        return self.us / 1e6

    async def sleep(self, seconds):
        self.us += int(seconds * 1e6)

    def token_bytes(self, length):
        self.count += 1
        return hashlib.shake_128(str(self.count).encode()).digest(length)

    def changed(self, change):
        self.changes.append(change)


@pytest.fixture
async def services():
    ports = Ports()
    store = await SqliteStore.open(":memory:", inline=True)
    yield Services(
        store=store,
        clock=ports,
        entropy=ports,
        settings=Settings(),
        secret_key=b"k" * 32,
        checks={"http": lambda action: None},
        hints=ports,
    )
    await store.close()


def draft(name="a", schedule="@every 1m", **more):
    enabled = more.pop("enabled", True)
    action = HttpAction(url="http://example.com")
    definition = Definition(name=name, schedule=schedule, action=action, **more)
    return Draft(definition=definition, enabled=enabled)


async def made(services, **fields):
    (job,) = await jobs.create(services, LOCAL, [draft(**fields)])
    return job


def edited(**fields):
    def edit(job):
        changed = msgspec.structs.replace(job.definition, **fields)
        return Draft(definition=changed, enabled=job.enabled)

    return edit


async def test_an_edit_gives_back_the_slot_that_was_claimed_ahead(services):
    job = await made(services)
    slot = job.next_slot_us
    assert slot == T0 + MINUTE
    services.clock.us = slot - 400_000
    decision = Decision(
        job_id=job.id,
        project_id=job.project_id,
        version=job.version,
        cursor_us=slot,
        next_slot_us=slot + MINUTE,
        claims=(Claim(slot_us=slot, due_us=slot, trigger="schedule", max_active=1),),
    )
    (decided,) = await services.store.decide("node-1", [decision], services.clock.us)
    assert decided.outcome == "done"
    changed = await jobs.change(services, LOCAL, job.id, edited(description="new"))
    assert changed.next_slot_us == slot
    assert services.hints.changes[-1].revoked == (decided.runs[0].key,)


async def test_a_changed_schedule_is_planned_from_now(services):
    job = await made(services)
    services.clock.us = T0 + 10 * MINUTE
    changed = await jobs.change(services, LOCAL, job.id, edited(schedule="@every 30m"))
    assert changed.next_slot_us == T0 + 30 * MINUTE
    off = await jobs.set_enabled(services, LOCAL, job.id, enabled=False)
    assert off.next_slot_us is None
    still = await jobs.change(services, LOCAL, job.id, edited(schedule="@every 20m"))
    assert still.next_slot_us is None


async def rows_of(services, job):
    return [
        (run.key.slot_us, run.state, run.reason)
        for run in reversed(await services.store.list_runs(RunFilter(job_id=job.id), 100))
    ]


async def test_slots_that_nobody_decided_are_accounted_for_when_the_job_is_changed(services):
    job = await made(services)
    services.clock.us = T0 + 3 * MINUTE + 1
    await jobs.change(services, LOCAL, job.id, edited(schedule="@every 30m"))
    assert await rows_of(services, job) == [
        (T0 + minute * MINUTE, "skipped", "rescheduled") for minute in (1, 2, 3)
    ]


async def test_slots_that_nobody_decided_are_accounted_for_when_the_job_is_disabled(services):
    job = await made(services)
    services.clock.us = T0 + 2 * MINUTE
    await jobs.set_enabled(services, LOCAL, job.id, enabled=False)
    wanted = [(T0 + minute * MINUTE, "skipped", "disabled") for minute in (1, 2)]
    assert await rows_of(services, job) == wanted
    services.clock.us = T0 + 10 * MINUTE
    await jobs.set_enabled(services, LOCAL, job.id, enabled=True)
    assert await rows_of(services, job) == wanted


async def test_a_long_gap_around_a_row_is_accounted_for_slot_by_slot(services):
    job = await made(services)
    run = Decision(
        job_id=job.id, project_id=job.project_id, version=1, cursor_us=job.next_slot_us,
        next_slot_us=job.next_slot_us,
        claims=(Claim(slot_us=T0 + 5 * MINUTE, due_us=0, trigger="schedule", max_active=9),),
    )  # fmt: skip
    await services.store.decide("node-1", [run], T0)
    services.clock.us = T0 + 20 * MINUTE
    await jobs.set_enabled(services, LOCAL, job.id, enabled=False)
    found = await rows_of(services, job)
    assert [slot for slot, _, _ in found] == [T0 + minute * MINUTE for minute in range(1, 21)]
    assert [state for _, state, _ in found].count("claimed") == 1


async def test_parked_jobs_keep_their_cursor_when_resolved(services):
    job = await made(services)
    parked = msgspec.structs.replace(job, parked="failing", failures=2)
    await services.store.change_job(parked, job.version, services.clock.us)
    services.clock.us = T0 + 10 * MINUTE
    done = await jobs.resolve(services, LOCAL, job.id)
    assert (done.parked, done.failures, done.next_slot_us) == ("", 0, T0 + MINUTE)


async def test_a_change_is_tried_again_when_somebody_was_faster(services, monkeypatch):
    job = await made(services)
    real = services.store.change_job
    failures = [1, 1]

    async def faster(changed, expected, now_us, behind):
        if failures:
            failures.pop()
            raise StoreConflict("changed")
        return await real(changed, expected, now_us, behind)

    monkeypatch.setattr(services.store, "change_job", faster)
    changed = await jobs.change(services, LOCAL, job.id, edited(description="x"))
    assert changed.definition.description == "x"
    failures.extend([1] * 10)
    with pytest.raises(ConflictError):
        await jobs.change(services, LOCAL, job.id, edited(description="y"))


async def test_an_expected_version_is_checked_again_after_a_lost_race(services, monkeypatch):
    job = await made(services)
    real = services.store.change_job

    async def overtaken(changed, expected, now_us, behind):
        monkeypatch.setattr(services.store, "change_job", real)
        await jobs.change(services, LOCAL, job.id, edited(description="theirs"))
        return await real(changed, expected, now_us, behind)

    monkeypatch.setattr(services.store, "change_job", overtaken)
    with pytest.raises(VersionMismatch):
        await jobs.change(services, LOCAL, job.id, edited(description="mine"), job.version)
    assert (await services.store.get_job(job.id)).definition.description == "theirs"


async def test_names_twice_in_one_request_are_refused_before_anything(services):
    with pytest.raises(ValidationError) as caught:
        await jobs.create(services, LOCAL, [draft("a"), draft("a")])
    assert "twice" in caught.value.problems[0].message
    with pytest.raises(NotFoundError):
        await services.store.get_project("default")


async def test_unknown_kinds_of_action_are_refused(services):
    bare = Services(
        store=services.store,
        clock=services.clock,
        entropy=services.entropy,
        settings=services.settings,
        secret_key=b"k" * 32,
    )
    with pytest.raises(ValidationError) as caught:
        await jobs.create(bare, LOCAL, [draft()])
    assert caught.value.problems[0].pointer == "/action/kind"


async def test_a_plan_survives_the_crash_between_its_steps(services):
    asked = Asked("POST /jobs", "key")
    first = await idempotency.plan(services, LOCAL, asked, b"body")
    # The process dies here; the client repeats its request.
    services.clock.us += MINUTE
    again = await idempotency.plan(services, LOCAL, asked, b"body")
    assert (again.uuids, again.slot_us, again.trigger_id) == (
        first.uuids,
        first.slot_us,
        first.trigger_id,
    )
    assert again.replayed
    assert await idempotency.answered(services, again) is None
    with pytest.raises(KeyReused):
        await idempotency.plan(services, LOCAL, asked, b"other body")
    other = Actor(name="x", scopes=("write",), credential_id=7)
    theirs = await idempotency.plan(services, other, asked, b"other body")
    assert theirs.uuids != first.uuids


async def test_a_recorded_answer_is_given_again(services):
    asked = Asked("POST /jobs", "key")
    plan = await idempotency.plan(services, LOCAL, asked, b"body")
    await idempotency.record(services, plan, b"the answer")
    again = await idempotency.plan(services, LOCAL, asked, b"body")
    assert await idempotency.answered(services, again) == b"the answer"


async def test_a_quarantined_job_says_how_to_run_it_again(services):
    job = await made(services)
    bad = msgspec.structs.replace(job, quarantined="its row can't be read")
    await services.store.change_job(bad, job.version, services.clock.us)
    with pytest.raises(ConflictError) as caught:
        await runs.trigger(services, await services.store.get_job(job.id))
    assert "resolve" in caught.value.hint


async def test_a_checked_change_ends_a_quarantine(services):
    job = await made(services)
    bad = msgspec.structs.replace(job, quarantined="its schedule can't be read")
    bad, _ = await services.store.change_job(bad, job.version, services.clock.us)
    services.clock.us = T0 + 3 * MINUTE + 1
    mended = await jobs.change(services, LOCAL, job.id, edited(description="mended"))
    assert (mended.quarantined, mended.next_slot_us) == ("", T0 + 4 * MINUTE)
    assert await rows_of(services, job) == [
        (T0 + minute * MINUTE, "skipped", "quarantined") for minute in (1, 2, 3)
    ]


async def test_slots_of_a_definition_that_cannot_be_read_are_accounted_for(services, monkeypatch):
    job = await made(services)
    torn = msgspec.structs.replace(
        job,
        definition=Definition(name=job.name, action=CommandAction(argv=())),
        quarantined="the stored definition can't be read",
    )

    async def get_job(key):
        return torn

    services.clock.us = T0 + 2 * MINUTE + 1
    with monkeypatch.context() as patch:
        patch.setattr(services.store, "get_job", get_job)
        mended = await jobs.change(
            services, LOCAL, job.id, lambda job: draft(schedule="@every 10m")
        )
    assert (mended.quarantined, mended.next_slot_us) == ("", T0 + 10 * MINUTE)
    assert await rows_of(services, job) == [
        (T0 + minute * MINUTE, "skipped", "quarantined") for minute in (1, 2)
    ]


async def test_retries_by_hand_do_not_wait_for_a_parked_job(services):
    job = await made(services)
    run = await runs.trigger(services, job)
    await runs.cancel(services, LOCAL, run.id)
    services.clock.us += 1
    assert (await runs.retry(services, LOCAL, run.id)).trigger == "retry"
    parked = msgspec.structs.replace(job, parked="failing")
    await services.store.change_job(parked, job.version, services.clock.us)
    services.clock.us += 1
    assert (await runs.retry(services, LOCAL, run.id)).trigger == "manual"


async def test_the_stored_credential_does_not_hold_the_secret(services):
    credential, secret = await credentials.create(services, LOCAL, name="ci")
    stored = await services.store.get_credential(credential.id)
    assert secret not in str(stored)
    actor = await credentials.authenticate(services, credential.api_key, secret)
    assert actor.name == "ci"
    for key, wrong in ((credential.api_key, secret + "x"), ("eb_none", secret), ("", "")):
        with pytest.raises(AuthenticationError) as caught:
            await credentials.authenticate(services, key, wrong)
        assert caught.value.message == "the API key or its secret is wrong"


async def test_the_default_project_is_made_once(services):
    first = await projects.default(services, LOCAL)
    assert (await projects.default(services, LOCAL)).id == first.id
    reader = Actor(name="r", scopes=("read",))
    with pytest.raises(ForbiddenError):
        reader.require("write")
    Actor(name="a", scopes=("admin",)).require("write")

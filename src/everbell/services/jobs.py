"""Jobs: created, changed, switched and removed; always with their cursor."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from everbell.domain.decision import LeftBehind
from everbell.domain.errors import (
    ConflictError,
    FieldProblem,
    LimitError,
    NotFoundError,
    ScheduleError,
    StoreConflict,
    UserError,
    ValidationError,
    too_many_jobs,
)
from everbell.domain.job import Definition, Job, compile_schedule, settle_override
from everbell.domain.planner import leave_behind
from everbell.domain.records import Project
from everbell.ports.observer import Change
from everbell.ports.store import JobFilter, NewJob, Page, Revoked
from everbell.services import projects
from everbell.services.audit import noted
from everbell.services.chains import refuse_circles
from everbell.services.context import Actor, Services, VersionMismatch, as_key, missing
from everbell.services.ids import uuid7
from everbell.services.validate import Draft, job_problems, schedule_field, schedule_problem

TRIES = 5
"""Times that a change without an expected version is tried again when somebody was faster."""

CHEAP_COUNT = 10_000
NEAR = 0.9
RECOUNT_S = 10.0
"""How long the number of a project's jobs is known without counting again."""

_SCHEDULE_FIELDS = (
    "schedule",
    "override",
    "exclude",
    "timezone",
    "start_us",
    "end_us",
    "anchor_us",
    "repeat",
    "jitter_s",
    "dst",
    "week_start",
)

Edit = Callable[[Job], Draft]


class _Asked(NamedTuple):
    actor: Actor
    what: str
    expected: int | None


async def create(
    services: Services, actor: Actor, drafts: Sequence[Draft], uuids: Sequence[str] = ()
) -> list[Job]:
    """Store all jobs or none.

    ``uuids`` are chosen beforehand by a caller that wants to find the jobs again. Raises
    LimitError, ScheduleError, ValidationError, NotFoundError (project), ConflictError (name).
    """
    limit = services.settings.api.max_batch
    if len(drafts) > limit:
        raise LimitError(
            f"{len(drafts)} jobs in one request", hint=f"at most {limit} (setting api.max_batch)"
        )
    uuids = uuids or [uuid7(services.clock, services.entropy) for _ in drafts]
    drafts = [_settled(draft) for draft in drafts]
    now_us = services.clock.now_us()
    firsts = _check(services, drafts, uuids, now_us)
    known: dict[int | str | None, Project] = {}
    new = []
    for draft, uuid, first in zip(drafts, uuids, firsts, strict=True):
        if draft.project not in known:
            known[draft.project] = await _project(services, actor, draft)
        new.append(
            NewJob(
                uuid=uuid,
                project_id=known[draft.project].id,
                definition=draft.definition,
                next_slot_us=first if draft.enabled else None,
                enabled=draft.enabled,
            )
        )
    most = await _check_room(services, new)
    for owner in {one.project_id for one in new}:
        mine = [it for it, one in zip(drafts, new, strict=True) if one.project_id == owner]
        if any(draft.definition.then for draft in mine):
            await refuse_circles(services.store, owner, mine)
    store = noted(services, actor, "job.create")
    stored = await store.add_jobs(new, now_us, most) if new else []
    services.hints.changed(Change(jobs=tuple(job.id for job in stored)))
    return stored


async def _check_room(services: Services, new: Sequence[NewJob]) -> int | None:
    """Raise LimitError if a project would get more jobs than one may have.

    Return the limit if the store shall count for itself, in the same step: where that is cheap,
    or where the limit is near enough to be passed by others before the next count here.
    """
    most = services.settings.api.max_jobs
    exact = most <= CHEAP_COUNT
    adding = Counter(job.project_id for job in new)
    now_s = services.clock.monotonic()
    for project_id, count in adding.items():
        # Counting a large project costs: what this process added since is enough for a while.
        counted_s, known = services.counts.get(project_id, (-math.inf, 0))
        if now_s - counted_s > RECOUNT_S or known + count > most:
            where = JobFilter(project_ids=(project_id,))
            counted_s, known = now_s, (await services.store.list_jobs(where, Page(limit=1)))[1]
        if known + count > most:
            raise too_many_jobs(known + count, most)
        exact = exact or known + count > NEAR * most
        services.counts[project_id] = (counted_s, known + count)
    return most if exact else None


async def find(
    services: Services, actor: Actor, key: int | str, project: int | str | None = None
) -> Job:
    """Return a job by id or uuid; by name in ``project``, or in all that the actor sees.

    Raises NotFoundError for jobs that do not exist and for those of other projects,
    ConflictError for a name that several projects have.
    """
    owner: int | None = actor.project_id
    if project is not None:
        owner = (await projects.get(services, actor, project)).id
    job = None
    if owner is not None and isinstance(key, str):
        where = JobFilter(project_ids=(owner,), name=key)
        named, _ = await services.store.list_jobs(where, Page(limit=1))
        job = named[0] if named else None
    if job is None:
        try:
            job = await services.store.get_job(as_key(key))
        except NotFoundError:
            job = await _only_one_named(services, key) if owner is None else None
    if job is None:
        raise missing("job", key)
    if not actor.sees(job.project_id) or (owner is not None and job.project_id != owner):
        raise missing("job", key)
    return job


async def list_all(
    services: Services, actor: Actor, where: JobFilter, page: Page
) -> tuple[list[Job], int]:
    """Return the actor's jobs that match, and how many there are in all."""
    if actor.project_id is not None:
        where = msgspec.structs.replace(where, project_ids=(actor.project_id,))
    return await services.store.list_jobs(where, page)


async def change(
    services: Services, actor: Actor, key: int | str, edit: Edit, expected: int | None = None
) -> Job:
    """Store what ``edit`` makes of the job.

    The cursor is recomputed when the schedule changes, and kept when it does not. A quarantine
    ends: what was wrong with the definition has been replaced by one that was checked.
    Raises NotFoundError, VersionMismatch, ValidationError, ScheduleError, ConflictError.
    """

    def apply(job: Job, now_us: int) -> Job:
        draft = _settled(edit(job))
        definition = restarted(job, draft.definition, now_us)
        draft = msgspec.structs.replace(draft, definition=definition)
        (first,) = _check(services, [draft], [job.uuid], now_us, job)
        changed = msgspec.structs.replace(
            job, definition=definition, enabled=draft.enabled, quarantined=""
        )
        return msgspec.structs.replace(changed, next_slot_us=_cursor(job, changed, first))

    asked = _Asked(actor, "job.change", expected)
    job = await find(services, actor, key)
    draft = edit(job)
    if draft.definition.then:
        await refuse_circles(services.store, job.project_id, [draft], job.id)
    return await _swap(services, asked, job, apply)


async def set_enabled(
    services: Services, actor: Actor, key: int | str, enabled: bool, expected: int | None = None
) -> Job:
    """Switch a job. Disabled = nothing is planned; enabled = planned from now on."""

    def apply(job: Job, now_us: int) -> Job:
        if job.enabled == enabled:
            return job
        next_us = _first_slot(job, now_us) if enabled else None
        return msgspec.structs.replace(job, enabled=enabled, next_slot_us=next_us)

    what = "job.enable" if enabled else "job.disable"
    asked = _Asked(actor, what, expected)
    return await _swap(services, asked, await find(services, actor, key), apply)


async def resolve(
    services: Services, actor: Actor, key: int | str, expected: int | None = None
) -> Job:
    """Put a parked or quarantined job back to work.

    A parked job keeps its cursor: the slots that passed are decided by its misfire policy.
    """

    def apply(job: Job, now_us: int) -> Job:
        if not (job.parked or job.quarantined or job.failures):
            return job
        next_us = job.next_slot_us
        if job.enabled and (next_us is None or job.quarantined):
            next_us = _first_slot(job, now_us)
        return msgspec.structs.replace(
            job, parked="", quarantined="", failures=0, next_slot_us=next_us
        )

    asked = _Asked(actor, "job.resolve", expected)
    return await _swap(services, asked, await find(services, actor, key), apply)


async def delete(
    services: Services, actor: Actor, key: int | str, expected: int | None = None
) -> None:
    """Delete a job with its runs. Raises NotFoundError, VersionMismatch."""
    job = await find(services, actor, key)
    _check_version(job, expected)
    store = noted(services, actor, "job.delete", job, target=job.id, project_id=job.project_id)
    try:
        revoked = await store.delete_job(job.id, services.clock.now_us(), expected)
    except StoreConflict as error:
        raise VersionMismatch(error.message, hint=error.hint) from error
    services.hints.changed(Change(jobs=(job.id,), revoked=revoked.keys))


async def _only_one_named(services: Services, key: int | str) -> Job | None:
    named, total = await services.store.list_jobs(JobFilter(name=str(key)), Page(limit=1))
    if total > 1:
        raise ConflictError(
            f"{total} jobs are named {str(key)[:80]!r}", hint="say in which project: ?project="
        )
    return named[0] if named else None


async def _project(services: Services, actor: Actor, draft: Draft) -> Project:
    if draft.project is None:
        return await projects.default(services, actor)
    try:
        return await projects.get(services, actor, draft.project)
    except NotFoundError as error:
        problem = FieldProblem("/project", error.message, hint="create it: POST /projects")
        raise NotFoundError(error.message, hint=error.hint, problems=(draft.at(problem),)) from None


def _check(
    services: Services,
    drafts: Sequence[Draft],
    uuids: Sequence[str],
    now_us: int,
    stored: Job | None = None,
) -> list[int | None]:
    """Return each draft's first slot after now; raise what is wrong, all at once."""
    problems: list[FieldProblem] = []
    schedule_error: ScheduleError | None = None
    firsts: list[int | None] = []
    for draft, uuid in zip(drafts, uuids, strict=True):
        known = None if stored is None else stored.definition
        problems += [draft.at(one) for one in job_problems(services, draft.definition, known)]
        first: int | None = None
        if stored is not None and not reschedules(stored.definition, draft.definition):
            first = _first_slot(stored, now_us) if draft.enabled else None
        else:
            created_us = now_us if stored is None else stored.created_us
            after_us = now_us if stored is None else max(now_us, stored.ranged_until_us)
            first, wrong = schedule_problem(draft.definition, uuid, created_us, after_us)
            if isinstance(wrong, ScheduleError):
                schedule_error = wrong
                problems.append(draft.at(schedule_field(wrong)))
            elif wrong is not None:
                problems.append(draft.at(wrong))
        firsts.append(first)
    problems += _twice(drafts)
    if problems:
        raise _refusal(problems, schedule_error)
    return firsts


def check_together(services: Services, pairs: Sequence[tuple[Draft, Job | None]]) -> None:
    """Raise all that is wrong with new and changed jobs, as storing them would one by one.

    Raises ScheduleError for one bad schedule alone, else ValidationError with every field.
    """
    now_us = services.clock.now_us()
    wrong: list[UserError] = []
    for draft, job in pairs:
        uuid = "" if job is None else job.uuid
        definition = draft.definition if job is None else restarted(job, draft.definition, now_us)
        checked = _settled(msgspec.structs.replace(draft, definition=definition))
        try:
            _check(services, [checked], [uuid], now_us, job)
        except (ScheduleError, ValidationError) as error:
            wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise _refusal([one for error in wrong for one in error.problems], None)


def _refusal(problems: list[FieldProblem], schedule: ScheduleError | None) -> UserError:
    if schedule is not None and len(problems) == 1:
        schedule.problems = tuple(problems)
        return schedule
    count = len(problems)
    detail = "1 field is wrong" if count == 1 else f"{count} fields are wrong"
    return ValidationError(detail, hint=problems[0].hint, problems=tuple(problems[:100]))


def _twice(drafts: Sequence[Draft]) -> list[FieldProblem]:
    seen: set[tuple[str, str]] = set()
    problems = []
    for draft in drafts:
        key = (str(draft.project), draft.definition.name)
        if key in seen:
            problem = FieldProblem(
                "/name",
                "stands twice in this request",
                hint="give each job a name of its own",
                code="conflict",
            )
            problems.append(draft.at(problem))
        seen.add(key)
    return problems


def _settled(draft: Draft) -> Draft:
    return msgspec.structs.replace(draft, definition=settle_override(draft.definition))


def reschedules(old: Definition, new: Definition) -> bool:
    """Tell whether a change of the definition may change slots."""
    return any(getattr(old, name) != getattr(new, name) for name in _SCHEDULE_FIELDS)


def restarted(job: Job, new: Definition, now_us: int) -> Definition:
    """Start a changed one-shot from now: else its one slot counts from the job's creation."""
    if new.repeat or new.active_schedule is None or not reschedules(job.definition, new):
        return new
    return msgspec.structs.replace(new, start_us=max(now_us, new.start_us or 0))


def _first_slot(job: Job, now_us: int) -> int | None:
    schedule = compile_schedule(job.definition, job.uuid, job.created_us)
    return None if schedule is None else schedule.next_us(max(now_us, job.ranged_until_us))


def _cursor(old: Job, new: Job, first: int | None) -> int | None:
    """Return the cursor of a changed job.

    A change withdraws claims that lie ahead, so that an unchanged schedule goes back to the
    first slot after now; slots that were decided already are swallowed by the unique key.
    """
    if not new.enabled:
        return None
    if reschedules(old.definition, new.definition) or not old.enabled or old.quarantined:
        return first
    slots = [slot for slot in (old.next_slot_us, first) if slot is not None]
    return min(slots, default=None)


def _left_behind(old: Job, new: Job, now_us: int, *, ranges: bool) -> LeftBehind | None:
    """Account for slots that passed undecided (held, parked, no node) if the cursor moves on."""
    if not old.enabled or new.next_slot_us == old.next_slot_us:
        return None
    try:
        schedule = compile_schedule(old.definition, old.uuid, old.created_us)
    except ScheduleError:
        # Quarantined: what it meant to run can't be told.
        return None
    reason = "rescheduled" if new.enabled else "disabled"
    if old.quarantined and not new.quarantined:
        reason = "quarantined"
    return leave_behind(old.next_slot_us, schedule, now_us, reason, ranges=ranges)


async def _as_it_was(services: Services, job: Job) -> Job:
    """Return the job; of one in quarantine, with the definition that its version was stored with.

    That one may be whole where the job's own copy can't be read, and tells the slots that passed.
    """
    if not job.quarantined:
        return job
    versions = await services.store.job_versions(job.id)
    known = [one.definition for one in versions if one.version == job.version]
    return msgspec.structs.replace(job, definition=known[0]) if known else job


def _check_version(job: Job, expected: int | None) -> None:
    if expected is not None and job.version != expected:
        raise VersionMismatch(
            f"job {job.id} is at version {job.version}, not {expected}",
            hint="read the job again, then repeat the change with its new ETag",
        )


async def _swap(
    services: Services, asked: _Asked, job: Job, apply: Callable[[Job, int], Job]
) -> Job:
    for tried in range(TRIES):
        now_us = services.clock.now_us()
        # What is wrong in itself is told first: a precondition only bears on what would be done.
        changed = apply(job, now_us)
        _check_version(job, asked.expected)
        if changed is job:
            return job
        changed = msgspec.structs.replace(changed, updated_us=now_us)
        was = await _as_it_was(services, job)
        behind = _left_behind(was, changed, now_us, ranges=not tried)
        try:
            store = noted(services, asked.actor, asked.what, job)
            stored, revoked = await store.change_job(changed, job.version, now_us, behind)
        except StoreConflict:
            job = await services.store.get_job(job.id)
            continue
        _tell(services, stored, revoked)
        return stored
    raise ConflictError(f"job {job.id} keeps changing", hint="try again")


def _tell(services: Services, job: Job, revoked: Revoked) -> None:
    services.hints.changed(Change(jobs=(job.id,), revoked=revoked.keys))

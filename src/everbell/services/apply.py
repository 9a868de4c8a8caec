"""Jobs as a file says: planned first, all of it checked, then done; again changes nothing.

Writes are grouped as far as the store allows: new jobs are stored together or not at all, and
before anything else; then each changed job, then each removed one, at the version that the plan
saw. All is checked before the first write, so that what stops half-way is a lost store or somebody
who changed the same job meanwhile; applying the same file again does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec

from everbell.domain.changes import FieldChange, field_changes
from everbell.domain.errors import (
    ConflictError,
    EverbellError,
    FieldProblem,
    LimitError,
    NotFoundError,
    ScheduleError,
    ValidationError,
)
from everbell.domain.job import US, Job, Record, compile_schedule, settle_override
from everbell.domain.moves import PLAN_MAX, SLOTS_MAX, Load, Moves, loads, moves
from everbell.domain.records import Project
from everbell.domain.schedule import Schedule
from everbell.ports.store import JobFilter, Page
from everbell.services import jobs, projects
from everbell.services.chains import refuse_circles
from everbell.services.context import Actor, Services
from everbell.services.ids import uuid7
from everbell.services.validate import Draft

DAY_US = 86_400 * US
PAGE = 500
LOAD_JOBS_MAX = 5_000
"""With more jobs than this in the touched projects, load is that of the planned jobs only."""

What = Literal["add", "change", "remove"]


class Wanted(Record, frozen=True):
    """Jobs as they should be. ``said`` holds for each draft the names that were given.

    ``owner`` "" = no marks are set, nothing is removed. ``prune``: jobs with this owner that are
    not wanted are removed, in ``project`` or, without one, in all that the actor sees.
    ``take_over``: change jobs of other owners too. ``days`` is how far fire times are compared.
    """

    drafts: tuple[Draft, ...]
    said: tuple[frozenset[str], ...]
    owner: str = ""
    project: int | str | None = None
    prune: bool = False
    take_over: bool = False
    days: int = 7


class Step(Record, frozen=True):
    """What is to be done with one job. ``job`` is the stored one; ``uuid`` that of a new one."""

    what: What
    project: Project
    name: str
    draft: Draft | None = None
    job: Job | None = None
    uuid: str = ""
    fields: tuple[FieldChange, ...] = ()
    moves: Moves | None = None


class Planned(Record, frozen=True):
    """All steps, and the load of the touched projects before and after them."""

    now_us: int
    steps: tuple[Step, ...]
    unchanged: int
    before: Load
    after: Load


async def apply(services: Services, actor: Actor, wanted: Wanted) -> Planned:
    """Plan and do it. Raises what ``plan`` raises, and ConflictError if it stopped half-way."""
    planned = await plan(services, actor, wanted)
    done = 0
    steps = sorted(planned.steps, key=lambda step: ("add", "change", "remove").index(step.what))
    try:
        new = [step for step in steps if step.what == "add"]
        drafts = [step.draft for step in new if step.draft is not None]
        await jobs.create(services, actor, drafts, [step.uuid for step in new])
        done = len(new)
        for step in steps[done:]:
            await _do(services, actor, step)
            done += 1
    except EverbellError as error:
        if not done:
            raise
        raise ConflictError(
            f"{done} of {len(steps)} changes are made, then: {error.message}",
            hint=f"apply the same again to do the rest{f'; {error.hint}' if error.hint else ''}",
        ) from error
    return planned


async def _do(services: Services, actor: Actor, step: Step) -> None:
    job, draft = step.job, step.draft
    assert job is not None
    if draft is None:
        await jobs.delete(services, actor, job.id, job.version)
    else:
        await jobs.change(services, actor, job.id, lambda _: draft, job.version)


async def plan(services: Services, actor: Actor, wanted: Wanted) -> Planned:
    """Return what would be done; stores nothing.

    Raises LimitError, NotFoundError (project), ValidationError, ScheduleError, and ConflictError
    for jobs that belong to another owner.
    """
    limit = services.settings.api.max_batch
    if len(wanted.drafts) > limit:
        hint = f"at most {limit} (setting api.max_batch): use several files, each with its owner"
        raise LimitError(f"{len(wanted.drafts)} jobs in one file", hint=hint)
    owners = await _projects(services, actor, wanted)
    stored = await _stored(services, actor, wanted, owners)
    named = await projects.by_ids(services, {job.project_id for job in stored.values()})
    steps = _steps(services, wanted, owners, stored)
    steps += _removals(wanted, owners, stored, named)
    _refuse_foreign(wanted, steps)
    await _check(services, steps)
    now_us = services.clock.now_us()
    touched = {project.id for project in owners} | {step.project.id for step in steps}
    around = [job for job in stored.values() if job.project_id in touched]
    # Pure and bounded, and still long enough to be in the way of timers.
    timed, before, after = await asyncio.to_thread(_timed, steps, around, now_us, wanted.days)
    unchanged = len(wanted.drafts) - sum(step.draft is not None for step in steps)
    return Planned(now_us=now_us, steps=timed, unchanged=unchanged, before=before, after=after)


# --- what is there -------------------------------------------------------------------------------


async def _projects(services: Services, actor: Actor, wanted: Wanted) -> list[Project]:
    """Return the project of each draft. Raises NotFoundError, ValidationError."""
    known: dict[int | str | None, Project] = {}
    whole = None
    if wanted.project is not None:
        whole = await projects.get(services, actor, wanted.project)
    found = []
    for draft in wanted.drafts:
        key = draft.project
        if key not in known:
            known[key] = await _project(services, actor, draft, whole)
        found.append(known[key])
    return found


async def _project(
    services: Services, actor: Actor, draft: Draft, whole: Project | None
) -> Project:
    if draft.project is None:
        return whole or await _default(services, actor)
    if whole is None or draft.project in (whole.id, whole.uuid, whole.name):
        try:
            return await projects.get(services, actor, draft.project)
        except NotFoundError as error:
            hint = f"`everbell project create {draft.project}` makes it"
            problem = draft.at(FieldProblem("/project", error.message, hint=hint))
            raise NotFoundError(error.message, hint=hint, problems=(problem,)) from None
    hint = "name one project, or leave it out and let each job name its own"
    message = f"is {str(draft.project)[:80]!r}, and all is for {whole.name!r}"
    problem = draft.at(FieldProblem("/project", message, hint=hint))
    raise ValidationError("a job belongs to another project", hint=hint, problems=(problem,))


async def _default(services: Services, actor: Actor) -> Project:
    """Return the default project, or what it will be: a plan stores nothing."""
    if actor.project_id is not None:
        return await projects.get(services, actor, actor.project_id)
    try:
        return await services.store.get_project(projects.DEFAULT_PROJECT)
    except NotFoundError:
        return Project(
            id=0, uuid="", name=projects.DEFAULT_PROJECT, description="", created_us=0, updated_us=0
        )


_Key = tuple[int, str]


async def _stored(
    services: Services, actor: Actor, wanted: Wanted, owners: Sequence[Project]
) -> dict[_Key, Job]:
    """Return the jobs of all projects that the plan looks into, by project and name."""
    ids: tuple[int, ...] | None = tuple({project.id for project in owners})
    if wanted.project is not None:
        ids = ((await projects.get(services, actor, wanted.project)).id,)
    elif wanted.prune:
        ids = None
    found: dict[_Key, Job] = {}
    page = Page(limit=PAGE)
    while True:
        where = JobFilter(project_ids=ids)
        listed, _ = await jobs.list_all(services, actor, where, page)
        found |= {(job.project_id, job.name): job for job in listed}
        if len(listed) < PAGE:
            return found
        page = Page(limit=PAGE, offset=page.offset + PAGE)


# --- what is to be done --------------------------------------------------------------------------


def _steps(
    services: Services, wanted: Wanted, owners: Sequence[Project], stored: dict[_Key, Job]
) -> list[Step]:
    steps: list[Step] = []
    kept: set[_Key] = set()
    for draft, said, project in zip(wanted.drafts, wanted.said, owners, strict=True):
        key = (project.id, draft.definition.name)
        job = stored.get(key)
        if key in kept:
            problem = draft.at(FieldProblem("/name", "stands twice", code="conflict"))
            raise ValidationError(
                f"two jobs are named {draft.definition.name!r}",
                hint="a job is known by its name: give each its own",
                problems=(problem,),
            )
        kept.add(key)
        step = _step(wanted, project, draft, job, said)
        if step is not None and job is None:
            uuid = uuid7(services.clock, services.entropy)
            step = msgspec.structs.replace(step, uuid=uuid)
        steps += [] if step is None else [step]
    return steps


def _removals(
    wanted: Wanted,
    owners: Sequence[Project],
    stored: dict[_Key, Job],
    named: dict[int, Project],
) -> list[Step]:
    """Return the steps that remove what the owner no longer wants; none without an owner."""
    if not wanted.prune or not wanted.owner:
        return []
    drafts = zip(owners, wanted.drafts, strict=True)
    kept = {(project.id, draft.definition.name) for project, draft in drafts}
    return [
        Step(what="remove", project=named[job.project_id], name=job.name, job=job)
        for key, job in stored.items()
        if job.definition.owner == wanted.owner and key not in kept and job.project_id in named
    ]


def _step(
    wanted: Wanted, project: Project, draft: Draft, job: Job | None, said: frozenset[str]
) -> Step | None:
    """Return what makes the stored job the wanted one; None = it is that already."""
    draft = _merged(draft, job, said, wanted.owner)
    draft = msgspec.structs.replace(draft, project=project.uuid or None)
    name = draft.definition.name
    if job is None:
        return Step(what="add", project=project, name=name, draft=draft)
    fields = field_changes(job.definition, draft.definition)
    if draft.enabled != job.enabled:
        fields += (FieldChange(path=("enabled",), before=job.enabled, after=draft.enabled),)
    if not fields:
        return None
    return Step(what="change", project=project, name=name, draft=draft, job=job, fields=fields)


def _merged(draft: Draft, job: Job | None, said: frozenset[str], owner: str) -> Draft:
    """Return the draft with what people set on the job and a file does not speak of."""
    definition = msgspec.structs.replace(draft.definition, owner=owner)
    enabled = draft.enabled
    if job is not None:
        old = job.definition
        enabled = draft.enabled if "enabled" in said else job.enabled
        if "override" not in said:
            definition = msgspec.structs.replace(definition, override=old.override)
        if not owner:
            definition = msgspec.structs.replace(definition, owner=old.owner)
        if not definition.repeat and definition.start_us is None:
            # A one-shot that was changed counts from then: no file says that.
            started = msgspec.structs.replace(definition, start_us=old.start_us)
            if not jobs.reschedules(old, started):
                definition = started
    definition = settle_override(definition)
    return msgspec.structs.replace(draft, definition=definition, enabled=enabled)


def _refuse_foreign(wanted: Wanted, steps: Sequence[Step]) -> None:
    """Raise ConflictError for jobs that another file would change back."""
    problems = []
    for step in steps:
        if step.job is None or step.draft is None or wanted.take_over:
            continue
        theirs = step.job.definition.owner
        if theirs and theirs != wanted.owner:
            message = f"`{step.name}` belongs to {theirs!r}"
            hint = "change it there, or take it over (--take-over)"
            problem = FieldProblem("/name", message, hint=hint, code="conflict")
            problems.append(step.draft.at(problem))
    if problems:
        count = len(problems)
        what = problems[0].message if count == 1 else f"{count} jobs belong to other owners"
        raise ConflictError(what, hint=problems[0].hint, problems=tuple(problems[:100]))


async def _check(services: Services, steps: Sequence[Step]) -> None:
    """Raise all that is wrong with the wanted jobs, before anything is stored."""
    pairs = [(step.draft, step.job) for step in steps if step.draft is not None]
    jobs.check_together(services, pairs)
    for project_id in {step.project.id for step in steps}:
        chained = [
            step.draft for step in steps if step.project.id == project_id and step.draft is not None
        ]
        if any(draft.definition.then for draft in chained):
            await refuse_circles(services.store, project_id, chained)


# --- when it runs --------------------------------------------------------------------------------


def _timed(
    steps: Sequence[Step], around: Sequence[Job], now_us: int, days: int
) -> tuple[tuple[Step, ...], Load, Load]:
    """Return the steps with their moves, and the load before and after. Pure, but long."""
    until_us = now_us + days * DAY_US
    pairs = [(_old(step.job), _new(step, now_us)) for step in steps]
    most = min(SLOTS_MAX, PLAN_MAX // max(len(steps), 1))
    timed = tuple(
        msgspec.structs.replace(step, moves=_moves(step, pair, now_us, until_us, most))
        for step, pair in zip(steps, pairs, strict=True)
    )
    planned = {step.job.id for step in steps if step.job is not None}
    rest = [job for job in around if job.id not in planned] if len(around) < LOAD_JOBS_MAX else []
    same = [schedule for job in rest if (schedule := _old(job)) is not None]
    olds = [old for old, _ in pairs if old is not None]
    news = [new for _, new in pairs if new is not None]
    return timed, *loads([*same, *olds], [*same, *news], now_us, until_us)


def _moves(
    step: Step,
    pair: tuple[Schedule | None, Schedule | None],
    now_us: int,
    until_us: int,
    most: int,
) -> Moves | None:
    old, new = pair
    if old is None and new is None:
        return None
    since_us = None if step.job is None else step.job.created_us
    found = moves(old, new, now_us, until_us, since_us, most=most)
    return found if found.gone or found.new or found.seam else None


def _old(job: Job | None) -> Schedule | None:
    if job is None or not job.enabled or job.quarantined:
        return None
    try:
        return compile_schedule(job.definition, job.uuid, job.created_us)
    except ScheduleError:
        return None


def _new(step: Step, now_us: int) -> Schedule | None:
    draft, job = step.draft, step.job
    if draft is None or not draft.enabled:
        return None
    if job is None:
        return compile_schedule(draft.definition, step.uuid, now_us)
    definition = jobs.restarted(job, draft.definition, now_us)
    return compile_schedule(definition, job.uuid, job.created_us)

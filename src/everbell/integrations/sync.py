"""Jobs of a program's code, made one with those of the store."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from everbell.domain.errors import ConflictError, NotFoundError, StoreConflict
from everbell.domain.job import Definition, Job, PythonAction
from everbell.domain.records import Project
from everbell.ports.store import JobFilter, Page
from everbell.services import jobs, projects
from everbell.services.context import Actor, Services
from everbell.services.validate import Draft

log = logging.getLogger(__name__)

TRIES = 10
"""Rounds in which another process may be faster; each round does what is left."""
PAGE = 1000
GONE = "the code of the program no longer has this job"


class Report(msgspec.Struct, frozen=True):
    """Names of the jobs that were created, changed, retired, and found as they should be."""

    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    unchanged: int = 0


async def synchronise(
    services: Services, app: str, project: str, drafts: Mapping[str, Draft], *, retire: bool = True
) -> Report:
    """Store the jobs of a program's code; the same again changes nothing.

    What people may decide stays: an override of the schedule, and whether a job is enabled. Jobs
    that the code no longer has are disabled with the reason, their history stays. Raises
    ConflictError if a job's name belongs to a job of other making.
    """
    actor = Actor(name=f"app:{app}", scopes=("admin",))
    for tried in range(TRIES):
        try:
            return await _once(services, actor, (app, project, drafts), retire=retire)
        except (ConflictError, StoreConflict) as error:
            # Another process of the same program creates the same jobs at the same time.
            if tried == TRIES - 1 or isinstance(error, NameTaken):
                raise
            await services.clock.sleep(0.02 * (tried + 1))
    raise AssertionError


class NameTaken(ConflictError):
    """A job of that name exists and does not belong to this program."""


async def _once(
    services: Services,
    actor: Actor,
    what: tuple[str, str, Mapping[str, Draft]],
    *,
    retire: bool,
) -> Report:
    app, project, drafts = what
    home = await _project(services, actor, project)
    stored = await _stored(services, home, app, drafts)
    fresh = [draft for name, draft in drafts.items() if name not in stored]
    limit = services.settings.api.max_batch
    for first in range(0, len(fresh), limit):
        await jobs.create(services, actor, fresh[first : first + limit])
    changed, retired = [], []
    for name, job in stored.items():
        if name in drafts:
            if await _adjust(services, actor, job, drafts[name]):
                changed.append(name)
        elif retire and await _retire(services, actor, job):
            retired.append(name)
            log.warning("job %s is disabled: %s", name, GONE)
    return Report(
        created=tuple(draft.definition.name for draft in fresh),
        changed=tuple(changed),
        retired=tuple(retired),
        unchanged=len(drafts) - len(fresh) - len(changed),
    )


async def _project(services: Services, actor: Actor, name: str) -> Project:
    if name == projects.DEFAULT_PROJECT:
        return await projects.default(services, actor)
    try:
        return await projects.get(services, actor, name)
    except NotFoundError:
        return await projects.create(services, actor, name)


async def _stored(
    services: Services, home: Project, app: str, drafts: Mapping[str, Draft]
) -> dict[str, Job]:
    """Return the program's jobs by name. Raises NameTaken."""
    found: dict[str, Job] = {}
    where, offset = JobFilter(project_ids=(home.id,)), 0
    while True:
        page, total = await services.store.list_jobs(where, Page(limit=PAGE, offset=offset))
        for job in page:
            action = job.definition.action
            if isinstance(action, PythonAction) and action.app == app:
                found[job.name] = job
            elif job.name in drafts:
                raise NameTaken(
                    f"the project {home.name!r} has a job {job.name!r} already, of other making",
                    hint="give the one in the code another name, or delete the other one",
                )
        offset += len(page)
        if offset >= total or not page:
            return found


async def _adjust(services: Services, actor: Actor, job: Job, draft: Draft) -> bool:
    """Give a stored job what the code says; return whether it differed."""
    if _wanted(job, draft) == (job.definition, job.enabled):
        return False

    def edit(now: Job) -> Draft:
        definition, enabled = _wanted(now, draft)
        return msgspec.structs.replace(draft, definition=definition, enabled=enabled)

    await jobs.change(services, actor, job.id, edit)
    return True


def _wanted(job: Job, draft: Draft) -> tuple[Definition, bool]:
    """Return what a stored job should be: the code's, but for what people decided."""
    action = job.definition.action
    was_retired = isinstance(action, PythonAction) and bool(action.retired)
    definition = msgspec.structs.replace(draft.definition, override=job.definition.override)
    if not definition.repeat and definition.start_us is None:
        # A one-shot whose schedule changed was started anew from then.
        definition = msgspec.structs.replace(definition, start_us=job.definition.start_us)
    return definition, draft.enabled if was_retired else job.enabled


async def _retire(services: Services, actor: Actor, job: Job) -> bool:
    action = job.definition.action
    if not isinstance(action, PythonAction) or action.retired:
        return False

    def edit(now: Job) -> Draft:
        gone = msgspec.structs.replace(action, retired=GONE)
        definition = msgspec.structs.replace(now.definition, action=gone)
        return Draft(definition=definition, enabled=False)

    await jobs.change(services, actor, job.id, edit)
    return True

"""Holds: nothing new starts in a scope until somebody decides what becomes of the missed."""

from __future__ import annotations

from typing import Literal, NamedTuple

from everbell.domain.errors import FieldProblem, NotFoundError, ValidationError
from everbell.domain.job import US
from everbell.domain.records import Hold
from everbell.ports.observer import Change
from everbell.services import jobs, projects
from everbell.services.audit import noted
from everbell.services.context import Actor, Services, missing

MAX_REASON = 1_000
LATEST_US = 3_660 * 86_400 * US
HoldScope = Literal["all", "project", "job"]
Choice = Literal["once", "each", "skip"]


class End(NamedTuple):
    """When a hold ends by itself, and what then becomes of the slots missed under it."""

    until_us: int
    then: Choice


async def add(
    services: Services,
    actor: Actor,
    scope: HoldScope,
    target: int | str | None = None,
    *,
    project: int | str | None = None,
    reason: str = "",
    end: End | None = None,
) -> Hold:
    """Hold everything, a project or a job (of ``project``, if named by name), perhaps for a time.

    Raises ForbiddenError, ValidationError, NotFoundError, ConflictError (held already).
    """
    if len(reason) > MAX_REASON:
        problem = FieldProblem("/reason", "is too long", hint=f"at most {MAX_REASON} characters")
        raise ValidationError("the hold can't be stored", problems=(problem,))
    _check_end(end, services.clock.now_us())
    target_id = await _target(services, actor, scope, target, project)
    hold = Hold(
        id=0,
        scope=scope,
        target_id=target_id,
        reason=reason,
        who=actor.name,
        created_us=services.clock.now_us(),
        until_us=None if end is None else end.until_us,
        then="skip" if end is None else end.then,
    )
    store = noted(services, actor, "hold.create", project_id=await _project_of(services, hold))
    stored, revoked = await store.add_hold(hold)
    touched = (target_id,) if scope == "job" else ()
    services.hints.changed(Change(jobs=touched, revoked=revoked.keys))
    return stored


async def list_all(services: Services, actor: Actor) -> list[Hold]:
    """Return the holds that bear on what the actor sees."""
    return [one for one in await services.store.list_holds() if await _sees(services, actor, one)]


async def release(services: Services, actor: Actor, hold_id: int, choice: Choice) -> Hold:
    """End a hold; slots missed under it run once, each, or not. Raises NotFoundError."""
    holds = {one.id: one for one in await list_all(services, actor)}
    if hold_id not in holds:
        raise missing("hold", hold_id)
    if holds[hold_id].scope == "all":
        _require_all(actor, "release a hold of all projects")
    it = holds[hold_id]
    store = noted(
        services, actor, f"hold.release.{choice}", it, project_id=await _project_of(services, it)
    )
    hold = await store.release(hold_id, choice, services.clock.now_us())
    services.hints.changed(Change(jobs=(hold.target_id,) if hold.scope == "job" else ()))
    return hold


def _check_end(end: End | None, now_us: int) -> None:
    if end is None or now_us < end.until_us <= now_us + LATEST_US:
        return
    hint = "a coming time, at most ten years ahead"
    problem = FieldProblem("/until", "is over" if end.until_us <= now_us else "is far", hint=hint)
    raise ValidationError("the hold can't be stored", hint=hint, problems=(problem,))


def _require_all(actor: Actor, what: str) -> None:
    """Whoever stops, or starts, everything is an admin of everything."""
    actor.require_all_projects(what)
    actor.require("admin")


async def _target(
    services: Services,
    actor: Actor,
    scope: HoldScope,
    target: int | str | None,
    project: int | str | None,
) -> int:
    if scope == "all":
        _require_all(actor, "hold all projects")
        if target is not None:
            problem = FieldProblem(
                "/target", "has no meaning with scope 'all'", hint="leave it out"
            )
            raise ValidationError("the hold can't be stored", problems=(problem,))
        if project is not None:
            problem = FieldProblem(
                "/project", "has no meaning with scope 'all'", hint="leave it out"
            )
            raise ValidationError("the hold can't be stored", problems=(problem,))
        return 0
    if target is None:
        problem = FieldProblem("/target", "is missing", hint=f"the {scope}'s id, uuid or name")
        raise ValidationError("the hold can't be stored", problems=(problem,))
    if scope == "project":
        return (await projects.get(services, actor, target)).id
    return (await jobs.find(services, actor, target, project)).id


async def _project_of(services: Services, hold: Hold) -> int | None:
    if hold.scope == "job":
        found = await services.store.get_jobs([hold.target_id])
        return found[0].project_id if found else None
    return hold.target_id if hold.scope == "project" else None


async def _sees(services: Services, actor: Actor, hold: Hold) -> bool:
    if actor.project_id is None or hold.scope == "all":
        return True
    if hold.scope == "project":
        return hold.target_id == actor.project_id
    try:
        job = await services.store.get_job(hold.target_id)
    except NotFoundError:
        return False
    return actor.sees(job.project_id)

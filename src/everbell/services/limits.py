"""Concurrency limits that jobs of a project share by name."""

from __future__ import annotations

from everbell.domain.errors import FieldProblem, NotFoundError, ValidationError
from everbell.domain.records import Limit, Project
from everbell.ports.observer import Change
from everbell.ports.store import Page
from everbell.services import projects
from everbell.services.audit import noted
from everbell.services.context import Actor, Services, missing
from everbell.services.validate import LIMIT_NAME

MOST_MAX = 10_000


async def list_all(
    services: Services, actor: Actor, page: Page, project: int | str | None = None
) -> tuple[list[Limit], int]:
    """Return the actor's limits, by project and name, and how many there are in all.

    Raises NotFoundError: no such project.
    """
    ids = actor.project_ids
    if project is not None:
        ids = ((await projects.get(services, actor, project)).id,)
    found = await services.store.list_limits(ids)
    return found[page.offset : page.offset + page.limit], len(found)


async def get(
    services: Services, actor: Actor, name: str, project: int | str | None = None
) -> Limit:
    """Return a limit that is set, or that jobs name. Raises NotFoundError."""
    return await _find(services, await _project(services, actor, name, project), name)


async def put(
    services: Services, actor: Actor, name: str, most: int, project: int | str | None = None
) -> Limit:
    """Set how many runs may share a limit. What is active goes on, also above it.

    Raises ValidationError, NotFoundError (project).
    """
    _check(name, most)
    if project is None:
        owner = await projects.default(services, actor)
    else:
        owner = await projects.get(services, actor, project)
    before = {one.name: one for one in await services.store.list_limits((owner.id,))}.get(name)
    store = noted(services, actor, "limit.set", before, target=name, project_id=owner.id)
    stored = await store.set_limit(Limit(project_id=owner.id, name=name, most=most))
    services.hints.changed(Change())
    return stored


async def delete(
    services: Services, actor: Actor, name: str, project: int | str | None = None
) -> None:
    """Forget a limit: jobs that name it run one at a time. Raises NotFoundError."""
    owner = await _project(services, actor, name, project)
    before = await _find(services, owner, name)
    store = noted(services, actor, "limit.delete", before, target=name, project_id=owner.id)
    try:
        await store.delete_limit(owner.id, name)
    except NotFoundError:
        raise missing("limit", name) from None
    services.hints.changed(Change())


async def _project(services: Services, actor: Actor, name: str, key: int | str | None) -> Project:
    """Return the project of a limit; without a key the actor's own, or the default one."""
    if key is None:
        key = projects.DEFAULT_PROJECT if actor.project_id is None else actor.project_id
        try:
            return await projects.get(services, actor, key)
        except NotFoundError:
            raise missing("limit", name) from None
    return await projects.get(services, actor, key)


async def _find(services: Services, owner: Project, name: str) -> Limit:
    for one in await services.store.list_limits((owner.id,)):
        if one.name == name:
            return one
    raise missing("limit", name)


def _check(name: str, most: int) -> None:
    problems = []
    if not LIMIT_NAME.match(name):
        hint = "1 to 64 letters, digits, and . _ -"
        problems.append(FieldProblem("", f"the name is {name[:40]!r}", hint=hint))
    if not 1 <= most <= MOST_MAX:
        problems.append(FieldProblem("/most", f"is {most}", hint=f"1 to {MOST_MAX}"))
    if problems:
        raise ValidationError("the limit can't be stored", problems=tuple(problems))

"""Projects: namespaces of jobs."""

from __future__ import annotations

import contextlib

import msgspec

from everbell.domain.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    StoreConflict,
    ValidationError,
)
from everbell.domain.records import Project
from everbell.ports.clock import Clock, Entropy
from everbell.ports.store import Page, Store
from everbell.services.audit import noted
from everbell.services.context import Actor, Services, VersionMismatch, as_key, missing
from everbell.services.ids import uuid7
from everbell.services.validate import description_problems, name_problems

DEFAULT_PROJECT = "default"
_ABOUT_DEFAULT = "Jobs that name no project"
_MADE = "default_project"
TRIES = 5
"""Times that a change is tried again when somebody was faster."""


async def create(
    services: Services, actor: Actor, name: str, description: str = "", uuid: str = ""
) -> Project:
    """Store a new project. Raises ForbiddenError, ValidationError, ConflictError."""
    actor.require_all_projects("create projects")
    _check(name, description)
    now_us = services.clock.now_us()
    return await noted(services, actor, "project.create").add_project(
        Project(
            id=0,
            uuid=uuid or uuid7(services.clock, services.entropy),
            name=name,
            description=description,
            created_us=now_us,
            updated_us=now_us,
        )
    )


async def get(services: Services, actor: Actor, key: int | str) -> Project:
    """Return a project by id, uuid or name. Raises NotFoundError."""
    try:
        project = await services.store.get_project(as_key(key))
    except NotFoundError:
        if not isinstance(key, str) or as_key(key) == key:
            raise missing("project", key) from None
        # A name of digits only.
        try:
            project = await services.store.get_project(key)
        except NotFoundError:
            raise missing("project", key) from None
    if not actor.sees(project.id):
        raise missing("project", key)
    return project


async def list_all(services: Services, actor: Actor, page: Page) -> tuple[list[Project], int]:
    """Return the actor's projects, and how many there are in all."""
    return await services.store.list_projects(actor.project_ids, page)


async def change(
    services: Services,
    actor: Actor,
    key: int | str,
    *,
    name: str | None = None,
    description: str | None = None,
    expected_us: int | None = None,
) -> Project:
    """Change what is given, perhaps only if the project was last changed at an instant.

    Raises NotFoundError, ValidationError, ConflictError, VersionMismatch.
    """
    for _ in range(TRIES):
        project = await get(services, actor, key)
        changed = msgspec.structs.replace(
            project,
            name=project.name if name is None else name,
            description=project.description if description is None else description,
            # Strictly later: it is what tells this state of the project from the one before.
            updated_us=max(services.clock.now_us(), project.updated_us + 1),
        )
        _check(changed.name, changed.description)
        store = noted(services, actor, "project.change", project)
        known_us = project.updated_us if expected_us is None else expected_us
        try:
            return await store.change_project(changed, known_us)
        except StoreConflict as error:
            if expected_us is not None:
                raise VersionMismatch(error.message, hint=error.hint) from error
    raise ConflictError(f"project {str(key)[:80]!r} keeps changing", hint="try again")


async def delete(
    services: Services, actor: Actor, key: int | str, expected_us: int | None = None
) -> None:
    """Delete an empty project.

    Raises NotFoundError, ForbiddenError, ConflictError, VersionMismatch.
    """
    project = await get(services, actor, key)
    if actor.project_id is not None:
        raise ForbiddenError("a credential bound to one project can't delete it")
    store = noted(
        services, actor, "project.delete", project, target=project.id, project_id=project.id
    )
    try:
        await store.delete_project(project.id, expected_us)
    except StoreConflict as error:
        raise VersionMismatch(error.message, hint=error.hint) from error


async def default(services: Services, actor: Actor) -> Project:
    """Return the project of jobs that name none; made on first use."""
    if actor.project_id is not None:
        return await get(services, actor, actor.project_id)
    try:
        return await services.store.get_project(DEFAULT_PROJECT)
    except NotFoundError:
        pass
    try:
        return await create(services, actor, DEFAULT_PROJECT, _ABOUT_DEFAULT)
    except ConflictError:
        return await services.store.get_project(DEFAULT_PROJECT)


async def make_default(store: Store, clock: Clock, entropy: Entropy) -> None:
    """Give a new store its default project, once: whoever removes or renames it has the say.

    Several processes may do so at once: the first wins.
    """
    if await store.meta(_MADE):
        return
    now_us = clock.now_us()
    new = Project(
        id=0,
        uuid=uuid7(clock, entropy),
        name=DEFAULT_PROJECT,
        description=_ABOUT_DEFAULT,
        created_us=now_us,
        updated_us=now_us,
    )
    with contextlib.suppress(ConflictError):
        await store.add_project(new)
    await store.meta(_MADE, "yes")


async def by_ids(services: Services, ids: set[int]) -> dict[int, Project]:
    """Return those of the projects that exist."""
    if not ids:
        return {}
    found, _ = await services.store.list_projects(tuple(sorted(ids)), Page(limit=len(ids)))
    return {project.id: project for project in found}


def _check(name: str, description: str) -> None:
    problems = (*name_problems(name), *description_problems(description))
    if problems:
        raise ValidationError("the project can't be stored", problems=problems)

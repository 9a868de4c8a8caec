"""Chains of jobs: what follows exists in the same project, and never leads back."""

from __future__ import annotations

from collections.abc import Sequence

from everbell.domain.errors import FieldProblem, ValidationError
from everbell.domain.job import Definition
from everbell.ports.lookup import find_job
from everbell.ports.store import Store
from everbell.services.validate import Draft

WALKED_MAX = 200
"""Jobs looked at behind one new or changed job; a chain that long has ended before."""


async def refuse_circles(store: Store, project_id: int, drafts: Sequence[Draft]) -> None:
    """Raise ValidationError if a draft's chain leads back to it.

    Followers that do not exist (yet) are allowed: they are looked up when a run ends.
    """
    new = {draft.definition.name: draft.definition for draft in drafts}
    for draft in drafts:
        for index, then in enumerate(draft.definition.then):
            path = await _way_back(store, project_id, new, (draft.definition.name, then.job))
            if path:
                problem = FieldProblem(
                    f"/then/{index}/job",
                    "leads back to this job: " + " > ".join(path),
                    hint="a chain must end; give the last job a schedule instead",
                )
                raise ValidationError(
                    "a chain of jobs runs in a circle", problems=(draft.at(problem),)
                )


async def _way_back(
    store: Store, project_id: int, new: dict[str, Definition], edge: tuple[str, str]
) -> list[str]:
    """Return the names from the first to itself, or nothing."""
    home, first = edge
    paths: list[list[str]] = [[home, first]]
    seen: set[str] = set()
    while paths and len(seen) < WALKED_MAX:
        path = paths.pop()
        key = path[-1]
        definition = new.get(key)
        if definition is None:
            found = await find_job(store, project_id, key)
            if found is None:
                continue
            definition = new.get(found.name, found.definition)
        if definition.name == home:
            return [*path[:-1], home]
        if definition.name not in seen:
            seen.add(definition.name)
            paths += [[*path[:-1], definition.name, then.job] for then in definition.then]
    return []

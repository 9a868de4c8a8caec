"""Chains of jobs: what follows exists in the same project, and never leads back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from everbell.domain.errors import FieldProblem, ValidationError
from everbell.domain.job import Definition
from everbell.ports.lookup import find_job
from everbell.ports.store import Store
from everbell.services.validate import Draft

WALKED_MAX = 200
"""Jobs looked at behind one new or changed job; a chain that long has ended before."""


class _Graph(NamedTuple):
    """The jobs of a project as they would be; ``changed`` is the id of the one that is edited."""

    store: Store
    project_id: int
    new: dict[str, Definition]
    changed: int | None

    async def find(self, key: str) -> Definition | None:
        if key in self.new:
            return self.new[key]
        found = await find_job(self.store, self.project_id, key)
        if found is None:
            return None
        if found.id == self.changed:
            # Named by its id or uuid, or by the name that it is about to lose.
            return next(iter(self.new.values()))
        return self.new.get(found.name, found.definition)


async def refuse_circles(
    store: Store, project_id: int, drafts: Sequence[Draft], changed: int | None = None
) -> None:
    """Raise ValidationError if a draft's chain leads back to it.

    ``changed`` is the id of the job that the only draft is to replace. Followers that do not exist
    (yet) are allowed: they are looked up when a run ends. What two edits at the same moment make of
    it ends after LINKS_MAX runs.
    """
    new = {draft.definition.name: draft.definition for draft in drafts}
    graph = _Graph(store, project_id, new, changed)
    for draft in drafts:
        for index, then in enumerate(draft.definition.then):
            path = await _way_back(graph, draft.definition.name, then.job)
            if path:
                problem = FieldProblem(
                    f"/then/{index}/job",
                    "leads back to this job: " + " > ".join(path),
                    hint="a chain must end; give the last job a schedule instead",
                )
                raise ValidationError(
                    "a chain of jobs runs in a circle", problems=(draft.at(problem),)
                )


async def _way_back(graph: _Graph, home: str, first: str) -> list[str]:
    """Return the names from the first to itself, or nothing."""
    paths: list[list[str]] = [[home, first]]
    seen: set[str] = set()
    while paths and len(seen) < WALKED_MAX:
        path = paths.pop()
        definition = await graph.find(path[-1])
        if definition is None:
            continue
        if definition.name == home:
            return [*path[:-1], home]
        if definition.name not in seen:
            seen.add(definition.name)
            paths += [[*path[:-1], definition.name, then.job] for then in definition.then]
    return []

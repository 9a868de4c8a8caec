"""Concurrency limits that jobs of a project share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from starlette.responses import Response

from everbell.api.call import (
    LIMIT,
    OFFSET,
    PROJECT,
    Call,
    Endpoint,
    Param,
    answer,
    listing,
    no_content,
)
from everbell.api.schemas import In, Out
from everbell.domain.records import Limit
from everbell.services import limits
from everbell.services.context import Services
from everbell.services.limits import MOST_MAX
from everbell.services.projects import by_ids


class LimitIn(In, frozen=True, kw_only=True):
    """How many runs of the jobs that name the limit may be active at once."""

    most: Annotated[int, Meta(extra_json_schema={"minimum": 1, "maximum": MOST_MAX})]


class LimitOut(Out, frozen=True, kw_only=True):
    """A limit: ``active`` runs share it now, ``jobs`` name it."""

    name: str
    project_id: int
    project: str
    most: int
    active: int
    jobs: int


async def _shown(services: Services, found: list[Limit]) -> list[LimitOut]:
    owners = await by_ids(services, {one.project_id for one in found})
    return [
        LimitOut(
            name=one.name,
            project_id=one.project_id,
            project=owners[one.project_id].name if one.project_id in owners else "",
            most=one.most,
            active=one.active,
            jobs=one.jobs,
        )
        for one in found
    ]


async def list_limits(call: Call) -> Response:
    """List limits: those that are set, and those that jobs name (they allow one run)."""
    page = call.page()
    found, total = await limits.list_all(call.services, call.actor, page, call.query("project"))
    return listing(await _shown(call.services, found), page, total)


async def get_limit(call: Call) -> Response:
    """Return a limit with what is active under it."""
    found = await limits.get(call.services, call.actor, call.key, call.query("project"))
    return answer((await _shown(call.services, [found]))[0])


async def put_limit(call: Call) -> Response:
    """Set a limit. Runs that are active go on, also above it; a new limit is made if need be."""
    given = await call.body(LimitIn)
    stored = await limits.put(
        call.services, call.actor, call.key, given.most, call.query("project")
    )
    return answer((await _shown(call.services, [stored]))[0])


async def delete_limit(call: Call) -> Response:
    """Forget a limit: the jobs that name it run one at a time."""
    await limits.delete(call.services, call.actor, call.key, call.query("project"))
    return no_content()


_NAME = Param("id", "The limit's name.", {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"})
_PATH = "/limits/{id}"

LIMIT_ROUTES = (
    Endpoint(
        method="GET",
        path="/limits",
        name="limits_list",
        summary="List limits",
        handler=list_limits,
        scope="read",
        query=(PROJECT, LIMIT, OFFSET),
        answer=LimitOut,
        many=True,
        errors=(404,),
    ),
    Endpoint(
        method="GET",
        path=_PATH,
        name="limits_get",
        summary="Show a limit",
        handler=get_limit,
        scope="read",
        query=(PROJECT,),
        answer=LimitOut,
        errors=(404,),
        key=_NAME,
    ),
    Endpoint(
        method="PUT",
        path=_PATH,
        name="limits_set",
        summary="Set a limit",
        handler=put_limit,
        scope="write",
        query=(PROJECT,),
        body=LimitIn,
        answer=LimitOut,
        errors=(404, 422),
        key=_NAME,
    ),
    Endpoint(
        method="DELETE",
        path=_PATH,
        name="limits_delete",
        summary="Forget a limit",
        handler=delete_limit,
        scope="write",
        query=(PROJECT,),
        status=204,
        errors=(404,),
        key=_NAME,
    ),
)

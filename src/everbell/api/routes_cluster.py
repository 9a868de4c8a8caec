"""Holds, nodes, schedule previews and health."""

from __future__ import annotations

from starlette.responses import Response

from everbell.api import views
from everbell.api.call import LIMIT, Call, Endpoint, Param, answer, no_content
from everbell.api.hold_input import hold_end
from everbell.api.problems import NotReady
from everbell.api.schemas import (
    AuditOut,
    Health,
    HoldIn,
    HoldOut,
    PageOut,
    PreviewIn,
    PreviewOut,
    ReleaseIn,
)
from everbell.api.schemas_cluster import ClusterOut, DrainIn, NodeOut
from everbell.api.times import TIME_HINT, parse_iso
from everbell.domain.errors import FieldProblem, ValidationError
from everbell.services import audit, holds, nodes
from everbell.services.context import as_key, missing
from everbell.services.preview import Question, preview

MAX_SLOTS = 100
_NODE = Param("id", "Id or name of the node.")


async def create_hold(call: Call) -> Response:
    """Start nothing new in a scope until the hold is released."""
    given = await call.body(HoldIn)
    hold = await holds.add(
        call.services,
        call.actor,
        given.scope,
        given.target,
        project=given.project,
        reason=given.reason,
        end=hold_end(given.until, given.then),
    )
    return answer(views.hold(hold), 201)


async def list_holds(call: Call) -> Response:
    """List the holds."""
    found = await holds.list_all(call.services, call.actor)
    shown = [views.hold(one) for one in found]
    return answer(shown, page=PageOut(limit=len(shown), offset=0, total=len(shown)))


async def release_hold(call: Call) -> Response:
    """End a hold and decide what becomes of the slots missed under it."""
    given = await call.body(ReleaseIn)
    key = as_key(call.key)
    if not isinstance(key, int):
        raise missing("hold", call.key)
    return answer(views.hold(await holds.release(call.services, call.actor, key, given.missed)))


async def list_nodes(call: Call) -> Response:
    """List the nodes."""
    shown = [views.node(one) for one in (await nodes.survey(call.services)).members]
    return answer(shown, page=PageOut(limit=len(shown), offset=0, total=len(shown)))


async def drain_node(call: Call) -> Response:
    """Let a node take no new work; what runs may end, what waits goes to others."""
    given = await call.body(DrainIn, optional=True)
    drained = await nodes.drain(call.services, call.actor, call.key, given.reason)
    return answer(views.node(drained))


async def resume_node(call: Call) -> Response:
    """Let a drained node take work again."""
    return answer(views.node(await nodes.resume(call.services, call.actor, call.key)))


async def remove_node(call: Call) -> Response:
    """Forget a node that is gone."""
    await nodes.remove(call.services, call.actor, call.key)
    return no_content()


async def show_cluster(call: Call) -> Response:
    """Tell how the work is spread over the nodes."""
    return answer(views.cluster(await nodes.survey(call.services)))


async def preview_schedule(call: Call) -> Response:
    """Explain a schedule: words, next slots, warnings."""
    given = await call.body(PreviewIn)
    if not 1 <= given.n <= MAX_SLOTS:
        problem = FieldProblem("/n", f"is {given.n}", hint=f"1 to {MAX_SLOTS}")
        raise ValidationError("n is out of range", problems=(problem,))
    problems: list[FieldProblem] = []

    def instant(name: str, text: str | None) -> int | None:
        try:
            return None if text is None else parse_iso(text)
        except ValueError as error:
            problems.append(FieldProblem(f"/{name}", str(error), hint=TIME_HINT))
            return None

    asked = Question(
        schedule=given.schedule,
        timezone=given.timezone,
        count=given.n,
        after_us=instant("after", given.after),
        start_us=instant("start_at", given.start_at),
        end_us=instant("end_at", given.end_at),
        exclude=given.exclude,
        dst=given.dst,
        week_start=given.week_start,
    )
    if problems:
        raise ValidationError("a time can't be read", problems=tuple(problems))
    return answer(views.explained(given.schedule, preview(call.services, asked)))


async def list_audit(call: Call) -> Response:
    """List who changed what, newest first: only those changes that this credential may see."""
    limit = call.limit()
    before = call.integer("cursor", 0, 1, 1 << 53) or None
    found = await audit.list_all(call.services, call.actor, limit + 1, before)
    more = str(found[limit - 1].id) if len(found) > limit else None
    shown = [views.audit(one) for one in found[:limit]]
    return answer(shown, page=PageOut(limit=limit, next=more))


async def health(_: Call) -> Response:
    """Say that the process lives."""
    return answer(Health(status="ok"))


async def readiness(call: Call) -> Response:
    """Say whether the node can work: the store answers, the engine turns."""
    await nodes.check_store(call.services)
    trouble = call.ready()
    if trouble:
        raise NotReady(trouble, hint="the node's log tells more")
    notes = tuple(f"{subject}: {text}" for subject, text in call.notices().items())
    return answer(Health(status="degraded" if notes else "ready", notes=notes))


CLUSTER_ROUTES = (
    Endpoint(
        method="POST",
        path="/holds",
        name="holds_create",
        summary="Hold a scope",
        handler=create_hold,
        scope="write",
        body=HoldIn,
        answer=HoldOut,
        status=201,
        errors=(404, 409, 422),
    ),
    Endpoint(
        method="GET",
        path="/holds",
        name="holds_list",
        summary="List the holds",
        handler=list_holds,
        scope="read",
        answer=HoldOut,
        many=True,
    ),
    Endpoint(
        method="POST",
        path="/holds/{id}/release",
        name="holds_release",
        summary="End a hold",
        handler=release_hold,
        scope="write",
        body=ReleaseIn,
        answer=HoldOut,
        errors=(404, 422),
    ),
    Endpoint(
        method="POST",
        path="/schedules/preview",
        name="schedules_preview",
        summary="Explain a schedule",
        handler=preview_schedule,
        scope="read",
        body=PreviewIn,
        answer=PreviewOut,
        errors=(422,),
    ),
    Endpoint(
        method="GET",
        path="/nodes",
        name="nodes_list",
        summary="List the nodes",
        handler=list_nodes,
        scope="read",
        answer=NodeOut,
        many=True,
    ),
    Endpoint(
        method="POST",
        path="/nodes/{id}/drain",
        name="nodes_drain",
        summary="Let a node take no new work",
        handler=drain_node,
        scope="admin",
        body=DrainIn,
        body_optional=True,
        answer=NodeOut,
        errors=(404, 422),
        key=_NODE,
    ),
    Endpoint(
        method="POST",
        path="/nodes/{id}/resume",
        name="nodes_resume",
        summary="Let a drained node take work again",
        handler=resume_node,
        scope="admin",
        answer=NodeOut,
        errors=(404,),
        key=_NODE,
    ),
    Endpoint(
        method="DELETE",
        path="/nodes/{id}",
        name="nodes_remove",
        summary="Forget a node that is gone",
        handler=remove_node,
        scope="admin",
        status=204,
        errors=(404, 409),
        key=_NODE,
    ),
    Endpoint(
        method="GET",
        path="/cluster",
        name="cluster_get",
        summary="How the work is spread",
        handler=show_cluster,
        scope="read",
        answer=ClusterOut,
    ),
    Endpoint(
        method="GET",
        path="/audit",
        name="audit_list",
        summary="List who changed what",
        handler=list_audit,
        scope="admin",
        query=(
            LIMIT,
            Param(
                "cursor",
                "page.next of the answer before.",
                {"type": "integer", "minimum": 1, "maximum": 1 << 53},
            ),
        ),
        answer=AuditOut,
        many=True,
    ),
    Endpoint(
        method="GET",
        path="/healthz",
        name="health_live",
        summary="Does the process live?",
        handler=health,
        scope=None,
        answer=Health,
        also=("/healthcheck",),
    ),
    Endpoint(
        method="GET",
        path="/readyz",
        name="health_ready",
        summary="Can the node work?",
        handler=readiness,
        scope=None,
        answer=Health,
        errors=(503,),
    ),
)

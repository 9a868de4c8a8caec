"""Jobs, their switches, and runs by hand."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from everbell.api import distributed, views
from everbell.api.bodies import decode
from everbell.api.call import (
    PAGED,
    PROJECT,
    Call,
    Endpoint,
    Param,
    answer,
    encode,
    etag,
    if_match,
    listing,
    no_content,
    raw_answer,
)
from everbell.api.hold_input import hold_end
from everbell.api.job_input import to_change, to_draft
from everbell.api.schemas import (
    HoldOut,
    JobHoldIn,
    JobIn,
    JobOut,
    RunNow,
    RunOut,
    SlotOut,
)
from everbell.domain.errors import (
    ConflictError,
    FieldProblem,
    LimitError,
    NotFoundError,
    ValidationError,
)
from everbell.domain.job import Job
from everbell.domain.run import RunKey
from everbell.ports.store import JobFilter
from everbell.services import holds, idempotency, jobs, projects, runs
from everbell.services.preview import job_slots
from everbell.services.validate import Draft

REPLAYED = {"idempotent-replayed": "true"}


async def create_jobs(call: Call) -> Response:
    """Store one job, or all jobs of an array, or none; repeatable under an Idempotency-Key."""
    raw = await call.raw()
    body: Any
    if distributed.is_form(call.request):
        body = distributed.form_fields(raw)
    else:
        body = decode(raw, call.request.headers.get("content-type"))
    many = isinstance(body, list)
    drafts, notes = _drafts(call, body if many else [body], many=many)
    asked = call.asked("POST /jobs")
    plan = await idempotency.plan(call.services, call.actor, asked, raw, len(drafts))
    earlier = await idempotency.answered(call.services, plan)
    if earlier is not None:
        return raw_answer(earlier, 201, REPLAYED)
    stored, again = await _create(call, drafts, plan)
    shown = await views.jobs(call.services, stored)
    extra: dict[str, Any] = {"notes": notes} if notes else {}
    place = f"/api/v1/jobs/{stored[0].id}" if stored else ""
    if distributed.is_own(call.request) and not many:
        said, place = distributed.created(stored[0])
        extra |= said
    encoded = encode(shown if many else shown[0], **extra)
    await idempotency.record(call.services, plan, encoded)
    headers = dict(REPLAYED) if again else {}
    if not many:
        headers |= {"location": place, **etag(stored[0].version)}
    return raw_answer(encoded, 201, headers)


def _drafts(call: Call, bodies: list[Any], *, many: bool) -> tuple[list[Draft], list[str]]:
    limit = call.services.settings.api.max_batch
    if len(bodies) > limit:
        raise LimitError(
            f"{len(bodies)} jobs in one request", hint=f"at most {limit} (setting api.max_batch)"
        )
    drafts: list[Draft] = []
    notes: list[str] = []
    wrong: list[ValidationError] = []
    for index, body in enumerate(bodies):
        try:
            draft, said = to_draft(body, f"/{index}" if many else "")
        except ValidationError as error:
            wrong.append(error)
            continue
        drafts.append(draft)
        notes += [one for one in said if one not in notes]
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        problems = tuple(problem for error in wrong for problem in error.problems)
        raise ValidationError(
            f"{len(wrong)} jobs are wrong; none was stored", problems=problems[:100]
        )
    return drafts, notes


async def _create(
    call: Call, drafts: list[Draft], plan: idempotency.Plan
) -> tuple[list[Job], bool]:
    """Return the jobs, and whether an earlier request with this plan made them."""
    if plan.replayed:
        found = await _planned(call, plan)
        if found is not None:
            return found, True
    try:
        return await jobs.create(call.services, call.actor, drafts, plan.uuids), False
    except ConflictError as error:
        # Perhaps the same request, a moment ago.
        found = await _planned(call, plan) if plan.key else None
        if found is None:
            if distributed.is_own(call.request):
                raise distributed.taken(error) from error
            raise
        return found, True


async def _planned(call: Call, plan: idempotency.Plan) -> list[Job] | None:
    try:
        return [await jobs.find(call.services, call.actor, uuid) for uuid in plan.uuids]
    except NotFoundError:
        return None


async def list_jobs(call: Call) -> Response:
    """List jobs in order of id."""
    page = call.page()
    owner = call.query("project") or call.query("projectId")
    ids = None
    if owner is not None:
        ids = ((await projects.get(call.services, call.actor, owner)).id,)
    where = JobFilter(
        project_ids=ids,
        search=call.query("search") or "",
        name=call.query("name"),
        enabled=call.flag("enabled"),
        parked=call.flag("parked"),
    )
    found, total = await jobs.list_all(call.services, call.actor, where, page)
    return listing(await views.jobs(call.services, found), page, total)


async def get_job(call: Call) -> Response:
    """Show a job."""
    return await _shown(call, await _found(call))


async def put_job(call: Call) -> Response:
    """Replace a job's definition; ``enabled`` stays unless it is given."""
    return await _changed(call, merge=distributed.is_own(call.request))


async def patch_job(call: Call) -> Response:
    """Merge into a job's definition (RFC 7396; ``data`` is replaced whole)."""
    return await _changed(call, merge=True)


async def delete_job(call: Call) -> Response:
    """Delete a job with its runs."""
    job = await _found(call)
    await jobs.delete(call.services, call.actor, job.id, if_match(call.request))
    return no_content()


async def enable_job(call: Call) -> Response:
    """Let a job run again, from now on."""
    job = await _found(call)
    expected = if_match(call.request)
    return await _shown(
        call, await jobs.set_enabled(call.services, call.actor, job.id, True, expected)
    )


async def disable_job(call: Call) -> Response:
    """Plan nothing for a job until it is enabled."""
    job = await _found(call)
    expected = if_match(call.request)
    return await _shown(
        call, await jobs.set_enabled(call.services, call.actor, job.id, False, expected)
    )


async def resolve_job(call: Call) -> Response:
    """Put a parked or quarantined job back to work."""
    job = await _found(call)
    expected = if_match(call.request)
    return await _shown(call, await jobs.resolve(call.services, call.actor, job.id, expected))


async def hold_job(call: Call) -> Response:
    """Start nothing new of a job until the hold is released."""
    given = await call.body(JobHoldIn, optional=True)
    job = await _found(call)
    end = hold_end(given.until, given.then)
    hold = await holds.add(call.services, call.actor, "job", job.id, reason=given.reason, end=end)
    return answer(views.hold(hold), 201)


async def next_slots(call: Call) -> Response:
    """Show the next planned instants of a job."""
    job = await _found(call)
    count = call.integer("n", 5, 1, 100)
    zone, slots = await job_slots(call.services, job, count)
    return answer([views.slot(one, zone) for one in slots])


async def run_job(call: Call) -> Response:
    """Run a job now, whatever its schedule; repeatable under an Idempotency-Key."""
    raw = await call.raw()
    given = await call.body(RunNow, optional=True)
    if len(given.reason) > holds.MAX_REASON:
        hint = f"at most {holds.MAX_REASON} characters"
        problem = FieldProblem("/reason", "is too long", hint=hint)
        raise ValidationError("the run can't be stored", problems=(problem,))
    job = await _found(call)
    asked = call.asked(f"POST /jobs/{job.id}/runs")
    plan = await idempotency.plan(call.services, call.actor, asked, raw, 0)
    run_key = RunKey(plan.slot_us, job.id, plan.trigger_id)
    run = await runs.trigger(call.services, job, run_key, reason=given.reason, actor=call.actor)
    headers = {"location": f"/api/v1/runs/{run.id}"}
    return answer(views.run(run, job), 201, headers | (REPLAYED if plan.replayed else {}))


async def _found(call: Call) -> Job:
    return await jobs.find(call.services, call.actor, call.key, call.query("project"))


async def _shown(call: Call, job: Job, notes: tuple[str, ...] = ()) -> Response:
    extra: dict[str, Any] = {"notes": notes} if notes else {}
    shown = (await views.jobs(call.services, [job]))[0]
    return answer(shown, headers=etag(job.version), **extra)


async def _changed(call: Call, *, merge: bool) -> Response:
    body = await call.json()
    expected = if_match(call.request)
    job = await _found(call)
    shown = (await views.jobs(call.services, [job]))[0]

    def edit(current: Job) -> Draft:
        return to_change(body, current, shown, merge=merge)

    return await _shown(call, await jobs.change(call.services, call.actor, job.id, edit, expected))


_ONE = (PROJECT,)
# The Distributed Scheduler's addresses of a job: documented, and as its program has it.
_OWN = ("/scheduler/jobs/{id}", "/scheduler/job/{id}")
_BOOLEAN = {"type": "boolean"}
_LIST = (
    *PAGED,
    PROJECT,
    Param("projectId", "The same as project."),
    Param("search", "A part of the name."),
    Param("name", "The whole name."),
    Param("enabled", "Only enabled, or only disabled jobs.", _BOOLEAN),
    Param("parked", "Only parked, or only jobs that are not parked.", _BOOLEAN),
)
_BODY = JobIn | list[JobIn]


def _switch(name: str, summary: str, handler: Any) -> Endpoint:
    return Endpoint(
        method="POST",
        path=f"/jobs/{{id}}/{name}",
        name=f"jobs_{name}",
        summary=summary,
        handler=handler,
        scope="write",
        query=_ONE,
        answer=JobOut,
        errors=(404, 409, 412),
        headers=("if-match",),
    )


JOB_ROUTES = (
    Endpoint(
        method="POST",
        path="/jobs",
        name="jobs_create",
        summary="Create one job, or many",
        handler=create_jobs,
        scope="write",
        body=_BODY,
        answer=JobOut | list[JobOut],
        status=201,
        errors=(404, 409, 413, 415, 422),
        headers=("idempotency-key",),
        also=("/scheduler/jobs",),
    ),
    Endpoint(
        method="GET",
        path="/jobs",
        name="jobs_list",
        summary="List jobs",
        handler=list_jobs,
        scope="read",
        query=_LIST,
        answer=JobOut,
        many=True,
        errors=(404,),
    ),
    Endpoint(
        method="GET",
        path="/jobs/{id}",
        name="jobs_get",
        summary="Show a job",
        handler=get_job,
        scope="read",
        query=_ONE,
        answer=JobOut,
        errors=(404,),
        also=_OWN,
    ),
    Endpoint(
        method="PUT",
        path="/jobs/{id}",
        name="jobs_replace",
        summary="Replace a job",
        handler=put_job,
        scope="write",
        query=_ONE,
        body=JobIn,
        answer=JobOut,
        errors=(404, 409, 412, 422),
        headers=("if-match",),
        also=_OWN,
    ),
    Endpoint(
        method="PATCH",
        path="/jobs/{id}",
        name="jobs_change",
        summary="Change a job",
        handler=patch_job,
        scope="write",
        query=_ONE,
        body=dict[str, Any],
        answer=JobOut,
        errors=(404, 409, 412, 422),
        headers=("if-match",),
    ),
    Endpoint(
        method="DELETE",
        path="/jobs/{id}",
        name="jobs_delete",
        summary="Delete a job with its runs",
        handler=delete_job,
        scope="write",
        query=_ONE,
        status=204,
        errors=(404, 412),
        headers=("if-match",),
        also=_OWN,
    ),
    _switch("enable", "Enable a job", enable_job),
    _switch("disable", "Disable a job", disable_job),
    _switch("resolve", "Unpark a job", resolve_job),
    Endpoint(
        method="POST",
        path="/jobs/{id}/hold",
        name="jobs_hold",
        summary="Hold a job",
        handler=hold_job,
        scope="write",
        query=_ONE,
        body=JobHoldIn,
        body_optional=True,
        answer=HoldOut,
        status=201,
        errors=(404, 409, 422),
    ),
    Endpoint(
        method="GET",
        path="/jobs/{id}/next",
        name="jobs_next",
        summary="Show the next slots",
        handler=next_slots,
        scope="read",
        answer=list[SlotOut],
        errors=(404,),
        query=(*_ONE, Param("n", "How many.", {"type": "integer", "minimum": 1, "maximum": 100})),
    ),
    Endpoint(
        method="POST",
        path="/jobs/{id}/runs",
        name="jobs_run",
        summary="Run a job now",
        handler=run_job,
        scope="run",
        query=_ONE,
        body=RunNow,
        body_optional=True,
        answer=RunOut,
        status=201,
        errors=(404, 422),
        headers=("idempotency-key",),
    ),
)

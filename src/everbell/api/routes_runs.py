"""The ledger: runs, their output, cancel and retry."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, get_args

from starlette.responses import Response, StreamingResponse

from everbell.api import views
from everbell.api.bodies import closest
from everbell.api.call import LIMIT, PROJECT, Call, Endpoint, Param, answer
from everbell.api.problems import ParameterError
from everbell.api.schemas import PageOut, RunOut
from everbell.api.stream import follow, plain
from everbell.domain.errors import NotFoundError, UserError
from everbell.domain.job import Job
from everbell.domain.run import Run, RunKey, State, Trigger
from everbell.ports.store import RunFilter
from everbell.services import jobs, projects, runs

MAX_OFFSET = 1 << 60
_EVENT_ID = re.compile(r"(?:([0-9]{1,7})-)?([0-9]{1,18})\Z")


async def list_runs(call: Call) -> Response:
    """List runs, newest slot first."""
    limit = call.limit()
    where = await _filter(call)
    if where is None:
        return answer([], page=PageOut(limit=limit, next=None))
    before = _cursor(call)
    found = await runs.list_all(call.services, call.actor, where, limit + 1, before)
    more = found[limit - 1].id if len(found) > limit else None
    shown = await views.runs(call.services, found[:limit])
    return answer(shown, page=PageOut(limit=limit, next=more))


async def get_run(call: Call) -> Response:
    """Show a run with its earlier attempts."""
    run = await runs.get(call.services, call.actor, call.key)
    attempts = await runs.attempts(call.services, run)
    return answer(views.run(run, await _job(call, run), attempts))


async def get_output(call: Call) -> Response:
    """Give a run's output as text, or follow it as server-sent events."""
    run = await runs.get(call.services, call.actor, call.key)
    attempt = call.integer("attempt", run.attempt, 1, 1_000_000)
    offset = call.integer("offset", 0, 0, MAX_OFFSET)
    events = "text/event-stream" in call.request.headers.get("accept", "")
    resumed = _last_event(call)
    if call.flag("follow") or (events and call.flag("follow") is not False):
        # A given attempt is followed to its end; else all attempts from the current one on.
        only = attempt if call.query("attempt") else None
        if resumed is not None:
            attempt, offset = resumed[0] or attempt, resumed[1]
        job = await _job(call, run)
        call.limits.check_followers()
        return StreamingResponse(
            _counted(call, follow(call, run, job, start=(attempt, offset), only=only)),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )
    return StreamingResponse(
        plain(call.services, run, attempt, offset),
        media_type="text/plain; charset=utf-8",
        headers={"cache-control": "no-store", "content-security-policy": "sandbox"},
    )


async def _counted(call: Call, events: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    with call.limits.following():
        async with contextlib.aclosing(events):
            async for event in events:
                yield event


def _last_event(call: Call) -> tuple[int, int] | None:
    """Return attempt (0 = not told) and offset of the last event received. Raises UserError."""
    text = call.request.headers.get("last-event-id")
    if not text:
        return None
    found = _EVENT_ID.match(text)
    if not found:
        raise UserError(
            "Last-Event-ID can't be read", hint="send the id of the last event, like 1-4096"
        )
    return int(found.group(1) or 0), int(found.group(2))


async def cancel_run(call: Call) -> Response:
    """Ask for the end of a run."""
    run = await runs.cancel(call.services, call.actor, call.key)
    return answer(views.run(run, await _job(call, run)))


async def retry_run(call: Call) -> Response:
    """Run again what an ended run did, as a new run."""
    run = await runs.retry(call.services, call.actor, call.key)
    headers = {"location": f"/api/v1/runs/{run.id}"}
    return answer(views.run(run, await _job(call, run)), 201, headers)


async def _job(call: Call, run: Run) -> Job | None:
    found = await call.services.store.get_jobs([run.key.job_id])
    return found[0] if found else None


async def _filter(call: Call) -> RunFilter | None:
    """Return the filter of the query; None if it names a job that is not there."""
    owner = call.query("project")
    ids = None
    if owner is not None:
        ids = ((await projects.get(call.services, call.actor, owner)).id,)
    job_id = None
    wanted = call.query("job")
    if wanted is not None:
        job_id = (await jobs.find(call.services, call.actor, wanted, owner)).id
    return RunFilter(
        project_ids=ids,
        job_id=job_id,
        states=_words(call, "state", get_args(State)),
        triggers=_words(call, "trigger", get_args(Trigger)),
        from_us=call.instant("from"),
        to_us=call.instant("to"),
        node=call.query("node"),
    )


def _words(call: Call, name: str, known: tuple[str, ...]) -> tuple[Any, ...]:
    """Return the words of a comma-separated parameter. Raises ParameterError."""
    words = tuple(word.strip() for word in (call.query(name) or "").split(",") if word.strip())
    for word in words:
        if word not in known:
            near = closest(word, list(known))
            hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}"
            raise ParameterError(f"{name} is {word[:40]!r}", hint=hint, suggestions=near)
    return words


def _cursor(call: Call) -> RunKey | None:
    text = call.typed("cursor")
    if text is None:
        return None
    try:
        return RunKey.parse(text)
    except NotFoundError:
        raise ParameterError(
            "cursor can't be read", hint="send page.next of the last answer"
        ) from None


def _one_of(words: tuple[str, ...]) -> dict[str, Any]:
    return {"type": "array", "items": {"enum": list(words)}}


_RUN_QUERY = (
    Param("job", "Id or uuid of a job; its name together with project."),
    PROJECT,
    Param("state", "States, separated by commas.", _one_of(get_args(State))),
    Param("trigger", "Triggers, separated by commas.", _one_of(get_args(Trigger))),
    Param("from", "First slot, ISO 8601.", {"type": "string", "format": "date-time"}),
    Param("to", "Last slot, ISO 8601.", {"type": "string", "format": "date-time"}),
    Param("node", "Id of a node."),
    LIMIT,
    Param(
        "cursor",
        "page.next of the answer before.",
        {"type": "string", "pattern": "^[0-9]{1,18}-[0-9]{1,18}(-[0-9A-Za-z-]{0,64})?$"},
    ),
)
_OUTPUT_QUERY = (
    Param("follow", "Server-sent events until the run ends.", {"type": "boolean"}),
    Param(
        "attempt",
        "Which attempt; default: the last.",
        {"type": "integer", "minimum": 1, "maximum": 1_000_000},
    ),
    Param(
        "offset", "Bytes to leave out.", {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET}
    ),
)
RUN_ROUTES = (
    Endpoint(
        method="GET",
        path="/runs",
        name="runs_list",
        summary="List runs, newest slot first",
        handler=list_runs,
        scope="read",
        query=_RUN_QUERY,
        answer=RunOut,
        many=True,
        errors=(404,),
    ),
    Endpoint(
        method="GET",
        path="/runs/{id}",
        name="runs_get",
        summary="Show a run",
        handler=get_run,
        scope="read",
        answer=RunOut,
        errors=(404,),
    ),
    Endpoint(
        method="GET",
        path="/runs/{id}/output",
        name="runs_output",
        summary="Read or follow a run's output",
        handler=get_output,
        scope="read",
        query=_OUTPUT_QUERY,
        media="text/plain",
        errors=(404,),
        headers=("last-event-id",),
    ),
    Endpoint(
        method="POST",
        path="/runs/{id}/cancel",
        name="runs_cancel",
        summary="Cancel a run",
        handler=cancel_run,
        scope="run",
        answer=RunOut,
        errors=(404, 409),
    ),
    Endpoint(
        method="POST",
        path="/runs/{id}/retry",
        name="runs_retry",
        summary="Run again",
        handler=retry_run,
        scope="run",
        answer=RunOut,
        status=201,
        errors=(404, 409),
    ),
)

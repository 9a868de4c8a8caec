"""The ledger's tools: verify it, explain it, and skip slots by hand."""

from __future__ import annotations

from datetime import date
from typing import Any

from starlette.responses import Response

from everbell.api import ledger_views as shown
from everbell.api.call import LIMIT, PROJECT, Call, Endpoint, Param, answer, etag, if_match
from everbell.api.ledger_shapes import (
    BackfillIn,
    BackfillOut,
    InsteadIn,
    SimulateOut,
    SkipIn,
    SkippedOut,
    VerifyOut,
    WhyOut,
)
from everbell.api.problems import ParameterError
from everbell.api.times import parse_iso
from everbell.domain.errors import FieldProblem, ValidationError
from everbell.services import (
    backfill,
    explain_run,
    holds,
    jobs,
    projects,
    simulate,
    skipping,
    verify,
)
from everbell.services.skipping import Wish


async def verify_ledger(call: Call) -> Response:
    """Compare the ledger with what the schedules planned, a part at a time."""
    owner, wanted, place = call.query("project"), call.query("job"), call.typed("cursor")
    project = await projects.get(call.services, call.actor, owner) if owner is not None else None
    job = None
    if wanted is not None:
        job = await jobs.find(call.services, call.actor, wanted, owner)
    try:
        begin = None if place is None else verify.read_place(place)
    except ValueError:
        raise ParameterError("cursor can't be read", hint="send next of the last answer") from None
    asked = verify.Asked(
        project_id=None if project is None else project.id,
        job_id=None if job is None else job.id,
        from_us=call.instant("from"),
        to_us=call.instant("to"),
        place=begin,
    )
    return answer(shown.verified(await verify.verify(call.services, call.actor, asked)))


async def why_job(call: Call) -> Response:
    """Tell why a job ran, or not, at a time."""
    job = await jobs.find(call.services, call.actor, call.key, call.query("project"))
    told = await explain_run.why(call.services, job, call.instant("at"))
    return answer(shown.why(told, job))


async def simulate_outage(call: Call) -> Response:
    """Tell what an outage would do to the jobs; nothing is stored."""
    owner, wanted = call.query("project"), call.query("job")
    project = await projects.get(call.services, call.actor, owner) if owner is not None else None
    job = None
    if wanted is not None:
        job = await jobs.find(call.services, call.actor, wanted, owner)
    zone = call.query("zone") or ("UTC" if job is None else job.definition.timezone)
    asked = simulate.Asked(
        down=tuple((call.typed("down") or "").split(",")),
        day=_day(call),
        zone=zone,
        takes_s=float(call.integer("takes", 0, 0, 86_400)),
        project_id=None if project is None else project.id,
        job=job,
        after=call.integer("cursor", 0, 0, 1 << 53),
        limit=call.limit(),
    )
    told = await simulate.simulate(call.services, call.actor, asked)
    return answer(shown.simulated(told, asked.takes_s))


def _day(call: Call) -> date:
    text = call.typed("date")
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        raise ParameterError(
            f"date is {(text or '')[:40]!r}", hint="a day, such as 2027-03-28"
        ) from None


async def fill_slots(call: Call) -> Response:
    """Run the slots of a time that have no successful run."""
    job = await jobs.find(call.services, call.actor, call.key, call.query("project"))
    given = await call.body(BackfillIn)
    from_us, to_us = _instant("/from", given.from_), _instant("/to", given.to)
    assert from_us is not None
    assert to_us is not None
    asked = backfill.Asked(
        from_us=from_us,
        to_us=to_us,
        most=given.max,
        dry_run=given.dry_run,
        reason=given.reason[: holds.MAX_REASON],
    )
    told = await backfill.backfill(call.services, call.actor, job, asked)
    return answer(shown.filled(told, job), 201 if told.started else 200)


async def skip_slot(call: Call) -> Response:
    """Decide by hand that a job's next slot, or a coming one that is named, does not run."""
    given = await call.body(SkipIn, optional=True)
    wish = Wish(_instant("/slot", given.slot), given.reason, expected=if_match(call.request))
    return await _skipped(call, wish)


async def run_instead(call: Call) -> Response:
    """Skip a job's next slot, and run it now, or at another time, in its place."""
    given = await call.body(InsteadIn, optional=True)
    slot_us, at_us = _instant("/slot", given.slot), _instant("/at", given.at)
    expected = if_match(call.request)
    wish = Wish(slot_us, given.reason, instead=True, at_us=at_us, expected=expected)
    return await _skipped(call, wish)


async def _skipped(call: Call, wish: Wish) -> Response:
    job = await jobs.find(call.services, call.actor, call.key, call.query("project"))
    done = await skipping.skip(call.services, call.actor, job, wish)
    return answer(shown.skipped(done), 201, etag(done.job.version))


def _instant(pointer: str, text: str | None) -> int | None:
    """Return a time of a body. Raises ValidationError."""
    try:
        return None if text is None else parse_iso(text)
    except ValueError as error:
        problem = FieldProblem(pointer, str(error), hint="such as 2026-03-29T01:00:00Z")
        raise ValidationError("a time can't be read", problems=(problem,)) from None


def _skip(name: str, summary: str, handler: Any, body: Any) -> Endpoint:
    return Endpoint(
        method="POST",
        path=f"/jobs/{{id}}/{name}",
        name=f"jobs_{name.replace('-', '_')}",
        summary=summary,
        handler=handler,
        scope="write",
        query=(PROJECT,),
        body=body,
        body_optional=True,
        answer=SkippedOut,
        status=201,
        errors=(404, 409, 412, 422),
        headers=("if-match",),
    )


_ZONE = {"type": "string", "format": "everbell-timezone"}
_INT = {"type": "integer", "minimum": 0}
_DOWN = "([01][0-9]|2[0-4]):[0-5][0-9]-([01][0-9]|2[0-4]):[0-5][0-9]"
_TIME = {"type": "string", "format": "date-time"}
_PLACE = {"type": "string", "pattern": "^[0-9]{1,18}(-[0-9]{1,18})?$"}
LEDGER_ROUTES: tuple[Endpoint, ...] = (
    Endpoint(
        method="GET",
        path="/verify",
        name="verify",
        summary="Is every slot accounted for?",
        handler=verify_ledger,
        scope="read",
        query=(
            Param("job", "Id or uuid of a job; its name together with project."),
            PROJECT,
            Param("from", "First slot, ISO 8601 (all that is kept).", _TIME),
            Param("to", "Last slot, ISO 8601 (some seconds ago).", _TIME),
            Param("cursor", "next of the answer before.", _PLACE),
        ),
        answer=VerifyOut,
        errors=(404,),
    ),
    Endpoint(
        method="GET",
        path="/jobs/{id}/why",
        name="jobs_why",
        summary="Why did it run, or not?",
        handler=why_job,
        scope="read",
        query=(PROJECT, Param("at", "When, ISO 8601 (the last slot).", _TIME)),
        answer=WhyOut,
        errors=(404,),
    ),
    Endpoint(
        method="GET",
        path="/simulate",
        name="simulate",
        summary="What would an outage do?",
        handler=simulate_outage,
        scope="read",
        query=(
            Param(
                "down",
                "When no node is up, local times separated by commas: 02:00-05:00.",
                {"type": "string", "pattern": f"^{_DOWN}(,{_DOWN}){{0,19}}$"},
                required=True,
            ),
            Param("date", "On which day.", {"type": "string", "format": "date"}, required=True),
            Param("zone", "Of these times (the job's, else UTC).", _ZONE),
            Param("job", "Id or uuid of a job; its name together with project."),
            PROJECT,
            Param("takes", "Seconds that each run lasts (0).", {**_INT, "maximum": 86_400}),
            LIMIT,
            Param("cursor", "next of the answer before.", {**_INT, "maximum": 1 << 53}),
        ),
        answer=SimulateOut,
        errors=(404, 422),
    ),
    Endpoint(
        method="POST",
        path="/jobs/{id}/backfill",
        name="jobs_backfill",
        summary="Run slots of the past",
        handler=fill_slots,
        scope="run",
        query=(PROJECT,),
        body=BackfillIn,
        answer=BackfillOut,
        status=201,
        errors=(404, 409, 413, 422),
    ),
    _skip("skip-next", "Skip the next slot", skip_slot, SkipIn),
    _skip("run-instead", "Run instead of the next slot", run_instead, InsteadIn),
)

"""The ledger's tools: slots skipped by hand."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from everbell.api import ledger_views as shown
from everbell.api.call import PROJECT, Call, Endpoint, answer, etag, if_match
from everbell.api.ledger_shapes import InsteadIn, SkipIn, SkippedOut
from everbell.api.times import parse_iso
from everbell.domain.errors import FieldProblem, ValidationError
from everbell.services import jobs, skipping
from everbell.services.skipping import Wish


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


LEDGER_ROUTES: tuple[Endpoint, ...] = (
    _skip("skip-next", "Skip the next slot", skip_slot, SkipIn),
    _skip("run-instead", "Run instead of the next slot", run_instead, InsteadIn),
)

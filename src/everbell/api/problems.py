"""Errors as answers: the one place where the error tree meets HTTP."""

from __future__ import annotations

import logging

import msgspec
from starlette.responses import Response

from everbell.api.limits import RateLimited, retry_after
from everbell.api.schemas import Problem, ProblemField
from everbell.domain.errors import (
    AuthenticationError,
    Bug,
    EverbellError,
    ScheduleError,
    StoreError,
    UserError,
)

_log = logging.getLogger("everbell.api")
TYPE = "https://everbell.dev/errors/"
RETRY_AFTER_S = 1

TITLES = {
    "bad_request": "The request can't be read",
    "invalid_json": "The body is not JSON",
    "unknown_parameter": "No such query parameter",
    "invalid_parameter": "A query parameter is wrong",
    "unsupported_media_type": "The body has the wrong content type",
    "method_not_allowed": "The method does not fit this address",
    "invalid_schedule": "The schedule can't be read",
    "validation_failed": "The input can't be accepted",
    "idempotency_key_reused": "The idempotency key belongs to another request",
    "not_found": "No such thing",
    "conflict": "The state forbids it",
    "version_mismatch": "Somebody else changed it",
    "unauthenticated": "Who are you?",
    "forbidden": "Not allowed",
    "limit_exceeded": "Too large",
    "rate_limited": "Too many requests",
    "request_timeout": "The body came too slowly",
    "headers_too_large": "Headers or address are too long",
    "invalid_config": "The configuration can't be used",
    "store_error": "The store failed",
    "store_unavailable": "The store can't be reached",
    "store_conflict": "Somebody else was faster",
    "store_corrupt": "The store can't be trusted",
    "store_unknown_outcome": "The store's answer was lost",
    "refused": "Refused",
    "not_ready": "The node can't work now",
    "internal": "Something broke inside",
}


class MediaTypeError(UserError):
    """The body is not declared as JSON."""

    code = "unsupported_media_type"
    status = 415


class SlowBody(UserError):
    """The body did not come in time."""

    code = "request_timeout"
    status = 408


class HeadersTooLarge(UserError):
    """Headers or address are longer than any that this API needs."""

    code = "headers_too_large"
    status = 431


class MethodError(UserError):
    """The address exists, the method does not."""

    code = "method_not_allowed"
    status = 405


class JsonError(UserError):
    """The body is not JSON; the message tells where."""

    code = "invalid_json"


class UnknownParameter(UserError):
    """The address takes no such query parameter."""

    code = "unknown_parameter"


class ParameterError(UserError):
    """A query parameter has a value that can't be read."""

    code = "invalid_parameter"


class NotReady(EverbellError):
    """The node lives but can't work."""

    code = "not_ready"
    status = 503


def answer_error(error: Exception, instance: str, request_id: str) -> Response:
    """Return the problem+json answer; unexpected errors are logged and told without detail."""
    if not isinstance(error, EverbellError) or isinstance(error, Bug):
        _log.error("request %s failed", request_id, exc_info=error)
        error = EverbellError(
            "an unexpected error; nothing can be said about what was done",
            hint=f"look for {request_id} in the server's log",
        )
    elif isinstance(error, StoreError):
        _log.warning("request %s: %s: %s", request_id, error.code, error.message)
    problem = _problem(error, instance, request_id)
    return Response(
        msgspec.json.encode(problem),
        status_code=error.status,
        headers=_headers(error),
        media_type="application/problem+json",
    )


def _problem(error: EverbellError, instance: str, request_id: str) -> Problem:
    position: int | msgspec.UnsetType = msgspec.UNSET
    text: str | msgspec.UnsetType = msgspec.UNSET
    if isinstance(error, ScheduleError):
        position, text = error.position, error.text
    problems = getattr(error, "problems", ())
    detail, hint = error.message, error.hint
    if problems:
        # The first one in words, so that a log line or a terminal needs no more than this.
        first = problems[0]
        told = first.message in detail or isinstance(error, ScheduleError)
        detail = detail if told else f"{detail}: {first.pointer} {first.message}"
        hint = hint or first.hint
    return Problem(
        type=TYPE + error.code,
        title=TITLES.get(error.code, "The request failed"),
        status=error.status,
        code=error.code,
        detail=detail,
        hint=hint,
        instance=instance,
        request_id=request_id,
        errors=tuple(
            ProblemField(pointer=one.pointer, code=one.code, message=one.message, hint=one.hint)
            for one in problems
        ),
        suggestions=tuple(getattr(error, "suggestions", ())),
        position=position,
        text=text,
    )


def _headers(error: EverbellError) -> dict[str, str]:
    headers = {"cache-control": "no-store"}
    if isinstance(error, AuthenticationError):
        headers["www-authenticate"] = 'Bearer realm="everbell"'
    if isinstance(error, SlowBody | HeadersTooLarge):
        # What is left of the request must not be taken for another one.
        headers["connection"] = "close"
    if error.status == 503:
        headers["retry-after"] = str(RETRY_AFTER_S)
    if isinstance(error, RateLimited):
        headers["retry-after"] = retry_after(error)
    if isinstance(error, MethodError):
        headers["allow"] = ", ".join(error.suggestions)
    return headers

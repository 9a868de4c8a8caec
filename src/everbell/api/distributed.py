"""The Distributed Scheduler's REST API: form bodies, its addresses, and its answers there."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from everbell.api.bodies import MAX_SHOWN
from everbell.api.problems import JsonError, MediaTypeError
from everbell.domain.errors import ConflictError, FieldProblem, ValidationError
from everbell.domain.job import Job

FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 100
_OWN = re.compile(r"(/api/v1|/v1)?/scheduler/jobs?(/|\Z)")


def is_form(request: Request) -> bool:
    """Return whether the body is a form.

    Raises MediaTypeError for one that another site's page makes a browser send.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != FORM:
        return False
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise MediaTypeError("a form of another site is not taken", hint="send JSON from a program")
    return True


def form_fields(raw: bytes) -> dict[str, Any]:
    """Return the fields of a job as a form, as text. Raises JsonError, ValidationError."""
    try:
        pairs = parse_qsl(
            raw.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        message = "the body is no form"
        raise JsonError(message, hint="write name=value&name=value, in UTF-8") from None
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            problem = FieldProblem(f"/{name[:MAX_SHOWN]}", "is given twice")
            raise ValidationError("a field is given twice", problems=(problem,))
        fields[name] = value
    if "frequency" not in fields:
        problem = FieldProblem("/frequency", "is missing", hint="seconds between two runs")
        raise ValidationError("a job as a form needs its frequency", problems=(problem,))
    return fields


def is_own(request: Request) -> bool:
    """Return whether the address is one of the Distributed Scheduler's."""
    return bool(_OWN.match(request.url.path))


def created(job: Job) -> tuple[dict[str, Any], str]:
    """Return what its answer has besides the job, and where the job is."""
    info = f"Record has been successfully created with id {job.id}"
    return {"info": info}, f"/scheduler/jobs/{job.id}"


def taken(error: ConflictError) -> ValidationError:
    """Return a conflict of names in the Distributed Scheduler's status, 422."""
    problem = FieldProblem("/name", error.message, hint=error.hint, code="conflict")
    return ValidationError(error.message, hint=error.hint, problems=(problem,))

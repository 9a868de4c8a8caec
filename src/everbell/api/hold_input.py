"""When a hold is to end, as it is asked for."""

from __future__ import annotations

from everbell.api.times import parse_iso
from everbell.domain.errors import FieldProblem, ValidationError
from everbell.services.holds import Choice, End


def hold_end(until: str | None, then: Choice | None) -> End | None:
    """Return when the hold ends; None = a person releases it. Raises ValidationError."""
    problem = None
    if until is None:
        if then is None:
            return None
        problem = FieldProblem("/then", "has no meaning without until", hint="say until when")
    else:
        try:
            return End(parse_iso(until), then or "skip")
        except ValueError as error:
            problem = FieldProblem("/until", str(error), hint="such as 2026-03-29T01:00:00Z")
    raise ValidationError("the hold can't be stored", hint=problem.hint, problems=(problem,))

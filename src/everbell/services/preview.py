"""A schedule explained before it matters."""

from __future__ import annotations

import msgspec

from everbell.domain.errors import FieldProblem, ScheduleError, ValidationError
from everbell.domain.schedule import parse_schedule
from everbell.services.context import Services
from everbell.services.validate import MAX_SCHEDULE, schedule_field, zone_problem


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule in words, its next slots (us) and what may surprise."""

    timezone: str
    description: str
    warnings: tuple[str, ...]
    slots: tuple[int, ...]


def preview(services: Services, text: str, timezone: str, count: int) -> Preview:
    """Explain a schedule as a job made now would have it. Raises ScheduleError."""
    if len(text) > MAX_SCHEDULE:
        problem = FieldProblem("/schedule", f"is {len(text)} characters long")
        raise ValidationError("the schedule is too long", problems=(problem,))
    wrong = zone_problem(timezone)
    if wrong is not None:
        raise ValidationError(wrong.message, hint=wrong.hint, problems=(wrong,))
    now_us = services.clock.now_us()
    try:
        schedule = parse_schedule(text, timezone, anchor_us=now_us)
    except ScheduleError as error:
        error.problems = (schedule_field(error),)
        raise
    return Preview(
        timezone=schedule.tz,
        description=schedule.describe(),
        warnings=tuple(schedule.lint()),
        slots=tuple(schedule.slots_us(now_us, count)),
    )

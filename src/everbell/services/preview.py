"""A schedule explained before it matters."""

from __future__ import annotations

import msgspec

from everbell.domain.errors import FieldProblem, ScheduleError, ValidationError
from everbell.domain.job import Dst, Job, compile_schedule
from everbell.domain.run import BY_HAND, Run
from everbell.domain.schedule import parse_schedule
from everbell.domain.schedule.explain import Explanation, Slot, explain, mark_slots
from everbell.ports.store import RunFilter
from everbell.services.context import Services
from everbell.services.validate import MAX_SCHEDULE, at_field, zone_problem

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule with all that decides its slots. ``after_us`` None = from now on."""

    schedule: str
    timezone: str = "UTC"
    count: int = 5
    after_us: int | None = None
    start_us: int | None = None
    end_us: int | None = None
    exclude: tuple[str, ...] = ()
    dst: Dst = Dst()
    week_start: str = "monday"


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule's own zone, and what there is to say about it."""

    timezone: str
    explained: Explanation


def preview(services: Services, asked: Question) -> Preview:
    """Explain a schedule as a job made now would have it.

    Raises ScheduleError, ValidationError (zone, length, week start, bounds).
    """
    wrong = zone_problem(asked.timezone)
    if len(asked.schedule) > MAX_SCHEDULE:
        wrong = FieldProblem("/schedule", f"is {len(asked.schedule)} characters long")
    elif asked.week_start.lower() not in _DAYS:
        wrong = FieldProblem("/week_start", f"is {asked.week_start[:40]!r}", hint="as in monday")
    elif asked.start_us is not None and asked.end_us is not None and asked.end_us < asked.start_us:
        wrong = FieldProblem("/end_at", "is before start_at", hint="give a later end")
    if wrong is not None:
        message = f"{wrong.pointer} {wrong.message}"
        raise ValidationError(message, hint=wrong.hint, problems=(wrong,))
    now_us = services.clock.now_us()
    try:
        schedule = parse_schedule(
            asked.schedule,
            asked.timezone,
            anchor_us=now_us if asked.start_us is None else asked.start_us,
            start_us=asked.start_us,
            end_us=asked.end_us,
            dst_gap=asked.dst.gap,
            dst_overlap=asked.dst.overlap,
            week_start=asked.week_start.lower(),
            exclude=asked.exclude,
        )
    except ScheduleError as error:
        raise at_field(error, "/schedule") from None
    after_us = now_us if asked.after_us is None else asked.after_us
    return Preview(timezone=schedule.tz, explained=explain(schedule, after_us, asked.count))


async def job_slots(services: Services, job: Job, count: int) -> tuple[str, tuple[Slot, ...]]:
    """Return a job's zone and its next planned instants, enabled or not.

    A slot that a person skipped ahead of its time is among them, and its note says so.
    """
    schedule = compile_schedule(job.definition, job.uuid, job.created_us)
    if schedule is None:
        return job.definition.timezone, ()
    slots = schedule.slots_us(services.clock.now_us(), count)
    if not slots:
        return schedule.tz, ()
    where = RunFilter(
        job_id=job.id,
        states=("skipped",),
        triggers=("schedule",),
        from_us=slots[0],
        to_us=slots[-1],
    )
    skipped = {run.key.slot_us: run for run in await services.store.list_runs(where, count)}
    return schedule.tz, tuple(
        _with_fate(one, skipped.get(one.at_us)) for one in mark_slots(schedule, slots)
    )


def _with_fate(slot: Slot, run: Run | None) -> Slot:
    if run is None or not run.reason.startswith(BY_HAND):
        return slot
    why = run.reason.removeprefix(BY_HAND).removeprefix(": ")
    note = "skipped by hand" + (f": {why}" if why else "")
    return msgspec.structs.replace(slot, note=f"{note}; {slot.note}" if slot.note else note)

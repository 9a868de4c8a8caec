"""Slots of the past that have no successful run, run now."""

from __future__ import annotations

from typing import Literal

from everbell.domain.errors import (
    ConflictError,
    FieldProblem,
    LimitError,
    ScheduleError,
    ValidationError,
)
from everbell.domain.job import US, Job, Record, compile_schedule
from everbell.domain.run import FINAL, Run, RunKey
from everbell.domain.schedule import Schedule
from everbell.ports.observer import Change
from everbell.ports.store import NewRun, RunFilter
from everbell.services.audit import noted
from everbell.services.context import Actor, Services

NAME = "backfill"
"""With a number: the k-th try to fill a slot; a repeated request finds it and starts nothing."""
MOST = 1_000
SLOTS_MAX = 100_000
PAGE_ROWS = 1_000
TRIES_MAX = 100


class Slot(Record, frozen=True):
    """A slot to be filled. ``before``: what became of it so far; ``run`` once it is queued."""

    slot_us: int
    before: str
    run: Run | None = None


class Filled(Record, frozen=True):
    """The slots without a successful run, oldest first; ``more`` of them are left out.

    ``done`` slots had one, and ``waiting`` ones are being filled already.
    """

    slots: tuple[Slot, ...]
    done: int
    waiting: int
    more: int
    started: bool


class Asked(Record, frozen=True):
    """Slots from ``from_us`` to ``to_us``, both inclusive; at most ``most`` are run."""

    from_us: int
    to_us: int
    most: int = 100
    dry_run: bool = False
    reason: str = ""


async def backfill(services: Services, actor: Actor, job: Job, asked: Asked) -> Filled:
    """Queue a run for each slot of the job's schedule, as it is now, that has no successful one.

    They run as the overlap policy lets them, oldest first. The target is given the slot that it
    fills. Raises ValidationError (range), LimitError, ConflictError (the job can't run them).
    """
    _check_range(services, asked)
    schedule = _checked(job, asked)
    slots = schedule.slots_us(asked.from_us - 1, SLOTS_MAX + 1, asked.to_us)
    if len(slots) > SLOTS_MAX:
        raise LimitError(
            f"more than {SLOTS_MAX} slots lie between", hint="name a shorter time, part by part"
        )
    rows = await _rows(services, job, asked)
    done = waiting = 0
    empty: list[tuple[Slot, int]] = []
    for slot_us in slots:
        found = rows.get(slot_us, {})
        states = {run.state for run in found.values()}
        if "succeeded" in states:
            done += 1
        elif any(state not in FINAL for state in states):
            waiting += 1
        else:
            empty.append((Slot(slot_us=slot_us, before=_before(found)), _next_try(found)))
    chosen = empty[: asked.most]
    if not asked.dry_run:
        filled = [await _queue(services, actor, job, slot, (k, asked.reason)) for slot, k in chosen]
        services.hints.changed(Change())
    else:
        filled = [slot for slot, _ in chosen]
    return Filled(
        slots=tuple(filled),
        done=done,
        waiting=waiting,
        more=len(empty) - len(chosen),
        started=not asked.dry_run,
    )


def _check_range(services: Services, asked: Asked) -> None:
    now_us = services.clock.now_us()
    days = services.settings.engine.history_days
    problem = None
    if not 1 <= asked.most <= MOST:
        problem = FieldProblem("/max", f"is {asked.most}", hint=f"1 to {MOST}")
    elif asked.to_us < asked.from_us:
        problem = FieldProblem("/to", "is before from", hint="both ends belong to the range")
    elif asked.to_us > now_us:
        problem = FieldProblem("/to", "is ahead: those slots run by themselves", hint="now at most")
    elif asked.from_us < now_us - int(days * 86_400 * US):
        problem = FieldProblem(
            "/from",
            f"is older than the {days:g} days that runs are kept",
            hint="what ran then is forgotten (setting engine.history_days)",
        )
    if problem is not None:
        raise ValidationError("nothing can be filled", hint=problem.hint, problems=(problem,))


def _checked(job: Job, asked: Asked) -> Schedule:
    trouble = ""
    if not job.enabled:
        trouble = "disabled"
    elif job.parked or job.quarantined:
        trouble = "parked" if job.parked else "quarantined"
    if trouble:
        hint = f"see `everbell why {job.id}`; enable or resolve it first"
        raise ConflictError(f"job {job.id} is {trouble}: it would not run them", hint=hint)
    if job.definition.overlap == "replace" and not asked.dry_run:
        raise ConflictError(
            "overlap policy `replace` would cancel all but the newest of them",
            hint="set overlap to queue or allow for the time of the backfill",
        )
    try:
        schedule = compile_schedule(job.definition, job.uuid, job.created_us)
    except ScheduleError as error:
        raise ConflictError(f"job {job.id}: {error.message}", hint=error.hint) from error
    if schedule is None:
        raise ConflictError(f"job {job.id} has no schedule", hint="there are no slots to fill")
    return schedule


async def _rows(services: Services, job: Job, asked: Asked) -> dict[int, dict[str, Run]]:
    """Return what became of slots: planned rows, and earlier tries to fill them."""
    triggers: tuple[Literal["schedule", "catch_up", "backfill"], ...]
    triggers = ("schedule", "catch_up", "backfill")
    where = RunFilter(job_id=job.id, from_us=asked.from_us, to_us=asked.to_us, triggers=triggers)
    found: dict[int, dict[str, Run]] = {}
    before: RunKey | None = None
    while True:
        page = await services.store.list_runs(where, PAGE_ROWS, before)
        for run in page:
            found.setdefault(run.key.slot_us, {})[run.key.trigger_id] = run
        if len(page) < PAGE_ROWS:
            return found
        before = page[-1].key


def _before(found: dict[str, Run]) -> str:
    tried = _next_try(found) - 1
    last = found.get(f"{NAME}{tried}") or found.get("")
    if last is None:
        return "no row"
    return f"{last.state} ({last.reason})" if last.reason else last.state


def _next_try(found: dict[str, Run]) -> int:
    return next(k for k in range(1, TRIES_MAX + 1) if f"{NAME}{k}" not in found or k == TRIES_MAX)


async def _queue(
    services: Services, actor: Actor, job: Job, slot: Slot, about: tuple[int, str]
) -> Slot:
    number, reason = about
    now_us = services.clock.now_us()
    run = await noted(services, actor, "run.backfill").enqueue(
        NewRun(
            key=RunKey(slot.slot_us, job.id, f"{NAME}{number}"),
            project_id=job.project_id,
            version=job.version,
            trigger="backfill",
            due_us=now_us,
            reason=reason or f"was {slot.before}",
        ),
        now_us,
    )
    return Slot(slot_us=slot.slot_us, before=slot.before, run=run)

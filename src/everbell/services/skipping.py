"""A slot that a person leaves out, and a run by hand in its place."""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from everbell.domain.decision import Instead, LeftBehind, Mark
from everbell.domain.errors import (
    ConflictError,
    FieldProblem,
    NotFoundError,
    ScheduleError,
    StoreConflict,
    ValidationError,
)
from everbell.domain.job import US, Job, compile_schedule
from everbell.domain.run import BY_HAND, FINAL, Run, RunKey
from everbell.domain.schedule import Schedule
from everbell.ports.observer import Change
from everbell.ports.store import RunFilter
from everbell.services import jobs
from everbell.services.audit import noted
from everbell.services.context import Actor, Services, VersionMismatch
from everbell.services.holds import MAX_REASON

AHEAD_MAX = 1_000
"""Slots of one job that may be skipped ahead of their time."""
LATEST_US = 366 * 86_400 * US
"""How far ahead a run may be put in the place of a slot."""


class Wish(NamedTuple):
    """Which slot (None = the next one), and why; ``instead`` = run at ``at_us`` (None = now)."""

    slot_us: int | None = None
    reason: str = ""
    instead: bool = False
    at_us: int | None = None
    expected: int | None = None


class Skipped(NamedTuple):
    """The slot's row, and the run in its place if one was asked for."""

    job: Job
    row: Run
    run: Run | None


async def skip(services: Services, actor: Actor, job: Job, wish: Wish) -> Skipped:
    """Decide a coming slot by hand: it does not run. A slot named again is skipped once.

    Raises ConflictError: no slot is ahead, or it is claimed already; ValidationError: no such
    slot, a time that is over; VersionMismatch.
    """
    _check(wish, services.clock.now_us())
    for _ in range(jobs.TRIES):
        if wish.expected is not None and job.version != wish.expected:
            raise VersionMismatch(f"job {job.id} is at version {job.version}, not {wish.expected}")
        try:
            return await _skip(services, actor, job, wish)
        except StoreConflict:
            job = await services.store.get_job(job.id)
    raise ConflictError(f"job {job.id} keeps changing", hint="try again")


def _check(wish: Wish, now_us: int) -> None:
    problem = None
    if len(wish.reason) > MAX_REASON:
        problem = FieldProblem("/reason", "is too long", hint=f"at most {MAX_REASON} characters")
    elif wish.at_us is not None and not now_us - US <= wish.at_us <= now_us + LATEST_US:
        problem = FieldProblem("/at", "is over, or more than a year ahead", hint="a coming time")
    if problem is not None:
        raise ValidationError("the slot can't be skipped", hint=problem.hint, problems=(problem,))


async def _skip(services: Services, actor: Actor, job: Job, wish: Wish) -> Skipped:
    schedule, cursor_us = _planned(job)
    now_us = services.clock.now_us()
    where = RunFilter(job_id=job.id, from_us=now_us + 1, triggers=("schedule", "catch_up"))
    rows = {run.key.slot_us: run for run in await services.store.list_runs(where, AHEAD_MAX)}
    slot_us = _wanted(job, schedule, wish, rows, now_us)
    if slot_us in rows:
        found = rows[slot_us]
        return Skipped(job, found, await _instead_of(services, found))
    key, instead = RunKey(slot_us, job.id), None
    if wish.instead:
        at_us = max(wish.at_us or 0, now_us)
        said = f"instead of {key.id}" + (f": {wish.reason}" if wish.reason else "")
        instead = Instead(at_us=at_us, trigger_id=f"i{slot_us}", reason=said)
    why = BY_HAND
    if instead is not None:
        why += f": {RunKey(instead.at_us, job.id, instead.trigger_id).id} runs instead"
    why += f": {wish.reason}" if wish.reason else ""
    behind = LeftBehind(
        cursor_us=cursor_us,
        marks=(Mark(slot_us=slot_us, state="skipped", reason=why),),
        instead=instead,
    )
    next_us = schedule.next_us(slot_us) if slot_us == cursor_us else cursor_us
    store = noted(services, actor, "job.run_instead" if wish.instead else "job.skip_next", job)
    stored, revoked = await store.change_job(
        replace(job, next_slot_us=next_us, updated_us=now_us), job.version, now_us, behind
    )
    services.hints.changed(Change(jobs=(job.id,), revoked=revoked.keys))
    row = await services.store.get_run(key)
    return Skipped(stored, row, await _instead_of(services, row))


def _planned(job: Job) -> tuple[Schedule, int]:
    """Return schedule and cursor. Raises ConflictError if the job plans nothing."""
    trouble = job.quarantined and f"quarantined: {job.quarantined}"
    if not job.enabled:
        trouble = "disabled: no slots are planned"
    try:
        schedule = compile_schedule(job.definition, job.uuid, job.created_us)
    except ScheduleError as error:
        raise ConflictError(f"job {job.id}: {error.message}", hint=error.hint) from error
    if not trouble and (schedule is None or job.next_slot_us is None):
        trouble = "without a slot ahead"
    if trouble or schedule is None or job.next_slot_us is None:
        raise ConflictError(f"job {job.id} is {trouble}", hint="there is no slot to skip")
    return schedule, job.next_slot_us


def _wanted(job: Job, schedule: Schedule, wish: Wish, rows: dict[int, Run], now_us: int) -> int:
    """Return the slot to be skipped; it may be skipped already if it was named."""
    slot_us = wish.slot_us
    if slot_us is not None and (slot_us <= now_us or schedule.next_us(slot_us - 1) != slot_us):
        problem = FieldProblem(
            "/slot", "is no coming slot of the job", hint=f"GET /jobs/{job.id}/next lists them"
        )
        raise ValidationError("the slot can't be skipped", hint=problem.hint, problems=(problem,))
    if slot_us is None:
        slot_us = schedule.next_us(now_us)
        while slot_us is not None and slot_us in rows and rows[slot_us].state == "skipped":
            slot_us = schedule.next_us(slot_us)
    if slot_us is None:
        raise ConflictError(f"job {job.id} has no slot ahead", hint="there is nothing to skip")
    row = rows.get(slot_us)
    if row is not None and not row.reason.startswith(BY_HAND):
        raise ConflictError(
            f"the slot is decided already: run {row.id} is {row.state}",
            hint="" if row.state in FINAL else f"stop it with `everbell run cancel {row.id}`",
        )
    return slot_us


async def _instead_of(services: Services, row: Run) -> Run | None:
    """Return the run in the place of a skipped slot, if the row names one."""
    words = row.reason.split(": ")
    if len(words) < 2 or not words[1].endswith(" runs instead"):
        return None
    try:
        return await services.store.get_run(RunKey.parse(words[1].removesuffix(" runs instead")))
    except NotFoundError:
        return None

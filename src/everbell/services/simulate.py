"""What an outage would do to the jobs: the planner on a virtual clock; no node, nothing stored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from everbell.domain.errors import FieldProblem, ScheduleError, ValidationError
from everbell.domain.job import US, Job, Record, compile_schedule
from everbell.domain.outage import Fate, Outage, Rehearsal
from everbell.domain.planner import Limits
from everbell.domain.schedule.explain import mark_slots
from everbell.ports.store import JobFilter, Page
from everbell.services.context import Actor, Services
from everbell.services.validate import zone_problem

DOWN_MAX = 20
FATES_MAX = 200
TAKES_MAX_S = 86_400.0
_SPAN = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Asked(Record, frozen=True):
    """``down``: ``HH:MM-HH:MM``, local in ``zone`` on ``day``; an end before its start is on the
    next day. ``takes_s``: how long each run is taken to last.
    """

    down: tuple[str, ...]
    day: date
    zone: str = "UTC"
    takes_s: float = 0.0
    project_id: int | None = None
    job: Job | None = None
    after: int = 0
    limit: int = 50


class Told(Record, frozen=True):
    """A fate, and what a clock change does to its slot."""

    fate: Fate
    note: str = ""


class JobTold(Record, frozen=True):
    """One job: ``counts`` of slots by what becomes of them; ``more`` fates are left out."""

    job: Job
    counts: dict[str, int]
    fates: tuple[Told, ...]
    more: int = 0
    note: str = ""


class Simulated(Record, frozen=True):
    """The outages as instants, and each job. ``after`` given = more jobs follow."""

    outages: tuple[Outage, ...]
    zone: str
    jobs: tuple[JobTold, ...]
    after: int | None = None


async def simulate(services: Services, actor: Actor, asked: Asked) -> Simulated:
    """Tell what becomes of slots while no node is up. Raises ValidationError."""
    outages = outages_of(asked)
    if not 0 <= asked.takes_s <= TAKES_MAX_S:
        raise _wrong("/takes", f"is {asked.takes_s:g}", "seconds, 0 to 86400")
    engine = services.settings.engine
    limits = Limits(
        look_ahead_us=int(engine.look_ahead * US), grace_us=int(engine.misfire_grace * US)
    )
    after = None
    if asked.job is not None:
        found = [asked.job]
    else:
        ids = actor.project_ids if asked.project_id is None else (asked.project_id,)
        where = JobFilter(project_ids=ids, after=asked.after, enabled=True)
        found, total = await services.store.list_jobs(where, Page(limit=asked.limit))
        after = found[-1].id if total > len(found) else None
    told = []
    for job in found:
        told.append(_job(job, outages, limits, int(asked.takes_s * US)))
        # Other requests get their turn.
        await services.clock.sleep(0)
    return Simulated(outages=tuple(outages), zone=asked.zone, jobs=tuple(told), after=after)


def outages_of(asked: Asked) -> list[Outage]:
    """Read the times of an outage. Raises ValidationError."""
    if zone_problem(asked.zone) is not None:
        raise _wrong("/zone", f"is {asked.zone[:40]!r}", "an IANA name, as in Europe/Berlin")
    zone = ZoneInfo(asked.zone)
    if not 1970 < asked.day.year < 9000:
        raise _wrong("/date", f"is {asked.day}", "as in 2027-03-28")
    if not 0 < len(asked.down) <= DOWN_MAX:
        raise _wrong("/down", f"names {len(asked.down)} outages", f"1 to {DOWN_MAX}")
    found: list[Outage] = []
    for text in asked.down:
        parts = _SPAN.fullmatch(text.strip())
        if parts is None:
            raise _wrong("/down", f"is {text[:40]!r}", "as in 02:00-05:00")
        hours = [int(part) for part in parts.groups()]
        start = _instant(asked.day, hours[0], hours[1], zone, fold=0)
        later = asked.day if hours[2:] > hours[:2] else asked.day + timedelta(days=1)
        end = _instant(later, hours[2], hours[3], zone, fold=1)
        if end > start:
            found.append(Outage(start, end))
    if not found:
        raise _wrong("/down", "is over at once: that hour is left out", "another time of that day")
    return _merged(sorted(found))


def _merged(outages: Sequence[Outage]) -> list[Outage]:
    merged: list[Outage] = []
    for one in outages:
        if merged and one.from_us <= merged[-1].to_us:
            merged[-1] = Outage(merged[-1].from_us, max(merged[-1].to_us, one.to_us))
        else:
            merged.append(one)
    return merged


def _instant(day: date, hour: int, minute: int, zone: ZoneInfo, *, fold: int) -> int:
    """Return a local time as an instant; one that is left out lies right after the gap."""
    if hour == 24:
        day, hour, minute = day + timedelta(days=1), 0, 0
    local = datetime.combine(day, time(hour, minute, fold=fold), zone)
    instant = local.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None):
        instant = local.replace(fold=0).astimezone(UTC)
    return (instant - _EPOCH) // timedelta(microseconds=1)


def _wrong(pointer: str, message: str, hint: str) -> ValidationError:
    problem = FieldProblem(pointer, message, hint=hint)
    return ValidationError(f"{pointer} {message}", hint=hint, problems=(problem,))


def _job(job: Job, outages: Sequence[Outage], limits: Limits, takes_us: int) -> JobTold:
    try:
        schedule = compile_schedule(job.definition, job.uuid, job.created_us)
    except ScheduleError as error:
        return JobTold(job=job, counts={}, fates=(), note=f"can't be read: {error.message}")
    if schedule is None:
        return JobTold(job=job, counts={}, fates=(), note="has no schedule: runs only when told")
    rehearsal = Rehearsal(job.definition, schedule, limits, takes_us)
    fates = rehearsal.run(outages)
    counts: Counter[str] = Counter()
    for fate in fates:
        counts[fate.what] += fate.count
    slots = sorted({fate.slot_us for fate in fates[:FATES_MAX]})
    notes = {one.at_us: one.note for one in mark_slots(schedule, slots)}
    note = "" if rehearsal.complete else "too many slots: what follows was not simulated"
    if not job.enabled:
        note = "is disabled now"
    elif job.parked or job.quarantined:
        note = "is parked or quarantined now"
    return JobTold(
        job=job,
        counts=dict(sorted(counts.items())),
        fates=tuple(Told(fate=one, note=notes[one.slot_us]) for one in fates[:FATES_MAX]),
        more=max(len(fates) - FATES_MAX, 0),
        note=note,
    )

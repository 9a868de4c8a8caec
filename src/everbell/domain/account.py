"""The account of a job's slots: what its versions planned, against the rows of the ledger.

Pure, and a page at a time, so that a year of a job that runs every second needs no memory. Both
``everbell verify`` and the simulation judge by it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from everbell.domain.errors import ScheduleError
from everbell.domain.job import Job, JobVersion, Record, compile_schedule
from everbell.domain.run import BY_HAND, Run
from everbell.domain.schedule import Schedule

SLACK_US = 100_000
"""The clocks of the nodes differ by less than this."""

Kind = Literal["gap", "undecided", "no_slot", "wrong_count", "double", "not_final"]


class Finding(Record, frozen=True):
    """Something that does not add up. ``count`` slots, from ``first_us`` to ``last_us``.

    ``gap``: slots without a row. ``undecided``: the same from the job's cursor on. ``no_slot``: a
    row that the schedule does not know. ``wrong_count``: a range that counts other slots than the
    schedule has. ``double``: slots with two rows. ``not_final``: a row that is long overdue.
    ``why`` explains it; empty = nothing does.
    """

    kind: Kind
    first_us: int
    last_us: int
    count: int = 1
    run: str = ""
    detail: str = ""
    why: str = ""


class Period(NamedTuple):
    """The time of one version: its slots up to ``until_us`` need a row, up to ``reach_us`` may."""

    version: JobVersion
    until_us: int
    reach_us: int


class Slots(NamedTuple):
    """The slots in ``(after_us, until_us]``; the value tells whether one must have a row."""

    after_us: int
    until_us: int
    must: dict[int, bool]


def periods_of(
    versions: Sequence[JobVersion],
    end_us: int,
    look_ahead_us: int,
    highest: Mapping[int, int] | None = None,
) -> list[Period]:
    """Return the enabled times of a job's versions, up to ``end_us``.

    The last look-ahead is not judged. ``highest``: how far the clock had been, per version, where
    it is known to have been set back.
    """
    found: list[Period] = []
    for index, version in enumerate(versions):
        if not version.enabled:
            continue
        last = index + 1 == len(versions)
        until = end_us if last else versions[index + 1].since_us
        reach = max(until, (highest or {}).get(version.version, until)) + look_ahead_us
        found.append(Period(version, until - (look_ahead_us if last else 0), reach))
    return found


def set_back(versions: Sequence[JobVersion]) -> list[tuple[int, int]]:
    """Return times that the clock passed twice, as far as the versions' times show it."""
    found: list[tuple[int, int]] = []
    highest = 0
    for version in versions:
        if version.since_us < highest:
            found.append((version.since_us, highest))
        highest = max(highest, version.since_us)
    return found


class _Range:
    """A row while the slots that it covers go by."""

    __slots__ = ("inside", "must", "row", "until_us", "whole")

    def __init__(self, row: Run, *, whole: bool) -> None:
        self.row = row
        self.until_us = row.key.slot_us if row.until_us is None else row.until_us
        self.whole = whole
        self.must = self.inside = 0


class Account:
    """Compares slots with rows in order of time; one use per job.

    ``twice``: times in which a slot may be without a row, for the clock was set back there.
    ``open_us``: the cursor; what has no row from there on is undecided, not a gap.
    """

    def __init__(
        self,
        job: Job,
        versions: Sequence[JobVersion],
        periods: Sequence[Period],
        *,
        twice: Sequence[tuple[int, int]] = (),
        open_us: int | None = None,
    ) -> None:
        self._job = job
        self._versions = {one.version: one for one in versions}
        self._periods = periods
        self._twice = twice
        self._open_us = open_us
        self._schedules: dict[int, Schedule | None] = {}
        self._ranges: list[_Range] = []
        self._gap: Finding | None = None
        self.unreadable: set[int] = set()

    def slots(self, after_us: int, until_us: int, most: int) -> Slots:
        """Return the next slots, about ``most`` of them; the page ends where they end."""
        lists: list[tuple[Period, list[int]]] = []
        for period in self._periods:
            first = max(period.version.since_us - SLACK_US, after_us)
            last = min(period.reach_us + SLACK_US, until_us)
            schedule = self._schedule(period.version) if first < last else None
            if schedule is not None:
                found = schedule.slots_us(first, most, last)
                if len(found) == most:
                    until_us = min(until_us, found[-1])
                lists.append((period, found))
        must: dict[int, bool] = {}
        for period, found in lists:
            since = period.version.since_us
            for slot in found:
                if slot <= until_us:
                    needed = since < slot <= period.until_us
                    must[slot] = must.get(slot, False) or needed
        for low, high in self._twice:
            must.update({slot: False for slot in must if low < slot <= high})
        return Slots(after_us, until_us, must)

    def resume(self, row: Run) -> None:
        """Take a range that began before the first page; its count is not judged."""
        self._ranges.append(_Range(row, whole=False))

    @property
    def in_range(self) -> bool:
        """Whether a row reaches beyond the last page."""
        return bool(self._ranges)

    def page(self, slots: Slots, rows: Iterable[Run]) -> Iterator[Finding]:
        """Compare a page of slots with the rows of planned slots of the same time, in order."""
        order = sorted(slots.must)
        covered: set[int] = set()
        going, self._ranges = self._ranges, []
        for row in rows:
            going.append(_Range(row, whole=True))
            if row.key.slot_us not in slots.must and not self._by_hand(row):
                yield _of_row("no_slot", row, "the schedule has no such slot")
        for item in going:
            inside = self._inside(item, order, slots)
            again = [slot for slot in inside if slot in covered and not self._passed_twice(slot)]
            if again:
                yield Finding(
                    kind="double",
                    first_us=again[0],
                    last_us=again[-1],
                    count=len(again),
                    run=item.row.id,
                    detail="another row accounts for it too",
                )
            covered.update(inside)
            item.inside += len(inside)
            item.must += sum(slots.must[slot] for slot in inside)
            if item.until_us > slots.until_us:
                self._ranges.append(item)
            elif item.whole and not item.must <= item.row.count <= item.inside:
                yield from self._miscounted(item, slots)
        yield from self._gaps(order, slots, covered)

    def end(self) -> Iterator[Finding]:
        """Return what the last page left open."""
        if self._gap is not None:
            yield self._gap
            self._gap = None

    def _passed_twice(self, slot_us: int) -> bool:
        return any(low < slot_us <= high for low, high in self._twice)

    def _inside(self, item: _Range, order: list[int], slots: Slots) -> list[int]:
        first = max(item.row.key.slot_us, slots.after_us + 1)
        last = min(item.until_us, slots.until_us)
        inside = order[bisect_left(order, first) : bisect_right(order, last)]
        if item.row.count > 1:
            # A range counts the slots of the version that it was decided under.
            own = set(self._own(item.row.version, first - 1, last, item.row.count + 1))
            inside = [slot for slot in inside if slot in own]
        return inside

    def _miscounted(self, item: _Range, slots: Slots) -> Iterator[Finding]:
        row = item.row
        single = row.count == 1 and row.until_us is None
        if single and (row.key.slot_us not in slots.must or self._by_hand(row)):
            return
        yield _of_row("wrong_count", row, f"it counts {row.count}, the schedule has {item.inside}")

    def _gaps(self, order: list[int], slots: Slots, covered: set[int]) -> Iterator[Finding]:
        for slot in order:
            if slot in covered or not slots.must[slot]:
                if slot in covered:
                    yield from self.end()
                continue
            kind: Kind = "gap"
            if self._open_us is not None and slot >= self._open_us:
                kind = "undecided"
            if self._gap is not None and self._gap.kind != kind:
                yield from self.end()
            first, count = slot, 0
            if self._gap is not None:
                first, count = self._gap.first_us, self._gap.count
            self._gap = Finding(
                kind=kind, first_us=first, last_us=slot, count=count + 1, detail="no row"
            )

    def _by_hand(self, row: Run) -> bool:
        """Whether a person decided the slot, perhaps before the schedule changed."""
        if not row.reason.startswith(BY_HAND) or row.state != "skipped":
            return False
        return self._own(row.version, row.key.slot_us - 1, row.key.slot_us, 1) != []

    def _own(self, version: int, after_us: int, until_us: int, most: int) -> list[int]:
        found = self._versions.get(version)
        schedule = None if found is None else self._schedule(found)
        return [] if schedule is None else schedule.slots_us(after_us, most, until_us)

    def _schedule(self, version: JobVersion) -> Schedule | None:
        if version.version not in self._schedules:
            try:
                made = compile_schedule(version.definition, self._job.uuid, self._job.created_us)
            except ScheduleError:
                self.unreadable.add(version.version)
                made = None
            self._schedules[version.version] = made
        return self._schedules[version.version]


def _of_row(kind: Kind, row: Run, detail: str) -> Finding:
    last = row.key.slot_us if row.until_us is None else row.until_us
    return Finding(
        kind=kind,
        first_us=row.key.slot_us,
        last_us=last,
        count=row.count,
        run=row.id,
        detail=f"{row.state}{f' ({row.reason})' if row.reason else ''}: {detail}",
    )

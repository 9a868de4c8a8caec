"""What becomes of a due job: a pure function of its definition, its cursor and the time."""

from __future__ import annotations

from typing import Literal, NamedTuple

from everbell.domain.decision import Claim, Decision, DueJob, LeftBehind, Mark
from everbell.domain.errors import LimitError
from everbell.domain.job import US, Definition, Misfire, Record
from everbell.domain.run import Trigger
from everbell.domain.schedule import Schedule

SLOTS_MAX = 20_000
"""Slots of one job decided in one pass; a longer backlog takes several."""
SINGLE_ROWS_MAX = 10
"""More skipped or missed slots in a row than this become one ledger row with a range."""
QUEUE_MAX = 1000
"""Runs of one job that may wait in its queue; further slots are skipped."""


LEFT_BEHIND_MAX = 1_000_000
"""Undecided slots of one job that a change of it can account for at once."""


class Limits(Record, frozen=True):
    """How far ahead slots are claimed, and how late they may be before misfire policy decides.

    ``ranges`` False = a row for each slot: the store has rows inside of a range. ``hand_on``: the
    node runs nothing itself; its slots are queued at their instant, for nodes that do.
    """

    look_ahead_us: int
    grace_us: int
    ranges: bool = True
    hand_on: bool = False


class Plan(NamedTuple):
    """A decision, and when to look again.

    ``wait_until_us``: the next slot can't be decided before its time (a run is still active).
    ``replace``: the job's active runs are to be cancelled in favour of what was queued.
    ``decision`` None = nothing to store yet.
    """

    decision: Decision | None
    wait_until_us: int | None = None
    replace: bool = False


class _Fire(NamedTuple):
    slot_us: int
    trigger: Trigger


def plan(
    due: DueJob, definition: Definition, schedule: Schedule | None, now_us: int, limits: Limits
) -> Plan:
    """Decide every slot of ``due`` from its cursor up to the look-ahead.

    Marks come first to last; the cursor never moves past a slot that is not decided.
    """
    if schedule is None:
        return Plan(_decision(due, None, [], []))
    horizon = now_us + limits.look_ahead_us
    slots = _slots(due.next_slot_us, schedule, horizon)
    if len(slots) > SLOTS_MAX:
        held = [slot for slot in slots if slot < due.release_until_us and due.release_policy]
        if not held or len(held) == len(slots):
            return _drop_backlog(due, definition.misfire, slots, (now_us, limits.ranges), schedule)
        slots = held
    fires, marks = _choose(due, definition.misfire, slots, now_us, limits)
    return _Overlap(due, definition, now_us, limits).settle(slots, fires, marks, schedule)


def _slots(cursor_us: int, schedule: Schedule, until_us: int) -> list[int]:
    return [cursor_us, *schedule.slots_us(cursor_us, SLOTS_MAX, until_us)]


def _drop_backlog(
    due: DueJob, misfire: Misfire, slots: list[int], at: tuple[int, bool], schedule: Schedule
) -> Plan:
    """Give up the oldest part of a backlog that is too long for one pass.

    The newest slots that the policy could still run stay undecided for the next pass. Either all
    slots were held or none was.
    """
    now_us, ranges = at
    released = bool(due.release_policy) and slots[-1] < due.release_until_us
    wanted = QUEUE_MAX if released else max(misfire.max_catch_up, 1)
    keep = min(wanted, SLOTS_MAX // 2)
    dropped = [slot for slot in slots[: len(slots) - keep] if slot <= now_us]
    if not dropped:
        return Plan(None, slots[0])
    if released:
        marks = _marks(dropped, "skipped", "held", ranges=ranges)
    else:
        marks = _marks(dropped, "missed", "misfire", ranges=ranges)
    return Plan(_decision(due, schedule.next_us(dropped[-1]), [], marks))


def _choose(
    due: DueJob, misfire: Misfire, slots: list[int], now_us: int, limits: Limits
) -> tuple[list[_Fire], list[Mark]]:
    """Split slots into those to run and those to be marked."""
    if not due.release_policy and slots[0] >= now_us - limits.grace_us:
        return [_Fire(slot, "schedule") for slot in slots], []
    held_until = due.release_until_us if due.release_policy else 0
    held = [slot for slot in slots if slot < held_until]
    overdue = [slot for slot in slots if held_until <= slot < now_us - limits.grace_us]
    fresh = slots[len(held) + len(overdue) :]
    run_held = _released(due.release_policy, held)
    has_fresh_past = bool(fresh) and fresh[0] <= now_us
    run_late = _caught_up(misfire, overdue, now_us, superseded=has_fresh_past)
    fires = [_Fire(slot, "catch_up") for slot in (*run_held, *run_late)]
    fires += [_Fire(slot, "schedule") for slot in fresh]
    marks = _marks(_without(held, run_held), "skipped", "held", ranges=limits.ranges)
    marks += _marks(_without(overdue, run_late), "missed", "misfire", ranges=limits.ranges)
    return fires, marks


def leave_behind(
    cursor_us: int | None, schedule: Schedule | None, now_us: int, reason: str, *, ranges: bool
) -> LeftBehind | None:
    """Mark the undecided slots up to ``now_us`` of a job that gets another cursor.

    None = there are none. ``ranges`` False = a row for each slot.
    Raises LimitError if there are more than ``LEFT_BEHIND_MAX`` (``SLOTS_MAX`` without ranges).
    """
    if schedule is None or cursor_us is None or cursor_us > now_us:
        return None
    most = LEFT_BEHIND_MAX if ranges else SLOTS_MAX
    slots = [cursor_us, *schedule.slots_us(cursor_us, most, now_us)]
    if len(slots) > most:
        raise LimitError(
            f"more than {most} slots of the job are undecided",
            hint="release or resolve it first, and let a node account for them",
        )
    marks = _marks(slots, "skipped", reason, ranges=ranges)
    return LeftBehind(cursor_us=cursor_us, marks=tuple(marks))


def _without(slots: list[int], taken: list[int]) -> list[int]:
    """Taken slots are always the newest ones."""
    return slots[: len(slots) - len(taken)]


def _released(choice: str, held: list[int]) -> list[int]:
    if choice == "each":
        return held[-QUEUE_MAX:]
    return held[-1:] if choice == "once" else []


def _caught_up(misfire: Misfire, overdue: list[int], now_us: int, *, superseded: bool) -> list[int]:
    inside = [slot for slot in overdue if slot >= now_us - int(misfire.window_s * US)]
    if misfire.policy == "all":
        return inside[-misfire.max_catch_up :] if misfire.max_catch_up > 0 else []
    if misfire.policy == "latest" and not superseded:
        return inside[-1:]
    return []


def _marks(
    slots: list[int], state: Literal["skipped", "missed"], reason: str, *, ranges: bool
) -> list[Mark]:
    """Return a mark per slot, or one for all if they are many."""
    if len(slots) <= SINGLE_ROWS_MAX or not ranges:
        return [Mark(slot_us=slot, state=state, reason=reason) for slot in slots]
    whole = Mark(slot_us=slots[0], state=state, reason=reason, until_us=slots[-1], count=len(slots))
    return [whole]


def _decision(
    due: DueJob, next_slot_us: int | None, claims: list[Claim], marks: list[Mark]
) -> Decision:
    passed = next_slot_us is None or next_slot_us >= due.release_until_us
    return Decision(
        job_id=due.id,
        project_id=due.project_id,
        version=due.version,
        cursor_us=due.next_slot_us,
        next_slot_us=next_slot_us,
        claims=tuple(claims),
        marks=tuple(marks),
        clear_release=bool(due.release_policy) and passed,
    )


class _Overlap:
    """Applies the overlap policy to slots in order; one use per plan."""

    def __init__(self, due: DueJob, definition: Definition, now_us: int, limits: Limits) -> None:
        self.due = due
        self.policy = definition.overlap
        self.limit = None if definition.overlap == "allow" else max(definition.max_running, 1)
        self.shares = bool(definition.limits)
        self.through_queue = self.shares or limits.hand_on
        self.now_us = now_us
        self.active = due.active
        self.queued = due.queued
        self.claims: list[Claim] = []
        self.marks: list[Mark] = []
        self.replace = False

    def settle(
        self, slots: list[int], fires: list[_Fire], marks: list[Mark], schedule: Schedule
    ) -> Plan:
        """Return the decision up to the first slot that has to wait for its time."""
        wait: int | None = None
        for fire in fires:
            if not self._take(fire):
                wait = fire.slot_us
                break
        all_marks = sorted([*marks, *self.marks], key=lambda mark: mark.slot_us)
        if wait == self.due.next_slot_us and not all_marks:
            return Plan(None, wait, self.replace)
        cursor = wait if wait is not None else schedule.next_us(slots[-1])
        return Plan(_decision(self.due, cursor, self.claims, all_marks), wait, self.replace)

    def _take(self, fire: _Fire) -> bool:
        """Decide one slot; False = it must wait for its time."""
        behind_queue = self.queued > 0 and self.policy in {"queue", "replace"}
        room = self.limit is None or self.active < self.limit
        if not behind_queue and room and not self.through_queue:
            due_us = max(fire.slot_us, 0)
            self.claims.append(
                Claim(
                    slot_us=fire.slot_us,
                    due_us=due_us,
                    trigger=fire.trigger,
                    max_active=self.limit,
                )
            )
            self.active += 1
            return True
        if fire.slot_us > self.now_us:
            return False
        if self._is_overlap(fire):
            self._mark(fire, "skipped", "overlap")
        elif self.queued >= QUEUE_MAX:
            self._mark(fire, "skipped", "queue_full")
        else:
            waits = "limit" if self.shares else "worker"
            if behind_queue or not room:
                self.replace = self.replace or self.policy == "replace"
                waits = "queue" if room else "overlap"
            self._mark(fire, "queued", waits)
            self.queued += 1
        return True

    def _is_overlap(self, fire: _Fire) -> bool:
        """Whether ``skip`` drops the slot. Runs that go through the queue do not wait ahead."""
        if self.policy != "skip" or fire.trigger != "schedule":
            return False
        return not self.through_queue or self.active + self.queued >= (self.limit or 0)

    def _mark(self, fire: _Fire, state: Literal["skipped", "queued"], reason: str) -> None:
        self.marks.append(
            Mark(slot_us=fire.slot_us, state=state, reason=reason, trigger=fire.trigger)
        )

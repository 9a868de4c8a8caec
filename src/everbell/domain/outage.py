"""What an outage does to a job: the real planner on a clock that nobody waits for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from everbell.domain.decision import Decision, DueJob
from everbell.domain.job import Definition, Record
from everbell.domain.planner import Limits, plan
from everbell.domain.run import Trigger
from everbell.domain.schedule import Schedule

STEPS_MAX = 5_000
"""Steps of one job; more of them are not simulated, and the answer says so."""


class Outage(NamedTuple):
    """No node is up in ``[from_us, to_us)``."""

    from_us: int
    to_us: int


class Fate(Record, frozen=True):
    """What becomes of a slot, or of ``count`` slots up to ``until_us``.

    ``runs`` (on time), ``late``, ``catch_up``: at ``at_us``. ``again``: it was under way when the
    nodes went, and runs again at ``at_us``; ``lost`` if it may not. ``skipped``, ``missed`` with
    the ``reason``; ``cancelled`` by a newer one.
    """

    slot_us: int
    what: Literal["runs", "late", "catch_up", "again", "lost", "skipped", "missed", "cancelled"]
    at_us: int | None = None
    reason: str = ""
    until_us: int | None = None
    count: int = 1


class _Active(NamedTuple):
    slot_us: int
    end_us: int


class Rehearsal:
    """One job through outages; one use. ``complete`` False = it was cut off."""

    def __init__(
        self, definition: Definition, schedule: Schedule, limits: Limits, takes_us: int
    ) -> None:
        self._definition = definition
        self._schedule = schedule
        self._limits = limits
        self._takes_us = takes_us
        most = None if definition.overlap == "allow" else max(definition.max_running, 1)
        self._most = most
        self._cursor: int | None = None
        self._active: list[_Active] = []
        self._queue: list[tuple[int, Trigger]] = []
        self._wait_us: int | None = None
        self.fates: list[Fate] = []
        self.complete = True

    def run(self, outages: Sequence[Outage]) -> list[Fate]:
        """Return the fates from the last slot before the first outage to the first one after."""
        first, end = outages[0].from_us, outages[-1].to_us
        before = self._schedule.previous_us(first)
        begin = first - 1 if before is None else before
        self._cursor = self._schedule.next_us(begin - 1)
        now = begin - self._limits.look_ahead_us
        settled = self._schedule.next_us(end)
        for _ in range(STEPS_MAX):
            step = self._next_step(now)
            if step is None or (step > now and self._is_over(step, settled)):
                return self._in_order()
            now = self._awake(max(step, now), outages)
            self._finish(now)
            self._start_queued(now)
            self._decide(now, outages)
        self.complete = False
        return self._in_order()

    def _in_order(self) -> list[Fate]:
        return sorted(self.fates, key=lambda fate: (fate.slot_us, fate.at_us or 0))

    def _is_over(self, step_us: int, settled_us: int | None) -> bool:
        """Whether what comes now is ordinary again."""
        if self._queue or settled_us is None:
            return False
        return step_us > settled_us and (self._cursor is None or self._cursor > settled_us)

    def _next_step(self, now_us: int) -> int | None:
        steps = [one.end_us for one in self._active if one.end_us > now_us]
        if not self._queue and self._wait_us is None:
            steps.clear()
        if self._wait_us is not None:
            steps.append(max(self._wait_us, now_us))
        elif self._cursor is not None:
            steps.append(self._cursor - self._limits.look_ahead_us)
        if self._queue and not steps:
            steps.append(now_us)
        return min(steps, default=None)

    def _awake(self, now_us: int, outages: Sequence[Outage]) -> int:
        """Return when a node is next up, and let die what was under way before."""
        for outage in outages:
            if outage.from_us <= now_us < outage.to_us:
                now_us = outage.to_us
        for outage in outages:
            if outage.to_us <= now_us:
                self._interrupt(outage)
        return now_us

    def _interrupt(self, outage: Outage) -> None:
        for one in list(self._active):
            started = one.end_us - self._takes_us
            if not (started < outage.from_us < one.end_us):
                continue
            self._active.remove(one)
            if self._definition.delivery == "at_most_once":
                self.fates.append(Fate(slot_us=one.slot_us, what="lost", reason="node_died"))
                continue
            again = outage.to_us
            self._active.append(_Active(one.slot_us, again + self._takes_us))
            self.fates.append(
                Fate(slot_us=one.slot_us, what="again", at_us=again, reason="node_died")
            )

    def _finish(self, now_us: int) -> None:
        self._active = [one for one in self._active if one.end_us > now_us]

    def _start_queued(self, now_us: int) -> None:
        while self._queue and (self._most is None or len(self._active) < self._most):
            slot, trigger = self._queue.pop(0)
            self._start(slot, trigger, now_us)

    def _start(self, slot_us: int, trigger: Trigger, at_us: int) -> None:
        late = at_us - slot_us > self._limits.grace_us
        what: Literal["runs", "late", "catch_up"] = "late" if late else "runs"
        if trigger == "catch_up":
            what = "catch_up"
        self._active.append(_Active(slot_us, at_us + self._takes_us))
        self.fates.append(Fate(slot_us=slot_us, what=what, at_us=at_us))

    def _decide(self, now_us: int, outages: Sequence[Outage]) -> None:
        self._wait_us = None
        cursor = self._cursor
        # A slot after the last moment of a node is not claimed by it.
        room = [one.from_us - now_us - 1 for one in outages if one.from_us > now_us]
        ahead = max(min([self._limits.look_ahead_us, *room]), 0)
        if cursor is None or cursor > now_us + ahead:
            if cursor is not None and cursor <= now_us + self._limits.look_ahead_us:
                self._wait_us = cursor
            return
        due = DueJob(
            id=0,
            version=1,
            project_id=0,
            next_slot_us=cursor,
            active=len(self._active),
            queued=len(self._queue),
        )
        limits = replace(self._limits, look_ahead_us=ahead)
        made = plan(due, self._definition, self._schedule, now_us, limits)
        self._wait_us = made.wait_until_us
        if made.decision is not None:
            self._carry_out(made.decision, now_us)
        if made.replace:
            self._replace()
        self._start_queued(now_us)

    def _carry_out(self, decision: Decision, now_us: int) -> None:
        for mark in decision.marks:
            if mark.state == "queued":
                self._queue.append((mark.slot_us, mark.trigger))
                continue
            self.fates.append(
                Fate(
                    slot_us=mark.slot_us,
                    what=mark.state,
                    reason=mark.reason,
                    until_us=mark.until_us,
                    count=mark.count,
                )
            )
        for claim in decision.claims:
            self._start(claim.slot_us, claim.trigger, max(claim.due_us, now_us))
        self._cursor = decision.next_slot_us

    def _replace(self) -> None:
        """Overlap policy ``replace``: only the newest that waits goes on."""
        gone = [one.slot_us for one in self._active]
        gone += [slot for slot, _ in self._queue[:-1]]
        self._active.clear()
        del self._queue[:-1]
        self.fates += [Fate(slot_us=slot, what="cancelled", reason="replaced") for slot in gone]

"""Fire times that move when a job's schedule changes, and the load before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

from everbell.domain.schedule import Schedule

SLOTS_MAX = 10_000
"""Slots of one schedule that are compared; a busier one is compared over a shorter time."""
PLAN_MAX = 1_000_000
"""Slots that all comparisons of one plan may look at, a few seconds' work: each gets its share."""
TOTAL_MAX = 200_000
"""Slots counted for the load of all jobs of one plan, before and after each."""
SHOWN_MAX = 20
"""Slots of one kind that are named; the rest is counted."""
LONG, SHORT = 1.5, 0.5
"""A gap over an edit that is this much longer, or shorter, than either schedule's own is told."""
MINUTE_US = 60_000_000
HOUR_US = 3_600_000_000


class Seam(msgspec.Struct, frozen=True, kw_only=True):
    """What the edit does at the moment it is made.

    ``missed``: the time from the last slot to the next is at least half as long again as under
    either schedule. The slots that nothing runs (``slots_us``) are past under the new schedule,
    and those of the old one are dropped. ``doubled``: that time is at most half as long; the slot
    in ``slots_us`` runs what has just run.
    """

    kind: Literal["missed", "doubled"]
    last_us: int
    next_us: int | None
    slots_us: tuple[int, ...]


class Moves(msgspec.Struct, frozen=True, kw_only=True):
    """The slots of a job before and after a change, from ``from_us`` up to ``until_us``.

    ``gone`` and ``new`` slots are in one of both only, ``kept`` in both. ``until_us`` lies before
    the end of the window asked for if there are too many slots in it; ``whole`` tells.
    ``before_us`` and ``after_us`` are the next few of each.
    """

    from_us: int
    until_us: int
    whole: bool
    before_us: tuple[int, ...]
    after_us: tuple[int, ...]
    gone_us: tuple[int, ...]
    new_us: tuple[int, ...]
    gone: int
    new: int
    kept: int
    seam: Seam | None = None


def moves(
    before: Schedule | None,
    after: Schedule | None,
    now_us: int,
    until_us: int,
    since_us: int | None = None,
    *,
    most: int = SLOTS_MAX,
) -> Moves:
    """Compare the slots after ``now_us`` up to ``until_us``; None = no slots at all.

    ``since_us`` is when the old schedule came into force: what it says of earlier times was never
    run. None = no run is known, nothing is said of the moment of the edit. ``most`` bounds the
    slots of each side.
    """
    old, new = (
        [] if one is None else one.slots_us(now_us, most + 1, until_us) for one in (before, after)
    )
    ends = [found[most - 1] for found in (old, new) if len(found) > most]
    end_us = min(ends, default=until_us)
    olds = {at for at in old if at <= end_us}
    news = {at for at in new if at <= end_us}
    gone, come = sorted(olds - news), sorted(news - olds)
    return Moves(
        from_us=now_us,
        until_us=end_us,
        whole=not ends,
        before_us=tuple(old[:SHOWN_MAX]),
        after_us=tuple(new[:SHOWN_MAX]),
        gone_us=tuple(gone[:SHOWN_MAX]),
        new_us=tuple(come[:SHOWN_MAX]),
        gone=len(gone),
        new=len(come),
        kept=len(olds & news),
        seam=None if since_us is None else _seam(before, after, now_us, since_us),
    )


def _seam(
    before: Schedule | None, after: Schedule | None, now_us: int, since_us: int
) -> Seam | None:
    """Compare the gap over the edit with the gaps that either schedule has there by itself."""
    if before is None or after is None:
        return None
    last_us, next_us = before.previous_us(now_us + 1), after.next_us(now_us)
    if last_us is None or last_us < since_us:
        return None
    dropped_us, passed_us = before.next_us(now_us), after.previous_us(now_us + 1)
    if next_us is None:
        if dropped_us is None or passed_us is None or passed_us <= last_us:
            return None
        return _missed(after, last_us, now_us, None)
    gap_us = next_us - last_us
    gaps = [] if dropped_us is None else [dropped_us - last_us]
    gaps += [] if passed_us is None else [next_us - passed_us]
    if not gaps:
        return None
    if gap_us >= LONG * max(gaps) and passed_us is not None and passed_us > last_us:
        return _missed(after, last_us, now_us, next_us)
    if gap_us <= SHORT * min(gaps):
        return Seam(kind="doubled", last_us=last_us, next_us=next_us, slots_us=(next_us,))
    return None


def _missed(after: Schedule, last_us: int, now_us: int, next_us: int | None) -> Seam:
    lost = tuple(after.slots_us(last_us, SHOWN_MAX, now_us))
    return Seam(kind="missed", last_us=last_us, next_us=next_us, slots_us=lost)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How much a set of jobs starts, from ``from_us`` up to ``until_us``.

    ``per_hour`` is the mean. ``peak`` is the number of slots in the busiest minute, which begins
    at ``peak_us`` (the first of several); None = there is no slot.
    """

    from_us: int
    until_us: int
    per_hour: float
    peak: int
    peak_us: int | None


def loads(
    before: Sequence[Schedule], after: Sequence[Schedule], now_us: int, until_us: int
) -> tuple[Load, Load]:
    """Return the load of two sets of schedules over the same time.

    Bounded: each schedule gives its share of ``TOTAL_MAX`` slots; if one has more, both loads end
    where that share does.
    """
    share = max(TOTAL_MAX // max(len(before), len(after), 1), 10)
    known: dict[Schedule, list[int]] = {}
    for schedule in (*before, *after):
        if schedule not in known:
            known[schedule] = schedule.slots_us(now_us, share + 1, until_us)
    ends = [found[share - 1] for found in known.values() if len(found) > share]
    end_us = min(ends, default=until_us)
    first = _load([known[one] for one in before], now_us, end_us)
    return first, _load([known[one] for one in after], now_us, end_us)


def _load(slots: Sequence[Sequence[int]], now_us: int, end_us: int) -> Load:
    minutes: Counter[int] = Counter()
    for found in slots:
        minutes.update(at // MINUTE_US for at in found if at <= end_us)
    peak = max(minutes.values(), default=0)
    at = min((minute for minute, count in minutes.items() if count == peak), default=None)
    hours = (end_us - now_us) / HOUR_US
    return Load(
        from_us=now_us,
        until_us=end_us,
        per_hour=minutes.total() / hours if hours > 0 else 0.0,
        peak=peak,
        peak_us=None if at is None else at * MINUTE_US,
    )

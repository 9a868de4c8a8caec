"""What ``POST /apply`` takes and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from everbell.api.schemas import In, Key, Out, Owner, Time

Days = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": 366})]


class ApplyIn(In, frozen=True, kw_only=True):
    """All jobs of one owner. ``project`` is that of jobs that name none.

    ``prune`` removes the owner's other jobs: in ``project``, or everywhere if there is none; by
    default it does so if there is an owner. ``take_over`` changes jobs of other owners too.
    ``plan`` only tells what would be done, with the fire times of the next ``days``.
    """

    jobs: list[Any]
    owner: Owner = ""
    project: Key | None = None
    prune: bool | None = None
    take_over: bool = False
    plan: bool = False
    days: Days = 7


class FieldOut(Out, frozen=True, kw_only=True):
    """A field that changes, by the name it has in a job; null = it is not there."""

    field: str
    before: Any
    after: Any


class SeamOut(Out, frozen=True, kw_only=True):
    """What the edit does at the moment it is made: ``slots`` are missed, or run once more."""

    kind: Literal["missed", "doubled"]
    last: Time
    next: Time | None
    slots: tuple[Time, ...]


class MovesOut(Out, frozen=True, kw_only=True):
    """Slots of a job before and after, up to ``until``.

    ``gone`` and ``new`` name the first of those that are in one of both only; ``whole`` false =
    there are so many slots that fewer days were compared.
    """

    until: Time
    whole: bool
    before: tuple[Time, ...]
    after: tuple[Time, ...]
    gone: tuple[Time, ...]
    new: tuple[Time, ...]
    gone_count: int
    new_count: int
    kept_count: int
    edit: SeamOut | None


class StepOut(Out, frozen=True, kw_only=True):
    """What is done with one job. ``id`` null = a new one; ``moves`` null = no slot moves."""

    what: Literal["add", "change", "remove"]
    project: str
    job: str
    id: int | None
    timezone: str
    fields: tuple[FieldOut, ...]
    moves: MovesOut | None


class LoadOut(Out, frozen=True, kw_only=True):
    """Mean starts per hour, and the busiest minute; null = nothing starts."""

    per_hour: float
    peak: int
    peak_at: Time | None


class PlanOut(Out, frozen=True, kw_only=True):
    """What was done, or would be (``applied`` false).

    Loads are those of all jobs of the touched projects, up to ``load_until``.
    """

    applied: bool
    owner: str
    at: Time
    steps: tuple[StepOut, ...]
    added: int
    changed: int
    removed: int
    unchanged: int
    load_before: LoadOut
    load_after: LoadOut
    load_until: Time

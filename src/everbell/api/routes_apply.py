"""Jobs as a file says: the plan, and its doing."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from everbell.api import aliases
from everbell.api.call import Call, Endpoint, answer
from everbell.api.job_input import to_draft
from everbell.api.schemas_apply import (
    ApplyIn,
    FieldOut,
    LoadOut,
    MovesOut,
    PlanOut,
    SeamOut,
    StepOut,
)
from everbell.api.times import iso
from everbell.domain.changes import FieldChange
from everbell.domain.errors import FieldProblem, LimitError, ValidationError
from everbell.domain.moves import Load, Moves, Seam
from everbell.services.apply import Planned, Step, Wanted, apply, plan
from everbell.services.validate import Draft

MAX_DAYS = 366


async def apply_jobs(call: Call) -> Response:
    """Make the jobs of an owner what they should be; the same again changes nothing."""
    given = await call.body(ApplyIn)
    if not 1 <= given.days <= MAX_DAYS:
        problem = FieldProblem("/days", f"is {given.days}", hint=f"1 to {MAX_DAYS}")
        raise ValidationError("the plan can't be made", problems=(problem,))
    if given.prune and not given.owner:
        problem = FieldProblem("/prune", "needs an owner", hint="only an owner's jobs are removed")
        raise ValidationError("nothing tells which jobs to remove", problems=(problem,))
    drafts, said, notes = _drafts(call, given.jobs)
    wanted = Wanted(
        drafts=drafts,
        said=said,
        owner=given.owner,
        project=given.project,
        prune=bool(given.owner) if given.prune is None else given.prune,
        take_over=given.take_over,
        days=given.days,
    )
    do = plan if given.plan else apply
    planned = await do(call.services, call.actor, wanted)
    extra: dict[str, Any] = {"notes": notes} if notes else {}
    return answer(_shown(planned, given), **extra)


def _drafts(
    call: Call, bodies: list[Any]
) -> tuple[tuple[Draft, ...], tuple[frozenset[str], ...], list[str]]:
    """Return drafts, the native names that each body gives, and notes."""
    limit = call.services.settings.api.max_batch
    if len(bodies) > limit:
        hint = f"at most {limit} (setting api.max_batch): use several files, each with its owner"
        raise LimitError(f"{len(bodies)} jobs in one request", hint=hint)
    drafts: list[Draft] = []
    said: list[frozenset[str]] = []
    notes: list[str] = []
    wrong: list[ValidationError] = []
    for index, body in enumerate(bodies):
        pointer = f"/jobs/{index}"
        try:
            draft, told = to_draft(body, pointer)
        except ValidationError as error:
            wrong.append(error)
            continue
        if draft.definition.owner:
            hint = "one owner for all: beside `jobs`"
            wrong.append(_one(FieldProblem(f"{pointer}/owner", "is not set by a job", hint=hint)))
        drafts.append(draft)
        said.append(frozenset(aliases.unify(body, pointer).body))
        notes += [one for one in told if one not in notes]
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        problems = tuple(problem for error in wrong for problem in error.problems)
        message = f"{len(wrong)} jobs are wrong; nothing was changed"
        raise ValidationError(message, hint=problems[0].hint, problems=problems[:100])
    return tuple(drafts), tuple(said), notes


def _one(problem: FieldProblem) -> ValidationError:
    message = f"{problem.pointer} {problem.message}"
    return ValidationError(message, hint=problem.hint, problems=(problem,))


# --- answers -------------------------------------------------------------------------------------


def _at(at_us: int) -> str:
    return iso(at_us) or ""


def _ats(slots: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(_at(one) for one in slots)


def _shown(it: Planned, given: ApplyIn) -> PlanOut:
    count = {what: sum(step.what == what for step in it.steps) for what in _WHATS}
    return PlanOut(
        applied=not given.plan,
        owner=given.owner,
        at=_at(it.now_us),
        steps=tuple(_step(one) for one in it.steps),
        added=count["add"],
        changed=count["change"],
        removed=count["remove"],
        unchanged=it.unchanged,
        load_before=_load(it.before),
        load_after=_load(it.after),
        load_until=_at(it.after.until_us),
    )


_WHATS = ("add", "change", "remove")


def _step(it: Step) -> StepOut:
    if it.draft is not None:
        definition = it.draft.definition
    else:
        assert it.job is not None
        definition = it.job.definition
    return StepOut(
        what=it.what,
        project=it.project.name,
        job=it.name,
        id=None if it.job is None else it.job.id,
        timezone=definition.timezone,
        fields=tuple(_field(one) for one in it.fields),
        moves=None if it.moves is None else _moves(it.moves),
    )


# Names inside a stored definition that differ from those of a job's body.
_OUTSIDE = {
    "start_us": "start_at",
    "end_us": "end_at",
    "anchor_us": "anchor_at",
    "jitter_s": "jitter",
    "timeout_s": "timeout",
    "window_s": "window",
    "delay_s": "delay",
    "cap_s": "cap",
}


def _field(it: FieldChange) -> FieldOut:
    # Inside of an action the names are those of variables and headers.
    ours = it.path[0] not in {"action", "check"}
    path = [_OUTSIDE.get(name, name) for name in it.path] if ours else list(it.path)
    return FieldOut(
        field=".".join(path), before=_value(it.path, it.before), after=_value(it.path, it.after)
    )


def _value(path: tuple[str, ...], value: Any) -> Any:
    if path[-1] in {"start_us", "end_us", "anchor_us"} and isinstance(value, int):
        return iso(value)
    if path[0] in {"action", "check", "data"}:
        return value
    if isinstance(value, dict):
        return {_OUTSIDE.get(name, name): inner for name, inner in value.items()}
    if isinstance(value, list):
        return [_value(path, one) for one in value]
    return value


def _moves(it: Moves) -> MovesOut:
    return MovesOut(
        until=_at(it.until_us),
        whole=it.whole,
        before=_ats(it.before_us),
        after=_ats(it.after_us),
        gone=_ats(it.gone_us),
        new=_ats(it.new_us),
        gone_count=it.gone,
        new_count=it.new,
        kept_count=it.kept,
        edit=None if it.seam is None else _seam(it.seam),
    )


def _seam(it: Seam) -> SeamOut:
    return SeamOut(
        kind=it.kind, last=_at(it.last_us), next=iso(it.next_us), slots=_ats(it.slots_us)
    )


def _load(it: Load) -> LoadOut:
    return LoadOut(per_hour=round(it.per_hour, 3), peak=it.peak, peak_at=iso(it.peak_us))


APPLY_ROUTES = (
    Endpoint(
        method="POST",
        path="/apply",
        name="jobs_apply",
        summary="Make an owner's jobs what they should be",
        handler=apply_jobs,
        scope="write",
        body=ApplyIn,
        answer=PlanOut,
        errors=(404, 409, 413, 415, 422),
    ),
)

"""From a job's body to a draft: names unified, shapes checked, times read."""

from __future__ import annotations

from typing import Any

import msgspec

from everbell.api import aliases
from everbell.api.bodies import convert, unknown_field
from everbell.api.schemas import JobIn, JobOut, MisfireIn, RetryIn, ThenIn
from everbell.api.times import TIME_HINT, iso, parse_iso
from everbell.domain.errors import FieldProblem, ValidationError
from everbell.domain.job import Definition, Job, Misfire, Retry, Then
from everbell.services.validate import Draft

_FIELDS = [field.name for field in msgspec.structs.fields(JobIn)]
_SHOWN = frozenset(field.name for field in msgspec.structs.fields(JobOut))
# Shown, never set: a job that was read can be sent back with a change.
READ_ONLY = _SHOWN - set(_FIELDS) - set(aliases.ALIASES) | {"startdate"}


def to_draft(body: Any, pointer: str = "") -> tuple[Draft, tuple[str, ...]]:
    """Return a new job's draft, and notes. Raises ValidationError with every wrong field."""
    if not isinstance(body, dict):
        problem = FieldProblem(pointer, "is no JSON object", hint='a job: {"name": ...}')
        raise ValidationError("a job must be a JSON object", problems=(problem,))
    _no_unknown(body, pointer)
    unified = aliases.unify(body, pointer)
    return _draft(unified, pointer), unified.notes


def to_change(body: Any, job: Job, shown: JobOut, *, merge: bool) -> Draft:
    """Return the draft of a changed job: the whole body (PUT), or merged into it (PATCH).

    What an answer shows and nobody may set is ignored; the project can't change.
    """
    if not isinstance(body, dict):
        problem = FieldProblem("", "is no JSON object", hint='a job: {"name": ...}')
        raise ValidationError("a job must be a JSON object", problems=(problem,))
    body = _without_shown(body, msgspec.to_builtins(shown))
    _no_unknown(body, "")
    unified = aliases.unify(body)
    native = dict(unified.body)
    project = native.pop("project", None)
    if project is not None and project not in (job.project_id, shown.project_uuid, shown.project):
        name = unified.given.get("project", "project")
        problem = FieldProblem(f"/{name}", "can't change", hint="create the job there instead")
        raise ValidationError("a job stays in its project", problems=(problem,))
    if merge:
        native = _merged(_as_input(job), native)
    else:
        native.setdefault("enabled", job.enabled)
    changed = aliases.Unified(body=native, given=unified.given)
    return _draft(changed, "")


def _draft(unified: aliases.Unified, pointer: str) -> Draft:
    job = convert(unified.body, JobIn, pointer, unified.given)
    problems: list[FieldProblem] = []

    def instant(name: str, text: str | None) -> int | None:
        if text is None:
            return None
        try:
            return parse_iso(text)
        except ValueError as error:
            shown = unified.given.get(name, name)
            problems.append(FieldProblem(f"{pointer}/{shown}", str(error), hint=TIME_HINT))
            return None

    definition = Definition(
        name=job.name,
        action=job.action,
        description=job.description,
        schedule=job.schedule,
        override=job.override,
        exclude=job.exclude,
        timezone=job.timezone,
        start_us=instant("start_at", job.start_at),
        end_us=instant("end_at", job.end_at),
        anchor_us=instant("anchor_at", job.anchor_at),
        repeat=job.repeat,
        jitter_s=job.jitter,
        dst=job.dst,
        week_start=job.week_start,
        misfire=_misfire(job.misfire),
        overlap=job.overlap,
        max_running=job.max_running,
        retry=_retry(job.retry),
        timeout_s=job.timeout,
        on_failure=job.on_failure,
        delivery=job.delivery,
        data=job.data,
        check=job.check,
        then=tuple(Then(job=one.job, on=one.on, delay_s=one.delay) for one in job.then),
        limits=job.limits,
        tags=job.tags,
        owner=job.owner,
    )
    if problems:
        raise ValidationError("a time can't be read", problems=tuple(problems))
    return Draft(
        definition=definition,
        project=job.project,
        enabled=job.enabled,
        pointer=pointer,
        given=unified.given,
    )


def _misfire(given: MisfireIn) -> Misfire:
    return Misfire(policy=given.policy, window_s=given.window, max_catch_up=given.max_catch_up)


def _retry(given: RetryIn | None) -> Retry | None:
    if given is None:
        return None
    return Retry(
        max=given.max,
        delay_s=given.delay,
        multiplier=given.multiplier,
        cap_s=given.cap,
        jitter=given.jitter,
        on=given.on,
    )


def _show_misfire(stored: Misfire) -> MisfireIn:
    """Return a misfire policy under its outside names."""
    return MisfireIn(policy=stored.policy, window=stored.window_s, max_catch_up=stored.max_catch_up)


def _show_retry(stored: Retry | None) -> RetryIn | None:
    """Return a retry policy under its outside names."""
    if stored is None:
        return None
    return RetryIn(
        max=stored.max,
        delay=stored.delay_s,
        multiplier=stored.multiplier,
        cap=stored.cap_s,
        jitter=stored.jitter,
        on=stored.on,
    )


def in_outside_names(job: Job) -> dict[str, Any]:
    """Return all that may be said about a job, as it is stored, under the names of ``JobIn``."""
    it = job.definition
    return {
        "name": it.name,
        "action": it.action,
        "description": it.description,
        "schedule": it.schedule,
        "override": it.override,
        "exclude": it.exclude,
        "timezone": it.timezone,
        "start_at": iso(it.start_us),
        "end_at": iso(it.end_us),
        "anchor_at": iso(it.anchor_us),
        "repeat": it.repeat,
        "jitter": it.jitter_s,
        "dst": it.dst,
        "week_start": it.week_start,
        "misfire": _show_misfire(it.misfire),
        "overlap": it.overlap,
        "max_running": it.max_running,
        "retry": _show_retry(it.retry),
        "timeout": it.timeout_s,
        "on_failure": it.on_failure,
        "delivery": it.delivery,
        "data": it.data,
        "check": it.check,
        "then": tuple(ThenIn(job=one.job, on=one.on, delay=one.delay_s) for one in it.then),
        "limits": it.limits,
        "tags": it.tags,
        "owner": it.owner,
        "enabled": job.enabled,
    }


def _as_input(job: Job) -> dict[str, Any]:
    """Return a stored job as the body that would make it."""
    built: dict[str, Any] = msgspec.to_builtins(JobIn(**in_outside_names(job)))
    return built


def _merged(current: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Merge after RFC 7396, but ``data`` is replaced whole and an action of another kind too."""
    result = dict(current)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif name == "data" or not isinstance(value, dict) or _other_kind(name, value, current):
            result[name] = value
        else:
            inner = result.get(name)
            result[name] = _merged(inner if isinstance(inner, dict) else {}, value)
    return result


def _other_kind(name: str, value: dict[str, Any], current: dict[str, Any]) -> bool:
    if name not in {"action", "check"}:
        return False
    return value.get("kind", "") not in ("", (current.get(name) or {}).get("kind"))


def _without_shown(body: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    """Leave out what was merely sent back: read-only names, and repeated aliases."""

    def redundant(name: str, value: Any) -> bool:
        if name in READ_ONLY:
            return True
        target = aliases.RENAMED.get(name, ("", None))[0]
        same = name in shown and shown[name] == value
        return same and (target in body or target == "project")

    return {name: value for name, value in body.items() if not redundant(name, value)}


def _no_unknown(body: dict[str, Any], pointer: str) -> None:
    known = [*_FIELDS, *aliases.ALIASES]
    strangers = [name for name in body if name not in known]
    if not strangers:
        return
    problems = tuple(unknown_field(name, known, pointer) for name in strangers[:20])
    raise ValidationError(
        f"{problems[0].pointer} is unknown",
        hint=problems[0].hint,
        problems=problems,
    )

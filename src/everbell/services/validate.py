"""What a job may say: every limit, each with the field, the reason and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from everbell.domain.errors import FieldProblem, RefusedError, ScheduleError, UserError
from everbell.domain.job import Action, Definition, Retry, compile_schedule
from everbell.domain.schedule import ExclusionError, Schedule, parse_schedule
from everbell.services.context import Services
from everbell.services.validate_action import action_problems

MAX_NAME = 200
MAX_DESCRIPTION = 4_000
MAX_SCHEDULE = 1_000
DAY_S = 86_400.0
FOLDED = frozenset({"callback_url", "callbackUrl", "script"})
MAX_FOLLOWERS = 16
MAX_LIMITS = 8
LIMIT_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
YEAR_S = 366 * DAY_S
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A job as asked for. ``pointer`` is where it stands in the request (``/3`` in an array).

    ``given`` maps our field names to the names that the caller used for them.
    """

    definition: Definition
    project: int | str | None = None
    enabled: bool = True
    pointer: str = ""
    given: dict[str, str] = {}

    def at(self, problem: FieldProblem) -> FieldProblem:
        """Return the problem with the pointer that the caller can find."""
        return FieldProblem(
            self.pointer + as_given(problem.pointer, self.given),
            problem.message,
            hint=problem.hint,
            code=problem.code,
        )


def as_given(pointer: str, given: Mapping[str, str]) -> str:
    """Return a pointer in the caller's names; ``given`` maps ours, whole paths or first steps."""
    path = pointer[1:]
    first, slash, rest = path.partition("/")
    if path in given:
        return f"/{given[path]}"
    if first not in given:
        return pointer
    # What was one plain value under another name has no inside that the caller could find.
    folded = given[first] in FOLDED
    return f"/{given[first]}" if folded else f"/{given[first]}{slash}{rest}"


def name_problems(name: str, pointer: str = "/name") -> tuple[FieldProblem, ...]:
    """Names are 1 to 200 printable characters, without spaces around."""
    hint = f"1 to {MAX_NAME} printable characters, no space at either end"
    if not name.strip():
        return (FieldProblem(pointer, "is empty", hint=hint),)
    if len(name) > MAX_NAME:
        return (FieldProblem(pointer, f"is {len(name)} characters long", hint=hint),)
    if not name.isprintable():
        return (FieldProblem(pointer, "holds characters that can't be printed", hint=hint),)
    if name != name.strip():
        return (FieldProblem(pointer, "has a space at its start or end", hint=hint),)
    return ()


def description_problems(text: str) -> tuple[FieldProblem, ...]:
    """Descriptions are at most 4000 characters, no control characters but tab and line end."""
    if len(text) > MAX_DESCRIPTION:
        hint = f"at most {MAX_DESCRIPTION} characters"
        return (FieldProblem("/description", f"is {len(text)} characters long", hint=hint),)
    if any(ord(c) < 32 and c not in "\t\r\n" for c in text):
        return (FieldProblem("/description", "holds control characters"),)
    return ()


def job_problems(
    services: Services, definition: Definition, stored: Definition | None = None
) -> list[FieldProblem]:
    """Return all that is wrong with a definition, the schedule apart.

    An action that is ``stored`` already is not refused: this process may be one that can't perform
    it (a function of another program), and still change the schedule.
    """
    unchanged = () if stored is None else (stored.action, stored.check)
    problems = [*own_problems(definition), *_data(services, definition)]
    for pointer, action in _actions(definition):
        if action not in unchanged and not any(action_problems(action, check=pointer == "/check")):
            problems += [_under(pointer, one) for one in _refusals(services, action)]
    return problems


def own_problems(definition: Definition) -> list[FieldProblem]:
    """Return what is wrong with a definition wherever it is stored, the schedule apart."""
    problems = [*name_problems(definition.name), *description_problems(definition.description)]
    problems += _policies(definition)
    problems += _tags(definition.tags)
    problems += name_problems(definition.owner, "/owner") if definition.owner else ()
    problems += _links(definition)
    for pointer, action in _actions(definition):
        found = action_problems(action, check=pointer == "/check")
        problems += [_under(pointer, one) for one in found]
    return problems


def _actions(definition: Definition) -> list[tuple[str, Action]]:
    pairs = (("/action", definition.action), ("/check", definition.check))
    return [(pointer, action) for pointer, action in pairs if action is not None]


def schedule_problem(
    definition: Definition, uuid: str, created_us: int, now_us: int
) -> tuple[int | None, ScheduleError | FieldProblem | None]:
    """Return the first slot after now, or what is wrong with the schedule."""
    schedule, wrong = read_schedule(definition, uuid, created_us)
    if schedule is None or wrong is not None:
        return None, wrong
    first = schedule.next_us(now_us)
    if first is None:
        name = "/schedule" if definition.override is None else "/override"
        return None, _never_runs(definition, name, uuid, created_us, now_us)
    return first, None


def read_schedule(
    definition: Definition, uuid: str, created_us: int
) -> tuple[Schedule | None, ScheduleError | FieldProblem | None]:
    """Return the schedule, or what is wrong with its text, at any time that it may be read."""
    if definition.active_schedule is None:
        return None, zone_problem(definition.timezone) or _exclude_problem(definition)
    for pointer, one in (("/schedule", definition.schedule), ("/override", definition.override)):
        if one is not None and (not one.strip() or len(one) > MAX_SCHEDULE):
            hint = "such as '*/5 * * * *' or '@every 10m'; null for jobs that only a trigger starts"
            length = f"is {len(one)} characters long" if one.strip() else "is empty"
            return None, FieldProblem(pointer, length, hint=hint, code="invalid_schedule")
    pointer = "/schedule"
    try:
        if definition.override is not None and definition.schedule is not None:
            # The default must be good too: it counts again once the override is cleared.
            compile_schedule(msgspec.structs.replace(definition, override=None), uuid, created_us)
        pointer = "/schedule" if definition.override is None else "/override"
        return compile_schedule(definition, uuid, created_us), None
    except ScheduleError as error:
        return None, zone_problem(definition.timezone) or at_field(error, pointer)


def at_field(error: ScheduleError, pointer: str) -> ScheduleError:
    """Name the field of a schedule's error: the given one, or the exclusion that is wrong."""
    if isinstance(error, ExclusionError):
        pointer = f"/exclude/{error.index}"
    error.problems = (schedule_field(error, pointer),)
    return error


def _exclude_problem(definition: Definition) -> ScheduleError | None:
    """Return what is wrong with exclusions that wait for a schedule."""
    try:
        parse_schedule("@hourly", definition.timezone, exclude=definition.exclude)
    except ScheduleError as error:
        return at_field(error, "/schedule")
    return None


def _never_runs(
    definition: Definition, pointer: str, uuid: str, created_us: int, now_us: int
) -> FieldProblem:
    hint = "give a time in the future, or null for a job that only a trigger starts"
    message = "has no slot after now: the job would never run"
    if definition.exclude:
        free = msgspec.structs.replace(definition, exclude=())
        schedule = compile_schedule(free, uuid, created_us)
        if schedule is not None and schedule.next_us(now_us) is not None:
            pointer, message = "/exclude", "leaves no slot after now: the job would never run"
            hint = "shorten the exclusions, or change the schedule"
    return FieldProblem(pointer, message, hint=hint, code="never_runs")


def schedule_field(error: ScheduleError, pointer: str = "/schedule") -> FieldProblem:
    """Return a schedule's error as the problem of a field, with the position in words."""
    if error.problems:
        return error.problems[0]
    message = f"{error.message} (at position {error.position})"
    return FieldProblem(pointer, message, hint=error.hint, code=error.code)


def zone_problem(timezone: str) -> FieldProblem | None:
    """Return what is wrong with a zone."""
    try:
        parse_schedule("@hourly", timezone)
    except ScheduleError as error:
        return FieldProblem("/timezone", error.message, hint=error.hint, code="invalid_timezone")
    return None


def _range(pointer: str, value: float, low: float, high: float) -> Iterator[FieldProblem]:
    # `not (low <= value)` also catches NaN.
    if not low <= value <= high:
        yield FieldProblem(pointer, f"is {value:g}", hint=f"from {low:g} to {high:g}")


def _policies(job: Definition) -> Iterator[FieldProblem]:
    if job.timeout_s is not None and not 0 < job.timeout_s <= 31 * DAY_S:
        yield FieldProblem(
            "/timeout", f"is {job.timeout_s:g}", hint="more than 0, at most 31 days, in seconds"
        )
    yield from _range("/max_running", job.max_running, 1, 1000)
    yield from _range("/jitter", job.jitter_s, 0, DAY_S)
    yield from _range("/misfire/window", job.misfire.window_s, 0, 10 * YEAR_S)
    yield from _range("/misfire/max_catch_up", job.misfire.max_catch_up, 1, 10_000)
    yield from _range("/on_failure/park_after", job.on_failure.park_after, 0, 1000)
    if job.retry is not None:
        yield from _retry(job.retry)
    if job.week_start.lower() not in _DAYS:
        yield FieldProblem("/week_start", f"is {job.week_start[:40]!r}", hint="a day, like monday")
    if job.start_us is not None and job.end_us is not None and job.end_us <= job.start_us:
        yield FieldProblem("/end_at", "is not after start_at", hint="give a later end")


def _retry(retry: Retry) -> Iterator[FieldProblem]:
    yield from _range("/retry/max", retry.max, 0, 100)
    yield from _range("/retry/delay", retry.delay_s, 0, 7 * DAY_S)
    yield from _range("/retry/multiplier", retry.multiplier, 1, 100)
    yield from _range("/retry/cap", retry.cap_s, 0, 31 * DAY_S)
    yield from _range("/retry/jitter", retry.jitter, 0, 1)


def _tags(tags: tuple[str, ...]) -> Iterator[FieldProblem]:
    if len(tags) > 32:
        yield FieldProblem("/tags", f"holds {len(tags)}", hint="at most 32 tags")
    for index, tag in enumerate(tags[:32]):
        if not 0 < len(tag) <= 64 or not tag.isprintable():
            yield FieldProblem(f"/tags/{index}", "is no tag", hint="1 to 64 printable characters")


def _links(job: Definition) -> Iterator[FieldProblem]:
    if len(job.then) > MAX_FOLLOWERS:
        yield FieldProblem("/then", f"holds {len(job.then)}", hint=f"at most {MAX_FOLLOWERS}")
    for index, then in enumerate(job.then[:MAX_FOLLOWERS]):
        yield from name_problems(then.job, f"/then/{index}/job")
        yield from _range(f"/then/{index}/delay", then.delay_s, 0, 7 * DAY_S)
        if any((then.job, then.on) == (other.job, other.on) for other in job.then[:index]):
            yield FieldProblem(f"/then/{index}", "stands twice", hint="leave one out")
    if len(job.limits) > MAX_LIMITS:
        yield FieldProblem("/limits", f"holds {len(job.limits)}", hint=f"at most {MAX_LIMITS}")
    for index, name in enumerate(job.limits[:MAX_LIMITS]):
        if not LIMIT_NAME.match(name):
            hint = "1 to 64 letters, digits, and . _ -"
            yield FieldProblem(f"/limits/{index}", f"is {name[:40]!r}", hint=hint)
        elif name in job.limits[:index]:
            yield FieldProblem(f"/limits/{index}", "stands twice", hint="leave one out")


def _data(services: Services, job: Definition) -> Iterator[FieldProblem]:
    limit = int(services.settings.callbacks.payload_max_mb * 1_048_576)
    try:
        size = len(msgspec.json.encode(job.data))
    except (OverflowError, RecursionError, TypeError, ValueError) as error:
        yield FieldProblem("/data", f"can't be stored: {error}", hint="any JSON value")
        return
    if size > limit:
        hint = f"at most {limit} bytes (setting callbacks.payload_max_mb)"
        yield FieldProblem("/data", f"is {size} bytes long", hint=hint, code="limit_exceeded")


def _refusals(services: Services, action: Action) -> list[FieldProblem]:
    kind = str(action.__struct_config__.tag)
    check = services.checks.get(kind)
    if check is None:
        known = ", ".join(sorted(services.checks)) or "none"
        return [
            FieldProblem("/action/kind", f"{kind!r} is not offered here", hint=f"one of {known}")
        ]
    try:
        check(action)
    except (RefusedError, UserError) as error:
        inner = getattr(error, "problems", ())
        if inner:
            return [_under("/action", problem) for problem in inner]
        return [FieldProblem("/action", error.message, hint=error.hint, code=error.code)]
    return []


def _under(pointer: str, problem: FieldProblem) -> FieldProblem:
    """Return an action's problem at the field that holds the action."""
    inner = problem.pointer.removeprefix("/action")
    return FieldProblem(pointer + inner, problem.message, hint=problem.hint, code=problem.code)

"""Other names for the same things: what the seed schedulers called the fields of a job.

``unify`` turns a body in any accepted shape into native names, and tells which names the caller
used, so that errors point at what was sent. Two names for one thing must not both be given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec

from everbell.domain.errors import FieldProblem, ValidationError

Convert = Callable[[Any], Any]
_SHEBANG = re.compile(r"#!\s*(\S+)(?:\s+(?:-S\s+)?(\S+))?")
_PROGRAMS = {"python3": "python", "nodejs": "node", "dash": "sh"}
DEFAULT_INTERPRETER = "node"
"""The Distributed Scheduler's scripts are JavaScript."""


class Unified(msgspec.Struct, frozen=True, kw_only=True):
    """A body in native names; ``given`` maps to the caller's; ``notes`` tell what is ignored."""

    body: dict[str, Any]
    given: dict[str, str]
    notes: tuple[str, ...] = ()


def _same(value: Any) -> Any:
    return value


def _callback(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("must be a string: the address to call")  # noqa: TRY004
    return {"kind": "http", "url": value}


def _frequency(value: Any) -> str:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError("must be a number of seconds") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("must be a number of seconds")
    if value <= 0:
        raise ValueError("must be more than 0 seconds")
    if value > 1e9:
        raise ValueError("must be at most 1000000000 seconds")
    text = str(int(value)) if value == int(value) else f"{value:.6f}".rstrip("0")
    return f"@every {text}s"


def _status(value: Any) -> bool:
    if value not in ("active", "inactive"):
        raise ValueError("must be 'active' or 'inactive'")
    return bool(value == "active")


def _http_only(value: Any) -> None:
    if value not in ("http", "webhook_url"):
        raise ValueError("must be 'http'")


def _repeat(value: Any) -> Any:
    words = {"true": True, "false": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def interpreter_of(script: str) -> str | None:
    """Return the interpreter that a script's first line names, or None."""
    found = _SHEBANG.match(script)
    if not found:
        return None
    name = found.group(1).rpartition("/")[2]
    if name == "env":
        name = (found.group(2) or "").rpartition("/")[2]
    if not name:
        return None
    return _PROGRAMS.get(name, "python" if re.fullmatch(r"python3\.\d+", name) else name)


# name that a caller may use -> (native name, how its value is read)
RENAMED: dict[str, tuple[str, Convert]] = {
    "spec": ("schedule", _same),
    "frequency": ("schedule", _frequency),
    "callback_url": ("action", _callback),
    "callbackUrl": ("action", _callback),
    "project_uuid": ("project", _same),
    "projectUuid": ("project", _same),
    "projectUUID": ("project", _same),
    "project_id": ("project", _same),
    "projectId": ("project", _same),
    "startDate": ("start_at", _same),
    "endDate": ("end_at", _same),
    "status": ("enabled", _status),
}
CHECKED: dict[str, Convert] = {"execution_type": _http_only, "executionType": _http_only}
IGNORED: dict[str, str] = {
    "timezone_offset": "timezone_offset is ignored: the zone's rules give the offset",
    "timezoneOffset": "timezoneOffset is ignored: the zone's rules give the offset",
    "startdate": "startdate is ignored: it tells when a job was created (start_at bounds it)",
}
# Two ways to say one thing: times of day, or an interval; default and override.
EITHER = (
    ("schedule", "times", "interval"),
    ("override", "override_times", "override_interval"),
)
SPECIAL = (
    "script", "interpreter", "retryMax", "retry_max",
    *(name for _, *names in EITHER for name in names),
)  # fmt: skip
ALIASES: tuple[str, ...] = (*RENAMED, *CHECKED, *IGNORED, *SPECIAL)


def unify(body: dict[str, Any], pointer: str = "") -> Unified:
    """Return a job's body in native names. Raises ValidationError for clashes and bad values."""
    native: dict[str, Any] = {}
    given: dict[str, str] = {}
    notes: list[str] = []
    problems: list[FieldProblem] = []
    for name, value in body.items():
        try:
            if name in IGNORED:
                notes.append(IGNORED[name])
            elif name in CHECKED:
                CHECKED[name](value)
            elif name in RENAMED:
                target, read = RENAMED[name]
                _put(native, given, target, name, read(value))
            elif name not in SPECIAL:
                _put(native, given, name, name, _repeat(value) if name == "repeat" else value)
        except ValueError as error:
            problems.append(FieldProblem(f"{pointer}/{name}", str(error)))
    problems += _folded(body, native, given, pointer)
    if problems:
        raise ValidationError(
            f"{problems[0].pointer} {problems[0].message}",
            hint=problems[0].hint,
            problems=tuple(problems),
        )
    return Unified(
        body=native,
        given={ours: theirs for ours, theirs in given.items() if ours != theirs},
        notes=tuple(notes),
    )


def _put(native: dict[str, Any], given: dict[str, str], target: str, name: str, value: Any) -> None:
    if target in native:
        raise ValueError(f"says the same as {given[target]!r}: give only one of them")
    native[target] = value
    given[target] = name


def _folded(
    body: dict[str, Any], native: dict[str, Any], given: dict[str, str], pointer: str
) -> list[FieldProblem]:
    """Fold names that say a part of something, or one of two ways."""
    problems: list[FieldProblem] = []
    for names in EITHER:
        problems += _either(body, native, given, names, pointer)
    for fold in (_script, _retry_max):
        try:
            fold(body, native, given)
        except ValueError as error:
            problems.append(FieldProblem(f"{pointer}/{error.args[1]}", str(error.args[0])))
    return problems


def _either(
    body: dict[str, Any],
    native: dict[str, Any],
    given: dict[str, str],
    names: tuple[str, str, str],
    pointer: str,
) -> list[FieldProblem]:
    """Fold times or an interval into a schedule; both at once are wrong on both fields."""
    target, times, interval = names
    said = [name for name in (times, interval) if body.get(name) is not None]
    if len(said) == 2:
        return [
            FieldProblem(
                f"{pointer}/{name}",
                f"and {other} can't both be given",
                hint="give times, or an interval; set the other to null",
            )
            for name, other in ((times, interval), (interval, times))
        ]
    named = said or [name for name in (times, interval) if name in body]
    try:
        for name in named[:1]:
            value = body[name]
            if value is not None:
                value = _times(value) if name == times else _interval(value)
            _put(native, given, target, name, value)
    except ValueError as error:
        return [FieldProblem(f"{pointer}/{named[0]}", str(error))]
    return []


def _times(value: Any) -> str:
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        value = ",".join(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be times of day, such as '02:00,14:30:15'")
    return f"times {value.strip()}"


def _interval(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be MM:SS or HH:MM:SS, such as '05:30'")
    return f"interval {value.strip()}"


def _script(body: dict[str, Any], native: dict[str, Any], given: dict[str, str]) -> None:
    if "script" not in body:
        if "interpreter" in body:
            raise ValueError("goes with a script", "interpreter")
        return
    text = body["script"]
    if not isinstance(text, str):
        raise ValueError("must be a string: the script's text", "script")  # noqa: TRY004
    chosen = body.get("interpreter") or interpreter_of(text) or DEFAULT_INTERPRETER
    if "action" in native:
        other = given["action"]
        raise ValueError(f"says the same as {other!r}: give only one of them", "script")
    native["action"] = {"kind": "script", "text": text, "interpreter": chosen}
    given["action"] = "script"
    given["action/text"] = "script"
    if "interpreter" in body:
        given["action/interpreter"] = "interpreter"


def _retry_max(body: dict[str, Any], native: dict[str, Any], given: dict[str, str]) -> None:
    for name in ("retryMax", "retry_max"):
        if name not in body:
            continue
        retry = native.get("retry") or {}
        if not isinstance(retry, dict) or "max" in retry:
            raise ValueError("says the same as 'retry': give only one of them", name)
        native["retry"] = {**retry, "max": body[name]}
        given["retry/max"] = name

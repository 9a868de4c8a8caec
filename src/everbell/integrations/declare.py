"""From what a program says about a job, in Python's own types, to a job's body."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from everbell.domain.errors import ScheduleError, ValidationError
from everbell.domain.schedule.builder import When
from everbell.services.validate import Draft, own_problems, read_schedule, schedule_field

ScheduleLike = When | str | None

_TIMES = {"start": "start_at", "end": "end_at", "anchor": "anchor_at"}


def policies(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return policies under the names and in the shapes of the API.

    Short forms: ``retry=3``, ``misfire="skip"``, ``on_failure=5`` (park after), ``then="other"``;
    datetimes and timedeltas anywhere; ``start``, ``end``, ``anchor`` for ``..._at``.
    """
    body = {_TIMES.get(name, name): _plain(value) for name, value in given.items()}
    if isinstance(body.get("retry"), int):
        body["retry"] = {"max": body["retry"]}
    if isinstance(body.get("misfire"), str):
        body["misfire"] = {"policy": body["misfire"]}
    if isinstance(body.get("on_failure"), int):
        body["on_failure"] = {"park_after": body["on_failure"]}
    if "then" in body:
        body["then"] = [_follower(one) for one in _several(body["then"])]
    for name in ("tags", "exclude", "limits"):
        if isinstance(body.get(name), str):
            body[name] = [body[name]]
    return body


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _follower(value: Any) -> Any:
    if isinstance(value, Mapping):
        return value
    return {"job": getattr(value, "name", value)}


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in value]
    return value


def refuse(draft: Draft) -> None:
    """Raise what is wrong with a job wherever it will be stored: ScheduleError, ValidationError.

    What only a node can tell comes at its start: whether an ``@at`` is over, and whether ``then``
    leads back to the job.
    """
    problems = [draft.at(one) for one in own_problems(draft.definition)]
    _, wrong = read_schedule(draft.definition, "", 0)
    if isinstance(wrong, ScheduleError) and not problems:
        raise wrong
    if wrong is not None:
        problems.append(
            draft.at(schedule_field(wrong) if isinstance(wrong, ScheduleError) else wrong)
        )
    if problems:
        first = problems[0]
        told = "; ".join(f"{one.pointer} {one.message}" for one in problems)
        message = f"job {draft.definition.name!r}: {told}"
        raise ValidationError(message, hint=first.hint, problems=tuple(problems))


def function_name(function: Callable[..., Any]) -> str:
    """Return ``module:name`` of a function, the same however its program was started."""
    module = module_name(getattr(function, "__module__", None) or "__main__")
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}:{name}"


def module_name(module: str) -> str:
    """Return a module's importable name; that of a script is its file's name."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


def first_line(function: Callable[..., Any]) -> str:
    """Return the first paragraph of a function's docstring, as a job's description."""
    text = (getattr(function, "__doc__", None) or "").strip().partition("\n\n")[0]
    return " ".join(text.split())[:4000]

"""Python functions that jobs call, and what a running one may know about its run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, get_type_hints

from everbell.domain.job import PythonAction, Record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Context(Record, frozen=True):
    """What a function is told about the run that called it.

    ``run_id`` is the same over all attempts; with ``token``, which only grows for a job, a target
    can refuse stragglers. ``slot`` is the planned instant (UTC). ``data`` is the job's data.
    """

    run_id: str
    job: str
    project: str
    slot: datetime
    attempt: int
    token: int
    trigger: str
    data: Any = None


class Function(Record, frozen=True):
    """A callable that jobs may name. ``check`` = its falsy answer means "nothing to do".

    ``wants_context``: it is given the Context as the argument of that name.
    """

    name: str
    call: Callable[..., Any]
    is_async: bool
    wants_context: str = ""
    check: bool = False


def describe(name: str, call: Callable[..., Any], *, check: bool = False) -> Function:
    """Return what calls need to know about a function."""
    target = call if inspect.isroutine(call) else getattr(call, "__call__", call)  # noqa: B004
    plain = inspect.unwrap(target)
    return Function(
        name=name,
        call=call,
        is_async=inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(plain),
        wants_context=_context_name(plain),
        check=check,
    )


def _context_name(call: Callable[..., Any]) -> str:
    """Return the parameter that takes the Context: by its annotation, or named ``context``."""
    try:
        parameters = inspect.signature(call).parameters
    except (TypeError, ValueError):
        return ""
    try:
        hints = get_type_hints(call)
    except (NameError, TypeError, AttributeError):
        hints = {}
    for name in parameters:
        if hints.get(name) is Context:
            return name
    return "context" if "context" in parameters else ""


class Functions:
    """The functions that this process registered, by (app, name).

    A node that has none registered still calls those of allowed modules (``python.allow``).
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Function] = {}

    def add(self, app: str, function: Function) -> None:
        """Offer a function; the last one of a name wins."""
        self._known[app, function.name] = function

    def find(self, action: PythonAction) -> Function | None:
        """Return the function that an action names, if it is registered here."""
        return self._known.get((action.app, action.function))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield (app, name) of each."""
        return iter(self._known)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._known)


CURRENT: ContextVar[Callable[[], Context] | None] = ContextVar("everbell_run", default=None)
"""Tells the run that the calling code belongs to. Threads started by hand do not inherit it."""


STOP: ContextVar[list[str] | None] = ContextVar("everbell_stop", default=None)
"""Why the run is to end; empty while it may go on."""


def stopping() -> bool:
    """Return whether this run is to end: cancelled, or over its time.

    For synchronous functions, which can't be interrupted: look now and then, and return.
    """
    return bool(STOP.get())


def context() -> Context:
    """Return the run that this code runs in. Raises LookupError outside of one."""
    found = CURRENT.get()
    if found is None:
        message = "this code runs in no run of Everbell"
        raise LookupError(message)
    return found()


def instant(at_us: int) -> datetime:
    """Return microseconds since the epoch as an aware datetime in UTC."""
    return _EPOCH + timedelta(microseconds=at_us)


class Skip(Exception):
    """Raised by a function that found nothing to do: the run is ``skipped``, with the reason."""

    def __init__(self, reason: str = "nothing_to_do") -> None:
        super().__init__(reason)
        self.reason = reason

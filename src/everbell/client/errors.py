"""What can go wrong with a call, as types.

::

    ClientError
    |-- ApiError               the server refused; code, detail, hint, fields, request_id
    |   |-- BadRequest         400: the request can't be read
    |   |-- Unauthenticated    401: no key, or a wrong, revoked or expired one
    |   |-- Forbidden          403: the key's scopes do not allow it
    |   |-- NotFound           404: no such thing, or not one that this key may see
    |   |-- Conflict           409: the name is taken, or the state forbids it
    |   |-- VersionMismatch    412: somebody else changed it since ``if_match``
    |   |-- TooLarge           413: larger or more than allowed
    |   |-- Invalid            422: fields are wrong; ``fields`` names each
    |   |   `-- InvalidSchedule     with the text and the position in it
    |   |-- RateLimited        429, after all repetitions; ``retry_after_s``
    |   `-- ServerFailed       5xx, after all repetitions
    |-- Unreachable            no connection: nothing was sent
    |-- AnswerLost             sent, but no whole answer came: it may have been done
    |-- AnswerUnreadable       not an answer of this API, or of a newer one
    `-- WaitTimeout            the run did not end in time (also a TimeoutError)
"""

from __future__ import annotations

import msgspec


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """One wrong field: ``pointer`` is a JSON pointer in the names that were sent."""

    pointer: str = ""
    code: str = ""
    message: str = ""
    hint: str = ""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error as the server tells it (RFC 9457). ``code`` is stable, for programs."""

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    code: str = ""
    detail: str = ""
    hint: str = ""
    instance: str = ""
    request_id: str = ""
    success: bool = False
    errors: tuple[FieldError, ...] = ()
    suggestions: tuple[str, ...] = ()
    position: int | None = None
    text: str | None = None


class ClientError(Exception):
    """Base of all errors of this client. ``hint`` says what to do next."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return what happened, and the hint below it."""
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class ApiError(ClientError):
    """The server refused. ``status`` and ``code`` are for programs, the rest for people."""

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        super().__init__(problem.detail or problem.title, hint=problem.hint)
        self.problem = problem
        self.status = problem.status
        self.code = problem.code
        self.fields = problem.errors
        self.suggestions = problem.suggestions
        self.request_id = problem.request_id
        self.retry_after_s = retry_after_s

    @property
    def where(self) -> tuple[str, ...]:
        """JSON pointers of the wrong fields; the address if it is not about fields."""
        return tuple(one.pointer for one in self.fields) or (self.problem.instance,)


class BadRequest(ApiError):
    """The request can't be read, or a query parameter is wrong."""


class Unauthenticated(ApiError):
    """No credential, or a wrong, revoked or expired one."""


class Forbidden(ApiError):
    """The credential is good, but its scopes do not allow this."""


class NotFound(ApiError):
    """No such thing, or not one that this credential may see."""


class Conflict(ApiError):
    """The name is taken, or the state forbids it."""


class VersionMismatch(ApiError):
    """Somebody else was faster: read again, then decide."""


class TooLarge(ApiError):
    """Larger, longer or more than the server allows."""


class Invalid(ApiError):
    """Fields are wrong; ``fields`` names each. Nothing was done."""


class InvalidSchedule(Invalid):
    """A schedule text can't be read; ``position`` is that of the first wrong character."""

    @property
    def position(self) -> int | None:
        """Characters before the first wrong one, in ``text``."""
        return self.problem.position

    @property
    def text(self) -> str | None:
        """The schedule text."""
        return self.problem.text


class RateLimited(ApiError):
    """Too many requests with this key, even after waiting. ``retry_after_s`` tells when."""


class ServerFailed(ApiError):
    """The server could not do it, even after repetitions."""


class Unreachable(ClientError):
    """No connection could be made: nothing was sent."""


class AnswerLost(ClientError):
    """The request was sent and its answer did not come: whether it was done is not known."""


class AnswerUnreadable(ClientError):
    """The answer is not in the form of this API."""


class WaitTimeout(ClientError, TimeoutError):
    """The run did not end in time; it goes on."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: VersionMismatch,
    413: TooLarge,
    422: Invalid,
    429: RateLimited,
}


def api_error(status: int, raw: bytes, retry_after_s: float | None = None) -> ApiError:
    """Return the error of an answer; one that is not in this API's form keeps its status."""
    try:
        problem = msgspec.json.decode(raw, type=Problem)
    except msgspec.DecodeError:
        problem = Problem()
    if not problem.code:
        detail = f"the server answered {status}, not in the form of this API"
        problem = Problem(status=status, detail=detail, hint="is this an Everbell server?")
    kind = _BY_STATUS.get(status, ServerFailed if status >= 500 else ApiError)
    if problem.code == "invalid_schedule":
        kind = InvalidSchedule
    return kind(msgspec.structs.replace(problem, status=status), retry_after_s)

"""Requests and answers as bytes, without any input or output: shared by both clients."""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from msgspec import UNSET

from everbell.client.errors import AnswerUnreadable, ApiError, ClientError, api_error
from everbell.client.operations import OPERATIONS, repeatable
from everbell.client.records import Job, Page, Project, Run
from everbell.client.shapes import ACTION_KINDS, KNOWN_ACTIONS, Action, JobIn, OtherAction

T = TypeVar("T")
PREFIX = "/api/v1"
USER_AGENT = "everbell-python"
DEFAULT_URL = "http://127.0.0.1:9091"
RETRY_CODES = frozenset((429, 502, 503, 504))
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
LONGEST_RETRY_AFTER_S = 60.0
"""A server that wants a longer pause is believed, and the error is the caller's to handle."""

STREAM_SILENCE_S = 45.0
"""The server says something at least every 15 s; silence this long is a dead connection."""


class Options(NamedTuple):
    """Where the server is, who asks, and for how long. Its text does not tell the secret."""

    url: str
    headers: dict[str, str]
    timeout_s: float
    retries: int

    def __repr__(self) -> str:
        return f"Options({self.url!r})"


def options(
    url: str | None, key: str | None, secret: str | None, timeout_s: float, retries: int
) -> Options:
    """Return options; what is None comes from EVERBELL_SERVER, _API_KEY and _API_SECRET.

    Raises ValueError for an address that can't be one.
    """
    given = url or os.environ.get("EVERBELL_SERVER") or DEFAULT_URL
    parts = urlsplit(given if "://" in given else f"http://{given}")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
        raise ValueError(f"{given!r} is no server address; one is http://127.0.0.1:9091")
    base = parts.path.rstrip("/").removesuffix(PREFIX)
    headers = {"user-agent": USER_AGENT}
    # The environment's pair stays a pair: a key that was given is not sent with a foreign secret.
    if key is None and secret is None:
        key, secret = os.environ.get("EVERBELL_API_KEY"), os.environ.get("EVERBELL_API_SECRET")
    if bool(key) != bool(secret):
        raise ValueError("a key and its secret belong together: give both, or neither")
    if key and secret:
        headers |= {"x-api-key": key, "x-secret-key": secret}
    address = f"{parts.scheme}://{parts.netloc}{base}{PREFIX}"
    return Options(address, headers, timeout_s, retries)


class Request(NamedTuple):
    """One HTTP request, ready to be sent, and sent again. Its text tells no headers."""

    operation: str
    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None
    repeatable: bool

    def __repr__(self) -> str:
        return f"{self.method} {self.url}"


class Reply(NamedTuple):
    """One HTTP answer. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Ask(NamedTuple):
    """What a method of a client asks for: an operation and its arguments; None = not given."""

    operation: str
    key: object = None
    query: Mapping[str, Any] = {}
    body: Any = UNSET
    if_match: str | None = None
    idempotency_key: str | None = None
    headers: Mapping[str, str] = {}


def request(at: Options, ask: Ask) -> Request:
    """Build the request. Raises ValueError for arguments that no request can carry."""
    operation = OPERATIONS[ask.operation]
    path = operation.path
    if "{id}" in path:
        path = path.replace("{id}", segment(ask.key))
    given = {name: _text(value) for name, value in ask.query.items() if value is not None}
    url = at.url + path + ("?" + urlencode(given) if given else "")
    headers = {"accept": "application/json", **at.headers, **ask.headers}
    body = None
    if ask.body is not UNSET:
        sent = definition(ask.body) if isinstance(ask.body, Job) else ask.body
        body = msgspec.json.encode(sent, enc_hook=_encode_other)
        headers["content-type"] = "application/json"
    if ask.if_match is not None:
        if not ask.if_match:
            raise ValueError("if_match is empty: lists tell no ETag of projects, get() does")
        headers["if-match"] = ask.if_match
    if operation.keyed:
        headers["idempotency-key"] = ask.idempotency_key or secrets.token_hex(16)
    again = repeatable(operation, conditional=ask.if_match is not None)
    return Request(ask.operation, operation.method, url, headers, body, again)


def segment(key: object) -> str:
    """Return one segment of a path: an id, uuid, name, or the record that has the id."""
    text = str(key.id if isinstance(key, Job | Project | Run) else key)
    if text in {"", ".", ".."} or "/" in text:
        # These do not survive as a part of an address, quoted or not.
        raise ValueError(f"the name {text!r} can't be part of an address; use the id")
    return quote(text, safe="")


def given(**fields: Any) -> dict[str, Any]:
    """Return a body of what is not None; a job or project is named by its id."""
    return {
        name: value.id if isinstance(value, Job | Project) else value
        for name, value in fields.items()
        if value is not None
    }


def definition(job: Job) -> dict[str, Any]:
    """Return what can be set of a job as it was shown, without what only newer servers know."""
    told = {name: getattr(job, name) for name in JobIn.__struct_fields__}
    unset = {name for name in ("check", "then", "limits", "owner") if not told[name]}
    # Not the name: one of digits would be taken for an id.
    told["project"] = job.project_uuid
    return {name: value for name, value in told.items() if name not in unset}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(str, value))
    return str(value.id if isinstance(value, Job | Project) else value)


def instant(at: datetime) -> str:
    """Return a time as the API reads it. Raises ValueError for one without a zone."""
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no zone; give one, such as datetime.UTC")
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _encode_other(value: Any) -> Any:
    if isinstance(value, OtherAction):
        return value.fields
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"{type(value).__name__} can't be sent")


# --- answers -------------------------------------------------------------------------------------


class _Place(msgspec.Struct):
    limit: int = 0
    offset: int | None = None
    total: int | None = None
    next: str | None = None


class _Envelope(msgspec.Struct, Generic[T]):
    data: T
    page: _Place | None = None


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_Envelope[kind], dec_hook=_decode_action)


def _decode_action(kind: type, value: Any) -> Any:
    if kind is not Action or not isinstance(value, dict):
        raise NotImplementedError(kind)
    if value.get("kind") in ACTION_KINDS:
        return msgspec.convert(value, KNOWN_ACTIONS)
    return OtherAction(value)


def _envelope(raw: bytes, kind: Any) -> Any:
    try:
        return _decoder(kind).decode(raw)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise AnswerUnreadable(
            f"the answer is not in the form of this API: {error}",
            hint="is this an Everbell server, and is this client as new as it?",
        ) from error


def data(reply: Reply, kind: Any) -> Any:
    """Return the answer's data. A project learns its ETag. Raises AnswerUnreadable."""
    found = _envelope(reply.body, kind).data
    if isinstance(found, Project):
        return msgspec.structs.replace(found, etag=reply.headers.get("etag", ""))
    return found


def page(reply: Reply, kind: Any) -> Page[Any]:
    """Return a page of a list. Raises AnswerUnreadable."""
    found = _envelope(reply.body, list[kind])
    at = found.page or _Place(limit=len(found.data))
    return Page(items=found.data, limit=at.limit, offset=at.offset, total=at.total, next=at.next)


def following(query: Mapping[str, Any], got: Page[Any]) -> dict[str, Any] | None:
    """Return the query of the next page; None after the last one."""
    if got.next:
        return {**query, "cursor": got.next}
    if got.total is None or got.offset is None or not got.items:
        return None
    offset = got.offset + len(got.items)
    return {**query, "offset": offset} if offset < got.total else None


# --- repetitions ---------------------------------------------------------------------------------


def refusal(reply: Reply) -> ApiError:
    """Return the error that an answer tells."""
    return api_error(reply.status, reply.body, retry_after(reply.headers))


def worth_repeating(sent: Request, error: ApiError) -> bool:
    """Return whether the same request may be sent again after this refusal.

    429 and 503 say that nothing was done, except where the store lost its own answer, or where
    the answer is a proxy's: then only what may be done twice is repeated.
    """
    if error.status not in RETRY_CODES:
        return False
    if (error.retry_after_s or 0.0) > LONGEST_RETRY_AFTER_S:
        return False
    done_nothing = error.status == 429 or (
        error.status == 503 and error.code not in {"", "store_unknown_outcome"}
    )
    return done_nothing or sent.repeatable


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a Retry-After header, given as seconds or as a date."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at, now = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (at - now).total_seconds())
    except (ValueError, TypeError):
        return None


def pause_s(attempt: int, chance: float, asked_s: float | None) -> float:
    """Return how long to wait before repetition ``attempt`` (from 0); ``chance`` is 0..1.

    What the server asked for is a lower bound; chance keeps clients from coming back together.
    """
    backoff = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**attempt) * (0.5 + chance / 2)
    return backoff if asked_s is None else asked_s + chance * FIRST_PAUSE_S


# --- server-sent events --------------------------------------------------------------------------


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    data: str
    id: str


class Events:
    """Reads server-sent events out of bytes that are cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._name, self._id = "message", ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Take bytes; yield the events that they complete."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for raw in lines:
            line = raw.removesuffix(b"\r").decode("utf-8", "replace")
            if line:
                self._field(*line.partition(":")[::2])
            else:
                if self._data:
                    yield Event(self._name, "\n".join(self._data), self._id)
                self._name, self._data = "message", []

    def _field(self, name: str, value: str) -> None:
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value


def decode_event(event: Event, kind: type[T]) -> T:
    """Return an event's record. Raises AnswerUnreadable."""
    try:
        return msgspec.json.decode(event.data, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise AnswerUnreadable(f"an event can't be read: {error}") from error


def missing(package: str, what: str) -> ClientError:
    """Return the error for a package that is not installed."""
    return ClientError(f"{what} needs {package}", hint="pip install 'everbell[client]'")

"""One request: the route table's rows, what a handler is given, and what it gives back."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from everbell.api.bodies import closest, convert, decode, read_body
from everbell.api.limits import Limits
from everbell.api.problems import ParameterError, UnknownParameter
from everbell.api.schemas import PageOut
from everbell.api.times import parse_iso
from everbell.domain.errors import UserError
from everbell.domain.records import Scope
from everbell.ports.store import Page
from everbell.services.context import Actor, Services
from everbell.services.idempotency import Asked

T = TypeVar("T", bound=msgspec.Struct)
DEFAULT_LIMIT = 50
MAX_OFFSET = 1_000_000
_TAG = re.compile(r'(?:W/)?(?:"([0-9A-Za-z]{1,64})"|([0-9]{1,18}))\Z')


@dataclass(frozen=True, slots=True)
class Param:
    """A query parameter. ``schema`` is its JSON schema, for the reference."""

    name: str
    meaning: str
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


KEY = Param("id", "Id or uuid (jobs also: the name, with project).")


@dataclass(slots=True)
class Call:
    """What a handler is given. ``actor`` is known unless the route needs no login."""

    request: Request
    services: Services
    actor: Actor
    ready: Callable[[], str]
    limits: Limits
    notices: Callable[[], Mapping[str, str]]
    _raw: bytes | None = None

    @property
    def key(self) -> str:
        """The ``{id}`` of the path."""
        return str(self.request.path_params["id"])

    def query(self, name: str) -> str | None:
        """Return a query parameter; an empty one counts as absent."""
        return self.request.query_params.get(name) or None

    def typed(self, name: str) -> str | None:
        """Return a parameter that is no free text: nothing is no number and no time."""
        text = self.request.query_params.get(name)
        if text == "":
            raise ParameterError(f"{name} is empty", hint="give it a value, or leave it out")
        return text

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number of the query. Raises ParameterError."""
        text = self.typed(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not low <= int(text[:19]) <= high:
            raise ParameterError(f"{name} is {text[:40]!r}", hint=f"a number, {low} to {high}")
        return int(text)

    def instant(self, name: str) -> int | None:
        """Return an ISO 8601 time of the query, in microseconds. Raises ParameterError."""
        text = self.typed(name)
        if text is None:
            return None
        try:
            # An unescaped plus sign of an offset arrives as a space.
            return parse_iso(text.replace(" ", "+"))
        except ValueError as error:
            raise ParameterError(f"{name} {error}", hint="such as 2026-03-29T01:00:00Z") from None

    def flag(self, name: str) -> bool | None:
        """Return a yes or no of the query. Raises ParameterError."""
        text = (self.typed(name) or "").lower()
        if text in ("1", "true", "yes"):
            return True
        if text in ("0", "false", "no"):
            return False
        if text:
            raise ParameterError(f"{name} is {text[:40]!r}", hint="true or false")
        return None

    def page(self) -> Page:
        """Return limit and offset. Raises ParameterError."""
        return Page(limit=self.limit(), offset=self.integer("offset", 0, 0, MAX_OFFSET))

    def limit(self) -> int:
        """Return the page size; more than the largest one is cut to it."""
        most = self.services.settings.api.max_page
        return min(self.integer("limit", min(DEFAULT_LIMIT, most), 1, 1_000_000), most)

    def asked(self, route: str) -> Asked:
        """Return which request this is, for repetitions under an Idempotency-Key."""
        return Asked(route, self.request.headers.get("idempotency-key"))

    async def raw(self) -> bytes:
        """Return the body. Raises LimitError."""
        if self._raw is None:
            api = self.services.settings.api
            self._raw = await read_body(self.request, api.max_body, api.body_timeout)
        return self._raw

    async def json(self) -> Any:
        """Return the body's JSON value. Raises LimitError, MediaTypeError, JsonError."""
        return decode(await self.raw(), self.request.headers.get("content-type"))

    async def body(self, kind: type[T], *, optional: bool = False) -> T:
        """Return the body as a struct. Raises ValidationError and what ``json`` raises."""
        raw = await self.raw()
        if optional and not raw.strip():
            return kind()
        return convert(decode(raw, self.request.headers.get("content-type")), kind)


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A row of the route table: all that routing, login and the reference need.

    ``scope`` None = no login. ``paths`` holds older addresses of the same thing. ``answer`` is
    the type of ``data``; ``many`` says that it is a list with a page. ``key`` is the ``{id}``.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    scope: Scope | None
    query: tuple[Param, ...] = ()
    body: Any = None
    body_optional: bool = False
    answer: Any = None
    many: bool = False
    status: int = 200
    media: str = "application/json"
    errors: tuple[int, ...] = ()
    headers: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    key: Param = KEY

    def check_query(self, request: Request) -> None:
        """Raise UnknownParameter for a query parameter that this address does not take."""
        known = [param.name for param in self.query]
        seen: set[str] = set()
        for name, _ in request.query_params.multi_items():
            if name not in known:
                near = closest(name, known)
                hint = f"did you mean {near[0]!r}?" if near else _known(known)
                raise UnknownParameter(
                    f"unknown query parameter {name[:80]!r}", hint=hint, suggestions=near
                )
            if name in seen:
                raise ParameterError(f"{name} is given twice", hint="give it once")
            seen.add(name)


def _known(names: list[str]) -> str:
    return f"known here: {', '.join(names)}" if names else "this address takes none"


def answer(
    data: Any, status: int = 200, headers: dict[str, str] | None = None, **extra: Any
) -> Response:
    """Return ``{"data": ..., "success": true}``."""
    return raw_answer(encode(data, **extra), status, headers)


def encode(data: Any, **extra: Any) -> bytes:
    """Return the envelope as JSON."""
    return msgspec.json.encode({"data": data, "success": True, **extra})


def raw_answer(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return JSON that is encoded already. Answers are private: no cache keeps them."""
    return Response(
        body,
        status_code=status,
        headers={"cache-control": "no-store", **(headers or {})},
        media_type="application/json",
    )


def listing(data: list[Any], page: Page, total: int) -> Response:
    """Return one page of a list that is counted."""
    return answer(data, page=PageOut(limit=page.limit, offset=page.offset, total=total))


def no_content() -> Response:
    """Return 204."""
    return Response(status_code=204)


def etag(version: int) -> dict[str, str]:
    """Return the ETag header of a version."""
    return {"etag": f'"{version}"'}


def tag_of(request: Request) -> str | None:
    """Return the ETag in If-Match; None = any. Raises UserError for what is none."""
    text = request.headers.get("if-match")
    if text is None or text.strip() == "*":
        return None
    found = _TAG.match(text.strip())
    if not found:
        raise UserError("If-Match can't be read", hint='send the ETag of the last answer, like "3"')
    return found.group(1) or found.group(2)


def if_match(request: Request) -> int | None:
    """Return the version that the caller expects; -1, which none has, for a foreign ETag.

    Raises UserError for what is no ETag.
    """
    tag = tag_of(request)
    if tag is None:
        return None
    return int(tag) if tag.isdigit() and len(tag) <= 18 else -1


LIMIT = Param(
    "limit", "Most items in the page.", {"type": "integer", "minimum": 1, "maximum": 1_000_000}
)
OFFSET = Param(
    "offset", "Items to leave out.", {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET}
)
PROJECT = Param("project", "Id, uuid or name of a project.")
PAGED = (LIMIT, OFFSET)

"""The ASGI application: routes at /api/v1, /v1 and the root; every answer has a request id."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from everbell.api.auth import address_of, identify
from everbell.api.bodies import closest
from everbell.api.call import Call, Endpoint
from everbell.api.limits import Limits
from everbell.api.problems import HeadersTooLarge, MethodError, answer_error
from everbell.api.refusals import Refusals
from everbell.api.table import ENDPOINTS
from everbell.domain.errors import NotFoundError, UserError
from everbell.ports.observer import LOG_SUBJECT
from everbell.services.context import LOCAL, Services

PREFIXES = ("/api/v1", "/v1", "")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_SAFE = {"x-content-type-options": "nosniff"}


def create_app(
    services: Services,
    *,
    ready: Callable[[], str] = lambda: "",
    notices: Callable[[], Mapping[str, str]] = dict,
    answered: Callable[[str, str, int], None] = lambda _method, _route, _status: None,
    extra_routes: Sequence[BaseRoute] = (),
    lifespan: Any = None,
) -> Starlette:
    """Return the API as an ASGI application.

    ``ready`` tells why the node can't work, or nothing; ``notices`` what people should know of
    it nevertheless, by subject. ``extra_routes`` come after the API's.
    ``answered`` is told of each answer: method, route (a pattern, not an address), status.
    """
    routes: list[BaseRoute] = []
    limits = Limits(services.settings.api)
    refusals = Refusals(services.settings.api.max_failures)
    for path, methods in _by_path().items():
        world = _World(services, ready, notices, limits, refusals, answered)
        endpoint = _dispatcher(world, path, methods)
        for prefix in PREFIXES:
            route = Route(prefix + path, endpoint, include_in_schema=False)
            # Every method: the dispatcher itself refuses, with the methods that are possible.
            route.methods = None
            routes.append(route)

    async def refuse(request: Request, error: Exception) -> Response:
        request_id = _request_id(services, request)
        answered("other", "unknown", 404)
        return _finish(
            answer_error(_routing_error(request, error), _path(request), request_id), request_id
        )

    app = Starlette(
        routes=[*routes, *extra_routes],
        exception_handlers={HTTPException: refuse},
        lifespan=lifespan,
    )
    app.state.limits = limits
    app.state.refusals = refusals
    return app


def _by_path() -> dict[str, dict[str, Endpoint]]:
    table: dict[str, dict[str, Endpoint]] = {}
    for one in ENDPOINTS:
        for path in (one.path, *one.also):
            table.setdefault(path, {})[one.method] = one
    return table


class _World(NamedTuple):
    services: Services
    ready: Callable[[], str]
    notices: Callable[[], Mapping[str, str]]
    limits: Limits
    refusals: Refusals
    answered: Callable[[str, str, int], None]


def _dispatcher(world: _World, path: str, methods: dict[str, Endpoint]) -> Callable[[Request], Any]:
    allowed = tuple(sorted(methods))
    services = world.services

    async def dispatch(request: Request) -> Response:
        request_id = _request_id(services, request)
        LOG_SUBJECT.set(request_id)
        method = "GET" if request.method == "HEAD" else request.method
        try:
            endpoint = methods.get(method)
            if endpoint is None:
                raise MethodError(
                    f"{request.method} is not possible here",
                    hint=f"possible: {', '.join(allowed)}",
                    suggestions=allowed,
                )
            response = await _perform(endpoint, world, request, request_id)
        except ClientDisconnect:
            # Nobody is there to read this; it only ends the request in good order.
            response = answer_error(UserError("the client went away"), _path(request), request_id)
        except Exception as error:  # noqa: BLE001  (HTTP boundary)
            if isinstance(error, UserError):
                told = f"{request.method} {path}"
                now_s = services.clock.monotonic()
                world.refusals.note(error, told, address_of(request), now_s)
            response = answer_error(error, _path(request), request_id)
        world.answered(method if method in methods else "other", path, response.status_code)
        return _finish(response, request_id)

    return dispatch


async def _perform(
    endpoint: Endpoint, world: _World, request: Request, request_id: str
) -> Response:
    services, actor = world.services, LOCAL
    _check_head(request, services.settings.api.max_headers)
    if endpoint.scope is not None:
        actor = await identify(services, request)
        if actor is not LOCAL:
            world.limits.take(str(actor.credential_id), services.clock.monotonic())
        actor.require(endpoint.scope)
    address = "" if actor is LOCAL else address_of(request)
    actor = replace(actor, address=address, request_id=request_id)
    endpoint.check_query(request)
    call = Call(request, services, actor, world.ready, world.limits, world.notices)
    return await endpoint.handler(call)


def _check_head(request: Request, most: int) -> None:
    scope = request.scope
    size = len(scope["path"]) + len(scope["query_string"])
    size += sum(len(name) + len(value) for name, value in scope["headers"])
    if size > most:
        raise HeadersTooLarge(
            f"headers and address are {size} bytes long",
            hint=f"at most {most} (setting api.max_headers)",
        )


def _request_id(services: Services, request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.match(given) else "req_" + services.entropy.token_bytes(8).hex()


def _finish(response: Response, request_id: str) -> Response:
    response.headers["x-request-id"] = request_id
    for name, value in _SAFE.items():
        response.headers[name] = value
    return response


def _path(request: Request) -> str:
    return request.url.path[:200]


def _routing_error(request: Request, error: Exception) -> Exception:
    status = getattr(error, "status_code", 404)
    if status != 404:
        return UserError(str(getattr(error, "detail", "")) or "the request can't be read")
    known = sorted({one.path for one in ENDPOINTS})
    path = request.url.path
    for prefix in PREFIXES[:2]:
        path = path.removeprefix(prefix)
    near = closest(path, known)
    hint = f"did you mean {near[0]}?" if near else "the addresses are listed at /openapi.json"
    return NotFoundError(f"nothing is at {_path(request)}", hint=hint, suggestions=near)

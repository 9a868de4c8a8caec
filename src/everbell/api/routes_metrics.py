"""``/metrics``, for Prometheus: outside of the table, as its answer is no envelope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from everbell.api.auth import identify
from everbell.api.problems import answer_error
from everbell.services.context import Services

PATH = "/metrics"
Render = Callable[[str], Awaitable[tuple[bytes, str]]]
"""From an ``Accept`` header to body and media type."""


def metrics_route(services: Services, render: Render) -> Route:
    """Return the route; ``telemetry.metrics_login`` decides who may read it."""

    async def answer(request: Request) -> Response:
        try:
            if services.settings.telemetry.metrics_login:
                await _check(services, request)
            body, media = await render(request.headers.get("accept", ""))
        except Exception as error:  # noqa: BLE001  (HTTP boundary)
            request_id = "req_" + services.entropy.token_bytes(8).hex()
            return answer_error(error, PATH, request_id)
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        return Response(body, headers=headers, media_type=media)

    return Route(PATH, answer, methods=["GET"], include_in_schema=False)


async def _check(services: Services, request: Request) -> None:
    actor = await identify(services, request)
    if actor.credential_id:
        request.app.state.limits.take(str(actor.credential_id), services.clock.monotonic())
    actor.require("read")
    actor.require_all_projects("the figures")

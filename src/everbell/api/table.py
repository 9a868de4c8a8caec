"""The route table: the one list that routing, login and the reference are made from."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from everbell.api.call import Call, Endpoint, raw_answer
from everbell.api.openapi import document
from everbell.api.routes_apply import APPLY_ROUTES
from everbell.api.routes_cluster import CLUSTER_ROUTES
from everbell.api.routes_jobs import JOB_ROUTES
from everbell.api.routes_ledger import LEDGER_ROUTES
from everbell.api.routes_limits import LIMIT_ROUTES
from everbell.api.routes_projects import CREDENTIAL_ROUTES, PROJECT_ROUTES
from everbell.api.routes_runs import RUN_ROUTES


async def openapi(_: Call) -> Response:
    """Describe this API (OpenAPI 3.1)."""
    return raw_answer(document(ENDPOINTS))


ENDPOINTS: tuple[Endpoint, ...] = (
    *PROJECT_ROUTES,
    *CREDENTIAL_ROUTES,
    *JOB_ROUTES,
    *APPLY_ROUTES,
    *RUN_ROUTES,
    *LIMIT_ROUTES,
    *CLUSTER_ROUTES,
    *LEDGER_ROUTES,
    Endpoint(
        method="GET",
        path="/openapi.json",
        name="openapi",
        summary="This API's description",
        handler=openapi,
        scope=None,
        answer=dict[str, Any],
    ),
)

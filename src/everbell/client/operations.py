"""Every operation of the API: method, address, and what a repetition would do.

``tests/integration/client`` compares this table and the methods of both clients with
``docs/reference/openapi.json``: an operation that is new there needs a row here and a method.
"""

from __future__ import annotations

from typing import NamedTuple


class Operation(NamedTuple):
    """A row: ``keyed`` takes an Idempotency-Key; ``again`` may be done twice without harm."""

    method: str
    path: str
    keyed: bool = False
    again: bool = False


OPERATIONS = {
    "projects_create": Operation("POST", "/projects", keyed=True),
    "projects_list": Operation("GET", "/projects"),
    "projects_get": Operation("GET", "/projects/{id}"),
    "projects_replace": Operation("PUT", "/projects/{id}"),
    "projects_change": Operation("PATCH", "/projects/{id}", again=True),
    "projects_delete": Operation("DELETE", "/projects/{id}"),
    "credentials_create": Operation("POST", "/credentials"),
    "credentials_list": Operation("GET", "/credentials"),
    "credentials_get": Operation("GET", "/credentials/{id}"),
    "credentials_revoke": Operation("DELETE", "/credentials/{id}"),
    "credentials_rotate": Operation("POST", "/credentials/{id}/rotate"),
    "jobs_create": Operation("POST", "/jobs", keyed=True),
    "jobs_apply": Operation("POST", "/apply", again=True),
    "jobs_list": Operation("GET", "/jobs"),
    "jobs_get": Operation("GET", "/jobs/{id}"),
    "jobs_replace": Operation("PUT", "/jobs/{id}"),
    "jobs_change": Operation("PATCH", "/jobs/{id}", again=True),
    "jobs_delete": Operation("DELETE", "/jobs/{id}"),
    "jobs_enable": Operation("POST", "/jobs/{id}/enable", again=True),
    "jobs_disable": Operation("POST", "/jobs/{id}/disable", again=True),
    "jobs_resolve": Operation("POST", "/jobs/{id}/resolve", again=True),
    "jobs_skip_next": Operation("POST", "/jobs/{id}/skip-next"),
    "jobs_run_instead": Operation("POST", "/jobs/{id}/run-instead"),
    "jobs_hold": Operation("POST", "/jobs/{id}/hold"),
    "jobs_next": Operation("GET", "/jobs/{id}/next"),
    "jobs_why": Operation("GET", "/jobs/{id}/why"),
    "jobs_backfill": Operation("POST", "/jobs/{id}/backfill"),
    "jobs_run": Operation("POST", "/jobs/{id}/runs", keyed=True),
    "runs_list": Operation("GET", "/runs"),
    "runs_get": Operation("GET", "/runs/{id}"),
    "runs_output": Operation("GET", "/runs/{id}/output"),
    "runs_cancel": Operation("POST", "/runs/{id}/cancel", again=True),
    "runs_retry": Operation("POST", "/runs/{id}/retry"),
    "verify": Operation("GET", "/verify"),
    "holds_create": Operation("POST", "/holds"),
    "holds_list": Operation("GET", "/holds"),
    "holds_release": Operation("POST", "/holds/{id}/release"),
    "limits_list": Operation("GET", "/limits"),
    "limits_get": Operation("GET", "/limits/{id}"),
    "limits_set": Operation("PUT", "/limits/{id}"),
    "limits_delete": Operation("DELETE", "/limits/{id}"),
    "simulate": Operation("GET", "/simulate"),
    "schedules_preview": Operation("POST", "/schedules/preview", again=True),
    "nodes_list": Operation("GET", "/nodes"),
    "nodes_drain": Operation("POST", "/nodes/{id}/drain", again=True),
    "nodes_resume": Operation("POST", "/nodes/{id}/resume", again=True),
    "nodes_remove": Operation("DELETE", "/nodes/{id}"),
    "cluster_get": Operation("GET", "/cluster"),
    "audit_list": Operation("GET", "/audit"),
    "health_live": Operation("GET", "/healthz"),
    "health_ready": Operation("GET", "/readyz"),
    "openapi": Operation("GET", "/openapi.json"),
}
_REPEATABLE = frozenset(("GET", "PUT", "DELETE"))


def repeatable(operation: Operation, *, conditional: bool) -> bool:
    """Return whether a request whose answer was lost may be sent again.

    A conditional change may not: if it was done, the second one would meet its own version and
    look like somebody else's.
    """
    if conditional and operation.method not in {"GET", "DELETE"}:
        return False
    return operation.keyed or operation.again or operation.method in _REPEATABLE

"""Everbell from another program, over HTTP: ``Client`` and ``AsyncClient``.

Imports nothing else of Everbell; the names are loaded on first use, so that neither HTTP library
is needed for the other's client. ``Client`` needs ``pip install 'everbell[client]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everbell.client.aio.client import AsyncClient
    from everbell.client.cluster import Cluster, Node
    from everbell.client.errors import (
        AnswerLost,
        AnswerUnreadable,
        ApiError,
        BadRequest,
        ClientError,
        Conflict,
        FieldError,
        Forbidden,
        Invalid,
        InvalidSchedule,
        NotFound,
        RateLimited,
        ServerFailed,
        TooLarge,
        Unauthenticated,
        Unreachable,
        VersionMismatch,
        WaitTimeout,
    )
    from everbell.client.records import (
        FINAL_STATES,
        Attempt,
        AuditEntry,
        Backfill,
        Credential,
        End,
        Health,
        Hold,
        Job,
        Limit,
        Output,
        Page,
        Plan,
        Preview,
        Project,
        Run,
        Simulation,
        Skipped,
        Slot,
        Verification,
        Why,
    )
    from everbell.client.shapes import (
        Action,
        CommandAction,
        Dst,
        HttpAction,
        JobIn,
        JobPatch,
        Misfire,
        OnFailure,
        OtherAction,
        PythonAction,
        QueueAction,
        Retry,
        ScriptAction,
        Then,
    )
    from everbell.client.sync.client import Client

_HOMES = {
    "everbell.client.aio.client": ("AsyncClient",),
    "everbell.client.sync.client": ("Client",),
    "everbell.client.errors": (
        "AnswerLost", "AnswerUnreadable", "ApiError", "BadRequest", "ClientError", "Conflict",
        "FieldError", "Forbidden", "Invalid", "InvalidSchedule", "NotFound", "RateLimited",
        "ServerFailed", "TooLarge", "Unauthenticated", "Unreachable", "VersionMismatch",
        "WaitTimeout",
    ),
    "everbell.client.cluster": ("Cluster", "Node"),
    "everbell.client.records": (
        "FINAL_STATES", "Attempt", "AuditEntry", "Backfill", "Credential", "End", "Health",
        "Hold", "Job", "Limit", "Output", "Page", "Plan", "Preview", "Project", "Run",
        "Simulation", "Skipped", "Slot", "Verification", "Why",
    ),
    "everbell.client.shapes": (
        "Action", "CommandAction", "Dst", "HttpAction", "JobIn", "JobPatch", "Misfire",
        "OnFailure", "OtherAction", "PythonAction", "QueueAction", "Retry", "ScriptAction", "Then",
    ),
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "FINAL_STATES", "Action", "AnswerLost", "AnswerUnreadable", "ApiError", "AsyncClient",
    "Attempt", "AuditEntry", "Backfill", "BadRequest", "Client", "ClientError", "Cluster",
    "CommandAction", "Conflict", "Credential", "Dst", "End", "FieldError", "Forbidden", "Health",
    "Hold", "HttpAction", "Invalid", "InvalidSchedule", "Job", "JobIn", "JobPatch", "Limit",
    "Misfire", "Node", "NotFound", "OnFailure", "OtherAction", "Output", "Page", "Plan", "Preview",
    "Project", "PythonAction", "QueueAction", "RateLimited", "Retry", "Run", "ScriptAction",
    "ServerFailed", "Simulation", "Skipped", "Slot", "Then", "TooLarge", "Unauthenticated",
    "Unreachable", "Verification", "VersionMismatch", "WaitTimeout", "Why",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name from the module that holds it. Raises ImportError without urllib3."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'everbell.client' has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name != "urllib3":
            raise
        raise ImportError(f"{name} needs urllib3: pip install 'everbell[client]'") from error

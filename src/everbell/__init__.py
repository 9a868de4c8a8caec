"""Everbell: a distributed cron server that accounts for every planned instant.

The public names are loaded on first use, so that ``everbell --help`` stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everbell.domain.errors import EverbellError, ScheduleError
    from everbell.domain.schedule import Schedule, parse_schedule
    from everbell.domain.schedule.builder import at, cron, every, on
    from everbell.integrations.app import Everbell
    from everbell.integrations.asgi import EverbellMiddleware
    from everbell.ports.functions import Context, Skip, context, stopping

__version__ = "0.1.0"

__all__ = [
    "Context",
    "Everbell",
    "EverbellError",
    "EverbellMiddleware",
    "Schedule",
    "ScheduleError",
    "Skip",
    "__version__",
    "at",
    "context",
    "cron",
    "every",
    "on",
    "parse_schedule",
    "stopping",
]

_HOMES = {
    "EverbellError": "everbell.domain.errors",
    "ScheduleError": "everbell.domain.errors",
    "Schedule": "everbell.domain.schedule",
    "parse_schedule": "everbell.domain.schedule",
    "at": "everbell.domain.schedule.builder",
    "cron": "everbell.domain.schedule.builder",
    "every": "everbell.domain.schedule.builder",
    "on": "everbell.domain.schedule.builder",
    "Everbell": "everbell.integrations.app",
    "EverbellMiddleware": "everbell.integrations.asgi",
    "Context": "everbell.ports.functions",
    "Skip": "everbell.ports.functions",
    "context": "everbell.ports.functions",
    "stopping": "everbell.ports.functions",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that holds it."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module 'everbell' has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    return getattr(import_module(home), name)

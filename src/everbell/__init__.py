"""Everbell: a distributed cron server that accounts for every planned instant.

The public names are loaded on first use, so that ``everbell --help`` stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everbell.domain.errors import EverbellError, ScheduleError
    from everbell.domain.schedule import Schedule, parse_schedule

__version__ = "0.1.0"

__all__ = ["EverbellError", "Schedule", "ScheduleError", "__version__", "parse_schedule"]

_HOMES = {
    "EverbellError": "everbell.domain.errors",
    "ScheduleError": "everbell.domain.errors",
    "Schedule": "everbell.domain.schedule",
    "parse_schedule": "everbell.domain.schedule",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that holds it."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module 'everbell' has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    return getattr(import_module(home), name)

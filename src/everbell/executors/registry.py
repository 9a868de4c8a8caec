"""Which executor performs which kind of action."""

from __future__ import annotations

from everbell.config.schema import Settings
from everbell.executors.command import CommandExecutor
from everbell.executors.http import HttpExecutor
from everbell.executors.script import ScriptExecutor
from everbell.ports.clock import Clock
from everbell.ports.executor import Executor


def build_executors(settings: Settings, clock: Clock, version: str) -> dict[str, Executor]:
    """Return one executor per kind of action. Raises ConfigError for bad callback networks."""
    return {
        "http": HttpExecutor(settings.callbacks, clock, f"everbell/{version}"),
        "command": CommandExecutor(settings.execution),
        "script": ScriptExecutor(settings.execution),
    }

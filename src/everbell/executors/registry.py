"""Which executor performs which kind of action."""

from __future__ import annotations

from everbell.config.schema import Settings
from everbell.executors.command import CommandExecutor
from everbell.executors.http import HttpExecutor
from everbell.executors.python import PythonExecutor
from everbell.executors.python_inputs import Inputs
from everbell.executors.queue import QueueExecutor
from everbell.executors.script import ScriptExecutor
from everbell.ports.clock import Clock
from everbell.ports.executor import Executor
from everbell.ports.functions import Functions
from everbell.ports.queue import MessageQueues


def build_executors(
    settings: Settings,
    clock: Clock,
    version: str,
    functions: Functions | None = None,
    inputs: Inputs | None = None,
    *,
    queues: MessageQueues | None = None,
) -> dict[str, Executor]:
    """Return one executor per kind of action. Raises ConfigError for bad callback networks.

    ``functions`` are what this process offers to ``python`` jobs; ``inputs`` reads the parameters
    of runs that somebody asked for. ``queues`` are those of foreign programs.
    """
    return {
        "http": HttpExecutor(settings.callbacks, clock, f"everbell/{version}"),
        "command": CommandExecutor(settings.execution),
        "script": ScriptExecutor(settings.execution),
        "python": PythonExecutor(settings, functions, inputs),
        "queue": QueueExecutor(settings, clock, queues),
    }

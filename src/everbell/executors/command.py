"""The ``command`` action: a program with its arguments, never through a shell."""

from __future__ import annotations

import asyncio

from everbell.config.schema import Execution
from everbell.domain.errors import Bug, RefusedError, ValidationError
from everbell.domain.job import Action, CommandAction
from everbell.domain.run import Outcome
from everbell.executors import surroundings
from everbell.executors.process import Spawn, find_program, run_group
from everbell.ports.executor import Assignment, OutputSink


class CommandExecutor:
    """Starts ``argv`` in its own process group, with ``data`` as JSON on standard input."""

    def __init__(self, settings: Execution) -> None:
        self._settings = settings

    def check(self, action: Action) -> None:
        """Raise ValidationError for a bad argument, RefusedError for what is missing here."""
        command = _command(action)
        surroundings.check_texts(command.argv, command)
        self._find(command)

    async def run(self, work: Assignment, cancel: asyncio.Event, sink: OutputSink) -> Outcome:
        """Perform one attempt; what is missing on this node is an outcome, not retryable."""
        command = _command(work.action)
        try:
            surroundings.check_texts(command.argv, command)
            program, user = self._find(command)
        except (RefusedError, ValidationError) as error:
            return Outcome(state="failed", error=error.message, retryable=False)
        spawn = Spawn(
            argv=command.argv,
            program=program,
            env=surroundings.environment(self._settings, command, work),
            cwd=command.cwd,
            user=user,
            stdin=surroundings.standard_input(work),
        )
        return await run_group(
            spawn, sink, cancel, timeout_s=work.timeout_s, grace_s=self._settings.kill_grace
        )

    async def close(self) -> None:
        """Nothing is held between runs."""

    def _find(self, command: CommandAction) -> tuple[str, surroundings.User | None]:
        user = surroundings.find_user(command.user)
        surroundings.check_directory(command.cwd)
        path = surroundings.base_environment(self._settings, command)["PATH"]
        return find_program(command.argv[0], path, command.cwd), user


def _command(action: Action) -> CommandAction:
    if not isinstance(action, CommandAction):
        raise Bug(f"a command executor was given {type(action).__name__}")
    return action

"""The ``script`` action: a stored text, given to an interpreter that the operator allows."""

from __future__ import annotations

import asyncio
import difflib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from everbell.config.schema import Execution
from everbell.domain.errors import Bug, FieldProblem, RefusedError, ValidationError
from everbell.domain.job import Action, ScriptAction
from everbell.domain.run import Outcome
from everbell.executors import surroundings
from everbell.executors.process import Spawn, find_program, run_group
from everbell.ports.executor import Assignment, OutputSink

_SUFFIXES = {"sh": ".sh", "bash": ".sh", "python": ".py", "node": ".js"}


class ScriptExecutor:
    """Writes the text to a private file, runs ``interpreter FILE args...``, removes the file."""

    def __init__(self, settings: Execution) -> None:
        self._settings = settings

    def check(self, action: Action) -> None:
        """Raise ValidationError for an unknown interpreter, RefusedError for a missing one."""
        script = _script(action)
        surroundings.check_texts((script.interpreter, *script.args), script)
        self._find(script)

    async def run(self, work: Assignment, cancel: asyncio.Event, sink: OutputSink) -> Outcome:
        """Perform one attempt; what is missing on this node is an outcome, not retryable."""
        script = _script(work.action)
        try:
            surroundings.check_texts((script.interpreter, *script.args), script)
            program, user = self._find(script)
            with _private_file(script, user) as file:
                spawn = Spawn(
                    argv=(script.interpreter, str(file), *script.args),
                    program=program,
                    env=surroundings.environment(self._settings, script, work),
                    cwd=script.cwd,
                    user=user,
                    stdin=surroundings.standard_input(work),
                )
                grace_s = self._settings.kill_grace
                return await run_group(
                    spawn, sink, cancel, timeout_s=work.timeout_s, grace_s=grace_s
                )
        except (RefusedError, ValidationError) as error:
            return Outcome(state="failed", error=error.message, retryable=False)
        except OSError as error:
            message = f"the script can't be written to a file: {error.strerror or error}"
            return Outcome(state="failed", error=message)

    async def close(self) -> None:
        """Nothing is held between runs."""

    def _find(self, script: ScriptAction) -> tuple[str, surroundings.User | None]:
        name = self._settings.interpreters.get(script.interpreter)
        if name is None:
            self._unknown(script.interpreter)
            raise Bug("unreachable")
        user = surroundings.find_user(script.user)
        surroundings.check_directory(script.cwd)
        path = surroundings.base_environment(self._settings, script)["PATH"]
        try:
            return find_program(name, path, None), user
        except RefusedError as error:
            if script.interpreter == "python" and name == "python3" and sys.executable:
                return sys.executable, user
            raise RefusedError(
                f"the interpreter {script.interpreter!r} is not on this node: {error.message}",
                hint=f"install {name}, or set its path under execution.interpreters",
            ) from None

    def _unknown(self, interpreter: str) -> None:
        known = tuple(sorted(self._settings.interpreters))
        close = difflib.get_close_matches(interpreter, known, n=3)
        hint = f"allowed are {', '.join(known)}" if known else "execution.interpreters is empty"
        if close:
            hint = f"did you mean {close[0]}? {hint}"
        message = f"unknown interpreter {interpreter!r}"
        problem = FieldProblem("/action/interpreter", message, hint=hint, code="unknown")
        raise ValidationError(message, hint=hint, problems=(problem,), suggestions=tuple(close))


@contextmanager
def _private_file(script: ScriptAction, user: surroundings.User | None) -> Iterator[Path]:
    """Write the text into a directory that only its user may enter. Raises OSError."""
    directory = Path(tempfile.mkdtemp(prefix="everbell-"))
    try:
        file = directory / f"script{_SUFFIXES.get(script.interpreter, '')}"
        file.write_text(script.text, encoding="utf-8", errors="surrogateescape", newline="")
        file.chmod(0o600)
        if user is not None:
            os.chown(file, user[0], user[1])
            os.chown(directory, user[0], user[1])
        yield file
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _script(action: Action) -> ScriptAction:
    if not isinstance(action, ScriptAction):
        raise Bug(f"a script executor was given {type(action).__name__}")
    return action

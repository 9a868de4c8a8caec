"""What a process is started in: environment, directory, user, input; checked beforehand."""

from __future__ import annotations

import os
import pwd
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from everbell.config.schema import Execution
from everbell.domain.errors import FieldProblem, RefusedError, ValidationError
from everbell.domain.job import CommandAction, ScriptAction
from everbell.ports.executor import Assignment

ProcessAction = CommandAction | ScriptAction
User = tuple[int, int, tuple[int, ...]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso(at_us: int) -> str:
    """Write microseconds since the epoch as ISO 8601 in UTC, with ``Z``."""
    text = (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="auto")
    return text.removesuffix("+00:00") + "Z"


def check_texts(argv: tuple[str, ...], action: ProcessAction) -> None:
    """Raise ValidationError for texts that no process can be given."""
    problems = []
    if not argv or not argv[0]:
        problems.append(FieldProblem("/action/argv", "no program", hint="name the program first"))
    if any("\0" in text for text in (*argv, action.cwd or "")):
        problems.append(FieldProblem("/action", "a NUL character", hint="remove it"))
    for name, value in action.env.items():
        if not name or "=" in name or "\0" in name + value:
            hint = "a name without =, no NUL characters"
            problems.append(FieldProblem("/action/env", f"a bad variable {name!r}", hint=hint))
    if problems:
        first = problems[0]
        raise ValidationError(
            f"the action can't be started: {first.message}",
            hint=first.hint,
            problems=tuple(problems),
        )


def environment(settings: Execution, action: ProcessAction, work: Assignment) -> dict[str, str]:
    """Return the whole environment: allow-listed, then the job's, then ours (never overridden)."""
    env = base_environment(settings, action)
    run = work.run
    env |= {
        "EVERBELL_RUN_ID": run.id,
        "EVERBELL_JOB": work.job_name,
        "EVERBELL_JOB_UUID": work.job_uuid,
        "EVERBELL_PROJECT": work.project_name,
        "EVERBELL_SLOT": iso(run.key.slot_us),
        "EVERBELL_ATTEMPT": str(run.attempt),
        "EVERBELL_TOKEN": str(run.token),
    }
    if work.traceparent:
        env["TRACEPARENT"] = work.traceparent
    return env


def base_environment(settings: Execution, action: ProcessAction) -> dict[str, str]:
    """Return what the node passes on, a named user's own home, and the job's variables."""
    env = {name: os.environ[name] for name in settings.pass_env if name in os.environ}
    env.setdefault("PATH", os.defpath)
    if action.user is not None:
        try:
            entry = pwd.getpwnam(action.user)
        except KeyError:
            return env | action.env
        env |= {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name}
    return env | action.env


def find_user(name: str | None) -> User | None:
    """Return ids and groups of the user to run as, or None for the node's own.

    Raises RefusedError if there is no such user, or the node may not change to it.
    """
    if name is None:
        return None
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise RefusedError(f"no user {name!r} on this node", hint="create it first") from None
    if os.geteuid() != 0:
        if entry.pw_uid == os.geteuid():
            return None
        raise RefusedError(
            f"this node may not run processes as {name!r}",
            hint="only a node that runs as root can change the user; leave `user` out",
        )
    return entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(name, entry.pw_gid))


def check_directory(cwd: str | None) -> None:
    """Raise RefusedError unless the working directory is there."""
    if cwd is not None and not Path(cwd).is_dir():
        raise RefusedError(f"no directory {cwd} on this node", hint="create it, or mend `cwd`")


def standard_input(work: Assignment) -> bytes | None:
    """Return the job's data as JSON, or None if it has none."""
    return None if work.data is None else msgspec.json.encode(work.data)

"""What a crontab says, and what there is to say about it."""

from __future__ import annotations

from typing import Literal

import msgspec

from everbell.domain.schedule.base import LINT_FROM_US

Level = Literal["error", "warning", "note"]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a crontab comes from.

    ``name`` is shown in messages. ``timezone`` is that of cron's machine: cron has no other.
    ``system``: a user's name stands before each command. ``prefix`` begins the jobs' names.
    ``now_us`` is when it is read: only clock changes after it are worth a word.
    """

    name: str
    timezone: str = "UTC"
    system: bool = False
    prefix: str = ""
    now_us: int = LINT_FROM_US


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something to know about a line; ``line`` 0 = the whole file, lines and columns from 1.

    An ``error`` is a line that can't be imported. A ``warning`` is a job that may do something
    else than it did under cron. A ``note`` is true of cron and not of Everbell, or the other way.
    """

    level: Level
    code: str
    message: str
    line: int = 0
    column: int = 0
    text: str = ""
    hint: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line that starts a command. ``env`` is what the lines above it set.

    ``command`` is given to ``shell -c``; ``stdin`` (after the first ``%``) to the command.
    ``user`` is that of the system crontab's column. ``jitter_s`` comes from RANDOM_DELAY.
    """

    line: int
    name: str
    schedule: str
    timezone: str
    command: str
    stdin: str | None = None
    shell: str = "/bin/sh"
    env: dict[str, str] = {}
    user: str | None = None
    description: str = ""
    jitter_s: float = 0.0


class Crontab(msgspec.Struct, frozen=True, kw_only=True):
    """A crontab that was read: its commands, and the findings in order of lines."""

    source: Source
    entries: tuple[Entry, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The lines that can't be imported."""
        return tuple(one for one in self.findings if one.level == "error")

"""From a crontab's entries to the bodies of jobs that do the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from everbell.domain.crontab import Crontab, Entry

WITH_INPUT = 'printf %s "$2" | "$0" -c "$1"'
"""Run by ``sh``: gives the second argument to the command that is the first, as cron's ``%``."""


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """What a crontab does not say.

    ``user`` runs the commands of a user's crontab; ``as_node`` leaves every user out. ``cwd`` is
    where commands start; without it HOME of the crontab counts, then ``homes`` by user. The
    other fields are policies; None = the product's own, not cron's.
    """

    user: str | None = None
    as_node: bool = False
    cwd: str | None = None
    homes: Mapping[str, str] = {}
    misfire: str | None = None
    overlap: str | None = None
    timeout_s: float | None = None


def job_bodies(crontab: Crontab, choices: Choices) -> list[dict[str, Any]]:
    """Return a body for each entry, in order; the same crontab gives the same bodies."""
    return [_body(entry, choices) for entry in crontab.entries]


def _body(entry: Entry, choices: Choices) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": entry.name,
        "schedule": entry.schedule,
        "timezone": entry.timezone,
        "action": _action(entry, choices),
    }
    said = {
        "description": entry.description,
        "jitter": entry.jitter_s,
        "misfire": {"policy": choices.misfire} if choices.misfire else None,
        "overlap": choices.overlap,
        "timeout": choices.timeout_s,
    }
    return body | {name: value for name, value in said.items() if value}


def _action(entry: Entry, choices: Choices) -> dict[str, Any]:
    argv = [entry.shell, "-c", entry.command]
    if entry.stdin is not None:
        argv = ["/bin/sh", "-c", WITH_INPUT, entry.shell, entry.command, entry.stdin]
    action: dict[str, Any] = {"kind": "command", "argv": argv}
    user = entry.user or choices.user
    home = entry.env.get("HOME", "")
    cwd = choices.cwd or (home if home.startswith("/") else choices.homes.get(user or ""))
    if cwd:
        action["cwd"] = cwd
    if entry.env:
        action["env"] = dict(entry.env)
    if user and not choices.as_node:
        action["user"] = user
    return action

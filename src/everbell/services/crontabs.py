"""Jobs as a crontab, as far as cron can do the same; the rest is named in comments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from everbell.services.imports import WITH_INPUT

_FIELDS = re.compile(r"[0-9*][0-9*/,-]*(?: [0-9*][0-9*/,-]*){2}(?: [0-9A-Za-z*][\w*/,-]*){2}\Z")
_WORDS = frozenset(
    {"@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"}
)
_LAST = re.compile(r"\d+[LW]|\bL\b|LW|H\b|\w+L(?:\s|$)")
_ABSENT = {
    "start_at": "has a start",
    "end_at": "has an end",
    "exclude": "has exclusions",
    "jitter": "has jitter",
    "then": "starts other jobs",
    "check": "has a check",
    "limits": "has shared limits",
    "data": "hands data to its target",
}
_LOST = {
    "retry": "retries",
    "timeout": "a timeout",
    "overlap": "an overlap policy",
    "misfire": "a misfire policy",
    "on_failure": "parking",
    "delivery": "a delivery promise",
    "dst": "rules for clock changes",
}


def crontab(jobs: Sequence[Mapping[str, Any]]) -> str:
    """Return a user's crontab. ``jobs`` are bodies, as a file of jobs holds them."""
    lines = [
        "# Made by `everbell export --crontab`. Cron keeps no account of its runs, mails output,",
        "# starts a command again while it runs, and never makes up for what it missed.",
    ]
    zone = ""
    for job in sorted(jobs, key=lambda one: str(one.get("timezone", "UTC"))):
        why = _refusal(job)
        if why:
            lines += ["", f"# not here: {_plain(job['name'])}: {why}"]
            continue
        if (own := str(job.get("timezone", "UTC"))) != zone:
            zone = own
            lines += [
                "",
                "# Read by cronie; Debian's cron uses the machine's zone.",
                f"CRON_TZ={own}",
            ]
        lines += ["", f"# {_plain(job['name'])}"]
        lines += [f"# {line}" for line in str(job.get("description", "")).splitlines()]
        if lost := [words for name, words in _LOST.items() if job.get(name)]:
            lines.append(f"# without: {', '.join(lost)}")
        lines.append(f"{_when(job)} {_command(job['action'])}")
    return "\n".join(lines) + "\n"


def _plain(name: str) -> str:
    return "".join(one if one.isprintable() else " " for one in name)


def _when(job: Mapping[str, Any]) -> str:
    return " ".join(str(job.get("override") or job.get("schedule") or "").split())


def _refusal(job: Mapping[str, Any]) -> str:
    """Say why cron can't do what the job does; "" if it can."""
    action, when = job["action"], _when(job)
    if action["kind"] != "command":
        return f"a job of kind {action['kind']}"
    if not job.get("enabled", True):
        return "is disabled"
    if not when:
        return "has no schedule"
    if when not in _WORDS and (not _FIELDS.match(when) or _LAST.search(when)):
        return f"cron has no words for `{when}`"
    if not job.get("repeat", True):
        return "runs once only"
    for name, why in _ABSENT.items():
        if job.get(name):
            return why
    if action.get("user"):
        return f"runs as {action['user']}: that needs a system crontab"
    return "its command has line ends" if "\n" in _command(action).strip("\n") else ""


def _command(action: Mapping[str, Any]) -> str:
    argv = list(action["argv"])
    env = {name: text for name, text in action.get("env", {}).items() if name != "SHELL"}
    stdin = ""
    if len(argv) == 6 and argv[:3] == ["/bin/sh", "-c", WITH_INPUT]:
        stdin = "%" + _input(argv[5])
        argv = [argv[3], "-c", argv[4]]
    whole = len(argv) == 3 and argv[:2] == ["/bin/sh", "-c"] and not env
    text = argv[2] if whole else shlex.join(argv)
    if env:
        pairs = " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
        text = f"{pairs} {text}"
    if action.get("cwd"):
        text = f"cd {shlex.quote(action['cwd'])} && {text}"
    return text.replace("%", "\\%") + stdin


def _input(text: str) -> str:
    r"""Write standard input as it stands behind the first ``%``.

    Cron adds the last line end itself. It is written out where a blank or an empty line would
    else end the crontab's line: readers strip the one, and take the other for the last line end.
    """
    body = text.removesuffix("\n")
    kept = body if body == body.rstrip() else text
    return kept.replace("%", "\\%").replace("\n", "%")

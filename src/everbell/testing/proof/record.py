"""The outside log: what targets saw, one line per start and one per end, only ever appended.

Lines are ``start|end <run> <attempt> <token> <who> <wall us>``, each written by one ``write`` to a
file opened for appending, so that lines of many processes never mix. ``who`` is the process that
called, as far as the target can tell: a pid for commands, an address for HTTP. HTTP has one word
more: since when (wall us) the connection was there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from everbell.domain.errors import NotFoundError
from everbell.domain.run import RunKey

# Times by date(1): a target must not trust anything that it was told.
_SCRIPT = (
    'say() { printf "%s %s %s %s %s %s\\n" "$1" "$EVERBELL_RUN_ID" "$EVERBELL_ATTEMPT"'
    ' "$EVERBELL_TOKEN" "$PPID" "$(date +%s%6N)" >> "$0"; }; say start; ; say end'
)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One line. ``key`` is None for a run id that can't be one, ``since_us`` for a program."""

    kind: str
    run: str
    key: RunKey | None
    attempt: int
    token: int
    who: str
    at_us: int
    since_us: int | None = None


def now_us() -> int:
    """Return the wall clock, by which the log and all that is held against it are written."""
    return time.time_ns() // 1000


def command(log: Path, lasts_s: float = 0.0) -> list[str]:
    """Return a program that appends its start and, ``lasts_s`` later, its end."""
    work = f"sleep {lasts_s:g}; " if lasts_s else ""
    return ["sh", "-c", _SCRIPT.replace("; ; ", f"; {work}"), str(log)]


def line(kind: str, run: str, attempt: int, token: int, *, who: str, times: Sequence[int]) -> str:
    """Return a line of the log; ``times`` are its own and that of the connection."""
    return f"{kind} {run} {attempt} {token} {who} {' '.join(map(str, times))}\n"


def read(*logs: Path) -> list[Seen]:
    """Return all lines of the logs in order of time; a log that is not there is empty."""
    found: list[Seen] = []
    for log in logs:
        for text in log.read_text().splitlines() if log.exists() else []:
            kind, run, attempt, token, who, at, *since = text.split()
            found.append(
                Seen(
                    kind=kind, run=run, key=_key(run), attempt=int(attempt), token=int(token),
                    who=who, at_us=int(at),
                    since_us=int(since[0]) if since else None,
                )
            )  # fmt: skip
    return sorted(found, key=lambda seen: seen.at_us)


def _key(run: str) -> RunKey | None:
    try:
        return RunKey.parse(run)
    except NotFoundError:
        return None

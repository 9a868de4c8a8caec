"""Names of imported jobs: made from the command alone, so that an edited time keeps its job."""

from __future__ import annotations

import hashlib
import re

MAX_SLUG = 48
_PARTS = re.compile(r"&&|\|\||[;|&]|\bthen\b|\belse\b|\bfi\b")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_GUARD = re.compile(
    r"(?:if\s+)?(?:!\s*)?(?:test\b|\[|command\s+-v\b|cd\b|sleep\b|perl\s+-e\s+-?sleep\b|:(?:\s|$))"
)
_BEFORE = re.compile(
    r"[A-Za-z_]\w*=\S*\s+"
    r"|(?:exec|nohup|time|nice(?:\s+-n\s*-?\d+|\s+-\d+)?|ionice(?:\s+-[cn]\s*\d)*)\s+"
)
_REDIRECT = re.compile(r"\d?>>?&?\s*[^\s)]*|<\s*\S+|[(){}]")
_OTHER = re.compile(r"[^A-Za-z0-9_.]+")


def slug(command: str) -> str:
    """Return a name for a command: its program and first arguments, without guards and paths.

    ``test -x /usr/bin/tool && /usr/bin/tool -q > /dev/null`` is ``tool-q``.
    """
    # What stands in quotes must not be cut at its own marks.
    whole = _QUOTED.sub(lambda found: _OTHER.sub("-", found[0]), command)
    parts = [part.strip(" \t(){}") for part in _PARTS.split(whole)]
    parts = [part for part in parts if part]
    what = next((part for part in parts if not _GUARD.match(part)), parts[0] if parts else "")
    while found := _BEFORE.match(what):
        what = what[found.end() :]
    words = _REDIRECT.sub(" ", what).split()
    if words:
        words[0] = words[0].rstrip("/").rpartition("/")[2]
    name = _OTHER.sub("-", " ".join(words)).strip("-.")
    if len(name) > MAX_SLUG:
        name = f"{name[:MAX_SLUG].rpartition('-')[0] or name[:MAX_SLUG]}-{digest(command)}"
    return name or f"command-{digest(command)}"


def digest(text: str) -> str:
    """Return six characters that stand for a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]


class Names:
    """Gives each command of one import a name of its own; equal input, equal names."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._used: set[str] = set()

    def take(self, prefix: str, command: str) -> str:
        """Return a free name. The same command again is counted: ``tool``, ``tool-2``."""
        name = slug(command)
        if prefix and not name.lower().startswith(prefix.lower()):
            name = f"{prefix}-{name}"
        if self._first.setdefault(name, command) != command:
            name = f"{name}-{digest(command)}"
        free, times = name, 1
        while free in self._used:
            times += 1
            free = f"{name}-{times}"
        self._used.add(free)
        return free
